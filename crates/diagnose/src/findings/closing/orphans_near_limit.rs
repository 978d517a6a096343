//! `orphans-near-limit`: closed connections that are still being sent from near what the machine allows.

use tidewait_model::State;
use tidewait_model::report::Severity;

use crate::Kind;
use crate::findings::remedy::{Step, setting};
use crate::findings::view::{Found, Ties, View, grew};
use crate::findings::words::{count, percent};

pub(in crate::findings) const KIND: Kind = Kind {
    id: "orphans-near-limit",
    title: "closed connections that are not finished near the limit of the machine",
    means: "Beyond net.ipv4.tcp_max_orphans a connection is reset when its program closes it: what was not yet sent is lost, and \
            the peer sees a broken connection. Orphans whose peers are silent count double or fourfold from there.",
    told_by: "sockstat's count of orphans against tcp_max_orphans, both of the whole machine. Sockets in TIME_WAIT and orphans in \
              FIN_WAIT2 are small and not counted.",
    causes: &[
        "many peers that fall silent or do not read (fin-wait1-stuck, last-ack-stuck)",
        "a limit that was set too low",
    ],
    severity: "critical at the limit: connections are reset. A warning from half of it on, a notice from a quarter on, where \
               silent peers are given up early.",
    scenario: "orphans-near-limit",
    see_also: &[
        "fin-wait1-stuck",
        "last-ack-stuck",
        "net.ipv4.tcp_max_orphans",
        "net.ipv4.tcp_orphan_retries",
    ],
    sources: &["net/ipv4/tcp.c tcp_check_oom (6.18)", "net/ipv4/tcp_timer.c tcp_out_of_resources (6.18)"],
};

pub(super) fn check(view: &View<'_>) -> Option<Found> {
    let namespaces = &view.observation.namespaces;
    // The limit shows in the initial namespace only; the count is the machine's, whichever namespace it is read in.
    let most = namespaces.iter().find_map(|facts| facts.settings.number("net.ipv4.tcp_max_orphans"))?;
    let most = u64::try_from(most).ok()?;
    let orphans = namespaces.iter().find_map(|facts| facts.counters.get("sockstat.TCP.orphan"))?;
    let orphans = u64::try_from(*orphans).ok().filter(|orphans| *orphans > 0)?;
    if orphans.saturating_mul(4) < most {
        return None;
    }
    let aborted: u64 = namespaces.iter().filter_map(|facts| grew(facts, "TcpExt.TCPAbortOnMemory")).sum();
    // The count lags by a tenth of a second (tcp_orphan_update).
    let full = orphans.saturating_mul(20) >= most.saturating_mul(19);
    let (severity, consequence) = if full {
        (Severity::Critical, "connections that are closed now are reset, and what was not sent is lost")
    } else if orphans.saturating_mul(2) >= most {
        (Severity::Warning, "beyond the limit, closing a connection resets it")
    } else {
        (Severity::Notice, "those whose peers are silent are given up early")
    };
    let summary = format!(
        "{} closed connections are not finished, {} of the {} that the machine allows (orphans): {consequence}",
        count(orphans),
        percent(orphans, most),
        count(most)
    );
    let mut evidence = vec![waiting(view)];
    if aborted > 0 {
        evidence.push(format!(
            "{} connections were reset for this while it was watched (TCPAbortOnMemory)",
            count(aborted)
        ));
    }
    let more = most.max(orphans).saturating_mul(2).max(8_192);
    let raise = Step::new(
        "more-orphans",
        format!("raise net.ipv4.tcp_max_orphans to {more}"),
        format!("{} to {} orphans; {} are there now", count(most), count(more), count(orphans)),
    )
    .sets_on_host([("net.ipv4.tcp_max_orphans", more)])
    .risk("each may hold up to 64 KiB of memory that cannot be swapped out (ip-sysctl)");
    let find = Step::new(
        "find-the-silence",
        "find the peers that do not answer or do not read; `ss -tano state fin-wait-1` and `state last-ack` list them",
        "orphans whose peers answer end within a round trip",
    )
    .risk("none");
    Some(
        view.found(&KIND, severity, "orphans of the machine".to_owned(), summary)
            .evidence(evidence)
            .remedies([Some(find), fewer_retries(view), Some(raise)])
            .no_help([
                setting(
                    view,
                    "net.ipv4.tcp_fin_timeout",
                    "orphans in FIN_WAIT2 are small sockets that are not counted here",
                ),
                setting(view, "net.ipv4.tcp_max_tw_buckets", "TIME_WAIT is not counted here"),
                setting(view, "net.ipv4.tcp_tw_reuse", "TIME_WAIT is not counted here"),
            ])
            .ties(Ties { unheld: true, used: orphans, ..Ties::default() }),
    )
}

/// The sockets that are likely to be the orphans, over all namespaces seen.
fn waiting(view: &View<'_>) -> String {
    let all = |state: State| -> u64 {
        view.observation
            .namespaces
            .iter()
            .map(|facts| facts.census.states[state])
            .fold(0, u64::saturating_add)
    };
    format!(
        "in the namespaces seen: {} FIN_WAIT1, {} LAST_ACK, {} CLOSING; most orphans are among these (inferred)",
        count(all(State::FinWait1)),
        count(all(State::LastAck)),
        count(all(State::Closing))
    )
}

fn fewer_retries(view: &View<'_>) -> Option<Step> {
    let now = view.quantity("net.ipv4.tcp_orphan_retries")?;
    (now == 0 || now > 5).then(|| {
        Step::new(
            "fewer-orphan-retries",
            "give orphans up earlier: net.ipv4.tcp_orphan_retries = 5, in each namespace that has them",
            "a silent peer is given up after 13 s at the least (8 retries: 102 s)",
        )
        .sets(view, [("net.ipv4.tcp_orphan_retries", 5)])
        .risk("on a path that fails for longer than that, the end of what was sent is lost")
    })
}
