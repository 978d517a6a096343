//! `close-wait-leak`: the peer has closed, the program has not, and does not; or a descriptor outlived its connection.
//!
//! CLOSE_WAIT has no timer: it ends when the program calls close(), or never (kernel: no case for it in
//! net/ipv4/tcp_timer.c). A server that is busy has sockets in it for moments; what stays is a fault of the program.

use tidewait_model::machine::Process;
use tidewait_model::report::{NoHelp, Severity};
use tidewait_model::{Lingering, State};

use crate::Kind;
use crate::findings::leak::{self, Leak, SOME};
use crate::findings::remedy::{Step, advice, restart, setting};
use crate::findings::view::{Found, Ties, View};
use crate::findings::words::{count, duration, percent, things, who};
use crate::programs::Need;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "close-wait-leak",
    title: "a program does not close connections that their peers have closed",
    means: "Each such connection keeps a descriptor and memory for as long as the program runs, and a local port if it went out. \
            When the descriptors are used up, accept(), socket() and open() fail with EMFILE (24, \"Too many open files\").",
    told_by: "Sockets in CLOSE_WAIT that their process holds, whose peers have been silent for so long that the close is not on \
              its way; what lies unread in them tells whether the program never looks, forgot to close, or is stuck. A busy \
              server's CLOSE_WAIT passes in moments and is none of this. The leak hides where keepalive or a kill removed the \
              socket: then the process holds TCP sockets that are in no table.",
    causes: &[
        "the program does not call close() after read() returned 0",
        "a thread or a worker that is stuck, while its client has given up",
        "a pool of idle connections that never looks whether the peer has closed them",
    ],
    severity: "critical: no descriptor is left, or will be within ten minutes. Warning: they grow, or hold half of the limit. \
               Notice: they stay as they are, or none has been there for a minute, so that they may pass.",
    scenario: "close-wait-leak",
    see_also: &[
        "CLOSE_WAIT",
        "fd-limit-near",
        "accept-queue-overflow",
        "SO_KEEPALIVE",
        "net.ipv4.tcp_keepalive_time",
    ],
    sources: &[
        "RFC 9293 section 3.6",
        "net/ipv4/tcp_input.c tcp_fin (6.18)",
        "net/ipv4/tcp_timer.c tcp_keepalive_timer (6.18)",
    ],
};

/// What the program does with its side, told by what lies unread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Data lies unread: it is stuck, or too slow.
    Stuck,
    /// Only the end of the stream lies unread: it does not look at the connection.
    NotLooking,
    /// All has been read: it knows, and did not close.
    Forgot,
}

impl Reading {
    /// What most of the sockets show.
    fn of(group: &Lingering) -> Reading {
        let read = group.looked_at.saturating_sub(group.unread_end).saturating_sub(group.unread_data);
        if group.unread_data >= group.unread_end && group.unread_data >= read && group.unread_data > 0 {
            Reading::Stuck
        } else if group.unread_end >= read && group.unread_end > 0 {
            Reading::NotLooking
        } else {
            Reading::Forgot
        }
    }

    fn words(self) -> &'static str {
        match self {
            Reading::Stuck => "it is stuck or too slow: data lies unread in them",
            Reading::NotLooking => "it does not look at them: the end of the stream lies unread",
            Reading::Forgot => "it has read the end of the stream and not called close()",
        }
    }

    fn fix(self, holder: &str) -> String {
        match self {
            Reading::Stuck => format!(
                "find where {holder} is stuck (stack of its threads, what they wait for) and give its work a time limit; \
                 let it close the connection when the client has gone"
            ),
            Reading::NotLooking => format!(
                "let {holder} look at its idle connections (poll for POLLIN or POLLRDHUP, or read before use) and close \
                 them when read() returns 0"
            ),
            Reading::Forgot => {
                format!(
                    "let {holder} call close() when read() has returned 0, on every path, that of an error included"
                )
            }
        }
    }
}

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let groups = view.facts.lingering.iter().filter(|group| group.state == State::CloseWait);
    // An idle connection of a pool is looked at when it is used next, and slow work is done some time; who has read the end
    // knows of it, and may still work for a client that has closed its half only.
    groups
        .filter_map(|group| {
            let leak = Leak::of(view, group, Reading::of(group) == Reading::Forgot)?;
            Some(if group.held { held(view, &leak) } else { in_the_queue(view, &leak) })
        })
        .collect()
}

fn held(view: &View<'_>, leak: &Leak<'_>) -> Found {
    let group = leak.group;
    let reading = Reading::of(group);
    let holder = leak.holder();
    let summary = format!(
        "{holder} holds {} in CLOSE_WAIT that their peers have closed{}: {}",
        things(group.sockets, "connection", "connections"),
        group
            .silence
            .map(|silence| format!(", half of them at least {} ago", duration(silence.median)))
            .unwrap_or_default(),
        reading.words()
    );
    let mut evidence = leak.evidence();
    evidence.push(unread(group));
    evidence.push(keepalive(view, group));
    evidence.extend(hidden(leak.process));
    if leak.old == 0 && group.silence.is_some() {
        evidence.push(
            "none is older than a minute: work that takes its time for clients that have gone, or that have closed their half \
             only, looks the same (inferred); those of a leak are there still when looked at again in a minute"
                .to_owned(),
        );
    }
    let given_back = format!("gives back {}", things(group.sockets, "descriptor", "descriptors"));
    let effect = match leak.growth() {
        Some(growth) => format!("{given_back}, and {} a minute more", count(growth)),
        None => given_back,
    };
    let fix = Step::new("close-after-end", reading.fix(&holder), effect).risk("none");
    view.found(&KIND, leak.severity(), holder, summary)
        .evidence(evidence)
        .owner(group.owner.as_ref())
        .remedies([Some(fix), time_outs(group), leak.restart(), leak.more_descriptors()])
        .no_help(no_help(view, group))
        .ties(leak.ties(view))
}

/// Connections that nobody has accepted yet belong to no process; their clients have given up.
fn in_the_queue(view: &View<'_>, leak: &Leak<'_>) -> Found {
    let group = leak.group;
    let service =
        group.peers.iter().find_map(|peer| peer.service.clone()).unwrap_or_else(|| "a service".to_owned());
    let owner = view.facts.census.listeners.iter().find(|listener| listener.local.to_string() == service);
    let owner = owner.and_then(|listener| listener.owners.first());
    let program = owner.map_or_else(|| format!("the program at {service}"), who);
    let summary = format!(
        "{} to {service} wait to be accepted although their clients have closed them again: the program does not accept \
         (inferred: no process holds them)",
        things(group.sockets, "connection", "connections")
    );
    let fix = Step::new(
        "accept",
        format!(
            "find out why {program} does not call accept(): stuck, too few workers, or out of descriptors"
        ),
        format!("{} leave the queue", things(group.sockets, "connection", "connections")),
    );
    view.found(&KIND, Severity::Warning, service, summary)
        .evidence(leak.evidence())
        .owner(owner)
        .remedies([Some(fix.risk("none"))])
        .no_help([
            setting(view, "net.core.somaxconn", "a longer queue holds more connections that nobody accepts"),
            setting(
                view,
                "net.ipv4.tcp_fin_timeout",
                "it ends orphans in FIN_WAIT2; CLOSE_WAIT has no timer",
            ),
        ])
        .ties(leak.ties(view))
}

fn unread(group: &Lingering) -> String {
    let read = group.looked_at.saturating_sub(group.unread_end).saturating_sub(group.unread_data);
    let parts: Vec<String> = [
        (group.unread_end, "with nothing but the end of the stream unread"),
        (group.unread_data, "with data unread"),
        (read, "read to the end"),
    ]
    .iter()
    .filter(|(sockets, _)| *sockets > 0)
    .map(|(sockets, what)| format!("{} {what}", count(*sockets)))
    .collect();
    let bytes = if group.unread_bytes > 0 {
        format!(" ({} bytes in all)", count(group.unread_bytes))
    } else {
        String::new()
    };
    if parts.is_empty() { String::new() } else { parts.join(", ") + &bytes }
}

fn keepalive(view: &View<'_>, group: &Lingering) -> String {
    let time = view.quantity("net.ipv4.tcp_keepalive_time");
    let after =
        time.map(|time| format!(" (tcp_keepalive_time: {})", duration(time as f64))).unwrap_or_default();
    match group.keepalive {
        0 => "none of them has SO_KEEPALIVE: nothing but close() ends them".to_owned(),
        some => format!(
            "{} of {} looked at have SO_KEEPALIVE: the next probe{after} takes the socket out of every table, the descriptor \
             stays: the leak then hides",
            count(some),
            count(group.looked_at)
        ),
    }
}

/// The part of the leak that no socket table shows.
fn hidden(process: Option<&Process>) -> Option<String> {
    let lost = process?.sockets_without_connection.filter(|lost| *lost >= SOME)?;
    Some(format!(
        "{} more of its descriptors are TCP sockets without a connection, in no socket table: reset, timed out or destroyed, and not closed",
        count(lost)
    ))
}

fn time_outs(group: &Lingering) -> Option<Step> {
    let step = Step::new(
        "time-outs",
        "set time limits for idle connections and for work in the program, so that a connection that was forgotten ends",
        format!("at most as many stay as come within the limit, instead of {}", count(group.sockets)),
    );
    Some(
        step.configuration_or_hint(group.owner.as_ref(), Need::NoticeDeadPeers)
            .risk("clients that are slow but alive are cut off"),
    )
}

fn no_help(view: &View<'_>, group: &Lingering) -> Vec<Option<NoHelp>> {
    vec![
        setting(
            view,
            "net.ipv4.tcp_fin_timeout",
            "it ends orphans in FIN_WAIT2, on the peer's side; CLOSE_WAIT has no timer",
        ),
        setting(view, "net.ipv4.tcp_tw_reuse", "TIME_WAIT comes after close(); these were not closed"),
        if group.keepalive == 0 {
            setting(
                view,
                "net.ipv4.tcp_keepalive_time",
                "none of these sockets has SO_KEEPALIVE, so that the timers never run for them",
            )
        } else {
            setting(
                view,
                "net.ipv4.tcp_keepalive_time",
                "an earlier probe takes the socket out of sight, not out of the program: the descriptor stays",
            )
        },
        advice(
            "killing the sockets (ss -K)",
            "frees the addresses and ports of the connection; the program keeps its descriptor",
        ),
    ]
}

/// The leak that no socket table shows any more: descriptors of TCP sockets that have lost their connection.
pub(super) fn check_hidden(view: &View<'_>) -> Vec<Found> {
    let machine = &view.observation.machine;
    machine
        .processes
        .iter()
        .filter(|process| !leaks_openly(view, process))
        .filter_map(|process| lost(view, process))
        .collect()
}

/// Whether CLOSE_WAIT already tells of the leak of `process`.
fn leaks_openly(view: &View<'_>, process: &Process) -> bool {
    view.observation.namespaces.iter().flat_map(|facts| &facts.lingering).any(|group| {
        let same =
            group.owner.as_ref().is_some_and(|owner| owner.pid.is_some() && owner.pid == process.owner.pid);
        group.state == State::CloseWait && group.held && same && Leak::of(view, group, true).is_some()
    })
}

fn lost(view: &View<'_>, process: &Process) -> Option<Found> {
    let lost = process.sockets_without_connection.filter(|lost| *lost >= SOME)?;
    let holder = who(&process.owner);
    let limit = process.descriptor_limit.filter(|limit| *limit > 0);
    let of_limit = |share: u64| limit.is_some_and(|limit| lost.saturating_mul(share) >= limit);
    let full = limit.is_some_and(|limit| leak::at_limit(process.descriptors, limit));
    let severity = if full && lost.saturating_mul(2) >= process.descriptors {
        Severity::Critical
    } else if lost >= 5 * SOME || of_limit(10) {
        Severity::Warning
    } else {
        Severity::Notice
    };
    let summary = format!(
        "{holder} holds {} whose connection is gone and that no socket table shows: it did not close them when they were \
         reset, timed out or destroyed",
        things(lost, "TCP socket", "TCP sockets")
    );
    let mut evidence = vec![
        "a socket that was never connected looks the same, but programs do not keep many of those (inferred)"
            .to_owned(),
    ];
    if let Some(limit) = limit {
        evidence.insert(
            0,
            format!(
                "the process has {} of {} descriptors open; these are {} of them",
                count(process.descriptors),
                count(limit),
                percent(lost, process.descriptors)
            ),
        );
    }
    let fix = Step::new(
        "close-after-error",
        format!(
            "let {holder} close a connection on every error and hang-up (ECONNRESET, ETIMEDOUT, EPIPE, POLLHUP), not only at its end"
        ),
        format!("gives back {}", things(lost, "descriptor", "descriptors")),
    );
    let namespace = process.namespace.clone().unwrap_or_else(|| view.facts.name.clone());
    let mut ties = Ties::default();
    ties.states.add(State::Close, lost);
    let mut found = view
        .found(&KIND, severity, holder, summary)
        .evidence(evidence)
        .owner(Some(&process.owner))
        .remedies([
            Some(fix.risk("none")),
            restart(Some(&process.owner), format!("frees {}", things(lost, "descriptor", "descriptors"))),
        ])
        .no_help([
            setting(view, "net.ipv4.tcp_keepalive_time", "keepalive has done its work already: the connections are gone, the descriptors are not"),
            advice("killing the sockets (ss -K)", "there is no connection left to kill; only close() or the end of the program frees a descriptor"),
        ])
        .ties(ties);
    found.finding.namespace = namespace;
    Some(found)
}
