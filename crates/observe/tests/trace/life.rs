//! Tracers that begin and end, several at once, and what is left of them.

use std::collections::HashSet;
use std::net::TcpStream;
use std::time::Duration;

use tidewait_lab::{NetNs, scaled};
use tidewait_model::trace::Direction;
use tidewait_observe::trace::{Picture, Tracer, Wish};

use super::sockets::{drain, pair, until};
use super::watch::{places, turn, wish};

/// A connection that its client closes.
fn connection(netns: &NetNs) {
    netns
        .run(|| {
            let pair = pair(places(20_000)[0].1);
            drop::<TcpStream>(pair.client);
            drain(&pair.server);
        })
        .unwrap();
}

fn born(netns: &NetNs, picture: &Picture) -> u64 {
    let here = picture
        .flows
        .iter()
        .filter(|(inode, flow)| u64::from(*inode) == netns.inode() && flow.direction == Direction::Outgoing);
    here.map(|(_, flow)| flow.counts.time_wait).sum()
}

/// The numbers that the kernel gave to programs, maps and links which this process holds.
fn held() -> HashSet<(&'static str, u32)> {
    let mut held = HashSet::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap() {
        let Ok(text) = std::fs::read_to_string(entry.unwrap().path()) else { continue };
        for kind in ["prog_id", "map_id", "link_id"] {
            let value = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
            if let Some(number) = value.and_then(|value| value.trim().parse().ok()) {
                held.insert((kind, number));
            }
        }
    }
    held
}

/// Those of all BPF objects of the machine.
#[cfg(feature = "bpf")]
fn alive() -> HashSet<(&'static str, u32)> {
    use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};
    let mut all = HashSet::new();
    all.extend(ProgInfoIter::default().map(|program| ("prog_id", program.id)));
    all.extend(MapInfoIter::default().map(|map| ("map_id", map.id)));
    all.extend(LinkInfoIter::default().map(|link| ("link_id", link.id)));
    all
}

#[cfg(not(feature = "bpf"))]
fn alive() -> HashSet<(&'static str, u32)> {
    HashSet::new()
}

#[test]
fn a_tracer_that_is_dropped_leaves_nothing_however_often() {
    let Some(_turn) = turn("life::a_tracer_that_is_dropped_leaves_nothing_however_often") else { return };
    let netns = NetNs::new().unwrap();
    let before = held();
    for _ in 0..scaled(20).max(3) {
        let mut tracer = Tracer::start(&wish(&netns)).unwrap();
        connection(&netns);
        until("TIME_WAIT", || born(&netns, &tracer.picture().unwrap()) == 1);
        let during: HashSet<_> = held().difference(&before).copied().collect();
        assert!(during.iter().any(|(kind, _)| *kind == "prog_id"), "{during:?}");
        assert!(during.is_subset(&alive()));
        drop(tracer);
        assert_eq!(held(), before);
        // The kernel frees them when nobody can be running them any more.
        until("programs, maps and links to go", || alive().is_disjoint(&during));
    }
}

#[test]
fn two_tracers_count_each_for_itself() {
    let Some(_turn) = turn("life::two_tracers_count_each_for_itself") else { return };
    let netns = NetNs::new().unwrap();
    let mut first = Tracer::start(&wish(&netns)).unwrap();
    connection(&netns);
    let mut second = Tracer::start(&Wish { events: None, ..wish(&netns) }).unwrap();
    connection(&netns);
    until("TIME_WAIT", || born(&netns, &first.picture().unwrap()) == 2);
    until("TIME_WAIT", || born(&netns, &second.picture().unwrap()) == 1);
    drop(first);
    connection(&netns);
    until("TIME_WAIT", || born(&netns, &second.picture().unwrap()) == 2);
    // Nothing was asked to be told.
    second.poll(Duration::ZERO, &mut |event| panic!("{event:?}")).unwrap();
}
