//! `time-wait-overflow`: more sockets close than TIME_WAIT may hold; the rest end without it.

use tidewait_model::State;
use tidewait_model::report::Severity;

use crate::Kind;
use crate::findings::remedy::{Step, recycle, setting};
use crate::findings::view::{Found, Ties, View};
use crate::findings::words::{count, figure};

pub(in crate::findings) const KIND: Kind = Kind {
    id: "time-wait-overflow",
    title: "TIME_WAIT is at its limit, and connections end without it",
    means: "What is lost is protection, not connections: a segment that comes late can reach a new connection between the same \
            ports, and a peer that repeats its end gets a reset. No port is short because of it, and nothing is logged.",
    told_by: "TCPTimeWaitOverflow grows, or has grown while as many sockets as net.ipv4.tcp_max_tw_buckets allows are in \
              TIME_WAIT. Orphans in FIN_WAIT2 count too.",
    causes: &[
        "more connections close here than the limit divided by 60 a second",
        "a limit that was lowered to get rid of TIME_WAIT",
    ],
    severity: "a warning while it goes on: the protection of connections is being lost. A notice where it is at the limit and no \
               longer grows.",
    scenario: "time-wait-overflow",
    see_also: &["TIME_WAIT", "net.ipv4.tcp_max_tw_buckets", "time-wait-incoming", "why-60-seconds"],
    sources: &[
        "net/ipv4/inet_timewait_sock.c inet_twsk_alloc (6.18)",
        "net/ipv4/tcp_minisocks.c tcp_time_wait (6.18)",
    ],
};

/// What one socket in TIME_WAIT takes of memory: its own 256 bytes (slab tw_sock_TCP).
pub(super) const BYTES: u64 = 256;
/// The same with the two buckets of a local port of its own (128 bytes each).
const BYTES_WITH_PORT: u64 = 512;

/// No limit below this is worth to be set.
const LEAST: u64 = 4_096;

pub(super) fn check(view: &View<'_>) -> Option<Found> {
    let most = view.quantity("net.ipv4.tcp_max_tw_buckets")?;
    let kept = view.counter("sockstat.TCP.tw").max(view.facts.census.states[State::TimeWait]);
    let lost = view.counter("TcpExt.TCPTimeWaitOverflow");
    let grew = view.grew("TcpExt.TCPTimeWaitOverflow");
    let growing = grew.is_some_and(|grew| grew > 0);
    // Sockets leave while they are counted.
    let full = kept.saturating_mul(100) >= most.saturating_mul(99);
    let was_full = full && lost > 0;
    if !growing && !was_full {
        return None;
    }
    let severity = if growing { Severity::Warning } else { Severity::Notice };
    let summary = format!(
        "TIME_WAIT is at its limit of {} (net.ipv4.tcp_max_tw_buckets): connections that close here beyond it end without the \
         protection of TIME_WAIT; none is refused",
        count(most)
    );
    let time_wait = f64::from(view.namespace.time_wait_seconds);
    let seconds = view.facts.growth.as_ref().map(|growth| growth.seconds).filter(|seconds| *seconds > 0.0);
    let rate = grew.zip(seconds).map(|(grew, seconds)| grew as f64 / seconds);
    let mut evidence = vec![format!(
        "{} in TIME_WAIT; {} ended without it since the namespace began (TCPTimeWaitOverflow)",
        count(kept),
        count(lost)
    )];
    if let (Some(rate), true) = (rate, growing) {
        evidence.push(format!("{} a second end without it now", figure(rate)));
    }
    let (closed_rate, source) = match rate {
        Some(rate) => (most as f64 / time_wait + rate, "at the present rate"),
        None => (most as f64 / time_wait, "the rate beyond the limit leaves no trace"),
    };
    let needed = (closed_rate * time_wait).ceil().min(1e12) as u64;
    let wanted = needed.max(most.saturating_add(1)).max(LEAST).checked_next_power_of_two().unwrap_or(needed);
    let raise = Step::new(
        "more-buckets",
        format!("raise net.ipv4.tcp_max_tw_buckets to {wanted}"),
        format!(
            "{} to {} sockets: {} a second may close instead of {} ({source}); {} to {} MB of memory if all are used",
            count(most),
            count(wanted),
            figure(wanted as f64 / time_wait),
            figure(most as f64 / time_wait),
            figure(wanted as f64 * BYTES as f64 / 1e6),
            figure(wanted as f64 * BYTES_WITH_PORT as f64 / 1e6)
        ),
    )
    .sets(view, [("net.ipv4.tcp_max_tw_buckets", wanted)])
    .risk("memory, as said; a dump of all sockets takes longer");
    let reuse = Step::new(
        "reuse-connections",
        "let programs keep connections open and use them again, or let the other side close first: who closes first keeps the \
         TIME_WAIT",
        "each connection kept is one TIME_WAIT less",
    )
    .risk("none for the kernel");
    let mut ties = Ties::default();
    ties.states.add(State::TimeWait, kept);
    Some(
        view.found(&KIND, severity, "TIME_WAIT".to_owned(), summary)
            .evidence(evidence)
            .remedies([Some(reuse), Some(raise)])
            .no_help([
                setting(
                    view,
                    "net.ipv4.tcp_tw_reuse",
                    "it lets connect() take over TIME_WAIT; the count goes down by nothing else",
                ),
                (view.facts.census.states[State::FinWait2] * 20 < kept)
                    .then(|| {
                        setting(
                            view,
                            "net.ipv4.tcp_fin_timeout",
                            "it ends orphans in FIN_WAIT2; TIME_WAIT stays as long as it is",
                        )
                    })
                    .flatten(),
                recycle(view),
            ])
            .ties(ties),
    )
}
