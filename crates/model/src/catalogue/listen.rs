//! Settings of connections that begin: SYN, SYN-ACK, the queues of a listener.

use super::accepts::{BYTE, INT, span};
use super::{Accepts, COMMON, Choice, Meaning, Setting, always, belief, computed, since, words};
use crate::kernel::Version;

pub const SYN_RETRIES: Setting = Setting {
    name: "net.ipv4.tcp_syn_retries",
    unit: "retries",
    summary: "SYN retransmissions before connect() gives up",
    namespaced_since: Some(Version::new(4, 6)),
    accepts: Accepts::Number { kernel: span(1, 127), sensible: span(1, 10), gap: None },
    defaults: &[always("6")],
    affects: &[
        "How long connect() to a peer that does not answer takes before ETIMEDOUT, and how long it holds a local port in \
         SYN_SENT: 127 s with 6, or 131 s where tcp_syn_linear_timeouts is 4.",
    ],
    does_not: &[belief(
        "It is how long a program waits.",
        "Most programs have a shorter time-out of their own. The socket, and its port, go when the program closes it.",
    )],
    risk: "With 1 or 2 a few lost packets make connect() fail.",
    sources: &[
        "net/ipv4/tcp_timer.c tcp_write_timeout (7.1)",
        "include/net/tcp.h TCP_SYN_RETRIES (4.4 to 7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.5, per namespace in 4.6)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_synack_retries", "TCP_USER_TIMEOUT"],
    meaning: Meaning::Number(syn_retries),
    ..COMMON
};

pub const SYNACK_RETRIES: Setting = Setting {
    name: "net.ipv4.tcp_synack_retries",
    unit: "retries",
    summary: "SYN-ACK retransmissions before a half-open connection is dropped",
    namespaced_since: Some(Version::new(4, 6)),
    accepts: Accepts::Number { kernel: BYTE, sensible: span(1, 10), gap: None },
    defaults: &[always("5")],
    affects: &[
        "How long a connection whose client does not finish the handshake stays half-open (NEW_SYN_RECV): 63 s with 5.",
    ],
    does_not: &[belief(
        "It limits how many connections are half-open.",
        "It limits how long. The backlog of the listener limits how many.",
    )],
    risk: "With 1 or 2, clients on bad lines fail to connect now and then.",
    sources: &[
        "net/ipv4/inet_connection_sock.c reqsk_timer_handler (6.18)",
        "include/net/tcp.h TCP_SYNACK_RETRIES (4.4 to 7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.5, per namespace in 4.6)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_syncookies", "net.core.somaxconn", "TCP_DEFER_ACCEPT"],
    meaning: Meaning::Number(synack_retries),
    ..COMMON
};

pub const SYNCOOKIES: Setting = Setting {
    name: "net.ipv4.tcp_syncookies",
    unit: "0/1/2",
    summary: "what happens when a listener has as many half-open connections as its backlog",
    namespaced_since: Some(Version::new(4, 6)),
    accepts: Accepts::Choice {
        kernel: BYTE,
        choices: &[
            Choice { value: 0, word: "a SYN beyond the backlog is dropped" },
            Choice {
                value: 1,
                word: "a SYN beyond the backlog is answered with a cookie that needs no memory",
            },
            Choice { value: 2, word: "every SYN is answered with a cookie, for tests" },
        ],
    },
    defaults: &[always("1")],
    affects: &[
        "Whether a flood of SYNs keeps others from connecting.",
        "Whether tcp_max_syn_backlog means anything: with 0 only.",
    ],
    does_not: &[belief(
        "It helps a server whose accept queue is full.",
        "A SYN is dropped when the accept queue is full, cookie or not. The program has to call accept() faster.",
    )],
    trap: Some("A kernel built without CONFIG_SYN_COOKIES does not have it."),
    risk: "0: a SYN flood closes the service. A connection begun with a cookie lacks some TCP options where timestamps are missing.",
    sources: &[
        "net/ipv4/tcp_input.c tcp_conn_request (7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.5, per namespace in 4.6)",
        "RFC 4987 section 3.6",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_max_syn_backlog", "net.core.somaxconn"],
    ..COMMON
};

pub const MAX_SYN_BACKLOG: Setting = Setting {
    name: "net.ipv4.tcp_max_syn_backlog",
    unit: "connections",
    summary: "Half-open connections a listener keeps, where SYN cookies are off",
    namespaced_since: Some(Version::new(4, 11)),
    accepts: Accepts::Number { kernel: INT, sensible: span(1, i32::MAX as i64), gap: None },
    defaults: &[computed(
        "the hash of connections' buckets / 128, at least 128 (up to 4.20: / 256): 2048 on machines with 16 GB and more",
    )],
    affects: &[
        "With tcp_syncookies = 0: when more than three quarters of it are half-open, SYNs of peers that the machine has not spoken to \
         before are dropped.",
    ],
    does_not: &[
        belief(
            "It is how many half-open connections a listener keeps.",
            "The backlog given to listen(), cut to net.core.somaxconn, is. With SYN cookies, which are on by default, this setting \
             is not even read.",
        ),
        belief(
            "Raising it helps a server that does not accept fast enough.",
            "What overflows there is the accept queue: the backlog of listen() and somaxconn.",
        ),
    ],
    risk: "None with SYN cookies on.",
    sources: &[
        "net/ipv4/tcp_input.c tcp_conn_request (4.4 and 7.1; with and without cookies seen on 6.18)",
        "include/net/inet_connection_sock.h inet_csk_reqsk_queue_is_full (4.4 and 7.1)",
        "net/ipv4/tcp_ipv4.c tcp_set_hashinfo (/ 256 in 4.4 and 4.20, / 128 in 5.6)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.10, per namespace in 4.11)",
    ],
    see_also: &["net.core.somaxconn", "net.ipv4.tcp_syncookies"],
    meaning: Meaning::Number(max_syn_backlog),
    ..COMMON
};

pub const SOMAXCONN: Setting = Setting {
    name: "net.core.somaxconn",
    unit: "connections",
    summary: "upper bound of listen()'s backlog",
    accepts: Accepts::Number {
        kernel: span(0, i32::MAX as i64),
        sensible: span(1, i32::MAX as i64),
        gap: None,
    },
    defaults: &[always("128"), since(5, 4, "4096")],
    affects: &[
        "How many connections can wait for accept() at one listener: the lesser of this and the backlog that the program gave, \
         and one more.",
        "How many can be half-open there before SYN cookies are sent.",
    ],
    does_not: &[
        belief(
            "Raising it is enough.",
            "The program asks for a backlog of its own (nginx 511, Redis 511, Apache 511, Java 50): the lesser counts.",
        ),
        belief(
            "It limits the connections of the machine.",
            "It limits those that wait for accept(). Once accepted, a connection counts no more.",
        ),
    ],
    trap: Some(
        "It is read when listen() is called: services that run keep what they have until they are restarted.",
    ),
    risk: "A long queue hides a program that is too slow: clients wait and give up in the queue instead of being told.",
    sources: &[
        "net/socket.c __sys_listen (6.18; a running listener seen to keep its backlog)",
        "include/net/sock.h sk_acceptq_is_full (4.4 to 7.1)",
        "net/core/sysctl_net_core.c (4.4 to 7.1)",
        "commit 19f92a030ca6 (5.4: 4096)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_abort_on_overflow", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_syncookies"],
    meaning: Meaning::Number(somaxconn),
    ..COMMON
};

pub const ABORT_ON_OVERFLOW: Setting = Setting {
    name: "net.ipv4.tcp_abort_on_overflow",
    unit: "0/1",
    summary: "reset instead of ignore when the accept queue is full",
    namespaced_since: Some(Version::new(4, 15)),
    accepts: Accepts::Choice {
        kernel: BYTE,
        choices: &[
            Choice {
                value: 0,
                word: "the last ACK of a handshake is ignored while the accept queue is full, and the client tries again",
            },
            Choice {
                value: 1,
                word: "a client whose handshake ends while the accept queue is full gets a RST",
            },
        ],
    },
    defaults: &[always("0")],
    affects: &[
        "What a client sees when a listener's accept queue is full: silence and another try, or ECONNRESET.",
    ],
    does_not: &[belief(
        "It makes room in the queue.",
        "It tells clients sooner. Room comes from a faster accept() or a larger backlog.",
    )],
    risk: "1 turns a burst that would have passed into errors at the clients.",
    sources: &[
        "net/ipv4/tcp_minisocks.c tcp_check_req (7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.14, per namespace in 4.15)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.core.somaxconn"],
    ..COMMON
};

fn syn_retries(retries: i64, _: Version) -> String {
    let seconds = words::doubling(1.0, retries);
    format!(
        "connect() to a silent peer fails after {}, 4 s more where net.ipv4.tcp_syn_linear_timeouts is 4, and holds its port until \
         then",
        words::seconds(seconds)
    )
}

fn synack_retries(retries: i64, _: Version) -> String {
    format!(
        "a handshake that the client does not finish is dropped after {}",
        words::seconds(words::doubling(1.0, retries))
    )
}

fn max_syn_backlog(connections: i64, _: Version) -> String {
    format!(
        "without SYN cookies, unknown clients are dropped once {} connections of a listener are half-open; with them it is not \
         read",
        connections - connections / 4 + 1
    )
}

fn somaxconn(connections: i64, _: Version) -> String {
    format!(
        "no listener has more than {} connections waiting for accept(), and fewer where the program asked for less",
        connections.saturating_add(1)
    )
}
