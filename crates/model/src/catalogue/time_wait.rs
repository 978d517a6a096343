//! Settings of TIME_WAIT: taking over, limiting, protecting; and the two that mainline does not have.

use super::accepts::{BYTE, INT, span};
use super::{Accepts, COMMON, Choice, Meaning, Setting, always, belief, computed, since, words};
use crate::kernel::Version;

pub const REUSE: Setting = Setting {
    name: "net.ipv4.tcp_tw_reuse",
    unit: "0/1/2",
    summary: "connect() may take over a socket in TIME_WAIT: off, on, loopback only",
    namespaced_since: Some(Version::new(4, 10)),
    accepts: Accepts::Choice {
        kernel: span(0, 2),
        choices: &[
            Choice {
                value: 0,
                word: "connect() never chooses a port whose connection is in TIME_WAIT to the same destination",
            },
            Choice {
                value: 1,
                word: "connect() may take over a TIME_WAIT to the same destination, if the peer sent timestamps",
            },
            Choice {
                value: 2,
                word: "connect() may take over a TIME_WAIT on loopback only (lo, 127/8, ::1); other connections wait their 60 s",
            },
        ],
    },
    defaults: &[always("0"), since(4, 19, "2")],
    affects: &[
        "Outgoing connections whose port connect() chooses: a port in TIME_WAIT to the same destination counts as free once \
         the TIME_WAIT is older than tcp_tw_reuse_delay, or 1 s before 6.14. Both ends must use TCP timestamps.",
        "With 1, what one source address can connect to one destination goes from ports / 60 s to about ports / 1 s.",
        "The connection that takes over keeps the old one's protection: its sequence numbers begin above the old ones, and old \
         timestamps are rejected. That is safer than cutting TIME_WAIT short.",
    ],
    does_not: &[
        belief(
            "It lowers the number of sockets in TIME_WAIT.",
            "They stay until somebody takes them over. It lowers the number of connect() that fail.",
        ),
        belief(
            "It helps a proxy that binds its source address (tcp_outgoing_address, source, proxy_bind).",
            "bind(address, port 0) chooses the port without looking at it: ports in TIME_WAIT stay taken, EADDRINUSE. The \
             program needs IP_BIND_ADDRESS_NO_PORT; then it helps.",
        ),
        belief(
            "It helps a server with many TIME_WAIT of accepted connections.",
            "It is about connect() alone. A server takes a new SYN from the same address and port in TIME_WAIT anyway.",
        ),
        belief(
            "2 is on.",
            "2 covers loopback alone. A connection of the host to one of its own other addresses is not loopback here.",
        ),
    ],
    trap: Some(
        "Without timestamps from the peer it does nothing: tcp_timestamps = 0 on either end, or a peer or a middlebox that \
         leaves them out.",
    ),
    risk: "Small. The protection rests on the peer's timestamps: where several machines answer behind one address, theirs need not \
           rise from one connection to the next, and a connection may then need a second SYN.",
    sources: &[
        "net/ipv4/tcp_ipv4.c tcp_twsk_unique (6.18)",
        "commit 79e9fed46038 (4.19: value 2 and the default 2)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.9, per namespace in 4.10)",
        "RFC 6191, RFC 7323 section 5",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &[
        "net.ipv4.tcp_tw_reuse_delay",
        "net.ipv4.tcp_timestamps",
        "net.ipv4.ip_local_port_range",
        "IP_BIND_ADDRESS_NO_PORT",
    ],
    ..COMMON
};

pub const REUSE_DELAY: Setting = Setting {
    name: "net.ipv4.tcp_tw_reuse_delay",
    unit: "ms",
    summary: "age from which a socket in TIME_WAIT may be taken over (since 6.14; before: 1 s)",
    since: Some(Version::new(6, 14)),
    accepts: Accepts::Number { kernel: span(1, 60_000), sensible: span(1, 60_000), gap: None },
    defaults: &[always("1000")],
    affects: &["With tcp_tw_reuse on, connections a second to one destination: about ports / delay."],
    does_not: &[
        belief(
            "It shortens TIME_WAIT.",
            "TIME_WAIT stays 60 s. Only connect() may end it earlier, by taking it over.",
        ),
        belief(
            "It works by itself.",
            "With tcp_tw_reuse = 0 it does nothing; with 2 it counts on loopback alone.",
        ),
    ],
    risk: "It must not be less than a tick of the peer's timestamp clock, or old segments cannot be told from new ones. Linux \
           ticks every millisecond; RFC 7323 allows up to a second.",
    sources: &[
        "net/ipv4/tcp_ipv4.c tcp_twsk_unique (6.18)",
        "net/ipv4/sysctl_net_ipv4.c (absent in 6.13, there in 6.14)",
        "commit ca6a6f93867a",
        "RFC 7323 section 5.4",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_timestamps"],
    meaning: Meaning::Number(reuse_delay),
    ..COMMON
};

pub const MAX_BUCKETS: Setting = Setting {
    name: "net.ipv4.tcp_max_tw_buckets",
    unit: "sockets",
    summary: "sockets kept in TIME_WAIT; more are dropped at once",
    namespaced_since: Some(Version::new(4, 11)),
    accepts: Accepts::Number { kernel: INT, sensible: span(1, i32::MAX as i64), gap: None },
    defaults: &[computed(
        "half the number of buckets in the hash of connections: 131072 on machines with 16 GB and more",
    )],
    affects: &[
        "How many sockets in TIME_WAIT, orphaned FIN_WAIT2 included, a namespace keeps. One more, and the connection that \
         closes skips TIME_WAIT (counter TCPTimeWaitOverflow).",
    ],
    does_not: &[
        belief(
            "Lowering it is a way to be rid of TIME_WAIT.",
            "The connections beyond it lose all protection, at random: a late segment can reach a new connection, and a peer \
             whose last FIN was lost gets a reset. tcp_tw_reuse frees the ports and keeps the protection.",
        ),
        belief(
            "The kernel warns in its log when it is reached.",
            "No kernel since 4.1 does, whatever ip-sysctl.rst says. Watch TCPTimeWaitOverflow.",
        ),
        belief(
            "Raising it costs much memory.",
            "A socket in TIME_WAIT takes about half a kilobyte: 100,000 of them 52 MB.",
        ),
    ],
    trap: Some("0 and less are taken too, and mean that no TIME_WAIT is kept at all."),
    risk: "Lower than what closes in 60 s: late segments in new connections, resets at the peer. Higher: memory.",
    sources: &[
        "net/ipv4/inet_timewait_sock.c inet_twsk_alloc (6.18)",
        "net/ipv4/tcp_minisocks.c tcp_time_wait (6.18)",
        "net/ipv4/tcp_ipv4.c tcp_set_hashinfo (6.18)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.10, per namespace in 4.11)",
        "RFC 9293 section 3.6.1",
    ],
    see_also: &["net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_child_ehash_entries", "net.ipv4.tcp_max_orphans"],
    meaning: Meaning::Number(max_buckets),
    ..COMMON
};

pub const TIMESTAMPS: Setting = Setting {
    name: "net.ipv4.tcp_timestamps",
    unit: "0/1/2",
    summary: "TCP timestamps (RFC 7323); tcp_tw_reuse needs them on both ends",
    namespaced_since: Some(Version::new(4, 13)),
    accepts: Accepts::Choice {
        kernel: BYTE,
        choices: &[
            Choice {
                value: 0,
                word: "no timestamps: tcp_tw_reuse does nothing, and old segments are harder to tell from new",
            },
            Choice { value: 1, word: "timestamps, with a random start per connection" },
            Choice { value: 2, word: "timestamps that show how long the machine has been up" },
        ],
    },
    defaults: &[always("1")],
    affects: &[
        "Whether connections carry timestamps: both ends have to offer them.",
        "tcp_tw_reuse, and the protection against old segments (PAWS), which both rest on them.",
    ],
    does_not: &[belief(
        "Switching them off makes TCP faster and safer.",
        "It saves 12 bytes a segment and costs the round-trip times, PAWS and tcp_tw_reuse. The uptime has been hidden since \
         4.10.",
    )],
    risk: "0 takes away tcp_tw_reuse for every connection made from then on.",
    sources: &[
        "net/ipv4/tcp_ipv4.c tcp_twsk_unique, tcp_sk_init (6.18)",
        "net/core/secure_seq.c (random start: 4.9 without, 4.10 with)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.12, per namespace in 4.13)",
        "RFC 7323",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_rfc1337"],
    ..COMMON
};

pub const RFC1337: Setting = Setting {
    name: "net.ipv4.tcp_rfc1337",
    unit: "0/1",
    summary: "a RST does not end TIME_WAIT",
    namespaced_since: Some(Version::new(4, 15)),
    accepts: Accepts::Choice {
        kernel: BYTE,
        choices: &[
            Choice { value: 0, word: "a RST with the expected sequence number ends a TIME_WAIT" },
            Choice { value: 1, word: "a RST does not end a TIME_WAIT" },
        ],
    },
    defaults: &[always("0")],
    affects: &[
        "Whether a TIME_WAIT lives on when the peer, which knows nothing of the connection any more, answers a late segment \
         with RST (\"TIME_WAIT assassination\").",
    ],
    does_not: &[belief(
        "1 lets a RST end TIME_WAIT.",
        "It is the other way round; ip-sysctl.rst is worded so that one reads it wrong. 0, the default, lets it.",
    )],
    risk: "1: a few more sockets live their full 60 s. 0: a TIME_WAIT can end before its time.",
    sources: &[
        "net/ipv4/tcp_minisocks.c tcp_timewait_state_process (6.18; both values seen at work)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.14, per namespace in 4.15)",
        "RFC 1337 section 3",
    ],
    see_also: &["net.ipv4.tcp_timestamps"],
    ..COMMON
};

pub const TIMEOUT: Setting = Setting {
    name: "net.ipv4.tcp_tw_timeout",
    unit: "s",
    summary: "length of TIME_WAIT on vendor kernels that have it",
    vendor: Some("Alibaba Cloud Linux 2 and 3; TencentOS has the like, its name and range not verified"),
    accepts: Accepts::Number { kernel: span(1, 600), sensible: span(1, 600), gap: None },
    defaults: &[always("60")],
    affects: &[
        "How long a connection that closes from now on stays in TIME_WAIT; those that are there keep their time.",
    ],
    does_not: &[
        belief(
            "Every Linux has it.",
            "In mainline the 60 s are compiled in (TCP_TIMEWAIT_LEN), up to 7.1 at least. Nothing can be set there.",
        ),
        belief(
            "tcp_fin_timeout is the same.",
            "That is about orphaned FIN_WAIT2, and never shortens TIME_WAIT.",
        ),
    ],
    trap: Some("Alibaba Cloud Linux 4 does not have it any more."),
    risk: "The shorter, the more late segments meet a new connection, or a peer that still waits for the last ACK gets a reset.",
    sources: &[
        "net/ipv4/sysctl_net_ipv4.c and tcp_minisocks.c of Alibaba's cloud-kernel",
        "https://www.alibabacloud.com/help/en/ecs/user-guide/change-the-tcp-time-wait-timeout-period",
        "include/net/tcp.h TCP_TIMEWAIT_LEN (4.1 to 7.1)",
    ],
    see_also: &["net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_tw_reuse"],
    meaning: Meaning::Number(timeout),
    ..COMMON
};

pub const RECYCLE: Setting = Setting {
    name: "net.ipv4.tcp_tw_recycle",
    unit: "0/1",
    summary: "dropped TIME_WAIT early and refused clients behind NAT; removed in 4.12",
    namespaced_since: Some(Version::new(4, 11)),
    removed_in: Some(Version::new(4, 12)),
    accepts: Accepts::Choice {
        kernel: INT,
        choices: &[
            Choice { value: 0, word: "off" },
            Choice {
                value: 1,
                word: "TIME_WAIT is dropped after a few round trips, and clients behind one NAT address are refused",
            },
        ],
    },
    defaults: &[always("0")],
    affects: &[
        "Up to 4.11: incoming and outgoing connections; TIME_WAIT lasted 3.5 times the retransmission timeout.",
    ],
    does_not: &[belief(
        "It is a way to deal with TIME_WAIT.",
        "It is gone since 4.12. A line in a sysctl file that sets it has no effect but an error at boot: remove it.",
    )],
    trap: Some(
        "From 4.10 on, when timestamps began to start at random, it broke connections from any address, NAT or not.",
    ),
    risk: "Where it exists: all but one of the clients behind a NAT address are refused, silently.",
    sources: &["commit 4396e46187ca (4.12)", "net/ipv4/sysctl_net_ipv4.c (there in 4.11, absent in 4.12)"],
    see_also: &["net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_timestamps"],
    ..COMMON
};

fn reuse_delay(milliseconds: i64, _: Version) -> String {
    format!(
        "where tcp_tw_reuse allows it, a TIME_WAIT can be taken over after {milliseconds} ms: up to {} connections a second to \
         one destination for every 1000 ports",
        1_000_000 / milliseconds.max(1)
    )
}

fn max_buckets(sockets: i64, _: Version) -> String {
    match sockets {
        ..=0 => "no TIME_WAIT is kept: every close is unprotected against late segments".to_owned(),
        sockets => format!(
            "{sockets} sockets in TIME_WAIT at most, reached at {} closes a second on this side; the next ones skip TIME_WAIT",
            sockets / 60
        ),
    }
}

fn timeout(seconds: i64, _: Version) -> String {
    format!("a connection stays {} in TIME_WAIT", words::seconds(seconds))
}
