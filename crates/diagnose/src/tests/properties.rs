//! Whatever is observed: no panic, sane numbers, no finding lost, words that say something.

use proptest::prelude::*;
use tidewait_model::lingering::Peer;
use tidewait_model::trace::{Births, Counts, Direction, Flow, Program};
use tidewait_model::{Census, Incoming, Lingering, Machine, Occupancy, Source, StateCounts, Traced};

use super::*;
use crate::findings::KINDS;

fn any_group() -> impl Strategy<Value = Lingering> {
    let counts = proptest::collection::vec(prop_oneof![0_u64..500, any::<u64>()], 9);
    let state = proptest::sample::select(State::ALL.to_vec());
    let silence = proptest::option::of((0.0..1e6_f64, 0_u64..500));
    (state, any::<bool>(), any::<bool>(), counts, silence, any::<u32>(), any::<bool>()).prop_map(
        |(state, held_by, owned, counts, silence, retransmits_max, came_in)| Lingering {
            state,
            held: held_by,
            owner: owned.then(|| owner("app", 7)),
            sockets: counts[0],
            looked_at: counts[1],
            peers: vec![Peer {
                peer: "10.0.2.9:80".to_owned(),
                service: came_in.then(|| "0.0.0.0:80".to_owned()),
                sockets: counts[0],
            }],
            peers_total: counts[2],
            silence: silence.map(|(median, last_minute)| aged(median, last_minute)),
            unread_end: counts[3],
            unread_data: counts[4],
            unread_bytes: counts[5],
            keepalive: counts[6],
            retransmitting: counts[7],
            zero_window: counts[8],
            retransmits_max,
        },
    )
}

/// Flows of few programs to few places, so that they meet, with whatever counts.
fn any_traced() -> impl Strategy<Value = Traced> {
    let counts =
        proptest::collection::vec(prop_oneof![0_u64..500, 0..u64::MAX / 64], 17).prop_map(|n| Counts {
            connects: n[0],
            port_by_bind: n[1],
            port_by_program: n[2],
            accepts: n[3],
            closed_here: n[4],
            closed_there: n[5],
            aborted_here: n[6],
            aborted_there: n[7],
            time_wait: n[8],
            lived_ns: n[9],
            aged: n[10],
            sent: n[11],
            received: n[12],
            no_port: n[13],
            refused: n[14],
            unanswered: n[15],
            failed: n[16],
        });
    let directions = vec![Direction::Outgoing, Direction::Incoming, Direction::Bind];
    let locals = vec![None, Some("10.0.0.5:0"), Some("0.0.0.0:0")];
    let remotes = vec![None, Some("10.0.2.9:3306"), Some("10.0.2.8:80")];
    let flow = (
        proptest::option::of((0_u32..3, proptest::option::of(0_u32..3))),
        proptest::sample::select(directions),
        proptest::sample::select(locals),
        proptest::sample::select(vec![0_u16, 80]),
        proptest::sample::select(remotes),
        counts,
    )
        .prop_map(|(program, direction, local, port, remote, counts)| Flow {
            program: program.map(|(number, processes)| Program {
                command: ["", "curl", "nginx"][number as usize].to_owned(),
                pid: (number == 0).then_some(7),
                processes,
                ..Program::default()
            }),
            direction,
            local: local.map(|local| endpoint(local).address),
            port,
            remote: remote.map(endpoint),
            counts,
        });
    let seconds = prop_oneof![Just(0.0), 0.001..1e3_f64];
    (proptest::collection::vec(flow, 0..8), seconds, any::<u64>(), any::<u64>()).prop_map(
        |(flows, seconds, born, attributed)| Traced { seconds, flows, births: Births { born, attributed } },
    )
}

/// Destinations and a service of few or many sockets, whose flows may be traced.
fn any_census() -> impl Strategy<Value = Census> {
    let sockets = || prop_oneof![0_u32..50, 0_u32..28_233];
    let row = (sockets(), sockets(), 1_u16..3).prop_map(|(closed, open, step)| {
        let open = open.min(28_232 - closed);
        ports::occupancy(&[(30, closed)], open, 32_768, step)
    });
    (proptest::option::of(row.clone()), proptest::option::of(row), 0_u64..20_000).prop_map(
        |(one, other, waiting)| {
            let rows = [("10.0.2.9:3306", one), ("10.0.2.8:80", other)].into_iter();
            let rows = rows.filter_map(|(to, occupancy)| Some(ports::destination(to, occupancy?)));
            let mut census = Census { destinations: rows.collect(), ..Census::default() };
            if let Some(first) = census.destinations.first() {
                let mut occupancy = Occupancy::default();
                census.destinations.iter().for_each(|row| occupancy.merge(&row.occupancy));
                let destinations = census.destinations.len() as u64;
                census.sources =
                    vec![Source { address: first.source, occupancy, destinations, parity: [0, 0] }];
            }
            let mut states = StateCounts::default();
            states.add(State::TimeWait, waiting);
            let local = endpoint("0.0.0.0:80");
            census.incoming = vec![Incoming {
                local,
                listening: true,
                states,
                expiring: vec![1; 60],
                owners: vec![],
                births: Births::default(),
            }];
            census
        },
    )
}

fn any_facts() -> impl Strategy<Value = NamespaceFacts> {
    let values = prop_oneof![
        (-5_i64..1_000).prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        Just("nonsense".to_owned()),
        Just("32768 60999".to_owned()),
    ];
    let mut names: Vec<&str> = STOCK.iter().map(|(name, _)| *name).collect();
    names.extend([
        "net.netfilter.nf_conntrack_max",
        "net.netfilter.nf_conntrack_count",
        "net.ipv4.tcp_tw_timeout",
    ]);
    let settings = proptest::collection::vec((proptest::sample::select(names), values), 0..8);
    let counters = proptest::sample::select(vec![
        "TcpExt.ListenOverflows",
        "TcpExt.TCPTimeWaitOverflow",
        "TcpExt.TWRecycled",
        "Tcp.PassiveOpens",
        "conntrack.drop",
        "conntrack.insert_failed",
        "sockstat.TCP.orphan",
        "sockstat.TCP.tw",
    ]);
    let counters = proptest::collection::vec((counters, any::<i64>()), 0..6);
    let listeners = proptest::collection::vec((1_u16.., any::<u32>(), any::<u32>()), 0..5);
    let names = proptest::sample::select(vec!["host", "tenant", "web.service", "x[3]", ""]);
    let groups = proptest::collection::vec(any_group(), 0..6);
    let growth = proptest::option::of((counters.clone(), -1.0..10.0_f64));
    let traced = proptest::option::of(any_traced());
    (settings, counters, growth, listeners, names, groups, traced, any_census()).prop_map(
        |(settings, counters, growth, listeners, name, lingering, traced, census)| {
            let mut facts =
                NamespaceFacts { lingering, configured: true, traced, census, ..namespace(name, 1) };
            for (name, value) in settings {
                facts.settings.0.insert(name.to_owned(), value);
            }
            counted(&mut facts, &counters);
            if let Some((counters, seconds)) = growth {
                grew(&mut facts, &counters);
                facts.growth.iter_mut().for_each(|growth| growth.seconds = seconds);
            }
            facts.census.listeners = listeners
                .into_iter()
                .map(|(port, queue, limit)| listener(&format!("0.0.0.0:{port}"), queue, limit))
                .collect();
            facts
        },
    )
}

fn any_machine() -> impl Strategy<Value = Machine> {
    let processes = proptest::collection::vec((any::<u64>(), 0_u64..4_000, 0_u64..4_000), 0..4);
    let lines = proptest::collection::vec((proptest::sample::select(STOCK.to_vec()), "[ 0-9a-z]{0,8}"), 0..4);
    (proptest::option::of(any::<u64>()), processes, lines).prop_map(|(open_files, processes, lines)| {
        Machine {
            open_files,
            processes: processes
                .into_iter()
                .zip(5..)
                .map(|((used, limit, lost), pid)| Process {
                    sockets_without_connection: Some(lost),
                    ..process("app", pid, used, limit)
                })
                .collect(),
            configured: lines
                .into_iter()
                .map(|((name, _), value)| configured("/etc/x", 1, name, &value))
                .collect(),
            ..Machine::default()
        }
    })
}

/// Whether a number less than nothing stands in the text.
fn has_negative(text: &str) -> bool {
    text.as_bytes().windows(3).any(|part| part.starts_with(b" -") && part[2].is_ascii_digit())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_is_seen_the_findings_are_sane(
        namespaces in proptest::collection::vec(any_facts(), 0..4), machine in any_machine(),
    ) {
        let observation = seen(namespaces, machine);
        let found = findings(&observation);
        for finding in &found {
            let known = KINDS.iter().any(|kind| kind.id == finding.id);
            prop_assert!(known, "{}", finding.id);
            prop_assert!(!finding.summary.is_empty() && !finding.subject.is_empty() && !finding.evidence.is_empty());
            prop_assert!(!finding.remedies.is_empty());
            let ranks: Vec<u32> = finding.remedies.iter().map(|remedy| remedy.rank).collect();
            prop_assert!(ranks.iter().copied().eq(1..=ranks.len() as u32));
            let sentences = finding.evidence.iter().chain([&finding.summary]);
            for text in sentences.chain(finding.remedies.iter().map(|remedy| &remedy.effect)) {
                // A file's value is repeated as it is, whatever it is.
                let sane = !text.contains("NaN") && !text.contains("inf ") && !has_negative(text);
                prop_assert!(sane || finding.id.starts_with("setting-"), "{text}");
            }
            // What helps is never said to be no help as well.
            for remedy in finding.remedies.iter().filter_map(|remedy| remedy.command.as_ref()) {
                for advice in &finding.no_help {
                    prop_assert!(!remedy.contains(&format!("{}=", advice.setting)), "{remedy}: {}", advice.setting);
                }
            }
        }
        let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
        prop_assert!(severities.is_sorted());
    }

    #[test]
    fn whatever_is_traced_the_report_is_sane_and_no_refusal_is_lost(facts in any_facts()) {
        let refused = facts.traced.iter().flat_map(|traced| &traced.flows).any(|flow| {
            flow.counts.no_port > 0 && match flow.direction {
                Direction::Outgoing => true,
                Direction::Bind => flow.port == 0,
                Direction::Incoming => false,
            }
        });
        let report = assess(&seen(vec![facts], Machine::default()), &Options { top: 0, timings: false });
        let namespace = &report.namespaces[0];
        let closed = &namespace.closed_here;
        let sides = [&closed.outgoing, &closed.incoming].into_iter().flatten().map(|side| &side.by_owner);
        for owners in sides.chain([&closed.by_owner]) {
            let all: f64 = owners.iter().map(|owner| owner.share).sum();
            prop_assert!((0.0..=1.001).contains(&all), "{all}");
        }
        let sums = namespace.destinations.iter().map(|row| row.traced);
        for sum in sums.chain(namespace.incoming.iter().map(|row| row.traced)).flatten() {
            let rates = [sum.opened_per_second, sum.closed_here_per_second, sum.closed_there_per_second];
            prop_assert!(rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0), "{rates:?}");
            prop_assert!(sum.closed_here_share.is_none_or(|share| (0.0..=1.0).contains(&share)));
        }
        // A leak that holds the ports may be what it is told under.
        let told = report.findings.iter().any(|finding| {
            let ids = finding.consequences.iter().map(|consequence| consequence.id.as_str());
            let mut ids = ids.chain([finding.id.as_str()]);
            let lacking = ids.any(|id| id == "ports-exhausted" || id == "bind-pool-exhausted");
            lacking && finding.severity == Severity::Critical
        });
        prop_assert!(told || !refused);
    }

    #[test]
    fn merging_loses_no_finding(namespaces in proptest::collection::vec(any_facts(), 0..4), machine in any_machine()) {
        let observation = seen(namespaces, machine);
        let described: Vec<_> =
            observation.namespaces.iter().map(|facts| crate::namespace::describe(facts, "6.18")).collect();
        let mut apart = crate::findings::apart(&observation, &described);
        let mut told: Vec<(String, String)> = Vec::new();
        for finding in crate::findings::find(&observation, &described) {
            told.extend(finding.consequences.into_iter().map(|consequence| (consequence.id, consequence.summary)));
            told.push((finding.id, finding.summary));
        }
        told.sort();
        apart.sort();
        prop_assert_eq!(told, apart);
    }
}
