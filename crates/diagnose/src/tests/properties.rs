//! Whatever is observed: no panic, sane numbers, no finding lost, words that say something.

use proptest::prelude::*;
use tidewait_model::lingering::Peer;
use tidewait_model::{Lingering, Machine};

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
    (settings, counters.clone(), proptest::option::of((counters, -1.0..10.0_f64)), listeners, names, groups)
        .prop_map(|(settings, counters, growth, listeners, name, lingering)| {
            let mut facts = NamespaceFacts { lingering, configured: true, ..namespace(name, 1) };
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
        })
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
