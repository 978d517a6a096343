//! What the contracts have in common that are a line a moment: how the first line begins, and why the last one came.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::Host;

/// How the first line begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opening {
    /// The name of this contract, with its version.
    pub schema: String,
    /// When it began, RFC 3339 in UTC.
    pub at: String,
    /// The machine.
    pub host: Host,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// One look was asked for.
    Once,
    /// The time that was asked for is over.
    Time,
    /// A signal, such as Ctrl-C.
    Signal,
    /// What it was about is no more: the process or the network namespace has ended, or the control group was removed.
    TargetGone,
    /// It could not go on; the error is told by itself.
    Failed,
}
