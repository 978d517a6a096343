//! Errors about local addresses and ports: EADDRNOTAVAIL and EADDRINUSE, each by the call that it comes from.

use tidewait_model::State;

use super::error;
use crate::explain::article::Article;
use crate::explain::claims;
use crate::explain::here::Here;

const PORTS: &[&str] = &["ports-exhausted", "ports-running-out", "port-search-cliff", "bind-pool-exhausted"];

const PORT_FACTS: &[Here] = &[
    Here::Ports,
    Here::State(State::TimeWait),
    Here::Fullest,
    Here::Setting("net.ipv4.tcp_tw_reuse"),
    Here::Findings(PORTS),
];

pub(super) const ERRORS: &[Article] = &[
    Article {
        sections: &[
            ("At connect()", &["No local port is left for that destination: see EADDRNOTAVAIL-connect."]),
            (
                "At connect() to an IPv6 address",
                &["Mostly there is no IPv6 here to connect from: see EADDRNOTAVAIL-ipv6."],
            ),
            (
                "At bind() or listen()",
                &[
                    "The address is not one of this machine's, or not of this namespace: see EADDRNOTAVAIL-bind.",
                ],
            ),
            (
                "How to tell",
                &[
                    "The message names the call or the peer; else `strace -f -e trace=connect,bind -p PID`. An address that \
                   `ip address` lists rules out the second. Java's BindException comes from both calls: the next lines \
                     say Net.connect or Net.bind.",
                ],
            ),
        ],
        here: PORT_FACTS,
        see_also: &[
            "EADDRNOTAVAIL-connect",
            "EADDRNOTAVAIL-ipv6",
            "EADDRNOTAVAIL-bind",
            "ports-exhausted",
            "two-pools",
        ],
        sources: &["connect(2), bind(2)", "net/ipv4/inet_hashtables.c, af_inet.c (6.18)"],
        ..error(
            "EADDRNOTAVAIL",
            &["99", "errno-99", "cannot-assign-requested-address", "eaddrnotavail"],
            "\"Cannot assign requested address\": connect() found no local port for this destination, or bind() was given \
             an address that this machine does not have.",
        )
    },
    Article {
        sections: &[
            (
                "What to do",
                &[
                    "1. Keep connections to that destination open and use them again.",
                    "2. More ports: net.ipv4.ip_local_port_range, services in it reserved first.",
                    "3. net.ipv4.tcp_tw_reuse=1, if both ends send timestamps: TIME_WAIT of that destination is taken over after 1 s.",
                    "4. Another source address, or another address or port of the destination.",
                ],
            ),
            (
                "Who is not hit",
                &[
                    "Connections to other destinations. The host is not out of ports, this pair of addresses is.",
                ],
            ),
        ],
        corrections: &[claims::FIN_TIMEOUT, claims::FIVE_HUNDRED],
        here: PORT_FACTS,
        see_also: &[
            "ports-exhausted",
            "ports-per-destination",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_tw_reuse",
        ],
        sources: &["connect(2)", "net/ipv4/inet_hashtables.c __inet_hash_connect() (6.18)"],
        ..error(
            "EADDRNOTAVAIL-connect",
            &["no-free-ports", "no-local-ports"],
            "connect() found no local port for this destination: every port of the range is held by a connection to it, mostly \
             in TIME_WAIT.",
        )
    },
    Article {
        sections: &[
            (
                "How to tell",
                &[
                    "`ip -6 -brief address` in the same namespace: without the address to connect from, it is that. In containers IPv6 \
                   is often off, and `localhost` is ::1 first. With net.ipv6.conf.all.disable_ipv6=1, connect() to ::1 failed so \
                   at once, to IPv4 not (6.18).",
                ],
            ),
            (
                "What to do",
                &[
                    "Connect to 127.0.0.1 by number, or give the container IPv6. If it has IPv6, it is the lack of ports: \
                   EADDRNOTAVAIL-connect.",
                ],
            ),
        ],
        here: PORT_FACTS,
        see_also: &["EADDRNOTAVAIL-connect", "EADDRNOTAVAIL", "namespaces-and-settings"],
        sources: &["net/ipv6/addrconf.c ipv6_dev_get_saddr(), tcp_ipv6.c tcp_v6_connect() (6.18)"],
        ..error(
            "EADDRNOTAVAIL-ipv6",
            &["no-ipv6", "localhost-ipv6"],
            "connect() to an IPv6 address found nothing to connect from: mostly there is no IPv6 in this namespace, else no local \
             port for this destination.",
        )
    },
    Article {
        sections: &[
            (
                "What to do",
                &[
                    "`ip -brief address` in the same namespace: is the address there, and up? A floating address (VRRP, keepalived) \
                     may be on the other machine now; in a container only its own addresses exist.",
                    "At boot: start after the network is online. net.ipv4.ip_nonlocal_bind=1 or IP_FREEBIND let a service bind an \
                     address that comes later; a client cannot connect from it before it is there.",
                    "`[::1]` in a container without IPv6 is such an address too; a link-local one needs its interface: fe80::1%eth0.",
                ],
            ),
            (
                "Not the cause",
                &["Ports and TIME_WAIT. bind() with a good address and no port left says EADDRINUSE (98)."],
            ),
        ],
        see_also: &["EADDRINUSE-bind-pool", "EADDRNOTAVAIL", "namespaces-and-settings"],
        sources: &["bind(2)", "net/ipv4/af_inet.c __inet_bind() (6.18)"],
        ..error(
            "EADDRNOTAVAIL-bind",
            &["foreign-address", "address-not-local"],
            "bind() was given an address that this machine, or this network namespace, does not have. No lack of ports.",
        )
    },
    Article {
        sections: &[
            (
                "A fixed port",
                &["Something listens there, or old connections of it linger: see EADDRINUSE-listen."],
            ),
            (
                "Port 0, which asks the kernel to choose",
                &[
                    "All ports of that source address are taken, for all destinations together: see EADDRINUSE-bind-pool.",
                ],
            ),
        ],
        here: &[
            Here::Ports,
            Here::State(State::TimeWait),
            Here::Pools,
            Here::Findings(&["bind-pool-exhausted"]),
        ],
        see_also: &["EADDRINUSE-listen", "EADDRINUSE-bind-pool", "two-pools"],
        sources: &["bind(2)", "net/ipv4/inet_connection_sock.c inet_csk_get_port() (6.18)"],
        ..error(
            "EADDRINUSE",
            &["98", "errno-98", "address-already-in-use"],
            "\"Address already in use\": bind() was given a port that is taken, or asked for any port (0) and found none.",
        )
    },
    Article {
        sections: &[
            (
                "What to do",
                &[
                    "`ss -ltnp 'sport = :PORT'` names who listens. Nobody? Then old connections of that port linger: let the \
                     service set SO_REUSEADDR before bind(), as nearly all do.",
                    "A connection of a client may hold the port too, if it lies in net.ipv4.ip_local_port_range: reserve it with \
                     net.ipv4.ip_local_reserved_ports.",
                    "0.0.0.0 and [::] stand in the way of each other and of every address of that port.",
                ],
            ),
            (
                "Will not help",
                &["tcp_tw_reuse, tcp_fin_timeout: they have no part in bind() to a fixed port."],
            ),
        ],
        here: &[Here::Ports, Here::Findings(&["listener-in-port-range"])],
        see_also: &["SO_REUSEADDR", "port-range-and-listeners", "EADDRINUSE-bind-pool", "TIME_WAIT"],
        sources: &["bind(2), socket(7)", "net/ipv4/inet_connection_sock.c inet_csk_bind_conflict() (6.18)"],
        ..error(
            "EADDRINUSE-listen",
            &["port-already-in-use", "service-already-running"],
            "A service cannot have its port: another process listens there, or connections of an earlier run are still in \
             TIME_WAIT and SO_REUSEADDR is not set.",
        )
    },
    Article {
        sections: &[
            (
                "What to do",
                &[
                    "1. Let the program set IP_BIND_ADDRESS_NO_PORT before bind(), or not bind where routing gives the same \
                     address: then connect() chooses, and every destination has the whole range.",
                    "2. Keep connections open and use them again.",
                    "3. More ports (net.ipv4.ip_local_port_range), or several source addresses.",
                ],
            ),
            (
                "Will not help",
                &[
                    "tcp_tw_reuse: it is not consulted at bind(). Still EADDRINUSE 1.5 s later with 1, for every destination \
                   (6.18). SO_REUSEADDR alone changes nothing either.",
                ],
            ),
        ],
        corrections: &[claims::REUSE_NO_EFFECT, claims::FIN_TIMEOUT],
        here: &[
            Here::Ports,
            Here::State(State::TimeWait),
            Here::Pools,
            Here::Setting("net.ipv4.tcp_tw_reuse"),
            Here::Findings(PORTS),
        ],
        see_also: &["bind-pool-exhausted", "two-pools", "IP_BIND_ADDRESS_NO_PORT", "net.ipv4.tcp_tw_reuse"],
        sources: &["net/ipv4/inet_connection_sock.c inet_csk_find_open_port() (6.18)"],
        ..error(
            "EADDRINUSE-bind-pool",
            &["bind-port-0", "commbind"],
            "A client called bind(address, port 0) before connect() and no port was free: that takes a port for all \
             destinations of the address at once, and TIME_WAIT to any of them is in the way.",
        )
    },
    Article {
        sections: &[(
            "What to do",
            &["Correct the address in the configuration, or add it to the machine. See EADDRNOTAVAIL-bind."],
        )],
        see_also: &["EADDRNOTAVAIL-bind", "EADDRINUSE-bind-pool", "haproxy"],
        sources: &["HAProxy src/proto_tcp.c tcp_connect_server()"],
        ..error(
            "haproxy-cannot-bind",
            &["cannot-bind-to-source-address"],
            "HAProxy could not bind the source address of a backend before connect(): the address is not on this machine, or \
             every port of it is taken.",
        )
    },
];
