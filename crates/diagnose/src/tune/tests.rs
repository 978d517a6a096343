//! Plans: what is worth changing, what is left out, what is in the way.

use std::collections::BTreeMap;

use tidewait_model::census::Destination;
use tidewait_model::tune::profile;
use tidewait_model::{Endpoint, Occupancy, State};

use super::*;
use crate::{Options, assess};

fn host(pairs: &[(&str, &str)]) -> NamespaceFacts {
    let stock = [
        (RANGE, "32768 60999"),
        (RESERVED, ""),
        (START, "1024"),
        (REUSE, "2"),
        ("net.core.somaxconn", "4096"),
        ("net.ipv4.tcp_timestamps", "1"),
        ("net.ipv4.tcp_tw_reuse_delay", "1000"),
        ("net.ipv4.tcp_fin_timeout", "60"),
        ("net.ipv4.tcp_max_tw_buckets", "131072"),
        ("net.ipv4.tcp_keepalive_time", "7200"),
        ("net.ipv4.tcp_keepalive_intvl", "75"),
        ("net.ipv4.tcp_keepalive_probes", "9"),
        ("net.ipv4.tcp_syn_retries", "6"),
        ("net.ipv4.tcp_syncookies", "1"),
    ];
    let all = stock.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    NamespaceFacts {
        name: "host".to_owned(),
        inode: 1,
        settings: Settings(all.collect::<BTreeMap<_, _>>()),
        ..NamespaceFacts::default()
    }
}

/// Connections to one destination, `closed` of them in TIME_WAIT for half a minute.
fn busy(
    mut facts: NamespaceFacts,
    closed: u32,
    peer_timestamps: Option<bool>,
    ports: fn(u32) -> u16,
) -> NamespaceFacts {
    let peer: std::net::SocketAddr = "10.0.2.9:3306".parse().unwrap();
    let source: std::net::IpAddr = "10.0.0.5".parse().unwrap();
    let mut occupancy = Occupancy { expiring: vec![0; 60], ..Occupancy::default() };
    occupancy.ports.extend((0..closed).map(ports));
    occupancy.states.add(State::TimeWait, u64::from(closed));
    for second in 0..30 {
        occupancy.expiring[second] = closed / 30;
    }
    facts.census.states.add(State::TimeWait, u64::from(closed));
    facts.census.destinations.push(Destination {
        source: tidewait_model::address::Address::new(source, 0),
        peer: Endpoint { address: tidewait_model::address::Address::new(peer.ip(), 0), port: peer.port() },
        occupancy,
        owners: Vec::new(),
        peer_timestamps,
        births: Default::default(),
    });
    facts
}

fn planned(facts: NamespaceFacts, asked: Asked<'_>, manner: Manner<'_>) -> Result<Plan, Unplannable> {
    let observation =
        Observation { kernel: "6.18.1".to_owned(), namespaces: vec![facts], ..Observation::default() };
    let report = assess(&observation, &Options { top: 0, timings: false });
    let place = Place {
        observation: &observation,
        name: "host",
        facts: &observation.namespaces[0],
        namespace: &report.namespaces[0],
        findings: &report.findings,
        udp: &PortSet::default(),
        initial: true,
    };
    plan(&place, asked, manner)
}

fn settings(asked: &[(&str, &str)]) -> Vec<Assignment> {
    asked.iter().map(|(name, value)| Assignment::new(*name, value)).collect()
}

fn of_settings(facts: NamespaceFacts, asked: &[(&str, &str)]) -> Plan {
    planned(facts, Asked::Settings(&settings(asked)), Manner::default()).unwrap()
}

fn written(plan: &Plan) -> Vec<String> {
    plan.changes.iter().map(|change| format!("{}={}", change.setting, change.wanted)).collect()
}

fn left(plan: &Plan) -> Vec<(&str, Reason)> {
    plan.left_out.iter().map(|left| (left.setting.as_str(), left.reason)).collect()
}

fn even(number: u32) -> u16 {
    u16::try_from(32_768 + 2 * number).unwrap()
}

#[test]
fn both_pages_are_judged_line_by_line() {
    let hosting = planned(host(&[]), Asked::Profile(profile("hosting").unwrap()), Manner::default()).unwrap();
    assert_eq!(written(&hosting), ["net.ipv4.tcp_tw_reuse=1"]);
    assert_eq!(
        left(&hosting),
        [
            ("net.ipv4.tcp_fin_timeout", Reason::NoEffect),
            ("net.ipv4.tcp_keepalive_intvl", Reason::NoEffect),
            ("net.ipv4.tcp_keepalive_probes", Reason::NoEffect),
            ("net.ipv4.tcp_tw_recycle", Reason::NotHere),
        ]
    );
    let nanog = planned(host(&[]), Asked::Profile(profile("nanog").unwrap()), Manner::default()).unwrap();
    assert!(nanog.changes.is_empty() && nanog.left_out.len() == 4);
    assert!(nanog.left_out.iter().all(|left| left.reason == Reason::NoEffect && left.why.len() > 40));
}

#[test]
fn the_figures_are_those_of_the_ports_and_add_up() {
    let plan = planned(host(&[]), Asked::Profile(profile("proxy").unwrap()), Manner::default()).unwrap();
    assert_eq!(written(&plan), ["net.ipv4.ip_local_port_range=10240 65535", "net.ipv4.tcp_tw_reuse=1"]);
    let each: Vec<(f64, f64)> = plan
        .changes
        .iter()
        .map(|change| change.capacity.map(|it| (it.before_per_second, it.after_per_second)).unwrap())
        .collect();
    assert_eq!(each, [(470.5, 921.6), (921.6, 55_296.0)]);
    let all = plan.capacity.unwrap();
    assert_eq!((all.before_per_second, all.after_per_second), (470.5, 55_296.0));
    assert_eq!(left(&plan), [("net.core.somaxconn", Reason::AlreadySo)]);
    assert_eq!(plan.verify(), Ok(()));
}

#[test]
fn reuse_does_nothing_where_bind_chose_or_the_peer_sends_no_timestamps() {
    let reuse = [(REUSE, "1")];
    let plan = of_settings(busy(host(&[]), 9_000, Some(false), even), &reuse);
    assert_eq!(left(&plan), [(REUSE, Reason::NoEffect)]);
    assert!(plan.left_out[0].why.contains("sends none"), "{:?}", plan.left_out);
    // bind() takes the odd ones first.
    let plan = of_settings(busy(host(&[]), 9_000, Some(true), |number| even(number) + 1), &reuse);
    assert!(plan.left_out[0].why.contains("bind() chooses"), "{:?}", plan.left_out);
    let plan = of_settings(host(&[("net.ipv4.tcp_timestamps", "0")]), &reuse);
    assert!(plan.left_out[0].why.contains("tcp_timestamps is 0"), "{:?}", plan.left_out);
    let plan = of_settings(busy(host(&[]), 9_000, Some(true), even), &reuse);
    assert!(plan.changes[0].effect.contains("470 to 28,232"), "{:?}", plan.changes);
    assert_eq!(plan.subject.as_deref(), Some("10.0.0.5 -> 10.0.2.9:3306"));
}

#[test]
fn a_delay_counts_only_where_ports_are_taken_over() {
    let delay = "net.ipv4.tcp_tw_reuse_delay";
    assert_eq!(left(&of_settings(host(&[]), &[(delay, "100")])), [(delay, Reason::NoEffect)]);
    // Given together, the one makes the other count.
    let plan = of_settings(host(&[]), &[(REUSE, "1"), (delay, "100")]);
    assert_eq!(plan.changes.len(), 2);
    assert_eq!(plan.capacity.unwrap().after_per_second, 282_320.0);
}

#[test]
fn what_somebody_asks_for_by_name_is_done_and_told_what_it_is_worth() {
    let plan = of_settings(host(&[]), &[("net.ipv4.tcp_fin_timeout", "30")]);
    assert!(plan.changes[0].effect.starts_with("nothing for TIME_WAIT or ports"), "{:?}", plan.changes);
    assert_eq!(plan.changes[0].capacity, None);
}

#[test]
fn harm_is_in_the_way_of_whoever_asks_and_left_out_of_a_list() {
    let facts = busy(host(&[]), 9_000, Some(true), even);
    let plan = of_settings(facts.clone(), &[("net.ipv4.tcp_max_tw_buckets", "5000")]);
    assert!(plan.blockers[0].why.contains("9,000 sockets are in TIME_WAIT"), "{:?}", plan.blockers);
    assert!(of_settings(facts, &[("net.ipv4.tcp_max_tw_buckets", "50000")]).blockers.is_empty());
    let plan = of_settings(host(&[]), &[("net.ipv4.tcp_timestamps", "0")]);
    assert_eq!(plan.blockers.len(), 1);
}

#[test]
fn bounds_are_written_in_the_order_in_which_they_make_room() {
    let plan = of_settings(host(&[]), &[(RANGE, "800 60999"), (START, "800")]);
    assert_eq!(
        written(&plan),
        ["net.ipv4.ip_unprivileged_port_start=800", "net.ipv4.ip_local_port_range=800 60999"]
    );
    let plan = of_settings(
        host(&[(RANGE, "800 60999"), (START, "800")]),
        &[(START, "1024"), (RANGE, "32768 60999")],
    );
    assert_eq!(
        written(&plan),
        ["net.ipv4.ip_local_port_range=32768 60999", "net.ipv4.ip_unprivileged_port_start=1024"]
    );
}

#[test]
fn ends_of_the_same_parity_are_told() {
    let plan = of_settings(host(&[]), &[(RANGE, "10240 60998")]);
    assert!(plan.changes[0].effect.contains("same parity") && plan.changes[0].effect.contains("10240 60999"));
}

#[test]
fn findings_bring_their_settings_and_what_will_not_help() {
    let mut facts = busy(host(&[]), 27_000, Some(true), |number| u16::try_from(32_768 + number).unwrap());
    facts.configured = true;
    let plan = planned(facts, Asked::Findings, Manner::default()).unwrap();
    assert_eq!(written(&plan), ["net.ipv4.ip_local_port_range=10240 65535", "net.ipv4.tcp_tw_reuse=1"]);
    assert!(plan.changes[0].why.starts_with("port"), "{:?}", plan.changes);
    assert!(plan.notes.iter().any(|note| note.starts_with("before any setting: ")), "{:?}", plan.notes);
    let idle: Vec<&str> = plan.left_out.iter().map(|left| left.setting.as_str()).collect();
    assert!(idle.contains(&"net.ipv4.tcp_fin_timeout"), "{idle:?}");
    let without = ["net.ipv4.tcp_tw_reuse".to_owned()];
    let mut facts = busy(host(&[]), 27_000, Some(true), |number| u16::try_from(32_768 + number).unwrap());
    facts.configured = true;
    let plan = planned(facts, Asked::Findings, Manner { reserve: false, without: &without }).unwrap();
    assert_eq!(written(&plan), ["net.ipv4.ip_local_port_range=10240 65535"]);
    assert!(left(&plan).contains(&(REUSE, Reason::Unwanted)));
    // A slip of the pen must not leave it in.
    let without = ["tcp_tw_resue".to_owned()];
    let refused = planned(
        host(&[]),
        Asked::Profile(profile("proxy").unwrap()),
        Manner { reserve: false, without: &without },
    );
    assert!(refused.unwrap_err().to_string().contains("nothing of that name was asked for"));
    let without = ["tcp_tw_reuse".to_owned()];
    let plan = planned(
        host(&[]),
        Asked::Profile(profile("proxy").unwrap()),
        Manner { reserve: false, without: &without },
    );
    assert_eq!(plan.unwrap().changes.len(), 1);
}

#[test]
fn an_idle_machine_needs_nothing() {
    let plan = planned(host(&[]), Asked::Findings, Manner::default()).unwrap();
    assert!(plan.changes.is_empty() && plan.left_out.is_empty() && plan.blockers.is_empty());
}

#[test]
fn names_and_values_that_will_not_do_are_refused_with_a_word() {
    let refused = |asked: &[(&str, &str)]| {
        planned(host(&[]), Asked::Settings(&settings(asked)), Manner::default()).unwrap_err().to_string()
    };
    assert!(refused(&[("net.ipv4.tcp_tw_reus", "1")]).contains("near is net.ipv4.tcp_tw_reuse"));
    assert!(refused(&[("tcp_tw_reuse", "1")]).contains("near is net.ipv4.tcp_tw_reuse"));
    assert!(!refused(&[("kernel.panic", "1")]).contains("near is"));
    assert!(refused(&[("net.ipv4.tcp_tw_recycle", "1")]).contains("gone since Linux 4.12"));
    assert!(refused(&[("net.ipv4.tcp_tw_timeout", "15")]).contains("not in mainline, only in Alibaba"));
    assert!(refused(&[(REUSE, "1"), (REUSE, "0")]).contains("twice"));
    assert!(refused(&[(RANGE, "80 60999")]).contains("below net.ipv4.ip_unprivileged_port_start"));
}

#[test]
fn what_belongs_to_the_machine_is_not_set_for_a_namespace() {
    let observation = Observation {
        kernel: "6.18.1".to_owned(),
        namespaces: vec![NamespaceFacts { name: "blue".to_owned(), ..host(&[("fs.file-max", "9000")]) }],
        ..Observation::default()
    };
    let report = assess(&observation, &Options { top: 0, timings: false });
    let place = Place {
        observation: &observation,
        name: "blue",
        facts: &observation.namespaces[0],
        namespace: &report.namespaces[0],
        findings: &report.findings,
        udp: &PortSet::default(),
        initial: false,
    };
    let asked = settings(&[("fs.file-max", "10000")]);
    let refused = plan(&place, Asked::Settings(&asked), Manner::default()).unwrap_err().to_string();
    assert!(refused.contains("for the whole machine"), "{refused}");
}

#[test]
fn the_order_in_which_settings_are_named_does_not_matter() {
    let delay = "net.ipv4.tcp_tw_reuse_delay";
    let off = || host(&[("net.ipv4.tcp_timestamps", "0")]);
    let one = of_settings(off(), &[(delay, "500"), (REUSE, "1"), ("net.ipv4.tcp_timestamps", "1")]);
    let other = of_settings(off(), &[("net.ipv4.tcp_timestamps", "1"), (REUSE, "1"), (delay, "500")]);
    assert_eq!(written(&one), written(&other));
    assert_eq!(one.changes.len(), 3);
}

#[test]
fn what_would_break_the_machine_is_in_the_way() {
    for (setting, value) in [
        (RANGE, "50000 50000"),
        ("net.ipv4.tcp_syncookies", "0"),
        ("net.ipv4.tcp_max_tw_buckets", "1"),
        ("net.core.somaxconn", "1"),
        ("net.ipv4.tcp_retries2", "3"),
        ("net.ipv4.tcp_mem", "1 2 3"),
        ("fs.file-max", "8192"),
    ] {
        let facts = host(&[
            ("net.ipv4.tcp_retries2", "15"),
            ("net.ipv4.tcp_mem", "190000 250000 380000"),
            ("fs.file-max", "9223372036854775807"),
        ]);
        let plan = of_settings(facts, &[(setting, value)]);
        assert_eq!(plan.blockers.len(), 1, "{setting} = {value}: {plan:?}");
    }
    assert!(of_settings(host(&[]), &[("net.core.somaxconn", "1024")]).blockers.is_empty());
}

#[test]
fn a_service_does_not_lose_its_reservation_unnoticed() {
    let mut facts = host(&[(RESERVED, "33000,40000")]);
    facts.census.bound.insert(33_000);
    let plan = of_settings(facts.clone(), &[(RESERVED, "40000")]);
    assert!(plan.blockers[0].why.contains("33000 would not be reserved any more"), "{plan:?}");
    let plan = of_settings(facts, &[(RESERVED, "33000")]);
    assert!(plan.blockers.is_empty());
    assert!(plan.changes[0].effect.starts_with("1 port not reserved any more"), "{plan:?}");
}

#[test]
fn ports_that_a_program_chose_for_itself_are_in_the_way_of_a_wider_range() {
    let facts = busy(host(&[]), 3, Some(true), |number| 20_100 + u16::try_from(number).unwrap());
    let plan = of_settings(facts, &[(RANGE, "10240 60999")]);
    assert!(plan.blockers[0].why.contains("go out from 20100, 20101, 20102"), "{plan:?}");
}

#[test]
fn reuse_is_judged_by_every_destination_and_not_the_busiest_alone() {
    // The busiest sends no timestamps; another does.
    let mut facts = busy(host(&[]), 9_000, Some(false), even);
    let other = busy(host(&[]), 900, Some(true), even).census.destinations.remove(0);
    let peer = Endpoint { port: 5_432, ..other.peer };
    facts.census.destinations.push(Destination { peer, ..other });
    let plan = of_settings(facts, &[(REUSE, "1")]);
    assert!(plan.changes[0].effect.starts_with("1 of 2 destinations"), "{plan:?}");
    assert!(plan.changes[0].effect.contains("sends none"), "{plan:?}");
}
