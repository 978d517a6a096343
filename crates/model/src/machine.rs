//! What belongs to the whole machine rather than to a network namespace: processes and their files, settings on disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::observation::Owner;

/// What was seen of the machine as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Open files of the machine (`fs.file-nr`, first number); its limit is the setting `fs.file-max`.
    pub open_files: Option<u64>,
    /// Processes that come near a limit or hold sockets without a connection, most descriptors first.
    pub processes: Vec<Process>,
    /// What the configuration files set, in the order in which it is applied at boot; only settings of the catalogue.
    pub configured: Vec<Configured>,
    /// What /etc/sysctl.conf sets where nothing reads that file at boot.
    pub not_applied: Vec<Configured>,
    /// Which program applies the configuration files at boot, and how that is known.
    pub applied_by: Option<String>,
}

/// A process that matters, because it is near its limit of open files or holds sockets that go nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Who it is.
    pub owner: Owner,
    /// The network namespace it is in, by name, where that was looked into.
    pub namespace: Option<String>,
    /// Its open file descriptors.
    pub descriptors: u64,
    /// How many it may have (RLIMIT_NOFILE, soft); null where that could not be read.
    pub descriptor_limit: Option<u64>,
    /// How far it may raise that by itself (RLIMIT_NOFILE, hard).
    pub descriptor_limit_hard: Option<u64>,
    /// TCP sockets among its descriptors that have no connection any more and do not show in any socket table: their
    /// connection was reset, timed out or destroyed, or could not be made, and the program has not closed them. Those whose
    /// peer was heard within the last five seconds do not count: they may be about to be closed. Null where it was not
    /// looked for, where the process does not let its sockets be asked, and where there can be a few only.
    pub sockets_without_connection: Option<u64>,
    /// Seconds since it was started; null where that could not be read.
    #[serde(default)]
    pub running_seconds: Option<f64>,
}

/// One line of a configuration file that sets something of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Configured {
    /// The file, by its path.
    pub file: String,
    /// The line in it, the first is 1.
    pub line: u32,
    /// The setting, dots between the parts.
    pub setting: String,
    /// The value, as written.
    pub value: String,
}
