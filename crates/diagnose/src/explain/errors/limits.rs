//! Errors about limits: descriptors, queues, and what the kernel logs when one of its own is reached.

use tidewait_model::State;

use super::error;
use crate::explain::article::Article;
use crate::explain::claims;
use crate::explain::here::Here;

pub(super) const ERRORS: &[Article] = &[
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
                "A mainline kernel that writes this line to its log is older than 4.1; later ones only count.",
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
                "`conntrack -S` and `conntrack -L -p tcp | awk '{print $4}' | sort | uniq -c`: which states fill it. Then a larger \
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
];
