//! What tracing showed, as the report tells it: rows of counts, sums, and who closes first.

mod flows;

use tidewait_model::report::{ClosedFirst, ClosedHere, Connections, Traced, TracedSum};
use tidewait_model::trace::{self, Births, Counts, Direction, Flow, Program};
use tidewait_model::{Endpoint, Owner, OwnerBasis};

pub(crate) use flows::{Flows, by_program, sum};

/// The traced part of a namespace.
pub(crate) fn describe(traced: &trace::Traced) -> Traced {
    let mut connections: Vec<Connections> =
        traced.flows.iter().map(|flow| row(flow, traced.seconds)).collect();
    // What found no port is why somebody looks, however few they are.
    connections.sort_by_key(|row| std::cmp::Reverse(row.no_port));
    Traced {
        seconds: traced.seconds,
        time_wait_born: traced.births.born,
        time_wait_attributed: traced.births.attributed,
        connections_total: connections.len() as u64,
        connections,
    }
}

/// One row of counts; `seconds`: for how long it was traced.
pub fn row(flow: &Flow, seconds: f64) -> Connections {
    let counts = &flow.counts;
    let here = |address| Endpoint { address, port: flow.port }.to_string();
    let incoming = flow.direction == Direction::Incoming;
    let at_port = incoming || (flow.direction == Direction::Bind && flow.port != 0);
    Connections {
        program: flow.program.clone(),
        direction: flow.direction,
        source: flow.local.filter(|_| !incoming).map(|address| address.to_string()),
        destination: flow.remote.map(|remote| remote.to_string()),
        local: flow.local.filter(|_| at_port).map(here),
        connects: counts.connects,
        connects_per_second: (counts.connects as f64 / seconds.max(f64::EPSILON) * 10.0).round() / 10.0,
        port_by_bind: counts.port_by_bind,
        port_by_program: counts.port_by_program,
        accepts: counts.accepts,
        closed_here: counts.closed_here,
        closed_there: counts.closed_there,
        aborted_here: counts.aborted_here,
        aborted_there: counts.aborted_there,
        time_wait: counts.time_wait,
        mean_lifetime_seconds: counts.mean_lifetime(),
        bytes_sent: counts.sent,
        bytes_received: counts.received,
        no_port: counts.no_port,
        refused: counts.refused,
        unanswered: counts.unanswered,
        failed: counts.failed,
    }
}

/// Who closes first, over all directions and for each.
pub(crate) fn closed_here(traced: &trace::Traced) -> ClosedHere {
    let one = |wanted: Direction| {
        let flows: Vec<&Flow> = traced.flows.iter().filter(|flow| flow.direction == wanted).collect();
        let counts = sum(&flows);
        Some(ClosedFirst { here: counts.closed_here, there: counts.closed_there, by_owner: closers(&flows) })
    };
    ClosedHere {
        by_owner: closers(&traced.flows.iter().collect::<Vec<_>>()),
        outgoing: one(Direction::Outgoing),
        incoming: one(Direction::Incoming),
    }
}

/// The programs that closed first, most first. What nobody is known for counts in the whole that shares are of.
fn closers(flows: &[&Flow]) -> Vec<Owner> {
    let all = sum(flows).closed_here;
    let mut programs = by_program(flows);
    programs.retain(|(_, counts)| counts.closed_here > 0);
    programs.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.closed_here));
    let share = |part: u64| (part as f64 / all.max(1) as f64 * 1e4).round() / 1e4;
    programs
        .into_iter()
        .filter_map(|(program, counts)| Some(owner(program?, share(counts.closed_here))))
        .collect()
}

/// A traced program as the owner of a share.
pub(crate) fn owner(program: &Program, share: f64) -> Owner {
    Owner {
        command: program.command.clone(),
        pid: program.pid,
        unit: program.unit.clone(),
        container: program.container.clone(),
        user: program.user.clone(),
        share,
        how: OwnerBasis::Traced,
    }
}

/// Connections that came about: connect() that found a port, and accepted ones.
pub(crate) fn opened(counts: &Counts) -> u64 {
    counts.connects.saturating_sub(counts.no_port).saturating_add(counts.accepts)
}

/// Closed here first, of those that either side closed.
pub(crate) fn closed_here_share(counts: &Counts) -> Option<f64> {
    let both = counts.closed_here as f64 + counts.closed_there as f64;
    (both > 0.0).then(|| counts.closed_here as f64 / both)
}

/// The flows of one destination or service in a few figures, with those of its TIME_WAIT that were born meanwhile; `None`
/// without any.
pub(crate) fn figures(flows: &[&Flow], births: Births, seconds: f64) -> Option<TracedSum> {
    let counts = sum(flows);
    let rate = |number: u64| (number as f64 / seconds.max(f64::EPSILON) * 10.0).round() / 10.0;
    (!flows.is_empty()).then(|| TracedSum {
        opened_per_second: rate(opened(&counts)),
        closed_here_per_second: rate(counts.closed_here),
        closed_there_per_second: rate(counts.closed_there),
        closed_here_share: closed_here_share(&counts).map(|share| (share * 1e4).round() / 1e4),
        mean_lifetime_seconds: counts.mean_lifetime(),
        no_port: counts.no_port,
        refused: counts.refused,
        unanswered: counts.unanswered,
        time_wait_born: births.born,
        time_wait_attributed: births.attributed,
    })
}
