//! The settings and counters that bear on connections, one row each: what the observer reads, every surface names.

/// Where a setting's value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every network namespace has its own; a new one starts from the compiled default, not the host's value.
    Namespace,
    /// The machine has one; it is visible in the initial network namespace only, or read-only elsewhere.
    Host,
}

/// One sysctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Full name, dots between the parts: `net.ipv4.tcp_tw_reuse`.
    pub name: &'static str,
    /// Where its value lives.
    pub scope: Scope,
    /// What the number means: `s`, `ms`, `ports`, `sockets`, `0/1`, ...
    pub unit: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
}

impl Setting {
    /// The file under /proc/sys that holds the value, without the leading slash.
    pub fn path(&self) -> String {
        format!("proc/sys/{}", self.name.replace('.', "/"))
    }
}

const fn row(name: &'static str, scope: Scope, unit: &'static str, summary: &'static str) -> Setting {
    Setting { name, scope, unit, summary }
}

/// Every setting that is read. Sources: Documentation/networking/ip-sysctl.rst and the files named in
/// docs/kernels.md.
pub const SETTINGS: &[Setting] = &[
    row(
        "net.ipv4.ip_local_port_range",
        Scope::Namespace,
        "ports",
        "ports that connect() and bind(port 0) choose from",
    ),
    row(
        "net.ipv4.ip_local_reserved_ports",
        Scope::Namespace,
        "ports",
        "ports that the automatic choice leaves out",
    ),
    row(
        "net.ipv4.ip_unprivileged_port_start",
        Scope::Namespace,
        "port",
        "first port that needs no privilege to bind",
    ),
    row(
        "net.ipv4.ip_autobind_reuse",
        Scope::Namespace,
        "0/1",
        "bind(port 0) may share ports between SO_REUSEADDR sockets",
    ),
    row(
        "net.ipv4.tcp_tw_reuse",
        Scope::Namespace,
        "0/1/2",
        "connect() may take over a socket in TIME_WAIT: off, on, loopback only",
    ),
    row(
        "net.ipv4.tcp_tw_reuse_delay",
        Scope::Namespace,
        "ms",
        "age from which a socket in TIME_WAIT may be taken over (since 6.14; before: 1 s)",
    ),
    row(
        "net.ipv4.tcp_tw_timeout",
        Scope::Namespace,
        "s",
        "length of TIME_WAIT on vendor kernels that have it",
    ),
    row(
        "net.ipv4.tcp_max_tw_buckets",
        Scope::Namespace,
        "sockets",
        "sockets kept in TIME_WAIT; more are dropped at once",
    ),
    row(
        "net.ipv4.tcp_fin_timeout",
        Scope::Namespace,
        "s",
        "how long an orphaned FIN_WAIT2 is kept; not the length of TIME_WAIT",
    ),
    row(
        "net.ipv4.tcp_timestamps",
        Scope::Namespace,
        "0/1/2",
        "TCP timestamps (RFC 7323); tcp_tw_reuse needs them on both ends",
    ),
    row("net.ipv4.tcp_rfc1337", Scope::Namespace, "0/1", "a RST does not end TIME_WAIT"),
    row(
        "net.ipv4.tcp_keepalive_time",
        Scope::Namespace,
        "s",
        "idle time before keepalive probes, for sockets with SO_KEEPALIVE",
    ),
    row("net.ipv4.tcp_keepalive_intvl", Scope::Namespace, "s", "time between keepalive probes"),
    row(
        "net.ipv4.tcp_keepalive_probes",
        Scope::Namespace,
        "probes",
        "unanswered keepalive probes before the connection is dropped",
    ),
    row(
        "net.ipv4.tcp_syn_retries",
        Scope::Namespace,
        "retries",
        "SYN retransmissions before connect() gives up",
    ),
    row(
        "net.ipv4.tcp_retries2",
        Scope::Namespace,
        "retries",
        "retransmissions before an open connection is given up",
    ),
    row(
        "net.ipv4.tcp_orphan_retries",
        Scope::Namespace,
        "retries",
        "retransmissions before an orphaned connection is given up; 0 means 8",
    ),
    row("net.ipv4.tcp_max_orphans", Scope::Host, "sockets", "orphaned sockets before new ones are reset"),
    row(
        "net.ipv4.tcp_max_syn_backlog",
        Scope::Namespace,
        "connections",
        "half-open connections a listener keeps",
    ),
    row(
        "net.ipv4.tcp_abort_on_overflow",
        Scope::Namespace,
        "0/1",
        "reset instead of ignore when the accept queue is full",
    ),
    row("net.core.somaxconn", Scope::Namespace, "connections", "upper bound of listen()'s backlog"),
    row(
        "net.netfilter.nf_conntrack_max",
        Scope::Host,
        "entries",
        "connection tracking entries before packets are dropped",
    ),
    row(
        "net.netfilter.nf_conntrack_count",
        Scope::Namespace,
        "entries",
        "connection tracking entries in use",
    ),
    row(
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
        Scope::Namespace,
        "s",
        "how long connection tracking keeps a closed connection",
    ),
    row("fs.file-max", Scope::Host, "files", "open files on the machine"),
    row("fs.nr_open", Scope::Host, "files", "open files a process may be allowed"),
];

/// The row of the setting called `name`.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Counters of /proc/net/netstat, snmp, sockstat and stat/nf_conntrack that are reported, as `Group.Name`. Those of
/// `sockstat` and `sockstat6` and `Tcp.CurrEstab` say how many there are now; the others only grow.
pub const COUNTERS: &[&str] = &[
    "Tcp.ActiveOpens",
    "Tcp.PassiveOpens",
    "Tcp.AttemptFails",
    "Tcp.EstabResets",
    "Tcp.CurrEstab",
    "Tcp.OutRsts",
    "TcpExt.TW",
    "TcpExt.TWRecycled",
    "TcpExt.TWKilled",
    "TcpExt.TCPTimeWaitOverflow",
    "TcpExt.PAWSActive",
    "TcpExt.PAWSEstab",
    "TcpExt.PAWSTimewait",
    "TcpExt.TCPACKSkippedTimeWait",
    "TcpExt.TCPACKSkippedFinWait2",
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "TcpExt.TCPAbortOnMemory",
    "TcpExt.TCPAbortOnClose",
    "TcpExt.TCPAbortOnTimeout",
    "TcpExt.TCPAbortOnLinger",
    "TcpExt.TCPReqQFullDrop",
    "TcpExt.TCPReqQFullDoCookies",
    "TcpExt.TCPTimeouts",
    "TcpExt.TCPSynRetrans",
    "sockstat.TCP.inuse",
    "sockstat.TCP.orphan",
    "sockstat.TCP.tw",
    "sockstat.TCP.alloc",
    "sockstat.TCP.mem",
    "sockstat6.TCP6.inuse",
    "conntrack.insert_failed",
    "conntrack.drop",
    "conntrack.early_drop",
    "conntrack.invalid",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_unique_and_their_names_are_sysctl_names() {
        let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), SETTINGS.len());
        for setting in SETTINGS {
            assert!(
                setting
                    .name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c)),
                "{}",
                setting.name
            );
            assert!(!setting.summary.is_empty() && !setting.unit.is_empty());
        }
        let counters: BTreeSet<_> = COUNTERS.iter().collect();
        assert_eq!(counters.len(), COUNTERS.len());
    }
}
