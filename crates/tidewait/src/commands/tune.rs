//! `tidewait tune`: settings planned, applied, confirmed, undone, kept across a restart.

#[cfg(feature = "act")]
mod apply;
#[cfg(feature = "act")]
mod guard;
#[cfg(feature = "act")]
mod keep;
#[cfg(feature = "act")]
pub mod notice;
mod plan;
#[cfg(feature = "act")]
mod proof;
pub mod scene;
#[cfg(feature = "act")]
mod status;
#[cfg(feature = "act")]
mod trial;
#[cfg(feature = "act")]
mod undo;

use crate::cli::{Tune, TuneErrand};

/// Runs the command.
pub fn run(options: &Tune) -> anyhow::Result<()> {
    match &options.errand {
        TuneErrand::Plan(options) => plan::run(options),
        #[cfg(feature = "act")]
        TuneErrand::Apply(options) => apply::run(options),
        #[cfg(feature = "act")]
        TuneErrand::Confirm { id, state } => undo::confirm(id.as_deref(), &state.path()),
        #[cfg(feature = "act")]
        TuneErrand::Rollback { id, force, state } => undo::rollback(id.as_deref(), *force, &state.path()),
        #[cfg(feature = "act")]
        TuneErrand::Status { format, state } => status::run(*format, &state.path(), false),
        #[cfg(feature = "act")]
        TuneErrand::History { format, state } => status::run(*format, &state.path(), true),
        #[cfg(feature = "act")]
        TuneErrand::Guard { number, pid, pid_namespace, netns, state } => {
            guard::run(*number, *pid, pid_namespace, netns.as_deref(), &state.path())
        }
        #[cfg(feature = "act")]
        TuneErrand::Persist(options) => keep::persist(options),
        #[cfg(feature = "act")]
        TuneErrand::Unpersist(options) => keep::unpersist(options),
        #[cfg(not(feature = "act"))]
        _ => anyhow::bail!(
            "this tidewait was built without the feature `act`: it only reads, and `tune plan` is all of `tune` that it has"
        ),
    }
}
