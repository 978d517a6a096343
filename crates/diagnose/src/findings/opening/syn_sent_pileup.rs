//! `syn-sent-pileup`: connections go out and nothing comes back: a silent peer, or a table of this machine that drops them.
//!
//! A port was found, so this is not about local ports. The SYN is repeated until tcp_syn_retries is used up.

use std::collections::BTreeMap;

use tidewait_model::kernel::Version;
use tidewait_model::report::{NoHelp, Severity};
use tidewait_model::trace::Flow;
use tidewait_model::{Lingering, NamespaceFacts, State};

use crate::Kind;
use crate::findings::leak::scaled;
use crate::findings::remedy::{Step, setting};
use crate::findings::view::{Found, Ties, View, grew};
use crate::findings::words::{count, duration, listed, things, who};
use crate::traced::sum;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "syn-sent-pileup",
    title: "connections that are not answered",
    means: "connect() hangs until the kernel gives up, two minutes with stock settings, and then fails with ETIMEDOUT (110); a \
            program that does not wait for it holds a descriptor and a port for as long.",
    told_by: "Sockets in SYN_SENT that have repeated their SYN. A refused connection ends at once and is none of these. Where \
              the counters of connection tracking grow at the same time (insert_failed, drop), this machine's own table or \
              its source NAT drops them.",
    causes: &[
        "the peer is down, or its address is wrong",
        "a firewall on the way that drops instead of refusing",
        "the accept queue of the peer is full (accept-queue-overflow there)",
        "source NAT that finds no free port, or a full connection tracking table (conntrack-full)",
    ],
    severity: "critical: most hang towards one destination, and none to it is open; or this machine drops them. A warning if some \
               get through, or others hang too. A notice if they are spread thinly over many destinations, as a crawler's are.",
    scenario: "syn-sent-pileup",
    see_also: &["SYN_SENT", "conntrack-full", "accept-queue-overflow", "net.ipv4.tcp_syn_retries"],
    sources: &[
        "net/ipv4/tcp_timer.c tcp_write_timeout (6.18)",
        "net/netfilter/nf_nat_core.c nf_nat_l4proto_unique_tuple (6.18)",
    ],
};

/// Fewer unanswered connections than this are daily life.
const SOME: u64 = 20;
/// SYNs repeated by one that tell silence from a slow path: 3 s.
const SILENT: u32 = 2;
/// Retries that still bear a lossy path: 15 s without linear tries.
const FEWER: u64 = 3;

/// All unanswered connections of a namespace, whoever opened them.
struct Pile<'a> {
    sockets: u64,
    /// By destination, most first; the biggest only.
    peers: Vec<(&'a str, u64)>,
    peers_total: u64,
    /// The group that has most of those to the first destination.
    biggest: &'a Lingering,
}

pub(super) fn check(view: &View<'_>) -> Option<Found> {
    let pile = pile(view)?;
    let (top, of_top) = pile.peers.first().copied().unwrap_or(("several destinations", 0));
    let established = open_to(view, top);
    let others = pile.peers_total.saturating_sub(1);
    let (most, many) = (of_top.saturating_mul(2) >= pile.sockets, of_top >= SOME);
    let concentrated = most || many;
    let tracking = Tracking::of(view, pile.sockets);
    let severity = match () {
        () if tracking.as_ref().is_some_and(|tracking| tracking.grew) => Severity::Critical,
        () if most && established == 0 => Severity::Critical,
        () if concentrated => Severity::Warning,
        () => Severity::Notice,
    };
    let subject = match (concentrated, others) {
        (true, 0) => top.to_owned(),
        (true, more) => format!("{top} and {} more", things(more, "destination", "destinations")),
        (false, _) => things(pile.peers_total, "destination", "destinations"),
    };
    let why = match &tracking {
        Some(tracking) if tracking.grew => {
            "connection tracking on this machine drops packets at the same time (inferred to be the cause)"
        }
        Some(_) => {
            "nothing comes back: a host that is down, a firewall that drops, or connection tracking on this machine, which \
             has dropped that many at some time"
        }
        None => "nothing comes back: a host that is down, or a firewall that drops",
    };
    let summary =
        format!("{} to {subject} are not answered: {why}", things(pile.sockets, "connection", "connections"));
    let hang = hang(view, retries(view));
    let mut evidence = vec![
        by_destination(&pile),
        format!(
            "the SYN was repeated up to {} times; the kernel gives a connection up after {} (tcp_syn_retries = {}), a \
             program may earlier",
            pile.biggest.retransmits_max,
            duration(hang),
            retries(view)
        ),
    ];
    if established > 0 {
        evidence.push(format!(
            "{} to {top} are open: some get through",
            things(established, "connection", "connections")
        ));
    }
    evidence.extend(tracking.as_ref().map(|tracking| tracking.evidence.clone()));
    evidence.extend(traced(view, top));
    let mut ties = Ties {
        endpoints: view.listeners_behind(&pile.peers.iter().map(|(peer, _)| *peer)),
        ..Ties::default()
    };
    ties.states.add(State::SynSent, pile.sockets);
    let nat = tracking.as_ref().is_some_and(|tracking| tracking.nat);
    let certain = nat && tracking.is_some_and(|tracking| tracking.grew);
    Some(
        view.found(&KIND, severity, subject, summary)
            .evidence(evidence)
            .owner(pile.biggest.owner.as_ref())
            .remedies([
                (!certain).then(|| reach_the_peer(top)),
                nat.then(more_nat_ports),
                Some(connect_timeout(&pile, hang)),
                fewer_retries(view, hang),
            ])
            .no_help(no_help(view, nat))
            .ties(ties),
    )
}

fn pile<'a>(view: &View<'a>) -> Option<Pile<'a>> {
    let groups: Vec<&Lingering> =
        view.facts.lingering.iter().filter(|group| group.state == State::SynSent).collect();
    let silent = |group: &&&Lingering| group.retransmits_max >= SILENT;
    let stuck = |group: &Lingering| scaled(group, group.retransmitting).min(group.sockets);
    let sockets = groups.iter().filter(silent).map(|group| stuck(group)).fold(0, u64::saturating_add);
    let mut peers: BTreeMap<&str, u64> = BTreeMap::new();
    for peer in groups.iter().flat_map(|group| &group.peers) {
        let sum = peers.entry(peer.peer.as_str()).or_default();
        *sum = sum.saturating_add(peer.sockets);
    }
    let mut peers: Vec<(&str, u64)> = peers.into_iter().collect();
    peers.sort_by_key(|(_, sockets)| std::cmp::Reverse(*sockets));
    let to_top = |group: &&&Lingering| {
        let top = group.peers.iter().filter(|peer| peers.first().is_some_and(|(top, _)| *top == peer.peer));
        (top.map(|peer| peer.sockets).fold(0, u64::saturating_add), group.sockets)
    };
    let biggest = groups.iter().filter(silent).max_by_key(to_top).copied()?;
    // Owners may share destinations: no fewer than the one that has most, or than are known by name.
    let known = groups.iter().map(|group| group.peers_total).max().unwrap_or(0).max(peers.len() as u64);
    (sockets >= SOME).then_some(Pile { sockets, peers, peers_total: known, biggest })
}

/// Open connections to `peer`, from whatever source address.
fn open_to(view: &View<'_>, peer: &str) -> u64 {
    let rows = view.namespace.destinations.iter().filter(|row| row.destination == peer);
    rows.map(|row| row.states[State::Established]).fold(0, u64::saturating_add)
}

/// What came of connections to `peer` while it was traced: given up without an answer, refused, or opened.
fn traced(view: &View<'_>, peer: &str) -> Option<String> {
    let rows = view.facts.traced.as_ref()?.flows.iter();
    let to = |flow: &&Flow| flow.remote.is_some_and(|remote| remote.to_string() == peer);
    let counts = sum(&rows.filter(to).collect::<Vec<_>>());
    let mut parts = Vec::new();
    for (number, what) in [
        (counts.unanswered, "were given up without an answer (ETIMEDOUT)"),
        (counts.refused, "were refused (ECONNREFUSED): then the host answers, and nothing listens"),
    ] {
        if number > 0 {
            parts.push(format!("{} {what}", count(number)));
        }
    }
    let began = things(counts.connects, "connection", "connections");
    (!parts.is_empty()).then(|| format!("traced: of {began} to {peer} {}", parts.join(", ")))
}

/// What the counters of connection tracking say to connections that are not answered.
struct Tracking {
    evidence: String,
    /// Whether it dropped while it was watched; else it has at some time, and often enough to be the cause.
    grew: bool,
    /// Whether it is source NAT that finds no free port.
    nat: bool,
}

impl Tracking {
    /// The counters of the namespace, and of the host where its packets pass.
    fn of(view: &View<'_>, unanswered: u64) -> Option<Tracking> {
        let on_the_way = |facts: &&NamespaceFacts| facts.inode == view.facts.inode || facts.name == "host";
        let namespaces = view.observation.namespaces.iter().filter(on_the_way);
        let counters = [
            ("conntrack.insert_failed", "as when source NAT finds no free port", true),
            ("conntrack.drop", "as when the table is full", false),
        ];
        let told = namespaces.flat_map(|facts| counters.map(|counter| (facts, counter))).filter_map(
            |(facts, (name, what, nat))| {
                let Some(grown) = grew(facts, name) else {
                    let all = facts.counters.get(name).and_then(|all| u64::try_from(*all).ok())?;
                    let evidence = format!(
                        "{name} of {} is {}, {what}; whether it grows was not watched (`tidewait report --for 5` tells)",
                        facts.name,
                        count(all)
                    );
                    return (all >= unanswered).then_some(Tracking { evidence, grew: false, nat });
                };
                let evidence =
                    format!("{name} of {} grew by {} while it was watched, {what}", facts.name, count(grown));
                // A few in passing, of other traffic, do not explain many connections that repeat their SYN.
                let enough = grown > 2 && grown.saturating_mul(50) >= unanswered;
                enough.then_some(Tracking { evidence, grew: true, nat })
            },
        );
        told.max_by_key(|tracking| (tracking.grew, tracking.nat))
    }
}

fn by_destination(pile: &Pile<'_>) -> String {
    let names: Vec<String> =
        pile.peers.iter().map(|(peer, sockets)| format!("{peer} ({})", count(*sockets))).collect();
    let all = usize::try_from(pile.peers_total).unwrap_or(usize::MAX);
    let part = if pile.biggest.sockets.saturating_mul(2) > pile.sockets { "most" } else { "part" };
    let owner = pile.biggest.owner.as_ref();
    let owner = owner.map(|owner| format!("; {part} of them are of {}", who(owner))).unwrap_or_default();
    format!("to {}{owner}", listed(&names, Lingering::PEERS, all))
}

fn retries(view: &View<'_>) -> u64 {
    view.quantity("net.ipv4.tcp_syn_retries").unwrap_or(6)
}

/// Seconds until a connection that is not answered is given up: so many tries a second apart as
/// tcp_syn_linear_timeouts says (since 6.5, 4), then waits that double from 1 s to 120 s (net/ipv4/tcp_timer.c).
fn hang(view: &View<'_>, retries: u64) -> f64 {
    let since_6_5 = view.kernel().is_none_or(|version| version >= Version::new(6, 5));
    let stock = if since_6_5 { 4 } else { 0 };
    let linear = view.quantity("net.ipv4.tcp_syn_linear_timeouts").unwrap_or(stock).min(127);
    let waits = (0..=retries.min(127)).map(|at| 2_f64.powi(at as i32).min(120.0));
    linear as f64 + waits.sum::<f64>()
}

fn reach_the_peer(peer: &str) -> Step {
    let address = peer.rsplit_once(':').map_or(peer, |(address, _)| address);
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let command = address.parse::<std::net::IpAddr>().ok().map(|ip| format!("ip route get {ip}"));
    Step::new(
        "reach-the-peer",
        format!("find out why {peer} does not answer: is it up, is the route right, does a firewall drop, is its accept queue full"),
        "a peer that is up answers within a round trip, if only with a refusal",
    )
    .command(command)
    .risk("none")
}

fn more_nat_ports() -> Step {
    Step::new(
        "more-nat-ports",
        "give source NAT more ports or addresses, or let it choose among all of them (`masquerade random,fully-random`)",
        "a SYN is dropped when every port that NAT tries is taken; it tries at most 248 of them",
    )
    .risk("peers that filter by address have to know the new ones")
}

fn connect_timeout(pile: &Pile<'_>, hang: f64) -> Step {
    Step::new(
        "connect-timeout",
        "give connect() a time limit of a few seconds in the program, and let it wait longer after each failure",
        format!(
            "an unanswered connection is held for 3 s, say, instead of {}: at a steady rate {} sockets become about {}",
            duration(hang),
            count(pile.sockets),
            count((pile.sockets as f64 * 3.0 / hang.max(3.0)).ceil() as u64)
        ),
    )
    .risk("a slow path is taken for a dead one")
}

fn fewer_retries(view: &View<'_>, hang_now: f64) -> Option<Step> {
    (retries(view) > FEWER).then(|| {
        let step = Step::new(
            "fewer-syn-retries",
            format!("let the kernel give up earlier: net.ipv4.tcp_syn_retries = {FEWER}"),
            format!(
                "connect() fails after {} instead of {}",
                duration(hang(view, FEWER)),
                duration(hang_now)
            ),
        );
        step.sets(view, [("net.ipv4.tcp_syn_retries", FEWER)])
            .risk("holds for every destination; a path that loses much gets fewer tries")
    })
}

fn no_help(view: &View<'_>, nat: bool) -> Vec<Option<NoHelp>> {
    vec![
        // More ports to choose from do make collisions in source NAT rarer.
        (!nat)
            .then(|| {
                setting(
                    view,
                    "net.ipv4.ip_local_port_range",
                    "each of these connections has found its local port",
                )
            })
            .flatten(),
        setting(view, "net.ipv4.tcp_tw_reuse", "each of these connections has found its local port"),
        setting(
            view,
            "net.ipv4.tcp_fin_timeout",
            "these connections were never opened, so there is nothing to close",
        ),
        setting(view, "net.ipv4.tcp_keepalive_time", "keepalive begins when a connection is open"),
        setting(view, "net.ipv4.tcp_max_syn_backlog", "a queue for connections that come in; these go out"),
    ]
}
