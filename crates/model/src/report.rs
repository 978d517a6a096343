//! The report: the JSON contract `tidewait.report/1`, and the only thing the surfaces draw from.
//!
//! Frozen: a key may be added, never renamed or given another unit. Rates are per second, times are seconds,
//! shares are 0 to 1, addresses are text, IPv6 in brackets where a port follows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lingering::Lingering;
use crate::machine::Process;
use crate::observation::{Growth, Limit, Owner, Timing};
use crate::state::StateCounts;
use crate::trace::{Direction, Program};
use crate::tune::Assignment;

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "tidewait.report/1";

/// What `tidewait report --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.report/1")]
pub struct Report {
    /// Always `tidewait.report/1`.
    pub schema: String,
    /// When it was observed, RFC 3339 in UTC.
    pub generated_at: String,
    /// The machine.
    pub host: Host,
    /// How long observing took, in seconds.
    pub duration_seconds: f64,
    /// What could not be seen, and why.
    pub limits: Vec<Limit>,
    /// The network namespaces that were looked into, the host first.
    pub namespaces: Vec<Namespace>,
    /// Processes that come near their limit of open files, or hold sockets without a connection.
    #[serde(default)]
    pub processes: Vec<Process>,
    /// What is wrong or about to be, worst first.
    pub findings: Vec<Finding>,
    /// Where the time went; only with `--timings`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub timings: Vec<Timing>,
}

/// The machine that was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its host name.
    pub hostname: String,
    /// Its kernel release.
    pub kernel: String,
}

/// One network namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Namespace {
    /// `host`, a name under /run/netns, or the container, unit or leading process that lives in it.
    pub name: String,
    /// Inode number of the namespace.
    pub inode: u64,
    /// Sysctl name to value, as read in that namespace.
    pub settings: BTreeMap<String, String>,
    /// The ports that connect() and bind(port 0) choose from; null where the settings could not be read.
    pub ports: Option<Ports>,
    /// The ports that `tidewait steer` gives for connect() here, beside or instead of those; empty where nobody steers.
    #[serde(default)]
    pub steered: Vec<Steered>,
    /// Seconds that a socket stays in TIME_WAIT here.
    pub time_wait_seconds: u32,
    /// Sockets by state.
    pub states: StateCounts,
    /// Outgoing connections by destination, most ports used first.
    pub destinations: Vec<Destination>,
    /// How many destinations there are, listed or not (at least).
    pub destinations_total: u64,
    /// Incoming connections by service. Their TIME_WAIT sockets cost memory, no ports.
    pub incoming: Vec<Incoming>,
    /// Listening sockets, those with the fullest accept queues first.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Sockets in states that ought to pass, by state and holder; empty where there are few.
    #[serde(default)]
    pub lingering: Vec<Lingering>,
    /// Who closes first and so keeps the TIME_WAIT.
    pub closed_here: ClosedHere,
    /// Counters that bear on this: `TcpExt.TW`, `sockstat.TCP.tw`, ...
    pub counters: BTreeMap<String, i64>,
    /// How much the counters grew while they were watched; null where they were read once only.
    #[serde(default)]
    pub growth: Option<Growth>,
    /// What tracing showed; null where it was not traced.
    #[serde(default)]
    pub traced: Option<Traced>,
}

/// What tracing showed of one namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traced {
    /// For how long it was traced, in seconds.
    pub seconds: f64,
    /// Sockets in TIME_WAIT now that were born meanwhile.
    pub time_wait_born: u64,
    /// Of those, how many have a known owner.
    pub time_wait_attributed: u64,
    /// Connections by program and destination or service: those that found no port first, then most first.
    pub connections: Vec<Connections>,
    /// How many such rows there are, listed or not.
    pub connections_total: u64,
}

/// The connections of one program to one destination, or to one service of its own, while it was traced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Whose; null where nobody is known, as for connections that a thread of the kernel closed.
    pub program: Option<Program>,
    /// Which way they were opened.
    pub direction: Direction,
    /// Outgoing, and failed bind(): the local address; null where destinations were too many to be told apart.
    pub source: Option<String>,
    /// Outgoing: the remote address and port; null where they were too many to be told apart.
    pub destination: Option<String>,
    /// Incoming, and failed bind() that asked for a port of its own: the local address and port.
    pub local: Option<String>,
    /// connect() called.
    pub connects: u64,
    /// The same, per second.
    pub connects_per_second: f64,
    /// Of the connects, the local port had been chosen by bind(address, port 0).
    pub port_by_bind: u64,
    /// Of the connects, the program had asked bind() for this very local port.
    pub port_by_program: u64,
    /// Incoming connections established.
    pub accepts: u64,
    /// Closed here first; this side keeps the TIME_WAIT.
    pub closed_here: u64,
    /// Closed by the peer first; the TIME_WAIT sits there.
    pub closed_there: u64,
    /// Cut off from here by RST.
    pub aborted_here: u64,
    /// Cut off by the peer's RST, a time-out or SOCK_DESTROY.
    pub aborted_there: u64,
    /// Went on into TIME_WAIT.
    pub time_wait: u64,
    /// How long the connections that closed had lived on average, in seconds; null if no begin was seen.
    pub mean_lifetime_seconds: Option<f64>,
    /// Bytes sent on the connections that closed.
    pub bytes_sent: u64,
    /// Bytes received on the connections that closed.
    pub bytes_received: u64,
    /// connect() failed with EADDRNOTAVAIL, or bind() with EADDRINUSE, for want of a local port.
    pub no_port: u64,
    /// connect() failed with ECONNREFUSED.
    pub refused: u64,
    /// connect() failed with ETIMEDOUT.
    pub unanswered: u64,
    /// connect() failed otherwise, was given up by the program, or the program had asked for a port that is taken.
    pub failed: u64,
}

/// What listens at one endpoint, and its accept queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// The listening address and port.
    pub local: String,
    /// How many sockets listen there (SO_REUSEPORT), each with a queue of its own.
    pub sockets: u32,
    /// How many of them have a full accept queue.
    pub full: u32,
    /// Connections that wait to be accepted, in the fullest of the queues.
    pub queue: u32,
    /// How many may wait in it.
    pub limit: u32,
    /// How many of the sockets had a full queue again a moment later; null where none was full, or nobody looked again.
    #[serde(default)]
    pub still_full: Option<u32>,
    /// Who listens, where that was asked for and could be found.
    pub owners: Vec<Owner>,
}

/// The automatic port range of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ports {
    /// First port of net.ipv4.ip_local_port_range.
    pub low: u16,
    /// Last port of it.
    pub high: u16,
    /// Ports of the range that net.ipv4.ip_local_reserved_ports takes out.
    pub reserved: u32,
    /// Ports of the range that an explicit bind() or a listener holds, so that connect() skips them.
    pub bound: u32,
    /// What is left: range minus reserved minus bound.
    pub usable: u32,
}

/// Which of the two ways of choosing a local port filled a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// connect() chose: a port is taken for one source, destination address and destination port.
    Connect,
    /// bind() chose before connect(): a port is taken for the source address, whatever the destination.
    Bind,
    /// Could not be told.
    Unknown,
}

/// Which way the rate of new connections went over the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// The present rate is well above the minute's mean.
    Rising,
    /// It is near the mean.
    Steady,
    /// It is well below the mean.
    Falling,
}

/// Outgoing connections from one source address to one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    /// The local address.
    pub source: String,
    /// The remote address and port; `*` for all destinations of a source whose ports bind() chose.
    pub destination: String,
    /// Ports that may be used for it; null where the port range is not known.
    pub ports_usable: Option<u32>,
    /// Ports of those that it uses.
    pub ports_used: u32,
    /// Ports of those that are free; null where the port range is not known.
    pub ports_free: Option<u32>,
    /// Used divided by usable, 0 to 1; null where the port range is not known.
    pub fill: Option<f64>,
    /// Its ports that lie outside the automatic range: the program chose them, or `tidewait steer`.
    pub ports_outside_range: u32,
    /// Its ports that `tidewait steer` gives, inside the automatic range or outside.
    #[serde(default)]
    pub ports_steered: u32,
    /// Its sockets by state.
    pub states: StateCounts,
    /// Connects per second, mean over the last minute; where they began within it and go on, since then.
    pub rate_per_second: f64,
    /// Connects per second over the last seconds: what the forecast goes by. Where traced, those alone that keep a port, as
    /// `rate_how` says; `traced` has all of them.
    pub rate_now_per_second: f64,
    /// What the rates rest on, and what they may miss.
    pub rate_how: String,
    /// Which way the rate went.
    pub trend: Trend,
    /// Connections that closed here, per second of the last minute, oldest first; the last is the present.
    pub closed_per_second: Vec<u32>,
    /// Connects per second that the ports allow at the present TIME_WAIT and beside the connections that stay
    /// open; null where the port range is not known.
    pub limit_per_second: Option<f64>,
    /// Seconds until half the ports are used, where connect() becomes slow; 0 if that is so now; null when
    /// not in sight.
    pub seconds_to_half: Option<f64>,
    /// Seconds until no port is left; 0 if that is so now; null when not in sight.
    pub seconds_to_exhaustion: Option<f64>,
    /// Sockets in TIME_WAIT whose port connect() may take over already (net.ipv4.tcp_tw_reuse).
    pub reusable: u32,
    /// Which way of choosing a port filled it.
    pub pool: Pool,
    /// How the pool is known.
    pub pool_how: String,
    /// Who connects, where that was asked for and could be found.
    pub owners: Vec<Owner>,
    /// What tracing showed of it, all programs together; null where it was not traced, or no connection was seen.
    #[serde(default)]
    pub traced: Option<TracedSum>,
}

/// Ports that one process steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Steered {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
    /// The process, by its number in its own process namespace.
    pub pid: u32,
}

/// Connections that came in to one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incoming {
    /// The listening address and port, or the local one where nothing listens any more.
    pub local: String,
    /// Whether something listens there now.
    pub listening: bool,
    /// Its connections by state.
    pub states: StateCounts,
    /// Connections per second that closed here first, mean over the last minute.
    pub closed_here_per_second: f64,
    /// Who listens, where that was asked for and could be found.
    pub owners: Vec<Owner>,
    /// What tracing showed of it, all programs together; null where it was not traced, or no connection was seen.
    #[serde(default)]
    pub traced: Option<TracedSum>,
}

/// What tracing showed of one destination or service, all programs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TracedSum {
    /// Connections opened a second: connect() called, or accepted.
    pub opened_per_second: f64,
    /// Connections a second that closed here first, and so keep a TIME_WAIT here.
    pub closed_here_per_second: f64,
    /// Connections a second that the peer closed first.
    pub closed_there_per_second: f64,
    /// Closed here first, as a share of those that either side closed; those cut off by a reset are not in it. Null if
    /// none closed.
    pub closed_here_share: Option<f64>,
    /// How long connections lived on average, in seconds; null if none was seen from begin to end.
    pub mean_lifetime_seconds: Option<f64>,
    /// connect() calls, or for `*` bind() calls, that were refused for want of a local port.
    pub no_port: u64,
    /// connect() calls that the peer refused (ECONNREFUSED).
    pub refused: u64,
    /// connect() calls that got no answer (ETIMEDOUT).
    pub unanswered: u64,
    /// Of its sockets in TIME_WAIT, those from while it was traced: what the shares of traced owners are shares of.
    #[serde(default)]
    pub time_wait_born: u64,
    /// Of those, how many have an owner.
    #[serde(default)]
    pub time_wait_attributed: u64,
}

/// Who closes first and so keeps the TIME_WAIT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClosedHere {
    /// By owner, with the share of all connections that closed here first; empty unless traced.
    pub by_owner: Vec<Owner>,
    /// Outgoing connections: where this side closes first, TIME_WAIT holds a local port. Null unless traced.
    #[serde(default)]
    pub outgoing: Option<ClosedFirst>,
    /// Incoming connections: where this side closes first, TIME_WAIT costs memory and no port. Null unless traced.
    #[serde(default)]
    pub incoming: Option<ClosedFirst>,
}

/// Which side closed first, of the connections of one direction that closed while it was traced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClosedFirst {
    /// How many closed here first.
    pub here: u64,
    /// How many the peer closed first.
    pub there: u64,
    /// Those that closed here first by owner.
    pub by_owner: Vec<Owner>,
}

/// How bad a finding is, by its consequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Connections fail, or will within minutes.
    Critical,
    /// Connections are slow, or will fail if this goes on.
    Warning,
    /// Worth knowing; nothing fails.
    Notice,
}

/// Something that is wrong or about to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The kind of finding: `ports-exhausted`, ...
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// The namespace it is in, by name.
    pub namespace: String,
    /// What it is about: `10.0.0.5 -> 10.0.2.9:3306`.
    pub subject: String,
    /// One sentence for this case.
    pub summary: String,
    /// The numbers it rests on, a sentence each.
    pub evidence: Vec<String>,
    /// Who causes it, where known.
    pub owner: Option<Owner>,
    /// Since when, RFC 3339, where known.
    pub since: Option<String>,
    /// What to do, in the order that should be tried.
    pub remedies: Vec<Remedy>,
    /// Popular advice that does nothing here.
    pub no_help: Vec<NoHelp>,
    /// Findings that have the same cause, told here as evidence and not on their own.
    #[serde(default)]
    pub consequences: Vec<Consequence>,
}

/// A finding that is a consequence of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Consequence {
    /// The kind of finding.
    pub id: String,
    /// What it is about.
    pub subject: String,
    /// One sentence for this case.
    pub summary: String,
}

/// One thing to do about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remedy {
    /// 1 is to be tried first.
    pub rank: u32,
    /// The kind of remedy: `reuse-connections`, ...
    pub id: String,
    /// What to do.
    pub summary: String,
    /// The command that does it, where there is one.
    pub command: Option<String>,
    /// What it brings in this case, in ports or connections a second.
    pub effect: String,
    /// What it may cost.
    pub risk: String,
    /// The settings that it sets, in this order; what `tidewait tune plan` takes up.
    #[serde(default)]
    pub changes: Vec<Assignment>,
    /// What to write into the configuration of the program, where that is known.
    #[serde(default)]
    pub configuration: Vec<Configuration>,
}

/// Lines for the configuration or the source of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// The program: `nginx`, `HAProxy`, `Go net/http`.
    pub program: String,
    /// What the lines bring about, and where they go.
    pub about: String,
    /// The lines, as they are written.
    pub lines: Vec<String>,
    /// Where the program's own documentation says so.
    pub source: String,
}

/// Popular advice that does nothing in this case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoHelp {
    /// The setting or advice.
    pub setting: String,
    /// Why it does nothing here.
    pub why: String,
}
