//! Concepts of the limits beside ports: accept queues, descriptors, connection tracking, namespaces.

use tidewait_model::explain::Kind;

use crate::explain::article::Article;
use crate::explain::here::Here;

pub(super) const CONCEPTS: &[Article] = &[
    Article {
        topic: "accept-queue",
        kind: Kind::Concept,
        aliases: &["backlog", "listen-backlog", "listen-overflow", "accept-backlog"],
        summary: "Finished connections wait in the listener's accept queue until the program calls accept(). When it is full, \
                  new ones are dropped without a word, and clients see time-outs: \"up and working, but accepts no more\".",
        sections: &[
            (
                "How long it is",
                &[
                    "The smaller of listen()'s backlog and net.core.somaxconn, plus one. `ss -ltn` shows it: Recv-Q waits, Send-Q is \
                   the limit. It is fixed when the program calls listen(): restart it after a change.",
                ],
            ),
            (
                "What to do",
                &[
                    "See first why the program does not accept: out of threads, of descriptors, stuck. A longer queue helps against \
                   bursts only. net.ipv4.tcp_abort_on_overflow=1 turns the silence into a reset.",
                ],
            ),
        ],
        corrections: &[],
        here: &[
            Here::Listeners,
            Here::Setting("net.core.somaxconn"),
            Here::Counter("TcpExt.ListenOverflows"),
            Here::Findings(&["accept-queue-overflow"]),
        ],
        see_also: &["accept-queue-overflow", "net.core.somaxconn", "LISTEN", "ETIMEDOUT"],
        sources: &[
            "net/ipv4/tcp_ipv4.c tcp_v4_syn_recv_sock(), include/net/sock.h sk_acceptq_is_full() (6.18)",
        ],
    },
    Article {
        topic: "file-descriptors",
        kind: Kind::Concept,
        aliases: &["descriptors", "nofile", "ulimit", "fd-limit"],
        summary: "Every socket that a program holds is a descriptor. Its limit is RLIMIT_NOFILE, which the service is started \
                  with; TIME_WAIT and orphans take none.",
        sections: &[
            (
                "Where the limit is set",
                &[
                    "LimitNOFILE= of the systemd unit, /etc/security/limits.conf for logins, the program's own setting up to the hard \
                   limit. fs.nr_open is the most a limit can be, fs.file-max the most for the machine.",
                ],
            ),
            (
                "What runs into it",
                &[
                    "A leak (CLOSE_WAIT, sockets without connection) or plain load. A higher limit helps against the second only.",
                ],
            ),
        ],
        corrections: &[],
        here: &[
            Here::Files,
            Here::Setting("fs.nr_open"),
            Here::Setting("fs.file-max"),
            Here::Findings(&["fd-limit-near"]),
        ],
        see_also: &["EMFILE", "close-wait-is-the-programs-bug", "fs.nr_open", "systemd"],
        sources: &["getrlimit(2), systemd.exec(5)"],
    },
    Article {
        topic: "conntrack-and-snat",
        kind: Kind::Concept,
        aliases: &["snat", "masquerade", "nat", "conntrack"],
        summary: "Connection tracking and SNAT on the way have limits of their own. They fail by dropping packets: connect() \
                  hangs in SYN_SENT and ends with ETIMEDOUT, never with \"Cannot assign requested address\".",
        sections: &[
            (
                "A full table",
                &[
                    "net.netfilter.nf_conntrack_max, against the entries of each namespace. The kernel logs `nf_conntrack: table full, \
                   dropping packet`. A closed connection stays for 120 s there, twice its TIME_WAIT.",
                ],
            ),
            (
                "Out of SNAT ports",
                &[
                    "At most 248 ports are tried for a new connection, so that it fails before all are taken. `conntrack -S` shows \
                   insert_failed and drop. Cloud gateways give 50,000 to 64,512 ports to one destination.",
                ],
            ),
            (
                "What to do",
                &["Reuse connections; a larger table; more public addresses, or more destinations."],
            ),
        ],
        corrections: &[],
        here: &[
            Here::Conntrack,
            Here::Setting("net.netfilter.nf_conntrack_tcp_timeout_time_wait"),
            Here::Findings(&["conntrack-full", "syn-sent-pileup"]),
        ],
        see_also: &["conntrack-table-full", "SYN_SENT", "net.netfilter.nf_conntrack_max", "ETIMEDOUT"],
        sources: &["net/netfilter/nf_conntrack_core.c, nf_nat_core.c, nf_conntrack_proto_tcp.c (6.18)"],
    },
    Article {
        topic: "namespaces-and-settings",
        kind: Kind::Concept,
        aliases: &[
            "containers",
            "docker",
            "kubernetes",
            "pods",
            "network-namespaces",
            "container-settings",
            "netns",
        ],
        summary: "A container has settings of its own, and they begin with the kernel's defaults, not with the host's values: \
                  /etc/sysctl.conf of the host does not reach it.",
        sections: &[
            (
                "Which are its own",
                &[
                    "The port range, tcp_tw_reuse, tcp_fin_timeout, tcp_max_tw_buckets, keepalive, somaxconn and most others. For the \
                   machine there is one tcp_max_orphans, one tcp_mem, one nf_conntrack_max.",
                ],
            ),
            (
                "How to look and set",
                &[
                    "`nsenter -t PID -n sysctl NAME`: /proc/PID/root/proc/sys shows the reader's own values. Set them where the \
                   container is started (`docker run --sysctl`, a pod's securityContext.sysctls).",
                ],
            ),
        ],
        corrections: &[],
        here: &[
            Here::Namespaces,
            Here::Setting("net.ipv4.ip_local_port_range"),
            Here::Setting("net.ipv4.tcp_tw_reuse"),
        ],
        see_also: &["net.ipv4.ip_local_port_range", "setting-overridden"],
        sources: &["net/ipv4/tcp_ipv4.c tcp_sk_init(), sysctl_net_ipv4.c (6.18)"],
    },
    Article {
        topic: "programs",
        kind: Kind::Concept,
        aliases: &["program"],
        summary: "What to write into the configuration or the source of a program is known for those under \"See also\": \
                  `tidewait explain NAME` shows the lines.",
        sections: &[(
            "For others",
            &[
                "Look for: keep-alive and the number of idle connections kept for each destination; a connection pool and its \
                 size; whether a source address is bound, and IP_BIND_ADDRESS_NO_PORT with it; time limits for idle \
                 connections; the backlog given to listen().",
            ],
        )],
        corrections: &[],
        here: &[],
        see_also: &[
            "nginx",
            "haproxy",
            "squid",
            "envoy",
            "httpd",
            "php-fpm",
            "mysql",
            "pgbouncer",
            "redis",
            "memcached",
            "go-http",
            "go-sql",
            "java-http",
            "hikaricp",
            "apache-httpclient",
            "requests",
            "urllib3",
            "httpx",
            "node-http",
            "undici",
            "curl",
            "systemd",
        ],
        sources: &[],
    },
];
