//! Settings of keepalive: when an idle connection is asked whether its peer is still there.

use super::accepts::{BYTE, SECONDS, span};
use super::{Accepts, Belief, COMMON, Meaning, Setting, always, belief, words};
use crate::kernel::Version;

const NOT_CLOSE_WAIT: Belief = belief(
    "It clears CLOSE_WAIT.",
    "Without SO_KEEPALIVE a CLOSE_WAIT has no timer at all. With it, the connection goes when the peer does not know it any \
     more, but the descriptor stays in the program: the leak is hidden, not mended.",
);

const NOT_TIME_WAIT: Belief = belief(
    "It shortens TIME_WAIT or orphaned FIN_WAIT2.",
    "Those have no keepalive timer (seen: tcp_keepalive_time 1, TIME_WAIT stays 60 s).",
);

const ONLY_WHO_ASKS: Belief = belief(
    "It applies to every connection.",
    "Only to sockets whose program has set SO_KEEPALIVE, and not to those where it has set TCP_KEEPIDLE, TCP_KEEPINTVL or \
     TCP_KEEPCNT itself.",
);

pub const TIME: Setting = Setting {
    name: "net.ipv4.tcp_keepalive_time",
    unit: "s",
    summary: "idle time before keepalive probes, for sockets with SO_KEEPALIVE",
    namespaced_since: Some(Version::new(4, 5)),
    accepts: Accepts::Number { kernel: SECONDS, sensible: span(1, 32_767), gap: None },
    defaults: &[always("7200")],
    affects: &["When the first probe goes out on an idle connection with SO_KEEPALIVE."],
    does_not: &[ONLY_WHO_ASKS, NOT_CLOSE_WAIT, NOT_TIME_WAIT],
    trap: Some(
        "By itself it ends nothing: a dead peer is given up after time + intvl * probes, 2 h 11 min with the defaults.",
    ),
    risk: "Short times make every idle connection send, and break those that would have outlived an outage. NAT and firewalls \
           often forget an idle connection after 5 to 60 minutes; a shorter time keeps it.",
    sources: &[
        "net/ipv4/tcp_timer.c tcp_keepalive_timer (6.18)",
        "include/net/tcp.h TCP_KEEPALIVE_TIME (4.4 to 7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.4, per namespace in 4.5)",
        "RFC 9293 section 3.8.4",
    ],
    see_also: &["net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "SO_KEEPALIVE"],
    meaning: Meaning::Number(time),
    ..COMMON
};

pub const INTVL: Setting = Setting {
    name: "net.ipv4.tcp_keepalive_intvl",
    unit: "s",
    summary: "time between keepalive probes",
    namespaced_since: Some(Version::new(4, 5)),
    accepts: Accepts::Number { kernel: SECONDS, sensible: span(1, 32_767), gap: None },
    defaults: &[always("75")],
    affects: &["How fast a peer that does not answer probes is given up: intvl * probes after the first."],
    does_not: &[ONLY_WHO_ASKS, NOT_CLOSE_WAIT, NOT_TIME_WAIT],
    risk: "Short intervals give up connections during short outages of the network.",
    sources: &[
        "net/ipv4/tcp_timer.c tcp_keepalive_timer (6.18)",
        "include/net/tcp.h TCP_KEEPALIVE_INTVL (4.4 to 7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.4, per namespace in 4.5)",
        "RFC 9293 section 3.8.4",
    ],
    see_also: &["net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_probes", "SO_KEEPALIVE"],
    meaning: Meaning::Number(intvl),
    ..COMMON
};

pub const PROBES: Setting = Setting {
    name: "net.ipv4.tcp_keepalive_probes",
    unit: "probes",
    summary: "unanswered keepalive probes before the connection is dropped",
    namespaced_since: Some(Version::new(4, 5)),
    accepts: Accepts::Number { kernel: BYTE, sensible: span(1, 127), gap: None },
    defaults: &[always("9")],
    affects: &[
        "How many probes stay unanswered before the program gets ETIMEDOUT and the connection is gone.",
    ],
    does_not: &[ONLY_WHO_ASKS, NOT_CLOSE_WAIT, NOT_TIME_WAIT],
    risk: "With 1 or 2 a single lost packet ends a connection.",
    sources: &[
        "net/ipv4/tcp_timer.c tcp_keepalive_timer (6.18)",
        "include/net/tcp.h TCP_KEEPALIVE_PROBES (4.4 to 7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.4, per namespace in 4.5)",
        "RFC 9293 section 3.8.4",
    ],
    see_also: &["net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_intvl", "SO_KEEPALIVE"],
    meaning: Meaning::Number(probes),
    ..COMMON
};

/// After how many seconds of silence a connection with SO_KEEPALIVE is dropped: what the three settings come to.
pub fn seconds_until_dropped(time: i64, intvl: i64, probes: i64) -> i64 {
    time.saturating_add(intvl.saturating_mul(probes))
}

fn time(seconds: i64, _: Version) -> String {
    format!(
        "a connection with SO_KEEPALIVE is probed after {} of silence; one without is never probed",
        words::seconds(seconds)
    )
}

fn intvl(seconds: i64, _: Version) -> String {
    format!(
        "probes that nobody answers follow each other every {}, on sockets with SO_KEEPALIVE",
        words::seconds(seconds)
    )
}

fn probes(probes: i64, _: Version) -> String {
    format!("after {probes} unanswered probes a connection with SO_KEEPALIVE is dropped with ETIMEDOUT")
}
