//! What could not be seen and how to see it, and where the time went.

use tidewait_model::Limit;
use tidewait_model::report::Report;

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// Limits and, where they were asked for, timings.
pub fn write(paper: &mut Paper<'_>, report: &Report) {
    limits(paper, &report.limits);
    if !report.timings.is_empty() {
        paper.heading("Where the time went");
        paper.flow(
            2,
            report.timings.iter().map(|timing| {
                let items = if timing.items > 0 {
                    format!(" ({})", number::count(timing.items))
                } else {
                    String::new()
                };
                Line::plain(format!("{} {}{items}", timing.step, number::duration(timing.seconds)))
            }),
        );
    }
}

/// Limits with the same cause and remedy are one: two hundred namespaces lack the same capability. Each with what they
/// are about, in words.
pub fn grouped<'a>(limits: impl IntoIterator<Item = &'a Limit>) -> Vec<(&'a Limit, String)> {
    let mut groups: Vec<(&Limit, Vec<&str>)> = Vec::new();
    for limit in limits {
        match groups.iter_mut().find(|(first, _)| first.why == limit.why && first.remedy == limit.remedy) {
            Some((_, whats)) => whats.push(&limit.what),
            None => groups.push((limit, vec![&limit.what])),
        }
    }
    let words = |whats: Vec<&str>| match whats[..] {
        [a, b, c, ref rest @ ..] if !rest.is_empty() => {
            format!("{a}, {b}, {c} and {} more", number::count(rest.len() as u64))
        }
        _ => whats.join(", "),
    };
    groups.into_iter().map(|(first, whats)| (first, words(whats))).collect()
}

fn limits(paper: &mut Paper<'_>, limits: &[Limit]) {
    if limits.is_empty() {
        return;
    }
    let groups = grouped(limits);
    paper.heading("Not seen");
    let top = paper.page().top;
    for (first, what) in groups.iter().take(top) {
        paper.prose(Line::of(Paint::Warning, "  - "), Paint::Plain, &format!("{what}: {}", first.why));
        if let Some(remedy) = &first.remedy {
            paper.prose(Line::plain("    "), Paint::Faint, remedy);
        }
    }
    let hidden = groups.len().saturating_sub(top) as u64;
    if hidden > 0 {
        let text = format!("and {} more; --json lists all", number::count(hidden));
        paper.prose(Line::plain("    "), Paint::Faint, &text);
    }
}
