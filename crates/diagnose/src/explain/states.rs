//! The states of a TCP socket: what each means, what ends it, what many of them tell.

use tidewait_model::State;
use tidewait_model::explain::Kind;

use super::article::Article;
use super::claims;
use super::here::Here;

const RFC: &str = "RFC 9293 section 3.3.2";

const fn state(topic: &'static str, aliases: &'static [&'static str], summary: &'static str) -> Article {
    Article {
        topic,
        kind: Kind::State,
        aliases,
        summary,
        sections: &[],
        corrections: &[],
        here: &[],
        see_also: &[],
        sources: &[RFC],
    }
}

/// Every state, in the order in which a connection goes through them.
pub(super) const STATES: &[Article] = &[
    Article {
        sections: &[
            ("What ends it", &["connect() or listen() on it, or close()."]),
            (
                "What many of them tell",
                &[
                    "A program that calls bind() and then waits or forgets. Each takes its port from every plain connect() in \
                     the namespace. Linux shows them since 6.8 (`ss -B`).",
                ],
            ),
        ],
        here: &[Here::State(State::BoundInactive), Here::Ports],
        see_also: &["two-pools", "bind-pool-exhausted", "IDLE"],
        sources: &["net/ipv4/inet_diag.c TCPF_BOUND_INACTIVE (6.8)"],
        ..state(
            "BOUND_INACTIVE",
            &["BOUND", "bound-inactive"],
            "The socket holds a port by bind() and neither listens nor connects. BOUND in Solaris and in some manuals.",
        )
    },
    Article {
        sections: &[(
            "On Linux",
            &[
                "No list shows it: a socket without a port is in no table. Only its descriptor is there, under /proc/PID/fd. \
                 A closed connection whose descriptor was never closed looks the same.",
            ],
        )],
        see_also: &["CLOSE", "BOUND_INACTIVE", "file-descriptors"],
        sources: &["netstat(8) of Solaris; net/ipv4/inet_hashtables.c (6.18)"],
        ..state(
            "IDLE",
            &[],
            "The socket was made and never bound or connected: Solaris' name. Linux calls that state CLOSE.",
        )
    },
    Article {
        sections: &[
            ("What ends it", &["close() of the socket."]),
            (
                "What goes wrong",
                &[
                    "If the program does not accept() in time, the accept queue fills and new connections are dropped.",
                ],
            ),
        ],
        here: &[
            Here::State(State::Listen),
            Here::Listeners,
            Here::Findings(&["accept-queue-overflow", "listener-in-port-range"]),
        ],
        see_also: &["accept-queue", "port-range-and-listeners", "net.core.somaxconn"],
        ..state("LISTEN", &["listening"], "The socket accepts connections.")
    },
    Article {
        sections: &[
            (
                "What ends it",
                &[
                    "An answer, or net.ipv4.tcp_syn_retries repeats: with 6 of them, the default, about two minutes.",
                ],
            ),
            (
                "What many of them tell",
                &[
                    "Peers that do not answer: a host that is down, a firewall that drops, a full accept queue there; or a full \
                     table of connection tracking or of SNAT ports on the way, which drops the SYN without an error.",
                ],
            ),
        ],
        here: &[
            Here::State(State::SynSent),
            Here::Setting("net.ipv4.tcp_syn_retries"),
            Here::Findings(&["syn-sent-pileup", "conntrack-full"]),
        ],
        see_also: &["ETIMEDOUT", "conntrack-and-snat", "net.ipv4.tcp_syn_retries"],
        ..state(
            "SYN_SENT",
            &["syn-sent"],
            "connect() has sent a SYN and waits for the answer. The local port is taken already.",
        )
    },
    Article {
        sections: &[
            (
                "On Linux",
                &[
                    "Since 4.4 a half-open connection is a small request socket, NEW_SYN_RECV inside the kernel; `ss` and \
                     netstat print both as SYN-RECV.",
                ],
            ),
            (
                "What many of them tell",
                &[
                    "Clients that never answer the SYN-ACK: a SYN flood, or replies that are lost on the way back.",
                ],
            ),
        ],
        here: &[
            Here::State(State::SynRecv),
            Here::State(State::NewSynRecv),
            Here::Setting("net.ipv4.tcp_max_syn_backlog"),
        ],
        see_also: &["NEW_SYN_RECV", "syn-flooding", "accept-queue"],
        sources: &[RFC, "include/net/tcp_states.h (6.18)"],
        ..state(
            "SYN_RECV",
            &["SYN_RECEIVED", "syn-rcvd", "syn-recv"],
            "A SYN has come in, the answer is sent, the peer's ACK is awaited.",
        )
    },
    Article {
        here: &[Here::State(State::NewSynRecv), Here::Setting("net.ipv4.tcp_max_syn_backlog")],
        see_also: &["SYN_RECV", "syn-flooding"],
        sources: &["include/net/tcp_states.h (6.18)"],
        ..state(
            "NEW_SYN_RECV",
            &["request-sock", "half-open"],
            "A half-open incoming connection, kept as a small request socket since Linux 4.4; `ss` prints it as SYN-RECV.",
        )
    },
    Article {
        sections: &[
            (
                "What ends it",
                &[
                    "close() or shutdown() on either side, a reset, or a time-out of what was sent. A silent peer is not noticed \
                     without SO_KEEPALIVE or data to send.",
                ],
            ),
            (
                "What many of them tell",
                &["Work, mostly. As a client, each holds a local port for its destination."],
            ),
        ],
        here: &[Here::State(State::Established), Here::Fullest],
        see_also: &["keepalive", "ports-per-destination"],
        ..state("ESTABLISHED", &["estab", "connected"], "The connection is open on both sides.")
    },
    Article {
        sections: &[(
            "What ends it",
            &[
                "The peer's ACK. Without one: retransmissions, and when the program has closed, net.ipv4.tcp_orphan_retries (0 \
                 stands for 8). With a closed window of the peer it may last long.",
            ],
        )],
        here: &[
            Here::State(State::FinWait1),
            Here::Setting("net.ipv4.tcp_orphan_retries"),
            Here::Orphans,
            Here::Findings(&["fin-wait1-stuck", "orphans-near-limit"]),
        ],
        see_also: &["fin-wait1-stuck", "orphans", "FIN_WAIT2", "net.ipv4.tcp_orphan_retries"],
        sources: &[RFC, "net/ipv4/tcp_timer.c tcp_orphan_retries() (6.18)"],
        ..state(
            "FIN_WAIT1",
            &["FIN_WAIT_1", "fin-wait-1"],
            "Closed here first; our FIN is not acknowledged yet.",
        )
    },
    Article {
        sections: &[
            (
                "What ends it",
                &[
                    "The peer's close. If the program here has closed the descriptor (an orphan): net.ipv4.tcp_fin_timeout. If it \
                     still holds it (shutdown() only): nothing, there is no timer at all.",
                ],
            ),
            (
                "What many of them tell",
                &[
                    "The peer does not close: look for CLOSE_WAIT there. Here they are harmless once orphaned.",
                ],
            ),
        ],
        corrections: &[claims::FIN_TIMEOUT],
        here: &[
            Here::State(State::FinWait2),
            Here::Setting("net.ipv4.tcp_fin_timeout"),
            Here::Findings(&["fin-wait2-stuck"]),
        ],
        see_also: &["net.ipv4.tcp_fin_timeout", "orphans", "CLOSE_WAIT", "TIME_WAIT"],
        sources: &[RFC, "net/ipv4/tcp.c __tcp_close(), tcp_minisocks.c (6.18)"],
        ..state(
            "FIN_WAIT2",
            &["FIN_WAIT_2", "fin-wait-2"],
            "Closed here first and acknowledged; the peer has not closed yet. Orphaned ones are kept for \
             tcp_fin_timeout, held ones for as long as the program likes.",
        )
    },
    Article {
        sections: &[(
            "What ends it",
            &["The peer's ACK, after which comes TIME_WAIT; else the same retransmissions as in FIN_WAIT1."],
        )],
        here: &[Here::State(State::Closing)],
        see_also: &["FIN_WAIT1", "TIME_WAIT"],
        ..state(
            "CLOSING",
            &[],
            "Both sides closed at the same time; our FIN is not acknowledged yet. Rare, and brief.",
        )
    },
    Article {
        sections: &[
            (
                "What ends it",
                &[
                    "Time: 60 s in mainline, no setting changes that. It starts again with late segments of the old connection. \
                     connect() may take the socket over with net.ipv4.tcp_tw_reuse.",
                ],
            ),
            (
                "What many of them tell",
                &[
                    "This side closes first, often. Outgoing ones hold a local port for their destination: that is what runs out. \
                     Incoming ones cost about 0.5 kB each and no port.",
                ],
            ),
            (
                "What to do",
                &[
                    "Keep connections open and use them again; then more ports (net.ipv4.ip_local_port_range), tcp_tw_reuse=1 \
                     where connect() chooses the port, more addresses. `tidewait report` says which of these counts here.",
                ],
            ),
        ],
        corrections: &[claims::FIN_TIMEOUT, claims::KEEPALIVE, claims::THIRTY_THOUSAND],
        here: &[
            Here::State(State::TimeWait),
            Here::TimeWaitSeconds,
            Here::Fullest,
            Here::Setting("net.ipv4.tcp_tw_reuse"),
            Here::Findings(&[
                "ports-exhausted",
                "ports-running-out",
                "port-search-cliff",
                "bind-pool-exhausted",
                "time-wait-overflow",
                "time-wait-incoming",
            ]),
        ],
        see_also: &[
            "why-60-seconds",
            "who-keeps-time-wait",
            "time-wait-and-memory",
            "net.ipv4.tcp_tw_reuse",
            "how-low-is-safe",
        ],
        sources: &[
            "RFC 9293 section 3.6",
            "include/net/tcp.h TCP_TIMEWAIT_LEN, net/ipv4/tcp_minisocks.c (6.18)",
        ],
        ..state(
            "TIME_WAIT",
            &["time-wait", "timewait", "tw"],
            "Closed on both sides, and this side closed first: the kernel keeps the pair of addresses and ports for 60 s, \
             so that late segments and a repeated FIN find it. The program has no part in it any more.",
        )
    },
    Article {
        sections: &[
            ("What ends it", &["close() by the program. Nothing else: there is no timer."]),
            (
                "What to do",
                &[
                    "Find the program (`tidewait report --owners`, `ss -tnp state close-wait`) and fix or restart it: a handler \
                     that returns without closing, a pool that does not look at its idle connections, a thread that hangs.",
                    "SO_KEEPALIVE ends the connection some time after the peer is gone, not the descriptor: the program goes on \
                     leaking, out of sight.",
                ],
            ),
        ],
        corrections: &[claims::CLOSE_WAIT_SETTINGS],
        here: &[
            Here::State(State::CloseWait),
            Here::Lingering(State::CloseWait),
            Here::Findings(&["close-wait-leak", "fd-limit-near"]),
        ],
        see_also: &["close-wait-is-the-programs-bug", "close-wait-leak", "FIN_WAIT2", "keepalive"],
        sources: &[RFC, "net/ipv4/tcp_input.c tcp_fin() (6.18)"],
        ..state(
            "CLOSE_WAIT",
            &["close-wait", "closewait"],
            "The peer has closed; the program here has not. It lasts until the program calls close(): many of them are a \
             fault of the program.",
        )
    },
    Article {
        sections: &[(
            "What ends it",
            &["The peer's ACK; without one, as an orphan: net.ipv4.tcp_orphan_retries (0 stands for 8)."],
        )],
        here: &[
            Here::State(State::LastAck),
            Here::Setting("net.ipv4.tcp_orphan_retries"),
            Here::Orphans,
            Here::Findings(&["last-ack-stuck", "orphans-near-limit"]),
        ],
        see_also: &["last-ack-stuck", "CLOSE_WAIT", "orphans"],
        ..state(
            "LAST_ACK",
            &["last-ack"],
            "The peer closed first, then we did; our FIN is not acknowledged yet.",
        )
    },
    Article {
        sections: &[(
            "On Linux",
            &[
                "Such a socket is in no table: `ss` and netstat do not list it. If the program keeps the descriptor of a closed \
                 connection, only /proc/PID/fd shows it.",
            ],
        )],
        here: &[Here::SocketsWithoutConnection],
        see_also: &["IDLE", "file-descriptors", "close-wait-is-the-programs-bug"],
        ..state(
            "CLOSE",
            &["CLOSED", "unconn"],
            "Not connected: not yet, or not any more. CLOSED in RFC 9293.",
        )
    },
];
