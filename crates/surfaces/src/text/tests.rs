//! The pages as they look: snapshots by sample and width, and what must hold at every width.

use insta::{allow_duplicates, assert_snapshot};
use proptest::prelude::*;
use tidewait_model::capacity::{PRESETS, Quantities, Question, preset};
use tidewait_model::lingering::Silence;
use tidewait_model::observation::Growth;
use tidewait_model::report::Report;
use tidewait_model::{Hides, State, StateCounts};
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::samples;

fn page(width: usize) -> Page {
    Page { width, ..Page::default() }
}

fn samples() -> Vec<(&'static str, Report)> {
    vec![
        ("healthy", samples::healthy()),
        ("running_out", samples::running_out()),
        ("past_the_cliff", samples::past_the_cliff()),
        ("bind_pool", samples::bind_pool()),
        ("no_range", samples::no_range()),
        ("many_namespaces", samples::many_namespaces()),
        ("unprivileged", samples::unprivileged()),
        ("many_limits", samples::many_limits()),
        ("ipv6", samples::ipv6()),
        ("leak", samples::leak()),
        ("accept_queue", samples::accept_queue()),
        ("conntrack_full", samples::conntrack_full()),
        ("combined", samples::combined()),
        ("traced", samples::traced()),
        ("traced_quiet", samples::traced_quiet()),
        ("hostile", samples::hostile()),
        ("empty", samples::report(vec![])),
        ("quiet", samples::report(vec![samples::namespace("host", vec![])])),
    ]
}

fn too_wide(text: &str, width: usize) -> Option<&str> {
    text.lines().find(|line| line.width() > width.max(Page::NARROWEST))
}

#[test]
fn every_sample_at_80_columns() {
    for (name, sample) in samples() {
        assert_snapshot!(format!("80_{name}"), report(&sample, &page(80)));
    }
}

#[test]
fn steered_ports_are_told_beside_how_many_there_are() {
    let mut destination = samples::destination("10.0.0.5", "10.0.2.9:3306", 11_000, 400);
    destination.ports_steered = 11_400;
    let mut namespace = samples::namespace("host", vec![destination]);
    let steered = |low, high| tidewait_model::report::Steered { low, high, pid: 4_711 };
    namespace.steered = vec![steered(22_268, 29_999), steered(61_000, 65_535)];
    namespace.settings.insert("net.ipv4.ip_local_reserved_ports".to_owned(), "61000-61099".to_owned());
    let sample = samples::report(vec![namespace]);
    for width in [40, 80, 120] {
        let said = report(&sample, &page(width)).replace("\n", " ");
        let words: Vec<&str> = said.split_whitespace().collect();
        assert!(words.join(" ").contains("11,400 of 12,168 steered"), "{said}");
    }
}

#[test]
fn running_out_at_other_widths() {
    for width in [20, 40, 120, 160, 200] {
        assert_snapshot!(format!("{width}_running_out"), report(&samples::running_out(), &page(width)));
    }
    assert_snapshot!("120_ipv6", report(&samples::ipv6(), &page(120)));
    assert_snapshot!("120_healthy", report(&samples::healthy(), &page(120)));
    for width in [40, 120, 160] {
        assert_snapshot!(format!("{width}_traced"), report(&samples::traced(), &page(width)));
    }
}

#[test]
fn running_out_in_colour_and_in_ascii() {
    let colour = Page { colour: true, ..page(80) };
    assert_snapshot!(
        "80_running_out_colour",
        report(&samples::running_out(), &colour).replace('\u{1b}', "^")
    );
    let ascii = Page { ascii: true, ..page(80) };
    let text = report(&samples::running_out(), &ascii);
    assert!(text.is_ascii(), "{text}");
    assert_snapshot!("80_running_out_ascii", text);
    let text = report(&samples::traced(), &Page { ascii: true, ..page(120) });
    assert!(text.is_ascii(), "{text}");
    assert_snapshot!("120_traced_ascii", text);
}

#[test]
fn a_checkup() {
    assert_snapshot!("80_checkup", checkup(&samples::checkup(), &page(80)));
    assert_snapshot!("20_checkup", checkup(&samples::checkup(), &page(20)));
}

#[test]
fn capacity_answers() {
    let none = Quantities::default();
    let ask = |given, width| {
        let question = Question::new(given, 28_232, 60.0, "this machine");
        capacity(&question.answers().unwrap(), &page(width))
    };
    assert_snapshot!("80_capacity_rate", ask(none, 80));
    let seed = Quantities { ports: Some(32_768), time_wait_seconds: Some(10.0), ..none };
    assert_snapshot!("80_capacity_given", ask(seed, 80));
    let wanted = Quantities { rate_per_second: Some(2_000.0), ..none };
    assert_snapshot!("80_capacity_wanted", ask(wanted, 80));
    assert_snapshot!("20_capacity_wanted", ask(wanted, 20));
    let one =
        Quantities { ports: Some(28_232), time_wait_seconds: Some(60.0), destinations: Some(1), ..wanted };
    assert_snapshot!("80_capacity_sources", ask(one, 80));
    let nat = Question::new(none, 28_232, 60.0, "this machine").preset(preset("aws-nat-gateway").unwrap());
    assert_snapshot!("80_capacity_preset", capacity(&nat.answers().unwrap(), &page(80)));
    let far = Quantities { rate_per_second: Some(1e9), ..none };
    assert_snapshot!("80_capacity_out_of_reach", ask(far, 80));
}

#[test]
fn the_presets() {
    assert_snapshot!("80_presets", presets(PRESETS, &page(80)));
    for width in 40..200 {
        assert_eq!(too_wide(&presets(PRESETS, &page(width)), width), None);
    }
}

#[test]
fn nothing_from_outside_reaches_the_terminal_raw() {
    for width in [20, 80, 200] {
        let text = report(&samples::hostile(), &page(width));
        assert!(!text.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}'), "{text:?}");
    }
}

#[test]
fn the_verdict_does_not_call_a_full_destination_calm() {
    let mut sample = samples::report(vec![samples::namespace(
        "host",
        vec![samples::destination("10.0.0.5", "10.0.2.9:3306", 1_000, 26_000)],
    )]);
    let text = report(&sample, &page(80));
    assert!(text.starts_with("NOTICE host: 10.0.0.5 -> 10.0.2.9:3306 has 96 %"), "{text}");
    sample.namespaces[0].destinations[0].fill = Some(0.6);
    let text = report(&sample, &page(80));
    assert!(text.starts_with("OK no trouble found; the fullest destination,"), "{text}");
}

#[test]
fn only_limits_that_can_hide_trouble_weaken_the_verdict() {
    let all = report(&samples::unprivileged(), &page(80));
    assert!(all.starts_with("OK no trouble found in what could be seen;"), "{all}");
    let mut owners_only = samples::unprivileged();
    owners_only.limits.retain(|limit| limit.hides == Hides::Detail);
    assert!(!owners_only.limits.is_empty());
    let text = report(&owners_only, &page(80));
    assert!(text.starts_with("OK no trouble found;"), "{text}");
}

#[test]
fn every_sample_fits_every_width() {
    allow_duplicates! {
        for (name, sample) in samples() {
            for width in 0..=300 {
                let text = report(&sample, &page(width));
                if width >= 40 {
                    assert_eq!(too_wide(&text, width), None, "{name} at {width}");
                }
                assert!(text.lines().count() > 1);
            }
        }
    }
}

prop_compose! {
    fn any_states()(counts in prop::collection::vec(any::<u32>(), 13)) -> StateCounts {
        let pairs: Vec<_> = State::ALL.into_iter().zip(counts.into_iter().map(u64::from)).collect();
        samples::states(&pairs)
    }
}

prop_compose! {
    fn any_report()(
        numbers in prop::collection::vec(prop::num::f64::ANY, 6),
        counts in prop::collection::vec(any::<u32>(), 6),
        states in any_states(),
        series in prop::collection::vec(any::<u32>(), 0..70),
        words in prop::collection::vec(any::<String>(), 8),
        some in any::<u32>(),
        repeat in 0_usize..4,
    ) -> Report {
        let mut report = samples::combined();
        let keep = |bit: u32| some >> bit & 1 == 1;
        let row = &mut report.namespaces[0].destinations[0];
        row.source.clone_from(&words[0]);
        row.destination.clone_from(&words[1]);
        row.fill = keep(0).then_some(numbers[0]);
        row.rate_now_per_second = numbers[1];
        row.limit_per_second = keep(1).then_some(numbers[2]);
        row.seconds_to_half = keep(2).then_some(numbers[3]);
        row.seconds_to_exhaustion = keep(3).then_some(numbers[4]);
        row.ports_used = counts[0];
        row.ports_usable = keep(4).then_some(counts[1]);
        row.reusable = counts[2];
        row.ports_outside_range = counts[3];
        row.closed_per_second = series;
        row.pool_how.clone_from(&words[2]);
        row.states = states;
        row.owners[0].command.clone_from(&words[3]);
        row.owners[0].share = numbers[5];
        report.namespaces[0].name.clone_from(&words[4]);
        report.namespaces[0].time_wait_seconds = counts[4];
        report.namespaces[0].destinations_total = counts[5].into();
        report.findings[0].summary.clone_from(&words[5]);
        report.findings[0].remedies[1].command = Some(words[6].clone());
        report.findings[0].consequences[0].summary.clone_from(&words[2]);
        let configuration = &mut report.findings[0].remedies[0].configuration[0];
        configuration.lines = vec![words[6].clone(), format!("{:1$}", words[3], repeat * 40)];
        configuration.source.clone_from(&words[7]);
        let silence = Silence { shortest: numbers[0], median: numbers[1], longest: numbers[2], last_minute: 1 };
        let group = &mut report.namespaces[0].lingering[0];
        group.silence = keep(5).then_some(silence);
        group.sockets = counts[0].into();
        group.peers[0].peer.clone_from(&words[1]);
        report.namespaces[0].listeners[0].local.clone_from(&words[0]);
        report.namespaces[0].listeners[0].queue = counts[1];
        report.namespaces[0].growth = keep(6).then(|| Growth { seconds: numbers[3], ..Growth::default() });
        report.processes[0].owner.command.clone_from(&words[5]);
        report.processes[0].descriptor_limit = keep(7).then_some(counts[2].into());
        report.limits = vec![tidewait_model::Limit::new(words[7].clone(), words[0].clone())];
        report.duration_seconds = numbers[0];
        let mut traced = samples::traced().namespaces.remove(0);
        if let Some(tracing) = traced.traced.as_mut().filter(|_| keep(8)) {
            tracing.seconds = numbers[4];
            tracing.time_wait_born = counts[3].into();
            let rows = &mut tracing.connections;
            rows[0].mean_lifetime_seconds = Some(numbers[2]);
            rows[0].connects = counts[4].into();
            rows[0].closed_there = counts[5].into();
            rows[0].destination = Some(words[2].clone());
            rows[1].source = keep(9).then(|| words[3].clone());
            rows[2].local = keep(10).then(|| words[4].clone());
            rows[2].program.iter_mut().for_each(|program| program.command.clone_from(&words[6]));
            report.namespaces[0].closed_here = traced.closed_here;
            report.namespaces[0].traced = traced.traced;
        }
        let namespace = report.namespaces[0].clone();
        report.namespaces.extend(std::iter::repeat_n(namespace, repeat * 2));
        report
    }
}

proptest! {
    #[test]
    fn any_report_fits_any_width(sample in any_report(), width in 0_usize..300, top in 0_usize..5, colour: bool) {
        let plain = report(&sample, &Page { width, top, ..Page::default() });
        if width >= 40 {
            prop_assert_eq!(too_wide(&plain, width), None);
        }
        report(&sample, &Page { width, top, colour, ascii: true });
    }
}
