//! What a change brings, measured in private namespaces before it is made.

use anyhow::{Context as _, Result, bail};
use tidewait_lab::settings::{Case, Pool, prove};
use tidewait_model::experiment::{Measured, Proof, Verdict};
use tidewait_model::report;
use tidewait_model::tune::Plan;

use super::scene::{Scene, is_own};

/// Measures what the plan does with the settings of the scene: connections until one is refused and connections a second when every
/// port is in TIME_WAIT, with ports chosen as those of the connections that the plan is about.
///
/// # Errors
/// Where it cannot be measured here; `--prove` asks for it, so that nothing is changed then.
pub fn of(scene: &Scene, plan: &Plan) -> Result<Proof> {
    let settings_before = scene.own_settings();
    let changes: Vec<(&str, &str)> = plan
        .changes
        .iter()
        .filter(|change| is_own(&change.setting))
        .map(|change| (change.setting.as_str(), change.wanted.as_str()))
        .collect();
    if changes.is_empty() {
        bail!(
            "nothing of this plan can be measured in a network namespace of its own: leave --prove out; nothing was changed"
        );
    }
    let pool = match scene.pool(plan) {
        Some(report::Pool::Bind) => Pool::Bind,
        Some(report::Pool::Unknown) => Pool::Both,
        Some(report::Pool::Connect) | None => Pool::Connect,
    };
    anstream::eprintln!("tidewait: measuring in private namespaces, ten seconds or so");
    prove(&Case { settings_before: &settings_before, changes: &changes, pool })
        .context("the change cannot be proved here, and nothing was changed: leave --prove out")
}

/// Whether the measurement bears out what the plan promises.
///
/// # Errors
/// Where the plan promises more connections and none were measured.
pub fn bears_out(proof: &Proof, plan: &Plan) -> Result<()> {
    let promised =
        plan.capacity.is_some_and(|capacity| capacity.after_per_second > capacity.before_per_second);
    let more = |measured: &Measured| {
        measured.after.value > measured.before.value * 1.1 || measured.verdict == Verdict::Helps
    };
    let helps = proof.measured.iter().any(more);
    if promised && !helps {
        bail!(
            "the measurement does not bear the plan out; nothing was changed: --force applies it all the same"
        );
    }
    Ok(())
}
