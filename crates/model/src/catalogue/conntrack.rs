//! Settings of connection tracking, which drops packets when its table is full and holds NAT ports.

use super::accepts::{SECONDS, span};
use super::{Accepts, COMMON, InNamespace, Meaning, Scope, Setting, always, belief, computed, words};
use crate::kernel::Version;

const MODULE: Option<&str> = Some("nf_conntrack");

pub const MAX: Setting = Setting {
    name: "net.netfilter.nf_conntrack_max",
    unit: "entries",
    summary: "connection tracking entries before packets are dropped",
    scope: Scope::Host,
    in_namespace: InNamespace::SharedReadOnly,
    module: MODULE,
    accepts: Accepts::Number {
        kernel: span(1, i32::MAX as i64),
        sensible: span(1024, i32::MAX as i64),
        gap: None,
    },
    defaults: &[computed(
        "the number of buckets, 262144 on machines with more than 4 GB (up to 5.12: four times the buckets)",
    )],
    affects: &[
        "How many connections, open and closing, one network namespace can track. Beyond it the packet that begins a new one is \
         dropped: \"nf_conntrack: table full, dropping packet\".",
    ],
    does_not: &[
        belief(
            "A full table makes connect() fail with EADDRNOTAVAIL.",
            "The SYN is dropped without a word: connect() hangs in SYN_SENT and ends with ETIMEDOUT.",
        ),
        belief(
            "It is a sum over all namespaces.",
            "The limit is one for the machine, but each namespace's count is held against it by itself.",
        ),
    ],
    trap: Some("In a network namespace it can be read and not written: raise it on the host."),
    risk: "Memory, 256 bytes an entry and more. Without more buckets (nf_conntrack_buckets) look-ups get slower.",
    sources: &[
        "net/netfilter/nf_conntrack_core.c __nf_conntrack_alloc, nf_conntrack_init_start (7.1; defaults also 4.4 to 5.12)",
        "net/netfilter/nf_conntrack_standalone.c (7.1; in a namespace of the host's users writable in 5.6, read-only in 5.12)",
        "Documentation/networking/nf_conntrack-sysctl.rst",
    ],
    see_also: &[
        "net.netfilter.nf_conntrack_count",
        "net.netfilter.nf_conntrack_buckets",
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
    ],
    meaning: Meaning::Number(max),
    ..COMMON
};

pub const COUNT: Setting = Setting {
    name: "net.netfilter.nf_conntrack_count",
    unit: "entries",
    summary: "connection tracking entries in use",
    in_namespace: InNamespace::OwnReadOnly,
    module: MODULE,
    accepts: Accepts::Nothing,
    defaults: &[always("0")],
    affects: &[
        "Nothing: it is what the namespace tracks at the moment, to be held against nf_conntrack_max.",
    ],
    does_not: &[belief(
        "It counts open connections.",
        "It counts everything tracked: UDP, and TCP up to two minutes after its close.",
    )],
    risk: "None: it can only be read.",
    sources: &[
        "net/netfilter/nf_conntrack_standalone.c (7.1)",
        "Documentation/networking/nf_conntrack-sysctl.rst",
    ],
    see_also: &["net.netfilter.nf_conntrack_max"],
    meaning: Meaning::Number(count),
    ..COMMON
};

pub const BUCKETS: Setting = Setting {
    name: "net.netfilter.nf_conntrack_buckets",
    unit: "buckets",
    summary: "size of the hash that connection tracking looks connections up in",
    scope: Scope::Host,
    in_namespace: InNamespace::SharedReadOnly,
    module: MODULE,
    accepts: Accepts::Number {
        kernel: span(1, i32::MAX as i64),
        sensible: span(1024, 16_777_216),
        gap: None,
    },
    defaults: &[computed(
        "262144 on machines with more than 4 GB, 65536 above 1 GB, else one for every 128 KiB of memory (up to 5.12: 65536 and 16384)",
    )],
    affects: &["How long a look-up takes: with as many entries as buckets, two steps on average."],
    does_not: &[belief(
        "It raises nf_conntrack_max.",
        "Not when it is written: the one follows from the other only when the module is loaded.",
    )],
    risk: "8 bytes a bucket; while it changes, packets wait.",
    sources: &[
        "net/netfilter/nf_conntrack_core.c nf_conntrack_hash_resize, nf_conntrack_init_start (7.1; defaults also 4.4 to 5.12)",
        "net/netfilter/nf_conntrack_standalone.c (read-only in a namespace, 5.12 and 7.1)",
        "Documentation/networking/nf_conntrack-sysctl.rst",
    ],
    see_also: &["net.netfilter.nf_conntrack_max"],
    meaning: Meaning::Number(buckets),
    ..COMMON
};

pub const TIMEOUT_TIME_WAIT: Setting = Setting {
    name: "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
    unit: "s",
    summary: "how long connection tracking keeps a closed connection",
    module: MODULE,
    accepts: Accepts::Number { kernel: SECONDS, sensible: span(1, 432_000), gap: None },
    defaults: &[always("120")],
    affects: &[
        "How many entries closed connections take in the table, and how long a NAT port stays taken for the same destination.",
    ],
    does_not: &[belief(
        "It shortens TIME_WAIT of sockets.",
        "It is the table's own state of the same name. The socket's 60 s do not depend on it, nor it on them.",
    )],
    risk: "Below what the socket's TIME_WAIT lasts, late segments are seen as invalid and may be dropped by the firewall.",
    sources: &[
        "net/netfilter/nf_conntrack_proto_tcp.c tcp_timeouts (7.1; 120 s seen beside the socket's 60 s on 6.18)",
        "Documentation/networking/nf_conntrack-sysctl.rst",
    ],
    see_also: &["net.netfilter.nf_conntrack_max", "net.ipv4.tcp_tw_reuse"],
    meaning: Meaning::Number(time_wait),
    ..COMMON
};

pub const TIMEOUT_CLOSE_WAIT: Setting = Setting {
    name: "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    unit: "s",
    summary: "how long connection tracking keeps a connection that one side has closed",
    module: MODULE,
    accepts: Accepts::Number { kernel: SECONDS, sensible: span(1, 432_000), gap: None },
    defaults: &[always("60")],
    affects: &[
        "How soon the table forgets a connection on which one side has closed and nothing more is sent.",
    ],
    does_not: &[belief(
        "It clears CLOSE_WAIT of sockets.",
        "The socket stays in CLOSE_WAIT until its program closes it. Only the table forgets the connection, and what is sent \
         later may be dropped.",
    )],
    risk: "Short: a peer that sends for long after the other's FIN is cut off at the firewall.",
    sources: &[
        "net/netfilter/nf_conntrack_proto_tcp.c tcp_timeouts (7.1)",
        "Documentation/networking/nf_conntrack-sysctl.rst",
    ],
    see_also: &["net.netfilter.nf_conntrack_max"],
    meaning: Meaning::Number(close_wait),
    ..COMMON
};

pub const TIMEOUT_ESTABLISHED: Setting = Setting {
    name: "net.netfilter.nf_conntrack_tcp_timeout_established",
    unit: "s",
    summary: "how long connection tracking keeps an open connection on which nothing is sent",
    module: MODULE,
    accepts: Accepts::Number { kernel: SECONDS, sensible: span(60, 2_147_483), gap: None },
    defaults: &[always("432000")],
    affects: &[
        "How long connections that ended without a word (a peer that lost power, a RST that was lost) fill the table: five days.",
    ],
    does_not: &[belief(
        "It ends idle connections.",
        "The sockets stay open. The table forgets them, and where NAT or a strict firewall needs the entry, the next segment is \
         lost: connections hang.",
    )],
    risk: "Below tcp_keepalive_time of the hosts behind it, idle connections hang. RFC 5382 asks of NAT for 7440 s at least.",
    sources: &[
        "net/netfilter/nf_conntrack_proto_tcp.c tcp_timeouts (7.1)",
        "RFC 5382 section 5, REQ-5",
        "Documentation/networking/nf_conntrack-sysctl.rst",
    ],
    see_also: &["net.netfilter.nf_conntrack_max", "net.ipv4.tcp_keepalive_time"],
    meaning: Meaning::Number(established),
    ..COMMON
};

fn max(entries: i64, _: Version) -> String {
    format!("each network namespace can track {entries} connections; the SYN of one more is dropped")
}

fn count(entries: i64, _: Version) -> String {
    format!("{entries} connections are tracked in this namespace, closed ones included")
}

fn buckets(buckets: i64, _: Version) -> String {
    format!("the hash has {buckets} buckets, good for about as many connections")
}

fn time_wait(seconds: i64, _: Version) -> String {
    format!(
        "the table keeps a closed connection for {}; sockets stay 60 s in TIME_WAIT all the same",
        words::seconds(seconds)
    )
}

fn close_wait(seconds: i64, _: Version) -> String {
    format!(
        "the table forgets a half-closed, silent connection after {}; the sockets stay",
        words::seconds(seconds)
    )
}

fn established(seconds: i64, _: Version) -> String {
    format!(
        "the table forgets an open, silent connection after {}; the sockets stay",
        words::seconds(seconds)
    )
}
