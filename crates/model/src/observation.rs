//! What was observed, before anything is concluded from it: the input of the diagnosis.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::census::Census;
use crate::lingering::Lingering;
use crate::machine::Machine;
use crate::ports::{PortRange, PortSet};
use crate::steer::Holder;
use crate::trace::Traced;

/// Everything one run of the observer saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Wall-clock time of the observation, RFC 3339 in UTC.
    pub generated_at: String,
    /// The machine's host name.
    pub hostname: String,
    /// The kernel's release, as `uname -r` gives it.
    pub kernel: String,
    /// How long observing took, in seconds.
    pub duration_seconds: f64,
    /// The namespaces that were looked into, in the order found, the host first.
    pub namespaces: Vec<NamespaceFacts>,
    /// What belongs to the whole machine.
    pub machine: Machine,
    /// What could not be seen.
    pub limits: Vec<Limit>,
    /// Where the time went.
    pub timings: Vec<Timing>,
}

/// What is known of one network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceFacts {
    /// `host`, a name under /run/netns, or the container, unit or leading process that lives in it.
    pub name: String,
    /// Inode number of the namespace, as in `net:[4026531840]`.
    pub inode: u64,
    /// Settings as read inside the namespace.
    pub settings: Settings,
    /// The ports that `tidewait steer` gives for connect() here at present, and which process it is.
    pub steered: Vec<Holder>,
    /// Counters of the namespace: `TcpExt.TW`, `Tcp.ActiveOpens`, `sockstat.TCP.tw`.
    pub counters: BTreeMap<String, i64>,
    /// How much the counters grew while they were watched; `None` where they were read once only.
    pub growth: Option<Growth>,
    /// Its sockets.
    pub census: Census,
    /// Its sockets in states that ought to pass, by state and holder, most first. Looked for only where the census has
    /// so many that somebody will ask.
    pub lingering: Vec<Lingering>,
    /// Whether this is the namespace that the configuration files of /etc/sysctl.d are applied to at boot: that of
    /// process 1.
    pub configured: bool,
    /// What tracing showed; `None` where it was not traced.
    pub traced: Option<Traced>,
}

/// How much counters grew while they were watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Growth {
    /// For how long, in seconds.
    pub seconds: f64,
    /// The counters that grew, by how much.
    pub counters: BTreeMap<String, i64>,
}

/// Sysctl values by full name (`net.ipv4.tcp_tw_reuse`), as read in one namespace. A name that the kernel
/// does not have, or that could not be read, is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, String>);

impl Settings {
    /// The text of a setting.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A setting that is one whole number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.trim().parse().ok()
    }

    /// `net.ipv4.ip_local_port_range`: the ports that connect() and bind(port 0) choose from.
    pub fn port_range(&self) -> Option<PortRange> {
        PortRange::parse(self.text("net.ipv4.ip_local_port_range")?)
    }

    /// `net.ipv4.ip_local_reserved_ports`: ports that the automatic choice leaves out.
    pub fn reserved(&self) -> PortSet {
        self.text("net.ipv4.ip_local_reserved_ports").map(PortSet::parse_list).unwrap_or_default().0
    }

    /// Seconds a socket stays in TIME_WAIT: 60 in mainline (`TCP_TIMEWAIT_LEN`, include/net/tcp.h), or what a
    /// vendor kernel's `net.ipv4.tcp_tw_timeout` says.
    pub fn time_wait_seconds(&self) -> u32 {
        self.number("net.ipv4.tcp_tw_timeout")
            .and_then(|seconds| u32::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .unwrap_or(TIME_WAIT_SECONDS)
    }
}

/// `TCP_TIMEWAIT_LEN` of every mainline kernel (include/net/tcp.h, 2.6 to 7.1), in seconds.
pub const TIME_WAIT_SECONDS: u32 = 60;

/// Something that could not be seen, why, and how to see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// What is missing from the report.
    pub what: String,
    /// Why it could not be seen: the missing capability, the kernel, the error.
    pub why: String,
    /// What would lift the limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// What the gap may hide.
    #[serde(default)]
    pub hides: Hides,
}

/// What may be hidden by a [`Limit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hides {
    /// Trouble: a report without findings is good for what was seen only.
    #[default]
    Trouble,
    /// Details of what is told, such as who it is.
    Detail,
}

impl Limit {
    /// A limit without a known remedy.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Limit {
        Limit { what: what.into(), why: why.into(), remedy: None, hides: Hides::Trouble }
    }

    /// The same limit, where it hides no trouble but only details of it.
    #[must_use]
    pub fn of_detail(mut self) -> Limit {
        self.hides = Hides::Detail;
        self
    }

    /// The same limit with its remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Limit {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What one step of the observation cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// The step: `sockets`, `owners`, `namespaces`, ...
    pub step: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// What was handled: sockets, file descriptors, namespaces.
    pub items: u64,
}

/// Who holds sockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// The command name, as in /proc/PID/comm.
    pub command: String,
    /// The process, where it is one process.
    pub pid: Option<u32>,
    /// The systemd unit, where there is one.
    pub unit: Option<String>,
    /// The container, by its short id or its name.
    pub container: Option<String>,
    /// The user name, or the number where it has no name.
    pub user: Option<String>,
    /// Share of the sockets looked at that are this owner's, 0 to 1.
    pub share: f64,
    /// How the owner is known.
    pub how: OwnerBasis,
}

/// How an owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OwnerBasis {
    /// Recorded while the connection lived.
    #[serde(rename = "traced")]
    Traced,
    /// Inferred: holds live sockets to the same destination now.
    #[serde(rename = "live sockets")]
    LiveSockets,
    /// Inferred from a sample of the live sockets, because there were very many.
    #[serde(rename = "live sockets, sampled")]
    LiveSocketsSampled,
    /// Holds the listening socket.
    #[serde(rename = "listening socket")]
    ListeningSocket,
    /// Has the sockets among its open files.
    #[serde(rename = "open files")]
    OpenFiles,
}

impl OwnerBasis {
    /// The words used in JSON and on the page.
    pub fn words(self) -> &'static str {
        match self {
            OwnerBasis::Traced => "traced",
            OwnerBasis::LiveSockets => "live sockets",
            OwnerBasis::LiveSocketsSampled => "live sockets, sampled",
            OwnerBasis::ListeningSocket => "listening socket",
            OwnerBasis::OpenFiles => "open files",
        }
    }
}
