//! What a monitoring system gets, for reports as they occur.

use insta::assert_snapshot;
use proptest::prelude::*;
use tidewait_model::{Limit, State};

use super::*;
use crate::samples;

/// Performance data read as the guidelines say, by means of its own: label, value, unit and four fields.
fn parse(text: &str) -> Vec<(String, f64, String, Vec<String>)> {
    let first = text.lines().next().unwrap();
    let Some((_, data)) = first.split_once(" | ") else { return Vec::new() };
    assert!(!data.contains('|'), "{first}");
    data.split(' ')
        .map(|part| {
            let (label, rest) = part.split_once('=').unwrap();
            let mut fields = rest.split(';').map(str::to_owned);
            let value = fields.next().unwrap();
            let at = value.find(|c: char| !c.is_ascii_digit() && !".-".contains(c)).unwrap_or(value.len());
            let (number, unit) = value.split_at(at);
            let fields: Vec<String> = fields.collect();
            assert!(fields.len() <= 4, "{part}");
            assert!(["", "%", "s"].contains(&unit), "{part}");
            (label.to_owned(), number.parse().unwrap(), unit.to_owned(), fields)
        })
        .collect()
}

fn value(text: &str, label: &str) -> Option<f64> {
    parse(text).into_iter().find(|(name, ..)| name == label).map(|(_, value, ..)| value)
}

fn all() -> Vec<(&'static str, Report, Status)> {
    vec![
        ("healthy", samples::healthy(), Status::Ok),
        ("running_out", samples::running_out(), Status::Critical),
        ("past_the_cliff", samples::past_the_cliff(), Status::Warning),
        ("bind_pool", samples::bind_pool(), Status::Critical),
        ("leak", samples::leak(), Status::Warning),
        ("accept_queue", samples::accept_queue(), Status::Critical),
        ("conntrack_full", samples::conntrack_full(), Status::Critical),
        ("combined", samples::combined(), Status::Critical),
        ("unprivileged", samples::unprivileged(), Status::Ok),
        ("no_range", samples::no_range(), Status::Unknown),
        ("many_limits", samples::many_limits(), Status::Unknown),
        ("many_namespaces", samples::many_namespaces(), Status::Critical),
        ("hostile", samples::hostile(), Status::Ok),
        ("quiet", samples::report(vec![samples::namespace("host", vec![])]), Status::Ok),
    ]
}

fn thresholds(name: &str, warning: &str, critical: &str) -> Wanted {
    let range = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    let thresholds =
        Thresholds { metric: metric(name).unwrap(), warning: range(warning), critical: range(critical) };
    Wanted { thresholds: Some(thresholds), ..Wanted::default() }
}

#[test]
fn every_sample_is_answered_with_its_code_and_one_line() {
    let mut lines = String::new();
    for (name, report, status) in all() {
        let answer = answer(&report, &Wanted::default());
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert_eq!(answer.text.lines().count(), 1, "{name}: {}", answer.text);
        assert!(answer.text.starts_with(&format!("TIDEWAIT {} - ", status.word())), "{}", answer.text);
        assert!(answer.text.len() < 1_024, "{name}: more than the oldest NRPE carries: {}", answer.text);
        lines.push_str(&format!("{name}: {}", answer.text));
    }
    assert_snapshot!("first_lines", lines);
}

#[test]
fn more_is_told_on_request() {
    for verbosity in 1..=3 {
        let wanted = Wanted { verbosity, ..Wanted::default() };
        assert_snapshot!(format!("combined_v{verbosity}"), answer(&samples::combined(), &wanted).text);
    }
    let wanted = Wanted { verbosity: 1, ..thresholds("time_wait", "3000", "") };
    assert_snapshot!("unprivileged_v1", answer(&samples::unprivileged(), &wanted).text);
}

#[test]
fn nothing_from_outside_breaks_the_line() {
    let mut report = samples::hostile();
    report.findings = vec![samples::finding(
        "close-wait-leak",
        Severity::Warning,
        "a|b\nTIDEWAIT OK",
        "x | y=1 \u{1b}[2J \u{202e}",
    )];
    report.findings[0].evidence = vec!["a | b".to_owned()];
    report.findings[0].owner = Some(report.namespaces[0].destinations[0].owners[0].clone());
    for verbosity in 0..=3 {
        let text = answer(&report, &Wanted { verbosity, ..Wanted::default() }).text;
        assert_eq!(text.matches('|').count(), 1, "{text}");
        assert!(!text.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("TIDEWAIT OK")), "{text}");
        parse(&text);
    }
    assert_eq!(unknown("a|b\nc", &["d|e".to_owned()]).text, "TIDEWAIT UNKNOWN - a\u{a6}b?c\nd\u{a6}e\n");
}

#[test]
fn performance_data_are_the_figures_of_the_report() {
    let mut report = samples::combined();
    report.namespaces[0].counters.insert("sockstat.TCP.orphan".to_owned(), 17);
    let settings = &mut report.namespaces[0].settings;
    settings.insert("net.ipv4.tcp_max_orphans".to_owned(), "65536".to_owned());
    settings.insert("net.netfilter.nf_conntrack_max".to_owned(), "1000".to_owned());
    settings.insert("net.netfilter.nf_conntrack_count".to_owned(), "125".to_owned());
    report.namespaces[0].states.add(State::CloseWait, 5);
    let text = answer(&report, &thresholds("port_fill", "80", "@95:")).text;
    for (label, expected) in [
        ("port_fill", 89.0),
        ("bind_pool_fill", 0.0),
        ("port_exhaustion", 23.4),
        ("time_wait", 34_012.0),
        ("close_wait", 5.0),
        ("established", 626.0),
        ("orphans", 17.0),
        ("accept_queue_fill", 100.0),
        ("conntrack_fill", 12.5),
        ("descriptor_fill", 100.0),
    ] {
        assert_eq!(value(&text, label), Some(expected), "{label} in {text}");
    }
    let data = parse(&text);
    let field = |label: &str| data.iter().find(|(name, ..)| name == label).unwrap().3.clone();
    assert_eq!(field("port_fill"), ["80", "@95:", "0", "100"]);
    assert_eq!(field("orphans"), ["", "", "0", "65536"]);
    assert_eq!(field("time_wait"), ["", "", "0"]);
}

#[test]
fn what_has_no_value_is_left_out_and_not_zero() {
    let text = answer(&samples::healthy(), &Wanted::default()).text;
    for label in ["port_exhaustion", "conntrack_fill", "descriptor_fill", "orphans"] {
        assert_eq!(value(&text, label), None, "{text}");
    }
    let text = answer(&samples::no_range(), &Wanted::default()).text;
    assert_eq!((value(&text, "port_fill"), value(&text, "time_wait")), (None, Some(20_000.0)));
    assert!(parse(&answer(&samples::many_limits(), &Wanted::default()).text).is_empty());
}

#[test]
fn thresholds_come_beside_the_findings() {
    let healthy = samples::healthy();
    for (warning, critical, status) in [
        ("30000", "", Status::Ok),
        ("3000", "", Status::Warning),
        ("3000", "3500", Status::Critical),
        ("", "3711", Status::Critical),
        ("", "3712", Status::Ok),
    ] {
        let answer = answer(&healthy, &thresholds("time_wait", warning, critical));
        assert_eq!(answer.status, status, "-w {warning} -c {critical}: {}", answer.text);
        assert!(answer.text.contains("time_wait is 3,712"), "{}", answer.text);
    }
    let breach = answer(&healthy, &thresholds("time_wait", "3000", "")).text;
    assert!(breach.contains("above 3000") && breach.contains("the count alone tells no trouble"), "{breach}");
    let critical = answer(&samples::running_out(), &thresholds("time_wait", "99999", ""));
    assert_eq!(critical.status, Status::Critical);
    let both = answer(&samples::past_the_cliff(), &thresholds("time_wait", "", "1000")).text;
    assert!(both.starts_with("TIDEWAIT CRITICAL - time_wait is 16,000, above 1000"), "{both}");
    assert!(both.contains("so each connect() searches"), "{both}");
    let only = Wanted { metric_only: true, ..thresholds("time_wait", "99999", "") };
    let alone = answer(&samples::running_out(), &only);
    assert_eq!(alone.status, Status::Ok);
    assert!(alone.text.starts_with("TIDEWAIT OK - time_wait is 34,012 |"), "{}", alone.text);
}

#[test]
fn a_metric_without_a_value_is_fine_or_unknown_as_the_case_is() {
    for (name, report, status) in [
        ("port_exhaustion", samples::healthy(), Status::Ok),
        ("descriptor_fill", samples::healthy(), Status::Ok),
        ("port_fill", samples::no_range(), Status::Unknown),
        ("time_wait", samples::many_limits(), Status::Unknown),
        ("orphans", samples::healthy(), Status::Unknown),
    ] {
        let answer = answer(&report, &Wanted { metric_only: true, ..thresholds(name, "60:", "") });
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(answer.text.contains(name), "{}", answer.text);
    }
}

#[test]
fn kinds_of_findings_can_be_picked_and_left_out() {
    let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let only = |ids: &[&str]| Wanted { only: list(ids), ..Wanted::default() };
    let ignore = |ids: &[&str]| Wanted { ignore: list(ids), ..Wanted::default() };
    let combined = samples::combined();
    for (wanted, status, words) in [
        (only(&["port-search-cliff"]), Status::Warning, "will slow down"),
        (only(&["bind-pool-exhausted"]), Status::Ok, "nothing of the kind bind-pool-exhausted"),
        // Told as a consequence, but it is so all the same.
        (only(&["accept-queue-overflow"]), Status::Critical, "app does not close"),
        (only(&["time-wait-incoming"]), Status::Ok, "1 notice: time-wait-incoming"),
        (ignore(&["close-wait-leak"]), Status::Critical, "app does not close"),
        (
            ignore(&["close-wait-leak", "fd-limit-near", "accept-queue-overflow", "ports-running-out"]),
            Status::Warning,
            "will slow down",
        ),
    ] {
        let answer = answer(&combined, &wanted);
        assert_eq!(answer.status, status, "{wanted:?}: {}", answer.text);
        assert!(answer.text.contains(words), "{words} in {}", answer.text);
    }
    let cliff = answer(&samples::past_the_cliff(), &ignore(&["port-search-cliff"]));
    assert_eq!(cliff.status, Status::Ok);
    assert!(cliff.text.contains("not counted, as asked: port-search-cliff"), "{}", cliff.text);
}

#[test]
fn sockets_that_could_not_be_counted_are_not_called_well() {
    let mut report = samples::report(vec![samples::namespace("host", vec![])]);
    report.namespaces[0].states = tidewait_model::StateCounts::default();
    report.namespaces[0].counters.insert("sockstat.TCP.inuse".to_owned(), 40);
    assert_eq!(answer(&report, &Wanted::default()).status, Status::Ok);
    report.limits = vec![Limit::new("host: sockets", "the dump was refused")];
    let mut one_ended = report.clone();
    one_ended.namespaces.push(samples::namespace("other", vec![]));
    assert_eq!(answer(&one_ended, &Wanted::default()).status, Status::Ok);
    let blind = answer(&report, &Wanted { verbosity: 1, ..Wanted::default() });
    assert_eq!(blind.status, Status::Unknown, "{}", blind.text);
    assert!(blind.text.contains("not seen: host: sockets: the dump was refused"), "{}", blind.text);
}

proptest! {
    #[test]
    fn any_words_make_lines_that_can_be_read(
        words in prop::collection::vec(any::<String>(), 5),
        numbers in prop::collection::vec(prop::num::f64::ANY, 3),
        verbosity in 0_u8..4,
    ) {
        let mut report = samples::combined();
        report.findings[0].summary.clone_from(&words[0]);
        report.findings[0].subject.clone_from(&words[1]);
        report.findings[0].remedies[0].command = Some(words[2].clone());
        report.findings[0].consequences[0].summary.clone_from(&words[3]);
        report.namespaces[0].name.clone_from(&words[4]);
        report.namespaces[0].destinations[0].fill = Some(numbers[0]);
        report.namespaces[0].destinations[0].seconds_to_exhaustion = Some(numbers[1]);
        report.namespaces[0].destinations[1].seconds_to_exhaustion = Some(numbers[2]);
        let answer = answer(&report, &Wanted { verbosity, ..Wanted::default() });
        prop_assert_eq!(answer.status, Status::Critical);
        prop_assert_eq!(answer.text.matches('|').count(), 1);
        prop_assert!(!answer.text.chars().any(|c| c != '\n' && c.is_control()));
        parse(&answer.text);
    }
}
