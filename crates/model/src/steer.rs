//! What steering did: `tidewait steer`, `tidewait spread`, `tidewait exec`.

pub mod holders;
pub mod ports;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stream::{Opening, Reason};
pub use holders::Holder;

/// The schema of `tidewait steer --json` and `tidewait spread --json`.
///
/// Frozen: a key may be added, never renamed or given another unit. Each line is an object of its own.
pub const SCHEMA: &str = "tidewait.steer/1";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.steer/1")]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// The first line: what is done from now on. Again each time that the unit has come back, the process is in another control
    /// group, or the processes are in another network namespace.
    Begin(Begin),
    /// The control group of the unit is gone, by `systemctl restart` or stop: it is waited for.
    Away(Away),
    /// What was done until now, once a second.
    Progress(Progress),
    /// The last line, unless the process was killed or the reader went away.
    End(End),
}

/// What is done, for whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Begin {
    /// `tidewait.steer/1`, when and where.
    #[serde(flatten)]
    pub opening: Opening,
    /// The network namespace.
    pub namespace: String,
    /// For whom: a control group, a unit, a process, or all.
    pub target: String,
    /// Ports for each destination, and for each source of it; 0: the kernel chooses the port.
    pub ports: u32,
    /// The ranges that they are in, `LOW-HIGH`.
    pub ranges: Vec<String>,
    /// From which age on, in seconds, a TIME_WAIT may give its port; null: never.
    pub reuse_after_seconds: Option<f64>,
    /// Source addresses that are taken in turn; none: routing chooses.
    pub sources: Vec<String>,
    /// What to know of it.
    pub warnings: Vec<String>,
}

/// Nobody is there to be steered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Away {
    /// When that was seen, RFC 3339 in UTC.
    pub at: String,
    /// Who.
    pub target: String,
}

/// What was done until now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Ports that are given at present: without those that were reserved, or listened on, since the beginning.
    #[serde(default)]
    pub ports: u32,
    /// Source addresses that were asked for and are not there at present.
    #[serde(default)]
    pub sources_missing: Vec<String>,
    /// Since the beginning.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What was done in all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// When it ended, RFC 3339 in UTC.
    pub at: String,
    /// For how long it went on, in seconds.
    pub seconds: f64,
    /// Why it ended.
    pub reason: Reason,
    /// In all that time.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What became of connect(), for TCP sockets of those who are steered.
///
/// Each is counted once by its port, where ports are given: connects = steered + fell_back + unknown_source + left_with_port + left_apart; and
/// once by its source address, where addresses are given: connects = spread + left_with_source + left_to_routing + left_with_port + left_apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All of them.
    #[serde(default)]
    pub connects: u64,
    /// Got its local port here.
    pub steered: u64,
    /// Of those: it was not known yet which source address routing chooses, so that the port was held against every one.
    pub learning: u64,
    /// Of those: the port was that of a TIME_WAIT older than asked for, of a peer with timestamps.
    pub reused: u64,
    /// Got its source address here.
    pub spread: u64,
    /// No candidate was free: the kernel chose the port.
    pub fell_back: u64,
    /// The kernel chose the port, because it was not known yet which source address routing chooses, with too many or none to try
    /// them all; or not that connections go to this destination at all, where programs of others may change that.
    pub unknown_source: u64,
    /// Left alone: the program had bound a port.
    pub left_with_port: u64,
    /// Kept its source address: the program had bound one.
    pub left_with_source: u64,
    /// Its source address was left to routing: to this machine or to nowhere, or no address of its family is there to be given.
    #[serde(default)]
    pub left_to_routing: u64,
    /// Left alone: bound to a device, with a port range of its own, to a link-local address, or from IPv6 to IPv4.
    pub left_apart: u64,
    /// Ports that were looked at.
    pub candidates: u64,
    /// Of those: free by all that was seen, but bind() was refused, because somebody has bound it otherwise or listens.
    pub refused_by_bind: u64,
    /// How often a source address was refused by bind(), because it is not there any more.
    pub sources_gone: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.connects += other.connects;
        self.steered += other.steered;
        self.learning += other.learning;
        self.reused += other.reused;
        self.spread += other.spread;
        self.fell_back += other.fell_back;
        self.unknown_source += other.unknown_source;
        self.left_with_port += other.left_with_port;
        self.left_with_source += other.left_with_source;
        self.left_to_routing += other.left_to_routing;
        self.left_apart += other.left_apart;
        self.candidates += other.candidates;
        self.refused_by_bind += other.refused_by_bind;
        self.sources_gone += other.sources_gone;
    }
}
