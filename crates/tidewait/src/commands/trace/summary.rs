//! The counts of the kernel, as far as they pass the filter: processes alike made one, the busiest first.

use std::cmp::Reverse;

use tidewait_diagnose::traced;
use tidewait_model::trace::Flow;
use tidewait_model::trace::line::Counted;
use tidewait_observe::trace::Picture;
use tidewait_observe::trace::picture::together;

use super::filter::Filter;
use super::names::Namespaces;

/// The rows of the summary. `seconds`: for how long it was counted.
pub fn rows(picture: Picture, filter: &Filter, namespaces: &mut Namespaces, seconds: f64) -> Vec<Counted> {
    let passing = picture.flows.into_iter().filter(|(netns, flow)| filter.keeps(*netns, flow));
    let mut rows = together(passing.map(|(netns, flow)| {
        let Flow { program, direction, local, port, remote, counts } = flow;
        ((netns, direction, local, port, remote), program, counts)
    }));
    rows.sort_by_cached_key(|(place, program, counts)| {
        let opened = counts.connects + counts.accepts;
        (Reverse((opened.max(counts.closed()), counts.no_port)), *place, program.clone())
    });
    rows.into_iter()
        .map(|((netns, direction, local, port, remote), program, counts)| Counted {
            namespace: namespaces.name(netns).text.clone(),
            connections: traced::row(&Flow { program, direction, local, port, remote, counts }, seconds),
        })
        .collect()
}
