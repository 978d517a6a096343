//! What is chosen for the connections of the command, for as long as it runs.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tidewait_act::cgroup::Cgroup;
use tidewait_model::exec::Chosen;
use tidewait_model::steer::ports::Choice;
use tidewait_observe::places::{self, Scope};

use super::say;
use crate::cli::Exec;
use crate::commands::steer::session;
use crate::commands::steer::steered::{Plan, Steered};
use crate::exit::Usage;

/// What was asked for, checked and claimed in the network namespace that tidewait is in; `None` if nothing is to be chosen.
pub fn plan(options: &Exec) -> Result<Option<Plan>> {
    if !options.steer && options.spread.is_empty() {
        return Ok(None);
    }
    session::may_steer(options.steer)?;
    let scope = Scope::One(std::process::id().to_string());
    let place = places::find(Path::new("/"), &scope)?.places.into_iter().next();
    let place = place.context("the network namespace is not found")?;
    let choice = options.range.clone().unwrap_or(Choice::Own);
    let choice = options.steer.then_some(&choice);
    let plan = Plan::make(place, choice, options.reuse_after, &options.spread).map_err(by_its_name)?;
    Ok(Some(plan))
}

/// Begins with it in the cgroup.
pub fn begin(mut plan: Plan, cgroup: &Cgroup) -> Result<Steered> {
    let steering = plan.attach(cgroup.as_fd(), None)?;
    plan.warnings().iter().for_each(say);
    Ok(Steered::new(plan, steering))
}

/// What was chosen until now.
pub fn chosen(options: &Exec, steered: &Steered) -> Result<Chosen> {
    let claimed = steered.plan.claimed.as_ref();
    Ok(Chosen {
        ports: steered.ports(),
        ranges: claimed
            .map_or_else(Vec::new, |claimed| claimed.chosen.ranges.iter().map(ToString::to_string).collect()),
        reuse_after_seconds: steered.plan.reuse_after_seconds(),
        sources: options.spread.iter().map(ToString::to_string).collect(),
        sources_missing: steered.missing(),
        counts: steered.counts()?,
    })
}

/// The option is called otherwise than that of `steer` and `spread`.
fn by_its_name(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Usage>() {
        Ok(usage) => Usage(usage.0.replace("--sources", "--spread")).into(),
        Err(error) => error,
    }
}
