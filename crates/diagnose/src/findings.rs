//! What is wrong or about to be: one file a finding, each with its check and its words.
//!
//! A check is given a `View` of one namespace and returns what it finds. What has its cause among the rest is then told
//! as its consequence (`causes`), and of many alike the first few are told in full (`crowd`).

mod causes;
mod closing;
mod crowd;
mod fd_limit_near;
mod leak;
mod opener;
mod opening;
mod ports;
mod remedy;
mod setup;
mod view;
pub(crate) mod words;

use tidewait_model::Observation;
use tidewait_model::report::{Finding, Namespace};

use crate::Kind;
use crate::traced::Flows;
use view::{Found, View};

/// Every kind of finding, those of local ports first.
pub const KINDS: &[&Kind] = &kinds();

const fn kinds() -> [&'static Kind; 18] {
    let [exhausted, running_out, bind, cliff] = ports::KINDS;
    let [close_wait, fin_wait2, fin_wait1, last_ack, orphans, overflow, incoming] = closing::KINDS;
    let [accept, conntrack, syn_sent] = opening::KINDS;
    let [listener, overridden, obsolete] = setup::KINDS;
    let descriptors = &fd_limit_near::KIND;
    [
        exhausted,
        running_out,
        bind,
        cliff,
        close_wait,
        accept,
        descriptors,
        syn_sent,
        conntrack,
        fin_wait2,
        fin_wait1,
        last_ack,
        orphans,
        overflow,
        incoming,
        listener,
        overridden,
        obsolete,
    ]
}

/// What is looked for in every namespace.
const CHECKS: [fn(&View<'_>) -> Vec<Found>; 4] = [ports::check, closing::check, opening::check, setup::check];

/// What is looked for once, seen from the first namespace.
const MACHINE_CHECKS: [fn(&View<'_>) -> Vec<Found>; 2] = [closing::check_machine, fd_limit_near::check];

/// The findings of an observation, worst first. `namespaces` are those of the observation, described.
pub(crate) fn find(observation: &Observation, namespaces: &[Namespace]) -> Vec<Finding> {
    let mut found = causes::merge(check(observation, namespaces));
    let place = |id: &str| KINDS.iter().position(|kind| kind.id == id);
    found.sort_by_key(|found| (found.finding.severity, place(&found.finding.id)));
    crowd::fold(found).into_iter().map(|found| found.finding).collect()
}

/// What every check finds, each for itself.
fn check(observation: &Observation, namespaces: &[Namespace]) -> Vec<Found> {
    let views: Vec<View<'_>> = observation
        .namespaces
        .iter()
        .zip(namespaces)
        .map(|(facts, namespace)| View {
            observation,
            facts,
            namespace,
            flows: Flows::of(facts.traced.as_ref()),
        })
        .collect();
    let in_each = views.iter().flat_map(|view| CHECKS.iter().flat_map(|check| check(view)));
    let in_all =
        views.first().into_iter().flat_map(|view| MACHINE_CHECKS.iter().flat_map(|check| check(view)));
    in_each.chain(in_all).collect()
}

/// Id and summary of what every check finds, before anything is merged.
#[cfg(test)]
pub(crate) fn apart(observation: &Observation, namespaces: &[Namespace]) -> Vec<(String, String)> {
    let found = check(observation, namespaces).into_iter();
    found.map(|found| (found.finding.id, found.finding.summary)).collect()
}
