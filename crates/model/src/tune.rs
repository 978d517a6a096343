//! Changes of settings: the plan that is reviewed, the profiles it may come from, and what became of it.

mod entry;
mod plan;
mod profile;

pub use entry::{
    Applied, CHANGE_SCHEMA, Deadline, Entry, Held, Holding, KEPT_SCHEMA, KeptReport, NamespaceId, Now,
    STATUS_SCHEMA, Situation, State, Status, Told, Undoing, Was,
};
pub use plan::{Blocker, Capacity, Change, Edited, LeftOut, PLAN_SCHEMA, Plan, Reason};
pub use profile::{PROFILES, Profile, ProfileLine, Wanted, profile};

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A setting and a value for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// Full name, dots between the parts: `net.ipv4.tcp_tw_reuse`.
    pub setting: String,
    /// What is to be written.
    pub value: String,
}

impl Assignment {
    /// The setting called `name` with a value.
    pub fn new(name: impl Into<String>, value: impl fmt::Display) -> Assignment {
        Assignment { setting: name.into(), value: value.to_string() }
    }
}

/// As sysctl(8) takes it, quoted where a shell would part it.
impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Assignment { setting, value } = self;
        if value.is_empty() || value.contains(char::is_whitespace) {
            write!(f, "{setting}=\"{value}\"")
        } else {
            write!(f, "{setting}={value}")
        }
    }
}

/// A text that is no assignment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no NAME=VALUE, such as net.ipv4.tcp_tw_reuse=1")]
pub struct NoAssignment(String);

impl FromStr for Assignment {
    type Err = NoAssignment;

    /// Reads `NAME=VALUE` as sysctl(8) does: the name with dots or slashes, space around `=` allowed.
    fn from_str(text: &str) -> Result<Assignment, NoAssignment> {
        let (name, value) = text.split_once('=').ok_or_else(|| NoAssignment(text.to_owned()))?;
        let name = name.trim();
        let name = name.strip_prefix("/proc/sys/").unwrap_or(name).replace('/', ".");
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(NoAssignment(text.to_owned()));
        }
        Ok(Assignment { setting: name, value: spaced(value) })
    }
}

/// A value with one space between its parts and none around it: how values are compared and shown.
pub fn spaced(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_as_sysctl_reads_it_and_written_for_a_shell() {
        for text in [
            "net.ipv4.ip_local_port_range=10240 60999",
            "net/ipv4/ip_local_port_range = 10240\t60999",
            "/proc/sys/net/ipv4/ip_local_port_range=10240  60999 ",
        ] {
            let read: Assignment = text.parse().unwrap();
            assert_eq!(read, Assignment::new("net.ipv4.ip_local_port_range", "10240 60999"), "{text}");
            assert_eq!(read.to_string(), "net.ipv4.ip_local_port_range=\"10240 60999\"");
        }
        let empty: Assignment = "net.ipv4.ip_local_reserved_ports=".parse().unwrap();
        assert_eq!(empty.to_string(), "net.ipv4.ip_local_reserved_ports=\"\"");
        for text in ["net.ipv4.tcp_tw_reuse", "=1", "a b=1", ""] {
            assert!(text.parse::<Assignment>().is_err(), "{text}");
        }
    }
}
