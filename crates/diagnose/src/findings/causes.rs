//! Which finding is the cause of which: a table of rules, and the merging that follows from it.
//!
//! A finding that has its cause among the others is told as a consequence of it, so that one fault is one finding.
//! A rule needs more than two names: the same process, the same endpoint, or sockets that make up at least half of
//! what is short.

use tidewait_model::report::{Consequence, Finding, Severity};
use tidewait_model::{Owner, State};

use super::view::Found;
use super::words::{count, percent};

/// If both are found and `tie` finds what they have in common, the first is the cause of the second.
struct Rule {
    cause: &'static [&'static str],
    effect: &'static [&'static str],
    /// A sentence that says how they hang together; `None` if they do not.
    tie: fn(&Found, &Found) -> Option<String>,
}

/// The first rule that fits decides. A cause stands in the table before what follows from it, so that there are
/// no circles.
const RULES: &[Rule] = &[
    Rule {
        cause: &["accept-queue-overflow"],
        effect: &["close-wait-leak"],
        tie: |cause, effect| {
            (effect.ties.unheld && same_endpoint(cause, effect)).then(|| {
                "connections that their clients have closed again wait in the same accept queue".to_owned()
            })
        },
    },
    Rule {
        cause: &["close-wait-leak"],
        effect: &["fin-wait2-stuck"],
        tie: |cause, effect| {
            let held = cause.ties.states[State::CloseWait];
            let alike = effect.ties.states[State::FinWait2] <= held.saturating_mul(2);
            (held > 0 && alike && same_endpoint(cause, effect)).then(|| {
                "the other ends of connections to the same service are on this machine too, and wait in FIN_WAIT2".to_owned()
            })
        },
    },
    Rule {
        cause: &["close-wait-leak", "fin-wait2-stuck", "fin-wait1-stuck", "syn-sent-pileup"],
        effect: &["fd-limit-near"],
        tie: descriptors,
    },
    Rule {
        cause: &["fd-limit-near"],
        effect: &["accept-queue-overflow"],
        tie: |cause, effect| {
            (same_process(cause, effect) && cause.finding.severity == Severity::Critical).then(|| {
                "the same process does not accept connections: accept() fails with EMFILE while it has no descriptor \
                 left"
                    .to_owned()
            })
        },
    },
    Rule {
        cause: &[
            "close-wait-leak",
            "fin-wait2-stuck",
            "fin-wait1-stuck",
            "last-ack-stuck",
            "syn-sent-pileup",
        ],
        effect: &["ports-exhausted", "ports-running-out", "bind-pool-exhausted", "port-search-cliff"],
        tie: ports,
    },
    Rule {
        cause: &["conntrack-full"],
        effect: &["syn-sent-pileup"],
        tie: |cause, effect| {
            let on_the_way =
                cause.finding.namespace == effect.finding.namespace || cause.finding.namespace == "host";
            (on_the_way && cause.finding.severity == Severity::Critical).then(|| {
                "connections hang in SYN_SENT at the same time, as they do when connection tracking drops their SYN \
                 (inferred)"
                    .to_owned()
            })
        },
    },
    Rule {
        cause: &["accept-queue-overflow"],
        effect: &["syn-sent-pileup"],
        tie: |cause, effect| {
            same_endpoint(cause, effect)
                .then(|| "clients on this machine hang in SYN_SENT: their SYN is dropped".to_owned())
        },
    },
    Rule {
        cause: &["orphans-near-limit"],
        effect: &["fin-wait1-stuck", "last-ack-stuck"],
        tie: |_, effect| {
            effect.ties.unheld.then(|| format!("{} of the orphans", count(effect.ties.states.total())))
        },
    },
    Rule {
        cause: &["time-wait-overflow"],
        effect: &["time-wait-incoming"],
        tie: |cause, effect| {
            (cause.finding.namespace == effect.finding.namespace)
                .then(|| "connections that came in make up part of them".to_owned())
        },
    },
];

/// Whether both are about one process; where it is one of several that look alike, about one program.
fn same_process(a: &Found, b: &Found) -> bool {
    let same = |a: &Owner, b: &Owner| match (a.pid, b.pid) {
        (Some(a), Some(b)) => a == b,
        _ => (&a.command, &a.unit, &a.container) == (&b.command, &b.unit, &b.container),
    };
    a.ties.owners.iter().any(|one| b.ties.owners.iter().any(|other| same(one, other)))
}

fn same_endpoint(a: &Found, b: &Found) -> bool {
    a.ties.endpoints.iter().any(|endpoint| b.ties.endpoints.contains(endpoint))
}

/// The sockets of the cause are at least half of the descriptors that the process has.
fn descriptors(cause: &Found, effect: &Found) -> Option<String> {
    let sockets = cause.ties.states.total();
    let most =
        !cause.ties.unheld && same_process(cause, effect) && sockets.saturating_mul(2) >= effect.ties.used;
    most.then(|| format!("they are {} of the descriptors of the process", percent(sockets, effect.ties.used)))
}

/// The sockets in the state of the cause hold at least half of the ports.
fn ports(cause: &Found, effect: &Found) -> Option<String> {
    let (state, _) = cause.ties.states.iter().find(|(_, sockets)| *sockets > 0)?;
    let held = effect.ties.states[state];
    let same = cause.finding.namespace == effect.finding.namespace && state != State::TimeWait;
    (same && held > 0 && held.saturating_mul(2) >= effect.ties.used).then(|| {
        format!(
            "{} sockets in {} hold {} of the local ports in use for {}",
            count(held),
            state.title(),
            percent(held, effect.ties.used.max(held)),
            effect.finding.subject
        )
    })
}

/// Folds every finding that has its cause among the others into that cause, the nearest consequences first. None is
/// lost.
pub(super) fn merge(found: Vec<Found>) -> Vec<Found> {
    let causes: Vec<Option<(usize, String)>> = (0..found.len()).map(|at| cause_of(&found, at)).collect();
    let mut effects: Vec<(usize, usize, usize)> =
        (0..found.len()).filter_map(|at| root(&causes, at).map(|(steps, root)| (steps, at, root))).collect();
    effects.sort_unstable();
    let mut kept: Vec<Option<Found>> = found.into_iter().map(Some).collect();
    for (_, at, root) in effects {
        let Some(effect) = kept[at].take() else { continue };
        let because = causes[at].as_ref().map(|(_, because)| because.as_str()).unwrap_or_default();
        if let Some(leader) = kept[root].as_mut() {
            absorb(&mut leader.finding, effect.finding, because);
        }
    }
    kept.into_iter().flatten().collect()
}

/// The finding that `found[at]` follows from, and how.
fn cause_of(found: &[Found], at: usize) -> Option<(usize, String)> {
    let effect = &found[at];
    RULES.iter().filter(|rule| rule.effect.contains(&effect.finding.id.as_str())).find_map(|rule| {
        found.iter().enumerate().filter(|(other, _)| *other != at).find_map(|(other, cause)| {
            let named = rule.cause.contains(&cause.finding.id.as_str());
            named.then(|| (rule.tie)(cause, effect)).flatten().map(|because| (other, because))
        })
    })
}

/// Where the chain of causes from `at` begins, and how many steps away; `None` if `at` has no cause. A circle is nobody's
/// consequence.
fn root(causes: &[Option<(usize, String)>], at: usize) -> Option<(usize, usize)> {
    let mut root = causes[at].as_ref()?.0;
    for steps in 1..=causes.len() {
        match &causes[root] {
            Some((next, _)) => root = *next,
            None => return Some((steps, root)),
        }
    }
    None
}

/// Tells `effect` as a consequence of `leader`.
pub(super) fn absorb(leader: &mut Finding, effect: Finding, because: &str) {
    leader.severity = leader.severity.min(effect.severity);
    if !because.is_empty() {
        leader.evidence.push(because.to_owned());
    }
    let subject = if effect.namespace == leader.namespace {
        effect.subject
    } else {
        format!("{}: {}", effect.namespace, effect.subject)
    };
    leader.consequences.push(Consequence { id: effect.id, subject, summary: effect.summary });
    leader.consequences.extend(effect.consequences);
}
