//! The wire through user space: what goes over it takes its time, is lost or comes twice, as it was told; and the bytes stay right.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tidewait_lab::wire::{Counts, Deed, Direction, Rules, Segment, Wire};
use tidewait_lab::{Error, Host, Lab, Netem, isolated, skip};
use tidewait_model::State;

const PATIENCE: Duration = Duration::from_secs(20);

/// The pair, unless this kernel has no TUN.
fn on_a_wire(name: &str, test: impl FnOnce(&Host, &Host, &Wire)) {
    isolated(name, || match Lab::new().wired_pair() {
        Ok((client, server, wire)) => test(&client, &server, &wire),
        Err(Error::Unavailable(why)) => skip(name, why),
        Err(error) => panic!("{error}"),
    });
}

/// A connection from the client to the server, both ends.
fn connect(client: &Host, server: &Host, address: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = server.run(|| TcpListener::bind(address).unwrap()).unwrap();
    let near = client.run(|| TcpStream::connect(address).unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn v4(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 77, 0, 2], port))
}

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn both_families_go_over_it_and_a_delay_is_at_least_what_was_asked() {
    on_a_wire("both_families_go_over_it_and_a_delay_is_at_least_what_was_asked", |client, server, wire| {
        let delay = Duration::from_millis(40);
        wire.rule(Direction::Forth, Rules { delay, ..Rules::default() });
        wire.rule(Direction::Back, Rules { delay: delay / 2, ..Rules::default() });
        let mut addresses = vec![v4(443)];
        if client.addresses().iter().any(std::net::IpAddr::is_ipv6) {
            addresses.push("[fd00:77::2]:443".parse().unwrap());
        }
        for address in addresses {
            let listener = server.run(|| TcpListener::bind(address).unwrap()).unwrap();
            let begin = Instant::now();
            let mut near = client.run(|| TcpStream::connect(address).unwrap()).unwrap();
            assert!(begin.elapsed() >= delay + delay / 2, "{address}: {:?}", begin.elapsed());
            let (mut far, _) = listener.accept().unwrap();
            let begin = Instant::now();
            near.write_all(b"flood").unwrap();
            let mut read = [0; 5];
            far.read_exact(&mut read).unwrap();
            assert!(begin.elapsed() >= delay, "{address}: {:?}", begin.elapsed());
            assert_eq!(&read, b"flood");
        }
        let counts = wire.counts(Direction::Forth);
        assert!(counts.segments >= 3 && counts.delivered >= 3, "{counts:?}");
        assert_eq!((counts.lost, counts.duplicated, counts.refused), (0, 0, 0), "{counts:?}");
    });
}

#[test]
fn the_bytes_stay_right_through_loss_duplication_and_reordering() {
    on_a_wire("the_bytes_stay_right_through_loss_duplication_and_reordering", |client, server, wire| {
        let bad = Rules {
            loss: 0.02,
            duplicate: 0.05,
            duplicate_after: Duration::from_millis(2),
            reorder: 0.05,
            reorder_by: Duration::from_millis(1),
            seed: 4,
            ..Rules::default()
        };
        wire.rule(Direction::Forth, bad);
        wire.rule(Direction::Back, bad);
        let (mut near, mut far) = connect(client, server, v4(443));
        let sent: Vec<u8> = (0..2_000_000_u32).map(|number| (number % 251) as u8).collect();
        let read = thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut read = Vec::new();
                far.read_to_end(&mut read).unwrap();
                read
            });
            near.write_all(&sent).unwrap();
            drop(near);
            reader.join().unwrap()
        });
        assert!(read == sent, "{} bytes of {}", read.len(), sent.len());
        let counts = wire.counts(Direction::Forth);
        // 2 MB are 1,400 segments at least.
        assert!(counts.segments > 1_300, "{counts:?}");
        let part = |count: u64| count as f64 / counts.segments as f64;
        assert!((0.01..0.03).contains(&part(counts.lost)), "{counts:?}");
        assert!((0.03..0.07).contains(&part(counts.duplicated)), "{counts:?}");
        assert!((0.03..0.07).contains(&part(counts.reordered)), "{counts:?}");
    });
}

#[test]
fn a_lost_last_ack_has_the_fin_sent_again() {
    on_a_wire("a_lost_last_ack_has_the_fin_sent_again", |client, server, wire| {
        // A FIN that comes a third time is answered to a server that has forgotten: its reset must not end TIME_WAIT (RFC 1337).
        client.set("net.ipv4.tcp_rfc1337", "1").unwrap();
        let (near, far) = connect(client, server, v4(443));
        let lost = wire.trap(Direction::Forth, 1, Segment::last_ack, Deed::Drop);
        let fins = wire.trap(Direction::Back, 9, Segment::fin, Deed::Record);
        drop(near);
        until("the FIN has arrived", || server.states().unwrap()[State::CloseWait] == 1);
        drop(far);
        assert!(lost.wait(1, PATIENCE) && fins.wait(2, PATIENCE));
        let (lost, fins) = (lost.caught(), fins.caught());
        assert_eq!(lost.len(), 1);
        assert_eq!((lost[0].acknowledgement, lost[0].data), (fins[0].end(), 0));
        assert_eq!(fins[0].sequence, fins[1].sequence, "it is the same FIN");
        assert_eq!(fins[0].source, v4(443));
        until("the second FIN is acknowledged", || server.states().unwrap()[State::LastAck] == 0);
        assert_eq!(client.states().unwrap()[State::TimeWait], 1);
    });
}

#[test]
fn a_held_duplicate_arrives_and_what_was_recorded_can_be_sent_again() {
    on_a_wire("a_held_duplicate_arrives_and_what_was_recorded_can_be_sent_again", |client, server, wire| {
        // The server, which has forgotten the connection, answers TIME_WAIT's answer with a reset; that must not end it (RFC 1337).
        client.set("net.ipv4.tcp_rfc1337", "1").unwrap();
        let (mut near, mut far) = connect(client, server, v4(443));
        let after = Duration::from_millis(300);
        let copied = wire.trap(Direction::Back, 1, |segment| segment.data > 0, Deed::Copy(after));
        let sent = Instant::now();
        far.write_all(b"ebb").unwrap();
        let mut read = [0; 3];
        near.read_exact(&mut read).unwrap();
        assert!(copied.wait(1, PATIENCE));
        let old = copied.caught().remove(0);
        assert_eq!((old.payload(), old.source), (&b"ebb"[..], v4(443)));
        // The client closes first; once it is in TIME_WAIT it answers the old segment with an ACK (RFC 9293, 3.10.7.4).
        drop(near);
        until("the client's FIN is here", || server.states().unwrap()[State::CloseWait] == 1);
        drop(far);
        until("TIME_WAIT", || client.states().unwrap()[State::TimeWait] == 1);
        let all = |wire: &Wire| -> Counts { wire.counts(Direction::Back) };
        until("the copy has arrived", || all(wire).delivered == all(wire).segments + all(wire).others + 1);
        assert!(sent.elapsed() >= after);
        let answers = wire.trap(Direction::Forth, 1, Segment::ack, Deed::Record);
        wire.inject(Direction::Back, &old);
        assert!(answers.wait(1, PATIENCE));
        assert_eq!(answers.caught()[0].acknowledgement, old.end().wrapping_add(1), "up to the FIN");
        assert_eq!(all(wire).injected, 1);
    });
}

#[test]
fn netem_delays_and_loses_where_the_kernel_has_it() {
    const NAME: &str = "netem_delays_and_loses_where_the_kernel_has_it";
    isolated(NAME, || {
        let delay = Duration::from_millis(150);
        let (client, server) = match Lab::new().netem_pair(Netem { delay, ..Netem::default() }) {
            Ok(pair) => pair,
            Err(Error::Unavailable(why)) => return skip(NAME, why),
            Err(error) => panic!("{error}"),
        };
        let address = SocketAddr::from(([10, 77, 0, 2], 443));
        let listener = server.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let begin = Instant::now();
        let mut near = client.run(|| TcpStream::connect(address)).unwrap().unwrap();
        assert!(begin.elapsed() >= delay * 2, "a round trip: {:?}", begin.elapsed());
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(&[7; 100]).unwrap();
        far.read_exact(&mut [0; 100]).unwrap();
        // All is lost: nobody answers.
        let (client, server) = Lab::new().netem_pair(Netem { loss: 1.0, ..Netem::default() }).unwrap();
        let _listener = server.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let connected = client.run(|| TcpStream::connect_timeout(&address, delay)).unwrap();
        assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        // Much is lost, sent twice and overtaken, and all of it arrives in the end.
        let spoilt = Netem { delay: Duration::from_millis(2), loss: 0.05, duplicate: 0.2, reorder: 0.2 };
        let (client, server) = Lab::new().netem_pair(spoilt).unwrap();
        let listener = server.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let mut near = client.run(|| TcpStream::connect(address)).unwrap().unwrap();
        let (mut far, _) = listener.accept().unwrap();
        for round in 0..20_u8 {
            near.write_all(&[round; 3_000]).unwrap();
            let mut read = [0; 3_000];
            far.read_exact(&mut read).unwrap();
            assert!(read.iter().all(|byte| *byte == round));
        }
    });
}
