//! Port accounting and forecast against hand-made cases and against a simulated churn.

use std::net::IpAddr;

use proptest::prelude::*;
use tidewait_model::address::Address;
use tidewait_model::report::{Pool, Report, Severity, Trend};
use tidewait_model::steer::Holder;
use tidewait_model::trace::Births;
use tidewait_model::{
    Census, Destination, Endpoint, NamespaceFacts, Observation, Occupancy, PortRange, PortSet, Settings,
    Source, State,
};

use crate::forecast::{Situation, history};
use crate::{Options, assess};

const RANGE: PortRange = PortRange { low: 32_768, high: 60_999 };

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

/// What a destination looks like whose ports were taken by `step` from `first` on.
pub(super) fn occupancy(time_wait: &[(u32, u32)], live: u32, first: u16, step: u16) -> Occupancy {
    let mut occupancy = Occupancy::default();
    let closed: u32 = time_wait.iter().map(|(_, count)| count).sum();
    for (left, count) in time_wait {
        let left = *left as usize;
        if occupancy.expiring.len() <= left {
            occupancy.expiring.resize(left + 1, 0);
        }
        occupancy.expiring[left] += count;
    }
    occupancy.states.add(State::TimeWait, u64::from(closed));
    occupancy.states.add(State::Established, u64::from(live));
    let mut port = u32::from(first);
    for _ in 0..closed + live {
        if port > u32::from(RANGE.high) {
            // The first parity is used up: go on with the other.
            port = u32::from(RANGE.low) + u32::from(first % 2 == RANGE.low % 2);
        }
        occupancy.ports.insert(port as u16);
        port += u32::from(step);
    }
    occupancy
}

pub(super) fn destination(peer: &str, occupancy: Occupancy) -> Destination {
    let peer: std::net::SocketAddr = peer.parse().unwrap();
    Destination {
        source: address("10.0.0.5"),
        peer: Endpoint { address: peer.ip().into(), port: peer.port() },
        occupancy,
        owners: Vec::new(),
        peer_timestamps: None,
        births: Births::default(),
    }
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    for (name, value) in
        [("ip_local_port_range", "32768 60999"), ("tcp_tw_reuse", "2"), ("tcp_timestamps", "1")]
            .iter()
            .chain(pairs)
    {
        settings.0.insert(format!("net.ipv4.{name}"), (*value).to_owned());
    }
    settings
}

fn report_of(census: Census, pairs: &[(&str, &str)]) -> Report {
    let facts = NamespaceFacts {
        name: "host".to_owned(),
        settings: settings(pairs),
        census,
        ..NamespaceFacts::default()
    };
    let observation =
        Observation { kernel: "6.18.1".to_owned(), namespaces: vec![facts], ..Observation::default() };
    assess(&observation, &Options { top: 0, timings: false })
}

fn one(occupancy: Occupancy, pairs: &[(&str, &str)]) -> Report {
    report_of(
        Census { destinations: vec![destination("10.0.2.9:3306", occupancy)], ..Census::default() },
        pairs,
    )
}

/// A constant rate for the whole last minute: what the timers then show.
pub(super) fn steady(rate: u32) -> Vec<(u32, u32)> {
    (0..60).map(|left| (left, rate)).collect()
}

#[test]
fn the_seeds_arithmetic_is_the_limit() {
    let report = one(occupancy(&steady(100), 0, 32_768, 2), &[]);
    let destination = &report.namespaces[0].destinations[0];
    assert_eq!(destination.ports_usable, Some(28_232));
    assert_eq!(destination.limit_per_second, Some(470.5));
    assert_eq!((destination.rate_per_second, destination.rate_now_per_second), (100.0, 100.0));
    assert_eq!((destination.seconds_to_half, destination.seconds_to_exhaustion), (None, None));
    assert_eq!(destination.trend, Trend::Steady);
    assert!(report.findings.is_empty());
}

#[test]
fn reserved_and_bound_ports_are_not_usable_and_connections_that_stay_lower_the_limit() {
    let mut census = Census {
        destinations: vec![destination("10.0.2.9:3306", occupancy(&[], 8_232, 32_768, 2))],
        ..Census::default()
    };
    // One listener below the range, one inside; ten reserved ports, one of them bound as well.
    census.bound = [443, 50_001, 60_000].into_iter().collect();
    let report = report_of(census, &[("ip_local_reserved_ports", "60000-60009")]);
    let namespace = &report.namespaces[0];
    let ports = namespace.ports.unwrap();
    assert_eq!((ports.reserved, ports.bound, ports.usable), (10, 1, 28_221));
    let destination = &namespace.destinations[0];
    assert_eq!(destination.ports_free, Some(28_221 - 8_232));
    assert_eq!(destination.limit_per_second, Some(333.2));
}

#[test]
fn parity_tells_the_pool_and_says_so() {
    for (first, step, pool) in
        [(32_768, 2, Pool::Connect), (32_769, 2, Pool::Bind), (32_768, 1, Pool::Unknown)]
    {
        let report = one(occupancy(&[(30, 1_000)], 0, first, step), &[]);
        let destination = &report.namespaces[0].destinations[0];
        assert_eq!(destination.pool, pool);
        assert!(!destination.pool_how.is_empty());
    }
    let few = one(occupancy(&[(30, 3)], 0, 32_769, 2), &[]);
    assert_eq!(few.namespaces[0].destinations[0].pool, Pool::Unknown);
    // Past half the range connect() goes on with the other parity.
    let past = one(occupancy(&[(30, 20_000)], 0, 32_768, 2), &[]);
    assert_eq!(past.namespaces[0].destinations[0].pool, Pool::Connect);
}

#[test]
fn a_bind_pool_is_short_for_all_destinations_of_the_source_together() {
    let mut ports = PortSet::bitmap();
    ports.extend(RANGE.low..=RANGE.high);
    let mut union = Occupancy { ports, expiring: vec![0; 60], ..Occupancy::default() };
    union.expiring[20] = 28_232;
    union.states.add(State::TimeWait, 28_232);
    let source =
        Source { address: address("10.0.0.5"), occupancy: union, destinations: 4_000, parity: [10, 28_222] };
    let census = Census { sources: vec![source], ..Census::default() };
    let report = report_of(census, &[("tcp_tw_reuse", "1")]);
    let row = &report.namespaces[0].destinations[0];
    assert_eq!((row.destination.as_str(), row.pool, row.ports_free), ("*", Pool::Bind, Some(0)));
    let finding = &report.findings[0];
    assert_eq!((finding.id.as_str(), finding.severity), ("bind-pool-exhausted", Severity::Critical));
    assert!(finding.no_help.iter().any(|advice| advice.setting == "net.ipv4.tcp_tw_reuse"));
    assert!(finding.remedies.iter().any(|remedy| remedy.id == "bind-address-no-port"));
    assert!(finding.remedies.iter().all(|remedy| remedy.id != "tw-reuse"));
}

#[test]
fn reuse_makes_old_time_wait_free_for_connect_only_where_it_applies() {
    let full = occupancy(&steady(400), 0, 32_768, 2);
    for (pairs, peer_stamps, reusable) in [
        (&[("tcp_tw_reuse", "0")][..], None, false),
        (&[("tcp_tw_reuse", "2")][..], None, false),
        (&[("tcp_tw_reuse", "1")][..], None, true),
        (&[("tcp_tw_reuse", "1")][..], Some(false), false),
        (&[("tcp_tw_reuse", "1"), ("tcp_timestamps", "0")][..], None, false),
    ] {
        let mut seen = destination("10.0.2.9:3306", full.clone());
        seen.peer_timestamps = peer_stamps;
        let report = report_of(Census { destinations: vec![seen], ..Census::default() }, pairs);
        let row = &report.namespaces[0].destinations[0];
        assert_eq!(row.reusable > 23_000, reusable, "{pairs:?} {peer_stamps:?}: {}", row.reusable);
        if reusable {
            assert_eq!(row.limit_per_second, Some(28_232.0));
            assert!(report.findings.is_empty(), "{:?}", report.findings);
        } else {
            assert_eq!(report.findings[0].id, "port-search-cliff");
        }
    }
}

#[test]
fn a_full_range_whose_pool_cannot_be_told_is_no_certain_failure_under_tw_reuse() {
    for (value, severity) in [("0", Severity::Critical), ("1", Severity::Warning)] {
        let report = one(occupancy(&steady(470), 32, 32_768, 2), &[("tcp_tw_reuse", value)]);
        let finding = &report.findings[0];
        assert_eq!((finding.id.as_str(), finding.severity), ("ports-exhausted", severity));
    }
}

#[test]
fn a_short_range_over_half_full_costs_nothing_to_speak_of() {
    for (range, told) in [("32768 33367", false), ("32768 60999", true)] {
        let ports: u32 = if told { 16_000 } else { 400 };
        let mut open = occupancy(&[], ports, 32_768, 1);
        open.ports = (32_768..32_768 + ports as u16).collect();
        let report = one(open, &[("ip_local_port_range", range)]);
        let ids: Vec<&str> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids.contains(&"port-search-cliff"), told, "{range}: {ids:?}");
    }
}

#[test]
fn ports_that_a_program_chose_outside_the_range_take_none_of_it() {
    for (low, told) in [(10_000, &[][..]), (32_768, &["ports-exhausted"][..])] {
        let mut past = occupancy(&steady(50), 0, low, 1);
        past.ports = (low..low + 3_000).collect();
        let report = one(past, &[("ip_local_port_range", "32768 33767")]);
        let ids: Vec<&str> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, told, "from {low} on");
    }
}

#[test]
fn reuse_that_cannot_be_or_does_not_happen_is_no_hope() {
    let full = |timestamps: &str, recycled: i64| {
        let past = occupancy(&steady(470), 32, 32_768, 2);
        let facts = NamespaceFacts {
            settings: settings(&[("tcp_tw_reuse", "1"), ("tcp_timestamps", timestamps)]),
            census: Census { destinations: vec![destination("10.0.2.9:3306", past)], ..Census::default() },
            counters: [("TcpExt.TWRecycled".to_owned(), recycled)].into(),
            ..NamespaceFacts::default()
        };
        super::findings_of(facts)[0].severity
    };
    assert_eq!(full("1", 10), Severity::Warning);
    assert_eq!(full("0", 10), Severity::Critical);
    assert_eq!(full("1", 0), Severity::Critical);
}

#[test]
fn the_worst_name_is_given_and_only_one() {
    for (rate, live, id) in [
        (200, 0, None),
        (300, 0, Some("port-search-cliff")),
        (470, 0, Some("ports-exhausted")),
        (100, 26_000, Some("ports-running-out")),
    ] {
        let past: Vec<(u32, u32)> =
            if live > 0 { (55..60).map(|left| (left, rate)).collect() } else { steady(rate) };
        let report = one(occupancy(&past, live, 32_768, 2), &[]);
        let ids: Vec<&str> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, Vec::from_iter(id), "{rate} a second beside {live}");
        for finding in &report.findings {
            assert!(finding.remedies.iter().zip(1..).all(|(remedy, rank)| remedy.rank == rank));
            assert!(!finding.evidence.is_empty());
        }
    }
}

#[test]
fn one_burst_is_no_stream_and_an_idle_pool_past_half_is_only_a_notice() {
    let burst = one(occupancy(&[(58, 14_000)], 0, 32_768, 2), &[]);
    assert_eq!(burst.namespaces[0].destinations[0].rate_now_per_second, 0.0);
    assert!(burst.findings.is_empty(), "{:?}", burst.findings);
    let pool = one(occupancy(&[], 25_000, 32_768, 2), &[]);
    assert!(pool.findings.iter().all(|finding| finding.severity == Severity::Notice), "{:?}", pool.findings);
}

#[test]
fn batches_every_few_seconds_are_a_stream() {
    let batches: Vec<(u32, u32)> = (0..60).filter(|left| left % 8 == 0).map(|left| (left, 4_000)).collect();
    let report = one(occupancy(&batches, 0, 32_768, 2), &[]);
    assert!(report.namespaces[0].destinations[0].rate_now_per_second >= 400.0);
}

#[test]
fn steered_ports_are_told_and_show_nothing_of_who_chose() {
    // Two destinations that share no port by the order in which they were given.
    let all = [("10.0.2.9:3306", 22_300), ("10.0.2.9:80", 24_300)]
        .map(|(to, first)| destination(to, occupancy(&[], 2_000, first, 1)));
    let mut held = all[0].occupancy.clone();
    held.merge(&all[1].occupancy);
    let source = Source { address: all[0].source, occupancy: held, destinations: 2, parity: [0, 0] };
    let census = Census { destinations: all.to_vec(), sources: vec![source], ..Census::default() };
    let range = PortRange { low: 22_268, high: 29_999 };
    let facts = NamespaceFacts {
        settings: settings(&[]),
        census,
        steered: vec![Holder { range, pid: 7 }],
        ..NamespaceFacts::default()
    };
    for steered in [facts.steered.clone(), vec![]] {
        let facts = NamespaceFacts { steered, ..facts.clone() };
        let steers = !facts.steered.is_empty();
        let observation = Observation { namespaces: vec![facts], ..Observation::default() };
        let report = assess(&observation, &Options { top: 0, timings: false });
        let rows = &report.namespaces[0].destinations;
        // No row for a bind() pool, which there would be one of if those ports had been taken for bind()'s.
        assert_eq!(rows.len(), 2);
        for row in rows {
            assert_eq!((row.ports_used, row.ports_outside_range, row.pool), (0, 2_000, Pool::Unknown));
            assert_eq!(row.ports_steered, if steers { 2_000 } else { 0 });
        }
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let told: Vec<(u16, u32)> =
            report.namespaces[0].steered.iter().map(|ports| (ports.low, ports.pid)).collect();
        assert_eq!(told, if steers { vec![(22_268, 7)] } else { vec![] });
    }
}

#[test]
fn the_range_being_unknown_gives_no_numbers() {
    let mut settings = settings(&[]);
    settings.0.remove("net.ipv4.ip_local_port_range");
    let census = Census {
        destinations: vec![destination("10.0.2.9:3306", occupancy(&steady(400), 0, 32_768, 2))],
        ..Census::default()
    };
    let facts = NamespaceFacts { settings, census, ..NamespaceFacts::default() };
    let observation = Observation { namespaces: vec![facts], ..Observation::default() };
    let report = assess(&observation, &Options { top: 0, timings: false });
    let row = &report.namespaces[0].destinations[0];
    assert_eq!((row.ports_usable, row.fill, row.limit_per_second), (None, None, None));
    assert_eq!((row.ports_used, row.pool), (24_000, Pool::Unknown));
    assert!(report.findings.is_empty());
}

/// Ports in use `at` seconds from now, connection by connection: each of the past goes at a moment of its own within its
/// second, and one comes every 1/`rate` s and stays for `time_wait`.
fn played(live: u32, expiring: &[u32], time_wait: u32, rate: f64, at: f64) -> f64 {
    let ends = expiring.iter().enumerate().flat_map(|(left, count)| {
        (0..*count).map(move |n| left as f64 + (f64::from(n) + 0.5) / f64::from(*count))
    });
    let held = ends.filter(|end| *end > at).count() as f64;
    let young = (rate * at).floor() - (rate * (at - f64::from(time_wait)).max(0.0)).floor();
    f64::from(live) + held + young
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_forecast_agrees_with_a_simulation(
        usable in 200_u32..1_500, live_share in 0.0..0.5_f64, past in proptest::collection::vec(0_u32..20, 60),
        rate in 0.0..60.0_f64,
    ) {
        // Connections are whole and the forecast is not: two may be in flight between them.
        const SLACK: f64 = 2.0;
        let live = (f64::from(usable) * live_share) as u32;
        let situation = Situation { usable, live, expiring: &past, time_wait: 60, reuse_after: None, rate };
        let forecast = situation.forecast();
        for (level, said) in [(0.5, forecast.to_half), (1.0, forecast.to_exhaustion)] {
            let level = f64::from(usable) * level;
            let at = |time: f64| played(live, &past, 60, rate, time);
            // Until then the level is not passed, and then it is reached.
            let until = said.unwrap_or(60.0);
            let steps = (until / 0.05) as u32;
            for time in (0..steps).map(|step| f64::from(step) * 0.05) {
                prop_assert!(at(time) <= level + SLACK, "{} of {level} after {time}, said {said:?}", at(time));
            }
            if let Some(said) = said {
                prop_assert!(at(said) >= level - SLACK, "{} of {level} after {said}, as said", at(said));
            }
        }
    }

    #[test]
    fn any_history_gives_finite_rates(
        expiring in proptest::collection::vec(any::<u32>(), 0..700), time_wait in 0_u32..700,
        reuse in proptest::option::of(0.0..60.0_f64),
    ) {
        let history = history(&expiring, time_wait, reuse);
        prop_assert!(history.mean.is_finite() && history.now.is_finite());
        prop_assert_eq!(history.closed_per_second.len(), time_wait.max(1) as usize);
    }
}

#[test]
fn a_full_bind_pool_mixes_the_parities_and_is_told_by_no_port_being_used_twice() {
    let destinations: Vec<Destination> = (0..10_u16)
        .map(|n| {
            let mut held = Occupancy { expiring: vec![0; 60], ..Occupancy::default() };
            held.ports.extend((0..400).map(|k| 32_768 + k * 10 + n));
            held.expiring[30] = 400;
            held.states.add(State::TimeWait, 400);
            destination(&format!("10.0.2.9:{}", 80 + n), held)
        })
        .collect();
    for (shared, bind) in [(0, true), (700, false)] {
        let mut union = Occupancy::default();
        destinations.iter().for_each(|destination| union.merge(&destination.occupancy));
        // The same sockets on fewer ports: some ports serve two destinations.
        union.ports = union.ports.iter().skip(shared).collect();
        let source = Source {
            address: address("10.0.0.5"),
            occupancy: union,
            destinations: 10,
            parity: [2_000, 2_000],
        };
        let census =
            Census { destinations: destinations.clone(), sources: vec![source], ..Census::default() };
        let report = report_of(census, &[("ip_local_port_range", "32768 36767")]);
        assert_eq!(report.findings.iter().any(|finding| finding.id == "bind-pool-exhausted"), bind);
    }
}
