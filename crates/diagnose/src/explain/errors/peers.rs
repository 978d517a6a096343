//! Errors about peers: refused, silent, reset, gone. None of them is a lack of local ports.

use tidewait_model::State;

use super::error;
use crate::explain::article::Article;
use crate::explain::here::Here;

pub(super) const ERRORS: &[Article] = &[
    Article {
        sections: &[(
            "What to do",
            &[
                "`curl -v` prints the reason before that line: paste it here. Refused: nobody listens. Timed out: no answer. Cannot \
               assign requested address: no local port for it, or no IPv6.",
            ],
        )],
        see_also: &["ECONNREFUSED", "ETIMEDOUT", "EADDRNOTAVAIL-connect", "EADDRNOTAVAIL-ipv6"],
        sources: &["curl(1), exit code 7"],
        ..error(
            "curl-7",
            &["couldnt-connect-to-server"],
            "curl could not connect, and this line does not say why: any of the errors of connect() ends so.",
        )
    },
    Article {
        sections: &[
            (
                "What to do",
                &[
                    "`ss -ltn` on the peer: does it listen on that address (not on 127.0.0.1 only) and port? Firewalls may answer so \
                   too. If it comes and goes under load: its net.ipv4.tcp_abort_on_overflow is 1 and its accept queue full.",
                ],
            ),
            ("Not the cause", &["Local ports and TIME_WAIT here: connect() got through to the peer."]),
        ],
        see_also: &["accept-queue", "net.ipv4.tcp_abort_on_overflow", "ETIMEDOUT"],
        sources: &["connect(2)", "RFC 9293 section 3.5.2"],
        ..error(
            "ECONNREFUSED",
            &["111", "errno-111", "connection-refused"],
            "\"Connection refused\": the peer answered the SYN with a reset. Nothing listens at that address and port.",
        )
    },
    Article {
        sections: &[
            (
                "At connect()",
                &[
                    "Peer down, a firewall that drops, a full accept queue there, a full table of connection tracking or no SNAT port \
                   left on the way. Look for SYN_SENT here, ListenOverflows there, `conntrack -S` between.",
                ],
            ),
            (
                "On an open connection",
                &[
                    "Data was not acknowledged until net.ipv4.tcp_retries2 ran out (about 15 min), or keepalive probes were not \
                   answered.",
                ],
            ),
            ("Not the cause", &["Local ports: without one connect() fails at once, with EADDRNOTAVAIL."]),
        ],
        here: &[
            Here::State(State::SynSent),
            Here::Setting("net.ipv4.tcp_syn_retries"),
            Here::Conntrack,
            Here::Listeners,
            Here::Findings(&["syn-sent-pileup", "conntrack-full", "accept-queue-overflow"]),
        ],
        see_also: &["SYN_SENT", "conntrack-and-snat", "accept-queue", "keepalive"],
        sources: &["connect(2), tcp(7)", "net/ipv4/tcp_timer.c tcp_write_timeout() (6.18)"],
        ..error(
            "ETIMEDOUT",
            &["110", "errno-110", "connection-timed-out", "operation-timed-out"],
            "\"Connection timed out\": the peer did not answer, at connect() or on an open connection.",
        )
    },
    Article {
        sections: &[
            (
                "Usual causes",
                &[
                    "A kept connection that the peer had closed as idle just when it was used again: let the client's idle time be \
                     shorter than the server's, and repeat the request.",
                    "The peer's process died, or closed with data unread, or with SO_LINGER and time 0. The peer's machine destroyed \
                     the socket (`ss -K`) or was out of orphans or memory.",
                ],
            ),
            ("Not the cause", &["Local ports and TIME_WAIT: there was a connection."]),
        ],
        see_also: &["SO_LINGER", "orphans", "EPIPE", "ECONNABORTED"],
        sources: &["tcp(7)", "RFC 9293 section 3.5.2", "net/ipv4/tcp.c __tcp_close() (6.18)"],
        ..error(
            "ECONNRESET",
            &["104", "errno-104", "connection-reset", "connection-reset-by-peer", "reset-by-peer"],
            "\"Connection reset by peer\": the peer ended the connection with a reset, not with a close.",
        )
    },
    Article {
        sections: &[(
            "What to do",
            &["As with ECONNRESET: do not keep a connection for longer than the peer does."],
        )],
        see_also: &["ECONNRESET", "CLOSE_WAIT"],
        sources: &["send(2)", "net/ipv4/tcp.c tcp_sendmsg_locked() (6.18)"],
        ..error(
            "EPIPE",
            &["32", "errno-32", "broken-pipe"],
            "\"Broken pipe\": the program wrote to a connection that was closed already, by itself or after the peer's reset.",
        )
    },
    Article {
        sections: &[(
            "Who does that",
            &[
                "`ss -K` or another tool with SOCK_DESTROY on this machine; on accept(): the client had gone before it was accepted.",
            ],
        )],
        see_also: &["ECONNRESET", "CLOSE_WAIT"],
        sources: &["net/ipv4/tcp.c tcp_abort() (6.18), accept(2)"],
        ..error(
            "ECONNABORTED",
            &["103", "errno-103", "software-caused-connection-abort", "connection-aborted"],
            "\"Software caused connection abort\": the connection was ended on this machine, not by the peer.",
        )
    },
    Article {
        sections: &[(
            "Not the cause",
            &[
                "Local ports and TIME_WAIT. (Java calls EADDRNOTAVAIL a NoRouteToHostException: the text behind it counts.)",
            ],
        )],
        see_also: &["ETIMEDOUT", "EADDRNOTAVAIL"],
        sources: &["connect(2), ip(7)"],
        ..error(
            "EHOSTUNREACH",
            &["113", "errno-113", "no-route-to-host", "enetunreach", "network-is-unreachable", "101"],
            "\"No route to host\", \"Network is unreachable\": routing, ARP or a firewall that answers with ICMP says no.",
        )
    },
];
