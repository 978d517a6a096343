//! Errors as they are met: for each errno and each kernel message what it means for connections, and which of its causes it is.

use tidewait_model::State;
use tidewait_model::explain::Kind;

use super::article::Article;
use super::claims;
use super::here::Here;

const PORTS: &[&str] = &["ports-exhausted", "ports-running-out", "port-search-cliff", "bind-pool-exhausted"];

const fn error(topic: &'static str, aliases: &'static [&'static str], summary: &'static str) -> Article {
    Article {
        topic,
        kind: Kind::Error,
        aliases,
        summary,
        sections: &[],
        corrections: &[],
        here: &[],
        see_also: &[],
        sources: &[],
    }
}

const PORT_FACTS: &[Here] = &[
    Here::Ports,
    Here::State(State::TimeWait),
    Here::Fullest,
    Here::Setting("net.ipv4.tcp_tw_reuse"),
    Here::Findings(PORTS),
];

/// Every error that has a page.
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
                   `ip address` lists rules out the second.",
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
        sections: &[
            (
                "What to do",
                &[
                    "`tidewait report`: which process is near its limit, and with sockets in which state. CLOSE_WAIT or sockets \
                     without connection: a leak, a higher limit only delays it.",
                    "Plain load: LimitNOFILE= in the unit, or the program's own setting; then restart it.",
                ],
            ),
            (
                "Mind",
                &[
                    "A server that cannot accept() for lack of descriptors fills its accept queue: clients see time-outs.",
                ],
            ),
        ],
        here: &[
            Here::Files,
            Here::SocketsWithoutConnection,
            Here::State(State::CloseWait),
            Here::Setting("fs.nr_open"),
            Here::Findings(&["fd-limit-near", "close-wait-leak"]),
        ],
        see_also: &["file-descriptors", "fd-limit-near", "CLOSE_WAIT", "accept-queue", "systemd"],
        sources: &["open(2), accept(2), getrlimit(2)"],
        ..error(
            "EMFILE",
            &["24", "errno-24", "too-many-open-files"],
            "\"Too many open files\": the process has as many descriptors as its limit allows (RLIMIT_NOFILE).",
        )
    },
    Article {
        sections: &[(
            "What to do",
            &["See which process has them (`tidewait report`), then fs.file-max. EMFILE is far more common."],
        )],
        here: &[Here::Setting("fs.file-max"), Here::Files],
        see_also: &["EMFILE", "fs.file-max", "file-descriptors"],
        sources: &["open(2)", "fs/file_table.c (6.18)"],
        ..error(
            "ENFILE",
            &["23", "errno-23", "too-many-open-files-in-system"],
            "\"Too many open files in system\": the machine has as many open files as fs.file-max allows.",
        )
    },
    Article {
        sections: &[
            (
                "connect() to a unix socket",
                &[
                    "Its accept queue is full (php-fpm, a database): the server does not accept in time. More workers, or a longer \
                   backlog there and net.core.somaxconn.",
                ],
            ),
            (
                "Elsewhere",
                &[
                    "recv() and send() of a socket that does not block say it all the time, without meaning trouble. fork() and thread \
                   starts say it for lack of processes (RLIMIT_NPROC): not a matter of connections.",
                ],
            ),
        ],
        here: &[Here::Setting("net.core.somaxconn")],
        see_also: &["accept-queue", "net.core.somaxconn", "php-fpm"],
        sources: &["unix(7), connect(2)", "net/unix/af_unix.c unix_stream_connect() (6.18)"],
        ..error(
            "EAGAIN",
            &["11", "errno-11", "ewouldblock", "resource-temporarily-unavailable"],
            "\"Resource temporarily unavailable\": for connect() to a unix socket, its accept queue is full. No lack of ports.",
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
    Article {
        sections: &[(
            "What to do",
            &[
                "See which program holds unread or unsent data (`ss -tm`): it is seldom the number of sockets. sockstat's `mem` is in \
               pages, like net.ipv4.tcp_mem. TIME_WAIT is not in it.",
            ],
        )],
        here: &[
            Here::Setting("net.ipv4.tcp_mem"),
            Here::Counter("TcpExt.TCPAbortOnMemory"),
            Here::Counter("sockstat.TCP.mem"),
        ],
        see_also: &["orphans", "too-many-orphans", "time-wait-and-memory"],
        sources: &["net/ipv4/tcp.c tcp_check_oom() (6.18)"],
        ..error(
            "tcp-out-of-memory",
            &["out-of-memory-consider-tuning-tcp-mem"],
            "The kernel says that the buffers of all TCP sockets are over net.ipv4.tcp_mem: connections are reset, data is \
             dropped.",
        )
    },
    Article {
        sections: &[(
            "What to do",
            &[
                "`ss -to state fin-wait-1 state last-ack`: whose peers are they? Shorter net.ipv4.tcp_orphan_retries gives them up \
               earlier; a higher limit costs up to 64 kB each.",
            ],
        )],
        here: &[
            Here::Orphans,
            Here::Setting("net.ipv4.tcp_orphan_retries"),
            Here::Counter("TcpExt.TCPAbortOnMemory"),
            Here::Findings(&["orphans-near-limit"]),
        ],
        see_also: &["orphans", "net.ipv4.tcp_max_orphans", "net.ipv4.tcp_orphan_retries"],
        sources: &["net/ipv4/tcp.c tcp_check_oom() (6.18), ip-sysctl.rst"],
        ..error(
            "too-many-orphans",
            &["too-many-orphaned-sockets", "too-many-of-orphaned-sockets"],
            "The kernel resets connections that no program holds any more: they are over net.ipv4.tcp_max_orphans, or half of \
             it while they retransmit.",
        )
    },
    Article {
        sections: &[(
            "What it means",
            &[
                "New connections close without TIME_WAIT: no error for anybody, but late segments are no longer caught. Where it \
               comes from: many closes here first, or a limit that was lowered.",
            ],
        )],
        corrections: &[claims::TABLE_OVERFLOW],
        here: &[
            Here::State(State::TimeWait),
            Here::Setting("net.ipv4.tcp_max_tw_buckets"),
            Here::Counter("TcpExt.TCPTimeWaitOverflow"),
            Here::Findings(&["time-wait-overflow"]),
        ],
        see_also: &["time-wait-overflow", "net.ipv4.tcp_max_tw_buckets", "time-wait-and-memory"],
        sources: &["net/ipv4/inet_timewait_sock.c inet_twsk_alloc() (4.1 to 7.1)"],
        ..error(
            "time-wait-bucket-table-overflow",
            &["tw-bucket-overflow"],
            "There are as many sockets in TIME_WAIT as net.ipv4.tcp_max_tw_buckets allows: further ones are dropped at once.",
        )
    },
    Article {
        sections: &[(
            "What to do",
            &[
                "`conntrack -S` and `conntrack -L | awk '{print $4}' | sort | uniq -c`: which states fill it. Then a larger \
                 net.netfilter.nf_conntrack_max (about 300 bytes an entry), and shorter nf_conntrack_tcp_timeout_* for those states.",
                "Shorter times there free entries of the table. They do not shorten TIME_WAIT of sockets.",
            ],
        )],
        here: &[
            Here::Conntrack,
            Here::Setting("net.netfilter.nf_conntrack_tcp_timeout_time_wait"),
            Here::State(State::SynSent),
            Here::Findings(&["conntrack-full"]),
        ],
        see_also: &["conntrack-and-snat", "conntrack-full", "net.netfilter.nf_conntrack_max", "SYN_SENT"],
        sources: &["net/netfilter/nf_conntrack_core.c (6.18)"],
        ..error(
            "conntrack-table-full",
            &["nf-conntrack-table-full", "table-full-dropping-packet"],
            "The table of connection tracking is full: packets of new connections are dropped, so that they hang in SYN_SENT \
             and time out.",
        )
    },
    Article {
        sections: &[(
            "What to do",
            &[
                "Mostly it is no attack: more connects come at once than the listener's queue holds, or the program accepts too \
                 slowly. See `ss -ltn` for that port: Recv-Q at its limit Send-Q.",
                "A longer backlog of the program and net.core.somaxconn; net.ipv4.tcp_max_syn_backlog beside it. It is logged once \
                 for a listener, so the log does not tell how often.",
            ],
        )],
        here: &[
            Here::Listeners,
            Here::Setting("net.core.somaxconn"),
            Here::Setting("net.ipv4.tcp_max_syn_backlog"),
            Here::State(State::NewSynRecv),
            Here::Findings(&["accept-queue-overflow"]),
        ],
        see_also: &["accept-queue", "accept-queue-overflow", "NEW_SYN_RECV", "net.ipv4.tcp_max_syn_backlog"],
        sources: &["net/ipv4/tcp_input.c tcp_syn_flood_action() (6.18)"],
        ..error(
            "syn-flooding",
            &["possible-syn-flooding", "syn-flood", "sending-cookies"],
            "A listener's queue of half-open connections is full: the kernel answers with SYN cookies, or drops.",
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
