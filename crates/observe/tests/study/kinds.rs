//! Every kind of segment.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tidewait_lab::wire::{Deed, Direction as Way, Segment};
use tidewait_model::study::Kind;
use tidewait_model::trace::Direction;

use super::stage::{ACK, FIN, Forged, PATIENCE, RST, SYN, each_way, forge, has_ended, of, until, v4};

#[test]
fn the_fin_comes_again_when_the_last_ack_was_lost() {
    each_way("kinds::the_fin_comes_again_when_the_last_ack_was_lost", false, |stage| {
        let (near, far, _listener) = stage.connect(v4(443));
        let lost = stage.wire.trap(Way::Forth, 1, Segment::last_ack, Deed::Drop);
        let begun = Instant::now();
        stage.close(near, far);
        assert!(lost.wait(1, PATIENCE));
        let first = stage.seen(1).total;
        let late = begun.elapsed();
        // The peer's time-out is 200 ms and the round trip; TIME_WAIT began a moment after.
        let latest = first.latest_needed.as_ref().unwrap();
        assert_eq!(latest.kind, Kind::Fin);
        let age = Duration::from_secs_f64(latest.age_seconds);
        assert!(age >= Duration::from_millis(150) && age <= late, "{age:?} of {late:?}");
        let picture = stage.all(1);
        let seen = &picture.total;
        // One, unless the answer to that came late as well.
        let (fins, all) = (of(seen, Kind::Fin).0, stage.late());
        assert!(
            (1..=all).contains(&fins) && (fins..=all).contains(&seen.needed),
            "{all} by the wire: {picture:#?}"
        );
        assert!((seen.needed..=all).contains(&seen.segments), "{all} by the wire: {picture:#?}");
        let [destination] = picture.destinations.as_slice() else { panic!("{picture:#?}") };
        assert_eq!(
            (destination.direction, destination.end.as_deref()),
            (Direction::Outgoing, Some("10.77.0.2:443"))
        );
        assert_eq!(seen.sockets, 1, "{picture:#?}");
    });
}

#[test]
fn a_duplicate_of_old_data_is_old_and_its_age_is_that_of_time_wait() {
    each_way("kinds::a_duplicate_of_old_data_is_old_and_its_age_is_that_of_time_wait", false, |stage| {
        let (mut near, mut far, _listener) = stage.connect(v4(443));
        let data = stage.wire.trap(Way::Back, 1, |segment| segment.data > 0, Deed::Record);
        far.write_all(b"answer").unwrap();
        near.read_exact(&mut [0; 6]).unwrap();
        let begun = Instant::now();
        stage.close(near, far);
        let waited = Instant::now();
        sleep(Duration::from_millis(300));
        let earliest = waited.elapsed();
        stage.wire.inject(Way::Back, &data.caught()[0]);
        let picture = stage.seen(1);
        let latest = begun.elapsed();
        assert_eq!(of(&picture.total, Kind::OldData).0, 1, "{picture:#?}");
        let age = Duration::from_secs_f64(picture.total.latest_needed.as_ref().unwrap().age_seconds);
        // Ticks may be 10 ms long.
        assert!(
            age + Duration::from_millis(25) >= earliest && age <= latest + Duration::from_millis(25),
            "{age:?}"
        );
        // The timer has begun anew, the age has not.
        sleep(Duration::from_millis(300));
        stage.wire.inject(Way::Back, &data.caught()[0]);
        let picture = stage.seen(2);
        let again = Duration::from_secs_f64(picture.total.latest_needed.as_ref().unwrap().age_seconds);
        assert!(again >= age + Duration::from_millis(275), "{age:?}, then {again:?}");
    });
}

#[test]
fn what_comes_right_behind_the_fin_of_a_busy_connection_is_seen() {
    each_way("kinds::what_comes_right_behind_the_fin_of_a_busy_connection_is_seen", false, |stage| {
        // Each is answered, the server has gone, and what it says to that must not end the TIME_WAIT of the next one.
        stage.client.set("net.ipv4.tcp_rfc1337", "1").unwrap();
        let mut expected = 0;
        for round in 0..10 {
            let (mut near, mut far, _listener) = stage.connect(v4(443 + round));
            let sent = stage.wire.trap(
                Way::Back,
                u64::MAX,
                |segment| segment.data > 0 || segment.fin(),
                Deed::Record,
            );
            // From here on within one tick, most times.
            far.write_all(&[7; 1_000]).unwrap();
            near.read_exact(&mut [0; 1_000]).unwrap();
            near.shutdown(Shutdown::Write).unwrap();
            at_once("the client's FIN", || has_ended(&far));
            drop(far);
            at_once("the server's FIN", || sent.caught().iter().any(Segment::fin));
            for segment in sent.caught().iter().filter(|segment| !segment.fin()) {
                stage.wire.inject(Way::Back, segment);
                expected += 1;
            }
        }
        let picture = stage.seen(expected);
        assert!(expected >= 10, "{expected}");
        assert_eq!(of(&picture.total, Kind::OldData).0, expected, "{picture:#?}");
    });
}

/// Waits without a pause.
fn at_once(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_forged_is_told_apart() {
    each_way("kinds::what_was_forged_is_told_apart", false, |stage| {
        stage.client.set("net.ipv4.tcp_rfc1337", "1").unwrap();
        let (near, far, _listener) = stage.connect(v4(443));
        let local: SocketAddr = near.local_addr().unwrap();
        let fin = stage.close(near, far);
        let (next, answer) = (fin.end(), fin.acknowledgement);
        let newest = fin.timestamps.unwrap().0;
        let mut sent = 0;
        for (kind, rejected, forged) in [
            (
                Kind::Ack,
                0,
                Forged { sequence: next, flags: ACK, timestamp: Some(newest), ..Forged::default() },
            ),
            (
                Kind::Ack,
                1,
                Forged { sequence: next, flags: ACK, timestamp: Some(newest - 9), ..Forged::default() },
            ),
            (Kind::NewData, 0, Forged { sequence: next, flags: ACK, data: b"more", ..Forged::default() }),
            (Kind::OldData, 0, Forged { sequence: next - 5, flags: ACK, data: b"old", ..Forged::default() }),
            (
                Kind::OldData,
                1,
                Forged {
                    sequence: next - 9,
                    flags: FIN | ACK,
                    timestamp: Some(newest - 9),
                    ..Forged::default()
                },
            ),
            (Kind::Fin, 0, Forged { sequence: next - 1, flags: FIN | ACK, ..Forged::default() }),
            (Kind::RstIgnored, 0, Forged { sequence: next, flags: RST | ACK, ..Forged::default() }),
            (Kind::SynRefused, 0, Forged { sequence: next - 7, flags: SYN, ..Forged::default() }),
            (
                Kind::SynRefused,
                1,
                Forged { sequence: next + 7, flags: SYN, timestamp: Some(newest - 1), ..Forged::default() },
            ),
            (Kind::Other, 0, Forged { sequence: next + 7, flags: SYN | ACK, ..Forged::default() }),
        ] {
            let before = of(&stage.seen(sent).total, kind);
            forge(stage.server, v4(443), local, &Forged { acknowledgement: answer, ..forged });
            sent += 1;
            let picture = stage.seen(sent);
            let after = of(&picture.total, kind);
            assert_eq!(
                (after.0 - before.0, after.1 - before.1),
                (1, rejected),
                "{kind:?} {rejected}: {picture:#?}"
            );
            assert_eq!(picture.total.segments, sent, "{kind:?}: {picture:#?}");
        }
        assert_eq!(stage.waiting(stage.client), 1);
        // What the setting forbids is allowed again.
        stage.client.set("net.ipv4.tcp_rfc1337", "0").unwrap();
        forge(
            stage.server,
            v4(443),
            local,
            &Forged { sequence: next, flags: RST | ACK, ..Forged::default() },
        );
        assert_eq!(of(&stage.seen(sent + 1).total, Kind::RstKills), (1, 0));
        stage.until("the reset ends TIME_WAIT", || stage.waiting(stage.client) == 0);
    });
}

#[test]
fn a_new_connection_on_old_ports_is_let_in_and_needs_no_time_wait() {
    each_way("kinds::a_new_connection_on_old_ports_is_let_in_and_needs_no_time_wait", true, |stage| {
        let (near, far, listener) = stage.connect(v4(443));
        let local = near.local_addr().unwrap();
        // The server closes first and keeps the TIME_WAIT.
        drop(far);
        stage.until("the server's FIN", || has_ended(&near));
        drop(near);
        stage.until("TIME_WAIT", || stage.waiting(stage.server) == 1);
        let again = stage.client.run(|| reconnect(local, v4(443))).unwrap();
        listener.accept().unwrap();
        let picture = stage.seen(1);
        assert_eq!(of(&picture.total, Kind::SynAccepted), (1, 0), "{picture:#?}");
        assert_eq!((picture.total.segments, picture.total.needed), (1, 0), "{picture:#?}");
        assert_eq!(picture.total.latest_needed, None);
        let [destination] = picture.destinations.as_slice() else { panic!("{picture:#?}") };
        assert_eq!(
            (destination.direction, destination.end.as_deref()),
            (Direction::Incoming, Some("10.77.0.2:443"))
        );
        drop(again);
    });
}

/// Connects from a port that was used before.
fn reconnect(local: SocketAddr, remote: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    bind(&socket, &local).unwrap();
    connect(&socket, &remote).unwrap();
    socket.into()
}

#[test]
fn ipv6_and_ipv4_in_ipv6_are_seen_and_named() {
    each_way("kinds::ipv6_and_ipv4_in_ipv6_are_seen_and_named", false, |stage| {
        let six: SocketAddr = "[fd00:77::2]:443".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.77.0.2]:444".parse().unwrap();
        let mut sent = 0;
        for (remote, listen) in [(six, six), (mapped, v4(444))] {
            if remote == six && !stage.client.addresses().iter().any(std::net::IpAddr::is_ipv6) {
                continue;
            }
            let listener: TcpListener = stage.server.run(|| TcpListener::bind(listen).unwrap()).unwrap();
            let near = stage.client.run(|| TcpStream::connect(remote).unwrap()).unwrap();
            let (far, _) = listener.accept().unwrap();
            let fin = stage.close(near, far);
            stage.wire.inject(Way::Back, &fin);
            sent += 1;
            let picture = stage.all(sent);
            let named = picture.destinations.iter().find(|row| row.end == Some(listen.to_string()));
            let named = named.unwrap_or_else(|| panic!("{listen}: {picture:#?}"));
            assert_eq!((of(&named.seen, Kind::Fin).0, named.seen.sockets), (1, 1), "{picture:#?}");
        }
    });
}

#[test]
fn an_orphan_in_fin_wait2_is_no_time_wait() {
    each_way("kinds::an_orphan_in_fin_wait2_is_no_time_wait", false, |stage| {
        stage.client.set("net.ipv4.tcp_fin_timeout", "30").unwrap();
        // Kernels that note when TIME_WAIT began, do so for peers with timestamps only.
        for (count, timestamps) in (1..).zip(["1", "0"]) {
            stage.client.set("net.ipv4.tcp_timestamps", timestamps).unwrap();
            let (near, far, _listener) = stage.connect(v4(443));
            drop(near);
            stage.until("the client's FIN", || has_ended(&far));
            sleep(Duration::from_millis(400));
            // The FIN that comes for it makes it a TIME_WAIT, which is young then.
            let fin = stage.fin_of(Way::Back);
            drop(far);
            assert!(fin.wait(1, PATIENCE));
            until("the FIN for the orphan", || stage.watch.picture().unwrap().fin_wait2 == count);
            assert_eq!(stage.seen(count - 1).total.segments, count - 1);
            stage.wire.inject(Way::Back, &fin.caught()[0]);
            let picture = stage.seen(count);
            assert_eq!(of(&picture.total, Kind::Fin).0, count);
            let age = picture.total.latest_needed.as_ref().unwrap().age_seconds;
            assert!(age < 0.4, "{age} with tcp_timestamps={timestamps}");
        }
    });
}
