//! What TIME_WAIT absorbed: a histogram by age with its denominators, a sentence about what came last, destinations.

use tidewait_model::study::{BANDS, Destination, Kind, Method, Seen, Study, band};
use tidewait_model::trace::Direction;

use super::bar;
use super::line::{Line, Paint};
use super::number::{count, duration, of};
use super::page::Paper;

/// The widest that a bar is drawn.
const BAR: usize = 24;
/// Columns of the figures of a destination.
const FIGURES: usize = 37;

/// The page.
pub fn write(paper: &mut Paper<'_>, study: &Study) {
    let seen = &study.total;
    let how = match study.method {
        Method::Fentry => "as the kernel answers them (fentry)".to_owned(),
        Method::Tc => {
            let looked = study.segments_looked_at.unwrap_or(0);
            format!("of {} that came in (tc, before the firewall)", of(looked, "TCP segment", "TCP segments"))
        }
    };
    let share = match study.sample {
        1 => String::new(),
        sample => format!(", one connection in {}", count(u64::from(sample))),
    };
    paper.prose(
        Line::of(Paint::Strong, format!("{}  ", study.namespace.name)),
        Paint::Plain,
        &format!(
            "watched for {}{share}: {} in TIME_WAIT, {} for them, {how}",
            duration(study.seconds),
            of(seen.sockets, "socket", "sockets"),
            of(seen.segments, "segment", "segments"),
        ),
    );
    if seen.sockets + seen.segments > 0 {
        histogram(paper, seen);
        kinds(paper, seen);
    }
    paper.gap();
    for sentence in conclusion(study) {
        paper.prose(Line::new(), Paint::Plain, &sentence);
    }
    destinations(paper, &study.destinations);
    if !study.limits.is_empty() {
        paper.heading("Not seen");
        for limit in &study.limits {
            let remedy = limit.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            paper.prose(Line::plain("  "), Paint::Faint, &format!("{}: {}{remedy}", limit.what, limit.why));
        }
    }
}

/// The line that changes on the terminal while it is watched.
pub fn live(seen: &Seen, looked_at: Option<u64>, seconds: f64) -> String {
    let latest = seen
        .latest_needed
        .as_ref()
        .map_or_else(String::new, |latest| format!(", the latest at {}", age(latest.age_seconds)));
    let looked = looked_at.map_or_else(String::new, |looked| format!("; {} looked at", count(looked)));
    format!(
        "{}: {} in TIME_WAIT, {} for them, {} needed it{latest}{looked}",
        duration(seconds),
        of(seen.sockets, "socket", "sockets"),
        of(seen.segments, "segment", "segments"),
        count(seen.needed),
    )
}

/// An age, finer than other times: a tenth of a second matters here.
fn age(seconds: f64) -> String {
    match seconds {
        seconds if (1.0..10.0).contains(&seconds) => format!("{seconds:.1} s"),
        seconds => duration(seconds),
    }
}

/// Where a band begins and ends.
fn range(study_band: usize) -> String {
    let begins = tidewait_model::study::BAND_BEGINS_MS;
    let text = |at: usize| begins.get(at).map(|ms| age(f64::from(*ms) / 1e3));
    match (text(study_band), text(study_band + 1)) {
        (Some(from), Some(to)) => format!("{from} to {to}"),
        (Some(from), None) => format!("from {from} on"),
        (None, _) => String::new(),
    }
}

/// Age by age: sockets that were watched at it, segments that needed TIME_WAIT, and others.
fn histogram(paper: &mut Paper<'_>, seen: &Seen) {
    let needed = seen.needed_at_age();
    let mut other = [0_u64; BANDS];
    for kind in seen.kinds.iter().filter(|kind| !kind.kind.needs_time_wait()) {
        for (sum, count) in other.iter_mut().zip(&kind.at_age) {
            *sum += count;
        }
    }
    let most = needed.iter().chain(&other).copied().max().unwrap_or(0).max(1);
    let sockets = |at: usize| seen.sockets_at_age.get(at).copied().unwrap_or(0);
    let last = (0..BANDS).rev().find(|at| sockets(*at) + needed[*at] + other[*at] > 0).unwrap_or(0);
    let width = paper.width().saturating_sub(58).min(BAR);
    paper.heading("Age of TIME_WAIT        sockets      needed it       other");
    for at in 0..=last {
        let mut line = Line::plain(format!("  {}", range(at)))
            .pad(20)
            .join(number(sockets(at), Paint::Plain).pad_left(11))
            .join(number(needed[at], Paint::Strong).pad_left(15))
            .join(number(other[at], Paint::Plain).pad_left(12));
        if width >= 3 && needed[at] + other[at] > 0 {
            let share = |count: u64| count as f64 / most as f64;
            let (ascii, drawn) = (paper.page().ascii, share(needed[at].max(other[at])));
            let paint = if needed[at] > 0 { Paint::Warning } else { Paint::Faint };
            line = line.with(Paint::Plain, "  ").join(bar::plain(drawn, paint, width, ascii));
        }
        paper.line(line);
    }
}

/// A count, faint where it is none.
fn number(number: u64, paint: Paint) -> Line {
    if number == 0 { Line::of(Paint::Faint, "0") } else { Line::of(paint, count(number)) }
}

/// What came, kind by kind.
fn kinds(paper: &mut Paper<'_>, seen: &Seen) {
    if seen.kinds.is_empty() {
        return;
    }
    paper.heading("Kind                      segments     latest");
    for kind in &seen.kinds {
        let needed = kind.kind.needs_time_wait();
        let mut line =
            Line::of(if needed { Paint::Strong } else { Paint::Plain }, format!("  {}", kind.kind.words()))
                .pad(26)
                .join(Line::plain(count(kind.segments)).pad_left(8))
                .join(Line::plain(age(kind.latest_seconds)).pad_left(11));
        if kind.rejected_by_timestamp > 0 {
            let text = format!("  {} given away by timestamps", count(kind.rejected_by_timestamp));
            line = line.with(Paint::Faint, text);
        }
        paper.line(line);
    }
}

/// What was seen in a sentence, with its denominator; never what is to be done.
fn conclusion(study: &Study) -> Vec<String> {
    let seen = &study.total;
    if seen.sockets + seen.segments == 0 {
        return vec!["No socket was in TIME_WAIT: nothing can be said.".to_owned()];
    }
    let at = |at: usize| seen.sockets_at_age.get(at).copied().unwrap_or(0);
    let oldest = (0..BANDS).rev().find(|band| at(*band) > 0).unwrap_or(0);
    let ended = "The sockets had ended before they were counted";
    let mut sentences = Vec::new();
    match &seen.latest_needed {
        None if seen.sockets == 0 => {
            sentences.push(format!("No segment came that needed TIME_WAIT. {ended}."));
        }
        None => sentences.push(format!(
            "No segment came that needed TIME_WAIT. {} watched, {} of them at ages of {}; later ages were not seen.",
            of(seen.sockets, "socket was", "sockets were"),
            count(at(oldest)),
            range(oldest),
        )),
        Some(latest) => {
            let band = band((latest.age_seconds * 1e3) as u64);
            // Those that ended between two counts are missing in it.
            let sockets = match seen.sockets {
                0 => format!(". {ended}"),
                sockets => format!(", of at least {}", of(sockets, "socket", "sockets")),
            };
            sentences.push(format!(
                "{} TIME_WAIT{sockets}. The latest, {} {}, came {} after TIME_WAIT began.",
                of(seen.needed, "segment needed", "segments needed"),
                if latest.kind == Kind::OldData { "of" } else { "a" },
                latest.kind.words(),
                age(latest.age_seconds),
            ));
            let beyond = band + 1;
            if beyond < BANDS && at(beyond) > 0 {
                let begins = f64::from(tidewait_model::study::BAND_BEGINS_MS[beyond]) / 1e3;
                sentences.push(format!(
                    "None came beyond {}, in {} watched at that age; {} at ages of {}.",
                    age(begins),
                    of(at(beyond), "socket", "sockets"),
                    of(at(oldest), "was watched", "were watched"),
                    range(oldest),
                ));
            }
        }
    }
    sentences.push("This is what was seen here, in this time. What did not come may come yet.".to_owned());
    sentences
}

fn destinations(paper: &mut Paper<'_>, destinations: &[Destination]) {
    if destinations.is_empty() {
        return;
    }
    let top = paper.page().top;
    let room = paper.width().saturating_sub(FIGURES).clamp(14, 34);
    paper.heading(&format!("{:room$}   sockets   needed   latest    other", "Destination"));
    for destination in destinations.iter().take(top) {
        let seen = &destination.seen;
        let name = match (&destination.end, destination.direction) {
            (None, _) => "all others".to_owned(),
            (Some(end), Direction::Incoming) => format!("at {end}"),
            (Some(end), _) => end.clone(),
        };
        let latest =
            seen.latest_needed.as_ref().map_or_else(|| "-".to_owned(), |latest| age(latest.age_seconds));
        // There were some, or nothing would have come for them: they ended before they were counted, or are among the others.
        let uncounted = seen.sockets == 0 && seen.segments > 0;
        let sockets = if uncounted { Line::plain("?") } else { number(seen.sockets, Paint::Plain) };
        let mut name = Line::plain(format!("  {name}"));
        if name.width() > room {
            paper.line(std::mem::take(&mut name));
        }
        let line = name
            .pad(room)
            .join(sockets.pad_left(10))
            .join(number(seen.needed, Paint::Strong).pad_left(9))
            .join(Line::plain(latest).pad_left(9))
            .join(number(seen.segments - seen.needed.min(seen.segments), Paint::Plain).pad_left(9));
        paper.line(line);
    }
    if destinations.len() > top {
        paper.line(Line::of(
            Paint::Faint,
            format!("  {} more; --top 0 shows all", count((destinations.len() - top) as u64)),
        ));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tidewait_model::report::Host;
    use tidewait_model::study::{BAND_BEGINS_MS, KindSeen, Place, SCHEMA, Sighting};
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::text::Page;

    /// A busy proxy after ten minutes.
    pub(crate) fn sample() -> Study {
        let at = |pairs: &[(usize, u64)]| {
            let mut bands = vec![0; BANDS];
            pairs.iter().for_each(|(band, count)| bands[*band] = *count);
            bands
        };
        let kind = |kind, pairs: &[(usize, u64)], rejected, latest_seconds| KindSeen {
            kind,
            segments: pairs.iter().map(|(_, count)| count).sum(),
            rejected_by_timestamp: rejected,
            at_age: at(pairs),
            latest_seconds,
        };
        let latest =
            Sighting { age_seconds: 1.62, kind: Kind::Fin, at: "2026-11-26T20:00:00.000Z".to_owned() };
        let total = Seen {
            sockets: 1_200_000,
            sockets_at_age: (0..15).map(|band| 1_200_000 - band * 10_000).chain([0]).collect(),
            segments: 57,
            needed: 45,
            latest_needed: Some(latest),
            kinds: vec![
                kind(Kind::Fin, &[(4, 40), (6, 4)], 0, 1.62),
                kind(Kind::OldData, &[(1, 1)], 1, 0.004),
                kind(Kind::SynAccepted, &[(13, 12)], 0, 31.0),
            ],
        };
        let destination = |end: Option<&str>, direction, seen: &Seen| Destination {
            direction,
            end: end.map(str::to_owned),
            seen: seen.clone(),
        };
        let quiet = Seen { sockets: 3, sockets_at_age: at(&[(0, 3)]), ..Seen::default() };
        Study {
            schema: SCHEMA.to_owned(),
            begun_at: "2026-11-26T19:50:00.000Z".to_owned(),
            seconds: 600.0,
            host: Host { hostname: "proxy1".to_owned(), kernel: "6.12".to_owned() },
            namespace: Place { name: "host".to_owned(), inode: 4_026_531_840, boot: String::new() },
            method: Method::Tc,
            sample: 4,
            time_wait_seconds: 60.0,
            limits: vec![tidewait_model::Limit::new(
                "segments in fragments",
                "7 IP fragments were not looked at",
            )],
            segments_looked_at: Some(98_765_432),
            packets_not_looked_at: 7,
            fin_wait2_segments: 3,
            bands: BAND_BEGINS_MS.iter().map(|ms| f64::from(*ms) / 1e3).collect(),
            destinations: vec![
                destination(Some("10.0.2.9:3306"), Direction::Outgoing, &total),
                destination(Some("[2001:db8::1]:443"), Direction::Incoming, &quiet),
                destination(None, Direction::Outgoing, &quiet),
            ],
            total,
        }
    }

    fn drawn(study: &Study, width: usize, ascii: bool) -> String {
        crate::text::study(study, &Page { width, ascii, ..Page::default() })
    }

    /// As read, wherever its lines end.
    fn flat(page: &str) -> String {
        page.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn sockets_that_ended_before_they_were_counted_were_there() {
        let mut ended = sample();
        (ended.total.sockets, ended.total.sockets_at_age) = (0, vec![0; BANDS]);
        ended.destinations[0].seen = ended.total.clone();
        let page = drawn(&ended, 80, true);
        assert!(!page.contains("No socket was in TIME_WAIT"), "{page}");
        assert!(
            flat(&page)
                .contains("45 segments needed TIME_WAIT. The sockets had ended before they were counted.")
        );
        assert!(flat(&page).contains("10.0.2.9:3306 ? 45 1.6 s 12"), "{page}");
    }

    #[test]
    fn what_needed_it_is_seen_on_a_narrow_terminal_too() {
        let mut narrow = sample();
        narrow.destinations[1].end = Some("[2001:db8:1111:2222:3333:4444:5555:6666]:50000".to_owned());
        for width in [60, 80] {
            let page = drawn(&narrow, width, true);
            let heading = page.lines().find(|line| line.starts_with("Destination")).unwrap();
            assert!(heading.ends_with("sockets   needed   latest    other"), "{page}");
            let row = page.lines().find(|line| line.contains("10.0.2.9:3306")).unwrap();
            assert!(row.ends_with("45    1.6 s       12"), "{width}: {page}");
            assert!(page.contains(":50000\n"), "whole: {page}");
        }
    }

    #[test]
    fn what_came_last_is_said_with_the_number_that_it_is_of() {
        let page = drawn(&sample(), 100, false);
        for words in [
            "one connection in 4: 1,200,000 sockets in TIME_WAIT, 57 segments for them",
            "45 segments needed TIME_WAIT, of at least 1,200,000 sockets. The latest, a retransmitted FIN, came 1.6 s after",
            "None came beyond 2.0 s, in 1,130,000 sockets watched at that age; 1,060,000 were watched at ages of 45 s to 1 min.",
            "1 given away by timestamps",
            "7 IP fragments",
            "at [2001:db8::1]:443",
            "all others",
        ] {
            assert!(flat(&page).contains(words), "{words}:\n{page}");
        }
    }

    #[test]
    fn nothing_is_called_safe_and_nothing_that_was_not_watched_is_claimed() {
        let mut young = sample();
        young.total.latest_needed = None;
        young.total.sockets_at_age = vec![9; 3];
        let mut none = sample();
        none.total = Seen::default();
        none.destinations.clear();
        for study in [sample(), young.clone(), none.clone()] {
            for ascii in [false, true] {
                let page = drawn(&study, 80, ascii);
                assert!(!page.to_lowercase().contains("safe"), "{page}");
                assert!(!ascii || page.is_ascii(), "{page}");
            }
        }
        assert!(
            flat(&drawn(&young, 200, true))
                .contains("9 of them at ages of 10 ms to 100 ms; later ages were not seen")
        );
        assert!(drawn(&none, 80, true).contains("No socket was in TIME_WAIT: nothing can be said."));
    }

    #[test]
    fn no_line_is_wider_than_the_page() {
        for width in 20..160 {
            let page = drawn(&sample(), width, false);
            let widest = page.lines().map(UnicodeWidthStr::width).max().unwrap_or(0);
            assert!(widest <= width, "{width}:\n{page}");
        }
    }
}
