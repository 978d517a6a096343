//! What became of a command under `tidewait exec`, and of its connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reap;
use crate::steer::Counts;
use crate::stream::Opening;

/// The schema of what `tidewait exec --report FILE` writes.
///
/// Frozen: a key may be added, never renamed or given another unit.
pub const SCHEMA: &str = "tidewait.exec/1";

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.exec/1")]
pub struct Report {
    /// Which contract it is, and when the command began.
    #[serde(flatten)]
    pub opening: Opening,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// For how long it ran, in seconds; what it left in the background included.
    pub seconds: f64,
    /// Its exit code; null where a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it; null where none did.
    pub signal: Option<i32>,
    /// Whether the library of `--no-port` was loaded before it. What that did is not counted.
    pub no_port: bool,
    /// Its ports and source addresses; null where they were left to the kernel.
    pub steer: Option<Chosen>,
    /// What `--reap` did in the network namespace; null where it was not asked for, or did not tell.
    pub reap: Option<reap::Counters>,
    /// Why `--reap` ended before the command did; null where it did not.
    pub reap_trouble: Option<String>,
}

/// What was chosen for its connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// Ports that were given in the end, for each destination, and for each source of it; 0: the kernel chose the port.
    pub ports: u32,
    /// The ranges that they are in, `LOW-HIGH`.
    pub ranges: Vec<String>,
    /// From which age on, in seconds, a TIME_WAIT might give its port; null: never.
    pub reuse_after_seconds: Option<f64>,
    /// Source addresses that were taken in turn; none: routing chose.
    pub sources: Vec<String>,
    /// Those of them that were not there in the end.
    pub sources_missing: Vec<String>,
    /// What became of connect().
    #[serde(flatten)]
    pub counts: Counts,
}
