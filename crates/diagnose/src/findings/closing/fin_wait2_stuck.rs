//! `fin-wait2-stuck`: closed here and acknowledged, but the peer does not close its side.
//!
//! Two things go by this name. Closed for good (an orphan), the kernel ends it after tcp_fin_timeout. Closed for writing
//! only, with its descriptor still open (shutdown(SHUT_WR)), no timer runs at all (net/ipv4/tcp.c `__tcp_close`).

use tidewait_model::kernel::Version;
use tidewait_model::report::Severity;
use tidewait_model::{Lingering, NamespaceFacts, State};

use crate::Kind;
use crate::findings::leak::{Leak, peers, ties};
use crate::findings::remedy::{Step, advice, setting};
use crate::findings::view::{Found, View};
use crate::findings::words::{count, duration, figure, things};
use crate::programs::Need;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "fin-wait2-stuck",
    title: "connections that were closed here wait for a peer that does not close",
    means: "The peer has acknowledged the end and does not close its side; there they are in CLOSE_WAIT. Each keeps its local \
            port, and its descriptor too where the program only closed for writing.",
    told_by: "Sockets in FIN_WAIT2. Orphans, which no process holds, end after tcp_fin_timeout; many of them beside few in \
              TIME_WAIT mean that peers take long to close. Those that a process still holds have no timer, and are told by \
              the time since the peer was heard.",
    causes: &[
        "a leak in the peer's program, which does not close (close-wait-leak there)",
        "a peer that went away after it had acknowledged the end",
        "a program that calls shutdown(SHUT_WR) and waits for the peer's end without a time limit",
    ],
    severity: "orphans: a notice, they end by themselves. Held: as a leak of descriptors, a warning if they grow, critical if none \
               is left.",
    scenario: "fin-wait2-stuck",
    see_also: &["FIN_WAIT2", "close-wait-leak", "net.ipv4.tcp_fin_timeout", "SO_LINGER"],
    sources: &[
        "net/ipv4/tcp.c __tcp_close (6.18)",
        "net/ipv4/tcp_timer.c tcp_keepalive_timer (6.18)",
        "RFC 9293 section 3.6",
    ],
};

/// Fewer orphans than this matter to nobody.
const MANY_ORPHANS: u64 = 100;
/// Seconds that peers may take to close before it is worth a word.
const SLOW: f64 = 10.0;
/// Seconds over which is seen how many go on to TIME_WAIT.
const RECENT: usize = 5;
/// A tcp_fin_timeout that is short and leaves a slow peer the time to answer.
const SHORTER: i64 = 15;

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let groups = view.facts.lingering.iter().filter(|group| group.state == State::FinWait2);
    groups.filter_map(|group| if group.held { held(view, group) } else { orphaned(view, group) }).collect()
}

fn held(view: &View<'_>, group: &Lingering) -> Option<Found> {
    let leak = Leak::of(view, group, false)?;
    let holder = leak.holder();
    let summary = format!(
        "{holder} holds {} in FIN_WAIT2: it closed them for writing and waits for the peers to close, who do not; no timer \
         ends that",
        things(group.sockets, "connection", "connections")
    );
    let mut evidence = leak.evidence();
    evidence.push(match group.keepalive {
        0 => "none of them has SO_KEEPALIVE: a peer that is gone is never noticed".to_owned(),
        some => format!("{} of {} looked at have SO_KEEPALIVE: a peer that is gone is noticed, one that does not close is not", count(some), count(group.looked_at)),
    });
    let fix = Step::new(
        "close-after-shutdown",
        format!("let {holder} call close() after shutdown(SHUT_WR) once a time limit has passed"),
        "the kernel's timer (tcp_fin_timeout) then ends what the peer does not",
    );
    Some(
        view.found(&KIND, leak.severity(), holder, summary)
            .evidence(evidence)
            .owner(group.owner.as_ref())
            .remedies([
                Some(
                    fix.configuration(group.owner.as_ref(), Need::NoticeDeadPeers)
                        .risk("a peer that still sends is cut off"),
                ),
                Some(at_the_peer(group)),
                leak.restart(),
                leak.more_descriptors(),
            ])
            .no_help([
                setting(
                    view,
                    "net.ipv4.tcp_fin_timeout",
                    "it runs for orphans only; the descriptors of these are open",
                ),
                setting(view, "net.ipv4.tcp_tw_reuse", "these are not in TIME_WAIT"),
                (group.keepalive == 0)
                    .then(|| {
                        setting(view, "net.ipv4.tcp_keepalive_time", "none of these sockets has SO_KEEPALIVE")
                    })
                    .flatten(),
            ])
            .ties(leak.ties(view)),
    )
}

fn orphaned(view: &View<'_>, group: &Lingering) -> Option<Found> {
    let wait = mean_wait(view.facts, group.sockets);
    if group.sockets < MANY_ORPHANS || wait.is_some_and(|seconds| seconds < SLOW) {
        return None;
    }
    let setting_now = view.number("net.ipv4.tcp_fin_timeout");
    let summary = format!(
        "{} closed here wait in FIN_WAIT2 for peers that do not close; {}",
        things(group.sockets, "connection", "connections"),
        setting_now.map_or_else(
            || "the kernel ends each after tcp_fin_timeout".to_owned(),
            |value| format!("the kernel ends each after {}", duration(orphan_lifetime(value)))
        )
    );
    let subject =
        group.peers.first().map_or_else(|| "orphans in FIN_WAIT2".to_owned(), |peer| peer.peer.clone());
    let mut evidence = vec![
        match wait {
            Some(seconds) => format!(
                "few have gone on to TIME_WAIT in the last {RECENT} s: the peers take {} to close, in the mean (inferred)",
                duration(seconds)
            ),
            None => format!(
                "none has gone on to TIME_WAIT in the last {RECENT} s: the peers do not close at all (inferred)"
            ),
        },
        peers(group),
    ];
    evidence.extend(setting_now.and_then(trap));
    Some(
        view.found(&KIND, Severity::Notice, subject, summary)
            .evidence(evidence)
            .remedies([Some(at_the_peer(group)), shorter(view, group)])
            .no_help([
                // Before 6.12 connect() does take these over.
                view.kernel().filter(|version| *version >= Version::new(6, 12)).and_then(|_| {
                    setting(
                        view,
                        "net.ipv4.tcp_tw_reuse",
                        "connect() does not take over FIN_WAIT2 (since 6.12)",
                    )
                }),
                setting(view, "net.ipv4.tcp_keepalive_time", "a closed socket sends no keepalive probes"),
                setting(
                    view,
                    "net.ipv4.tcp_orphan_retries",
                    "it counts retransmissions; here the peer has acknowledged all",
                ),
                advice(
                    "net.ipv4.tcp_max_orphans",
                    "these are kept as small sockets beside TIME_WAIT and are not counted as orphans",
                ),
            ])
            .ties(ties(view, group)),
    )
}

/// How long peers take to close, in seconds, by what has gone on to TIME_WAIT in the last seconds: as many wait as come
/// in that time. `None` where none has gone on.
fn mean_wait(facts: &NamespaceFacts, waiting: u64) -> Option<f64> {
    let oldest = (facts.settings.time_wait_seconds() as usize).saturating_sub(RECENT);
    let census = &facts.census;
    let outgoing = census.destinations.iter().map(|destination| &destination.occupancy.expiring);
    let expiring = outgoing.chain(census.incoming.iter().map(|service| &service.expiring));
    let young: u64 = expiring.flat_map(|left| left.iter().skip(oldest)).map(|count| u64::from(*count)).sum();
    (young > 0).then(|| waiting as f64 * RECENT as f64 / young as f64)
}

/// Seconds that an orphan stays in FIN_WAIT2 with this tcp_fin_timeout: above 60 two timers run one after the other,
/// each for what exceeds 60 (net/ipv4/tcp.c `__tcp_close`, tcp_timer.c `tcp_keepalive_timer`).
fn orphan_lifetime(setting: i64) -> f64 {
    let setting = setting.max(0) as f64;
    if setting > 60.0 { 2.0 * (setting - 60.0) } else { setting.max(0.7) }
}

/// The value that does not mean what it says.
fn trap(setting: i64) -> Option<String> {
    (61..120).contains(&setting).then(|| {
        format!(
            "net.ipv4.tcp_fin_timeout is {setting}, which gives 2 x ({setting} - 60) = {} s, not {setting} s",
            2 * (setting - 60)
        )
    })
}

fn at_the_peer(group: &Lingering) -> Step {
    let peer = group.peers.first().map_or("the peers", |peer| peer.peer.as_str());
    Step::new(
        "close-at-the-peer",
        format!("look at the other end ({peer}): its program holds these connections in CLOSE_WAIT, or the machine is gone"),
        format!("{} go on to TIME_WAIT and end", things(group.sockets, "connection", "connections")),
    )
    .risk("none")
}

fn shorter(view: &View<'_>, group: &Lingering) -> Option<Step> {
    let now = orphan_lifetime(view.number("net.ipv4.tcp_fin_timeout")?);
    let wanted = orphan_lifetime(SHORTER);
    (now > wanted).then(|| {
        let step = Step::new(
            "shorter-fin-timeout",
            format!("lower net.ipv4.tcp_fin_timeout to {SHORTER}"),
            format!(
                "each ends after {} s instead of {}: about {} instead of {} at the same rate",
                figure(wanted),
                duration(now),
                count((group.sockets as f64 * wanted / now) as u64),
                count(group.sockets)
            ),
        );
        step.sets(view, [("net.ipv4.tcp_fin_timeout", SHORTER)])
            .risk("a peer that answers later than that gets a reset")
    })
}
