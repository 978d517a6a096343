//! Local ports: too few for a destination, or for a source address whose ports bind() chooses.

mod bind_pool_exhausted;
mod port_search_cliff;
mod ports_exhausted;
mod ports_running_out;
mod refusals;
mod remedies;
mod taken_by_others;

use tidewait_model::report::{Destination, Pool, Severity};
use tidewait_model::trace::Flow;
use tidewait_model::{Owner, OwnerBasis, State};

use super::opener::{self, Opener, openers};
use super::view::{Found, Ties, View};
use super::words::{count, figure, pool_word, share};
use crate::Kind;
use crate::traced::{opened, sum};
use refusals::{Refusal, Refusals};

/// The kinds that are found here.
pub(super) const KINDS: [&Kind; 4] =
    [&ports_exhausted::KIND, &ports_running_out::KIND, &bind_pool_exhausted::KIND, &port_search_cliff::KIND];

/// A destination that is looked at, and where it lies.
struct Case<'a> {
    view: &'a View<'a>,
    destination: &'a Destination,
    usable: u32,
    free: u32,
    limit: f64,
    /// Who opens and closes its connections, where it was traced.
    openers: Vec<Opener>,
    /// Connections that were opened, a second, where it was traced.
    opened: f64,
    /// Whether most of it is TIME_WAIT from before the trace, which nobody seen since accounts for.
    from_before: bool,
    /// connect() calls to it that found no port.
    refused: Option<Refusal>,
    /// bind() calls for its source that found no port, where it is the row to tell of them.
    refused_binds: Option<Refusal>,
}

impl<'a> Case<'a> {
    /// The case of `destination`, before it is known what was refused; `None` where its ports could not be counted.
    fn of(view: &'a View<'a>, destination: &'a Destination) -> Option<Case<'a>> {
        let (usable, free, limit) =
            (destination.ports_usable?, destination.ports_free?, destination.limit_per_second?);
        let flows = view
            .flows
            .as_ref()
            .map_or(&[][..], |flows| flows.to(&destination.source, &destination.destination));
        let seconds = view.flows.as_ref().map_or(1.0, |flows| flows.seconds);
        let mut case = Case {
            view,
            destination,
            usable,
            free,
            limit,
            openers: openers(flows, seconds),
            opened: opened(&sum(flows)) as f64 / seconds,
            from_before: false,
            refused: None,
            refused_binds: None,
        };
        case.from_before = from_before(&case, flows);
        Some(case)
    }
}

impl Case<'_> {
    /// Who causes it: who closes most connections first, as traced; else as the row has it. Who connects now is not blamed
    /// for what was there before.
    fn owner(&self) -> Option<&Owner> {
        if self.from_before {
            return self.destination.owners.iter().find(|owner| owner.how != OwnerBasis::Traced);
        }
        self.openers.first().map(|opener| &opener.owner).or_else(|| self.destination.owners.first())
    }

    /// connect() calls a second that found a port, also where the peer closes first and it keeps none.
    fn connects_per_second(&self) -> f64 {
        let seen = self.destination.traced.map_or(0.0, |traced| traced.opened_per_second);
        self.destination.rate_now_per_second.max(seen)
    }

    /// What was tried a second and how much of it found no port, where any did not: what the ports are short of. Programs that
    /// try again at once make it more than there would be connections.
    fn tried(&self) -> Option<(f64, f64)> {
        let binds = self.refused_binds.as_ref().filter(|_| self.destination.pool == Pool::Bind);
        let times =
            self.refused.iter().chain(binds).map(|refusal| refusal.times).fold(0, u64::saturating_add);
        let flows = self.view.flows.as_ref().filter(|_| times > 0)?;
        let in_vain = times as f64 / flows.seconds;
        Some((self.opened + in_vain, in_vain))
    }

    /// Whether free ports are left although some were refused, and none can have come free since: the program may choose
    /// from a range of its own.
    fn narrowed(&self) -> bool {
        let refused = self.refused.is_some() || self.refused_binds.is_some();
        let recent = self
            .view
            .flows
            .as_ref()
            .is_some_and(|flows| flows.seconds < f64::from(self.view.namespace.time_wait_seconds));
        refused && recent && f64::from(self.in_the_way()) < 0.9 * f64::from(self.usable)
    }

    /// Who is refused, where nothing is known of who took the ports: those who took them are refused too. Ports that are
    /// free are another matter.
    fn refused_owner<'b>(&'b self, refusal: &'b Refusal) -> Option<&'b Owner> {
        let mine = refusal.owner.as_ref().filter(|_| !self.from_before || self.narrowed());
        mine.or_else(|| self.owner())
    }

    /// Who is to do something about it: who causes it, or else who was refused; where ports are free, first who was refused.
    fn doer(&self) -> Option<&Owner> {
        let refusals = || self.refused.iter().chain(&self.refused_binds);
        let refused = || refusals().find_map(|refusal| self.refused_owner(refusal));
        if self.narrowed() { refused().or_else(|| self.owner()) } else { self.owner().or_else(refused) }
    }

    /// Ports that stand in the way of a new connection: all used ones but those that may be taken over.
    fn in_the_way(&self) -> u32 {
        self.destination.ports_used.saturating_sub(self.destination.reusable)
    }

    /// Whether no port is left, or so few that only the one that has just been let go is found.
    fn exhausted(&self) -> bool {
        let left = self.usable.saturating_sub(self.in_the_way());
        // A full range under load always shows the few ports whose TIME_WAIT ended while it was dumped.
        let let_go = self.limit / 10.0;
        self.usable > 0
            && (left == 0 || (f64::from(left) <= let_go && f64::from(left) * 200.0 <= f64::from(self.usable)))
    }

    /// Whether it is bind() that lacks ports: connect() never looks at all destinations together.
    fn is_of_bind(&self) -> bool {
        self.destination.pool == Pool::Bind || self.destination.destination == "*"
    }

    /// Whether net.ipv4.tcp_tw_reuse lets connect() take over TIME_WAIT everywhere.
    fn reuse_is_on(&self) -> bool {
        self.view.number("net.ipv4.tcp_tw_reuse") == Some(1)
    }

    /// Whether the peer sends timestamps, as seen on a live connection.
    fn peer_timestamps(&self) -> Option<bool> {
        let row = self.destination;
        let seen = self.view.facts.census.destinations.iter();
        seen.filter(|seen| seen.source.to_string() == row.source && seen.peer.to_string() == row.destination)
            .find_map(|seen| seen.peer_timestamps)
    }

    /// Whether most of its ports wait in TIME_WAIT, rather than being in use.
    fn mostly_closed(&self) -> bool {
        self.destination.states[State::TimeWait] * 2 >= self.destination.states.total()
    }

    fn subject(&self) -> String {
        match self.destination.destination.as_str() {
            "*" => format!("{} -> any destination", self.destination.source),
            peer => format!("{} -> {peer}", self.destination.source),
        }
    }

    fn finding(&self, kind: &Kind, severity: Severity, summary: String, evidence: Vec<String>) -> Found {
        let destination = self.destination;
        self.view
            .found(kind, severity, self.subject(), summary)
            .evidence(evidence)
            .evidence(self.mostly_closed().then(|| opener::hint(self.view, self.owner())).flatten())
            .owner(self.owner())
            .remedies(remedies::for_ports(self))
            .no_help(remedies::no_help(self))
            .ties(Ties {
                states: destination.states,
                used: u64::from(destination.ports_used),
                ..Ties::default()
            })
    }
}

/// A destination gives the worst that is so, not three names for one thing. What was refused for want of a port is told in
/// any case.
pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let mut findings = Vec::new();
    let mut bind_pools = Vec::new();
    let mut refusals = Refusals::of(view);
    for destination in &view.namespace.destinations {
        let Some(mut case) = Case::of(view, destination) else { continue };
        let refused = refusals.take(&destination.source, &destination.destination);
        // The pool of the source says it for every destination of it.
        if refused.is_none() && destination.pool == Pool::Bind && bind_pools.contains(&&destination.source) {
            continue;
        }
        case.refused = refused;
        if destination.pool == Pool::Bind || (destination.pool == Pool::Unknown && case.exhausted()) {
            case.refused_binds = refusals.take_binds(&destination.source);
        }
        if let Some(flows) = view.flows.as_ref().filter(|_| destination.pool == Pool::Bind) {
            let binds = flows.binds(&destination.source);
            case.openers.iter_mut().for_each(|opener| opener.add_binds(binds));
        }
        let refused = ports_exhausted::refused(&case);
        let finding = bind_pool_exhausted::check(&case).or_else(|| {
            refused.is_none().then(|| {
                ports_exhausted::check(&case)
                    .or_else(|| ports_running_out::check(&case))
                    .or_else(|| port_search_cliff::check(&case))
            })?
        });
        if finding.is_some() && destination.pool == Pool::Bind {
            bind_pools.push(&destination.source);
        }
        findings.extend(refused.into_iter().chain(finding));
    }
    findings.extend(refusals.rest(view));
    findings
}

/// Whether the ports are held by TIME_WAIT that is older than the trace, and what was tried since, with or without a port, is
/// less than half of what it takes to leave as many: then who tries now need not be who left them.
fn from_before(case: &Case<'_>, flows: &[&Flow]) -> bool {
    let Some(traced) = &case.view.flows else { return false };
    let time_wait = f64::from(case.view.namespace.time_wait_seconds);
    // Where connect() chose the ports, who tries bind() in vain is somebody else.
    let in_vain = match case.destination.pool {
        Pool::Connect => 0,
        Pool::Bind | Pool::Unknown => sum(traced.binds(&case.destination.source)).no_port,
    };
    let tried = sum(flows).connects.saturating_add(in_vain) as f64;
    let waiting = case.destination.states[State::TimeWait] as f64;
    case.mostly_closed() && 2.0 * tried * time_wait < waiting * traced.seconds.min(time_wait)
}

/// How many of those in TIME_WAIT the trace knows the owners of, where they are so few that it may have been another's doing.
fn known_of(case: &Case<'_>) -> Option<String> {
    let waiting = case.destination.states[State::TimeWait];
    let born = case.destination.traced?.time_wait_born;
    (!case.from_before && case.mostly_closed() && born > 0 && born.saturating_mul(10) < waiting).then(|| {
        format!(
            "traced: {} of the {} in TIME_WAIT {} from while it was traced; whose the others were is not known",
            count(born),
            count(waiting),
            if born == 1 { "is" } else { "are" }
        )
    })
}

/// The sentences about ports and rates that every port finding rests on.
fn evidence(case: &Case<'_>) -> Vec<String> {
    let destination = case.destination;
    let mut evidence = vec![format!(
        "{} of {} usable ports are in use ({}), {} free",
        count(destination.ports_used),
        count(case.usable),
        share(destination.fill.unwrap_or(0.0)),
        count(case.free)
    )];
    let states: Vec<String> = destination
        .states
        .iter()
        .filter(|(_, sockets)| *sockets > 0)
        .map(|(state, sockets)| format!("{} {}", count(sockets), state.title()))
        .collect();
    evidence.push(states.join(", "));
    let closed = destination.states[State::TimeWait];
    let carry =
        if closed > 0 { format!("; the ports carry {} a second", figure(case.limit)) } else { String::new() };
    let tried = case.tried();
    if closed > 0 {
        let carry = if tried.is_none() { carry.as_str() } else { "" };
        evidence.push(format!(
            "{} connections closed here in the last {} s, {} a second now{carry}",
            count(closed),
            case.view.namespace.time_wait_seconds,
            figure(destination.rate_now_per_second)
        ));
    }
    // What got through is what the ports let through: the need is what was tried.
    if let Some((tried, in_vain)) = tried {
        evidence.push(format!(
            "traced: {} a second tried, {} of them refused{carry} (a program that tries again at once is counted each time)",
            figure(tried),
            figure(in_vain)
        ));
    }
    if destination.pool != Pool::Unknown {
        evidence.push(format!("ports chosen by {} ({})", pool_word(destination.pool), destination.pool_how));
    } else if destination.pool_how.starts_with("traced") {
        evidence.push(format!("who chose the ports: {}", destination.pool_how));
    }
    evidence.extend(opener::sentences(&case.openers));
    if case.from_before {
        evidence.push(
            "traced: who left the TIME_WAIT is not known: most is from before, and too few connections were opened since to \
             leave as much"
                .to_owned(),
        );
    }
    evidence.extend(known_of(case));
    let refusals = [&case.refused, &case.refused_binds].into_iter().flatten();
    evidence.extend(refusals.map(|refusal| refusal.sentence.clone()));
    evidence
}
