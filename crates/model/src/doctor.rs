//! What this kernel and these privileges allow: the wire form of `tidewait doctor`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of [`Checkup::schema`].
pub const SCHEMA: &str = "tidewait.doctor/1";

/// What `tidewait doctor --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.doctor/1")]
pub struct Checkup {
    /// Always `tidewait.doctor/1`.
    pub schema: String,
    /// Kernel release, as `uname -r` gives it.
    pub kernel: String,
    /// The user the probes ran as.
    pub user: String,
    /// Capabilities in effect that matter here, by name (`CAP_NET_ADMIN`).
    pub capabilities: Vec<String>,
    /// One line a capability of the machine.
    pub probes: Vec<Probe>,
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was done, and it worked.
    Works,
    /// The kernel cannot do it.
    Unsupported,
    /// The kernel may be able to, but these privileges do not suffice.
    NotPermitted,
    /// It could not be tried; the detail says why.
    Unknown,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// The kind of probe: `destroy-time-wait`, `bpf-tp-btf`, ...
    pub id: String,
    /// What was tried, in a few words.
    pub title: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen: the number, the error, the version.
    pub detail: String,
    /// What tidewait can do with it.
    pub enables: String,
    /// How to get it, where it does not work.
    pub remedy: Option<String>,
}
