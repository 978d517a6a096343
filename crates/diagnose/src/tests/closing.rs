//! Leaks, silent peers, orphans, TIME_WAIT at its limit and TIME_WAIT of a server.

use tidewait_model::machine::Process;
use tidewait_model::report::Severity::{Critical, Notice, Warning};
use tidewait_model::trace::Births;
use tidewait_model::{Incoming, Lingering, Machine, NamespaceFacts, State};

use super::*;

fn with(group: Lingering) -> NamespaceFacts {
    NamespaceFacts { lingering: vec![group], ..host() }
}

fn leaking(group: Lingering, process: Process) -> Vec<Finding> {
    findings(&seen(vec![with(group)], Machine { processes: vec![process], ..Machine::default() }))
}

#[test]
fn close_wait_is_a_leak_only_when_it_stays() {
    for (sockets, silence, expected) in [
        // What passes in seconds, hundreds at a time, and what matters to nobody.
        (400, Some(aged(1.0, 400)), None),
        (19, Some(aged(600.0, 0)), None),
        (400, Some(aged(2.4, 400)), None),
        (400, Some(aged(3.0, 400)), Some(Notice)),
        // Old, and no more come.
        (400, Some(aged(600.0, 0)), Some(Notice)),
        // Old, and more come.
        (400, Some(aged(600.0, 40)), Some(Warning)),
        (30, Some(aged(600.0, 4)), Some(Notice)),
        // A busy server with a few forgotten ones.
        (400, Some(aged(0.5, 390)), None),
        (400, Some(aged(0.5, 370)), Some(Notice)),
        // Ages not known: more than there are open connections.
        (400, None, Some(Notice)),
        (99, None, None),
    ] {
        let group = Lingering { silence, ..held(State::CloseWait, sockets) };
        let found = findings_of(with(group));
        let expected: Vec<_> = expected.into_iter().map(|severity| ("close-wait-leak", severity)).collect();
        assert_eq!(told(&found), expected, "{sockets} {silence:?}");
    }
    let mut busy = with(Lingering { silence: None, ..held(State::CloseWait, 400) });
    busy.census.states.add(State::Established, 500);
    assert!(findings_of(busy).is_empty());
}

#[test]
fn a_young_group_is_a_warning_only_of_a_program_that_has_just_begun_and_has_read_the_end() {
    const DAY: f64 = 86_400.0;
    for (unread_end, unread_data, last_minute, running, severity) in [
        (0, 0, 200, 30.0, Warning),
        // It has been running for long enough to have older ones:
        (0, 0, 200, 90.0, Notice),
        // So has this one: work for clients that have closed their half.
        (0, 0, 200, DAY, Notice),
        // An idle pool whose peers closed, a long poll, slow work.
        (200, 0, 200, 30.0, Notice),
        (0, 200, 200, 30.0, Notice),
        // They stay for more than a minute, and more come.
        (0, 0, 100, DAY, Warning),
        (200, 0, 100, DAY, Warning),
        (0, 200, 100, DAY, Warning),
    ] {
        let silence = Some(aged(20.0, last_minute));
        let group = Lingering { silence, unread_end, unread_data, ..held(State::CloseWait, 200) };
        let app = Process { running_seconds: Some(running), ..process("app", 7, 300, 20_000) };
        let found = leaking(group, app);
        assert_eq!(
            told(&found),
            [("close-wait-leak", severity)],
            "{unread_end} {unread_data} {last_minute} {running}"
        );
        let grows = found[0].remedies[0].effect.contains("a minute more");
        assert_eq!(grows, severity == Warning, "{}", found[0].remedies[0].effect);
    }
}

#[test]
fn what_lies_unread_tells_what_the_program_does() {
    for (unread_end, unread_data, words) in [
        (0, 0, "not called close()"),
        (300, 0, "does not look at them"),
        (0, 300, "stuck"),
        (100, 10, "not called close()"),
    ] {
        let group = Lingering {
            unread_end,
            unread_data,
            unread_bytes: unread_data * 9,
            ..held(State::CloseWait, 300)
        };
        let found = findings_of(with(group));
        let finding = only(&found);
        assert!(finding.summary.contains(words), "{}", finding.summary);
        assert_eq!(finding.subject, "app[7]");
        assert_eq!(finding.owner.as_ref().map(|owner| owner.pid), Some(Some(7)));
    }
}

#[test]
fn the_descriptors_decide_how_bad_a_leak_is() {
    let growing = |new| Lingering { silence: Some(aged(300.0, new)), ..held(State::CloseWait, 600) };
    for (group, used, limit, severity) in [
        // 100 a minute: 384 left are under four minutes, 9,000 are not.
        (growing(100), 640, 1_024, Critical),
        (growing(100), 640, 10_000, Warning),
        // One a minute with a million left lasts years.
        (growing(1), 640, 1_000_000, Notice),
        // Half of the limit gone, even if it does not grow.
        (growing(0), 640, 1_200, Warning),
        (growing(0), 1_020, 1_024, Critical),
    ] {
        let found = leaking(group, process("app", 7, used, limit));
        assert_eq!(found[0].severity, severity, "{used} of {limit}: {}", found[0].summary);
    }
    // What came within the minute and may pass as well is no growth to reckon with.
    let young = Lingering { unread_end: 300, silence: Some(aged(20.0, 300)), ..held(State::CloseWait, 300) };
    let found = leaking(young, process("app", 7, 700, 1_024));
    assert_eq!(only(&found).severity, Notice);
    assert!(!has_remedy(&found[0], "more-descriptors"));
    let found = leaking(growing(100), process("app", 7, 640, 1_024));
    let finding = only(&found);
    assert!(
        finding.evidence.iter().any(|text| text.contains("none is left in 3 min 50 s")),
        "{:?}",
        finding.evidence
    );
    let more = remedy(finding, "more-descriptors");
    assert_eq!(more.command.as_deref(), Some("prlimit --pid 7 --nofile=4096:4096"));
    assert!(more.effect.contains("buys 30 min"), "{}", more.effect);
    let restart = remedy(finding, "restart");
    assert_eq!(restart.command.as_deref(), Some("systemctl restart app.service"));
    assert!(restart.effect.contains("frees 600 descriptors"), "{}", restart.effect);
    assert_eq!(finding.remedies[0].id, "close-after-end");
}

#[test]
fn keepalive_is_said_to_hide_a_leak_or_to_do_nothing() {
    for (keepalive, words) in [(0, "none of them has SO_KEEPALIVE"), (300, "the leak then hides")] {
        let found = findings_of(with(Lingering { keepalive, ..held(State::CloseWait, 300) }));
        let finding = only(&found);
        assert!(finding.evidence.iter().any(|text| text.contains(words)), "{:?}", finding.evidence);
        for setting in
            ["net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_time", "killing the sockets (ss -K)"]
        {
            assert!(is_no_help(finding, setting), "{setting}");
        }
    }
}

#[test]
fn a_sample_is_reckoned_up_and_said_to_be_one() {
    let group =
        Lingering { looked_at: 1_000, silence: Some(aged(300.0, 100)), ..held(State::CloseWait, 10_000) };
    let found = findings_of(with(group));
    let evidence = &only(&found).evidence;
    assert!(
        evidence.iter().any(|text| text.contains("9,000 of them for more than a minute")),
        "{evidence:?}"
    );
    assert!(evidence.iter().any(|text| text.contains("(inferred)")), "{evidence:?}");
}

#[test]
fn a_leak_whose_sockets_are_gone_is_found_by_its_descriptors() {
    for (lost, limit, severity) in [
        (19, 1_024, None),
        (25, 1_024, Some(Notice)),
        (120, 100_000, Some(Warning)),
        (110, 1_024, Some(Warning)),
    ] {
        let process = Process { sockets_without_connection: Some(lost), ..process("app", 7, 300, limit) };
        let machine = Machine { processes: vec![process], ..Machine::default() };
        let found = findings(&seen(vec![host()], machine));
        assert_eq!(found.first().map(|finding| finding.severity), severity, "{lost} of {limit}");
        assert!(found.iter().all(|finding| finding.id == "close-wait-leak" && finding.subject == "app[7]"));
    }
    // Where CLOSE_WAIT shows the leak as well, there is one finding that tells both.
    let lost = Process { sockets_without_connection: Some(200), ..process("app", 7, 700, 100_000) };
    let found = leaking(held(State::CloseWait, 300), lost);
    assert!(only(&found).evidence.iter().any(|text| text.contains("200 more of its descriptors")));
}

#[test]
fn close_wait_that_nobody_holds_waits_to_be_accepted() {
    let found = findings_of(with(orphaned(State::CloseWait, 60)));
    let finding = only(&found);
    assert_eq!((finding.severity, finding.subject.as_str()), (Warning, "0.0.0.0:80"));
    assert!(finding.summary.contains("does not accept") && finding.summary.contains("inferred"));
}

#[test]
fn fin_wait2_that_is_held_has_no_timer_and_orphans_have_tcp_fin_timeout() {
    let found = findings_of(with(Lingering { silence: Some(aged(600.0, 50)), ..held(State::FinWait2, 300) }));
    let open = only(&found);
    assert_eq!((open.id.as_str(), open.severity), ("fin-wait2-stuck", Warning));
    assert!(open.summary.contains("no timer") && is_no_help(open, "net.ipv4.tcp_fin_timeout"));
    assert!(!has_remedy(open, "shorter-fin-timeout"));

    let found = findings_of(with(orphaned(State::FinWait2, 300)));
    let closed = only(&found);
    assert_eq!((closed.id.as_str(), closed.severity), ("fin-wait2-stuck", Notice));
    assert!(!is_no_help(closed, "net.ipv4.tcp_fin_timeout"));
    let shorter = remedy(closed, "shorter-fin-timeout");
    assert_eq!(shorter.command.as_deref(), Some("sysctl -w net.ipv4.tcp_fin_timeout=15"));
    assert!(shorter.effect.contains("about 75 instead of 300"), "{}", shorter.effect);
}

#[test]
fn tcp_fin_timeout_between_61_and_119_is_said_to_mean_something_else() {
    for (value, said, trap) in [
        ("60", "after 60 s", false),
        ("70", "after 20 s", true),
        ("90", "after 60 s", true),
        ("120", "after 2 min", false),
    ] {
        let mut facts = with(orphaned(State::FinWait2, 300));
        set(&mut facts, &[("net.ipv4.tcp_fin_timeout", value)]);
        let found = findings_of(facts);
        let finding = only(&found);
        assert!(finding.summary.contains(said), "{value}: {}", finding.summary);
        assert_eq!(finding.evidence.iter().any(|text| text.contains("which gives 2 x")), trap, "{value}");
    }
}

#[test]
fn fin_wait2_on_its_way_to_time_wait_is_nothing() {
    for (a_second, found) in [(0, true), (20, true), (40, false)] {
        let mut facts = with(orphaned(State::FinWait2, 300));
        let expiring = vec![a_second; 60];
        facts.census.incoming = vec![Incoming {
            local: endpoint("10.0.0.1:80"),
            listening: true,
            states: Default::default(),
            expiring,
            owners: Vec::new(),
            births: Births::default(),
        }];
        assert_eq!(!findings_of(facts).is_empty(), found, "{a_second} a second go on");
    }
    assert!(findings_of(with(orphaned(State::FinWait2, 99))).is_empty());
}

#[test]
fn a_peer_is_silent_after_several_retransmissions_or_with_a_closed_window() {
    let stuck = |state, retransmitting, retransmits_max, zero_window| {
        let group = Lingering { retransmitting, retransmits_max, zero_window, ..orphaned(state, 300) };
        findings_of(with(group))
    };
    assert!(stuck(State::FinWait1, 0, 0, 0).is_empty());
    assert!(stuck(State::FinWait1, 300, 2, 0).is_empty());
    assert!(stuck(State::FinWait1, 19, 9, 0).is_empty());
    for (state, id) in [
        (State::FinWait1, "fin-wait1-stuck"),
        (State::Closing, "fin-wait1-stuck"),
        (State::LastAck, "last-ack-stuck"),
    ] {
        let found = stuck(state, 300, 3, 0);
        let finding = only(&found);
        assert_eq!((finding.id.as_str(), finding.severity), (id, Notice));
        // 0 stands for 8 retries, 102 s at the least.
        assert!(finding.summary.contains("after 102 s at the least"), "{}", finding.summary);
        let fewer = remedy(finding, "fewer-orphan-retries");
        assert!(fewer.effect.contains("13 s at the least instead of 102 s"), "{}", fewer.effect);
        assert!(is_no_help(finding, "net.ipv4.tcp_fin_timeout"));
    }
    let found = stuck(State::FinWait1, 0, 0, 300);
    assert!(only(&found).summary.contains("window closed"), "{}", found[0].summary);
    assert!(!has_remedy(&found[0], "fewer-orphan-retries") && has_remedy(&found[0], "user-timeout"));
    assert!(is_no_help(&found[0], "net.ipv4.tcp_orphan_retries"));
}

#[test]
fn a_program_that_holds_its_sockets_is_not_bound_to_the_orphans_limits() {
    let group = Lingering { zero_window: 300, silence: Some(aged(5.0, 300)), ..held(State::FinWait1, 300) };
    let found = findings_of(with(group));
    let finding = only(&found);
    assert!(finding.summary.contains("no timer ends that"), "{}", finding.summary);
    assert!(!has_remedy(finding, "fewer-orphan-retries"));
    assert!(is_no_help(finding, "net.ipv4.tcp_orphan_retries"));
}

#[test]
fn orphans_count_against_the_machines_limit() {
    for (orphans, severity) in [
        (200, None),
        (249, None),
        (250, Some(Notice)),
        (500, Some(Warning)),
        (949, Some(Warning)),
        (950, Some(Critical)),
    ] {
        let mut facts = host();
        set(&mut facts, &[("net.ipv4.tcp_max_orphans", "1000")]);
        counted(&mut facts, &[("sockstat.TCP.orphan", orphans)]);
        // A namespace of its own shows the count and not the limit.
        let mut other = namespace("web", 2);
        other.settings.0.remove("net.ipv4.tcp_max_orphans");
        counted(&mut other, &[("sockstat.TCP.orphan", orphans)]);
        let found = findings(&seen(vec![facts, other], Machine::default()));
        assert_eq!(found.iter().map(|finding| finding.severity).next(), severity, "{orphans}");
        assert!(found.len() < 2);
        if let Some(finding) = found.first() {
            assert_eq!(
                remedy(finding, "more-orphans").command.as_deref(),
                Some("sysctl -w net.ipv4.tcp_max_orphans=8192")
            );
            assert!(is_no_help(finding, "net.ipv4.tcp_fin_timeout"));
        }
    }
}

#[test]
fn time_wait_at_its_limit_loses_protection() {
    let full = |tw: i64, overflow: i64, growth: Option<i64>| {
        let mut facts = host();
        set(&mut facts, &[("net.ipv4.tcp_max_tw_buckets", "6000")]);
        counted(&mut facts, &[("sockstat.TCP.tw", tw), ("TcpExt.TCPTimeWaitOverflow", overflow)]);
        if let Some(growth) = growth {
            grew(&mut facts, &[("TcpExt.TCPTimeWaitOverflow", growth)]);
        }
        findings_of(facts)
    };
    assert!(full(6_000, 0, None).is_empty());
    // An old count without growth, and not full now.
    assert!(full(3_000, 900, Some(0)).is_empty());
    assert_eq!(told(&full(6_000, 900, None)), [("time-wait-overflow", Notice)]);
    let found = full(6_000, 900, Some(500));
    let finding = only(&found);
    assert_eq!(finding.severity, Warning);
    assert!(finding.summary.contains("none is refused"));
    // 100 a second leave and 50 a second are lost: 150 x 60 = 9,000.
    assert_eq!(
        remedy(finding, "more-buckets").command.as_deref(),
        Some("sysctl -w net.ipv4.tcp_max_tw_buckets=16384")
    );
}

#[test]
fn time_wait_of_connections_that_came_in_is_worth_a_notice_only() {
    for (sockets, found) in [(4_999, false), (60_000, true)] {
        let mut facts = host();
        let mut service = Incoming {
            local: endpoint("0.0.0.0:443"),
            listening: true,
            states: Default::default(),
            expiring: Vec::new(),
            owners: Vec::new(),
            births: Births::default(),
        };
        service.states.add(State::TimeWait, sockets);
        facts.census.states.add(State::TimeWait, sockets);
        facts.census.incoming = vec![service];
        let all = findings_of(facts);
        assert_eq!(told(&all), Vec::from_iter(found.then_some(("time-wait-incoming", Notice))));
        if let Some(finding) = all.first() {
            assert!(finding.summary.contains("15 MB"), "{}", finding.summary);
            for setting in
                ["net.ipv4.ip_local_port_range", "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_fin_timeout"]
            {
                assert!(is_no_help(finding, setting));
            }
        }
    }
}
