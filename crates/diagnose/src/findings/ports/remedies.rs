//! What helps against a lack of ports, in the order to try it, with its effect in this case; and what does not.
//!
//! The order: find and fix the program, more ports, less time, reuse, more addresses. One step is taken out of it:
//! reuse goes before a shorter TIME_WAIT, because a connection that takes a port over keeps sequence numbers and
//! timestamps above those of the old one, and one that finds the port free does not (net/ipv4/tcp_ipv4.c
//! `tcp_twsk_unique`). Choosing the port for the program comes with reuse: neither takes anything away from TIME_WAIT.

use tidewait_model::kernel::Version;
use tidewait_model::report::{NoHelp, Pool};
use tidewait_model::{Owner, PortRange, PortSet, State};

use super::Case;
use super::refusals::own_range;
use crate::accounting::Range;
use crate::findings::opener::{Opener, TRACE};
use crate::findings::remedy::{Step, advice, recycle, setting};
use crate::findings::words::{count, figure, who};
use crate::programs::Need;

/// A wider range that keeps clear of the ports where services usually listen.
const WIDER: PortRange = PortRange { low: 10_240, high: 65_535 };

/// The remedies, first things first.
pub(super) fn for_ports(case: &Case<'_>) -> Vec<Option<Step>> {
    if case.narrowed() {
        // What more ports or less time bring is reckoned for the whole range, which the program does not use.
        return vec![Some(own_range(case.doer())), reuse_connections(case), bind_no_port(case)];
    }
    vec![
        identify(case),
        reuse_connections(case),
        bind_no_port(case),
        wider_range(case),
        tw_reuse(case),
        steer(case),
        less_time(case),
        more_addresses(case),
    ]
}

/// Where bind() finds nothing because connections of `holder` hold the ports: first what `refused` can do without it.
pub(super) fn where_others_hold_the_ports(
    case: &Case<'_>,
    holder: Option<&Case<'_>>,
    refused: Option<&Owner>,
) -> Vec<Option<Step>> {
    let except = match holder.map(|holder| holder.destination) {
        Some(row) => format!(
            ", less those that connections to it hold now ({} to {})",
            count(row.ports_used),
            row.destination
        ),
        None => String::new(),
    };
    let effect = format!(
        "the port is then chosen by connect(), and may be one that is used towards another destination: {} ports for each{except}",
        count(case.usable)
    );
    vec![
        Some(no_port(refused, effect)),
        holder.and_then(identify),
        holder.and_then(reuse_connections),
        wider_range(case),
        less_time(case),
        more_addresses(case),
    ]
}

/// Where nobody is known and connections go on, tracing tells who it is.
fn identify(case: &Case<'_>) -> Option<Step> {
    let unknown = case.owner().is_none();
    if unknown && case.from_before {
        return Some(
            Step::new(
                "identify-program",
                "find out which program left the TIME_WAIT: trace while it runs, for longer if it comes at intervals",
                "names it, with its connections a second and how long they live, once it connects again",
            )
            .command(Some("tidewait report --trace 60".to_owned()))
            .risk("none; it needs root, and counts for a minute"),
        );
    }
    (unknown && case.view.flows.is_none() && case.destination.rate_now_per_second > 0.0).then(|| {
        Step::new(
            "identify-program",
            "find out which program opens these connections and closes them first",
            "names it, with its connections a second and how long they live; a socket in TIME_WAIT has no owner to be read",
        )
        .command(Some(TRACE.to_owned()))
        .risk("none; it needs root, and counts for ten seconds")
    })
}

fn reuse_connections(case: &Case<'_>) -> Option<Step> {
    let owner = case.doer();
    let name = owner.map_or_else(|| "the program that connects".to_owned(), who);
    let rate = case.destination.rate_now_per_second;
    let open = case.destination.states[State::Established];
    // Those that were seen, where they are who it is about.
    let opener = if case.narrowed() {
        case.openers.iter().find(|opener| owner.is_some_and(|owner| opener.is(owner)))
    } else {
        case.openers.first().filter(|_| !case.from_before)
    };
    let saved = opener.and_then(|opener| opener.reuse(case.view.namespace.time_wait_seconds));
    let effect = if let Some(saved) = saved {
        saved
    } else if rate > 0.0 {
        format!("each connection kept saves its share of {} new ports a second", figure(rate))
    } else if open > 0 && !case.mostly_closed() {
        format!("{} connections are open: as many ports come free as can be closed or shared", count(open))
    } else {
        "ports are used for as long as work is done, not for a minute each".to_owned()
    };
    let summary = if opener.is_some_and(Opener::short_lived) {
        format!(
            "let one process of {name} make many requests over a connection that it keeps: now each process opens one or two and \
             ends, so that there is nobody to keep them"
        )
    } else {
        format!("let {name} keep connections open and use them again (keep-alive, a connection pool)")
    };
    Some(
        Step::new("reuse-connections", summary, effect)
            .configuration_or_hint(owner, Need::ReuseConnections)
            .risk("none for the kernel; the peer has to allow long connections"),
    )
}

fn bind_no_port(case: &Case<'_>) -> Option<Step> {
    (case.destination.pool == Pool::Bind).then(|| {
        let effect = format!(
            "the port is then chosen by connect(): {ports} ports for each destination instead of {ports} for all \
             together, and tcp_tw_reuse starts to apply",
            ports = count(case.usable)
        );
        // Who is refused need not be who holds the ports.
        let refused = case.refused_binds.as_ref().and_then(|refusal| refusal.owner.as_ref());
        no_port(refused.or_else(|| case.doer()), effect)
    })
}

fn no_port(owner: Option<&Owner>, effect: String) -> Step {
    let summary = format!(
        "let {} set IP_BIND_ADDRESS_NO_PORT before bind(address, 0), or bind no address where routing gives the same one; \
         `tidewait exec --no-port -- COMMAND` sets it for a program that does not",
        owner.map_or_else(|| "the program".to_owned(), who)
    );
    Step::new("bind-address-no-port", summary, effect)
        .configuration(owner, Need::PortAtConnect)
        .risk("needs a program or a release that has the option, or one that is linked dynamically, and its restart")
}

/// Seconds for which a closed connection keeps its port, as the limit has it: open ones leave the rest of the ports.
fn hold(case: &Case<'_>) -> f64 {
    let closed = u32::try_from(case.destination.states[State::TimeWait]).unwrap_or(u32::MAX);
    let open = case.destination.ports_used.saturating_sub(closed);
    let rest = f64::from(case.usable.saturating_sub(open));
    let time_wait = f64::from(case.view.namespace.time_wait_seconds);
    // A limit that the length of TIME_WAIT does not explain, rounded as it is, rests on ports being taken over earlier.
    if case.limit * time_wait <= rest * 1.05 { time_wait } else { rest / case.limit }
}

/// What a rate has to be held against where some found no port: what got through is no measure of the need.
fn against_tried(case: &Case<'_>) -> String {
    case.tried().map_or_else(String::new, |(tried, _)| format!("; {} a second were tried", figure(tried)))
}

fn wider_range(case: &Case<'_>) -> Option<Step> {
    let (facts, settings) = (case.view.facts, &case.view.facts.settings);
    let now = case.view.namespace.ports?;
    let present = PortRange { low: now.low, high: now.high };
    let start =
        case.view.number("net.ipv4.ip_unprivileged_port_start").and_then(|port| u16::try_from(port).ok());
    let wider = PortRange { low: WIDER.low.max(start.unwrap_or(0)).min(now.low), high: WIDER.high };
    if wider.size() <= present.size() {
        return None;
    }
    let added = |port: &u16| wider.contains(*port) && !present.contains(*port);
    let reserved = settings.reserved();
    let listening: PortSet = facts
        .census
        .listeners
        .iter()
        .map(|listener| listener.local.port)
        .filter(|port| added(port) && !reserved.contains(*port))
        .collect();
    let more = added_ports(case, wider, present)?;
    const RANGE: &str = "net.ipv4.ip_local_port_range";
    let range = (RANGE, format!("{} {}", wider.low, wider.high));
    let (changes, risk) = match listening.iter().next() {
        None => (
            vec![range],
            "nothing listens in the added ports now; a service that starts later on one of them may find it taken"
                .to_owned(),
        ),
        Some(first) => {
            let mut merged = reserved;
            merged.union(&listening);
            (
                vec![("net.ipv4.ip_local_reserved_ports", merged.to_string()), range],
                format!(
                    "services listen on {} of the added ports (the first is {first}): the command reserves them first, so \
                     that they are free after a restart of the service",
                    count(listening.len())
                ),
            )
        }
    };
    let effect = format!(
        "{} to {} ports: {} to {} connections a second{}",
        count(case.usable),
        count(case.usable + more),
        figure(case.limit),
        figure(case.limit + f64::from(more) / hold(case)),
        against_tried(case)
    );
    let summary = format!("widen net.ipv4.ip_local_port_range to {} {}", wider.low, wider.high);
    Some(Step::new("wider-range", summary, effect).sets(case.view, changes).risk(risk))
}

/// Ports that a connection gains by the wider range: those that are neither reserved nor bound.
fn added_ports(case: &Case<'_>, wider: PortRange, present: PortRange) -> Option<u32> {
    let size = |range: PortRange| {
        let mut facts = case.view.facts.clone();
        let text = format!("{} {}", range.low, range.high);
        facts.settings.0.insert("net.ipv4.ip_local_port_range".to_owned(), text);
        Range::of(&facts).map(|range| range.usable())
    };
    Some(size(wider)?.saturating_sub(size(present)?)).filter(|more| *more > 0)
}

/// Whether tcp_tw_reuse=1 would let connect() take over ports of this destination that it cannot take over now.
fn reuse_would_help(case: &Case<'_>) -> bool {
    !case.is_of_bind()
        && case.destination.reusable == 0
        && !case.reuse_is_on()
        && case.view.number("net.ipv4.tcp_tw_reuse").is_some()
        && case.view.number("net.ipv4.tcp_timestamps").is_some_and(|value| value != 0)
        && case.destination.states[State::TimeWait] > 0
        && case.peer_timestamps() != Some(false)
}

fn tw_reuse(case: &Case<'_>) -> Option<Step> {
    if !reuse_would_help(case) {
        return None;
    }
    let delay = case.view.quantity("net.ipv4.tcp_tw_reuse_delay").filter(|delay| *delay > 0).unwrap_or(1_000)
        as f64
        / 1e3;
    let closed = u32::try_from(case.destination.states[State::TimeWait]).unwrap_or(u32::MAX);
    let open = case.destination.ports_used.saturating_sub(closed);
    let ports = case.usable.saturating_sub(open);
    let mut effect = format!(
        "a port is held for {} s instead of {} s: at most {} connections a second instead of {}, and the search for a \
         port stays short",
        figure(delay),
        case.view.namespace.time_wait_seconds,
        figure(f64::from(ports) / delay),
        figure(case.limit)
    );
    effect.push_str(&against_tried(case));
    if case.destination.pool == Pool::Unknown {
        effect.push_str("; if connect() chose the ports, which could not be told");
    }
    let risk = match case.peer_timestamps() {
        Some(true) => {
            "little: the peer sends TCP timestamps (seen), and they and the sequence numbers keep old segments out"
        }
        _ => {
            "needs a peer that sends TCP timestamps: not seen on a live connection, so not known; sequence numbers and \
             timestamps keep old segments out"
        }
    };
    let step = Step::new(
        "tw-reuse",
        "let connect() take over sockets in TIME_WAIT: net.ipv4.tcp_tw_reuse = 1",
        effect,
    );
    Some(step.sets(case.view, [("net.ipv4.tcp_tw_reuse", 1)]).risk(risk))
}

/// The port chosen from outside, where the kernel's search for one has become long.
fn steer(case: &Case<'_>) -> Option<Step> {
    if case.is_of_bind() || case.in_the_way().saturating_mul(2) <= case.usable {
        return None;
    }
    let owner = case.doer();
    let target = owner.and_then(|owner| match (owner.unit.as_deref(), owner.pid) {
        (Some(unit), _) if unit.ends_with(".service") => Some(format!("--unit {unit}")),
        (_, Some(pid)) => Some(format!("--pid {pid}")),
        _ => None,
    });
    let step = Step::new(
        "steer-ports",
        format!(
            "choose the local ports for {} from outside, out of a range of its own (BPF; the program is not changed)",
            owner.map_or_else(|| "the program".to_owned(), who)
        ),
        "connect() searches no more, however many ports are in use, and the range of its own comes on top of this one",
    );
    Some(step.command(target.map(|target| format!("tidewait steer {target}"))).risk(
        "lasts as long as the command runs; a firewall that knows the old range has to know the new one",
    ))
}

/// A shorter TIME_WAIT: by a setting, on the kernels that have one for it; else by ending the sockets from outside.
fn less_time(case: &Case<'_>) -> Option<Step> {
    const SHORTER: u32 = 15;
    if !case.mostly_closed() {
        return None;
    }
    let Some(now) = case.view.quantity("net.ipv4.tcp_tw_timeout") else { return reap(case) };
    if now <= u64::from(SHORTER) {
        return None;
    }
    let effect = format!(
        "a port is held for {SHORTER} s instead of {now} s: at most {} connections a second instead of {}{}",
        figure(case.limit * now as f64 / f64::from(SHORTER)),
        figure(case.limit),
        against_tried(case)
    );
    let step = Step::new(
        "less-time",
        format!("shorten TIME_WAIT: net.ipv4.tcp_tw_timeout = {SHORTER} (this vendor's kernel has it)"),
        effect,
    );
    Some(
        step.sets(case.view, [("net.ipv4.tcp_tw_timeout", SHORTER)])
            .risk("late segments of an old connection can reach a new one; sockets already in TIME_WAIT keep their time"),
    )
}

/// From here on the kernel lets sockets in TIME_WAIT be destroyed (net/ipv4/tcp.c `tcp_abort`).
const DESTROYS_TIME_WAIT: Version = Version::new(6, 0);

/// TIME_WAIT ended before its time, the oldest first and only while ports are short.
fn reap(case: &Case<'_>) -> Option<Step> {
    if case.view.kernel().is_some_and(|kernel| kernel < DESTROYS_TIME_WAIT) {
        return None;
    }
    const BELOW: f64 = 0.45;
    let row = case.destination;
    let closed = u32::try_from(row.states[State::TimeWait]).unwrap_or(u32::MAX);
    let open = row.ports_used.saturating_sub(closed);
    let kept = BELOW * f64::from(case.usable) - f64::from(open);
    let rate = case.tried().map_or(row.rate_now_per_second, |(tried, _)| tried);
    if kept <= 0.0 {
        return None;
    }
    let mut effect = format!(
        "TIME_WAIT is cut short only while more than {:.0} % of the ports are in use, the oldest first",
        BELOW * 100.0
    );
    // Below a second nothing is ended, unless it is asked for by name.
    if rate > kept {
        effect.push_str(&format!(
            "; nothing younger than a second is, so that it bears {} connections a second at most",
            figure(f64::from(case.usable - open))
        ));
    } else if rate > 0.0 {
        effect.push_str(&format!(
            ": at {} a second each is then kept for about {} s",
            figure(rate),
            figure(kept / rate)
        ));
    }
    let which = match row.destination.as_str() {
        "*" => format!("--from {}", row.source),
        peer => format!("--to {peer}"),
    };
    let step = Step::new(
        "less-time",
        "end sockets in TIME_WAIT before their time, as far as ports are short",
        effect,
    );
    Some(step.command(case.view.inside(&format!("tidewait reap --keep-below 45% {which}"))).risk(
        "late segments of an old connection can reach a new one (`tidewait study` counts how many come and how late); \
         tcp_tw_reuse keeps that protection where it works",
    ))
}

fn more_addresses(case: &Case<'_>) -> Option<Step> {
    let each = f64::from(case.usable) / hold(case);
    let mut effect = format!(
        "each further one brings as many ports again: {} connections a second more{}",
        figure(each),
        against_tried(case)
    );
    // The limit is rounded to a tenth.
    let lacking = case.tried().map(|(tried, _)| (tried - case.limit - 0.05) / each);
    if let Some(lacking) = lacking.filter(|lacking| lacking.is_finite() && *lacking > 0.0) {
        let number = lacking.ceil() as u64;
        effect.push_str(&format!(", for which it takes up to {} more", count(number)));
    }
    let summary = "use more source addresses, or more addresses or ports of the destination; `tidewait spread` gives a program \
                   addresses in turn that does not choose one";
    Some(
        Step::new("more-addresses", summary, effect)
            .configuration(case.doer(), Need::MoreSources)
            .risk("peers that filter by address have to know the new ones"),
    )
}

/// Popular advice that does nothing in this case.
pub(super) fn no_help(case: &Case<'_>) -> Vec<Option<NoHelp>> {
    let (view, states) = (case.view, &case.destination.states);
    let closed = case.mostly_closed();
    // Orphans in FIN_WAIT2 hold ports too, and these it would end earlier.
    let fin_wait2 = states[State::FinWait2] * 20 >= states.total();
    vec![
        why_no_reuse(case).and_then(|why| setting(view, "net.ipv4.tcp_tw_reuse", why)),
        (!fin_wait2)
            .then(|| setting(view, "net.ipv4.tcp_fin_timeout", "it ends orphaned sockets in FIN_WAIT2; TIME_WAIT stays as long as it is"))
            .flatten(),
        (closed && view.facts.settings.text("net.ipv4.tcp_tw_timeout").is_none())
            .then(|| {
                advice(
                    "a sysctl for the length of TIME_WAIT (net.ipv4.tcp_tw_timeout)",
                    "60 s are compiled in (TCP_TIMEWAIT_LEN); only some vendors' kernels have the setting, this one does not",
                )
            })
            .flatten(),
        closed
            .then(|| {
                advice(
                    "net.ipv4.tcp_keepalive_time, _intvl, _probes",
                    "a socket in TIME_WAIT is closed already; keepalive looks after open connections that asked for it",
                )
            })
            .flatten(),
        closed_there(case),
        recycle(view),
        case.is_of_bind()
            .then(|| {
                advice(
                    "SO_REUSEADDR",
                    "on its own it does not let bind(address, 0) share a port with a connection of the same address",
                )
            })
            .flatten(),
        advice(
            "net.core.somaxconn, net.ipv4.tcp_max_syn_backlog",
            "queues of connections that come in; these go out",
        ),
    ]
}

/// Settings of TIME_WAIT, where the peer is the one that keeps it.
fn closed_there(case: &Case<'_>) -> Option<NoHelp> {
    let opener = case.openers.first().filter(|opener| opener.closes_second())?;
    if case.mostly_closed() || reuse_would_help(case) {
        return None;
    }
    advice(
        "any setting of TIME_WAIT on this machine",
        format!(
            "traced: {} closes second, so that the TIME_WAIT is the peer's, and a port is free here as soon as its \
             connection ends",
            who(&opener.owner)
        ),
    )
}

/// Why tcp_tw_reuse=1 changes nothing here; `None` where it would.
fn why_no_reuse(case: &Case<'_>) -> Option<&'static str> {
    if case.destination.pool == Pool::Bind {
        Some(
            "bind() chose the port before connect(); bind() never looks at tcp_tw_reuse, so TIME_WAIT blocks the port",
        )
    } else if case.is_of_bind() {
        Some("bind() never looks at tcp_tw_reuse: a port in TIME_WAIT is taken for it, whoever chose it")
    } else if reuse_would_help(case) {
        None
    } else if case.view.number("net.ipv4.tcp_timestamps") == Some(0) {
        Some("it needs TCP timestamps, and net.ipv4.tcp_timestamps is 0")
    } else if case.peer_timestamps() == Some(false) {
        Some("it needs TCP timestamps, and the peer sends none (seen on a live connection)")
    } else if case.destination.states[State::TimeWait] == 0 {
        Some("none of the ports is in TIME_WAIT")
    } else if case.destination.reusable > 0 || (case.reuse_is_on() && case.destination.pool == Pool::Connect)
    {
        Some("it is in effect for this destination already, and is reckoned in")
    } else {
        None
    }
}
