//! What follows from which facts: hand-made observations, by subject.

mod bind_taken;
mod causes;
mod closing;
mod demand;
mod kinds;
mod opening;
mod port_remedies;
mod ports;
mod properties;
mod setup;
mod traced;
mod traced_ports;

use std::collections::BTreeMap;

use tidewait_model::address::Address;
use tidewait_model::lingering::{Peer, Silence};
use tidewait_model::machine::{Configured, Process};
use tidewait_model::observation::{Growth, OwnerBasis};
use tidewait_model::report::{Finding, Severity};
use tidewait_model::{
    Endpoint, Lingering, Listener, Machine, NamespaceFacts, Observation, Owner, Settings, State,
};

use crate::{Options, assess};

/// Settings of a stock kernel, as far as findings look at them.
const STOCK: &[(&str, &str)] = &[
    ("fs.file-max", "9223372036854775807"),
    ("fs.nr_open", "1048576"),
    ("net.core.somaxconn", "4096"),
    ("net.ipv4.ip_local_port_range", "32768 60999"),
    ("net.ipv4.ip_local_reserved_ports", ""),
    ("net.ipv4.ip_unprivileged_port_start", "1024"),
    ("net.ipv4.tcp_abort_on_overflow", "0"),
    ("net.ipv4.tcp_fin_timeout", "60"),
    ("net.ipv4.tcp_keepalive_time", "7200"),
    ("net.ipv4.tcp_max_orphans", "131072"),
    ("net.ipv4.tcp_max_syn_backlog", "4096"),
    ("net.ipv4.tcp_max_tw_buckets", "131072"),
    ("net.ipv4.tcp_orphan_retries", "0"),
    ("net.ipv4.tcp_retries2", "15"),
    ("net.ipv4.tcp_syn_retries", "6"),
    ("net.ipv4.tcp_timestamps", "1"),
    ("net.ipv4.tcp_tw_reuse", "2"),
];

/// The host with nothing in it.
fn host() -> NamespaceFacts {
    let mut facts = NamespaceFacts { name: "host".to_owned(), inode: 1, ..NamespaceFacts::default() };
    set(&mut facts, STOCK);
    facts
}

/// Another namespace with nothing in it.
fn namespace(name: &str, inode: u64) -> NamespaceFacts {
    NamespaceFacts { name: name.to_owned(), inode, ..host() }
}

fn set(facts: &mut NamespaceFacts, pairs: &[(&str, &str)]) {
    let Settings(settings) = &mut facts.settings;
    settings.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
}

fn counted(facts: &mut NamespaceFacts, pairs: &[(&str, i64)]) {
    facts.counters.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)));
}

/// What grew while it was watched for ten seconds.
fn grew(facts: &mut NamespaceFacts, pairs: &[(&str, i64)]) {
    let counters: BTreeMap<String, i64> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    facts.growth = Some(Growth { seconds: 10.0, counters });
}

fn owner(command: &str, pid: u32) -> Owner {
    Owner {
        command: command.to_owned(),
        pid: Some(pid),
        unit: Some(format!("{command}.service")),
        container: None,
        user: None,
        share: 1.0,
        how: OwnerBasis::OpenFiles,
    }
}

fn process(command: &str, pid: u32, descriptors: u64, limit: u64) -> Process {
    Process {
        owner: owner(command, pid),
        namespace: Some("host".to_owned()),
        descriptors,
        descriptor_limit: Some(limit),
        descriptor_limit_hard: Some(limit * 4),
        sockets_without_connection: Some(0),
        running_seconds: Some(86_400.0),
    }
}

/// `sockets` that `app[7]` holds in `state`, silent for an hour, with a service that they came in to.
fn held(state: State, sockets: u64) -> Lingering {
    Lingering {
        state,
        held: true,
        owner: Some(owner("app", 7)),
        sockets,
        looked_at: sockets,
        peers: vec![Peer { peer: "10.0.0.9".to_owned(), service: Some("0.0.0.0:80".to_owned()), sockets }],
        peers_total: 1,
        silence: Some(aged(3_600.0, 0)),
        unread_end: 0,
        unread_data: 0,
        unread_bytes: 0,
        keepalive: 0,
        retransmitting: 0,
        zero_window: 0,
        retransmits_max: 0,
    }
}

/// The same without an owner: closed by their program.
fn orphaned(state: State, sockets: u64) -> Lingering {
    Lingering { held: false, owner: None, ..held(state, sockets) }
}

fn aged(median: f64, last_minute: u64) -> Silence {
    Silence { shortest: median / 2.0, median, longest: median * 2.0, last_minute }
}

fn endpoint(text: &str) -> Endpoint {
    let parsed: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { address: Address::new(parsed.ip(), 0), port: parsed.port() }
}

fn listener(local: &str, queue: u32, limit: u32) -> Listener {
    Listener {
        local: endpoint(local),
        sockets: 1,
        full: u32::from(queue > limit),
        queue,
        limit,
        still_full: None,
        owners: vec![owner("app", 7)],
    }
}

fn configured(file: &str, line: u32, setting: &str, value: &str) -> Configured {
    Configured { file: file.to_owned(), line, setting: setting.to_owned(), value: value.to_owned() }
}

fn seen(namespaces: Vec<NamespaceFacts>, machine: Machine) -> Observation {
    Observation { kernel: "6.18.1".to_owned(), namespaces, machine, ..Observation::default() }
}

/// The findings of a machine with one namespace.
fn findings_of(facts: NamespaceFacts) -> Vec<Finding> {
    findings(&seen(vec![facts], Machine::default()))
}

fn findings(observation: &Observation) -> Vec<Finding> {
    assess(observation, &Options { top: 0, timings: false }).findings
}

/// Ids and severities of findings.
fn told(findings: &[Finding]) -> Vec<(&str, Severity)> {
    findings.iter().map(|finding| (finding.id.as_str(), finding.severity)).collect()
}

/// The one finding that there has to be.
fn only(findings: &[Finding]) -> &Finding {
    assert_eq!(findings.len(), 1, "{:?}", told(findings));
    &findings[0]
}

fn has_remedy(finding: &Finding, id: &str) -> bool {
    finding.remedies.iter().any(|remedy| remedy.id == id)
}

fn remedy<'a>(finding: &'a Finding, id: &str) -> &'a tidewait_model::report::Remedy {
    let found = finding.remedies.iter().find(|remedy| remedy.id == id);
    found.unwrap_or_else(|| panic!("no {id} among {:?}", finding.remedies))
}

fn is_no_help(finding: &Finding, setting: &str) -> bool {
    finding.no_help.iter().any(|advice| advice.setting == setting)
}
