//! Sockets that are ended early: how it goes, in one line; what came of it, by destination.

use tidewait_model::reap::{End, Progress, Row};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// A column of numbers: its heading, and how a row is shown in it.
type Column = (&'static str, fn(&Row) -> u64);

/// How it goes, in one line without paint.
pub fn progress(progress: &Progress) -> String {
    let mut parts = vec![
        format!(
            "{} ended, {}/s",
            number::count(progress.counters.killed),
            number::count(progress.killed_per_second.round() as u64)
        ),
        match progress.oldest_seconds {
            Some(oldest) => {
                format!("{} waited, the oldest for {oldest:.1} s", number::count(progress.waiting))
            }
            None => format!("{} waited", number::count(progress.waiting)),
        },
    ];
    if progress.held > 0 {
        parts.push(format!("{} kept by the floor", number::count(progress.held)));
    }
    if let Some(busiest) = &progress.busiest {
        let used = match busiest.share {
            Some(share) => format!("{} of its ports in use", number::percent(share)),
            None => number::of(busiest.ports_used, "socket", "sockets"),
        };
        parts.push(format!("{}: {used}", busiest.destination));
    }
    parts.push(format!("CPU {:.2} s", progress.counters.cpu_seconds));
    parts.join(" | ")
}

/// What came of it. `dry_run`: nothing was ended, only counted.
pub fn end(paper: &mut Paper<'_>, end: &End, dry_run: bool) {
    let counters = &end.counters;
    let sockets = number::of(counters.killed, "socket", "sockets");
    let head = if dry_run {
        format!("{sockets} would be ended now")
    } else {
        format!("{sockets} ended in {}", number::duration(end.seconds))
    };
    let paint = if counters.killed > 0 { Paint::Strong } else { Paint::Plain };
    let mut facts = vec![Line::of(paint, head)];
    if !dry_run {
        for (count, words) in [
            (counters.gone, "gone by themselves before"),
            (counters.refused, "refused by the kernel"),
            (counters.unclear, "whose answer was lost"),
        ] {
            if count > 0 {
                facts.push(Line::plain(format!("{} {words}", number::count(count))));
            }
        }
        let each = if counters.killed > 0 {
            format!(", {:.2} us a socket", counters.cpu_seconds * 1e6 / counters.killed as f64)
        } else {
            String::new()
        };
        facts.push(Line::of(Paint::Faint, format!("CPU {:.2} s{each}", counters.cpu_seconds)));
    }
    paper.flow(0, facts);
    let rows: Vec<&Row> = end.destinations.iter().chain(&end.others).collect();
    if rows.is_empty() {
        return;
    }
    paper.gap();
    let name_width =
        rows.iter().map(|row| row.destination.chars().count()).max().unwrap_or(0).max("destination".len());
    let ended = if dry_run { "would end" } else { "ended" };
    let columns: [Column; 4] = [
        (ended, |row| row.killed),
        ("not ended", |row| row.not_killed),
        ("wait", |row| row.waiting),
        ("by the floor", |row| row.held),
    ];
    let shown: Vec<_> = columns
        .into_iter()
        .filter(|(name, of)| *name == ended || *name == "wait" || rows.iter().any(|row| of(row) > 0))
        .collect();
    let mut heading = Line::of(Paint::Faint, "destination").pad(name_width);
    for (name, _) in &shown {
        heading = heading.with(Paint::Faint, format!("  {name:>10}"));
    }
    paper.line(heading);
    for row in rows {
        let mut line = Line::plain(&row.destination).pad(name_width);
        for (name, of) in &shown {
            let width = name.len().max(10);
            line = line.with(Paint::Plain, format!("  {:>width$}", number::count(of(row))));
        }
        paper.line(line);
    }
}

#[cfg(test)]
mod tests {
    use tidewait_model::reap::{Busiest, Counters};
    use tidewait_model::stream::Reason;

    use super::super::Page;
    use super::*;

    fn counters() -> Counters {
        Counters { killed: 41_230, gone: 3, refused: 0, unclear: 0, looks: 12, cpu_seconds: 0.05 }
    }

    #[test]
    fn the_line_says_how_it_goes() {
        let mut told = Progress {
            at: String::new(),
            seconds: 12.0,
            counters: counters(),
            killed_per_second: 2_999.6,
            waiting: 15_012,
            held: 0,
            oldest_seconds: Some(4.96),
            busiest: Some(Busiest {
                destination: "10.0.0.1 -> 10.0.0.2:80".to_owned(),
                ports_used: 12_704,
                share: Some(0.45),
            }),
        };
        assert_eq!(
            progress(&told),
            "41,230 ended, 3,000/s | 15,012 waited, the oldest for 5.0 s | 10.0.0.1 -> 10.0.0.2:80: 45 % of its ports in use | CPU 0.05 s"
        );
        told.held = 7;
        assert!(progress(&told).contains("| 7 kept by the floor |"));
    }

    #[test]
    fn the_summary_names_destinations_and_what_was_not_ended() {
        let row = |destination: &str, killed, held| Row {
            destination: destination.to_owned(),
            killed,
            not_killed: 0,
            waiting: 12,
            held,
        };
        let told = End {
            at: String::new(),
            seconds: 60.0,
            reason: Reason::Signal,
            counters: counters(),
            destinations: vec![
                row("10.0.0.1 -> 10.0.0.2:80", 41_000, 0),
                row("10.0.0.1 -> 10.0.0.3:80", 230, 0),
            ],
            others: None,
        };
        let write = |told: &End, dry_run| {
            let page = Page { width: 100, ..Page::default() };
            let mut paper = Paper::new(&page);
            end(&mut paper, told, dry_run);
            paper.finish()
        };
        let text = write(&told, false);
        assert!(text.contains("41,230 sockets ended in 1 min"), "{text}");
        assert!(text.contains("3 gone by themselves before") && text.contains("1.21 us a socket"), "{text}");
        assert!(!text.contains("refused") && !text.contains("by the floor"), "{text}");
        let dry = write(&End { destinations: vec![row("a -> b", 5, 9)], ..told }, true);
        assert!(dry.contains("would be ended now") && dry.contains("by the floor"), "{dry}");
        assert!(!dry.contains("CPU"), "{dry}");
    }
}
