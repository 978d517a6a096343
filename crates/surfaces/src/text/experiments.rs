//! Settings put to the test: the figures before and after each change, and who was right about them.

use tidewait_model::experiment::{
    Change, ClaimResult, Effect, ExperimentResult, Figure, Judgement, Measured, Metric, Proof, SettingsRun,
    Unit, Verdict,
};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// Columns for the name of a metric, and for a figure.
const METRIC: usize = 27;
const FIGURE: usize = 11;

/// The narrowest page on which figures stand in columns: indent, metric, two figures with an arrow, verdict.
const TABLE: usize = 4 + METRIC + FIGURE + 4 + FIGURE + 2 + 10;

/// What is measured, and where.
pub fn head(paper: &mut Paper<'_>, kernel: &str, ports: u64) {
    let text = format!(
        "Linux {kernel}, a range of {}; each figure before and after the change, in private namespaces",
        number::of(ports, "port", "ports")
    );
    paper.prose(Line::new(), Paint::Faint, &text);
}

/// One experiment that has ended.
pub fn one(paper: &mut Paper<'_>, result: &ExperimentResult) {
    let ascii = paper.page().ascii;
    let good = result.effects.iter().all(Effect::is_as_expected);
    let missing = result.effects.iter().all(|effect| !effect.verdict.is_measured());
    let (paint, mark) = match (good, missing, ascii) {
        (true, true, _) => (Paint::Faint, "-"),
        (true, false, false) => (Paint::Good, "\u{2713}"),
        (true, false, true) => (Paint::Good, "+"),
        (false, _, false) => (Paint::Critical, "\u{2717}"),
        (false, _, true) => (Paint::Critical, "x"),
    };
    let lead = Line::of(paint, mark).with(Paint::Plain, " ");
    paper.prose(lead, Paint::Strong, &changes(result));
    paper.prose(Line::plain("    "), Paint::Faint, &result.about);
    if let Some(reason) = &result.reason {
        let verdict = result.effects.first().map_or(Verdict::Failed, |effect| effect.verdict);
        let lead = Line::plain("    ").with(paint_of(verdict), verdict.words()).with(Paint::Plain, ": ");
        paper.prose(lead, Paint::Plain, reason);
        return;
    }
    for effect in &result.effects {
        row(paper, effect);
    }
}

/// A change that was proved before it is made. `time_wait`: seconds of TIME_WAIT on this machine.
pub fn proof(paper: &mut Paper<'_>, proof: &Proof, time_wait: u32) {
    paper.gap();
    let text = format!(
        "Measured in private namespaces with the settings of this one, in {}",
        number::duration(proof.seconds)
    );
    paper.prose(Line::new(), Paint::Strong, &text);
    for Measured { metric, before, after, verdict } in &proof.measured {
        row(
            paper,
            &Effect {
                metric: *metric,
                before: Some(*before),
                after: Some(*after),
                verdict: *verdict,
                expected: *verdict,
            },
        );
    }
    for (metric, full) in [
        (Metric::ConnectsUntilRefused, Metric::RateWhenFull),
        (Metric::BindsUntilRefused, Metric::BindRateWhenFull),
    ] {
        let figure = |metric| proof.measured.iter().find(|measured| measured.metric == metric);
        if let (Some(ports), Some(full)) = (figure(metric), figure(full)) {
            // What goes on without end: a port each TIME_WAIT, or what is taken over once all are in use.
            let rate =
                |ports: Figure, full: Figure| (ports.value / f64::from(time_wait.max(1))).max(full.value);
            let who = if metric == Metric::BindsUntilRefused { "bind()" } else { "connect()" };
            let text = format!(
                "for good, to one destination: {} {} {} connections a second, ports chosen by {who}, each closed here first",
                number::count(rate(ports.before, full.before) as u64),
                paper.arrow(),
                number::count(rate(ports.after, full.after) as u64),
            );
            paper.prose(Line::plain("    "), Paint::Plain, &text);
        }
    }
    if proof.unprotected_after > proof.unprotected_before {
        let text = format!(
            "{} of the connections closed without TIME_WAIT after the change, {} before it: tcp_max_tw_buckets",
            number::count(proof.unprotected_after),
            number::count(proof.unprotected_before)
        );
        paper.prose(Line::plain("    "), Paint::Warning, &text);
    }
    if !proof.left_out.is_empty() {
        let text = format!("not in it, because a namespace cannot have them: {}", proof.left_out.join(", "));
        paper.prose(Line::plain("    "), Paint::Faint, &text);
    }
}

/// What was changed, beside what was in force before and after.
fn changes(result: &ExperimentResult) -> String {
    let listed = |changes: &[Change]| {
        let words = changes.iter().map(|change| {
            let short = change.name.rsplit_once('.').map_or(change.name.as_str(), |(_, short)| short);
            format!("{short} = {}", change.value)
        });
        words.collect::<Vec<_>>().join(", ")
    };
    if result.given.is_empty() {
        listed(&result.changes)
    } else {
        format!("{} (with {})", listed(&result.changes), listed(&result.given))
    }
}

fn row(paper: &mut Paper<'_>, effect: &Effect) {
    let ascii = paper.page().ascii;
    let arrow = if ascii { " -> " } else { " \u{2192} " };
    let text =
        |figure: Option<Figure>| figure.map_or("?".to_owned(), |one| figure_text(effect.metric, one, ascii));
    let (before, after) = (text(effect.before), text(effect.after));
    let verdict = if effect.is_as_expected() {
        Line::of(paint_of(effect.verdict), effect.verdict.words())
    } else {
        let words = format!("{}, expected: {}", effect.verdict.words(), effect.expected.words());
        Line::of(Paint::Critical, words)
    };
    let whole = paper.width() >= TABLE && effect.is_as_expected();
    let metric = Line::plain("    ").with(Paint::Plain, effect.metric.words());
    if whole {
        let line = metric
            .pad(4 + METRIC)
            .join(Line::plain(before).pad_left(FIGURE))
            .join(Line::of(Paint::Faint, arrow))
            .join(Line::plain(after).pad(FIGURE + 2))
            .join(verdict);
        paper.line(line);
    } else {
        paper.line(metric);
        paper.flow(6, [Line::plain(format!("{before}{arrow}{after}")), verdict]);
    }
}

/// A figure with its unit.
pub fn figure_text(metric: Metric, figure: Figure, ascii: bool) -> String {
    let rounded = figure.value.max(0.0).round() as u64;
    let text = match metric.unit() {
        Unit::Count => number::count(rounded),
        Unit::Rate => format!("{}/s", number::count(rounded)),
        Unit::Milliseconds => format!("{} ms", number::count(rounded)),
        Unit::Seconds if figure.value < 100.0 => format!("{:.1} s", figure.value),
        Unit::Seconds => format!("{} s", number::count(rounded)),
    };
    match (figure.at_least, ascii) {
        (false, _) => text,
        (true, true) => format!(">= {text}"),
        (true, false) => format!("\u{2265} {text}"),
    }
}

/// Who was right, and the tally.
pub fn write(paper: &mut Paper<'_>, run: &SettingsRun) {
    let mut source = "";
    if run.claims.iter().any(|claim| claim.verdict != Judgement::Untested) {
        paper.heading("Who was right");
    }
    for claim in run.claims.iter().filter(|claim| claim.verdict != Judgement::Untested) {
        if claim.source != source {
            source = &claim.source;
            paper.line(Line::of(Paint::Strong, source));
        }
        said(paper, claim);
    }
    let (good, wrong, missing) = run.tally();
    paper.gap();
    let paint = if wrong > 0 { Paint::Critical } else { Paint::Good };
    let text = format!(
        "{} as expected, {} not, {} not to be had here; {}",
        number::of(good as u64, "figure", "figures"),
        number::count(wrong as u64),
        number::count(missing as u64),
        number::duration(run.seconds)
    );
    paper.prose(Line::new(), paint, &text);
}

fn said(paper: &mut Paper<'_>, claim: &ClaimResult) {
    let paint = match claim.verdict {
        Judgement::Right => Paint::Good,
        Judgement::Half => Paint::Warning,
        Judgement::Wrong => Paint::Critical,
        Judgement::NotHere | Judgement::Untested => Paint::Faint,
    };
    let lead = Line::plain("  ").with(paint, claim.verdict.words()).pad(12).with(Paint::Plain, " ");
    paper.prose(lead, Paint::Plain, &claim.says);
    let ascii = paper.page().ascii;
    let arrow = if ascii { "->" } else { "\u{2192}" };
    let mut figures: Vec<String> = Vec::new();
    for tested in &claim.tested {
        let (Some(before), Some(after)) = (tested.before, tested.after) else { continue };
        let text = |figure| figure_text(tested.metric, figure, ascii);
        let figure = format!("{} {} {arrow} {}", tested.metric.words(), text(before), text(after));
        // Several experiments may have come to the same.
        if !figures.contains(&figure) {
            figures.push(figure);
        }
    }
    let hang = Line::plain(" ".repeat(13.min(paper.width() / 3)));
    if !figures.is_empty() {
        paper.prose(hang.clone(), Paint::Plain, &figures.join("; "));
    }
    paper.prose(hang, Paint::Faint, &claim.why);
}

fn paint_of(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Helps | Verdict::Protects => Paint::Good,
        Verdict::Worse => Paint::Warning,
        Verdict::Failed => Paint::Critical,
        Verdict::Changes | Verdict::NoEffect => Paint::Plain,
        Verdict::NotHere | Verdict::NotMeasured => Paint::Faint,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tidewait_model::experiment::{SCHEMA, Tested};
    use tidewait_model::report::Host;

    use super::super::{Page, experiment, settings_head, settings_run};
    use super::*;

    fn result(name: &str, effects: Vec<Effect>, reason: Option<&str>) -> ExperimentResult {
        let change =
            |name: &str, value: &str| Change { name: format!("net.ipv4.{name}"), value: value.to_owned() };
        ExperimentResult {
            experiment: name.to_owned(),
            about: "what is asked of it in a sentence that is as long as such sentences are".to_owned(),
            given: vec![change("tcp_tw_reuse", "1")],
            changes: vec![change(name, "30")],
            effects,
            reason: reason.map(str::to_owned),
            seconds: 4.5,
        }
    }

    fn effect(metric: Metric, before: f64, after: Figure, expected: Verdict) -> Effect {
        let before = Figure::exact(before);
        let verdict = metric.verdict(before, after);
        Effect { metric, before: Some(before), after: Some(after), verdict, expected }
    }

    /// A run in which everything occurs.
    pub(crate) fn sample() -> SettingsRun {
        let lasts = effect(Metric::TimeWaitSeconds, 59.97, Figure::exact(59.96), Verdict::NoEffect);
        let refused =
            effect(Metric::ConnectsUntilRefused, 2_000.0, Figure::at_least(6_000.0), Verdict::Helps);
        let surprise = effect(Metric::BindRateWhenFull, 0.0, Figure::exact(8_412.0), Verdict::NoEffect);
        let lost = Effect {
            metric: Metric::TimeWaitSeconds,
            before: None,
            after: None,
            verdict: Verdict::NotHere,
            expected: Verdict::Helps,
        };
        let tested = |verdict: Verdict| Tested {
            experiment: "tcp_fin_timeout".to_owned(),
            metric: Metric::TimeWaitSeconds,
            foretold: Verdict::Helps,
            measured: Some(verdict),
            before: lasts.before,
            after: lasts.after,
        };
        let claim = |source: &str, verdict: Judgement| ClaimResult {
            source: source.to_owned(),
            says: "tcp_fin_timeout=30 releases TIME_WAIT sooner, and resources for new connections"
                .to_owned(),
            tested: vec![tested(Verdict::NoEffect)],
            verdict,
            why: "it is the timer of an orphaned FIN_WAIT2".to_owned(),
        };
        SettingsRun {
            schema: SCHEMA.to_owned(),
            host: Host { hostname: "db1".to_owned(), kernel: "6.18.44".to_owned() },
            ports: 2_000,
            claims: vec![
                claim("hosting", Judgement::Wrong),
                claim("hosting", Judgement::Half),
                claim("nanog: Soucy", Judgement::Right),
                claim("nanog: Soucy", Judgement::NotHere),
                claim("nanog: Kyrian", Judgement::Untested),
            ],
            experiments: vec![
                result("tcp_fin_timeout", vec![lasts, refused], None),
                result("tcp_tw_reuse", vec![surprise], None),
                result("tcp_tw_recycle", vec![lost], Some("removed in Linux 4.12")),
            ],
            seconds: 31.2,
        }
    }

    #[test]
    fn figures_stand_in_columns_with_their_verdict() {
        let run = sample();
        let page = Page { ascii: true, ..Page::default() };
        let text = experiment(&run.experiments[0], &page);
        assert!(text.starts_with("+ tcp_fin_timeout = 30 (with tcp_tw_reuse = 1)\n"), "{text}");
        assert!(
            text.contains("TIME_WAIT lasts                 60.0 s -> 60.0 s       no effect\n"),
            "{text}"
        );
        assert!(text.contains(" 2,000 -> >= 6,000     helps\n"), "{text}");
    }

    #[test]
    fn what_is_not_as_expected_says_what_was() {
        let run = sample();
        let text = experiment(&run.experiments[1], &Page { ascii: true, ..Page::default() });
        assert!(text.starts_with("x "), "{text}");
        assert!(text.contains("0/s -> 8,412/s  helps, expected: no effect"), "{text}");
        let page = settings_run(&run, &Page::default());
        assert!(page.ends_with("2 figures as expected, 1 not, 1 not to be had here; 31 s\n"), "{page}");
    }

    #[test]
    fn what_this_kernel_lacks_is_shown_with_the_reason() {
        let text = experiment(&sample().experiments[2], &Page::default());
        assert!(text.contains("not on this kernel: removed in Linux 4.12"), "{text}");
        assert!(text.starts_with("- "), "{text}");
    }

    #[test]
    fn claims_are_listed_by_source_with_figures_and_untested_ones_are_left_out() {
        let page = settings_run(&sample(), &Page { ascii: true, ..Page::default() });
        assert!(page.contains("hosting\n  WRONG      tcp_fin_timeout=30 releases"), "{page}");
        assert!(page.contains("TIME_WAIT lasts 60.0 s -> 60.0 s"), "{page}");
        assert!(!page.contains("Kyrian"), "{page}");
    }

    #[test]
    fn nothing_is_wider_than_the_page() {
        for width in [20, 40, 66, 80] {
            for ascii in [false, true] {
                let page = Page { width, ascii, ..Page::default() };
                let run = sample();
                let mut text = settings_run(&run, &page);
                text.push_str(&settings_head("6.18.44", 2_000, &page));
                run.experiments.iter().for_each(|result| text.push_str(&experiment(result, &page)));
                let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= width, "{width}:\n{text}");
            }
        }
    }
}
