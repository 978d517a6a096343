//! `conntrack-full`: the firewall's table of connections is full, and packets of new ones are dropped.

use tidewait_model::report::Severity;

use crate::Kind;
use crate::findings::remedy::{Step, advice, setting};
use crate::findings::view::{Found, Ties, View};
use crate::findings::words::{count, figure, percent};

pub(in crate::findings) const KIND: Kind = Kind {
    id: "conntrack-full",
    title: "the connection tracking table is full",
    means: "The first packet of a new connection finds no entry and is dropped, in and out: connect() hangs and ends with \
            ETIMEDOUT, not with an error about ports. The kernel log says \"nf_conntrack: table full, dropping packet\".",
    told_by: "nf_conntrack_count of the namespace against nf_conntrack_max, and the counters drop and early_drop while watched.",
    causes: &[
        "entries of closed connections, kept for nf_conntrack_tcp_timeout_time_wait (120 s, twice the socket's TIME_WAIT)",
        "entries of connections whose end was never seen, kept for 5 days (nf_conntrack_tcp_timeout_established)",
        "a table that is small for the traffic",
    ],
    severity: "critical: packets are dropped, or the table is full. A warning from 95 % on, or where entries are evicted early. A \
               notice from 80 % on.",
    scenario: "conntrack-full",
    see_also: &[
        "syn-sent-pileup",
        "net.netfilter.nf_conntrack_max",
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
    ],
    sources: &[
        "net/netfilter/nf_conntrack_core.c __nf_conntrack_alloc (6.18)",
        "net/netfilter/nf_conntrack_proto_tcp.c (6.18)",
    ],
};

/// What an entry takes of memory, about (struct nf_conn with its extensions).
const BYTES: f64 = 320.0;
/// A time for entries of closed connections that outlasts what their peers repeat.
const SHORTER: u64 = 30;

pub(super) fn check(view: &View<'_>) -> Option<Found> {
    let most = view.quantity("net.netfilter.nf_conntrack_max").filter(|most| *most > 0)?;
    let entries = view.quantity("net.netfilter.nf_conntrack_count")?;
    let dropped = view.grew("conntrack.drop").unwrap_or(0);
    let evicted = view.grew("conntrack.early_drop").unwrap_or(0);
    let at_least = |percent: u64| entries.saturating_mul(100) >= most.saturating_mul(percent);
    let severity = if entries >= most || (at_least(95) && dropped > 0) {
        Severity::Critical
    } else if at_least(95) || (at_least(80) && evicted > 0) {
        Severity::Warning
    } else if at_least(80) {
        Severity::Notice
    } else {
        return None;
    };
    let consequence = match severity {
        Severity::Critical => "packets of new connections are dropped, and connect() hangs",
        _ => "when it is full, packets of new connections are dropped",
    };
    let summary = format!(
        "the connection tracking table holds {} of {} entries ({}): {consequence}",
        count(entries),
        count(most),
        percent(entries, most)
    );
    let mut evidence = Vec::new();
    for (grown, what) in
        [(dropped, "packets were dropped (drop)"), (evicted, "entries were evicted early (early_drop)")]
    {
        if grown > 0 {
            evidence.push(format!("{} {what} while it was watched", count(grown)));
        }
    }
    if view.facts.growth.is_some() && evidence.is_empty() {
        evidence.push("nothing was dropped or evicted while it was watched".to_owned());
    }
    if view.facts.growth.is_none() {
        evidence.push(format!(
            "{} drops and {} early evictions since boot; whether they grow was not watched",
            count(view.counter("conntrack.drop")),
            count(view.counter("conntrack.early_drop"))
        ));
    }
    let closed = view.quantity("net.netfilter.nf_conntrack_tcp_timeout_time_wait");
    evidence.extend(closed.map(|seconds| {
        format!("entries of closed connections are kept for {seconds} s (nf_conntrack_tcp_timeout_time_wait)")
    }));
    Some(
        view.found(&KIND, severity, "connection tracking".to_owned(), summary)
            .evidence(evidence)
            .remedies([Some(untracked()), Some(larger(most)), closed.and_then(|now| shorter(view, now))])
            .no_help([
                setting(
                    view,
                    "net.ipv4.tcp_fin_timeout",
                    "sockets and entries have timers of their own; this is the sockets'",
                ),
                setting(view, "net.ipv4.tcp_tw_reuse", "it is about sockets; the entry stays"),
                setting(view, "net.ipv4.tcp_max_tw_buckets", "it is about sockets; the entry stays"),
                advice("killing sockets in TIME_WAIT", "the entry stays for its own time"),
                setting(view, "net.ipv4.ip_local_port_range", "more ports make more entries"),
            ])
            .ties(Ties { used: entries, ..Ties::default() }),
    )
}

fn untracked() -> Step {
    Step::new(
        "do-not-track",
        "leave out of tracking what needs neither NAT nor state: a busy service's port, loopback (nft `notrack` in a raw hook, \
         iptables -t raw -j CT --notrack); `conntrack -L` shows what fills the table",
        "those connections take no entry at all",
    )
    .risk("rules that ask for the state of a connection no longer match it")
}

/// The table is one setting for the machine; in a namespace of its own it can only be read.
fn larger(most: u64) -> Step {
    let wanted = most.saturating_mul(2);
    Step::new(
        "larger-table",
        format!("raise net.netfilter.nf_conntrack_max to {wanted}, on the host"),
        format!(
            "{} to {} entries; about {} MB of memory more if all are used",
            count(most),
            count(wanted),
            figure(most as f64 * BYTES / 1e6)
        ),
    )
    .sets_on_host([("net.netfilter.nf_conntrack_max", wanted)])
    .risk("longer chains in the hash table: raise nf_conntrack_buckets too")
}

fn shorter(view: &View<'_>, now: u64) -> Option<Step> {
    (now > SHORTER).then(|| {
        let name = "net.netfilter.nf_conntrack_tcp_timeout_time_wait";
        let step = Step::new(
            "shorter-tracking",
            format!("forget closed connections earlier: {name} = {SHORTER}"),
            format!("entries of closed connections stay for {SHORTER} s instead of {now} s, so that at most {SHORTER} of {now} of those remain; how many of the entries are of closed ones was not seen"),
        );
        step.sets(view, [(name, SHORTER)]).risk("late segments of a closed connection count as invalid; it holds for new entries")
    })
}
