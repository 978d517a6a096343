//! The rows as a whole: complete, consistent, and true to the checks that they feed.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn kernel(text: &str) -> Version {
    text.parse().unwrap()
}

fn row(name: &str) -> &'static Setting {
    setting(name).unwrap_or_else(|| panic!("no row {name}"))
}

fn refused(name: &str, text: &str) -> Refusal {
    row(name).check(text).expect_err(&format!("{name} = {text:?}"))
}

#[test]
fn names_are_unique_and_their_form_is_that_of_sysctl() {
    let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(names.len(), SETTINGS.len());
    for name in names {
        let parts: Vec<&str> = name.split('.').collect();
        assert!(parts.len() >= 2, "{name}");
        assert!(
            parts.iter().all(|part| !part.is_empty()
                && part.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
                })),
            "{name}"
        );
    }
    let counters: BTreeSet<_> = COUNTERS.iter().collect();
    assert_eq!(counters.len(), COUNTERS.len());
    let options: BTreeSet<_> = OPTIONS.iter().map(|option| option.name).collect();
    assert_eq!(options.len(), OPTIONS.len());
}

#[test]
fn no_row_leaves_a_question_open() {
    for setting in SETTINGS {
        let name = setting.name;
        assert!(
            !setting.unit.is_empty() && !setting.summary.is_empty() && !setting.risk.is_empty(),
            "{name}"
        );
        for list in [setting.affects, setting.sources, setting.see_also] {
            assert!(!list.is_empty() && list.iter().all(|text| !text.is_empty()), "{name}");
        }
        assert!(!setting.does_not.is_empty() && !setting.defaults.is_empty(), "{name}");
        assert!(setting.trap != Some(""), "{name}");
        let choice = matches!(setting.accepts, Accepts::Choice { .. });
        assert_eq!(
            choice,
            matches!(setting.meaning, Meaning::Choice),
            "{name}: its meaning is in its choices"
        );
        assert!(
            matches!(setting.in_namespace, InNamespace::Own | InNamespace::OwnReadOnly)
                == (setting.scope == Scope::Namespace),
            "{name}"
        );
        assert!(setting.scope == Scope::Namespace || setting.namespaced_since.is_none(), "{name}");
    }
    for option in OPTIONS {
        let name = option.name;
        for text in [option.level, option.value, option.summary, option.who, option.risk] {
            assert!(!text.is_empty(), "{name}");
        }
        for list in [option.affects, option.sources, option.see_also] {
            assert!(!list.is_empty() && list.iter().all(|text| !text.is_empty()), "{name}");
        }
        assert!(!option.does_not.is_empty(), "{name}");
    }
}

#[test]
fn see_also_names_other_rows() {
    let rows = SETTINGS
        .iter()
        .map(|setting| (setting.name, setting.see_also))
        .chain(OPTIONS.iter().map(|option| (option.name, option.see_also)));
    for (name, see_also) in rows {
        for other in see_also {
            assert_ne!(name, *other);
            assert!(setting(other).is_some() || socket_option(other).is_some(), "{name} points to {other}");
        }
    }
}

#[test]
fn versions_ascend_and_lie_within_the_life_of_the_setting() {
    for setting in SETTINGS {
        let name = setting.name;
        let from: Vec<_> = setting.defaults.iter().map(|default| default.since).collect();
        assert!(from.is_sorted() && from.iter().collect::<BTreeSet<_>>().len() == from.len(), "{name}");
        assert_eq!(from[0], None, "{name}: the first default holds from the beginning");
        for version in from.into_iter().chain([setting.namespaced_since]).flatten() {
            assert!(setting.since.is_none_or(|since| version > since), "{name}");
            assert!(setting.removed_in.is_none_or(|removed| version < removed), "{name}");
        }
    }
}

#[test]
fn defaults_pass_the_check_and_mean_something() {
    for setting in SETTINGS {
        for default in setting.defaults {
            let Value::Text(text) = default.value else { continue };
            if setting.accepts != Accepts::Nothing {
                // 0 turns orphan retries into 8 and the like; whatever the kernel starts with must be allowed back.
                setting.check(text).unwrap();
            }
            let meaning = setting.meaning(text, kernel("6.12"));
            assert!(!meaning.contains("no value"), "{meaning}");
        }
    }
}

#[test]
fn defaults_follow_the_kernel() {
    let of = |name: &str, release: &str| row(name).default_for(kernel(release));
    assert_eq!(of("net.ipv4.tcp_tw_reuse", "4.18.0"), Some(Value::Text("0")));
    assert_eq!(of("net.ipv4.tcp_tw_reuse", "4.19.0"), Some(Value::Text("2")));
    assert_eq!(of("net.core.somaxconn", "5.3"), Some(Value::Text("128")));
    assert_eq!(of("net.core.somaxconn", "6.1.0-56-amd64"), Some(Value::Text("4096")));
    assert_eq!(of("net.ipv4.ip_local_port_range", "4.1"), Some(Value::Text("32768 61000")));
    assert_eq!(of("net.ipv4.ip_local_port_range", "4.2"), Some(Value::Text("32768 60999")));
    assert_eq!(of("net.ipv4.tcp_tw_reuse_delay", "6.13"), None);
    assert_eq!(of("net.ipv4.tcp_tw_reuse_delay", "6.14"), Some(Value::Text("1000")));
    assert_eq!(of("net.ipv4.tcp_tw_recycle", "4.12"), None);
    assert!(matches!(of("net.ipv4.tcp_mem", "6.12"), Some(Value::Computed(_))));
    assert_eq!(row("net.ipv4.tcp_tw_timeout").expected_on(kernel("6.12")), Expected::VendorOnly);
    assert_eq!(row("net.ipv4.tcp_tw_recycle").expected_on(kernel("4.11")), Expected::Present);
    assert_eq!(row("net.ipv4.ip_local_port_step_width").expected_on(kernel("7.0")), Expected::NotYet);
}

#[test]
fn a_refusal_names_the_value_and_what_to_write() {
    let cases: &[(&str, &str, Objection, &str)] = &[
        ("net.ipv4.tcp_tw_reuse", "3", Objection::Refused, "write 0 (connect() never"),
        ("net.ipv4.tcp_timestamps", "3", Objection::Meaningless, "nothing says what it does"),
        ("net.ipv4.tcp_tw_reuse_delay", "60001", Objection::Refused, "write 1 to 60000 (ms)"),
        ("net.ipv4.tcp_fin_timeout", "90", Objection::Meaningless, "write 60 or less, or 120"),
        ("net.ipv4.tcp_fin_timeout", "0", Objection::Meaningless, "write 1 to 120 (s)"),
        ("net.ipv4.tcp_fin_timeout", "30s", Objection::Refused, "\"30s\" is no whole number"),
        ("net.ipv4.tcp_fin_timeout", "", Objection::Changed, "write a whole number"),
        ("net.ipv4.tcp_fin_timeout", "30 40", Objection::Changed, "drop all but 1"),
        ("net.ipv4.tcp_fin_timeout", "010", Objection::Changed, "without the leading 0"),
        ("net.ipv4.tcp_max_tw_buckets", "99999999999999999999", Objection::Refused, "no whole number"),
        ("net.ipv4.ip_local_port_range", "60999 32768", Objection::Refused, "write 32768 60999"),
        ("net.ipv4.ip_local_port_range", "32768-60999", Objection::Refused, "no whole number"),
        ("net.ipv4.ip_local_port_range", "10240", Objection::Changed, "keep the rest"),
        ("net.ipv4.ip_local_port_range", "10240 65536", Objection::Refused, "1 to 65535"),
        ("net.ipv4.ip_local_reserved_ports", "80, 443", Objection::Refused, "no spaces"),
        ("net.ipv4.ip_local_reserved_ports", "9009-9000", Objection::Refused, "write 9000-9009"),
        ("net.ipv4.ip_local_reserved_ports", "0-5", Objection::Meaningless, "leave it out"),
        ("net.ipv4.tcp_mem", "3 2 1", Objection::Meaningless, "none may be less"),
        ("net.netfilter.nf_conntrack_count", "0", Objection::Refused, "only be read"),
    ];
    for (name, text, objection, remedy) in cases {
        let refusal = refused(name, text);
        assert_eq!(refusal.objection, *objection, "{refusal}");
        let words = refusal.to_string();
        assert!(words.starts_with(&format!("{name} = {text:?}: ")), "{words}");
        assert!(words.contains(remedy), "{words}");
    }
    let many = (10_000..12_000).step_by(2).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(refused("net.ipv4.ip_local_reserved_ports", &many).objection, Objection::Changed);
    for (name, text) in [
        ("net.ipv4.ip_local_reserved_ports", ""),
        ("net.ipv4.ip_local_reserved_ports", "8080,9000-9009,53\n"),
        ("net.ipv4.ip_local_port_range", "1024\t65535\n"),
        ("net.ipv4.tcp_fin_timeout", "120"),
    ] {
        row(name).check(text).unwrap();
    }
}

#[test]
fn bounds_that_depend_on_each_other_are_held_together() {
    let range = row("net.ipv4.ip_local_port_range");
    let start = row("net.ipv4.ip_unprivileged_port_start");
    let mut now = Settings::default();
    let refusal = range.check_beside("1023 65535", &now).unwrap_err();
    assert!(refusal.why.contains("write 1024 or more"), "{refusal}");
    range.check("1023 65535").unwrap();
    let refusal = start.check_beside("40000", &now).unwrap_err();
    assert!(refusal.why.contains("begins at 32768"), "{refusal}");
    now.0.insert(start.name.to_owned(), "80".to_owned());
    now.0.insert(range.name.to_owned(), "50000 60999".to_owned());
    range.check_beside("80 65535", &now).unwrap();
    start.check_beside("50000", &now).unwrap();
    assert!(start.check_beside("50001", &now).is_err());
}

#[test]
fn what_a_value_means_is_said_of_this_value() {
    let cases: &[(&str, &str, &str)] = &[
        ("net.ipv4.tcp_fin_timeout", "70", "lives 20 s, not 70"),
        ("net.ipv4.tcp_fin_timeout", "61", "lives 2 s, not 61"),
        ("net.ipv4.tcp_fin_timeout", "90", "lives 1 min, not 90"),
        ("net.ipv4.tcp_fin_timeout", "120", "lives 2 min; TIME_WAIT stays 60 s"),
        ("net.ipv4.tcp_fin_timeout", "121", "lives 2 min 2 s, not 121"),
        ("net.ipv4.tcp_fin_timeout", "30", "lives 30 s; TIME_WAIT stays 60 s"),
        ("net.ipv4.tcp_fin_timeout", "0", "under a second"),
        ("net.ipv4.tcp_tw_reuse", "2", "on loopback only"),
        ("net.ipv4.tcp_tw_reuse", "7", "no value that net.ipv4.tcp_tw_reuse is known to have"),
        ("net.ipv4.tcp_keepalive_time", "7200", "after 2 h of silence; one without is never probed"),
        ("net.ipv4.tcp_retries2", "15", "15 min 25 s"),
        ("net.ipv4.tcp_retries2", "8", "1 min 42 s"),
        ("net.ipv4.tcp_orphan_retries", "0", "0 stands for 8"),
        ("net.ipv4.tcp_syn_retries", "6", "2 min 7 s"),
        ("net.ipv4.tcp_syn_retries", "1", "after 3 s"),
        ("net.ipv4.tcp_synack_retries", "5", "1 min 3 s"),
        ("net.ipv4.ip_local_port_range", "32768 60999", "28232 ports less the reserved ones"),
        ("net.ipv4.ip_local_port_range", "32768 60999", "470 a second"),
        ("net.ipv4.ip_local_port_range", "32768 61000", "same parity"),
        ("net.ipv4.ip_local_port_range", "wide", "no value"),
        ("net.ipv4.ip_local_reserved_ports", "8080,9000-9009", "11 ports"),
        ("net.ipv4.tcp_max_tw_buckets", "60000", "1000 closes a second"),
        ("net.ipv4.tcp_mem", "186000 248000 372000", "1453 MiB"),
        ("net.core.somaxconn", "4096", "4097"),
        // Seen on 6.18: of 60 SYNs, 31 and 4 were kept.
        ("net.ipv4.tcp_max_syn_backlog", "40", "once 31 connections"),
        ("net.ipv4.tcp_max_syn_backlog", "4", "once 4 connections"),
        ("net.netfilter.nf_conntrack_tcp_timeout_established", "432000", "after 5 days"),
    ];
    for (name, value, words) in cases {
        let meaning = row(name).meaning(value, kernel("6.12"));
        assert!(meaning.contains(words), "{name} = {value}: {meaning}");
    }
}

#[test]
fn the_keepalive_settings_add_up() {
    assert_eq!(seconds_until_dropped(7200, 75, 9), 7875);
    assert_eq!(seconds_until_dropped(90, 15, 3), 135);
}

#[test]
fn old_names_lead_to_new_ones() {
    let now = |name: &str| obsolete(name).and_then(|obsolete| obsolete.now);
    assert_eq!(now("net.ipv4.ip_conntrack_max").as_deref(), Some("net.netfilter.nf_conntrack_max"));
    assert_eq!(
        now("net.ipv4.netfilter.ip_conntrack_tcp_timeout_time_wait").as_deref(),
        Some("net.netfilter.nf_conntrack_tcp_timeout_time_wait")
    );
    let recycle = obsolete("net.ipv4.tcp_tw_recycle").unwrap();
    assert_eq!((recycle.now, recycle.gone_in), (None, Version::new(4, 12)));
    for setting in SETTINGS.iter().filter(|setting| setting.removed_in.is_none()) {
        assert_eq!(obsolete(setting.name), None);
    }
}

#[test]
fn rows_print_as_json_of_their_schema() {
    let value = serde_json::to_value(row("net.ipv4.tcp_tw_reuse_delay")).unwrap();
    assert_eq!(value["since"], "6.14");
    assert_eq!(value["accepts"]["number"]["kernel"]["max"], 60_000);
    assert_eq!(value["defaults"][0]["value"]["text"], "1000");
    assert!(value.get("meaning").is_none());
    let schema = schemars::schema_for!(Setting).to_value();
    for key in value.as_object().unwrap().keys() {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
}

fn written() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        any::<i64>().prop_map(|number| number.to_string()),
        (-300_i64..300).prop_map(|number| number.to_string()),
        "[0-9]{1,6}[ \t,-][0-9]{1,6}([ \t,-][0-9]{1,6})?",
    ]
}

proptest! {
    #[test]
    fn nothing_that_can_be_written_is_trouble(text in written()) {
        let others = Settings::default();
        for setting in SETTINGS {
            if let Err(refusal) = setting.check_beside(&text, &others) {
                prop_assert!(!refusal.why.is_empty());
            } else if let Accepts::Number { kernel, sensible, .. } = setting.accepts {
                let number: i64 = text.trim().parse().unwrap();
                prop_assert!(kernel.contains(number) && sensible.contains(number));
            }
            prop_assert!(!setting.meaning(&text, kernel("6.12")).is_empty());
        }
        obsolete(&text);
    }
}
