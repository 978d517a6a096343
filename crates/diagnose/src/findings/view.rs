//! What a check is given: one namespace with its place in the observation; and what it gives back.

use std::fmt::Display;
use std::net::IpAddr;

use tidewait_model::kernel::Version;
use tidewait_model::machine::Process;
use tidewait_model::report::{Finding, Namespace, NoHelp, Remedy, Severity};
use tidewait_model::{NamespaceFacts, Observation, Owner, StateCounts};

use super::remedy::Step;
use crate::Kind;
use crate::traced::Flows;

/// One namespace, and the observation that it is part of.
pub(crate) struct View<'a> {
    pub(crate) observation: &'a Observation,
    pub(crate) facts: &'a NamespaceFacts,
    pub(crate) namespace: &'a Namespace,
    /// What was traced; `None` where nothing was.
    pub(crate) flows: Option<Flows<'a>>,
}

impl<'a> View<'a> {
    /// A setting of the namespace that is one whole number.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.facts.settings.number(name)
    }

    /// A setting that is a length of time or a number of things, so that less than nothing makes no sense.
    pub(crate) fn quantity(&self, name: &str) -> Option<u64> {
        self.number(name).and_then(|value| u64::try_from(value).ok())
    }

    /// A counter as it stands.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.facts.counters.get(name).map_or(0, |value| u64::try_from(*value).unwrap_or(0))
    }

    /// How much a counter grew while it was watched; `None` if it was not watched.
    pub(crate) fn grew(&self, name: &str) -> Option<u64> {
        grew(self.facts, name)
    }

    /// The version of the kernel, where its release tells.
    pub(crate) fn kernel(&self) -> Option<Version> {
        self.observation.kernel.parse().ok()
    }

    /// The process that `owner` is, where it is one that was looked into.
    pub(crate) fn process(&self, owner: Option<&Owner>) -> Option<&'a Process> {
        let pid = owner?.pid?;
        self.observation.machine.processes.iter().find(|process| process.owner.pid == Some(pid))
    }

    /// `command` as it has to be typed on the host so that it acts in this namespace; `None` where no way in is known.
    pub(crate) fn inside(&self, command: &str) -> Option<String> {
        let name = self.facts.name.as_str();
        if name == "host" || name == "own" {
            return Some(command.to_owned());
        }
        if let Some(pid) = self.pid_inside() {
            return Some(format!("nsenter -t {pid} -n {command}"));
        }
        // Units, pods and containers are no names of `ip netns`.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let named = name.chars().all(plain) && !name.is_empty() && !name.starts_with("pod-");
        named.then(|| format!("ip netns exec {name} {command}"))
    }

    /// `sysctl -w` in this namespace.
    pub(crate) fn sysctl(&self, name: &str, value: impl Display) -> Option<String> {
        self.inside(&format!("sysctl -w {name}={value}"))
    }

    /// A process that is known to live in the namespace: the one that gave it its name, or one that holds its sockets.
    fn pid_inside(&self) -> Option<u32> {
        let leader = self.facts.name.strip_suffix(']').and_then(|name| name.rsplit_once('['));
        if let Some(pid) = leader.and_then(|(_, pid)| pid.parse().ok()) {
            return Some(pid);
        }
        let processes = &self.observation.machine.processes;
        let known = processes.iter().find(|process| process.namespace.as_ref() == Some(&self.facts.name));
        known.and_then(|process| process.owner.pid)
    }

    /// A listener of this namespace as ties name it: two namespaces may each have one at the same address.
    pub(crate) fn endpoint(&self, local: &impl Display) -> String {
        endpoint(self.facts, local)
    }

    /// The listeners of this machine that connections from this namespace to `peers` (address and port) go to, as ties
    /// name them.
    pub(crate) fn listeners_behind<'p>(
        &self,
        peers: &(impl Iterator<Item = &'p str> + Clone),
    ) -> Vec<String> {
        let mut behind = Vec::new();
        for facts in &self.observation.namespaces {
            let census = &facts.census;
            let mut local: Vec<String> =
                census.sources.iter().map(|source| source.address.to_string()).collect();
            local.extend(census.incoming.iter().map(|service| service.local.address.to_string()));
            local.extend(census.listeners.iter().map(|listener| listener.local.address.to_string()));
            for listener in &census.listeners {
                let reaches = |peer: &str| {
                    let Some((address, port)) = peer.rsplit_once(':') else { return false };
                    let address = address.trim_start_matches('[').trim_end_matches(']');
                    let here = match address.parse::<IpAddr>() {
                        Ok(ip) if ip.is_loopback() => facts.inode == self.facts.inode,
                        _ => local.iter().any(|known| known == address),
                    };
                    let listens = listener.local.address.is_unspecified()
                        || listener.local.address.to_string() == address;
                    port.parse() == Ok(listener.local.port) && here && listens
                };
                if peers.clone().any(reaches) {
                    behind.push(endpoint(facts, &listener.local));
                }
            }
        }
        behind
    }

    /// A finding in this namespace.
    pub(crate) fn found(&self, kind: &Kind, severity: Severity, subject: String, summary: String) -> Found {
        Found {
            finding: Finding {
                id: kind.id.to_owned(),
                severity,
                namespace: self.facts.name.clone(),
                subject,
                summary,
                evidence: Vec::new(),
                owner: None,
                since: None,
                remedies: Vec::new(),
                no_help: Vec::new(),
                consequences: Vec::new(),
            },
            ties: Ties::default(),
        }
    }
}

fn endpoint(facts: &NamespaceFacts, local: &impl Display) -> String {
    format!("{} {local}", facts.inode)
}

/// How much a counter of a namespace grew while it was watched; `None` if it was not watched.
pub(crate) fn grew(facts: &NamespaceFacts, name: &str) -> Option<u64> {
    let growth = facts.growth.as_ref()?;
    Some(growth.counters.get(name).map_or(0, |value| u64::try_from(*value).unwrap_or(0)))
}

/// A finding, with what it takes to tell whether it is the cause of another.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) finding: Finding,
    pub(crate) ties: Ties,
}

impl Found {
    pub(crate) fn evidence(mut self, sentences: impl IntoIterator<Item = String>) -> Found {
        self.finding.evidence.extend(sentences.into_iter().filter(|sentence| !sentence.is_empty()));
        self
    }

    pub(crate) fn owner(mut self, owner: Option<&Owner>) -> Found {
        self.finding.owner = owner.cloned();
        self.ties.owners.extend(owner.cloned());
        self
    }

    /// What to do, in this order.
    pub(crate) fn remedies(mut self, steps: impl IntoIterator<Item = Option<Step>>) -> Found {
        let remedies = steps.into_iter().flatten().zip(1_u32..);
        self.finding.remedies = remedies.map(|(step, rank)| Remedy { rank, ..step.into() }).collect();
        self
    }

    pub(crate) fn no_help(mut self, advice: impl IntoIterator<Item = Option<NoHelp>>) -> Found {
        self.finding.no_help = advice.into_iter().flatten().collect();
        self
    }

    pub(crate) fn ties(mut self, ties: Ties) -> Found {
        let owners = std::mem::take(&mut self.ties.owners);
        self.ties = ties;
        self.ties.owners.extend(owners);
        self
    }
}

/// What a finding is about, in numbers and names that can be compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ties {
    /// The programs that have to do with it.
    pub(crate) owners: Vec<Owner>,
    /// The sockets it is about, by state.
    pub(crate) states: StateCounts,
    /// Descriptors or ports in use, of which sockets like those may be a part.
    pub(crate) used: u64,
    /// Whether what it is about belongs to no process any more, or to none yet.
    pub(crate) unheld: bool,
    /// Listeners, as [`View::endpoint`] names them.
    pub(crate) endpoints: Vec<String>,
}
