//! Every way in which a connection ends: who closed first, RST, TIME_WAIT, bytes to the last one.

use std::net::Shutdown;

use tidewait_model::trace::{Counts, Direction};
use tidewait_observe::trace::{Closed, Kind};

use super::sockets::{
    Pair, deaf, destroy, disconnect, drain, linger_zero, pair, send, set, state, until, until_state,
    until_there,
};
use super::watch::{Expected, Place, Watch, families};

const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;

/// One side of a connection that was seen from begin to end.
fn out() -> Counts {
    Counts { connects: 1, aged: 1, ..Counts::default() }
}

fn inc() -> Counts {
    Counts { accepts: 1, aged: 1, ..Counts::default() }
}

/// Closed by this side first, with TIME_WAIT.
fn here(side: Counts) -> Counts {
    Counts { closed_here: 1, time_wait: 1, ..side }
}

/// Closed by this side first, without TIME_WAIT.
fn here_cut(side: Counts) -> Counts {
    Counts { closed_here: 1, ..side }
}

fn there(side: Counts) -> Counts {
    Counts { closed_there: 1, ..side }
}

fn reset_here(side: Counts) -> Counts {
    Counts { aborted_here: 1, ..side }
}

fn reset_there(side: Counts) -> Counts {
    Counts { aborted_there: 1, ..side }
}

fn bytes(sent: u64, received: u64, side: Counts) -> Counts {
    Counts { sent, received, ..side }
}

/// What happens, and what is to be counted on the side that connected and on the one that accepted.
type Case = (&'static str, fn(Pair), Counts, Counts);

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    vec![
        (
            "client first",
            |Pair { client, server, .. }| {
                drop(client);
                assert_eq!(drain(&server), 0);
            },
            here(out()),
            there(inc()),
        ),
        (
            "server first",
            |Pair { client, server, .. }| {
                drop(server);
                assert_eq!(drain(&client), 0);
            },
            there(out()),
            here(inc()),
        ),
        (
            "both at once",
            |Pair { client, server, .. }| {
                deaf(&client, true);
                deaf(&server, true);
                client.shutdown(Shutdown::Write).unwrap();
                server.shutdown(Shutdown::Write).unwrap();
                deaf(&client, false);
                deaf(&server, false);
                // The repeated FINs meet.
                until_state(&client, CLOSE);
                until_state(&server, CLOSE);
            },
            here(out()),
            here(inc()),
        ),
        (
            "half closed, then the answer",
            |Pair { client, server, .. }| {
                send(&client, 10);
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(drain(&server), 10);
                send(&server, 1_000);
                drop(server);
                assert_eq!(drain(&client), 1_000);
            },
            bytes(10, 1_000, here(out())),
            bytes(1_000, 10, there(inc())),
        ),
        (
            "half closed, then closed before the peer has acknowledged",
            |Pair { client, server, .. }| {
                deaf(&client, true);
                send(&client, 10);
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(state(&client), FIN_WAIT1);
                deaf(&client, false);
                drop(client);
                assert_eq!(drain(&server), 10);
            },
            bytes(10, 0, here(out())),
            bytes(0, 10, there(inc())),
        ),
        (
            "shutdown of both ways",
            |Pair { client, server, .. }| {
                client.shutdown(Shutdown::Both).unwrap();
                assert_eq!(drain(&server), 0);
            },
            here(out()),
            there(inc()),
        ),
        (
            "unread data",
            |Pair { client, server, .. }| {
                send(&server, 10);
                until_there(&client, 10);
                drop(client);
                until_state(&server, CLOSE);
            },
            bytes(0, 10, reset_here(out())),
            bytes(10, 0, reset_there(inc())),
        ),
        (
            "unread data after the peer's FIN",
            |Pair { client, server, .. }| {
                let (local, remote) = ends(&server);
                send(&server, 10);
                drop(server);
                // The acknowledgement may be late.
                until("FIN_WAIT2", || small(local, remote));
                drop(client);
            },
            bytes(0, 10, reset_here(out())),
            bytes(10, 0, here(inc())),
        ),
        (
            "linger 0",
            |Pair { client, server, .. }| {
                send(&client, 7);
                until_there(&server, 7);
                linger_zero(&client);
                drop(client);
                until_state(&server, CLOSE);
            },
            bytes(7, 0, reset_here(out())),
            bytes(0, 7, reset_there(inc())),
        ),
        (
            "the peer's RST",
            |Pair { client, server, .. }| {
                linger_zero(&server);
                drop(server);
                until_state(&client, CLOSE);
            },
            reset_there(out()),
            reset_here(inc()),
        ),
        (
            "connect(AF_UNSPEC)",
            |Pair { client, server, .. }| {
                disconnect(&client);
                until_state(&server, CLOSE);
            },
            reset_here(out()),
            reset_there(inc()),
        ),
        (
            "SOCK_DESTROY",
            |Pair { client, server, .. }| {
                destroy(client.local_addr().unwrap(), client.peer_addr().unwrap()).unwrap();
                until_state(&client, CLOSE);
                until_state(&server, CLOSE);
            },
            reset_there(out()),
            reset_there(inc()),
        ),
        (
            "linger 0 in FIN_WAIT2",
            |Pair { client, server, .. }| {
                client.shutdown(Shutdown::Write).unwrap();
                until_state(&client, FIN_WAIT2);
                linger_zero(&client);
                drop(client);
                until_state(&server, CLOSE);
            },
            here_cut(out()),
            reset_there(inc()),
        ),
        (
            "unread data in FIN_WAIT2",
            |Pair { client, server, .. }| {
                client.shutdown(Shutdown::Write).unwrap();
                until_state(&client, FIN_WAIT2);
                send(&server, 10);
                until_there(&client, 10);
                drop(client);
                until_state(&server, CLOSE);
            },
            bytes(0, 10, here_cut(out())),
            bytes(10, 0, reset_there(inc())),
        ),
        (
            "TCP_LINGER2 below 0",
            |Pair { client, server, .. }| {
                set(&client, libc::IPPROTO_TCP, libc::TCP_LINGER2, -1).unwrap();
                drop(client);
                until_state(&server, CLOSE);
            },
            here_cut(out()),
            reset_there(inc()),
        ),
        (
            "SOCK_DESTROY in FIN_WAIT2",
            |Pair { client, server, .. }| {
                client.shutdown(Shutdown::Write).unwrap();
                until_state(&client, FIN_WAIT2);
                destroy(client.local_addr().unwrap(), client.peer_addr().unwrap()).unwrap();
                until_state(&server, CLOSE);
            },
            here_cut(out()),
            reset_there(inc()),
        ),
        (
            "FIN_WAIT2 without a process, then the peer's FIN",
            |Pair { client, server, .. }| {
                drop(client);
                until_state(&server, CLOSE_WAIT);
                // Bytes for nobody: the small socket answers with RST.
                assert_eq!(drain(&server), 0);
            },
            here(out()),
            there(inc()),
        ),
        (
            "data for a closed socket",
            |Pair { client, server, .. }| {
                let (local, remote) = ends(&client);
                drop(client);
                until("FIN_WAIT2", || small(local, remote));
                send(&server, 10);
                until_state(&server, CLOSE);
            },
            here(out()),
            bytes(10, 0, reset_there(inc())),
        ),
        (
            "FIN_WAIT2 for longer than TIME_WAIT",
            |Pair { client, server, .. }| {
                // Above 60 s the full socket waits first, for what is above (tcp_fin_time() - TCP_TIMEWAIT_LEN).
                set(&client, libc::IPPROTO_TCP, libc::TCP_LINGER2, 61).unwrap();
                let (local, remote) = ends(&client);
                drop(client);
                until_state(&server, CLOSE_WAIT);
                assert!(!small(local, remote));
                until("FIN_WAIT2", || small(local, remote));
            },
            here(out()),
            there(inc()),
        ),
        (
            "the peer's FIN in FIN_WAIT2 for longer than TIME_WAIT",
            |Pair { client, server, .. }| {
                set(&client, libc::IPPROTO_TCP, libc::TCP_LINGER2, 61).unwrap();
                drop(client);
                until_state(&server, CLOSE_WAIT);
            },
            here(out()),
            there(inc()),
        ),
        (
            "duplicated descriptors",
            |Pair { client, server, .. }| {
                let other = client.try_clone().unwrap();
                drop(client);
                send(&other, 3);
                drop(other);
                assert_eq!(drain(&server), 3);
            },
            bytes(3, 0, here(out())),
            bytes(0, 3, there(inc())),
        ),
        (
            "much both ways, client first",
            |Pair { client, server, .. }| {
                exchange(&client, &server);
                drop(client);
                assert_eq!(drain(&server), 0);
            },
            bytes(100_000, 99_999, here(out())),
            bytes(99_999, 100_000, there(inc())),
        ),
        (
            "much both ways, server first",
            |Pair { client, server, .. }| {
                exchange(&client, &server);
                drop(server);
                assert_eq!(drain(&client), 0);
            },
            bytes(100_000, 99_999, there(out())),
            bytes(99_999, 100_000, here(inc())),
        ),
        (
            "one byte each way",
            |Pair { client, server, .. }| {
                send(&client, 1);
                send(&server, 1);
                until_there(&server, 1);
                server.shutdown(Shutdown::Write).unwrap();
                assert_eq!(drain(&client), 1);
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(drain(&server), 1);
            },
            bytes(1, 1, there(out())),
            bytes(1, 1, here(inc())),
        ),
        (
            "listener closed before accept()",
            |Pair { client, server, listener }| {
                // The one that was accepted first ends quietly; the other waits in the queue.
                let waits = std::net::TcpStream::connect(client.peer_addr().unwrap()).unwrap();
                drop(client);
                assert_eq!(drain(&server), 0);
                drop(listener);
                until_state(&waits, CLOSE);
            },
            Counts { connects: 2, aged: 2, aborted_there: 1, ..here(out()) },
            Counts { accepts: 2, aged: 2, aborted_here: 1, ..there(inc()) },
        ),
    ]
}

fn exchange(client: &std::net::TcpStream, server: &std::net::TcpStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| send(client, 100_000));
        until_read(server, 100_000);
        scope.spawn(|| send(server, 99_999));
        until_read(client, 99_999);
    });
}

fn until_read(mut from: &std::net::TcpStream, count: usize) {
    std::io::Read::read_exact(&mut from, &mut vec![0; count]).unwrap();
}

/// The ports of both ends.
fn ends(socket: &std::net::TcpStream) -> (u16, u16) {
    (socket.local_addr().unwrap().port(), socket.peer_addr().unwrap().port())
}

/// Whether the socket with these ports is a small one, in TIME_WAIT or FIN_WAIT2 without a process: its row in /proc/net/tcp,
/// of this thread's namespace, has timer 3.
fn small(local: u16, remote: u16) -> bool {
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"].iter().any(|table| {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        table.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 5
                && words[1].ends_with(&local)
                && words[2].ends_with(&remote)
                && words[5].starts_with("03:")
        })
    })
}

#[test]
fn each_end_is_counted_as_what_it_was_on_both_sides() {
    let Some(mut watch) = Watch::start("ends::each_end_is_counted_as_what_it_was_on_both_sides") else {
        return;
    };
    let mut expected = Vec::new();
    for (number, (name, run, outgoing, incoming)) in cases().into_iter().enumerate() {
        for (family, place) in families(number) {
            watch.netns.run(|| run(established(place))).unwrap();
            let name = format!("{name}, {family}");
            let port = place.listen.port();
            expected.push(Expected { name, port, outgoing: Some(outgoing), incoming: Some(incoming) });
        }
    }
    let unseen = watch.expect(&expected);
    // All by threads of this process, under the name of its first thread.
    let command = std::fs::read_to_string("/proc/self/comm").unwrap();
    for flow in
        watch.picture().flows.into_iter().filter(|(netns, _)| u64::from(*netns) == watch.netns.inode())
    {
        let program = flow.1.program.unwrap();
        assert_eq!((program.command.as_str(), program.pid), (command.trim(), Some(std::process::id())));
    }
    // Every event of CLOSE says the same as the counts.
    for Expected { name, port, outgoing, incoming } in
        expected.iter().filter(|case| !unseen.contains(&case.port))
    {
        for (direction, counts) in [(Direction::Outgoing, outgoing), (Direction::Incoming, incoming)] {
            let counts = counts.unwrap();
            let of = |kind: Kind, closed: Option<Closed>| {
                let mine =
                    watch.events.iter().filter(|event| event.kind == kind && event.direction == direction);
                let mine = mine.filter(|event| {
                    let port_of =
                        if direction == Direction::Outgoing { event.remote.unwrap() } else { event.local };
                    port_of.port == *port
                });
                mine.filter(|event| closed.is_none() || event.closed == closed).count() as u64
            };
            assert_eq!(of(Kind::Connect, None), counts.connects, "{name} {direction:?}");
            assert_eq!(of(Kind::Established, None), counts.connects, "{name} {direction:?}");
            assert_eq!(of(Kind::Accept, None), counts.accepts, "{name} {direction:?}");
            assert_eq!(of(Kind::TimeWait, None), counts.time_wait, "{name} {direction:?}");
            assert_eq!(of(Kind::Close, Some(Closed::Here)), counts.closed_here, "{name} {direction:?}");
            assert_eq!(of(Kind::Close, Some(Closed::There)), counts.closed_there, "{name} {direction:?}");
            assert_eq!(
                of(Kind::Close, Some(Closed::AbortedHere)),
                counts.aborted_here,
                "{name} {direction:?}"
            );
            assert_eq!(
                of(Kind::Close, Some(Closed::AbortedThere)),
                counts.aborted_there,
                "{name} {direction:?}"
            );
        }
    }
}

fn established(place: Place) -> Pair {
    let pair = pair(place);
    assert_eq!((state(&pair.client), state(&pair.server)), (ESTABLISHED, ESTABLISHED));
    pair
}
