//! Who: owners of connections in a few words, and how they are known.

use tidewait_model::report::TracedSum;
use tidewait_model::{Owner, OwnerBasis, State, StateCounts};

use super::number;

/// One owner: `squid (squid.service, pid 812, user proxy)`.
pub fn name(owner: &Owner) -> String {
    let mut parts = Vec::new();
    parts.extend(owner.container.as_ref().map(|container| format!("container {container}")));
    parts.extend(owner.unit.clone());
    parts.extend(owner.pid.map(|pid| format!("pid {pid}")));
    parts.extend(owner.user.as_ref().map(|user| format!("user {user}")));
    let command = if owner.command.is_empty() { "unnamed process" } else { &owner.command };
    if parts.is_empty() { command.to_owned() } else { format!("{command} ({})", parts.join(", ")) }
}

/// The first owner in short: `squid (squid.service) 97 % +1`. Empty if there are none.
pub fn first(owners: &[Owner]) -> String {
    let Some(owner) = owners.first() else {
        return String::new();
    };
    let home = owner.container.as_ref().or(owner.unit.as_ref()).cloned();
    let home = home.or(owner.pid.map(|pid| format!("pid {pid}")));
    let mut text = owner.command.clone();
    if let Some(home) = home {
        text.push_str(&format!(" ({home})"));
    }
    if owner.share < 1.0 {
        text.push_str(&format!(" {}", number::percent(owner.share)));
    }
    if owners.len() > 1 {
        text.push_str(&format!(" +{}", number::count(owners.len() as u64 - 1)));
    }
    text
}

/// The first two owners with their shares, how many more there are, and how they are known:
/// `squid (pid 812) 97 %, curl (pid 9) 3 %, by live sockets`. Empty if there are none.
pub fn list(owners: &[Owner]) -> String {
    let mut parts: Vec<String> = owners
        .iter()
        .take(2)
        .map(|owner| match owners {
            [_] if owner.share >= 1.0 => name(owner),
            _ => format!("{} {}", name(owner), number::percent(owner.share)),
        })
        .collect();
    if owners.len() > 2 {
        parts.push(format!("{} more", number::count(owners.len() as u64 - 2)));
    }
    // Who listens is who serves; only an inference needs its ground beside it.
    if let Some(basis) = owners.first().map(|owner| owner.how)
        && basis != OwnerBasis::ListeningSocket
    {
        parts.push(if basis == OwnerBasis::Traced {
            basis.words().to_owned()
        } else {
            format!("by {}", basis.words())
        });
    }
    parts.join(", ")
}

/// The same of a destination or a service in these states. Traced owners are those of the sockets in TIME_WAIT that were
/// born meanwhile: how many those are is said, unless they are nearly all.
pub fn list_of(owners: &[Owner], states: &StateCounts, traced: Option<&TracedSum>) -> String {
    let text = list(owners);
    let waiting = states[State::TimeWait];
    let born = traced.map_or(waiting, |traced| traced.time_wait_born);
    // Where live connections hold most, the owners are theirs.
    let of_waiting = owners.first().is_some_and(|owner| owner.how == OwnerBasis::Traced)
        && waiting.saturating_mul(2) >= states.total()
        && born.saturating_mul(10) < waiting.saturating_mul(9);
    if !of_waiting {
        return text;
    }
    format!("{text}: {} of the {} in TIME_WAIT", number::count(born), number::count(waiting))
}

/// How an owner is known, as a sentence has it: `known by live sockets`, `traced`.
pub fn known(basis: OwnerBasis) -> String {
    match basis {
        OwnerBasis::Traced => basis.words().to_owned(),
        _ => format!("known by {}", basis.words()),
    }
}
