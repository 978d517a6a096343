//! Groups of lingering sockets, from rows as the kernel sends them.

use std::collections::HashSet;

use tidewait_model::address::Address;
use tidewait_model::{Census, Listener};

use super::*;
use crate::owners::{Search, holders};
use crate::places::Scope;
use crate::sock_diag::Recording;
use crate::sock_diag::encode::{Socket, recording};
use crate::survey::Owners;

/// `struct tcp_info` as far as it is read, with the milliseconds since the last ACK.
fn info(last_ack_ms: u32) -> (u16, Vec<u8>) {
    let mut info = vec![0; 56];
    info.extend(last_ack_ms.to_ne_bytes());
    (2, info)
}

fn close_wait(number: u16, inode: u32, age: u32, unread: u32) -> Socket {
    Socket {
        inode,
        unread,
        cookie: u64::from(number) + 1,
        attributes: vec![(8, vec![3]), info(age)],
        ..Socket::new(State::CloseWait, "10.0.0.1:80", &format!("10.9.0.{}:{}", number % 7, 40_000 + number))
    }
}

/// What a look at these sockets gives, at a machine with a listener on port 80.
fn seen(sockets: &[Socket]) -> Close {
    let mut census = Census::default();
    for socket in sockets {
        census.states.add(socket.state, 1);
    }
    let local = Endpoint { address: Address::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0), port: 80 };
    census.listeners.push(Listener {
        local,
        sockets: 1,
        full: 0,
        queue: 0,
        limit: 9,
        still_full: None,
        owners: Vec::new(),
    });
    let facts = NamespaceFacts { census, ..NamespaceFacts::default() };
    let question = Question {
        root: "/".into(),
        scope: Scope::Auto,
        to: None,
        keep: 9,
        owners: Owners::Never,
        watch_for: None,
    };
    // The second dump, for IPv6, has nothing.
    let mut source = Recording::new([recording(sockets), recording(&[])].concat());
    look_at(&mut source, &question, &facts).unwrap()
}

#[test]
fn a_leak_is_one_group_with_ages_peers_and_what_was_not_read() {
    let mut sockets: Vec<Socket> = (0..40)
        .map(|number| close_wait(number, 1_000 + u32::from(number), 1_000 * u32::from(number) + 40_000, 1))
        .collect();
    sockets[0].unread = 0;
    sockets[1].unread = 101;
    sockets[2].timer = (2, 5_000);
    let groups = seen(&sockets).group(&Holders::default());
    assert_eq!(groups.len(), 1);
    let group = &groups[0];
    assert_eq!((group.state, group.held, group.owner.as_ref()), (State::CloseWait, true, None));
    assert_eq!((group.sockets, group.looked_at, group.peers_total), (40, 40, 7));
    let expected = Silence { shortest: 40.0, median: 60.0, longest: 79.0, last_minute: 20 };
    assert_eq!(group.silence, Some(expected));
    assert_eq!((group.unread_end, group.unread_data, group.unread_bytes), (38, 1, 100));
    assert_eq!((group.keepalive, group.retransmitting, group.zero_window), (1, 0, 0));
    assert_eq!(group.peers.len(), Lingering::PEERS);
    assert_eq!(group.peers[0].peer, "10.9.0.0");
    assert_eq!((group.peers[0].service.as_deref(), group.peers[0].sockets), (Some("0.0.0.0:80"), 6));
}

#[test]
fn orphans_and_silent_peers_are_groups_of_their_own() {
    let socket = |state, number: u16, inode, timer, retransmits| Socket {
        inode,
        timer,
        retransmits,
        cookie: u64::from(number) + 1,
        // What the kernel says in SYN_SENT is no age: since its own beginning.
        attributes: vec![(8, vec![0]), info(12_064_040)],
        ..Socket::new(state, &format!("10.0.0.1:{}", 40_000 + number), "10.9.0.1:443")
    };
    let sockets: Vec<Socket> = (0..25)
        .map(|number| socket(State::SynSent, number, 500 + u32::from(number), (1, 700), 3))
        .chain((25..50).map(|number| socket(State::FinWait1, number, 0, (1, 90), (number - 25) as u8)))
        .chain((50..75).map(|number| socket(State::LastAck, number, 0, (4, 90), 9)))
        .chain((75..96).map(|number| Socket {
            attributes: vec![],
            ..socket(State::FinWait2, number, 0, (3, 59_000), 0)
        }))
        .collect();
    let groups = seen(&sockets).group(&Holders::default());
    let of = |state| groups.iter().find(|group| group.state == state).unwrap();
    assert_eq!(groups.len(), 4);
    let syn = of(State::SynSent);
    assert_eq!((syn.held, syn.silence, syn.retransmitting, syn.retransmits_max), (true, None, 25, 3));
    assert_eq!((syn.peers[0].peer.as_str(), syn.peers[0].service.as_deref()), ("10.9.0.1:443", None));
    let fin = of(State::FinWait1);
    assert_eq!((fin.held, fin.retransmitting, fin.retransmits_max, fin.zero_window), (false, 24, 24, 0));
    let last = of(State::LastAck);
    assert_eq!((last.zero_window, last.retransmitting, last.retransmits_max), (25, 0, 0));
    assert_eq!((of(State::FinWait2).held, of(State::FinWait2).silence), (false, None));
}

#[test]
fn few_sockets_in_a_state_are_left_alone() {
    let sockets: Vec<Socket> = (0..19).map(|number| close_wait(number, 7, 1, 1)).collect();
    let mut facts = NamespaceFacts::default();
    facts.census.states.add(State::CloseWait, 19);
    facts.census.states.add(State::TimeWait, 100_000);
    facts.census.states.add(State::Established, 100_000);
    assert!(!is_worth_a_look(&facts));
    facts.census.states.add(State::CloseWait, 1);
    assert!(is_worth_a_look(&facts));
    assert_eq!(seen(&sockets).group(&Holders::default()), []);
}

#[test]
fn holders_are_searched_for_what_is_old_or_many() {
    let sockets = |count: u16, inode, age| {
        (0..count).map(|number| close_wait(number, inode, age, 1)).collect::<Vec<_>>()
    };
    assert!(!seen(&sockets(30, 7, 2_499)).is_worth_a_search());
    assert!(seen(&sockets(30, 7, 2_500)).is_worth_a_search());
    assert!(seen(&sockets(100, 7, 1)).is_worth_a_search());
    assert!(!seen(&sockets(100, 0, 60_000)).is_worth_a_search(), "orphans have no holder");
}

#[test]
fn past_the_bound_sockets_are_counted_only() {
    let mut close = Close::default();
    let socket = close_wait(1, 77, 5, 1).payload();
    let row = Row::read(&socket).unwrap();
    for _ in 0..CLOSELY + 10 {
        // The same cookie again would be taken for a repetition.
        close.repeats = Repeats::default();
        close.add(State::CloseWait, &row, &Listeners::default(), &Ports::default());
    }
    assert_eq!(close.inodes().collect::<HashSet<_>>(), HashSet::from([77]));
    let groups = close.group(&Holders::default());
    assert_eq!(groups.len(), 1);
    assert_eq!((groups[0].sockets, groups[0].looked_at), (CLOSELY as u64 + 10, CLOSELY as u64));
}

#[test]
fn each_owner_has_a_group_and_the_unknown_have_one_together() {
    let root = tempfile::tempdir().unwrap();
    for (pid, command, inodes) in [(10, "java", 0..15), (11, "php", 15..20), (12, "php", 20..25)] {
        let process = root.path().join(format!("proc/{pid}"));
        std::fs::create_dir_all(process.join("fd")).unwrap();
        std::fs::write(process.join("comm"), command).unwrap();
        for inode in inodes {
            std::os::unix::fs::symlink(
                format!("socket:[{}]", 1_000 + inode),
                process.join(format!("fd/{inode}")),
            )
            .unwrap();
        }
    }
    let sockets: Vec<Socket> =
        (0..28).map(|number| close_wait(number, 1_000 + u32::from(number), 50, 1)).collect();
    let close = seen(&sockets);
    let search = Search { wanted: close.inodes().collect(), connected: None };
    let groups = close.group(&holders(root.path(), &search));
    let told: Vec<_> = groups
        .iter()
        .map(|group| {
            let owner = group.owner.as_ref();
            (owner.map(|owner| (owner.command.as_str(), owner.pid)), group.sockets)
        })
        .collect();
    assert_eq!(told, [(Some(("java", Some(10))), 15), (Some(("php", None)), 10), (None, 3)]);
    assert_eq!(groups[0].owner.as_ref().unwrap().share, 15.0 / 28.0);
}
