//! What tracing showed, as the report tells it.

use tidewait_model::Endpoint;
use tidewait_model::report::{Connections, Traced};
use tidewait_model::trace::{self, Direction, Flow};

/// The traced part of a namespace.
pub(crate) fn describe(traced: &trace::Traced) -> Traced {
    let connections: Vec<Connections> = traced.flows.iter().map(|flow| row(flow, traced.seconds)).collect();
    Traced {
        seconds: traced.seconds,
        time_wait_born: traced.born,
        time_wait_attributed: traced.attributed,
        connections_total: connections.len() as u64,
        connections,
    }
}

/// One row of counts; `seconds`: for how long it was traced.
pub fn row(flow: &Flow, seconds: f64) -> Connections {
    let counts = &flow.counts;
    let here = |address| Endpoint { address, port: flow.port }.to_string();
    let incoming = flow.direction == Direction::Incoming;
    Connections {
        program: flow.program.clone(),
        direction: flow.direction,
        source: flow.local.filter(|_| !incoming).map(|address| address.to_string()),
        destination: flow.remote.map(|remote| remote.to_string()),
        local: flow.local.filter(|_| incoming).map(here),
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
