//! What a closed socket goes through whose peer does not answer: how long the kernel tries, and what cuts that short.

use tidewait_model::report::{NoHelp, Severity};
use tidewait_model::{Lingering, State};

use crate::Kind;
use crate::findings::leak::{Leak, SOME, peers, scaled, ties};
use crate::findings::remedy::{Step, setting};
use crate::findings::view::{Found, View};
use crate::findings::words::{count, duration, things};
use crate::programs::Need;

/// The least first retransmission time-out (`TCP_RTO_MIN`) and the greatest (`TCP_RTO_MAX`), in seconds
/// (include/net/tcp.h).
const RTO: (f64, f64) = (0.2, 120.0);
/// Retransmissions that 0 stands for in tcp_orphan_retries (net/ipv4/tcp_timer.c `tcp_orphan_retries`).
const ORPHAN_RETRIES: u64 = 8;
/// What the documentation of tcp_orphan_retries would call few; still 12 seconds of trying.
const FEWER: u64 = 5;
/// Retransmissions behind a socket that say that its peer is not merely slow: 1.4 s at the least.
const SILENT: u32 = 3;

/// Sockets of one state whose peers do not answer.
struct Stuck<'a> {
    group: &'a Lingering,
    zero_window: u64,
    retransmitting: u64,
}

/// Findings of `kind` for the sockets in `states`; `closed` says what happened to them, in words.
pub(super) fn check(view: &View<'_>, kind: &Kind, states: &[State], closed: &str) -> Vec<Found> {
    let groups = view.facts.lingering.iter().filter(|group| states.contains(&group.state));
    groups.filter_map(|group| stuck(group).map(|stuck| found(view, kind, &stuck, closed))).collect()
}

fn stuck(group: &Lingering) -> Option<Stuck<'_>> {
    let zero_window = scaled(group, group.zero_window);
    let retransmitting = scaled(group, group.retransmitting);
    let silent = group.retransmits_max >= SILENT;
    let sockets = zero_window.saturating_add(if silent { retransmitting } else { 0 });
    (sockets >= SOME).then_some(Stuck { group, zero_window, retransmitting })
}

fn found(view: &View<'_>, kind: &Kind, stuck: &Stuck<'_>, closed: &str) -> Found {
    let group = stuck.group;
    let state = group.state.title();
    let windows = stuck.zero_window > stuck.retransmitting;
    let leak = if group.held { Leak::of(view, group, false) } else { None };
    let what = if windows {
        "keep their receive window closed: the data before the end cannot be sent"
    } else {
        "do not acknowledge the end"
    };
    let summary = format!(
        "{} {closed} in {state}: the peers {what}; {}",
        things(group.sockets, "connection stays", "connections stay"),
        ends(view, group, windows)
    );
    let subject = match &leak {
        Some(leak) => leak.holder(),
        None => group.peers.first().map_or_else(|| format!("sockets in {state}"), |peer| peer.peer.clone()),
    };
    let mut evidence = Vec::new();
    if stuck.retransmitting > 0 {
        let times = things(u64::from(group.retransmits_max), "time", "times");
        evidence.push(format!("{} retransmit, up to {times}", count(stuck.retransmitting)));
    }
    if stuck.zero_window > 0 {
        evidence.push(format!("{} have a peer whose window is closed", count(stuck.zero_window)));
    }
    match &leak {
        Some(leak) => evidence.extend(leak.evidence()),
        None => evidence.push(peers(group)),
    }
    if !group.held {
        evidence.push(
            "no process holds them: they cost memory, a local port each if they went out, and count as orphans".to_owned(),
        );
    }
    let severity = leak.as_ref().map_or(Severity::Notice, Leak::severity);
    view.found(kind, severity, subject, summary)
        .evidence(evidence)
        .owner(group.owner.as_ref())
        .remedies([
            Some(find_out(group, windows)),
            program(group, windows),
            fewer_retries(view, group, windows),
        ])
        .no_help(no_help(view, group, windows))
        .ties(ties(view, group))
}

/// When the kernel gives up, in words.
fn ends(view: &View<'_>, group: &Lingering, windows: bool) -> String {
    if group.held {
        if windows {
            return "while the peer answers the probes, no timer ends that".to_owned();
        }
        let retries = view.quantity("net.ipv4.tcp_retries2").unwrap_or(15);
        return format!(
            "the kernel gives up after {} at the least (tcp_retries2 = {retries})",
            duration(patience(retries))
        );
    }
    if windows {
        // Probes back off until they are 120 s apart; after that one the orphan goes (tcp_timer.c tcp_probe_timer). Seen on
        // 6.18: 340 s.
        return "the kernel gives an orphan up after 5 to 6 minutes".to_owned();
    }
    let retries = orphan_retries(view);
    format!(
        "the kernel gives up after {} at the least (tcp_orphan_retries: {retries} tries)",
        duration(patience(retries))
    )
}

fn orphan_retries(view: &View<'_>) -> u64 {
    view.quantity("net.ipv4.tcp_orphan_retries").filter(|retries| *retries > 0).unwrap_or(ORPHAN_RETRIES)
}

/// Seconds that `retries` retransmissions take at the least: each waits twice as long as the one before, from 0.2 s to
/// 120 s (net/ipv4/tcp_timer.c `tcp_model_timeout`). 8 give 102 s, 15 give 925 s.
fn patience(retries: u64) -> f64 {
    let waits = (0..=retries.min(255)).map(|at| (RTO.0 * 2_f64.powi(at.min(64) as i32)).min(RTO.1));
    waits.sum()
}

fn find_out(group: &Lingering, windows: bool) -> Step {
    let peer = group.peers.first().map_or("the peers", |peer| peer.peer.as_str());
    let summary = if windows {
        format!(
            "find out why {peer} does not read what it is sent: a stuck or overloaded program, or ill will"
        )
    } else {
        format!(
            "find out why {peer} is silent: machine or path gone, or a firewall that forgot the connection"
        )
    };
    Step::new(
        "find-the-silence",
        summary,
        format!("{} end within a round trip", things(group.sockets, "connection", "connections")),
    )
    .risk("none")
}

fn program(group: &Lingering, windows: bool) -> Option<Step> {
    // What a silent peer costs an orphan, tcp_orphan_retries limits for all programs at once.
    if !group.held && !windows {
        return None;
    }
    let why = if windows { "a peer that does not read" } else { "a silent peer" };
    Some(
        Step::new(
            "user-timeout",
            format!("let the program set TCP_USER_TIMEOUT, so that {why} ends the connection after a time of its own choice"),
            "a connection stays for that long, whatever the retries",
        )
        .configuration(group.owner.as_ref(), Need::NoticeDeadPeers)
        .risk("a path that fails for longer than that ends connections that would have recovered"),
    )
}

fn fewer_retries(view: &View<'_>, group: &Lingering, windows: bool) -> Option<Step> {
    let now = orphan_retries(view);
    (!group.held && !windows && now > FEWER).then(|| {
        let step = Step::new(
            "fewer-orphan-retries",
            format!("give orphans up earlier: net.ipv4.tcp_orphan_retries = {FEWER}"),
            format!(
                "after {} at the least instead of {}: about {} instead of {} at the same rate",
                duration(patience(FEWER)),
                duration(patience(now)),
                count((group.sockets as f64 * patience(FEWER) / patience(now)) as u64),
                count(group.sockets)
            ),
        );
        step.sets(view, [("net.ipv4.tcp_orphan_retries", FEWER)])
            .risk("on a path that fails for longer than that, the end of what was sent is lost")
    })
}

fn no_help(view: &View<'_>, group: &Lingering, windows: bool) -> Vec<Option<NoHelp>> {
    vec![
        setting(
            view,
            "net.ipv4.tcp_fin_timeout",
            "it ends FIN_WAIT2; before that the peer has to acknowledge the end",
        ),
        setting(view, "net.ipv4.tcp_tw_reuse", "these are not in TIME_WAIT yet"),
        setting(
            view,
            "net.ipv4.tcp_keepalive_time",
            "keepalive sends nothing while data or the end is unacknowledged",
        ),
        if group.held {
            setting(view, "net.ipv4.tcp_orphan_retries", "it counts for sockets that no process holds")
        } else if windows {
            // Seen on 6.18: with 1 gone after 2 s, with 2 and with 5 there as long as with 0.
            setting(
                view,
                "net.ipv4.tcp_orphan_retries",
                "2 and more change nothing, because the peer answers every probe and the count begins anew; with 1 every orphan goes at its first",
            )
        } else {
            setting(
                view,
                "net.ipv4.tcp_retries2",
                "it counts for sockets that a process holds; these are orphans",
            )
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_take_the_time_that_the_kernels_documentation_says() {
        assert_eq!((patience(8) * 10.0).round() / 10.0, 102.2);
        assert_eq!((patience(15) * 10.0).round() / 10.0, 924.6);
        assert!(patience(u64::MAX).is_finite());
    }
}
