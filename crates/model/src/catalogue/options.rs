//! The socket options that bear on connections, one row each. A program sets them; no setting of the machine can.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Belief, belief};
use crate::kernel::Version;

/// One socket option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SocketOption {
    /// Its name in C: `SO_REUSEADDR`.
    pub name: &'static str,
    /// The level it is set at: `SOL_SOCKET`, `IPPROTO_IP`, `IPPROTO_TCP`.
    pub level: &'static str,
    /// What is passed, and its unit.
    pub value: &'static str,
    /// The first kernel that has it; `None`: older than 4.4, the oldest whose source was looked at, or than what
    /// [`SocketOption::sources`] say.
    pub since: Option<Version>,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Who has to set it, and when.
    pub who: &'static str,
    /// What changes with it.
    pub affects: &'static [&'static str],
    /// What is believed of it and is not so.
    pub does_not: &'static [Belief],
    /// Where it does something else than its name says.
    pub trap: Option<&'static str>,
    /// What can go wrong with it.
    pub risk: &'static str,
    /// Where to look it up.
    pub sources: &'static [&'static str],
    /// Rows that go with it: names of settings and of socket options.
    pub see_also: &'static [&'static str],
}

const SOCKET: &str = "SOL_SOCKET";
const IP: &str = "IPPROTO_IP";
const TCP: &str = "IPPROTO_TCP";

/// Every option of the catalogue.
pub const OPTIONS: &[SocketOption] = &[
    BIND_ADDRESS_NO_PORT,
    LOCAL_PORT_RANGE,
    REUSEADDR,
    REUSEPORT,
    LINGER,
    LINGER2,
    KEEPALIVE,
    KEEPIDLE,
    KEEPINTVL,
    KEEPCNT,
    USER_TIMEOUT,
    DEFER_ACCEPT,
];

/// The row of the option called `name`.
pub fn socket_option(name: &str) -> Option<&'static SocketOption> {
    OPTIONS.iter().find(|option| option.name == name)
}

const BIND_ADDRESS_NO_PORT: SocketOption = SocketOption {
    name: "IP_BIND_ADDRESS_NO_PORT",
    level: IP,
    value: "0 or 1",
    since: Some(Version::new(4, 2)),
    summary: "bind(address, port 0) keeps the address alone; connect() chooses the port",
    who: "The program that connects from a source address of its choice, before bind(). It works on IPv6 sockets too, at the level \
          IPPROTO_IP.",
    affects: &[
        "The port is chosen when the destination is known, so that one port serves many destinations and tcp_tw_reuse applies. \
         Without it, bind(address, port 0) takes one port per socket, whatever the destination.",
    ],
    does_not: &[belief(
        "It is needed by every client.",
        "A client that does not call bind() has its port chosen by connect() anyway.",
    )],
    trap: Some("Between bind() and connect() the socket has no port: getsockname() says 0."),
    risk: "Small: a lack of ports shows at connect() (EADDRNOTAVAIL) and no more at bind() (EADDRINUSE).",
    sources: &[
        "net/ipv4/af_inet.c __inet_bind (6.18; one port for two destinations seen)",
        "commit 90c337da1524 (4.2)",
        "ip(7)",
    ],
    see_also: &["IP_LOCAL_PORT_RANGE", "net.ipv4.tcp_tw_reuse", "net.ipv4.ip_autobind_reuse"],
};

const LOCAL_PORT_RANGE: SocketOption = SocketOption {
    name: "IP_LOCAL_PORT_RANGE",
    level: IP,
    value: "u32: upper port << 16 | lower port; 0 for an end leaves it to the namespace",
    since: Some(Version::new(6, 3)),
    summary: "ports that this socket's connect() and bind(port 0) choose from, within ip_local_port_range",
    who: "The program that connects, before connect() or bind(). Gives each of several programs its own ports.",
    affects: &[
        "Which ports are tried. From 6.8 on both parities are searched in one pass, so that the search does not slow down at one \
         half of the range.",
    ],
    does_not: &[belief(
        "It can go beyond ip_local_port_range.",
        "It only narrows it. An end outside is ignored without an error, and the namespace's end counts.",
    )],
    trap: Some("Both ends outside the namespace's range: the socket uses that whole range."),
    risk: "Small: fewer ports for the socket.",
    sources: &[
        "net/ipv4/inet_connection_sock.c inet_sk_get_local_port_range (6.18)",
        "include/uapi/linux/in.h (absent in 6.2, there in 6.4)",
        "ip(7)",
    ],
    see_also: &["net.ipv4.ip_local_port_range", "IP_BIND_ADDRESS_NO_PORT"],
};

const REUSEADDR: SocketOption = SocketOption {
    name: "SO_REUSEADDR",
    level: SOCKET,
    value: "0 or 1",
    since: None,
    summary: "bind() may take a port that connections of it, in TIME_WAIT too, still hold",
    who: "A server, before bind(): then it restarts at once although connections of its port are in TIME_WAIT. A client that binds \
          a fixed port, before bind(), each time.",
    affects: &[
        "bind() to a port with TIME_WAIT or open connections and no listener, where those sockets had the option as well.",
        "With a fixed local port and TCP timestamps, connect() then takes over a TIME_WAIT to the same destination at once, \
         whatever tcp_tw_reuse says.",
    ],
    does_not: &[
        belief(
            "It helps a client that runs out of ports.",
            "A port that connect() or bind(port 0) chooses is not chosen otherwise because of it, unless ip_autobind_reuse is on. \
             The client needs IP_BIND_ADDRESS_NO_PORT or tcp_tw_reuse.",
        ),
        belief(
            "It lets two servers share a port.",
            "Two listeners on one address and port need SO_REUSEPORT, both of them.",
        ),
    ],
    trap: Some(
        "A TIME_WAIT remembers whether its socket had the option: setting it on the new socket alone is not enough.",
    ),
    risk: "Small on Linux: two listeners on one port are refused all the same.",
    sources: &[
        "net/ipv4/inet_connection_sock.c inet_csk_bind_conflict (6.18)",
        "net/ipv4/tcp_ipv4.c tcp_twsk_unique (6.18; three reconnects from a fixed port seen with tcp_tw_reuse 0)",
        "socket(7)",
    ],
    see_also: &["SO_REUSEPORT", "net.ipv4.ip_autobind_reuse", "net.ipv4.tcp_tw_reuse"],
};

const REUSEPORT: SocketOption = SocketOption {
    name: "SO_REUSEPORT",
    level: SOCKET,
    value: "0 or 1",
    since: None,
    summary: "several sockets of one user may bind the same address and port; connections are spread over the listeners",
    who: "Every socket that shares the port, before bind(): servers with a listener per worker.",
    affects: &[
        "Each listener has an accept queue of its own, and a new connection goes to one of them by its hash.",
    ],
    does_not: &[belief(
        "It makes TIME_WAIT go away, or gives a client more ports.",
        "It is about binding the same port on purpose. What a destination allows stays one connection per address and port.",
    )],
    trap: Some(
        "When one of the workers ends or hangs, what waits in its queue is lost: it does not pass to the others unless \
         tcp_migrate_req is on (5.14).",
    ),
    risk: "A second instance started by mistake takes a share of the connections instead of failing.",
    sources: &["net/core/sock_reuseport.c (6.18)", "socket(7): since 3.9"],
    see_also: &["SO_REUSEADDR", "net.core.somaxconn"],
};

const LINGER: SocketOption = SocketOption {
    name: "SO_LINGER",
    level: SOCKET,
    value: "struct linger: on or off, seconds",
    since: None,
    summary: "what close() does with data not yet delivered; with 0 seconds it resets the connection",
    who: "The program that closes, before close(). Zero seconds is for connections whose data do not matter any more: health checks, \
          load generators.",
    affects: &[
        "On with 0 s: close() sends RST, drops unsent data, and leaves no TIME_WAIT.",
        "On with more: close() waits that long for the peer to take the data.",
    ],
    does_not: &[belief(
        "Zero seconds is a harmless way to avoid TIME_WAIT.",
        "The peer gets ECONNRESET and may lose data that it has received and not read; late segments find no TIME_WAIT. What \
         saves the port is to let the other side close first, or tcp_tw_reuse.",
    )],
    trap: Some(
        "With more than 0 s close() waits on a non-blocking socket as well, and an event loop stands still meanwhile.",
    ),
    risk: "Zero seconds: lost data, errors at the peer.",
    sources: &[
        "net/ipv4/tcp.c __tcp_close, tcp_disconnect (6.18; RST without TIME_WAIT seen, and the wait of a non-blocking socket)",
        "RFC 9293 section 3.10.4",
        "socket(7)",
    ],
    see_also: &["TCP_LINGER2", "net.ipv4.tcp_tw_reuse"],
};

const LINGER2: SocketOption = SocketOption {
    name: "TCP_LINGER2",
    level: TCP,
    value: "seconds, 0 for tcp_fin_timeout, 120 at most; below 0: no FIN_WAIT2 at all",
    since: None,
    summary: "how long this socket stays in FIN_WAIT2 once it is closed",
    who: "The program that closes first, before close(), where peers are slow to close.",
    affects: &[
        "The life of the orphan in FIN_WAIT2, in place of tcp_fin_timeout. Below 0, close() resets the connection.",
    ],
    does_not: &[belief(
        "It shortens TIME_WAIT.",
        "When the peer's FIN comes, TIME_WAIT begins with its full 60 s.",
    )],
    trap: Some(
        "From 61 to 119 the orphan lives 2 * (N - 60) s, as with tcp_fin_timeout. More than 120 is cut to 120 (from 5.8 on).",
    ),
    risk: "Short: what the peer still sends is answered with RST.",
    sources: &[
        "net/ipv4/tcp.c do_tcp_setsockopt, __tcp_close (7.1; 61 and 500 seen on 6.18)",
        "tcp(7): since 2.4",
    ],
    see_also: &["net.ipv4.tcp_fin_timeout", "SO_LINGER"],
};

const KEEPALIVE: SocketOption = SocketOption {
    name: "SO_KEEPALIVE",
    level: SOCKET,
    value: "0 or 1",
    since: None,
    summary: "an idle connection is asked from time to time whether its peer is still there",
    who: "The program that holds the connection, on either side, at any time. A listener's sockets inherit it.",
    affects: &[
        "Connections whose peer has vanished end after tcp_keepalive_time + intvl * probes, instead of never.",
        "Keeps the entries of NAT and firewalls on the way alive, where the time is short enough.",
    ],
    does_not: &[
        belief(
            "It mends a leak of CLOSE_WAIT.",
            "A probe that the peer answers with RST takes the connection away, but the program keeps the descriptor: the leak goes \
             on where no tool sees it, up to the limit of open files.",
        ),
        belief(
            "The settings of the machine are enough.",
            "Without this option on the socket, tcp_keepalive_* do nothing.",
        ),
    ],
    trap: Some(
        "The defaults take 2 h 11 min to notice a dead peer. Set TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT as well.",
    ),
    risk: "A connection that would outlive an outage of the network ends.",
    sources: &[
        "net/ipv4/tcp_timer.c tcp_keepalive_timer (6.18; the hidden leak seen)",
        "RFC 9293 section 3.8.4",
        "socket(7)",
    ],
    see_also: &["net.ipv4.tcp_keepalive_time", "TCP_KEEPIDLE", "TCP_USER_TIMEOUT"],
};

const KEEPIDLE: SocketOption = SocketOption {
    name: "TCP_KEEPIDLE",
    level: TCP,
    value: "seconds, 1 to 32767",
    since: None,
    summary: "idle time before keepalive probes, for this socket",
    who: "The program that sets SO_KEEPALIVE.",
    affects: &["When the first probe goes out, in place of tcp_keepalive_time."],
    does_not: &[belief("It switches keepalive on.", "SO_KEEPALIVE does. By itself this one does nothing.")],
    trap: None,
    risk: "Short times make idle connections send, and end them in outages.",
    sources: &["net/ipv4/tcp.c tcp_sock_set_keepidle (7.1)", "tcp(7): since 2.4"],
    see_also: &["SO_KEEPALIVE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "net.ipv4.tcp_keepalive_time"],
};

const KEEPINTVL: SocketOption = SocketOption {
    name: "TCP_KEEPINTVL",
    level: TCP,
    value: "seconds, 1 to 32767",
    since: None,
    summary: "time between keepalive probes, for this socket",
    who: "The program that sets SO_KEEPALIVE.",
    affects: &["How fast a dead peer is given up after the first probe, in place of tcp_keepalive_intvl."],
    does_not: &[belief("It switches keepalive on.", "SO_KEEPALIVE does. By itself this one does nothing.")],
    trap: None,
    risk: "Short times end connections in short outages.",
    sources: &["net/ipv4/tcp.c tcp_sock_set_keepintvl (7.1)", "tcp(7): since 2.4"],
    see_also: &["SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPCNT", "net.ipv4.tcp_keepalive_intvl"],
};

const KEEPCNT: SocketOption = SocketOption {
    name: "TCP_KEEPCNT",
    level: TCP,
    value: "probes, 1 to 127",
    since: None,
    summary: "unanswered keepalive probes before this connection is dropped",
    who: "The program that sets SO_KEEPALIVE.",
    affects: &["How many lost probes it takes, in place of tcp_keepalive_probes."],
    does_not: &[belief("It switches keepalive on.", "SO_KEEPALIVE does. By itself this one does nothing.")],
    trap: Some("With TCP_USER_TIMEOUT set, that time decides and not the count."),
    risk: "With 1 a single lost packet ends the connection.",
    sources: &[
        "net/ipv4/tcp.c tcp_sock_set_keepcnt, net/ipv4/tcp_timer.c tcp_keepalive_timer (7.1)",
        "tcp(7): since 2.4",
    ],
    see_also: &["SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "net.ipv4.tcp_keepalive_probes"],
};

const USER_TIMEOUT: SocketOption = SocketOption {
    name: "TCP_USER_TIMEOUT",
    level: TCP,
    value: "milliseconds; 0 for the kernel's own limits",
    since: None,
    summary: "how long sent data may stay unacknowledged before the connection is given up",
    who: "The program that sends, at any time: connection pools, proxies.",
    affects: &[
        "Connections with unacknowledged data end after this time, in place of the 15 minutes and more of tcp_retries2.",
        "With SO_KEEPALIVE, also when an idle connection is given up after its first probe.",
    ],
    does_not: &[
        belief(
            "It ends idle connections.",
            "Nothing is unacknowledged there. With SO_KEEPALIVE beside it, it does.",
        ),
        belief("It shortens TIME_WAIT or a CLOSE_WAIT without data.", "Nothing is sent in those."),
    ],
    trap: None,
    risk: "Shorter than an outage that the connection should outlive.",
    sources: &[
        "net/ipv4/tcp_timer.c tcp_write_timeout, tcp_keepalive_timer (7.1)",
        "RFC 5482",
        "tcp(7): since 2.6.37",
    ],
    see_also: &["net.ipv4.tcp_retries2", "SO_KEEPALIVE"],
};

const DEFER_ACCEPT: SocketOption = SocketOption {
    name: "TCP_DEFER_ACCEPT",
    level: TCP,
    value: "seconds, rounded up to what a number of SYN-ACK retransmissions takes",
    since: None,
    summary: "accept() sees a connection when its first data are there",
    who: "A server whose clients speak first, on the listener.",
    affects: &[
        "A client that has finished the handshake and sends nothing stays half-open here (NEW_SYN_RECV) and counts against the \
         backlog.",
    ],
    does_not: &[belief(
        "A pile of SYN_RECV is an attack.",
        "With this option (Apache's AcceptFilter, nginx's deferred) it may be clients that connect ahead of need.",
    )],
    trap: Some(
        "After the time the connection is not dropped: the next ACK of the client makes it an open one.",
    ),
    risk: "Protocols in which the server speaks first stall for the time given.",
    sources: &[
        "net/ipv4/tcp_minisocks.c tcp_check_req (7.1; a silent client accepted after the time seen on 6.18)",
        "tcp(7): since 2.4",
    ],
    see_also: &["net.ipv4.tcp_synack_retries", "net.core.somaxconn"],
};
