//! Concepts of local ports: for whom they run out, who chooses them, when the search gets slow.

use tidewait_model::explain::Kind;

use crate::explain::article::Article;
use crate::explain::claims;
use crate::explain::here::Here;

/// What a range that fills up comes to.
const FULL: &[&str] = &["ports-exhausted", "ports-running-out", "port-search-cliff"];

pub(super) const CONCEPTS: &[Article] = &[
    Article {
        topic: "ports-per-destination",
        kind: Kind::Concept,
        aliases: &[
            "ephemeral-ports",
            "local-ports",
            "port-exhaustion",
            "4-tuple",
            "500-a-second",
            "address-space-exhausted",
        ],
        summary: "A connection is told by four things: both addresses and both ports. A local port is taken for one \
                  destination address and port only; another destination has the whole range again.",
        sections: &[
            (
                "The arithmetic",
                &[
                    "ports / seconds in TIME_WAIT = connections a second that can be opened and closed, for each source address and \
                     destination: 28,232 / 60 = 470, with 32,768 ports 546. `tidewait capacity` does it for any figures.",
                ],
            ),
            (
                "What multiplies it",
                &[
                    "Another destination address or port, another source address (`tidewait spread` gives them in turn to a program that \
                     chooses none), a wider range. All of it only where connect() \
                     chooses the port: after bind(address, 0) the range is shared by all destinations (two-pools).",
                ],
            ),
        ],
        corrections: &[claims::FIVE_HUNDRED, claims::ADDRESS_SPACE, claims::THIRTY_THOUSAND],
        here: &[Here::Ports, Here::Fullest, Here::Findings(FULL)],
        see_also: &["two-pools", "half-range-cliff", "net.ipv4.ip_local_port_range", "ports-exhausted"],
        sources: &["net/ipv4/inet_hashtables.c __inet_hash_connect() (6.18)"],
    },
    Article {
        topic: "two-pools",
        kind: Kind::Concept,
        aliases: &["bind-pool", "connect-pool", "bind-before-connect", "bind-and-connect"],
        summary: "A local port is chosen either by connect(), for one destination, or by bind() before it, for all \
                  destinations of the source address. The second pool is much smaller, and tcp_tw_reuse does not apply to it.",
        sections: &[
            (
                "connect() chooses",
                &[
                    "Error EADDRNOTAVAIL (99) when none is left. TIME_WAIT to another destination is not in the way, and \
                   tcp_tw_reuse=1 lets connect() take over TIME_WAIT.",
                ],
            ),
            (
                "bind(address, 0) chooses",
                &[
                    "Error EADDRINUSE (98). A port in TIME_WAIT to whatever destination is taken; bind(0.0.0.0, 0) competes with \
                     the whole namespace. With tcp_tw_reuse=1 it still failed 1.5 s later, for every destination (6.18).",
                    "Ports that were bound are also skipped by plain connect() until they are free.",
                ],
            ),
            (
                "How to tell, and what to do",
                &[
                    "`tidewait report` tells the pool of a destination: connect() prefers ports that are even like the range's first (or \
                     odd like it), bind() the others.",
                    "Let the program set IP_BIND_ADDRESS_NO_PORT before bind(address, 0): then connect() chooses. Or do not bind \
                     where routing gives the same address. `tidewait exec --no-port -- COMMAND` sets it for a program that does not.",
                ],
            ),
        ],
        corrections: &[claims::REUSE_NO_EFFECT, claims::REUSEADDR],
        here: &[Here::Pools, Here::Findings(&["bind-pool-exhausted"])],
        see_also: &[
            "IP_BIND_ADDRESS_NO_PORT",
            "bind-pool-exhausted",
            "EADDRINUSE",
            "EADDRNOTAVAIL",
            "net.ipv4.tcp_tw_reuse",
        ],
        sources: &["net/ipv4/inet_connection_sock.c inet_csk_get_port(), inet_hashtables.c (6.18)"],
    },
    Article {
        topic: "half-range-cliff",
        kind: Kind::Concept,
        aliases: &["port-search", "parity", "connect-is-slow", "cliff"],
        summary: "connect() looks through one half of the range first: the even ports, if its first is even. Once that half is full for a \
                  destination, every connect() searches it to the end: slow, and without any error.",
        sections: &[
            (
                "Measured",
                &[
                    "28,232 ports, one destination, 2 cores, 6.18: up to 49 % in use 38,000 to 100,000 connects a second; from 51 \
                     % about 675, at 1.5 ms of CPU in each connect().",
                    "It is met as \"the proxy burns CPU\"; an alarm at 90 % comes late.",
                ],
            ),
            (
                "What to do",
                &[
                    "Stay under half: reuse connections, or a wider range. tcp_tw_reuse=1 removes it where the range is full of \
                     TIME_WAIT: the first such port is taken. IP_LOCAL_PORT_RANGE on the socket ends the search by halves (6.8).",
                    "`tidewait steer` chooses the port for a program that is not changed, without any search, and also where open \
                     connections fill the range.",
                ],
            ),
        ],
        corrections: &[],
        here: &[Here::Fullest, Here::Findings(FULL)],
        see_also: &[
            "port-search-cliff",
            "IP_LOCAL_PORT_RANGE",
            "net.ipv4.tcp_tw_reuse",
            "ports-per-destination",
        ],
        sources: &["net/ipv4/inet_hashtables.c __inet_hash_connect() (6.18)", "RFC 6056 algorithm 4"],
    },
    Article {
        topic: "port-range-and-listeners",
        kind: Kind::Concept,
        aliases: &["listener-in-range", "service-port-in-range"],
        summary: "A service whose port lies in the automatic range takes that port from every connect(), on any address; and \
                  after a restart it may find its port taken by a connection.",
        sections: &[(
            "What to do",
            &[
                "Name the port in net.ipv4.ip_local_reserved_ports: the automatic choice leaves it out, an explicit bind() is \
                 not affected. Do so before widening the range over ports where services listen.",
            ],
        )],
        corrections: &[],
        here: &[Here::Ports, Here::Findings(&["listener-in-port-range"])],
        see_also: &["net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_local_port_range", "EADDRINUSE"],
        sources: &["net/ipv4/inet_hashtables.c inet_is_local_reserved_port() (6.18)", "ip-sysctl.rst"],
    },
];
