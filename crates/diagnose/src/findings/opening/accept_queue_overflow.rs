//! `accept-queue-overflow`: connections wait to be accepted and no more of them fit; the kernel drops what comes.
//!
//! "All services are up and working, but they cannot accept more connections." The queue is full when more wait than the
//! backlog (include/net/sock.h `sk_acceptq_is_full`); then SYNs are dropped without a word.

use tidewait_model::Listener;
use tidewait_model::report::{NoHelp, Severity};

use crate::Kind;
use crate::findings::remedy::{Step, advice, setting};
use crate::findings::view::{Found, Ties, View};
use crate::findings::words::{count, figure, things, who};
use crate::programs::Need;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "accept-queue-overflow",
    title: "a service does not accept connections as fast as they come",
    means: "Clients that connect hang: their SYN is dropped and repeated after 1, 3, 7 s and so on. The service is up, its port is \
            open, and it looks healthy from inside.",
    told_by: "A listener whose accept queue is full in two looks, or ListenOverflows growing while it was watched. An old count that \
              does not grow is history and no finding.",
    causes: &[
        "the program is stuck, or has too few workers or threads",
        "the program has no descriptor left, so that accept() fails (fd-limit-near, close-wait-leak)",
        "bursts that are longer than the queue: a small backlog in the program, or a small net.core.somaxconn",
    ],
    severity: "critical: the queue is full, and full again a moment later, or a tenth of the connections is dropped. A warning \
               where bursts overflow; a notice where a queue was full for a moment and no drop was seen.",
    scenario: "accept-queue-overflow",
    see_also: &[
        "LISTEN",
        "NEW_SYN_RECV",
        "fd-limit-near",
        "net.core.somaxconn",
        "net.ipv4.tcp_abort_on_overflow",
    ],
    sources: &[
        "include/net/sock.h sk_acceptq_is_full (6.18)",
        "net/ipv4/tcp_input.c tcp_conn_request (6.18)",
    ],
};

/// Fewer drops than this are a moment's burst.
const SOME: u64 = 10;

/// What was watched of the queues of the namespace.
struct Watched {
    seconds: f64,
    dropped: u64,
    accepted: u64,
}

impl Watched {
    /// How bad drops are where the queues have room in between: a tenth of all connections is no burst any more.
    fn severity(&self) -> Severity {
        let much = self.dropped >= SOME && self.dropped.saturating_mul(9) >= self.accepted;
        if much { Severity::Critical } else { Severity::Warning }
    }
}

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let watched = view.facts.growth.as_ref().map(|growth| Watched {
        seconds: growth.seconds,
        dropped: view.grew("TcpExt.ListenOverflows").unwrap_or(0),
        accepted: view.grew("Tcp.PassiveOpens").unwrap_or(0),
    });
    let full: Vec<&Listener> =
        view.facts.census.listeners.iter().filter(|listener| listener.full > 0).collect();
    if !full.is_empty() {
        return full.into_iter().map(|listener| is_full(view, listener, watched.as_ref())).collect();
    }
    match watched {
        Some(watched) if watched.dropped > 0 => vec![overflows(view, &watched)],
        _ => Vec::new(),
    }
}

fn name(listener: &Listener) -> String {
    match listener.owners.first() {
        Some(owner) => format!("{} at {}", who(owner), listener.local),
        None => format!("the service at {}", listener.local),
    }
}

fn is_full(view: &View<'_>, listener: &Listener, watched: Option<&Watched>) -> Found {
    let passed = listener.still_full == Some(0);
    let severity = match watched {
        Some(watched) if passed && watched.dropped > 0 => watched.severity(),
        _ if passed => Severity::Notice,
        _ if listener.still_full.is_some() => Severity::Critical,
        Some(watched) if watched.dropped > 0 => Severity::Critical,
        // Not looked at again, and not watched: it counts whether any connection has ever been dropped.
        None if view.counter("TcpExt.ListenOverflows") > 0 => Severity::Critical,
        _ => Severity::Warning,
    };
    let sockets = if listener.sockets > 1 {
        format!(" ({} of its {} listening sockets)", count(listener.full), count(listener.sockets))
    } else {
        String::new()
    };
    let waiting = things(u64::from(listener.queue), "connection", "connections");
    let (who, limit) = (name(listener), count(listener.limit));
    let summary = if passed {
        format!(
            "{who}: a burst has filled its accept queue for a moment, with {waiting} for a limit of {limit}{sockets}; what comes \
             at such a moment is dropped, and comes back after a second"
        )
    } else {
        format!(
            "{who} does not accept: its queue is full with {waiting} for a limit of {limit}{sockets}, and connections that come \
             now are dropped"
        )
    };
    let mut evidence = vec![which_limit(view, listener)];
    evidence.extend(listener.still_full.map(|sockets| match sockets {
        0 => "a moment later it had room again".to_owned(),
        _ => "a moment later it was full still, or again".to_owned(),
    }));
    evidence.extend(watched.map(growth));
    found(view, Some(listener), severity, summary, evidence)
}

/// Connections were dropped while it was watched, and no queue was full at the moment of the look.
fn overflows(view: &View<'_>, watched: &Watched) -> Found {
    let suspect = view.facts.census.listeners.iter().filter(|listener| listener.queue > 0).max_by(|a, b| {
        let fill = |listener: &Listener| f64::from(listener.queue) / f64::from(listener.limit.max(1));
        fill(a).total_cmp(&fill(b))
    });
    let who = match suspect {
        Some(listener) => format!("{}, whose queue is the fullest (inferred)", name(listener)),
        None => "a service that could not be told: all queues were empty a moment later".to_owned(),
    };
    let summary = format!(
        "accept queues overflow, {} times a second: connections are dropped and come back after a second or more; most likely \
         those of {who}",
        figure(watched.dropped as f64 / watched.seconds.max(1e-3))
    );
    let mut evidence = vec![growth(watched)];
    evidence.extend(suspect.map(|listener| which_limit(view, listener)));
    found(view, suspect, watched.severity(), summary, evidence)
}

fn growth(watched: &Watched) -> String {
    let over = format!("in the {} s that it was watched", figure(watched.seconds));
    match (watched.dropped, watched.accepted) {
        (0, _) => format!("no connection was dropped {over} (ListenOverflows)"),
        (dropped, 0) => format!(
            "{} drops {over} (ListenOverflows), and no connection of the namespace went through: nothing is accepted (inferred)",
            count(dropped)
        ),
        (dropped, accepted) => format!(
            "{} drops {over} (ListenOverflows), beside {} connections that went through",
            count(dropped),
            count(accepted)
        ),
    }
}

/// Which of the two limits the queue has: the program's, or the namespace's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Backlog(u64),
    Somaxconn(u64),
    /// somaxconn was changed after listen().
    Older(u64),
    Unknown,
}

impl Limit {
    fn of(view: &View<'_>, listener: &Listener) -> Limit {
        let limit = u64::from(listener.limit);
        match view.quantity("net.core.somaxconn") {
            None => Limit::Unknown,
            Some(most) if limit < most => Limit::Backlog(most),
            Some(most) if limit == most => Limit::Somaxconn(most),
            Some(most) => Limit::Older(most),
        }
    }
}

fn which_limit(view: &View<'_>, listener: &Listener) -> String {
    let limit = count(listener.limit);
    match Limit::of(view, listener) {
        Limit::Backlog(most) => format!(
            "the limit of {limit} is the backlog that the program gave to listen(); net.core.somaxconn would allow {}",
            count(most)
        ),
        Limit::Somaxconn(_) => {
            format!("the limit of {limit} is net.core.somaxconn; the program may have asked for more")
        }
        Limit::Older(most) => {
            format!("the limit of {limit} is from before net.core.somaxconn was lowered to {}", count(most))
        }
        Limit::Unknown => format!("the limit is {limit}"),
    }
}

fn found(
    view: &View<'_>,
    listener: Option<&Listener>,
    severity: Severity,
    summary: String,
    evidence: Vec<String>,
) -> Found {
    let owner = listener.and_then(|listener| listener.owners.first());
    let subject = listener.map_or_else(|| "accept queues".to_owned(), |listener| listener.local.to_string());
    let endpoints = listener.map(|listener| view.endpoint(&listener.local)).into_iter().collect();
    let owners = listener.map(|listener| listener.owners.clone()).unwrap_or_default();
    view.found(&KIND, severity, subject, summary)
        .evidence(evidence)
        .evidence(view.quantity("net.ipv4.tcp_abort_on_overflow").filter(|value| *value > 0).map(|_| {
            "net.ipv4.tcp_abort_on_overflow is on: clients that have shaken hands are reset instead of waiting".to_owned()
        }))
        .owner(owner)
        .remedies([Some(accept_faster(listener)), longer_queue(view, listener)])
        .no_help(no_help(view, listener))
        .ties(Ties { endpoints, owners, ..Ties::default() })
}

fn accept_faster(listener: Option<&Listener>) -> Step {
    let name = listener.map_or_else(|| "the service".to_owned(), name);
    let waiting = listener.map_or(0, |listener| u64::from(listener.queue));
    Step::new(
        "accept-faster",
        format!(
            "find out why {name} does not accept: stuck, too few workers or threads, or no descriptor left"
        ),
        format!(
            "{} wait now; nothing else makes a service answer that does not accept",
            things(waiting, "connection", "connections")
        ),
    )
    .risk("none")
}

/// A longer queue, at the limit that binds.
fn longer_queue(view: &View<'_>, listener: Option<&Listener>) -> Option<Step> {
    let listener = listener?;
    let now = u64::from(listener.limit);
    let wanted = 4_096.max(now.saturating_mul(4));
    let effect = |to: u64| {
        format!(
            "{} to {} connections may wait: bears a burst of that many, and nothing more; where the program does not accept, \
             the queue is full again",
            count(now),
            count(to)
        )
    };
    let binds = Limit::of(view, listener);
    let (summary, change, to) = match binds {
        Limit::Backlog(most) => (
            format!(
                "raise the backlog that the program gives to listen(), at most to net.core.somaxconn = {most}"
            ),
            None,
            most,
        ),
        Limit::Older(most) => {
            ("let the program call listen() again with a longer backlog".to_owned(), None, most)
        }
        Limit::Somaxconn(_) => (
            format!(
                "raise net.core.somaxconn to {wanted}, and the backlog of the program if that is shorter; then let it listen anew"
            ),
            Some(("net.core.somaxconn", wanted)),
            wanted,
        ),
        Limit::Unknown => return None,
    };
    (to > now).then(|| {
        let step = Step::new("longer-queue", summary, effect(to));
        let step = match change {
            Some(change) => step.sets(view, [change]),
            None => step,
        };
        step.configuration_or_hint(listener.owners.first(), Need::LongerBacklog).risk(
            "clients wait longer before they notice; takes effect when the program calls listen() again",
        )
    })
}

fn no_help(view: &View<'_>, listener: Option<&Listener>) -> Vec<Option<NoHelp>> {
    let backlog_binds =
        listener.is_some_and(|listener| matches!(Limit::of(view, listener), Limit::Backlog(_)));
    vec![
        backlog_binds
            .then(|| {
                setting(
                    view,
                    "net.core.somaxconn",
                    "it is above the backlog of the program, which is what binds",
                )
            })
            .flatten(),
        setting(
            view,
            "net.ipv4.tcp_max_syn_backlog",
            "the queue of half-open connections; this is the queue of complete ones that wait for accept()",
        ),
        setting(
            view,
            "net.ipv4.tcp_abort_on_overflow",
            "it turns hanging into a reset; not one more connection is accepted",
        ),
        advice("net.ipv4.tcp_syncookies", "a full accept queue drops a SYN whether cookies are on or not"),
        setting(view, "net.ipv4.ip_local_port_range", "connections that come in take no port of the range"),
        setting(view, "net.ipv4.tcp_tw_reuse", "it is for connect(); these come in"),
    ]
}
