//! TIME_WAIT: each one that is born is noted, by the cookie under which sock_diag shows it; and none besides.

use std::collections::{HashMap, HashSet};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidewait_lab::{ChurnOptions, Lab, Path, Policy, Server, scaled};
use tidewait_model::State;
use tidewait_model::trace::{Counts, Direction};
use tidewait_observe::sock_diag::{Family, Netlink, Request, Row, Sockets};
use tidewait_observe::trace::Kind;

use super::elsewhere::Elsewhere;
use super::sockets::{drain, linger_zero, pair, set, until};
use super::watch::{Expected, Place, Watch, places};

fn place(port: u16) -> Place {
    places(port)[0].1
}

/// The sockets in TIME_WAIT of the calling thread's namespace: cookie and local port.
fn dump() -> HashMap<u64, u16> {
    let mut found = HashMap::new();
    let mut netlink = Netlink::open().unwrap();
    for family in [Family::V4, Family::V6] {
        let request = Request::all(family).states([State::TimeWait]);
        let mut keep = |row: &Row<'_>| {
            found.insert(row.cookie(), row.local().port);
        };
        netlink.dump(&request, &mut keep).unwrap();
    }
    found
}

#[test]
fn every_socket_in_time_wait_is_noted_with_owner_closer_and_direction() {
    let name = "waiting::every_socket_in_time_wait_is_noted_with_owner_closer_and_direction";
    let Some(mut watch) = Watch::counting(name) else { return };
    let elsewhere = Elsewhere::begin(20_000..=22_000, &["lab"]);
    let changes = |port| elsewhere.as_ref().map_or(0, |trace| trace.changes(port));
    let unseen = || [20_000, 21_000, 22_000].map(changes).iter().sum::<u64>();
    let count = scaled(5_000);
    watch
        .netns
        .run(|| {
            let places = places(20_000);
            let listeners = places.map(|(_, place)| TcpListener::bind(place.listen).unwrap());
            for number in 0..count {
                let which = (number % 3) as usize;
                let client = TcpStream::connect(places[which].1.connect).unwrap();
                let (server, _) = listeners[which].accept().unwrap();
                let (first, second) = if number % 2 == 0 { (client, server) } else { (server, client) };
                drop(first);
                drain(&second);
            }
        })
        .unwrap();
    let netns = watch.netns.clone();
    let mut born = || {
        let flows = watch.picture().flows.into_iter();
        let here = flows.filter(|(inode, _)| u64::from(*inode) == netns.inode());
        here.map(|(_, flow)| flow.counts.time_wait).sum::<u64>()
    };
    until("TIME_WAIT", || born() + unseen() >= count);
    assert!(born() <= count);
    // A client does not know which ports the servers keep, and may choose one again: the new connection takes the old one's
    // place (RFC 9293 MAY-2).
    let dumped = netns.run(dump).unwrap();
    assert!((count * 9 / 10..=count).contains(&(dumped.len() as u64)), "{} of {count}", dumped.len());
    let picture = watch.picture();
    let mut directions = [0_u64; 2];
    let mut unnoted = 0;
    for (cookie, port) in &dumped {
        let incoming = [20_000, 21_000, 22_000].contains(port);
        directions[usize::from(incoming)] += 1;
        let Some(note) = picture.waiting.get(cookie) else {
            unnoted += 1;
            continue;
        };
        assert_eq!(note.direction, if incoming { Direction::Incoming } else { Direction::Outgoing });
        for number in [note.owner, note.closer] {
            assert_eq!(picture.people[&number].pid, Some(std::process::id()));
        }
    }
    // As many on either side, but for those.
    for (held, made) in directions.into_iter().zip([count.div_ceil(2), count / 2]) {
        assert!((made * 8 / 10..=made).contains(&held), "{directions:?} of {count}");
    }
    assert!(unnoted <= unseen(), "{unnoted} are not noted, {} elsewhere", unseen());
}

#[test]
fn where_there_may_be_no_more_none_is_counted() {
    let Some(mut watch) = Watch::start("waiting::where_there_may_be_no_more_none_is_counted") else { return };
    watch.netns.set("net.ipv4.tcp_max_tw_buckets", "3").unwrap();
    let there = watch
        .netns
        .run(|| {
            for _ in 0..8 {
                let pair = pair(place(20_000));
                drop(pair.client);
                drain(&pair.server);
            }
            dump()
        })
        .unwrap();
    let outgoing =
        Counts { connects: 8, aged: 8, closed_here: 8, time_wait: there.len() as u64, ..Counts::default() };
    let incoming = Counts { accepts: 8, aged: 8, closed_there: 8, ..Counts::default() };
    assert_eq!(there.len(), 3);
    watch.expect(&[Expected {
        name: "eight".to_owned(),
        port: 20_000,
        outgoing: Some(outgoing),
        incoming: Some(incoming),
    }]);
    let noted: HashSet<u64> = watch.picture().waiting.keys().copied().collect();
    let told = watch.events.iter().filter(|event| event.kind == Kind::TimeWait).map(|event| event.cookie);
    assert_eq!(told.collect::<HashSet<u64>>(), there.keys().copied().collect());
    assert!(there.keys().all(|cookie| noted.contains(cookie)));
}

#[test]
fn a_connection_in_place_of_time_wait_is_another() {
    let Some(mut watch) = Watch::start("waiting::a_connection_in_place_of_time_wait_is_another") else {
        return;
    };
    watch.netns.set("net.ipv4.ip_local_port_range", "40000 40000").unwrap();
    watch.netns.set("net.ipv4.tcp_tw_reuse", "1").unwrap();
    let [first, second] = watch
        .netns
        .run(|| {
            [0, 2_100].map(|patience| {
                // Until the kernel may take it (tcp_tw_reuse_delay; whole seconds before 6.14).
                thread::sleep(Duration::from_millis(patience));
                let pair = pair(place(20_000));
                drop(pair.client);
                drain(&pair.server);
                drop(pair.server);
                until("TIME_WAIT", || !dump().is_empty());
                dump()
            })
        })
        .unwrap();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert!(first.keys().all(|cookie| !second.contains_key(cookie)));
    let noted = watch.picture().waiting;
    assert!(first.keys().chain(second.keys()).all(|cookie| noted.contains_key(cookie)));
    assert_eq!(watch.counts(Direction::Outgoing, 20_000).time_wait, 2);
}

/// A timer that ends FIN_WAIT2 interrupts system calls that open and close connections on the same processor: one change of
/// state within the counting of another.
#[test]
fn what_interrupts_a_system_call_is_counted_too() {
    let Some(mut watch) = Watch::counting("waiting::what_interrupts_a_system_call_is_counted_too") else {
        return;
    };
    let count = u16::try_from(scaled(500)).unwrap();
    let elsewhere = Elsewhere::begin(20_000..=30_001, &["lab"]);
    let elsewhere = |port| elsewhere.as_ref().map_or(0, |trace| trace.changes(port));
    let over = Arc::new(AtomicBool::new(false));
    let churners = [30_000, 30_001].map(|port| {
        let over = Arc::clone(&over);
        let churn = move || {
            let listener = TcpListener::bind(place(port).listen).unwrap();
            while !over.load(Ordering::Relaxed) {
                let client = TcpStream::connect(place(port).connect).unwrap();
                linger_zero(&client);
                drop(client);
                drop(listener.accept());
            }
        };
        watch.netns.spawn(churn).unwrap()
    });
    let open = watch.netns.run(|| {
        let half_closed = (0..count).map(|_| {
            let pair = pair(place(20_000));
            // Above 60 s a timer of the full socket runs first, for what is above.
            set(&pair.client, libc::IPPROTO_TCP, libc::TCP_LINGER2, 61).unwrap();
            drop(pair.client);
            thread::sleep(Duration::from_millis(2));
            pair.server
        });
        half_closed.collect::<Vec<_>>()
    });
    let end = Instant::now() + Duration::from_secs(5);
    let all = |watch: &mut Watch| {
        let noted = watch.counts(Direction::Outgoing, 20_000).time_wait;
        noted <= u64::from(count) && noted + elsewhere(20_000) >= u64::from(count)
    };
    while !all(&mut watch) && Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
    }
    over.store(true, Ordering::Relaxed);
    for churner in churners {
        churner.join().unwrap();
    }
    drop(open);
    assert!(
        all(&mut watch),
        "{:?}, {} elsewhere",
        watch.counts(Direction::Outgoing, 20_000),
        elsewhere(20_000)
    );
    let churn = [30_000, 30_001].map(|port| {
        let client = watch.counts(Direction::Outgoing, port);
        let server = watch.counts(Direction::Incoming, port);
        let unseen = elsewhere(port);
        // A server may close before the reset is there.
        for other in [client.aborted_here, server.accepts, server.closed()] {
            assert!(client.connects.abs_diff(other) <= unseen, "{client:?} {server:?}, {unseen} elsewhere");
        }
        client.connects
    });
    assert!(churn.iter().all(|count| *count > 10), "{churn:?}");
}

/// More processes than processors, so that packets come in bursts: all of one go missing where the program that is to see
/// them is interrupted.
#[test]
fn bursts_within_a_system_call_are_noted_too() {
    let Some(mut watch) = Watch::counting("waiting::bursts_within_a_system_call_are_noted_too") else {
        return;
    };
    let over = Arc::new(AtomicBool::new(false));
    let burners = [(); 4].map(|()| {
        let over = Arc::clone(&over);
        thread::spawn(move || while !over.load(Ordering::Relaxed) {})
    });
    let count = scaled(5_000);
    let elsewhere = Elsewhere::begin(20_000..=20_000, &["lab", "lab-server"]);
    let (client, server) = Lab::new().pair().unwrap();
    let to = "10.77.0.2:20000".parse().unwrap();
    let _server = Server::start(&server, &[to], Policy::CloseAfterPeer).unwrap();
    let options =
        ChurnOptions { rate: None, count: Some(count), threads: Some(1), ..ChurnOptions::default() };
    let made = Path::between(&client, &server).to(to).churn(options).unwrap().wait().made;
    over.store(true, Ordering::Relaxed);
    for burner in burners {
        burner.join().unwrap();
    }
    thread::sleep(Duration::from_millis(200));
    let dumped = client.run(dump).unwrap();
    let noted = watch.picture().waiting;
    let unnoted = dumped.keys().filter(|cookie| !noted.contains_key(cookie)).count() as u64;
    let unseen = elsewhere.map_or(0, |trace| trace.changes(20_000));
    assert_eq!(made, count);
    assert!(unnoted <= unseen, "{unnoted} are not noted, {unseen} elsewhere");
    assert!(dumped.len() as u64 * 10 >= count * 9, "{} of {count} are there", dumped.len());
}
