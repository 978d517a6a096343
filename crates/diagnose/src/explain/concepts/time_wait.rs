//! Concepts of TIME_WAIT: who keeps it, for how long, at what cost, how short it may be.

use tidewait_model::State;
use tidewait_model::explain::Kind;

use crate::explain::article::Article;
use crate::explain::claims;
use crate::explain::here::Here;

pub(super) const CONCEPTS: &[Article] = &[
    Article {
        topic: "why-60-seconds",
        kind: Kind::Concept,
        aliases: &["60-seconds", "tcp-timewait-len", "2msl", "msl"],
        summary: "Linux keeps TIME_WAIT for 60 s: a constant, TCP_TIMEWAIT_LEN, in every mainline kernel. No setting changes \
                  it; RFC 9293 asks for twice two minutes.",
        sections: &[
            (
                "What it is for",
                &[
                    "Segments of the old connection that come late must not be taken for a new one between the same addresses and \
                     ports; and a peer that repeats its FIN because our last ACK was lost must get an answer.",
                ],
            ),
            (
                "What changes it after all",
                &[
                    "Alibaba Cloud Linux 2 and 3 have net.ipv4.tcp_tw_timeout (dropped in 4). Elsewhere: SOCK_DESTROY (`tidewait \
                     reap`, `ss -K`) removes sockets in TIME_WAIT since 6.0, and tcp_tw_reuse lets connect() take them over.",
                    "A late segment starts the 60 s anew, so that some live longer.",
                ],
            ),
        ],
        corrections: &[claims::FIN_TIMEOUT, claims::KEEPALIVE],
        here: &[Here::TimeWaitSeconds, Here::State(State::TimeWait)],
        see_also: &["TIME_WAIT", "how-low-is-safe", "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_fin_timeout"],
        sources: &["include/net/tcp.h (4.1 to 7.1)", "RFC 9293 section 3.4.2, 3.6.1"],
    },
    Article {
        topic: "how-low-is-safe",
        kind: Kind::Concept,
        aliases: &["safe-time-wait", "shorter-time-wait", "time-wait-10-seconds", "beyond-10-seconds"],
        summary: "Nobody has published how often TIME_WAIT is needed after 10 s, and so no number can be called safe. What can \
                  be said is what depends on it, and that tcp_tw_reuse is safer than any shorter time.",
        sections: &[
            (
                "What can be said",
                &[
                    "Answering a repeated FIN matters for as long as the peer repeats it: from 200 ms, doubling. Without an answer \
                     the peer gets a reset after all data was read: no data is lost, a held descriptor may show ECONNRESET.",
                    "Late segments do harm only if the same four-tuple is opened again while they live and they fall into its \
                     window, and not if both ends send timestamps (PAWS). Inside one network they live far below a second.",
                    "The kernel's own comment: with PAWS, 3.5 times the retransmission time-out would do.",
                ],
            ),
            (
                "Why tcp_tw_reuse is safer",
                &[
                    "The new connection starts above the old one's sequence numbers and keeps its timestamps. After TIME_WAIT was \
                     removed, both are forgotten: the new number is above the old only below 15.6 MB/s.",
                ],
            ),
            (
                "How to find out here",
                &[
                    "`tidewait study` counts the segments that arrive for sockets in TIME_WAIT, by age and kind, with how many sockets \
                     it watched. `tidewait reap` stays above the ages that it saw.",
                ],
            ),
            (
                "Opinions, for comparison",
                &[
                    "NANOG, 2012: 20 s safe, 15 s \"99 % OK\". Solaris 11.4: not below 10 s. None came with data.",
                ],
            ),
        ],
        corrections: &[],
        here: &[
            Here::TimeWaitSeconds,
            Here::Setting("net.ipv4.tcp_tw_reuse"),
            Here::Setting("net.ipv4.tcp_timestamps"),
        ],
        see_also: &["why-60-seconds", "timestamps-and-reuse", "net.ipv4.tcp_tw_reuse"],
        sources: &[
            "net/ipv4/inet_timewait_sock.c __inet_twsk_schedule(), net/core/secure_seq.c (6.18)",
            "RFC 1337, RFC 6191, RFC 7323",
        ],
    },
    Article {
        topic: "who-keeps-time-wait",
        kind: Kind::Concept,
        aliases: &["who-closes-first", "active-close"],
        summary: "The side that closes first keeps TIME_WAIT; the other side keeps nothing. A client that closes first \
                  holds a local port for 60 s, a server that closes first holds 0.5 kB of memory.",
        sections: &[
            (
                "What to do with it",
                &[
                    "Let the side close first that can afford it: for a proxy's upstream connections that is the server (its \
                     keep-alive time shorter than the client's). The client must then bear a close in between.",
                ],
            ),
            (
                "How to see it here",
                &[
                    "`tidewait report --trace 10` counts for each program and destination how many connections closed here first and \
                     how many at the peer. On the wire: the first FIN.",
                    "A program that closes second keeps nothing: its port is free as soon as the connection has ended, and settings of \
                     TIME_WAIT change nothing for it on this machine.",
                ],
            ),
            (
                "No TIME_WAIT at all",
                &["A reset: SO_LINGER with time 0, or close() with data unread. The peer sees an error."],
            ),
        ],
        corrections: &[claims::NOBODYS],
        here: &[Here::State(State::TimeWait), Here::Sides, Here::ClosesFirst],
        see_also: &[
            "TIME_WAIT",
            "owner-of-time-wait",
            "SO_LINGER",
            "time-wait-incoming",
            "time-wait-and-memory",
        ],
        sources: &["RFC 9293 section 3.6", "net/ipv4/tcp.c __tcp_close() (6.18)"],
    },
    Article {
        topic: "owner-of-time-wait",
        kind: Kind::Concept,
        aliases: &["tracing", "trace", "--trace", "whose-time-wait", "time-wait-owner"],
        summary: "A socket in TIME_WAIT belongs to no process any more: no uid, no inode. tidewait knows whose it was where the \
                  connection was traced while it lived; else it infers it from live connections to the same destination.",
        sections: &[
            (
                "How it is known",
                &[
                    "A BPF program at the kernel's tracepoint of state changes sees connect(), listen() and close() in the process \
                     that calls them, and notes it with the cookie of the socket. The socket in TIME_WAIT has the same cookie, and the \
                     report finds it by that: \"traced\".",
                    "That holds for processes that live for a millisecond, in containers and in other network namespaces, too.",
                ],
            ),
            (
                "What else it shows",
                &[
                    "Who closes first, how long connections live, and so how many would do if they were kept: rate times lifetime is \
                     how many are open at a time on average.",
                    "connect() that finds no port (EADDRNOTAVAIL) and bind() that finds none (EADDRINUSE), by process. Whether the \
                     port was chosen before connect(), which tells the two pools apart.",
                ],
            ),
            (
                "What it cannot show",
                &[
                    "Anything from before: sockets that were in TIME_WAIT when it began have no owner, and stay for up to a minute. A \
                     connection opened before and closed then counts as closed, without its lifetime.",
                    "It needs root (CAP_BPF and CAP_PERFMON) and a kernel with BTF: `tidewait doctor` says what is missing. What \
                     its tables could not hold is counted and told.",
                ],
            ),
        ],
        corrections: &[claims::NOBODYS],
        here: &[Here::State(State::TimeWait), Here::ClosesFirst],
        see_also: &["who-keeps-time-wait", "two-pools", "TIME_WAIT", "EADDRNOTAVAIL"],
        sources: &[
            "net/ipv4/inet_timewait_sock.c inet_twsk_alloc(), net/ipv4/tcp_diag.c (6.18)",
            "include/trace/events/sock.h inet_sock_set_state (6.18)",
        ],
    },
    Article {
        topic: "time-wait-and-memory",
        kind: Kind::Concept,
        aliases: &["time-wait-cost", "tw-memory"],
        summary: "A socket in TIME_WAIT costs 256 bytes, and with a port of its own 524 in all: 100,000 are 52 MB at most. \
                  Memory is no reason to fight it.",
        sections: &[
            (
                "What else it costs",
                &[
                    "Nothing in net.ipv4.tcp_mem, no descriptor, no orphan slot. They stand in the same hash chains as open \
                     connections: a million in 262,144 buckets is felt, thousands are not.",
                ],
            ),
            (
                "The limit",
                &["net.ipv4.tcp_max_tw_buckets. Above it connections close without TIME_WAIT: counted in \
                   TcpExt.TCPTimeWaitOverflow, not logged. Lowering it gives up the protection, not ports in an orderly way."],
            ),
        ],
        corrections: &[claims::THIRTY_THOUSAND, claims::TABLE_OVERFLOW],
        here: &[
            Here::TimeWaitMemory,
            Here::Setting("net.ipv4.tcp_max_tw_buckets"),
            Here::Counter("TcpExt.TCPTimeWaitOverflow"),
        ],
        see_also: &["TIME_WAIT", "net.ipv4.tcp_max_tw_buckets", "time-wait-overflow"],
        sources: &["struct tcp_timewait_sock, tw_sock_TCP slab (measured on 6.18)"],
    },
    Article {
        topic: "timestamps-and-reuse",
        kind: Kind::Concept,
        aliases: &["paws", "tw-reuse-conditions"],
        summary: "tcp_tw_reuse takes a socket over only if the old connection had timestamps from both ends and is a second \
                  old: they are what tells an old segment from a new one.",
        sections: &[
            (
                "When it does nothing",
                &[
                    "One end sends no timestamps (net.ipv4.tcp_timestamps=0, or a peer without them). The value is 2 and the \
                     destination is not loopback: 127.0.0.0/8 and ::1, not the machine's own other addresses. bind() chose the \
                     port. The socket is in FIN_WAIT2 (6.12).",
                ],
            ),
            (
                "How fast then",
                &[
                    "ports / delay: 28,232 a second for one destination at 1 s. net.ipv4.tcp_tw_reuse_delay lowers the delay (6.14): \
                   100 ports gave 100, 1,000 and 9,032 connects a second at 1000, 100 and 10 ms.",
                ],
            ),
        ],
        corrections: &[claims::REUSE_DEFAULT, claims::REUSE_NO_EFFECT, claims::RECYCLE],
        here: &[
            Here::Setting("net.ipv4.tcp_tw_reuse"),
            Here::Setting("net.ipv4.tcp_timestamps"),
            Here::Setting("net.ipv4.tcp_tw_reuse_delay"),
            Here::Counter("TcpExt.TWRecycled"),
        ],
        see_also: &["net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_timestamps", "two-pools", "how-low-is-safe"],
        sources: &["net/ipv4/tcp_ipv4.c tcp_twsk_unique() (6.18)", "RFC 7323 section 5, RFC 6191"],
    },
];
