//! Counters worth a look when they are not zero: each says that something was dropped or cut short.

use tidewait_model::report::Namespace;

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// Counter and what it counted. Sources: net/ipv4/proc.c for the names, kernel code for the meaning.
const WORTH_A_LOOK: &[(&str, &str)] = &[
    ("TcpExt.TCPTimeWaitOverflow", "closed without TIME_WAIT, above net.ipv4.tcp_max_tw_buckets"),
    ("TcpExt.ListenOverflows", "connections not taken, an accept queue was full"),
    ("TcpExt.TCPReqQFullDrop", "SYNs dropped, a queue of half-open connections was full"),
    ("TcpExt.TCPAbortOnMemory", "connections reset, too many orphans or too little memory"),
];

/// Whether any of them has counted.
pub fn any(namespace: &Namespace) -> bool {
    WORTH_A_LOOK.iter().any(|(name, _)| value(namespace, name) > 0)
}

/// The lines of those that have.
pub fn write(paper: &mut Paper<'_>, namespace: &Namespace) {
    for (name, meaning) in WORTH_A_LOOK {
        let value = value(namespace, name);
        if value > 0 {
            let short = name.rsplit('.').next().unwrap_or(name);
            let lead = Line::plain("  ").with(Paint::Warning, format!("{short} {}  ", number::signed(value)));
            paper.prose(
                lead,
                Paint::Plain,
                &format!("{meaning}, since the counters began{}", grown(namespace, name)),
            );
        }
    }
}

/// `, 12 of them in the last 10 s`, where the counters were watched.
fn grown(namespace: &Namespace, name: &str) -> String {
    let Some(growth) = &namespace.growth else { return String::new() };
    let span = number::duration(growth.seconds);
    match growth.counters.get(name).copied().unwrap_or(0) {
        0 => format!(", none in the last {span}"),
        grown => format!(", {} of them in the last {span}", number::signed(grown)),
    }
}

fn value(namespace: &Namespace, name: &str) -> i64 {
    namespace.counters.get(name).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use tidewait_model::catalogue::COUNTERS;

    use super::*;

    #[test]
    fn only_counters_that_are_read_are_looked_for() {
        for (name, meaning) in WORTH_A_LOOK {
            assert!(COUNTERS.contains(name), "{name}");
            assert!(!meaning.is_empty());
        }
    }
}
