//! Steering: what is done, what was done.

use std::time::Duration;

use tidewait_model::exec::Chosen;
use tidewait_model::steer::{Begin, Counts, End};

use super::number;

/// What is done from now on, in one sentence.
pub fn steering(begin: &Begin) -> String {
    let mut what = Vec::new();
    if begin.ports > 0 {
        what.push(format!(
            "{} for each destination ({})",
            number::of(u64::from(begin.ports), "port", "ports"),
            begin.ranges.join(", ")
        ));
    }
    if !begin.sources.is_empty() {
        what.push(format!("source addresses {} in turn", begin.sources.join(", ")));
    }
    let reuse = begin
        .reuse_after_seconds
        .map(|seconds| format!(", those of TIME_WAIT older than {} again", number::duration(seconds)))
        .unwrap_or_default();
    format!("for {} in network namespace {}: {}{reuse}", begin.target, begin.namespace, what.join(", "))
}

/// What was done until now, in one line; `before`: so long ago.
pub fn line(counts: &Counts, before: &Counts, elapsed: Duration) -> String {
    let mut parts = Vec::new();
    let rate = |now: u64, then: u64| {
        // An interval of nothing has no rate.
        let seconds = elapsed.as_secs_f64().max(0.001);
        number::count((now.saturating_sub(then) as f64 / seconds).round() as u64)
    };
    if counts.steered > 0 || counts.spread == 0 {
        let now = rate(counts.steered, before.steered);
        parts.push(format!("{} steered ({now}/s)", number::count(counts.steered)));
    }
    if counts.spread > 0 {
        parts.push(format!(
            "{} spread ({}/s)",
            number::count(counts.spread),
            rate(counts.spread, before.spread)
        ));
    }
    let rest = [
        (counts.reused, "of TIME_WAIT"),
        (counts.fell_back + counts.unknown_source, "left to the kernel"),
        (counts.left_with_port + counts.left_apart, "left alone"),
    ];
    parts.extend(rest.iter().map(|(count, what)| format!("{} {what}", number::count(*count))));
    parts.join(", ")
}

/// What was done in all.
pub fn steered(end: &End, begin: &Begin) -> String {
    let Counts {
        connects,
        steered,
        learning,
        reused,
        spread,
        fell_back,
        unknown_source,
        left_with_port,
        left_with_source,
        left_to_routing,
        left_apart,
        candidates,
        refused_by_bind,
        sources_gone,
    } = end.counts;
    let mut text = format!("in {}:\n", number::duration(end.seconds));
    let mut row = |always: bool, count: u64, what: &str| {
        if always || count > 0 {
            text += &format!("  {:>13}  {what}\n", number::count(count));
        }
    };
    let ports = begin.ports > 0;
    row(true, connects, "connections were tried");
    row(ports, steered, "got their port here");
    row(false, reused, "of those that of a TIME_WAIT");
    row(false, learning, "of those before it was known which source address routing chooses");
    row(!begin.sources.is_empty(), spread, "got their source address here");
    row(ports, fell_back, "found no free port and were left to the kernel");
    row(false, unknown_source, "were left to the kernel: where they go out from, or to, was not known yet");
    row(false, left_with_port, "were left alone: the program had bound a port");
    row(false, left_with_source, "kept the source address that the program had bound");
    row(
        false,
        left_to_routing,
        "have the source address that routing chose: to this machine, or none was there to be given",
    );
    row(
        false,
        left_apart,
        "were left alone: bound to a device, with a port range of their own, to a link-local address, or from IPv6 to IPv4",
    );
    row(false, refused_by_bind, "ports were refused by bind(): somebody else has bound them or listens");
    row(false, sources_gone, "times a source address was not there any more");
    if steered > 0 {
        let each = candidates as f64 / (steered + fell_back).max(1) as f64;
        text += &format!("  {each:>13.2}  ports looked at for each\n");
    }
    text
}

/// What became of the connections of a command that has ended, in sentences; `all`: also what went well.
pub fn chosen(chosen: &Chosen, all: bool) -> Vec<String> {
    let Counts { connects, steered, reused, spread, fell_back, .. } = chosen.counts;
    let (ports, sources) = (!chosen.ranges.is_empty(), !chosen.sources.is_empty());
    let mut words = Vec::new();
    if all {
        let mut what = vec![format!("{} tried", number::of(connects, "connection was", "connections were"))];
        if ports {
            what.push(format!("{} got their port here", number::count(steered)));
        }
        if reused > 0 {
            what.push(format!("{} of those that of a TIME_WAIT", number::count(reused)));
        }
        if sources {
            what.push(format!("{} their source address", number::count(spread)));
        }
        let left = chosen.counts.left_with_port + chosen.counts.left_apart;
        what.push(format!("{} were left alone", number::count(left)));
        words.push(what.join(", "));
    }
    if fell_back > 0 {
        words.push(format!(
            "{} of {} found no free port among {} for their destination and were left to the kernel: name more by --range, give those of \
             TIME_WAIT again by --reuse-after, or more source addresses by --spread",
            number::count(fell_back),
            number::of(connects, "connection", "connections"),
            number::count(chosen.ports.into())
        ));
    }
    if chosen.counts.unknown_source > 0 {
        words.push(format!(
            "{} left to the kernel because it was not known yet where they go out from, or whether to where the program says",
            number::of(chosen.counts.unknown_source, "connection was", "connections were")
        ));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewait_model::report::Host;
    use tidewait_model::steer::SCHEMA;
    use tidewait_model::stream::{Opening, Reason};

    fn begin() -> Begin {
        Begin {
            opening: Opening {
                schema: SCHEMA.to_owned(),
                at: "2026-01-01T00:00:00Z".to_owned(),
                host: Host { hostname: "h".to_owned(), kernel: "6.12".to_owned() },
            },
            namespace: "host".to_owned(),
            target: "nginx.service".to_owned(),
            ports: 12_268,
            ranges: vec!["22268-29999".to_owned(), "61000-65535".to_owned()],
            reuse_after_seconds: Some(5.0),
            sources: vec!["10.0.0.5".to_owned(), "10.0.0.6".to_owned()],
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_is_done_is_one_sentence() {
        assert_eq!(
            steering(&begin()),
            "for nginx.service in network namespace host: 12,268 ports for each destination (22268-29999, 61000-65535), source addresses \
             10.0.0.5, 10.0.0.6 in turn, those of TIME_WAIT older than 5 s again"
        );
    }

    #[test]
    fn what_was_done_is_told_with_what_was_not() {
        let counts = Counts { steered: 1_200, candidates: 1_500, left_with_port: 3, ..Counts::default() };
        let before = Counts { steered: 200, ..Counts::default() };
        assert_eq!(
            line(&counts, &before, Duration::from_secs(1)),
            "1,200 steered (1,000/s), 0 of TIME_WAIT, 0 left to the kernel, 3 left alone"
        );
        assert!(line(&counts, &before, Duration::from_millis(2_500)).starts_with("1,200 steered (400/s), "));
        let end = End { at: "2026-01-01T00:00:09Z".to_owned(), seconds: 9.0, reason: Reason::Time, counts };
        let text = steered(&end, &begin());
        assert!(text.contains("1,200  got their port here"), "{text}");
        assert!(text.contains("1.25  ports looked at for each"), "{text}");
        assert!(!text.contains("device"), "{text}");
    }
}
