//! Every topic by every name, every reference, what is not known, and this machine's facts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidewait_model::report::{Destination, Finding, Host, Namespace, Pool, Ports, SCHEMA, Severity, Trend};
use tidewait_model::{State, StateCounts};

use super::*;

fn destination(used: u32) -> Destination {
    let mut states = StateCounts::default();
    states.add(State::TimeWait, used.into());
    Destination {
        source: "10.0.0.5".to_owned(),
        destination: "10.0.2.9:3306".to_owned(),
        ports_usable: Some(28_232),
        ports_used: used,
        ports_free: Some(28_232 - used),
        fill: Some(f64::from(used) / 28_232.0),
        ports_outside_range: 0,
        ports_steered: 0,
        states,
        rate_per_second: 470.0,
        rate_now_per_second: 470.0,
        rate_how: String::new(),
        trend: Trend::Steady,
        closed_per_second: vec![],
        limit_per_second: Some(470.5),
        seconds_to_half: None,
        seconds_to_exhaustion: None,
        reusable: 0,
        pool: Pool::Connect,
        pool_how: String::new(),
        owners: vec![],
        traced: None,
    }
}

/// A machine whose ports to one destination are all taken.
fn report(settings: &[(&str, &str)]) -> Report {
    let row = destination(28_232);
    let finding = Finding {
        id: "ports-exhausted".to_owned(),
        severity: Severity::Critical,
        namespace: "host".to_owned(),
        subject: "10.0.0.5 -> 10.0.2.9:3306".to_owned(),
        summary: "connect() finds no port".to_owned(),
        evidence: vec![],
        owner: None,
        since: None,
        remedies: vec![],
        no_help: vec![],
        consequences: vec![],
    };
    let namespace = Namespace {
        name: "host".to_owned(),
        inode: 1,
        settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ports: Some(Ports { low: 32_768, high: 60_999, reserved: 0, bound: 0, usable: 28_232 }),
        steered: vec![],
        time_wait_seconds: 60,
        states: row.states,
        destinations_total: 1,
        destinations: vec![row],
        incoming: vec![],
        listeners: vec![],
        lingering: vec![],
        closed_here: tidewait_model::report::ClosedHere::default(),
        counters: BTreeMap::from([("sockstat.TCP.orphan".to_owned(), 3)]),
        growth: None,
        traced: None,
    };
    Report {
        schema: SCHEMA.to_owned(),
        generated_at: "2026-11-22T03:04:05Z".to_owned(),
        host: Host { hostname: "proxy1".to_owned(), kernel: "6.18.44".to_owned() },
        duration_seconds: 0.01,
        limits: vec![],
        namespaces: vec![namespace],
        processes: vec![],
        findings: vec![finding],
        timings: vec![],
    }
}

fn topic(text: &str) -> String {
    explain(text, None).map_or_else(|unknown| panic!("{unknown}"), |page| page.topic)
}

fn here(page: &Explanation, name: &str) -> String {
    let fact = page.here.iter().find(|fact| fact.name == name);
    fact.map_or_else(String::new, |fact| format!("{}: {}", fact.value, fact.meaning))
}

#[test]
fn every_topic_explains_itself_by_all_its_names_with_and_without_a_look() {
    let report = report(&[("net.ipv4.tcp_tw_reuse", "2")]);
    for topic in topics().topics {
        for name in std::iter::once(&topic.topic).chain(&topic.aliases) {
            let page = explain(name, None).unwrap_or_else(|unknown| panic!("{name}: {unknown}"));
            assert_eq!(page.topic, topic.topic, "by {name}");
            assert_eq!(page.kind, topic.kind);
            assert!(!page.summary.is_empty());
            assert!(page.here.is_empty(), "{name} knows of this machine without a look");
        }
        let page = explain(&topic.topic, Some(&report)).unwrap();
        assert!(
            !page.sections.is_empty() || !page.configuration.is_empty() || page.topic == "NEW_SYN_RECV",
            "{} says nothing",
            topic.topic
        );
        assert!(topic.summary.len() <= 220, "{}: {}", topic.topic, topic.summary);
    }
}

#[test]
fn no_two_topics_share_a_name() {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for topic in topics().topics {
        for name in std::iter::once(&topic.topic).chain(&topic.aliases) {
            let owner = owners.entry(index::plain(name)).or_insert_with(|| topic.topic.clone());
            // The option and the setting differ by the case of their letters, and are told apart by it.
            if topic.topic != "IP_LOCAL_PORT_RANGE" {
                assert_eq!(*owner, topic.topic, "both are called {name}");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let names: Vec<String> = topics().topics.into_iter().map(|topic| topic.topic).collect();
    let mut lost = Vec::new();
    for name in &names {
        let page = explain(name, None).unwrap();
        for other in page.see_also {
            assert_ne!(&other, name, "{name} refers to itself");
            if !names.contains(&other) {
                lost.push(format!("{name} -> {other}"));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn states_are_known_by_every_spelling() {
    for (spellings, wanted) in [
        // The 13 names of manuals that cover more than Linux.
        (&["BOUND"][..], "BOUND_INACTIVE"),
        (&["CLOSED"], "CLOSE"),
        (&["CLOSING"], "CLOSING"),
        (&["CLOSE_WAIT", "CLOSE-WAIT", "close wait", "closewait"], "CLOSE_WAIT"),
        (&["ESTABLISHED", "ESTAB"], "ESTABLISHED"),
        (&["FIN_WAIT_1", "FIN-WAIT-1", "FIN_WAIT1", "fin-wait1"], "FIN_WAIT1"),
        (&["FIN_WAIT_2", "FIN-WAIT-2", "FIN_WAIT2"], "FIN_WAIT2"),
        (&["IDLE"], "IDLE"),
        (&["LAST_ACK", "LAST-ACK"], "LAST_ACK"),
        (&["LISTEN"], "LISTEN"),
        (&["SYN_RECEIVED", "SYN-RECEIVED", "SYN_RECV", "SYN-RECV"], "SYN_RECV"),
        (&["SYN_SENT", "SYN-SENT"], "SYN_SENT"),
        (&["TIME_WAIT", "TIME-WAIT", "timewait", "Time Wait"], "TIME_WAIT"),
        (&["UNCONN"], "CLOSE"),
        // As the kernel's headers have them.
        (&["TCP_TIME_WAIT"], "TIME_WAIT"),
        (&["TCP_FIN_WAIT2"], "FIN_WAIT2"),
    ] {
        for spelling in spellings {
            assert_eq!(topic(spelling), wanted, "{spelling}");
        }
    }
    for state in State::ALL {
        assert_eq!(topic(state.title()), state.title());
        assert_eq!(topic(state.key()), state.title());
    }
    let foreign = explain("BOUND", None).unwrap();
    assert_eq!(foreign.recognised[0].value, "BOUND_INACTIVE");
}

#[test]
fn short_names_commands_and_files_lead_to_the_setting() {
    for (text, wanted) in [
        ("tw_reuse", "net.ipv4.tcp_tw_reuse"),
        ("tcp_tw_reuse", "net.ipv4.tcp_tw_reuse"),
        ("/proc/sys/net/ipv4/tcp_fin_timeout", "net.ipv4.tcp_fin_timeout"),
        ("net/ipv4/tcp_fin_timeout", "net.ipv4.tcp_fin_timeout"),
        ("echo 30 > /proc/sys/net/ipv4/tcp_fin_timeout", "net.ipv4.tcp_fin_timeout"),
        ("sysctl -w net.ipv4.tcp_tw_reuse=1", "net.ipv4.tcp_tw_reuse"),
        ("net.ipv4.tcp_tw_recycle = 1", "net.ipv4.tcp_tw_recycle"),
        ("unprivileged_port", "net.ipv4.ip_unprivileged_port_start"),
        ("IP_LOCAL_PORT_RANGE", "IP_LOCAL_PORT_RANGE"),
        ("ip_local_port_range", "net.ipv4.ip_local_port_range"),
        ("port-range", "net.ipv4.ip_local_port_range"),
        ("somaxconn", "net.core.somaxconn"),
        ("TCP_KEEPALIVE_INTERVAL", "net.ipv4.tcp_keepalive_intvl"),
        ("net.ipv4.netfilter.ip_conntrack_max", "net.netfilter.nf_conntrack_max"),
        ("docker", "namespaces-and-settings"),
        ("BIND_ADDRESS_NO_PORT", "IP_BIND_ADDRESS_NO_PORT"),
        ("99", "EADDRNOTAVAIL"),
        ("EADDRINUSE", "EADDRINUSE"),
        ("why 60 seconds", "why-60-seconds"),
        ("half range cliff", "half-range-cliff"),
        ("tcp 0 0 10.0.0.5:40112 10.0.2.9:3306 TIME_WAIT -", "TIME_WAIT"),
        ("Cannot assign requested address", "EADDRNOTAVAIL"),
    ] {
        assert_eq!(topic(text), wanted, "{text}");
    }
    let page = explain("sysctl -w net.ipv4.tcp_tw_reuse=7", None).unwrap();
    assert_eq!(page.recognised[0].value, "7");
    assert!(page.recognised[0].meaning.contains('7'), "{:?}", page.recognised);
}

#[test]
fn what_is_not_known_is_said_with_what_is_alike() {
    for (text, likely) in [
        ("TIME_WIAT", "TIME_WAIT"),
        ("tcp_tw_reues", "net.ipv4.tcp_tw_reuse"),
        ("ports-exhasted", "ports-exhausted"),
        ("EADDRINUS", "EADDRINUSE"),
        ("local_port_ran", "net.ipv4.ip_local_port_range"),
        ("haproxi", "haproxy"),
    ] {
        let unknown = explain(text, None).unwrap_err();
        assert!(unknown.suggestions.iter().any(|name| name == likely), "{text}: {:?}", unknown.suggestions);
        assert!(unknown.to_string().contains(likely));
    }
    for text in ["", "   ", "?", "xyzzy-plugh", "\u{1f980}"] {
        let unknown = explain(text, None).unwrap_err();
        assert!(unknown.suggestions.is_empty(), "{text}: {:?}", unknown.suggestions);
        assert!(unknown.to_string().contains("--list"));
    }
    assert!(explain(" ", None).unwrap_err().to_string().starts_with("there is nothing to explain"));
    assert!(!explain("a\u{7}b\nc", None).unwrap_err().to_string().contains(char::is_control));
    // A text that names two topics is neither.
    assert!(explain("tcp_fin_timeout or tcp_tw_reuse?", None).is_err());
}

#[test]
fn the_page_shows_this_machine() {
    let report = report(&[("net.ipv4.tcp_tw_reuse", "2"), ("net.ipv4.tcp_fin_timeout", "90")]);
    let page =
        explain("dial tcp 10.0.2.9:3306: connect: cannot assign requested address", Some(&report)).unwrap();
    assert_eq!(page.topic, "EADDRNOTAVAIL-connect");
    assert_eq!(here(&page, "local ports"), "32768 to 60999: 28,232 usable for each destination");
    assert_eq!(here(&page, "sockets in TIME_WAIT"), "28,232: ");
    assert!(here(&page, "ports-exhausted").starts_with("critical"));
    assert!(here(&page, "that destination").starts_with("28,232 of 28,232 ports, 100 %"));
    assert!(!page.configuration.is_empty());

    // What 90 means is what the kernel does with it.
    let page = explain("tcp_fin_timeout", Some(&report)).unwrap();
    let said = here(&page, "net.ipv4.tcp_fin_timeout");
    assert!(said.starts_with("90: ") && (said.contains("1 min") || said.contains("60 s")), "{said}");
    assert!(said.ends_with("60 unless written"), "{said}");

    let page = explain("tw_recycle", Some(&report)).unwrap();
    assert!(here(&page, "net.ipv4.tcp_tw_recycle").contains("gone"));

    let page = explain("ports-exhausted", Some(&report)).unwrap();
    assert!(here(&page, "10.0.0.5 -> 10.0.2.9:3306").starts_with("critical"));
    let page = explain("ports-running-out", Some(&report)).unwrap();
    assert_eq!(here(&page, "found here now"), "no: ");
}

#[test]
fn a_machine_that_could_not_be_seen_is_no_trouble() {
    let mut report = report(&[]);
    report.namespaces.clear();
    report.findings.clear();
    for topic in topics().topics {
        explain(&topic.topic, Some(&report)).unwrap();
    }
    report.host.kernel = "strange".to_owned();
    explain("tcp_tw_reuse", Some(&report)).unwrap();
}

proptest! {
    #[test]
    fn any_text_is_explained_or_refused(text in "\\PC{0,120}") {
        if let Err(unknown) = explain(&text, None) {
            prop_assert!(unknown.suggestions.len() <= 5);
            prop_assert!(!unknown.to_string().is_empty());
        }
    }
}

#[test]
fn the_owner_of_time_wait_is_explained_and_told_where_it_was_traced() {
    for name in ["owner-of-time-wait", "tracing", "--trace", "whose time wait"] {
        assert_eq!(topic(name), "owner-of-time-wait");
    }
    assert_eq!(topic("who closes first"), "who-keeps-time-wait");
    let mut seen = report(&[]);
    let page = explain("tracing", Some(&seen)).unwrap();
    assert!(page.here.iter().all(|fact| !fact.name.contains("closed here first")));
    assert!(page.corrections[0].claim.contains("cannot know whose"));
    let namespace = &mut seen.namespaces[0];
    namespace.traced = Some(tidewait_model::report::Traced {
        seconds: 10.0,
        time_wait_born: 900,
        time_wait_attributed: 900,
        connections: vec![],
        connections_total: 0,
    });
    let curl =
        tidewait_model::trace::Program { command: "curl".to_owned(), pid: Some(7), ..Default::default() };
    namespace.closed_here.by_owner = vec![crate::traced::owner(&curl, 0.979)];
    let side = |here, there| Some(tidewait_model::report::ClosedFirst { here, there, by_owner: vec![] });
    namespace.closed_here.outgoing = side(900, 100);
    namespace.closed_here.incoming = side(0, 0);
    let page = explain("who-keeps-time-wait", Some(&seen)).unwrap();
    assert_eq!(here(&page, "outgoing, closed here first"), "900: of 1,000 in 10 s, in host");
    assert!(page.here.iter().all(|fact| !fact.name.starts_with("incoming, closed")));
    assert_eq!(here(&page, "closes first: curl[7]"), "98 %: of those, traced");
}
