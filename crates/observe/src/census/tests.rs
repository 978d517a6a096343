//! The fold against a plain list, its bounds, and which side a connection counts for.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use tidewait_model::PortRange;

use super::*;
use crate::sock_diag::encode::Socket;

const RANGE: PortRange = PortRange { low: 32_768, high: 60_999 };

fn fold(sockets: &[Socket]) -> Census {
    fold_keeping(sockets, 1_000)
}

fn fold_keeping(sockets: &[Socket], keep: usize) -> Census {
    let mut builder = Builder::new(Ports::of(Some(RANGE)));
    for (socket, cookie) in sockets.iter().zip(1..) {
        let cookie = if socket.cookie == 0 { cookie } else { socket.cookie };
        let payload = Socket { cookie, ..socket.clone() }.payload();
        builder.add(&Row::read(&payload).unwrap());
    }
    builder.finish(keep)
}

#[test]
fn a_row_given_twice_counts_once() {
    let one = Socket { cookie: 7, ..Socket::time_wait("10.0.0.5:40000", "10.0.2.9:80", 30_000) };
    let census = fold(&[one.clone(), one.clone(), one]);
    assert_eq!(census.states[State::TimeWait], 1);
    assert_eq!(census.repeated, 2);
    assert_eq!(census.destinations[0].occupancy.expiring[30], 1);
}

#[test]
fn what_came_in_to_a_listener_costs_no_ports() {
    let census = fold(&[
        Socket::new(State::Listen, "0.0.0.0:443", "0.0.0.0:0"),
        Socket::time_wait("10.0.0.5:443", "10.0.9.1:50000", 30_000),
        Socket::time_wait("10.0.0.5:443", "10.0.9.2:50000", 59_000),
        Socket::new(State::Established, "10.0.0.5:443", "10.0.9.2:50001"),
        Socket::time_wait("10.0.0.5:40000", "10.0.2.9:443", 30_000),
    ]);
    assert_eq!(census.destinations.len(), 1);
    assert_eq!(census.destinations[0].peer.to_string(), "10.0.2.9:443");
    let service = &census.incoming[0];
    assert_eq!((service.local.to_string().as_str(), service.listening), ("0.0.0.0:443", true));
    assert_eq!((service.states[State::TimeWait], service.states.total()), (2, 3));
    assert!(census.bound.contains(443));
}

#[test]
fn a_listener_inside_the_range_is_bound_and_its_connections_are_incoming() {
    let census = fold(&[
        Socket::new(State::Listen, "10.0.0.5:40000", "0.0.0.0:0"),
        Socket::new(State::Established, "10.0.0.5:40000", "10.0.9.1:50000"),
        // The same port on another address is not that listener's.
        Socket::new(State::Established, "10.0.0.6:40000", "10.0.9.1:50000"),
    ]);
    assert_eq!(census.incoming[0].states.total(), 1);
    assert_eq!(census.destinations[0].source.to_string(), "10.0.0.6");
    assert!(census.bound.contains(40_000));
}

#[test]
fn connections_of_a_listener_that_has_closed_are_still_incoming() {
    let outside: Vec<Socket> = (0..100)
        .map(|n| Socket::time_wait("10.0.0.5:8080", &format!("10.0.9.1:{}", 40_000 + n), 9_000))
        .collect();
    let census = fold(&outside);
    assert_eq!((census.destinations.len(), census.incoming[0].states.total()), (0, 100));
    assert!(!census.incoming[0].listening);

    // Inside the range: one local port, many remote ports, beside a client's even use of its ports.
    let mut sockets: Vec<Socket> = (0..200)
        .map(|n| Socket::time_wait("10.0.0.5:50001", &format!("10.0.9.1:{}", 40_000 + n), 9_000))
        .collect();
    sockets.extend((0..500_u16).map(|n| {
        Socket::time_wait(
            &format!("10.0.0.5:{}", 33_000 + 2 * n),
            &format!("10.0.7.{}:{}", n % 250, 1_000 + n),
            9_000,
        )
    }));
    let census = fold(&sockets);
    assert_eq!(census.destinations.len(), 500);
    assert_eq!(census.incoming[0].local.to_string(), "10.0.0.5:50001");
    assert!(census.bound.contains(50_001));
    assert_eq!(census.sources[0].occupancy.states.total(), 500);
    assert_eq!(census.sources[0].parity, [500, 0]);
}

#[test]
fn what_is_steered_went_out_to_whatever_port() {
    let sockets = [
        Socket::new(State::Listen, "0.0.0.0:22300", "0.0.0.0:0"),
        // From a steered port to one that looks like a client's.
        Socket::time_wait("10.0.0.5:22268", "10.0.2.9:40000", 30_000),
        Socket::new(State::Established, "10.0.0.5:61001", "10.0.2.9:40000"),
        // A service that has closed, and a client elsewhere.
        Socket::time_wait("10.0.0.5:8080", "10.0.9.1:40000", 30_000),
        // A listener on a steered port.
        Socket::time_wait("10.0.0.5:22300", "10.0.9.1:40001", 30_000),
        // The other end of a connection of this machine to itself, from a steered port.
        Socket::time_wait("10.0.0.5:81", "10.0.0.5:22270", 30_000),
    ];
    let told = |steered: PortSet| {
        let mut builder = Builder::new(Ports { range: Some(RANGE), steered });
        for (socket, cookie) in sockets.iter().zip(1..) {
            builder.add(&Row::read(&Socket { cookie, ..socket.clone() }.payload()).unwrap());
        }
        let census = builder.finish(10);
        let mut incoming: Vec<u16> = census.incoming.iter().map(|service| service.local.port).collect();
        incoming.sort_unstable();
        let outgoing = census.destinations.iter().map(|to| (to.peer.port, to.occupancy.ports.len()));
        (outgoing.collect::<Vec<_>>(), incoming)
    };
    let steered: PortSet = (22_268..=29_999).chain(61_000..=65_535).collect();
    assert_eq!(told(steered), (vec![(40_000, 2)], vec![81, 8_080, 22_300]));
    assert_eq!(told(PortSet::default()), (vec![(22_270, 1)], vec![8_080, 22_268, 22_300, 61_001]));
}

#[test]
fn a_client_on_a_mapped_address_shares_the_ipv4_destination() {
    let census = fold(&[
        Socket::time_wait("10.0.0.5:40000", "10.0.2.9:80", 1_000),
        Socket::time_wait("[::ffff:10.0.0.5]:40002", "[::ffff:10.0.2.9]:80", 2_000),
    ]);
    assert_eq!(census.destinations.len(), 1);
    assert_eq!(census.destinations[0].occupancy.ports.len(), 2);
}

#[test]
fn a_million_destinations_are_folded_and_the_big_one_stands_out() {
    let mut builder = Builder::new(Ports::of(Some(RANGE)));
    let mut cookie = 0_u64;
    let mut add = |local: String, remote: String| {
        cookie += 1;
        let payload = Socket { cookie, ..Socket::time_wait(&local, &remote, 30_000) }.payload();
        builder.add(&Row::read(&payload).unwrap());
    };
    for n in 0..200_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        add(format!("10.0.0.5:{}", 32_768 + (n % 14_000) * 2), format!("11.{a}.{b}.{c}:443"));
        if n.is_multiple_of(50) {
            add(format!("10.0.0.5:{}", 32_768 + n / 50), "10.0.2.9:80".to_owned());
        }
    }
    let census = builder.finish(10);
    assert_eq!(census.states.total(), 204_000);
    let big = &census.destinations[0];
    assert_eq!(big.peer.to_string(), "10.0.2.9:80");
    let lost = 4_000 - big.occupancy.states.total();
    assert!(lost <= census.folded.missing_at_most, "{lost} lost, {}", census.folded.missing_at_most);
    assert!(census.folded.entries > 0 && census.destinations.len() == 10);
}

#[test]
fn destinations_that_hold_an_eighth_of_the_range_are_listed_whatever_the_number_asked_for() {
    let sockets: Vec<Socket> = (0..8_000_u16)
        .map(|n| {
            Socket::time_wait(&format!("10.0.0.5:{}", 33_000 + n / 2), &format!("10.0.2.9:{}", 80 + n % 2), 1)
        })
        .collect();
    assert_eq!(fold_keeping(&sockets, 1).destinations.len(), 2);
}

prop_compose! {
    fn any_socket()(
        port in 32_700_u16..32_900, source in 1_u8..4, peer in 1_u8..4, peer_port in 80_u16..83,
        ms in 0_u32..60_001, time_wait in any::<bool>(),
    ) -> Socket {
        let (local, remote) = (format!("10.0.0.{source}:{port}"), format!("10.0.2.{peer}:{peer_port}"));
        if time_wait { Socket::time_wait(&local, &remote, ms) } else { Socket::new(State::Established, &local, &remote) }
    }
}

proptest! {
    #[test]
    fn the_fold_agrees_with_a_plain_list(sockets in proptest::collection::vec(any_socket(), 0..3_000)) {
        let census = fold(&sockets);
        let mut plain: BTreeMap<(IpPort, IpPort), Held> = BTreeMap::new();
        for socket in &sockets {
            let entry = plain.entry(((socket.local.0, 0), socket.remote)).or_default();
            entry.0 += 1;
            entry.1.insert(socket.local.1);
            if socket.state == State::TimeWait {
                *entry.2.entry(socket.timer.1 / 1_000).or_default() += 1;
            }
        }
        prop_assert_eq!(census.states.total(), sockets.len() as u64);
        prop_assert_eq!(census.destinations.len(), plain.len());
        for destination in &census.destinations {
            let key = ((destination.source.ip, 0), (destination.peer.address.ip, destination.peer.port));
            let (count, ports, expiring) = &plain[&key];
            let held = &destination.occupancy;
            prop_assert_eq!(held.states.total(), *count);
            prop_assert!(held.ports.iter().eq(ports.iter().copied()));
            let seen: BTreeMap<u32, u32> = held.expiring.iter().copied().enumerate()
                .filter(|(_, count)| *count > 0).map(|(second, count)| (second as u32, count)).collect();
            prop_assert_eq!(&seen, expiring);
        }
        for source in &census.sources {
            let count = sockets.iter().filter(|socket| socket.local.0 == source.address.ip).count();
            prop_assert_eq!(source.occupancy.states.total(), count as u64);
        }
    }
}

type IpPort = (std::net::IpAddr, u16);
/// Sockets, their ports, and those in TIME_WAIT by seconds left.
type Held = (u64, BTreeSet<u16>, BTreeMap<u32, u32>);
