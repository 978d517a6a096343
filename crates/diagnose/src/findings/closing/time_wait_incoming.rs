//! `time-wait-incoming`: many connections that came in wait in TIME_WAIT. They take memory and no local port.

use tidewait_model::State;
use tidewait_model::report::Severity;

use super::time_wait_overflow::BYTES;
use crate::Kind;
use crate::findings::opener::{self, openers};
use crate::findings::remedy::{Step, recycle, setting};
use crate::findings::view::{Found, Ties, View};
use crate::findings::words::{count, figure, who};
use crate::traced::{closed_here_share, sum};

pub(in crate::findings) const KIND: Kind = Kind {
    id: "time-wait-incoming",
    title: "many connections that came in wait in TIME_WAIT, which costs memory only",
    means: "A server that closes first keeps the TIME_WAIT. All of these share the service's port: none of them takes a port from \
            the automatic range, and a client that comes back with the same port is accepted at once (RFC 9293 MAY-2). A \
            socket takes 256 bytes.",
    told_by: "Sockets in TIME_WAIT whose local port is that of a listener. Old alarms at 30,000 sockets go off here for nothing.",
    causes: &["a server that ends each connection itself: HTTP without keep-alive, a short keep-alive time"],
    severity: "a notice: nothing fails.",
    scenario: "time-wait-incoming",
    see_also: &["TIME_WAIT", "time-wait-overflow", "why-60-seconds"],
    sources: &["net/ipv4/tcp_minisocks.c tcp_timewait_state_process (6.18)", "RFC 9293 section 3.10.7.4"],
};

/// From here on people begin to ask.
const MANY: u64 = 5_000;

pub(super) fn check(view: &View<'_>) -> Option<Found> {
    let services = &view.namespace.incoming;
    let waiting = services.iter().map(|service| service.states[State::TimeWait]).fold(0, u64::saturating_add);
    if waiting < MANY {
        return None;
    }
    let top = services.iter().max_by_key(|service| service.states[State::TimeWait])?;
    let mut census = view.facts.census.incoming.iter();
    let flows = view.flows.as_ref().zip(census.find(|service| service.local.to_string() == top.local));
    let (own, seconds) =
        flows.map_or_else(Default::default, |(flows, service)| (flows.into(service.local), flows.seconds));
    let openers = openers(&own, seconds);
    // Who accepts need not be who closes: connections that come in are booked to the master that listens, and end in its
    // workers. So the service is judged as a whole, and only who closed some first is said to.
    let second = opener::closes_second(closed_here_share(&sum(&own)));
    let closer = openers.iter().find(|opener| !second && opener.closed_here_rate() > 0.0);
    let owner = closer.or(openers.first()).map(|opener| &opener.owner).or_else(|| top.owners.first());
    let of_top = top.states[State::TimeWait];
    let summary = format!(
        "{} connections that came in wait in TIME_WAIT, {} of them at {}: {} MB of memory, no local port, and nothing fails",
        count(waiting),
        count(of_top),
        top.local,
        figure(waiting as f64 * BYTES as f64 / 1e6)
    );
    let closing = match closer {
        _ if second => {
            "while it was traced the peers closed first: what waits here is from before".to_owned()
        }
        Some(closer) => format!(
            "{} closes first, {} times a second: who closes first keeps the TIME_WAIT",
            who(&closer.owner),
            figure(closer.closed_here_rate())
        ),
        None if view.flows.is_some() => {
            "while it was traced none was closed here first: what waits here is from before".to_owned()
        }
        None => format!(
            "the service closes first, {} times a second on average: who closes first keeps the TIME_WAIT",
            figure(top.closed_here_per_second)
        ),
    };
    let leave = Step::new(
        "leave-it",
        "nothing has to be done; where the memory matters, let the clients close first: a longer keep-alive time, or an answer \
         that tells its own length",
        match closer {
            Some(closer) => format!(
                "if {} closed second, the TIME_WAIT of {} connections a second would be its clients': up to {} MB come free here",
                who(&closer.owner),
                figure(closer.closed_here_rate()),
                figure(of_top as f64 * BYTES as f64 / 1e6)
            ),
            None => format!("each connection that the client closes first is {BYTES} bytes less, here"),
        },
    )
    .risk("none");
    let mut ties = Ties::default();
    ties.states.add(State::TimeWait, waiting);
    Some(
        view.found(&KIND, Severity::Notice, top.local.clone(), summary)
            .evidence([closing])
            .evidence(opener::sentences(&openers))
            .owner(owner)
            .remedies([Some(leave)])
            .no_help([
                setting(
                    view,
                    "net.ipv4.ip_local_port_range",
                    "these connections hold no port of it: they came in",
                ),
                setting(view, "net.ipv4.tcp_tw_reuse", "it is for connect(); these came in"),
                setting(
                    view,
                    "net.ipv4.tcp_fin_timeout",
                    "it ends orphans in FIN_WAIT2; TIME_WAIT stays as long as it is",
                ),
                recycle(view),
            ])
            .ties(ties),
    )
}
