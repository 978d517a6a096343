//! Concepts of connections that do not end: leaks, orphans, silent peers.

use tidewait_model::State;
use tidewait_model::explain::Kind;

use crate::explain::article::Article;
use crate::explain::claims;
use crate::explain::here::Here;

pub(super) const CONCEPTS: &[Article] = &[
    Article {
        topic: "close-wait-is-the-programs-bug",
        kind: Kind::Concept,
        aliases: &["close-wait-bug", "socket-leak"],
        summary: "CLOSE_WAIT means that the peer has closed and the program here was told, by a read of length 0, and did not \
                  close. The kernel waits for as long as it takes.",
        sections: &[
            (
                "Where to look",
                &[
                    "Receive queue 1: the program does not even read the end of file, so it does not look at that connection at \
                     all (a pool, a hung thread). Receive queue 0: it read it and forgot to close (an error path).",
                    "Sockets without connection beside it: the same leak after keepalive or a reset. They are in no socket table, \
                     only among the descriptors; so few CLOSE_WAIT do not mean that there is no leak.",
                ],
            ),
            (
                "What to do",
                &[
                    "Fix it or restart it; a restart every night is a way to live until then. `ss -K` frees the connection and its \
                   port, not the descriptor.",
                ],
            ),
        ],
        corrections: &[claims::CLOSE_WAIT_SETTINGS],
        here: &[
            Here::State(State::CloseWait),
            Here::Lingering(State::CloseWait),
            Here::SocketsWithoutConnection,
        ],
        see_also: &["CLOSE_WAIT", "close-wait-leak", "file-descriptors", "keepalive"],
        sources: &["net/ipv4/tcp_input.c tcp_fin(), tcp_timer.c tcp_keepalive_timer() (6.18)"],
    },
    Article {
        topic: "orphans",
        kind: Kind::Concept,
        aliases: &["orphaned-sockets", "orphan"],
        summary: "An orphan is a connection whose program has closed it or is gone, and that the kernel still has to finish: \
                  FIN_WAIT1, LAST_ACK, CLOSING. TIME_WAIT is none.",
        sections: &[
            (
                "The limit",
                &[
                    "net.ipv4.tcp_max_orphans, one for the machine. Above it they are reset and the kernel logs `too many orphaned \
                     sockets`. It is checked more strictly for connections that retransmit.",
                ],
            ),
            (
                "What many of them tell",
                &[
                    "Peers that vanished with data under way, or that hold their window closed. net.ipv4.tcp_orphan_retries says for \
                   how long the kernel tries (0 stands for 8).",
                ],
            ),
        ],
        corrections: &[],
        here: &[
            Here::Orphans,
            Here::Setting("net.ipv4.tcp_max_orphans"),
            Here::Findings(&["orphans-near-limit"]),
        ],
        see_also: &[
            "FIN_WAIT1",
            "LAST_ACK",
            "net.ipv4.tcp_max_orphans",
            "net.ipv4.tcp_orphan_retries",
            "too-many-orphans",
        ],
        sources: &["net/ipv4/tcp.c tcp_check_oom(), tcp_timer.c tcp_out_of_resources() (6.18)"],
    },
    Article {
        topic: "keepalive",
        kind: Kind::Concept,
        aliases: &["tcp-keepalive", "dead-peers"],
        summary: "Keepalive finds out that the peer of an idle open connection is gone. It works only for sockets with \
                  SO_KEEPALIVE, and has nothing to do with TIME_WAIT.",
        sections: &[
            (
                "How long it takes",
                &[
                    "net.ipv4.tcp_keepalive_time + probes * interval: 7200 + 9 * 75 s = 2 h 11 min unless set otherwise, there or by \
                   the program (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT).",
                ],
            ),
            (
                "Not the same",
                &[
                    "HTTP keep-alive: connections are used again. That is the one that saves ports.",
                    "TCP_USER_TIMEOUT: for data that is not acknowledged; without data it does nothing.",
                ],
            ),
        ],
        corrections: &[claims::KEEPALIVE],
        here: &[
            Here::Setting("net.ipv4.tcp_keepalive_time"),
            Here::Setting("net.ipv4.tcp_keepalive_intvl"),
            Here::Setting("net.ipv4.tcp_keepalive_probes"),
        ],
        see_also: &["SO_KEEPALIVE", "TCP_USER_TIMEOUT", "net.ipv4.tcp_keepalive_time", "CLOSE_WAIT"],
        sources: &["RFC 1122 section 4.2.3.6", "net/ipv4/tcp_timer.c tcp_keepalive_timer() (6.18)"],
    },
];
