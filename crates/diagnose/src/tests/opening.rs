//! Unanswered connections, full accept queues, a full connection tracking table.

use tidewait_model::Lingering;
use tidewait_model::lingering::Peer;
use tidewait_model::report::Severity::{Critical, Notice, Warning};

use super::*;

fn unanswered(peers: &[(&str, u64)], retransmits_max: u32) -> Lingering {
    let sockets = peers.iter().map(|(_, sockets)| sockets).sum();
    let told = peers.iter().take(Lingering::PEERS);
    Lingering {
        peers: told
            .map(|(peer, sockets)| Peer { peer: (*peer).to_owned(), service: None, sockets: *sockets })
            .collect(),
        peers_total: peers.len() as u64,
        retransmitting: sockets,
        retransmits_max,
        silence: None,
        ..held(State::SynSent, sockets)
    }
}

fn dialling(group: Lingering) -> NamespaceFacts {
    NamespaceFacts { lingering: vec![group], ..host() }
}

/// One socket each to `number` destinations.
fn crawler(number: u64) -> Lingering {
    let peers: Vec<String> = (0..number).map(|n| format!("10.1.{}.{}:80", n / 250, n % 250)).collect();
    let peers: Vec<(&str, u64)> = peers.iter().map(|peer| (peer.as_str(), 1)).collect();
    unanswered(&peers, 4)
}

#[test]
fn connections_to_one_silent_peer_fail_now_and_a_crawlers_are_daily_life() {
    for (group, expected) in [
        (unanswered(&[("10.0.2.9:443", 300)], 3), Some(Critical)),
        (unanswered(&[("10.0.2.9:443", 19)], 3), None),
        // Slow, but one retransmission is no silence.
        (unanswered(&[("10.0.2.9:443", 300)], 1), None),
        (crawler(400), Some(Notice)),
        (unanswered(&[("10.0.2.9:443", 60), ("10.0.2.8:443", 40), ("10.0.2.7:443", 30)], 3), Some(Warning)),
    ] {
        let found = findings_of(dialling(group));
        let expected: Vec<_> = expected.into_iter().map(|severity| ("syn-sent-pileup", severity)).collect();
        assert_eq!(told(&found), expected);
    }
}

#[test]
fn a_peer_that_answers_some_is_a_warning() {
    let mut facts = dialling(unanswered(&[("10.0.2.9:443", 40)], 3));
    let mut open = ports::destination("10.0.2.9:443", Default::default());
    open.occupancy.states.add(State::Established, 10);
    facts.census.destinations = vec![open];
    let found = findings_of(facts);
    assert_eq!(only(&found).severity, Warning);
    assert!(found[0].evidence.iter().any(|text| text.contains("some get through")));
}

#[test]
fn unanswered_connections_are_one_finding_however_many_destinations_and_programs() {
    let mut facts = dialling(unanswered(&[("10.0.2.9:443", 60), ("10.0.2.8:443", 30)], 3));
    facts
        .lingering
        .push(Lingering { owner: Some(owner("other", 8)), ..unanswered(&[("10.0.2.9:443", 5)], 3) });
    let found = findings_of(facts);
    let finding = only(&found);
    assert_eq!(finding.subject, "10.0.2.9:443 and 1 destination more");
    assert!(finding.summary.contains("95 connections"), "{}", finding.summary);
    assert!(finding.evidence[0].contains("10.0.2.9:443 (65), 10.0.2.8:443 (30)"), "{}", finding.evidence[0]);
    assert_eq!(remedy(finding, "reach-the-peer").command.as_deref(), Some("ip route get 10.0.2.9"));
}

#[test]
fn the_owner_is_the_one_who_connects_to_the_destination_that_is_named() {
    let mut facts = dialling(unanswered(&[("10.0.2.9:443", 30)], 3));
    facts
        .lingering
        .push(Lingering { owner: Some(owner("other", 8)), ..unanswered(&[("10.0.2.10:443", 30)], 3) });
    let found = findings_of(facts);
    let finding = only(&found);
    let owner = finding.owner.as_ref().map(|owner| owner.command.as_str());
    let (named, of) = if finding.subject.starts_with("10.0.2.9:") {
        ("part of them are of app[7]", "app")
    } else {
        ("part of them are of other[8]", "other")
    };
    assert_eq!(owner, Some(of), "{}", finding.subject);
    assert!(finding.evidence[0].contains(named), "{}", finding.evidence[0]);
    assert!(remedy(finding, "connect-timeout").effect.ends_with("60 sockets become about 2"));
}

#[test]
fn the_time_that_connect_hangs_follows_from_retries_and_kernel() {
    for (kernel, retries, words) in
        [("6.18.1", "6", "after 2 min 11 s"), ("6.1.0", "6", "after 2 min 7 s"), ("6.1.0", "2", "after 7 s")]
    {
        let mut facts = dialling(unanswered(&[("10.0.2.9:443", 300)], 2));
        set(&mut facts, &[("net.ipv4.tcp_syn_retries", retries)]);
        let observation = Observation { kernel: kernel.to_owned(), ..seen(vec![facts], Machine::default()) };
        let found = findings(&observation);
        assert!(
            found[0].evidence.iter().any(|text| text.contains(words)),
            "{words}: {:?}",
            found[0].evidence
        );
        assert_eq!(has_remedy(&found[0], "fewer-syn-retries"), retries == "6");
    }
}

#[test]
fn a_table_of_this_machine_that_drops_is_named_as_the_cause() {
    for (counter, nat) in [("conntrack.insert_failed", true), ("conntrack.drop", false)] {
        let mut facts = dialling(unanswered(&[("10.0.2.9:443", 300)], 3));
        grew(&mut facts, &[(counter, 40)]);
        let found = findings_of(facts);
        let finding = only(&found);
        assert!(
            finding.summary.contains("connection tracking on this machine")
                && finding.summary.contains("inferred")
        );
        assert_eq!(has_remedy(finding, "more-nat-ports"), nat);
        // More ports to choose from do help source NAT.
        assert_eq!(is_no_help(finding, "net.ipv4.ip_local_port_range"), !nat);
    }
    let mut passing = dialling(unanswered(&[("10.0.2.9:443", 300)], 3));
    grew(&mut passing, &[("conntrack.insert_failed", 2)]);
    assert!(only(&findings_of(passing)).summary.contains("nothing comes back"));
    // What was counted at some time proves nothing: it is a possibility if it is enough, and history if it did not grow.
    for (count, watched, possible) in [(299, false, false), (300, false, true), (300, true, false)] {
        let mut facts = dialling(unanswered(&[("10.0.2.9:443", 300)], 3));
        counted(&mut facts, &[("conntrack.insert_failed", count)]);
        if watched {
            grew(&mut facts, &[]);
        }
        let found = findings_of(facts);
        assert!(only(&found).summary.contains("nothing comes back"));
        assert_eq!(
            found[0].summary.contains("connection tracking on this machine"),
            possible,
            "{count} {watched}"
        );
        assert_eq!(has_remedy(&found[0], "more-nat-ports"), possible);
        assert!(has_remedy(&found[0], "reach-the-peer"));
    }
}

fn listening(listener: Listener, overflows: i64, growth: Option<&[(&str, i64)]>) -> Vec<Finding> {
    let mut facts = host();
    facts.census.listeners = vec![listener];
    counted(&mut facts, &[("TcpExt.ListenOverflows", overflows)]);
    if let Some(growth) = growth {
        grew(&mut facts, growth);
    }
    findings_of(facts)
}

#[test]
fn a_full_accept_queue_is_told_and_old_counts_are_not() {
    let drops: &[(&str, i64)] = &[("TcpExt.ListenOverflows", 30)];
    let few: &[(&str, i64)] = &[("TcpExt.ListenOverflows", 30), ("Tcp.PassiveOpens", 3_000)];
    let two: &[(&str, i64)] = &[("TcpExt.ListenOverflows", 2), ("Tcp.PassiveOpens", 4)];
    for (queue, overflows, growth, expected) in [
        (128, 0, None, None),
        (128, 9_000, None, None),
        (128, 9_000, Some(&[][..]), None),
        (129, 0, None, Some(Warning)),
        (129, 9_000, None, Some(Critical)),
        (129, 9_000, Some(&[][..]), Some(Warning)),
        (129, 9_000, Some(drops), Some(Critical)),
        // One or two in a busy moment.
        (100, 9_000, Some(two), Some(Warning)),
        // Full for a moment, while most go through.
        (100, 9_000, Some(few), Some(Warning)),
        (100, 9_000, Some(drops), Some(Critical)),
    ] {
        let found = listening(listener("0.0.0.0:80", queue, 128), overflows, growth);
        let expected: Vec<_> =
            expected.into_iter().map(|severity| ("accept-queue-overflow", severity)).collect();
        assert_eq!(told(&found), expected, "{queue} {overflows} {growth:?}");
    }
}

#[test]
fn a_queue_that_is_full_in_two_looks_is_critical_and_a_burst_is_not() {
    let drops: &[(&str, i64)] = &[("TcpExt.ListenOverflows", 30)];
    let two: &[(&str, i64)] = &[("TcpExt.ListenOverflows", 2), ("Tcp.PassiveOpens", 4)];
    for (still_full, growth, expected) in [
        (1, None, Critical),
        // Clients that were dropped wait longer and longer before they try again.
        (1, Some(&[][..]), Critical),
        (0, None, Notice),
        (0, Some(&[][..]), Notice),
        (0, Some(two), Warning),
        (0, Some(drops), Critical),
    ] {
        let full = Listener { still_full: Some(still_full), ..listener("0.0.0.0:80", 129, 128) };
        let found = listening(full, 9_000, growth);
        assert_eq!(told(&found), [("accept-queue-overflow", expected)], "{still_full} {growth:?}");
        assert_eq!(only(&found).summary.contains("a burst"), still_full == 0);
    }
}

#[test]
fn the_limit_that_binds_is_the_one_to_raise() {
    for (limit, words, command, somaxconn_is_no_help) in [
        (128, "the backlog that the program gave", None, true),
        (4_096, "is net.core.somaxconn", Some("sysctl -w net.core.somaxconn=16384"), false),
        (8_192, "from before net.core.somaxconn was lowered", None, false),
    ] {
        let found = listening(listener("0.0.0.0:80", limit + 1, limit), 1, None);
        let finding = only(&found);
        assert!(finding.evidence[0].contains(words), "{:?}", finding.evidence);
        let longer = finding.remedies.iter().find(|remedy| remedy.id == "longer-queue");
        assert_eq!(longer.and_then(|remedy| remedy.command.as_deref()), command);
        assert_eq!(is_no_help(finding, "net.core.somaxconn"), somaxconn_is_no_help);
        assert!(is_no_help(finding, "net.ipv4.tcp_max_syn_backlog"));
        assert_eq!(finding.remedies[0].id, "accept-faster");
        assert!(finding.summary.contains("app[7] at 0.0.0.0:80"), "{}", finding.summary);
    }
}

#[test]
fn connection_tracking_is_judged_by_count_and_drops() {
    for (count, growth, expected) in [
        ("790", &[][..], None),
        ("800", &[][..], Some(Notice)),
        ("800", &[("conntrack.early_drop", 1)][..], Some(Warning)),
        ("950", &[][..], Some(Warning)),
        ("950", &[("conntrack.drop", 1)][..], Some(Critical)),
        ("1000", &[][..], Some(Critical)),
    ] {
        let mut facts = namespace("web", 2);
        set(
            &mut facts,
            &[
                ("net.netfilter.nf_conntrack_max", "1000"),
                ("net.netfilter.nf_conntrack_count", count),
                ("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "120"),
            ],
        );
        grew(&mut facts, growth);
        let found = findings(&seen(vec![host(), facts], Machine::default()));
        let expected: Vec<_> = expected.into_iter().map(|severity| ("conntrack-full", severity)).collect();
        assert_eq!(told(&found), expected, "{count}");
        if let Some(finding) = found.first() {
            // The size is the machine's, the time-out the namespace's.
            assert_eq!(
                remedy(finding, "larger-table").command.as_deref(),
                Some("sysctl -w net.netfilter.nf_conntrack_max=2000")
            );
            assert_eq!(
                remedy(finding, "shorter-tracking").command.as_deref(),
                Some("ip netns exec web sysctl -w net.netfilter.nf_conntrack_tcp_timeout_time_wait=30")
            );
        }
    }
}
