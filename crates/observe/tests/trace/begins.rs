//! Every way in which a connection begins, or does not; and who chose its local port.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, listen};
use tidewait_model::report::Pool;
use tidewait_model::trace::{Counts, Direction};
use tidewait_observe::trace::Kind;

use super::sockets::{
    connect, deaf, disconnect, drain, dropped, pair, queued, send, set, set_bytes, socket, socket_with,
    state, stream, until, until_state, until_there,
};
use super::watch::{Expected, Place, Watch, families, places};

const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;

const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
const IP_LOCAL_PORT_RANGE: i32 = 51;

/// An outgoing connection that was closed from here first.
const HERE: Counts = Counts { connects: 1, aged: 1, closed_here: 1, time_wait: 1, ..NONE };
/// Its other side.
const THERE: Counts = Counts { accepts: 1, aged: 1, closed_there: 1, ..NONE };
const NONE: Counts = Counts {
    connects: 0,
    port_by_bind: 0,
    port_by_program: 0,
    accepts: 0,
    closed_here: 0,
    closed_there: 0,
    aborted_here: 0,
    aborted_there: 0,
    time_wait: 0,
    lived_ns: 0,
    aged: 0,
    sent: 0,
    received: 0,
    no_port: 0,
    refused: 0,
    unanswered: 0,
    failed: 0,
};

type Case = (&'static str, fn(Place), Counts, Counts);

/// A listener that hears nothing: whoever connects gets no answer.
fn silent(place: Place) -> TcpListener {
    let listener = TcpListener::bind(place.listen).unwrap();
    deaf(&listener, true);
    listener
}

/// The client closes, and the server when it has heard.
fn close(client: TcpStream, server: &TcpStream) {
    drop(client);
    drain(server);
}

/// Connects through a socket that has been prepared, and closes.
fn whole(socket: OwnedFd, place: Place) {
    let listener = TcpListener::bind(place.listen).unwrap();
    connect(&socket, place.connect).unwrap();
    let (server, _) = listener.accept().unwrap();
    close(stream(socket), &server);
}

/// The source address of connections to this place, with another port.
fn from(place: Place, port: u16) -> SocketAddr {
    SocketAddr::new(place.connect.ip(), port)
}

fn any(place: Place) -> SocketAddr {
    if place.connect.is_ipv4() { "0.0.0.0:0".parse().unwrap() } else { "[::]:0".parse().unwrap() }
}

fn begun() -> Vec<Case> {
    vec![
        (
            "refused",
            |place| assert_eq!(connect(&socket(place.connect), place.connect), Err(Errno::CONNREFUSED)),
            Counts { connects: 1, refused: 1, ..NONE },
            NONE,
        ),
        (
            "refused, not waited for",
            |place| {
                let socket = socket_with(place.connect, SocketFlags::NONBLOCK);
                assert!(connect(&socket, place.connect).is_err());
                until_state(&socket, CLOSE);
            },
            Counts { connects: 1, refused: 1, ..NONE },
            NONE,
        ),
        (
            "unanswered",
            |place| {
                let _silent = silent(place);
                let socket = socket(place.connect);
                set(&socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 1_000).unwrap();
                assert_eq!(connect(&socket, place.connect), Err(Errno::TIMEDOUT));
            },
            Counts { connects: 1, unanswered: 1, ..NONE },
            NONE,
        ),
        (
            "given up",
            |place| {
                let _silent = silent(place);
                let socket = socket_with(place.connect, SocketFlags::NONBLOCK);
                assert_eq!(connect(&socket, place.connect), Err(Errno::INPROGRESS));
            },
            Counts { connects: 1, failed: 1, ..NONE },
            NONE,
        ),
        (
            "not waited for",
            |place| {
                let listener = TcpListener::bind(place.listen).unwrap();
                let socket = socket_with(place.connect, SocketFlags::NONBLOCK);
                let _ = connect(&socket, place.connect);
                until_state(&socket, ESTABLISHED);
                close(stream(socket), &listener.accept().unwrap().0);
            },
            HERE,
            THERE,
        ),
        (
            "refused, then another connect() of the same socket",
            |place| {
                let socket = socket(place.connect);
                assert_eq!(connect(&socket, place.connect), Err(Errno::CONNREFUSED));
                whole(socket, place);
            },
            Counts { connects: 2, refused: 1, ..HERE },
            THERE,
        ),
        (
            "connect(AF_UNSPEC), then another connect() of the same socket",
            |place| {
                let listener = TcpListener::bind(place.listen).unwrap();
                let socket = socket(place.connect);
                connect(&socket, place.connect).unwrap();
                let (first, _) = listener.accept().unwrap();
                send(&first, 5);
                until_there(&socket, 5);
                disconnect(&socket);
                until_state(&first, CLOSE);
                connect(&socket, place.connect).unwrap();
                close(stream(socket), &listener.accept().unwrap().0);
            },
            Counts { connects: 2, aged: 2, aborted_here: 1, received: 5, ..HERE },
            Counts { accepts: 2, aged: 2, aborted_there: 1, sent: 5, ..THERE },
        ),
        (
            "connect() to itself",
            |place| {
                let socket = socket(place.connect);
                bind(&socket, &place.connect).unwrap();
                connect(&socket, place.connect).unwrap();
            },
            Counts { port_by_program: 1, ..HERE },
            NONE,
        ),
        (
            "accepted when data comes",
            |place| {
                let listener = TcpListener::bind(place.listen).unwrap();
                set(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 5).unwrap();
                let client = TcpStream::connect(place.connect).unwrap();
                send(&client, 3);
                close(client, &listener.accept().unwrap().0);
            },
            Counts { sent: 3, ..HERE },
            Counts { received: 3, ..THERE },
        ),
        (
            "Fast Open with data",
            |place| {
                let listener = TcpListener::bind(place.listen).unwrap();
                set(&listener, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16).unwrap();
                let socket = socket(place.connect);
                rustix::net::sendto(
                    &socket,
                    b"12345",
                    SendFlags::from_bits_retain(0x2000_0000),
                    &place.connect,
                )
                .unwrap();
                let (server, _) = listener.accept().unwrap();
                until_there(&server, 5);
                close(stream(socket), &server);
            },
            Counts { sent: 5, ..HERE },
            Counts { received: 5, ..THERE },
        ),
        (
            "Fast Open, closed before the first write",
            |place| {
                let socket = socket(place.connect);
                set(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1).unwrap();
                connect(&socket, place.connect).unwrap();
            },
            Counts { connects: 1, failed: 1, ..NONE },
            NONE,
        ),
        (
            "one tuple twice",
            |place| {
                let listener = TcpListener::bind(place.listen).unwrap();
                let sockets = [socket(place.connect), socket(place.connect)];
                for socket in &sockets {
                    set(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
                    set(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).unwrap();
                    bind(socket, &from(place, place.connect.port() + 5_000)).unwrap();
                }
                let [first, second] = sockets;
                connect(&first, place.connect).unwrap();
                assert_eq!(connect(&second, place.connect), Err(Errno::ADDRNOTAVAIL));
                close(stream(first), &listener.accept().unwrap().0);
            },
            Counts { connects: 2, port_by_program: 2, failed: 1, ..HERE },
            THERE,
        ),
        (
            "port of bind(address, 0)",
            |place| {
                let socket = socket(place.connect);
                bind(&socket, &from(place, 0)).unwrap();
                whole(socket, place);
            },
            Counts { port_by_bind: 1, ..HERE },
            THERE,
        ),
        (
            "port of bind(any, 0)",
            |place| {
                let socket = socket(place.connect);
                bind(&socket, &any(place)).unwrap();
                whole(socket, place);
            },
            Counts { port_by_bind: 1, ..HERE },
            THERE,
        ),
        (
            "bind(address, 0) that leaves the port to connect()",
            |place| {
                let socket = socket(place.connect);
                set(&socket, libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1).unwrap();
                bind(&socket, &from(place, 0)).unwrap();
                whole(socket, place);
            },
            HERE,
            THERE,
        ),
        (
            "port of the program",
            |place| {
                let socket = socket(place.connect);
                bind(&socket, &from(place, place.connect.port() + 5_000)).unwrap();
                whole(socket, place);
            },
            Counts { port_by_program: 1, ..HERE },
            THERE,
        ),
        (
            "a range of the socket's own",
            |place| {
                let socket = socket(place.connect);
                // Older kernels do not know it; connect() chooses either way.
                let _ =
                    set_bytes(&socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, &0xc000_b000_u32.to_ne_bytes());
                whole(socket, place);
            },
            HERE,
            THERE,
        ),
    ]
}

fn run(watch: &mut Watch, cases: Vec<Case>) {
    let mut expected = Vec::new();
    for (number, (name, run, outgoing, incoming)) in cases.into_iter().enumerate() {
        for (family, place) in families(number) {
            watch.netns.run(|| run(place)).unwrap();
            let name = format!("{name}, {family}");
            let port = place.listen.port();
            expected.push(Expected { name, port, outgoing: Some(outgoing), incoming: Some(incoming) });
        }
    }
    watch.expect(&expected);
}

#[test]
fn each_begin_is_counted_as_what_it_was() {
    let Some(mut watch) = Watch::start("begins::each_begin_is_counted_as_what_it_was") else { return };
    // Fast Open on both sides, without cookies.
    watch.netns.set("net.ipv4.tcp_fastopen", "1543").unwrap();
    run(&mut watch, begun());
    // Which port was refused can be told.
    let case = begun().iter().position(|(name, ..)| *name == "one tuple twice").unwrap();
    let refused = watch.events.iter().filter(|event| event.kind == Kind::Refused).collect::<Vec<_>>();
    assert_eq!(refused.len(), families(case).count());
    for event in refused {
        assert_eq!(event.local.port, event.remote.unwrap().port + 5_000);
        assert_eq!(event.error, Some(Errno::ADDRNOTAVAIL.raw_os_error().unsigned_abs()));
    }
}

#[test]
fn connections_of_syn_cookies_are_counted() {
    let Some(mut watch) = Watch::start("begins::connections_of_syn_cookies_are_counted") else { return };
    watch.netns.set("net.ipv4.tcp_syncookies", "2").unwrap();
    let both: Case = (
        "with bytes",
        |place| {
            let pair = pair(place);
            send(&pair.client, 9);
            close(pair.client, &pair.server);
        },
        Counts { sent: 9, ..HERE },
        Counts { received: 9, ..THERE },
    );
    run(&mut watch, vec![both]);
}

#[test]
fn connect_without_a_free_port_is_told_apart_from_every_other_failure() {
    let Some(mut watch) =
        Watch::start("begins::connect_without_a_free_port_is_told_apart_from_every_other_failure")
    else {
        return;
    };
    watch.netns.set("net.ipv4.ip_local_port_range", "40000 40003").unwrap();
    watch.netns.set("net.ipv4.tcp_tw_reuse", "0").unwrap();
    let full: Case = (
        "all in TIME_WAIT",
        |place| {
            let listener = TcpListener::bind(place.listen).unwrap();
            for _ in 0..4 {
                let client = TcpStream::connect(place.connect).unwrap();
                close(client, &listener.accept().unwrap().0);
            }
            // A socket that had a port before, too.
            let socket = socket(place.connect);
            for _ in 0..3 {
                assert_eq!(connect(&socket, place.connect), Err(Errno::ADDRNOTAVAIL));
            }
        },
        Counts { connects: 7, no_port: 3, aged: 4, closed_here: 4, time_wait: 4, ..NONE },
        Counts { accepts: 4, aged: 4, closed_there: 4, ..NONE },
    );
    run(&mut watch, vec![full]);
    let refused: Vec<_> = watch.events.iter().filter(|event| event.kind == Kind::Refused).collect();
    assert_eq!(refused.len(), 3 * families(0).count());
    assert!(refused.iter().all(|event| event.local.port == 0 && event.pool == Some(Pool::Connect)));
}

#[test]
fn both_sides_connect_at_once() {
    let Some(mut watch) = Watch::start("begins::both_sides_connect_at_once") else { return };
    let ends: [SocketAddr; 2] = ["127.0.0.1:20001".parse().unwrap(), "127.0.0.1:20002".parse().unwrap()];
    watch
        .netns
        .run(|| {
            let [a, b] = ends.map(|end| {
                let socket = socket_with(end, SocketFlags::NONBLOCK);
                bind(&socket, &end).unwrap();
                socket
            });
            // The refusal is lost; then the other's SYN comes.
            deaf(&a, true);
            assert_eq!(connect(&a, ends[1]), Err(Errno::INPROGRESS));
            until("the refusal to be lost", || dropped(&a) > 0);
            deaf(&a, false);
            assert_eq!(connect(&b, ends[0]), Err(Errno::INPROGRESS));
            until_state(&a, ESTABLISHED);
            until_state(&b, ESTABLISHED);
            let (a, b) = (stream(a), stream(b));
            b.set_nonblocking(false).unwrap();
            send(&a, 4);
            drop(a);
            assert_eq!(drain(&b), 4);
        })
        .unwrap();
    let side = |name: &str, port, outgoing| Expected {
        name: name.to_owned(),
        port,
        outgoing: Some(outgoing),
        incoming: Some(NONE),
    };
    watch.expect(&[
        side("first", 20_002, Counts { port_by_program: 1, sent: 4, ..HERE }),
        side(
            "second",
            20_001,
            Counts { connects: 1, port_by_program: 1, closed_there: 1, aged: 1, received: 4, ..NONE },
        ),
    ]);
}

#[test]
fn no_route_is_no_connection() {
    let Some(mut watch) = Watch::start("begins::no_route_is_no_connection") else { return };
    let there: SocketAddr = "203.0.113.1:20001".parse().unwrap();
    assert_eq!(watch.netns.run(|| connect(&socket(there), there)).unwrap(), Err(Errno::NETUNREACH));
    // connect() ends before the state changes: nothing was sent and no port taken.
    assert_eq!(watch.rows(Direction::Outgoing, 20_001), []);
}

/// While the tracer attaches, connections come in to whoever listens already.
#[test]
fn the_first_connections_that_are_seen_have_their_owner_and_direction() {
    let place = places(20_000)[0].1;
    for _ in 0..3 {
        let over = Arc::new(AtomicBool::new(false));
        let begun = Watch::start_after("begins::the_first_connections_that_are_seen", || {
            let listener = TcpListener::bind(place.listen).unwrap();
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    drop(TcpStream::connect(place.connect).unwrap());
                    drop(listener.accept().unwrap());
                }
            })
        });
        let Some((mut watch, churner)) = begun else { return };
        thread::sleep(Duration::from_millis(50));
        over.store(true, Ordering::Relaxed);
        churner.join().unwrap();
        watch.listen();
        let at_port: Vec<_> = watch.events.iter().filter(|event| event.local.port == 20_000).collect();
        assert!(at_port.len() > 10, "{}", at_port.len());
        for event in at_port {
            assert_eq!((event.direction, event.owner == 0), (Direction::Incoming, false), "{event:?}");
        }
    }
}

#[test]
fn a_full_queue_is_no_accepted_connection() {
    let Some(mut watch) = Watch::start("begins::a_full_queue_is_no_accepted_connection") else { return };
    let place = places(20_000)[0].1;
    let (established, accepted) = watch
        .netns
        .run(|| {
            let listener = socket_with(place.listen, SocketFlags::NONBLOCK);
            bind(&listener, &place.listen).unwrap();
            listen(&listener, 1).unwrap();
            let clients: Vec<OwnedFd> =
                (0..6).map(|_| socket_with(place.connect, SocketFlags::NONBLOCK)).collect();
            for client in &clients {
                let _ = connect(client, place.connect);
            }
            until_state(&clients[0], ESTABLISHED);
            until_state(&clients[1], ESTABLISHED);
            // Their own side is open before the last packet of the handshake has arrived.
            until("two in the queue", || queued(&listener) >= 2);
            let established = clients.iter().filter(|client| state(*client) == ESTABLISHED).count() as u64;
            let mut accepted = Vec::new();
            while let Ok(server) = rustix::net::accept(&listener) {
                accepted.push(server);
            }
            let count = accepted.len() as u64;
            // Nobody takes what the kernel may let in now that there is room.
            drop(listener);
            (established, count)
        })
        .unwrap();
    assert!(established >= 2 && accepted >= 2);
    let counts = watch.counts(Direction::Incoming, 20_000);
    assert!(counts.accepts >= accepted && counts.accepts < 6, "{counts:?}");
    assert_eq!(watch.counts(Direction::Outgoing, 20_000).connects, 6);
}

#[test]
fn multipath_connections_are_counted_by_their_subflows() {
    let name = "begins::multipath_connections_are_counted_by_their_subflows";
    let Some(mut watch) = Watch::start(name) else { return };
    let place = places(20_000)[0].1;
    let multipath = || {
        let protocol = rustix::net::Protocol::from_raw(std::num::NonZero::new(262).unwrap());
        rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            Some(protocol),
        )
    };
    let done = watch
        .netns
        .run(|| {
            let listener = multipath().ok()?;
            bind(&listener, &place.listen).unwrap();
            listen(&listener, 8).unwrap();
            let client = multipath().unwrap();
            connect(&client, place.connect).unwrap();
            let server = rustix::net::accept(&listener).unwrap();
            drop(client);
            drain(&stream(server));
            Some(())
        })
        .unwrap();
    if done.is_none() {
        return tidewait_lab::skip(name, "the kernel has no MPTCP");
    }
    let command = std::fs::read_to_string("/proc/self/comm").unwrap();
    for (direction, connects, accepts) in [(Direction::Outgoing, 1, 0), (Direction::Incoming, 0, 1)] {
        until("the subflow to end", || watch.counts(direction, 20_000).closed() == 1);
        let counts = watch.counts(direction, 20_000);
        assert_eq!((counts.connects, counts.accepts), (connects, accepts));
        // A worker of the kernel may close it; the owner is known all the same.
        for row in watch.rows(direction, 20_000) {
            assert_eq!(row.program.unwrap().command, command.trim());
        }
    }
}
