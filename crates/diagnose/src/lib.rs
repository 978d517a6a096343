//! Facts into findings: port accounting, forecast, verdicts. Takes values, cannot fail, has no clock.
//!
//! [`assess`] turns an observation into the report: [`accounting`] says how many ports each destination has and
//! uses, [`forecast`] how fast and how long that can go on, [`findings`] what is wrong and what helps.

pub mod accounting;
pub mod explain;
pub mod findings;
pub mod forecast;
mod kind;
mod namespace;
pub mod programs;
pub mod reap;
pub mod traced;
pub mod tune;

pub use kind::Kind;
use tidewait_model::Observation;
use tidewait_model::report::{Host, Namespace, Report, SCHEMA};

/// How the report is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many destinations and services of a namespace are listed; 0 lists all that were observed.
    pub top: usize,
    /// Whether the report says where the time went.
    pub timings: bool,
}

/// The report that an observation gives.
pub fn assess(observation: &Observation, options: &Options) -> Report {
    let mut namespaces: Vec<Namespace> =
        observation.namespaces.iter().map(|facts| namespace::describe(facts, &observation.kernel)).collect();
    let findings = findings::find(observation, &namespaces);
    if options.top > 0 {
        for namespace in &mut namespaces {
            namespace.destinations.truncate(options.top);
            namespace.incoming.truncate(options.top);
            namespace.listeners.truncate(options.top);
            let closed = &mut namespace.closed_here;
            closed.by_owner.truncate(options.top);
            for side in [&mut closed.outgoing, &mut closed.incoming].into_iter().flatten() {
                side.by_owner.truncate(options.top);
            }
            namespace.traced.iter_mut().for_each(|traced| traced.connections.truncate(options.top));
        }
    }
    let mut limits = observation.limits.clone();
    limits.extend(observation.namespaces.iter().flat_map(namespace::limits));
    Report {
        schema: SCHEMA.to_owned(),
        generated_at: observation.generated_at.clone(),
        host: Host { hostname: observation.hostname.clone(), kernel: observation.kernel.clone() },
        duration_seconds: observation.duration_seconds,
        limits,
        namespaces,
        processes: observation.machine.processes.clone(),
        findings,
        timings: if options.timings { observation.timings.clone() } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests;
