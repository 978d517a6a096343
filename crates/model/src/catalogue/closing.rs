//! Settings of connections that close or are given up: FIN_WAIT2, orphans, retransmissions.

use super::accepts::{BYTE, Gap, INT, SECONDS, span};
use super::{Accepts, COMMON, InNamespace, Meaning, Scope, Setting, always, belief, computed, words};
use crate::kernel::Version;

/// The length of TIME_WAIT, from which the two phases of a long FIN_WAIT2 are reckoned (`TCP_TIMEWAIT_LEN`), in seconds.
const TIME_WAIT: i64 = 60;

pub const FIN_TIMEOUT: Setting = Setting {
    name: "net.ipv4.tcp_fin_timeout",
    unit: "s",
    summary: "how long an orphaned FIN_WAIT2 is kept; not the length of TIME_WAIT",
    namespaced_since: Some(Version::new(4, 6)),
    accepts: Accepts::Number {
        kernel: SECONDS,
        sensible: span(1, 120),
        gap: Some(Gap {
            of: span(61, 119),
            why: "an orphaned FIN_WAIT2 would live 2 * (N - 60) s, and not N; write 60 or less, or 120",
        }),
    },
    defaults: &[always("60")],
    affects: &[
        "How long a connection stays in FIN_WAIT2 after the program has closed it and while the peer has not: an orphan. \
         After that, what the peer still sends is answered with RST.",
    ],
    does_not: &[
        belief(
            "It is the length of TIME_WAIT, and lowering it shortens TIME_WAIT.",
            "TIME_WAIT is 60 s, compiled in. When the peer's FIN comes, the timer starts anew at the full 60 s, whatever this \
             setting says (seen: tcp_fin_timeout 5, TIME_WAIT 59.9 s).",
        ),
        belief(
            "It limits every FIN_WAIT2.",
            "As long as the program keeps the descriptor open (shutdown() without close()), FIN_WAIT2 has no timer at all.",
        ),
        belief(
            "It clears CLOSE_WAIT.",
            "CLOSE_WAIT is on the other side: there the program has not closed. When this side's FIN_WAIT2 ends, the peer stays \
             in CLOSE_WAIT.",
        ),
    ],
    trap: Some(
        "From 61 to 119 an orphan lives 2 * (N - 60) s: 70 gives 20 s, 90 gives 60 s. Above 120 it lives longer than N. Only 60 \
         and less, and 120, do what they say.",
    ),
    risk: "Short: a peer that is slow to close gets RST for what it still sends. Long: orphans take memory and count as \
           TIME_WAIT in sockstat.",
    sources: &[
        "net/ipv4/tcp.c __tcp_close (4.1 to 7.1)",
        "net/ipv4/tcp_timer.c tcp_keepalive_timer (4.1 to 7.1; 62, 70 and 150 seen at work on 6.18)",
        "net/ipv4/tcp_minisocks.c tcp_timewait_state_process (6.18)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.5, per namespace in 4.6)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["TCP_LINGER2", "net.ipv4.tcp_orphan_retries", "net.ipv4.tcp_tw_timeout"],
    meaning: Meaning::Number(fin_timeout),
    ..COMMON
};

pub const MAX_ORPHANS: Setting = Setting {
    name: "net.ipv4.tcp_max_orphans",
    unit: "sockets",
    summary: "orphaned sockets before new ones are reset",
    scope: Scope::Host,
    in_namespace: InNamespace::Absent,
    accepts: Accepts::Number { kernel: INT, sensible: span(1, i32::MAX as i64), gap: None },
    defaults: &[computed(
        "half the number of buckets in the hash of connections: 131072 on machines with 16 GB and more",
    )],
    affects: &[
        "How many sockets that no program holds any more (FIN_WAIT1, LAST_ACK, CLOSING, a long FIN_WAIT2) the whole machine \
         keeps. One more, and close() sends RST (counter TCPAbortOnMemory) and the kernel logs \"too many orphaned sockets\".",
    ],
    does_not: &[belief(
        "Sockets in TIME_WAIT count.",
        "They do not, and an orphaned FIN_WAIT2 with tcp_fin_timeout of 60 s or less does not either: tcp_max_tw_buckets is for \
         those.",
    )],
    trap: Some(
        "The count is of the whole machine, all namespaces together. An orphan whose peer has been silent for long, or that got \
         an ICMP error, is dropped already at a half or a quarter of it.",
    ),
    risk: "Each orphan may hold unsent data, up to 64 KiB of memory that cannot be swapped. Lowering it resets connections whose \
           last data are on the way.",
    sources: &[
        "net/ipv4/tcp.c tcp_check_oom (7.1)",
        "net/ipv4/tcp_timer.c tcp_out_of_resources (7.1)",
        "net/ipv4/tcp.c tcp_init (4.4 to 7.1: half the buckets)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_orphan_retries", "net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_mem"],
    meaning: Meaning::Number(max_orphans),
    ..COMMON
};

pub const ORPHAN_RETRIES: Setting = Setting {
    name: "net.ipv4.tcp_orphan_retries",
    unit: "retries",
    summary: "retransmissions before an orphaned connection is given up; 0 means 8",
    namespaced_since: Some(Version::new(4, 6)),
    accepts: Accepts::Number { kernel: BYTE, sensible: span(0, 15), gap: None },
    defaults: &[always("0")],
    affects: &[
        "How long a closed connection whose last data or FIN the peer does not acknowledge stays in FIN_WAIT1, CLOSING or \
         LAST_ACK.",
    ],
    does_not: &[
        belief(
            "0 means never retransmit.",
            "0 means 8, about 100 s; only after an ICMP error it means none.",
        ),
        belief(
            "It shortens FIN_WAIT2 or TIME_WAIT.",
            "Nothing is retransmitted in those. tcp_fin_timeout is for orphaned FIN_WAIT2; TIME_WAIT is 60 s.",
        ),
    ],
    trap: Some("ip-sysctl.rst gives the default as 8. The file says 0, which the kernel treats as 8."),
    risk: "Low values cut off the last data to peers with a bad line.",
    sources: &[
        "net/ipv4/tcp_timer.c tcp_orphan_retries (7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.5, per namespace in 4.6)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_max_orphans", "net.ipv4.tcp_retries2", "net.ipv4.tcp_fin_timeout"],
    meaning: Meaning::Number(orphan_retries),
    ..COMMON
};

pub const RETRIES2: Setting = Setting {
    name: "net.ipv4.tcp_retries2",
    unit: "retries",
    summary: "retransmissions before an open connection is given up",
    namespaced_since: Some(Version::new(4, 6)),
    accepts: Accepts::Number { kernel: BYTE, sensible: span(3, 15), gap: None },
    defaults: &[always("15")],
    affects: &[
        "How long an open connection with unacknowledged data waits for a peer that is gone: about 15 minutes with 15. Then the \
         program gets ETIMEDOUT.",
        "CLOSE_WAIT with unsent data, since that is an open connection.",
    ],
    does_not: &[
        belief(
            "It ends idle connections.",
            "With nothing to send nothing is retransmitted. SO_KEEPALIVE is for those.",
        ),
        belief("It shortens TIME_WAIT or a CLOSE_WAIT without data.", "Nothing is retransmitted in those."),
    ],
    risk: "RFC 1122 asks for 100 s at least, which is 8. Below that, connections break during short outages of the network.",
    sources: &[
        "net/ipv4/tcp_timer.c retransmits_timed_out, tcp_model_timeout (7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide in 4.5, per namespace in 4.6)",
        "RFC 1122 section 4.2.3.5, RFC 9293 section 3.8.3",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["TCP_USER_TIMEOUT", "net.ipv4.tcp_orphan_retries", "net.ipv4.tcp_keepalive_time"],
    meaning: Meaning::Number(retries2),
    ..COMMON
};

fn fin_timeout(seconds: i64, _: Version) -> String {
    let lives = if seconds > TIME_WAIT { 2 * (seconds - TIME_WAIT) } else { seconds };
    let lives_words = words::seconds(lives);
    match seconds {
        ..=0 => "an orphaned FIN_WAIT2 lives 3.5 retransmission timeouts, under a second on most networks; TIME_WAIT stays 60 s"
            .to_owned(),
        _ if lives != seconds => format!(
            "an orphaned FIN_WAIT2 lives {lives_words}, not {seconds}: above 60 the kernel waits twice what is over 60; TIME_WAIT \
             stays 60 s"
        ),
        _ => format!("an orphaned FIN_WAIT2 lives {lives_words}; TIME_WAIT stays 60 s"),
    }
}

fn max_orphans(sockets: i64, _: Version) -> String {
    format!(
        "the whole machine keeps {sockets} sockets that no program holds; beyond that close() resets the connection"
    )
}

fn orphan_retries(retries: i64, _: Version) -> String {
    let (counted, note) = if retries == 0 { (8, "0 stands for 8: ") } else { (retries, "") };
    format!(
        "{note}a closed connection whose peer does not answer is given up after {counted} retransmissions, {} or more",
        words::seconds(words::open_connection(counted))
    )
}

fn retries2(retries: i64, _: Version) -> String {
    format!(
        "an open connection whose peer does not acknowledge is given up after {retries} retransmissions, {} or more",
        words::seconds(words::open_connection(retries))
    )
}
