//! Flows by where they go, so that a row of the report finds its own without looking at all.

use std::collections::HashMap;

use tidewait_model::Endpoint;
use tidewait_model::address::Address;
use tidewait_model::trace::{Counts, Direction, Flow, Program, Traced};

/// What was traced of one namespace, by destination, source and service.
pub(crate) struct Flows<'a> {
    /// For how long it was traced, in seconds; never 0.
    pub(crate) seconds: f64,
    outgoing: HashMap<(String, String), Vec<&'a Flow>>,
    sources: HashMap<String, Vec<&'a Flow>>,
    chosen: HashMap<String, Counts>,
    binds: HashMap<String, Vec<&'a Flow>>,
    incoming: HashMap<u16, Vec<&'a Flow>>,
}

impl<'a> Flows<'a> {
    /// The flows of `traced`; `None` where it was not traced.
    pub(crate) fn of(traced: Option<&'a Traced>) -> Option<Flows<'a>> {
        let traced = traced?;
        let mut flows = Flows {
            seconds: if traced.seconds > 0.0 { traced.seconds } else { f64::EPSILON },
            outgoing: HashMap::new(),
            sources: HashMap::new(),
            chosen: HashMap::new(),
            binds: HashMap::new(),
            incoming: HashMap::new(),
        };
        traced.flows.iter().for_each(|flow| flows.add(flow));
        Some(flows)
    }

    fn add(&mut self, flow: &'a Flow) {
        let source = source(flow);
        match flow.direction {
            Direction::Outgoing => {
                let to = flow.remote.map_or_else(String::new, |remote| remote.to_string());
                self.chosen.entry(source.clone()).or_default().merge(&flow.counts);
                self.sources.entry(source.clone()).or_default().push(flow);
                self.outgoing.entry((source, to)).or_default().push(flow);
            }
            Direction::Incoming => self.incoming.entry(flow.port).or_default().push(flow),
            // One that asked for a port of its own found it taken: no want of ports.
            Direction::Bind if flow.port == 0 => self.binds.entry(source).or_default().push(flow),
            Direction::Bind => {}
        }
    }

    /// Outgoing connections from `source` to `destination`, both as the report has them; `*` is any destination.
    pub(crate) fn to(&self, source: &str, destination: &str) -> &[&'a Flow] {
        let found = match destination {
            "*" => self.sources.get(source),
            _ => self.outgoing.get(&(source.to_owned(), destination.to_owned())),
        };
        found.map_or(&[], Vec::as_slice)
    }

    /// The counts of all outgoing connections from `source`.
    pub(crate) fn from(&self, source: &str) -> Counts {
        self.chosen.get(source).copied().unwrap_or_default()
    }

    /// bind(`source`, port 0) that found no port.
    pub(crate) fn binds(&self, source: &str) -> &[&'a Flow] {
        self.binds.get(source).map_or(&[], Vec::as_slice)
    }

    /// Connections that came in to the service at `local`.
    pub(crate) fn into(&self, local: Endpoint) -> Vec<&'a Flow> {
        let here = |address: Address| local.address.is_unspecified() || address == local.address;
        let flows = self.incoming.get(&local.port).into_iter().flatten();
        flows.copied().filter(|flow| flow.local.is_none_or(here)).collect()
    }

    /// Source, destination and flows of the connect() calls that found no port.
    pub(crate) fn refused(&self) -> Vec<(&str, &str, Vec<&'a Flow>)> {
        let lacking = |flows: &[&'a Flow]| {
            flows.iter().copied().filter(|flow| flow.counts.no_port > 0).collect::<Vec<&Flow>>()
        };
        let all =
            self.outgoing.iter().map(|((source, to), flows)| (source.as_str(), to.as_str(), lacking(flows)));
        let mut refused: Vec<_> = all.filter(|(_, _, flows)| !flows.is_empty()).collect();
        refused.sort_by(|a, b| (sum(&b.2).no_port, a.0, a.1).cmp(&(sum(&a.2).no_port, b.0, b.1)));
        refused
    }

    /// Source and flows of the bind() calls that found no port.
    pub(crate) fn refused_binds(&self) -> Vec<(&str, Vec<&'a Flow>)> {
        let all = self.binds.iter().map(|(source, flows)| (source.as_str(), flows.clone()));
        let mut refused: Vec<_> = all.filter(|(_, flows)| sum(flows).no_port > 0).collect();
        refused.sort_by(|a, b| (sum(&b.1).no_port, a.0).cmp(&(sum(&a.1).no_port, b.0)));
        refused
    }
}

/// The local address as the report has it; empty where it is not known.
fn source(flow: &Flow) -> String {
    flow.local.map_or_else(String::new, |address| address.to_string())
}

/// All counts together.
pub(crate) fn sum(flows: &[&Flow]) -> Counts {
    let mut all = Counts::default();
    flows.iter().for_each(|flow| all.merge(&flow.counts));
    all
}

/// The counts of each program, in the order in which they occur first.
pub(crate) fn by_program<'a>(flows: &[&'a Flow]) -> Vec<(Option<&'a Program>, Counts)> {
    let mut programs: Vec<(Option<&Program>, Counts)> = Vec::new();
    let mut known: HashMap<Option<&Program>, usize> = HashMap::new();
    for flow in flows {
        let program = flow.program.as_ref();
        let at = *known.entry(program).or_insert_with(|| {
            programs.push((program, Counts::default()));
            programs.len() - 1
        });
        if let Some((_, counts)) = programs.get_mut(at) {
            counts.merge(&flow.counts);
        }
    }
    programs
}
