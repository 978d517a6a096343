//! The checkup: one line a probe, what works first to last by kind of trouble, with the remedy where there is one.

use tidewait_model::doctor::{Checkup, Probe, Verdict};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// The groups in the order in which they are shown: what works, what privileges would add, what the kernel
/// would have to add, what nobody knows.
const GROUPS: [(Verdict, &str); 4] = [
    (Verdict::Works, "Works"),
    (Verdict::NotPermitted, "Not permitted to this user"),
    (Verdict::Unsupported, "Not in this kernel"),
    (Verdict::Unknown, "Not known"),
];

/// Summary, then the probes by group.
pub fn write(paper: &mut Paper<'_>, checkup: &Checkup) {
    let of = |verdict| checkup.probes.iter().filter(|probe| probe.verdict == verdict).count();
    let (works, all) = (of(Verdict::Works), checkup.probes.len());
    let (paint, word) = match all - works {
        0 if all == 0 => (Paint::Warning, "UNKNOWN"),
        0 => (Paint::Good, "OK"),
        _ if works == 0 => (Paint::Critical, "NOTHING"),
        _ => (Paint::Warning, "PARTLY"),
    };
    let text = match (works, all) {
        (_, 0) => "nothing was probed".to_owned(),
        (works, all) if works == all => {
            format!("everything works: {}", number::of(all as u64, "probe", "probes"))
        }
        (works, all) => {
            let missing = GROUPS[1..].iter().filter(|(verdict, _)| of(*verdict) > 0);
            let missing: Vec<String> = missing
                .map(|(verdict, title)| {
                    format!("{} {}", number::count(of(*verdict) as u64), title.to_lowercase())
                })
                .collect();
            format!(
                "{} of {} {}; {}",
                number::count(works as u64),
                number::of(all as u64, "probe", "probes"),
                if works == 1 { "works" } else { "work" },
                missing.join(", ")
            )
        }
    };
    paper.prose(Line::of(paint, word).with(Paint::Plain, " "), Paint::Strong, &text);
    let capabilities = match checkup.capabilities.len() {
        0 => "no capability that matters here".to_owned(),
        _ => checkup.capabilities.join(", "),
    };
    let about = format!("Linux {}, user {}, {capabilities}", checkup.kernel, checkup.user);
    paper.prose(Line::new(), Paint::Faint, &about);
    for (verdict, title) in GROUPS {
        let mut probes = checkup.probes.iter().filter(|probe| probe.verdict == verdict).peekable();
        if probes.peek().is_some() {
            paper.heading(title);
        }
        for probe in probes {
            one(paper, probe);
        }
    }
}

fn one(paper: &mut Paper<'_>, probe: &Probe) {
    let ascii = paper.page().ascii;
    let (paint, mark) = match (probe.verdict, ascii) {
        (Verdict::Works, false) => (Paint::Good, "\u{2713}"),
        (Verdict::Works, true) => (Paint::Good, "+"),
        (Verdict::Unsupported, false) => (Paint::Critical, "\u{2717}"),
        (Verdict::Unsupported, true) => (Paint::Critical, "x"),
        (Verdict::NotPermitted, _) => (Paint::Warning, "!"),
        (Verdict::Unknown, _) => (Paint::Warning, "?"),
    };
    let lead = Line::plain("  ").with(paint, mark).with(Paint::Plain, " ");
    let works = probe.verdict == Verdict::Works;
    let text = if probe.detail.is_empty() {
        probe.title.clone()
    } else {
        format!("{}: {}", probe.title, probe.detail)
    };
    if works {
        // One line each: how it was done is worth less than seeing all of them at once.
        let detail = text.strip_prefix(&probe.title).unwrap_or_default();
        paper.line(lead.with(Paint::Plain, &probe.title).with(Paint::Faint, detail));
    } else {
        paper.prose(lead, Paint::Plain, &text);
        for (word, text) in [("for ", Some(&probe.enables)), ("remedy ", probe.remedy.as_ref())] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                paper.prose(Line::plain("      ").with(Paint::Faint, word), Paint::Plain, text);
            }
        }
    }
}
