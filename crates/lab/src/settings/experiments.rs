//! The experiments: what is said to bear on TIME_WAIT or on ports, and what is known of it.

use tidewait_model::experiment::Metric::{
    BindRateWhenFull, BindsUntilRefused, CloseWaitKept, ConnectsUntilRefused, DroppedAfter, FinWait2Counted,
    FinWait2Seconds, NextProbeAfter, ProbeAfter, RateWhenFull, SurviveReset, SynSentKept, TakenOverAfter,
    TimeWaitKept, TimeWaitSeconds,
};
use tidewait_model::experiment::Verdict::{Changes, Helps, NoEffect, Protects, Worse};

use super::Experiment;
use super::site::{Client, Place};

const PLAIN: Client = Client { bind: false, reuse_address: false, no_port: false };
const REUSE_ADDRESS: Client = Client { reuse_address: true, ..PLAIN };
const NO_PORT: Client = Client { no_port: true, ..PLAIN };

const COMMON: Experiment = Experiment {
    name: "",
    about: "",
    given: &[],
    changes: &[],
    attempt: &[],
    expects: &[],
    client: (PLAIN, PLAIN),
    destinations: (1, 1),
    place: Place::Wire,
    not_measured: None,
    in_parent: false,
    tracked: false,
};

/// Everything that a change would show in that made TIME_WAIT shorter or rarer, or ports more.
const NOTHING: &[(super::Metric, super::Verdict)] = &[
    (TimeWaitSeconds, NoEffect),
    (TimeWaitKept, NoEffect),
    (ConnectsUntilRefused, NoEffect),
    (RateWhenFull, NoEffect),
];

pub(super) const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "ip_local_port_range",
        about: "the range is twice as long",
        changes: &[("net.ipv4.ip_local_port_range", "{low} {twice}")],
        expects: &[(ConnectsUntilRefused, Helps), (BindsUntilRefused, Helps), (TimeWaitSeconds, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "ip_local_reserved_ports",
        about: "a quarter of the range is reserved",
        changes: &[("net.ipv4.ip_local_reserved_ports", "{low}-{quarter}")],
        expects: &[(ConnectsUntilRefused, Worse), (BindsUntilRefused, Worse)],
        ..COMMON
    },
    Experiment {
        name: "ip_unprivileged_port_start",
        about: "ports below 1024 need no privilege; the range is not changed",
        changes: &[("net.ipv4.ip_unprivileged_port_start", "0")],
        expects: &[(ConnectsUntilRefused, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "ip_unprivileged_port_start-range",
        about: "the range is to begin below 1024, which the kernel refuses before the change",
        given: &[("net.ipv4.ip_local_port_range", "1024 {above}")],
        changes: &[("net.ipv4.ip_unprivileged_port_start", "0")],
        attempt: &[("net.ipv4.ip_local_port_range", "{below} {above}")],
        expects: &[(ConnectsUntilRefused, Helps)],
        ..COMMON
    },
    Experiment {
        name: "ip_autobind_reuse",
        about: "bind(port 0) may share ports; the program sets SO_REUSEADDR on its sockets",
        changes: &[("net.ipv4.ip_autobind_reuse", "1")],
        client: (REUSE_ADDRESS, REUSE_ADDRESS),
        expects: &[(BindsUntilRefused, Helps), (ConnectsUntilRefused, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "ip_autobind_reuse-plain",
        about: "bind(port 0) may share ports; the program does not set SO_REUSEADDR",
        changes: &[("net.ipv4.ip_autobind_reuse", "1")],
        expects: &[(BindsUntilRefused, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "ip_local_port_step_width",
        about: "connect() jumps at random from a port in use to the next",
        changes: &[("net.ipv4.ip_local_port_step_width", "7")],
        expects: &[(ConnectsUntilRefused, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "tcp_tw_reuse",
        about: "connect() may take TIME_WAIT over",
        changes: &[("net.ipv4.tcp_tw_reuse", "1")],
        expects: &[
            (RateWhenFull, Helps),
            (BindRateWhenFull, NoEffect),
            (TakenOverAfter, Helps),
            (TimeWaitSeconds, NoEffect),
            (TimeWaitKept, NoEffect),
        ],
        ..COMMON
    },
    Experiment {
        name: "tcp_tw_reuse-2-wire",
        about: "connect() may take TIME_WAIT over on loopback; the server is on another machine",
        given: &[("net.ipv4.tcp_tw_reuse", "0")],
        changes: &[("net.ipv4.tcp_tw_reuse", "2")],
        expects: &[(RateWhenFull, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "tcp_tw_reuse-2-loopback",
        about: "connect() may take TIME_WAIT over on loopback; the server is at 127.0.0.1",
        given: &[("net.ipv4.tcp_tw_reuse", "0")],
        changes: &[("net.ipv4.tcp_tw_reuse", "2")],
        place: Place::Loopback,
        expects: &[(RateWhenFull, Helps)],
        ..COMMON
    },
    Experiment {
        name: "tcp_tw_reuse_delay",
        about: "TIME_WAIT may be taken over at a tenth of the age, with tcp_tw_reuse on",
        given: &[("net.ipv4.tcp_tw_reuse", "1")],
        changes: &[("net.ipv4.tcp_tw_reuse_delay", "100")],
        expects: &[(TakenOverAfter, Helps), (TimeWaitSeconds, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "tcp_tw_reuse_delay-alone",
        about: "TIME_WAIT may be taken over at a tenth of the age, with tcp_tw_reuse off",
        given: &[("net.ipv4.tcp_tw_reuse", "0")],
        changes: &[("net.ipv4.tcp_tw_reuse_delay", "100")],
        expects: &[(RateWhenFull, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "tcp_timestamps-0",
        about: "no timestamps, with tcp_tw_reuse on",
        given: &[("net.ipv4.tcp_tw_reuse", "1")],
        changes: &[("net.ipv4.tcp_timestamps", "0")],
        expects: &[(RateWhenFull, Worse), (TimeWaitSeconds, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "tcp_max_tw_buckets-low",
        about: "fewer sockets may be in TIME_WAIT: the others lose its protection, and their ports are free",
        changes: &[("net.ipv4.tcp_max_tw_buckets", "50")],
        expects: &[(TimeWaitKept, Worse), (ConnectsUntilRefused, Helps), (TimeWaitSeconds, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "tcp_max_tw_buckets-high",
        about: "more sockets may be in TIME_WAIT than there are ports",
        changes: &[("net.ipv4.tcp_max_tw_buckets", "2000000")],
        expects: NOTHING,
        ..COMMON
    },
    Experiment {
        name: "tcp_child_ehash_entries",
        about: "a namespace made from here has a hash of its own, and a low tcp_max_tw_buckets with it",
        changes: &[("net.ipv4.tcp_child_ehash_entries", "128")],
        in_parent: true,
        expects: &[(TimeWaitKept, Worse)],
        ..COMMON
    },
    Experiment {
        name: "tcp_rfc1337",
        about: "a reset does not end TIME_WAIT",
        given: &[("net.ipv4.tcp_rfc1337", "0")],
        changes: &[("net.ipv4.tcp_rfc1337", "1")],
        expects: &[(SurviveReset, Protects), (TimeWaitSeconds, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "tcp_tw_timeout",
        about: "the length of TIME_WAIT",
        changes: &[("net.ipv4.tcp_tw_timeout", "15")],
        expects: &[(TimeWaitSeconds, Helps)],
        ..COMMON
    },
    Experiment {
        name: "tcp_tw_recycle",
        about: "TIME_WAIT ends after a few round trips, and clients behind NAT are refused",
        changes: &[("net.ipv4.tcp_tw_recycle", "1")],
        expects: &[(TimeWaitSeconds, Helps)],
        ..COMMON
    },
    Experiment {
        name: "tcp_fin_timeout",
        about: "half the default",
        changes: &[("net.ipv4.tcp_fin_timeout", "30")],
        expects: &[
            (TimeWaitSeconds, NoEffect),
            (TimeWaitKept, NoEffect),
            (ConnectsUntilRefused, NoEffect),
            (RateWhenFull, NoEffect),
            (FinWait2Seconds, Changes),
        ],
        ..COMMON
    },
    Experiment {
        name: "tcp_fin_timeout-1",
        about: "the least: the peer of a leak forgets the connection after a second",
        changes: &[("net.ipv4.tcp_fin_timeout", "1")],
        expects: &[(CloseWaitKept, NoEffect), (TimeWaitSeconds, NoEffect), (FinWait2Counted, Changes)],
        ..COMMON
    },
    Experiment {
        name: "tcp_keepalive_time",
        about: "idle connections are probed after 90 s instead of two hours",
        changes: &[("net.ipv4.tcp_keepalive_time", "90")],
        expects: &[
            (TimeWaitSeconds, NoEffect),
            (TimeWaitKept, NoEffect),
            (ConnectsUntilRefused, NoEffect),
            (ProbeAfter, Changes),
        ],
        ..COMMON
    },
    Experiment {
        name: "tcp_keepalive_intvl",
        about: "probes follow each other every 30 s instead of 75 s",
        given: &[("net.ipv4.tcp_keepalive_time", "2")],
        changes: &[("net.ipv4.tcp_keepalive_intvl", "30")],
        expects: &[
            (TimeWaitSeconds, NoEffect),
            (TimeWaitKept, NoEffect),
            (ConnectsUntilRefused, NoEffect),
            (NextProbeAfter, Changes),
        ],
        ..COMMON
    },
    Experiment {
        name: "tcp_keepalive_probes",
        about: "5 probes are sent instead of 9, a second apart",
        given: &[("net.ipv4.tcp_keepalive_time", "1"), ("net.ipv4.tcp_keepalive_intvl", "1")],
        changes: &[("net.ipv4.tcp_keepalive_probes", "5")],
        expects: &[
            (TimeWaitSeconds, NoEffect),
            (TimeWaitKept, NoEffect),
            (ConnectsUntilRefused, NoEffect),
            (DroppedAfter, Changes),
        ],
        ..COMMON
    },
    Experiment {
        name: "tcp_keepalive-1",
        about: "keepalive as fast as it goes, beside a leak of a program without SO_KEEPALIVE",
        changes: &[
            ("net.ipv4.tcp_keepalive_time", "1"),
            ("net.ipv4.tcp_keepalive_intvl", "1"),
            ("net.ipv4.tcp_keepalive_probes", "1"),
        ],
        expects: &[(CloseWaitKept, NoEffect), (TimeWaitSeconds, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "nanog-four-lines",
        about: "keepalive and tcp_fin_timeout together, as they were recommended",
        changes: &[
            ("net.ipv4.tcp_keepalive_intvl", "15"),
            ("net.ipv4.tcp_keepalive_probes", "3"),
            ("net.ipv4.tcp_keepalive_time", "90"),
            ("net.ipv4.tcp_fin_timeout", "30"),
        ],
        expects: NOTHING,
        ..COMMON
    },
    Experiment {
        name: "tcp_orphan_retries",
        about: "a closed connection is given up after one retransmission",
        changes: &[("net.ipv4.tcp_orphan_retries", "1")],
        expects: &[
            (TimeWaitSeconds, NoEffect),
            (FinWait2Seconds, NoEffect),
            (ConnectsUntilRefused, NoEffect),
        ],
        ..COMMON
    },
    Experiment {
        name: "tcp_retries2",
        about: "an open connection is given up after 5 retransmissions",
        changes: &[("net.ipv4.tcp_retries2", "5")],
        expects: &[(TimeWaitSeconds, NoEffect), (ConnectsUntilRefused, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "tcp_syn_retries",
        about: "connect() to a silent peer gives up, and its port, after one retransmission",
        changes: &[("net.ipv4.tcp_syn_retries", "1")],
        expects: &[(SynSentKept, Helps), (TimeWaitSeconds, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "somaxconn",
        about: "accept queues may be longer",
        changes: &[("net.core.somaxconn", "65535")],
        expects: NOTHING,
        ..COMMON
    },
    Experiment {
        name: "tcp_max_syn_backlog",
        about: "more connections may be half-open",
        changes: &[("net.ipv4.tcp_max_syn_backlog", "65535")],
        expects: NOTHING,
        ..COMMON
    },
    Experiment {
        name: "tcp_max_orphans",
        about: "more closed connections may be unfinished; TIME_WAIT does not count as one",
        changes: &[("net.ipv4.tcp_max_orphans", "1000000")],
        not_measured: Some("the machine has one for all, and a namespace none"),
        expects: &[(TimeWaitKept, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "nf_conntrack_tcp_timeout_time_wait",
        about: "connection tracking forgets a closed connection after 10 s instead of 120",
        changes: &[("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "10")],
        tracked: true,
        expects: NOTHING,
        ..COMMON
    },
    Experiment {
        name: "second-address",
        about: "the service has two addresses instead of one",
        changes: &[("addresses of the service", "2")],
        destinations: (1, 2),
        expects: &[(ConnectsUntilRefused, Helps), (BindsUntilRefused, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "SO_REUSEADDR",
        about: "the client's program sets it on its sockets",
        changes: &[("SO_REUSEADDR", "1")],
        client: (PLAIN, REUSE_ADDRESS),
        expects: &[(ConnectsUntilRefused, NoEffect), (BindsUntilRefused, NoEffect), (RateWhenFull, NoEffect)],
        ..COMMON
    },
    Experiment {
        name: "IP_BIND_ADDRESS_NO_PORT",
        about: "the program sets it before bind(address, port 0), with tcp_tw_reuse on",
        given: &[("net.ipv4.tcp_tw_reuse", "1")],
        changes: &[("IP_BIND_ADDRESS_NO_PORT", "1")],
        client: (PLAIN, NO_PORT),
        expects: &[(BindRateWhenFull, Helps)],
        ..COMMON
    },
];
