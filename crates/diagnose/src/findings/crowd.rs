//! Many findings alike: the first few are told in full, the others as one line each under the first.

use super::causes::absorb;
use super::view::Found;
use super::words::{listed, things};

/// How many findings of one kind are told in full.
const FULL: usize = 3;
/// How many of the others are named in the evidence.
const NAMED: usize = 5;

/// Folds what is alike beyond the first few into the first of its kind. `found` is sorted, worst first.
pub(super) fn fold(found: Vec<Found>) -> Vec<Found> {
    let mut kept: Vec<Found> = Vec::new();
    let mut folded: Vec<(usize, Vec<String>)> = Vec::new();
    for next in found {
        let alike: Vec<usize> =
            (0..kept.len()).filter(|at| kept[*at].finding.id == next.finding.id).collect();
        let Some(first) = alike.first().copied().filter(|_| alike.len() >= FULL) else {
            kept.push(next);
            continue;
        };
        let leader = &mut kept[first].finding;
        absorb(leader, next.finding, "");
        let name = leader.consequences.last().map(|last| last.subject.clone()).unwrap_or_default();
        match folded.iter_mut().find(|(at, _)| *at == first) {
            Some((_, names)) => names.push(name),
            None => folded.push((first, vec![name])),
        }
    }
    for (at, names) in folded {
        let more = things(names.len() as u64, "more finding", "more findings");
        kept[at]
            .finding
            .evidence
            .push(format!("{more} of the same kind: {}", listed(&names, NAMED, names.len())));
    }
    kept
}
