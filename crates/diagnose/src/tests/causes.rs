//! What is told as a consequence of what, and what stands alone; many alike.

use tidewait_model::machine::Process;
use tidewait_model::report::Severity::{Critical, Notice};
use tidewait_model::{Destination, Lingering, PortRange};

use super::*;

/// Every id that is told, as a finding or as a consequence of one.
fn all(findings: &[Finding]) -> Vec<&str> {
    let consequences = findings.iter().flat_map(|finding| &finding.consequences).map(|told| told.id.as_str());
    findings.iter().map(|finding| finding.id.as_str()).chain(consequences).collect()
}

fn leaking_server(leaked: u64, process: Process, queue: u32) -> Vec<Finding> {
    let mut facts = host();
    facts.lingering = vec![held(State::CloseWait, leaked)];
    facts.census.listeners = vec![listener("0.0.0.0:80", queue, 128)];
    counted(&mut facts, &[("TcpExt.ListenOverflows", 5)]);
    findings(&seen(vec![facts], Machine { processes: vec![process], ..Machine::default() }))
}

#[test]
fn a_leak_leads_to_the_descriptor_limit_and_that_to_a_full_accept_queue() {
    let found = leaking_server(800, process("app", 7, 1_024, 1_024), 129);
    let finding = only(&found);
    assert_eq!((finding.id.as_str(), finding.severity), ("close-wait-leak", Critical));
    assert_eq!(all(&found), ["close-wait-leak", "fd-limit-near", "accept-queue-overflow"]);
    assert!(
        finding.evidence.iter().any(|text| text.contains("78 % of the descriptors")),
        "{:?}",
        finding.evidence
    );
    assert!(finding.evidence.iter().any(|text| text.contains("EMFILE")), "{:?}", finding.evidence);
}

#[test]
fn what_only_coincides_stands_alone() {
    // The leak is a small part of the descriptors.
    let found = leaking_server(30, process("app", 7, 1_024, 1_024), 10);
    assert_eq!(told(&found), [("fd-limit-near", Critical), ("close-wait-leak", Notice)]);
    // Another process is at its limit.
    let found = leaking_server(800, process("other", 8, 1_024, 1_024), 10);
    assert_eq!(found.len(), 2);
    // Descriptors are left, so that they are not why nobody accepts.
    let found = leaking_server(30, process("app", 7, 980, 1_024), 129);
    assert!(found.iter().any(|finding| finding.id == "accept-queue-overflow"));
}

#[test]
fn workers_of_one_program_are_one_program() {
    let mut facts = host();
    let mut full = listener("0.0.0.0:80", 129, 128);
    full.owners[0].pid = None;
    facts.census.listeners = vec![full];
    let machine = Machine { processes: vec![process("app", 7, 1_024, 1_024)], ..Machine::default() };
    let found = findings(&seen(vec![facts], machine));
    assert_eq!(only(&found).consequences[0].id, "accept-queue-overflow");
}

#[test]
fn sockets_that_hold_most_of_the_ports_are_the_cause_of_their_lack() {
    for (leaked, live, leads) in [(28_232, 0, true), (14_200, 14_032, true), (13_000, 15_232, false)] {
        let range = PortRange { low: 32_768, high: 60_999 };
        let mut row: Destination = ports::destination("10.0.2.9:3306", Default::default());
        row.occupancy.ports.extend(range.low..=range.high);
        row.occupancy.states.add(State::CloseWait, leaked);
        row.occupancy.states.add(State::Established, live);
        let mut group = held(State::CloseWait, leaked);
        group.peers[0] = Peer { peer: "10.0.2.9:3306".to_owned(), service: None, sockets: leaked };
        let mut facts = NamespaceFacts { lingering: vec![group], ..host() };
        facts.census.destinations = vec![row];
        let found = findings_of(facts);
        let ids: Vec<&str> = found.iter().map(|finding| finding.id.as_str()).collect();
        let expected: &[&str] =
            if leads { &["close-wait-leak"] } else { &["ports-exhausted", "close-wait-leak"] };
        assert_eq!(ids, expected, "{leaked} of them leaked");
        assert_eq!(found[0].severity, Critical);
    }
}

#[test]
fn a_full_table_on_the_way_is_why_connections_hang() {
    for (count, table, leads) in [("1000", "host", true), ("900", "host", false), ("1000", "tenant", false)] {
        let mut full = namespace(table, 2);
        set(
            &mut full,
            &[("net.netfilter.nf_conntrack_max", "1000"), ("net.netfilter.nf_conntrack_count", count)],
        );
        let mut client = namespace("web", 3);
        client.lingering =
            vec![Lingering { retransmitting: 300, retransmits_max: 4, ..held(State::SynSent, 300) }];
        let found = findings(&seen(vec![full, client], Machine::default()));
        assert_eq!(found.len(), if leads { 1 } else { 2 }, "{count} {table}");
        assert_eq!(all(&found).len(), 2);
    }
}

#[test]
fn a_full_accept_queue_on_this_machine_is_why_its_own_clients_hang() {
    for (peer, leads) in [("127.0.0.1:80", true), ("127.0.0.1:81", false), ("10.7.7.7:80", false)] {
        let mut facts = host();
        facts.census.listeners = vec![listener("0.0.0.0:80", 129, 128)];
        let mut group = Lingering { retransmitting: 300, retransmits_max: 4, ..held(State::SynSent, 300) };
        group.peers = vec![Peer { peer: peer.to_owned(), service: None, sockets: 300 }];
        facts.lingering = vec![group];
        let found = findings_of(facts);
        assert_eq!(found.len(), if leads { 1 } else { 2 }, "{peer}");
    }
}

#[test]
fn a_queue_of_another_namespace_at_the_same_address_is_no_cause() {
    for (other, leads) in [(1, true), (2, false)] {
        let mut full = host();
        full.census.listeners = vec![listener("0.0.0.0:80", 129, 128)];
        let mut client = namespace("tenant", 2);
        let mut group = Lingering { retransmitting: 300, retransmits_max: 4, ..held(State::SynSent, 300) };
        group.peers = vec![Peer { peer: "127.0.0.1:80".to_owned(), service: None, sockets: 300 }];
        client.census.listeners = vec![listener("0.0.0.0:80", 0, 128)];
        if other == 1 { &mut full } else { &mut client }.lingering = vec![group];
        let found = findings(&seen(vec![full, client], Machine::default()));
        assert_eq!(found.len(), if leads { 1 } else { 2 }, "{:?}", told(&found));
    }
}

#[test]
fn the_other_ends_of_a_leak_on_the_same_machine_are_told_with_it() {
    for (peer, ends, leads) in
        [("127.0.0.1:80", 300, true), ("127.0.0.1:81", 300, false), ("127.0.0.1:80", 700, false)]
    {
        let mut facts = host();
        facts.census.listeners = vec![listener("0.0.0.0:80", 0, 128)];
        let mut other = orphaned(State::FinWait2, ends);
        other.peers = vec![Peer { peer: peer.to_owned(), service: None, sockets: ends }];
        facts.lingering = vec![held(State::CloseWait, 300), other];
        let found = findings_of(facts);
        assert_eq!(found.len(), if leads { 1 } else { 2 }, "{peer} {ends}");
        assert_eq!(all(&found), ["close-wait-leak", "fin-wait2-stuck"]);
    }
}

#[test]
fn orphans_near_the_limit_tell_of_the_silent_peers() {
    let mut facts = host();
    set(&mut facts, &[("net.ipv4.tcp_max_orphans", "1000")]);
    counted(&mut facts, &[("sockstat.TCP.orphan", 960)]);
    let silent = |state, sockets| Lingering {
        retransmitting: sockets,
        retransmits_max: 5,
        ..orphaned(state, sockets)
    };
    facts.lingering = vec![silent(State::FinWait1, 500), silent(State::LastAck, 450)];
    let found = findings_of(facts);
    assert_eq!(only(&found).id, "orphans-near-limit");
    assert_eq!(all(&found), ["orphans-near-limit", "fin-wait1-stuck", "last-ack-stuck"]);
}

#[test]
fn many_alike_do_not_bury_the_rest() {
    let mut namespaces: Vec<NamespaceFacts> = (0..40)
        .map(|n| {
            let mut facts = namespace(&format!("tenant-{n}"), 100 + n);
            facts.census.listeners = vec![listener("0.0.0.0:40000", 0, 128)];
            facts
        })
        .collect();
    namespaces[30].lingering = vec![held(State::CloseWait, 300)];
    let found = findings(&seen(namespaces, Machine::default()));
    assert_eq!(found.len(), 4, "{:?}", told(&found));
    assert_eq!(all(&found).len(), 41);
    let leader = found.iter().find(|finding| !finding.consequences.is_empty()).unwrap();
    assert_eq!(leader.consequences.len(), 37);
    assert!(leader.consequences.iter().any(|told| told.subject.starts_with("tenant-39: ")));
    assert!(leader.evidence.iter().any(|text| text.contains("37 more findings of the same kind")));
}
