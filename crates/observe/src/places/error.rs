//! Why a network namespace could not be found or entered.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use thiserror::Error;
use tidewait_model::Limit;

use crate::procfs::why_denied;

/// How many known names an error lists.
const NAMES_SHOWN: usize = 8;

/// Why a network namespace could not be found or entered.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PlaceError {
    /// Nothing of that name.
    #[error("no network namespace is called '{name}': {}", known_names(.known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Every name that would do.
        known: Vec<String>,
    },
    /// No process of that number.
    #[error(
        "no process {pid}: it has ended, or never was; `ip netns list` shows names, `lsns -t net` processes; an inode \
         is written 'net:[INODE]'"
    )]
    NoProcess {
        /// The number that was asked for.
        pid: u32,
    },
    /// The host's namespace was asked for where it cannot be seen.
    #[error(
        "the host's network namespace cannot be seen from here: tidewait runs in a process namespace of its own; \
         run it on the host, or in a container that shares the host's process namespace"
    )]
    HostHidden,
    /// The name exists under /run/netns, but is not a network namespace.
    #[error("'{name}' is not a network namespace: {why}; remove it with `ip netns delete {name}`")]
    NotANamespace {
        /// The name.
        name: String,
        /// What it is instead.
        why: String,
    },
    /// The privileges do not suffice.
    #[error("cannot look into network namespace '{name}': {why}; {remedy}")]
    NotPermitted {
        /// The namespace's name.
        name: String,
        /// The capability that is missing.
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// It was there a moment ago.
    #[error("network namespace '{name}' is gone: it ended while it was looked at")]
    Vanished {
        /// The namespace's name.
        name: String,
    },
    /// Anything else.
    #[error("cannot {action} network namespace '{name}': {source}")]
    Failed {
        /// The namespace's name.
        name: String,
        /// What was tried.
        action: &'static str,
        /// What the kernel answered.
        source: Errno,
    },
}

impl PlaceError {
    /// The error as a limit of a report that goes on without this namespace.
    pub fn limit(&self) -> Limit {
        let namespace = |name: &str| format!("network namespace {name}");
        match self {
            PlaceError::Unknown { name, known } => {
                Limit::new(namespace(name), "there is none of that name").remedy(known_names(known))
            }
            PlaceError::NoProcess { pid } => {
                Limit::new(format!("network namespace of process {pid}"), "there is no such process")
            }
            PlaceError::HostHidden => {
                Limit::new(namespace("host"), "it cannot be seen from this process namespace")
            }
            PlaceError::NotANamespace { name, why } => {
                Limit::new(namespace(name), why).remedy(format!("ip netns delete {name}"))
            }
            PlaceError::NotPermitted { name, why, remedy } => Limit::new(namespace(name), why).remedy(remedy),
            PlaceError::Vanished { name } => Limit::new(namespace(name), "it ended while it was looked at"),
            PlaceError::Failed { name, action, source } => {
                Limit::new(namespace(name), format!("cannot {action} it: {source}"))
            }
        }
    }

    /// Whether more privilege would help.
    pub fn is_permission(&self) -> bool {
        matches!(self, PlaceError::NotPermitted { .. })
    }

    /// The error for `name`, refused for want of `needed`.
    pub(super) fn denied(name: &str, needed: CapabilitySet) -> PlaceError {
        let (why, remedy) = why_denied(needed);
        PlaceError::NotPermitted { name: name.to_owned(), why, remedy }
    }
}

/// The remedy for a name that is not known.
fn known_names(known: &[String]) -> String {
    let forms = "a name under /run/netns, 'host', a process number or 'net:[INODE]'";
    let shown = known.iter().take(NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match known.len().saturating_sub(NAMES_SHOWN) {
        0 if known.is_empty() => format!("write {forms}"),
        0 => format!("known are {shown}; write one of these, {forms}"),
        more => format!("known are {shown} and {more} more (`ip netns list`); write one of these, {forms}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_names_that_would_do() {
        let unknown = |known: usize| {
            let known = (0..known).map(|number| format!("ns{number}")).collect();
            PlaceError::Unknown { name: "blau".to_owned(), known }.to_string()
        };
        assert!(
            unknown(0).starts_with("no network namespace is called 'blau': write a name under /run/netns")
        );
        assert!(unknown(2).contains("known are ns0, ns1; write one of these"));
        assert!(unknown(10).contains("ns7 and 2 more"));
        assert!(!unknown(10).contains("ns8"));
    }
}
