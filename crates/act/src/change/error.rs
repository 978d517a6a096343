//! Why a change was not made, or not undone, in words that lead on.

use tidewait_model::tune::Undoing;

use crate::journal::JournalError;
use crate::transition::{Cause, Failed};

/// Why a change was not made, or not undone.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A setting is not what it was when the change was planned.
    #[error("{}; nothing was changed: make a new plan", list(.0))]
    Moved(Vec<Cause>),
    /// A setting is in the hands of a change that nobody has confirmed yet.
    #[error(
        "{setting} is part of change {number}, which waits to be confirmed: `tidewait tune confirm {number}` or `tidewait tune \
         rollback {number}` first; nothing was changed"
    )]
    Waiting {
        /// The setting.
        setting: String,
        /// The entry.
        number: u64,
    },
    /// Whoever was to undo it in time could not be started.
    #[error("nobody could be started to undo it in time: {0}; nothing was changed")]
    Unguarded(String),
    /// A setting could not be set, and all is as it was before.
    #[error("{0}; all settings are as they were before")]
    Failed(Cause),
    /// A setting could not be set, and others could not be brought back.
    #[error("{failed}; `tidewait tune rollback {number}` tries again")]
    Between {
        /// What failed.
        failed: Failed,
        /// The entry.
        number: u64,
    },
    /// All was set, could not be noted, and was brought back.
    #[error("{0}; so the settings were brought back to what they were before")]
    Unnoted(JournalError),
    /// Settings have been changed since.
    #[error(
        "{}; nothing was changed: --force restores what was before change {number} all the same",
        list(causes)
    )]
    Drifted {
        /// The settings.
        causes: Vec<Cause>,
        /// The entry.
        number: u64,
    },
    /// Another change came after it.
    #[error(
        "{setting} was changed again by change {later}: roll that back first, or give --force; nothing was changed"
    )]
    Covered {
        /// The setting.
        setting: String,
        /// The later entry.
        later: u64,
    },
    /// The kernel refuses its former value because of a later change.
    #[error(
        "{cause}, because of change {later}: roll that back first; change {number} is in force as it was"
    )]
    Bound {
        /// The entry.
        number: u64,
        /// The later entry.
        later: u64,
        /// What the kernel said.
        cause: Cause,
    },
    /// A setting could not be restored, and nothing was undone.
    #[error("{cause}; nothing was undone, change {number} is in force as it was")]
    NotUndone {
        /// What failed.
        cause: Cause,
        /// The entry.
        number: u64,
    },
    /// It was undone before.
    #[error("change {number} was undone at {at} {}: nothing is left of it", why.words())]
    Over {
        /// The entry.
        number: u64,
        /// When.
        at: String,
        /// Why.
        why: Undoing,
    },
    /// It was made before the machine was started anew.
    #[error(
        "change {number} was made before the machine was started anew, which ended it: what a file sets at boot is removed with \
         `tidewait tune unpersist`"
    )]
    Restarted {
        /// The entry.
        number: u64,
    },
    /// There is no such entry.
    #[error("there is no change {0}: `tidewait tune history` lists them")]
    Unknown(u64),
    /// It has been confirmed, or never had to be.
    #[error("change {number} {}", if *was { "is confirmed already" } else { "needs no confirmation: it stays until it is rolled back" })]
    NothingToConfirm {
        /// The entry.
        number: u64,
        /// Whether it was confirmed before.
        was: bool,
    },
    /// It was never finished.
    #[error(
        "change {0} was interrupted before all of it was written: `tidewait tune rollback {0}` restores what was before"
    )]
    Unfinished(u64),
}

fn list(causes: &[Cause]) -> String {
    causes.iter().map(Cause::to_string).collect::<Vec<_>>().join("; ")
}
