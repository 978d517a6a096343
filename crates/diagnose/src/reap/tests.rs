//! Tables of looks and what follows from them.

use tidewait_model::reap::Reapable;
use tidewait_model::{Endpoint, Settings};

use super::*;

const KERNEL: &str = "6.12.0";
const RANGE: PortRange = PortRange { low: 32_768, high: 33_767 };

fn end(text: &str) -> Endpoint {
    let address: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { address: address.ip().into(), port: address.port() }
}

fn group(peer: &str) -> Group {
    Group::Outgoing { source: end("10.0.0.1:1").address, peer: end(peer) }
}

/// Groups that use these ports, and sockets of them by (group, age); the key is the place in the list.
fn look(groups: &[(Group, Vec<u16>)], waiting: &[(u32, u32)]) -> Look<usize> {
    Look {
        groups: groups
            .iter()
            .map(|(group, ports)| Found { group: *group, ports: ports.iter().copied().collect() })
            .collect(),
        waiting: waiting
            .iter()
            .enumerate()
            .map(|(key, (group, age_ms))| Waiting { group: *group, port: RANGE.low, age_ms: *age_ms, key })
            .collect(),
        bound: PortSet::default(),
    }
}

fn even(count: u16) -> Vec<u16> {
    (0..count).map(|place| RANGE.low + 2 * place).collect()
}

fn odd(count: u16) -> Vec<u16> {
    (0..count).map(|place| RANGE.low + 1 + 2 * place).collect()
}

fn pressure(reserved: &PortSet, share: f64) -> Pressure<'_> {
    Pressure { range: RANGE, reserved, kernel: KERNEL, share, pause_ms: 0 }
}

fn keys(schedule: &Schedule<usize>) -> Vec<usize> {
    schedule.due.iter().map(|due| due.key).collect()
}

#[test]
fn each_socket_ends_when_it_is_old_enough_and_the_next_look_is_no_earlier_than_a_new_one_can_be() {
    let looked = look(&[(group("10.0.0.2:80"), vec![])], &[(0, 4_000), (0, 61_000), (0, 0), (0, 5_000)]);
    let mut schedule = by_age(looked, 1_000, 5_000, &1_000, false);
    let when: Vec<(u64, usize)> = schedule.due.iter().map(|due| (due.at_ms, due.key)).collect();
    // Of those that are due at once the oldest first.
    assert_eq!(when, [(1_000, 1), (1_000, 3), (2_000, 0), (6_000, 2)]);
    assert_eq!((schedule.look_ms, schedule.oldest_ms), (6_000, Some(4_000)));
    assert_eq!(schedule.take(1_999, 9).count(), 2);
    assert_eq!(schedule.next_ms(), Some(2_000));
    assert_eq!(schedule.take(9_999, 1).map(|due| due.key).collect::<Vec<_>>(), [0]);
    assert_eq!(schedule.due.len(), 1);
}

#[test]
fn what_is_due_after_the_next_look_is_left_to_it() {
    let looked = look(&[(group("10.0.0.2:80"), vec![])], &[(0, 1_000), (0, 29_000)]);
    let schedule = by_age(looked, 0, 30_000, &1_000, false);
    assert_eq!((keys(&schedule), schedule.look_ms), (vec![1], LONGEST_MS));
}

/// 20 s for port 443, 1 s for the rest.
struct Studied;

impl Floors for Studied {
    fn of(&self, group: &Group) -> u32 {
        if group.end().1.port == 443 { 20_000 } else { 1_000 }
    }
}

#[test]
fn a_floor_keeps_the_sockets_of_its_destination_and_counts_them() {
    let groups = [(group("10.0.0.2:80"), vec![]), (group("10.0.0.2:443"), vec![])];
    let waiting = [(0, 6_000), (1, 6_000), (1, 19_000), (1, 20_000), (1, 3_000)];
    let schedule = by_age(look(&groups, &waiting), 0, 5_000, &Studied, false);
    let when: Vec<(u64, usize)> = schedule.due.iter().map(|due| (due.at_ms, due.key)).collect();
    assert_eq!(when, [(0, 3), (0, 0), (1_000, 2)]);
    assert_eq!(schedule.held, [0, 2]);
}

#[test]
fn what_may_come_to_life_again_is_looked_at_anew_when_it_is_due() {
    let groups = [(group("10.0.0.2:80"), even(4))];
    for (young, look_ms) in [(2_000, 3_000), (4_900, 1_000), (0, 5_000)] {
        let schedule = by_age(look(&groups, &[(0, young), (0, 5_000)]), 0, 5_000, &1_000, true);
        assert_eq!((keys(&schedule), schedule.look_ms), (vec![1], look_ms), "{young}");
    }
}

#[test]
fn pressure_ends_the_oldest_of_a_destination_above_its_share_and_nothing_of_others() {
    let none = PortSet::default();
    // 500 of 1000 ports against 200; nothing was born within the last second.
    let mut waiting: Vec<(u32, u32)> = (0..500).map(|place| (0, 2_000 + place * 100)).collect();
    waiting.extend((0..200).map(|_| (1, 59_000)));
    let groups = [(group("10.0.0.2:80"), even(500)), (group("10.0.0.3:80"), even(200))];
    let schedule = by_pressure(look(&groups, &waiting), 0, &pressure(&none, 0.45), &1_000);
    let mut ended = keys(&schedule);
    ended.sort_unstable();
    assert_eq!(ended, (450..500).collect::<Vec<_>>());
    assert_eq!((schedule.held.as_slice(), schedule.look_ms), ([0, 0].as_slice(), LONGEST_MS));
    assert_eq!(schedule.oldest_ms, Some(59_000));
    assert_eq!(schedule.accounts[0], Some(Account { usable: 1_000, used: 500 }));
}

#[test]
fn growth_is_relieved_before_the_share_is_exceeded_and_lasts_until_the_next_look() {
    let none = PortSet::default();
    // 440 of 450 allowed, 100 born in the last second: exceeded within a quarter of a second.
    let waiting: Vec<(u32, u32)> =
        (0..440).map(|place| (0, if place < 100 { 500 } else { 5_000 + place })).collect();
    let groups = [(group("10.0.0.2:80"), even(440))];
    let schedule = by_pressure(look(&groups, &waiting), 0, &pressure(&none, 0.45), &1_000);
    // Down to 450 - 125; at 100 a second it reaches 425, where the next look relieves it again, after a second.
    assert_eq!((schedule.due.len(), schedule.look_ms), (115, 1_000));
    assert!(keys(&schedule).iter().all(|key| *key >= 325), "the oldest go");
}

#[test]
fn what_grows_is_looked_at_before_it_is_too_much() {
    let none = PortSet::default();
    let waiting: Vec<(u32, u32)> = (0..200).map(|_| (0, 500)).collect();
    let schedule =
        by_pressure(look(&[(group("10.0.0.2:80"), even(200))], &waiting), 50, &pressure(&none, 0.45), &1_000);
    // 250 free up to the limit at 200 a second, and a quarter of a second ahead.
    assert_eq!((schedule.due.len(), schedule.look_ms), (0, 50 + 1_000));
}

#[test]
fn pressure_never_ends_what_is_younger_than_its_floor() {
    let none = PortSet::default();
    let waiting: Vec<(u32, u32)> = (0..600).map(|place| (0, if place < 10 { 1_500 } else { 900 })).collect();
    let groups = [(group("10.0.0.2:80"), [even(500), odd(100)].concat())];
    let schedule = by_pressure(look(&groups, &waiting), 0, &pressure(&none, 0.45), &1_000);
    let mut ended = keys(&schedule);
    ended.sort_unstable();
    assert_eq!(ended, (0..10).collect::<Vec<_>>());
    // 150 too many, and relief for twice a quarter of the limit at most; 10 could go.
    assert_eq!((schedule.held[0], schedule.look_ms), (150 + 225 - 10, SHORTEST_MS));
}

#[test]
fn live_connections_count_and_stay() {
    let none = PortSet::default();
    // 500 ports in use, of which 5 wait.
    let waiting: Vec<(u32, u32)> = (0..5).map(|_| (0, 30_000)).collect();
    let groups = [(group("10.0.0.2:80"), even(500))];
    let schedule = by_pressure(look(&groups, &waiting), 0, &pressure(&none, 0.45), &1_000);
    assert_eq!(schedule.due.len(), 5);
}

#[test]
fn reserved_and_bound_ports_are_none_that_may_be_used() {
    let reserved: PortSet = (RANGE.low + 500..=RANGE.high).collect();
    let waiting: Vec<(u32, u32)> = (0..240).map(|_| (0, 30_000)).collect();
    let mut looked = look(&[(group("10.0.0.2:80"), even(240))], &waiting);
    looked.bound = [RANGE.low + 1, RANGE.low + 3, 80].into_iter().collect();
    let schedule = by_pressure(looked, 0, &pressure(&reserved, 0.45), &1_000);
    // 45 % of 498.
    assert_eq!(schedule.accounts[0], Some(Account { usable: 498, used: 240 }));
    assert_eq!(schedule.due.len(), 240 - 224);
}

#[test]
fn ports_that_bind_chose_are_one_pool_for_all_destinations_of_the_address() {
    let none = PortSet::default();
    let halves = odd(500);
    let (first, second) = halves.split_at(250);
    let groups = [(group("10.0.0.2:80"), first.to_vec()), (group("10.0.0.3:80"), second.to_vec())];
    let waiting: Vec<(u32, u32)> =
        (0..500).map(|place| (u32::from(place >= 250), 2_000 + place * 10)).collect();
    let schedule = by_pressure(look(&groups, &waiting), 0, &pressure(&none, 0.45), &1_000);
    let mut ended = keys(&schedule);
    ended.sort_unstable();
    assert_eq!(ended, (450..500).collect::<Vec<_>>());
}

#[test]
fn connections_that_came_in_are_under_no_pressure() {
    let none = PortSet::default();
    let service = Group::Incoming { service: end("10.0.0.1:80") };
    let waiting: Vec<(u32, u32)> = (0..900).map(|_| (0, 30_000)).collect();
    let schedule = by_pressure(look(&[(service, even(500))], &waiting), 0, &pressure(&none, 0.1), &1_000);
    assert_eq!((schedule.due.len(), schedule.look_ms), (0, LONGEST_MS));
}

fn advice(settings: &[(&str, &str)], groups: &[(Group, Vec<u16>)]) -> Vec<String> {
    let mut all = Settings::default();
    all.0.insert("net.ipv4.ip_local_port_range".to_owned(), "32768 33767".to_owned());
    for (name, value) in settings {
        all.0.insert(format!("net.ipv4.{name}"), (*value).to_owned());
    }
    let look = look(groups, &[]);
    let states = [Reapable::TimeWait];
    notes(&Scene { settings: &all, kernel: KERNEL, groups: &look.groups, states: &states })
}

#[test]
fn the_safer_way_is_named_where_it_is_one() {
    let far = [(group("10.0.0.2:80"), even(100))];
    let near = [(group("127.0.0.1:80"), even(100))];
    let bound = [(group("10.0.0.2:80"), odd(100))];
    let command = "tidewait tune plan --setting net.ipv4.tcp_tw_reuse=1";
    for (settings, groups, words) in [
        (&[("tcp_tw_reuse", "0"), ("tcp_timestamps", "1")], &far, command),
        (&[("tcp_tw_reuse", "2"), ("tcp_timestamps", "1")], &far, command),
        (&[("tcp_tw_reuse", "2"), ("tcp_timestamps", "1")], &near, "on the loopback"),
        (&[("tcp_tw_reuse", "1"), ("tcp_timestamps", "1")], &far, "is 1"),
        (&[("tcp_tw_reuse", "0"), ("tcp_timestamps", "0")], &far, "tcp_timestamps is 0"),
    ] {
        let notes = advice(settings, groups);
        assert!(notes.len() == 1 && notes[0].contains(words), "{settings:?}: {notes:?}");
    }
    let notes = advice(&[("tcp_tw_reuse", "0")], &bound);
    assert!(notes.len() == 2 && notes[1].contains("IP_BIND_ADDRESS_NO_PORT"), "{notes:?}");
}

#[test]
fn what_keeping_a_share_leaves_alone_is_said_where_it_is_most() {
    let beside = |count: u16| (RANGE.high + 1..=RANGE.high + count).collect::<Vec<u16>>();
    let mixed = [even(100), beside(20)].concat();
    let note = |groups: &[(Group, Vec<u16>)]| beside_range(&look(groups, &[]).groups, RANGE);
    assert_eq!(note(&[(group("10.0.0.2:80"), even(100)), (group("10.0.0.3:80"), mixed)]), None);
    let words = note(&[(group("10.0.0.2:80"), beside(50)), (group("10.0.0.3:80"), beside(90))]).unwrap();
    assert!(words.starts_with("10.0.0.1 -> 10.0.0.3:80: 90 of the 90 ports"), "{words}");
}

#[test]
fn sockets_on_other_ports_than_those_of_the_range_are_no_relief() {
    let none = PortSet::default();
    // The older half is steered, on ports beside the range.
    let waiting: Vec<(u32, u32)> = (0..200).map(|place| (0, 30_000 - 100 * place)).collect();
    let mut looked = look(&[(group("10.0.0.2:80"), even(500))], &waiting);
    looked.waiting.iter_mut().take(100).for_each(|socket| socket.port = RANGE.high + 1);
    let schedule = by_pressure(looked, 0, &pressure(&none, 0.45), &1_000);
    assert!(
        !schedule.due.is_empty() && schedule.due.iter().all(|due| due.key >= 100),
        "{:?}",
        keys(&schedule)
    );
    assert_eq!(schedule.oldest_ms, Some(30_000));
}

#[test]
fn relief_lasts_until_it_can_be_looked_again() {
    let none = PortSet::default();
    let waiting: Vec<(u32, u32)> = (0..400).map(|place| (0, 10 * place)).collect();
    let groups = [(group("10.0.0.2:80"), even(400))];
    let at_once = by_pressure(look(&groups, &waiting), 0, &pressure(&none, 0.45), &1_000);
    let slow = Pressure { pause_ms: 800, ..pressure(&none, 0.45) };
    let slowly = by_pressure(look(&groups, &waiting), 0, &slow, &1_000);
    assert!(slowly.due.len() > at_once.due.len(), "{} and {}", slowly.due.len(), at_once.due.len());
}
