//! The counts of the kernel, as far as they pass the filter, the busiest first.

use std::cmp::Reverse;

use tidewait_diagnose::traced;
use tidewait_model::trace::line::Counted;
use tidewait_observe::trace::Picture;

use super::filter::Filter;
use super::names::Namespaces;

/// The rows of the summary. `seconds`: for how long it was counted.
pub fn rows(picture: &Picture, filter: &Filter, namespaces: &mut Namespaces, seconds: f64) -> Vec<Counted> {
    let mut flows: Vec<_> = picture.flows.iter().filter(|(netns, flow)| filter.keeps(*netns, flow)).collect();
    flows.sort_by_cached_key(|(netns, flow)| {
        let counts = &flow.counts;
        let busy = counts.connects.max(counts.closed()) + counts.accepts + counts.no_port;
        (Reverse(busy), *netns, flow.program.clone(), flow.direction, flow.local, flow.port, flow.remote)
    });
    flows
        .into_iter()
        .map(|(netns, flow)| Counted {
            namespace: namespaces.name(*netns).text.clone(),
            connections: traced::row(flow, seconds),
        })
        .collect()
}
