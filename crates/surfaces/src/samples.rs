//! Reports and checkups as they occur, for the tests: a healthy machine, one that runs out, and the odd ones.

mod traced;
mod trouble;
pub mod tune;

use std::collections::BTreeMap;

use tidewait_model::doctor::{self, Checkup, Probe, Verdict};
use tidewait_model::report::{
    ClosedHere, Destination, Finding, Host, Incoming, Namespace, NoHelp, Pool, Ports, Remedy, Report, SCHEMA,
    Severity, Trend,
};
use tidewait_model::{Limit, Owner, OwnerBasis, State, StateCounts, Timing};

pub use traced::{traced, traced_quiet};
pub use trouble::{accept_queue, combined, conntrack_full, leak};

pub fn states(counts: &[(State, u64)]) -> StateCounts {
    let mut states = StateCounts::default();
    for (state, count) in counts {
        states.add(*state, *count);
    }
    states
}

pub fn owner(command: &str, pid: u32, unit: &str, share: f64, how: OwnerBasis) -> Owner {
    Owner {
        command: command.to_owned(),
        pid: Some(pid),
        unit: Some(unit.to_owned()),
        container: None,
        user: None,
        share,
        how,
    }
}

fn ramp(from: u32, to: u32) -> Vec<u32> {
    (0..60).map(|second| from + (to - from) * second / 59 + second * 7 % 5).collect()
}

/// A destination of the stock range with so many sockets in TIME_WAIT and open.
pub fn destination(source: &str, to: &str, time_wait: u32, open: u32) -> Destination {
    let (usable, used) = (28_232, time_wait + open);
    let rate = f64::from(time_wait) / 60.0;
    Destination {
        source: source.to_owned(),
        destination: to.to_owned(),
        ports_usable: Some(usable),
        ports_used: used,
        ports_free: Some(usable.saturating_sub(used)),
        fill: Some(f64::from(used) / f64::from(usable)),
        ports_outside_range: 0,
        ports_steered: 0,
        states: states(&[(State::TimeWait, time_wait.into()), (State::Established, open.into())]),
        rate_per_second: rate,
        rate_now_per_second: rate,
        rate_how: "TIME_WAIT timers; connections that the peer closed first are not in it".to_owned(),
        trend: Trend::Steady,
        closed_per_second: ramp(time_wait / 70, time_wait / 60),
        limit_per_second: Some(f64::from(usable - open) / 60.0),
        seconds_to_half: None,
        seconds_to_exhaustion: None,
        reusable: 0,
        pool: Pool::Connect,
        pool_how: "parity of the ports".to_owned(),
        owners: vec![],
        traced: None,
    }
}

pub fn namespace(name: &str, destinations: Vec<Destination>) -> Namespace {
    let mut all = StateCounts::default();
    for destination in &destinations {
        all += destination.states;
    }
    all.add(State::Listen, 12);
    Namespace {
        name: name.to_owned(),
        inode: 4_026_531_840,
        settings: BTreeMap::from([("net.ipv4.tcp_tw_reuse".to_owned(), "2".to_owned())]),
        ports: Some(Ports { low: 32_768, high: 60_999, reserved: 0, bound: 0, usable: 28_232 }),
        steered: vec![],
        time_wait_seconds: 60,
        states: all,
        destinations_total: destinations.len() as u64,
        destinations,
        incoming: vec![],
        listeners: vec![],
        lingering: vec![],
        growth: None,
        traced: None,
        closed_here: ClosedHere::default(),
        counters: BTreeMap::new(),
    }
}

pub fn report(namespaces: Vec<Namespace>) -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        generated_at: "2026-11-22T03:04:05Z".to_owned(),
        host: Host { hostname: "proxy1".to_owned(), kernel: "6.18.44".to_owned() },
        duration_seconds: 0.0123,
        limits: vec![],
        namespaces,
        processes: vec![],
        findings: vec![],
        timings: vec![],
    }
}

pub fn remedy(rank: u32, id: &str, summary: &str, command: Option<&str>, effect: &str, risk: &str) -> Remedy {
    Remedy {
        rank,
        id: id.to_owned(),
        summary: summary.to_owned(),
        command: command.map(str::to_owned),
        effect: effect.to_owned(),
        risk: risk.to_owned(),
        changes: vec![],
        configuration: vec![],
    }
}

pub fn finding(id: &str, severity: Severity, subject: &str, summary: &str) -> Finding {
    Finding {
        id: id.to_owned(),
        severity,
        namespace: "host".to_owned(),
        subject: subject.to_owned(),
        summary: summary.to_owned(),
        evidence: vec![],
        owner: None,
        since: None,
        remedies: vec![],
        consequences: vec![],
        no_help: vec![],
    }
}

/// A busy machine with nothing wrong.
pub fn healthy() -> Report {
    let mut host = namespace(
        "host",
        vec![
            destination("10.0.0.5", "10.0.2.9:3306", 3_000, 388),
            destination("10.0.0.5", "10.0.2.20:443", 700, 20),
            destination("10.0.0.5", "192.0.2.80:80", 12, 0),
        ],
    );
    host.incoming = vec![Incoming {
        local: "0.0.0.0:443".to_owned(),
        listening: true,
        states: states(&[(State::TimeWait, 41_000), (State::Established, 1_200)]),
        closed_here_per_second: 683.0,
        owners: vec![owner("nginx", 44, "nginx.service", 1.0, OwnerBasis::ListeningSocket)],
        traced: None,
    }];
    report(vec![host])
}

/// A proxy that runs out of ports towards its database in 23 seconds.
pub fn running_out() -> Report {
    let mut squeezed = destination("10.0.0.5", "10.0.2.9:3306", 25_000, 126);
    squeezed.rate_now_per_second = 482.7;
    squeezed.trend = Trend::Rising;
    squeezed.closed_per_second = ramp(40, 480);
    squeezed.seconds_to_half = Some(0.0);
    squeezed.seconds_to_exhaustion = Some(23.4);
    let squid = owner("squid", 812, "squid.service", 1.0, OwnerBasis::LiveSockets);
    squeezed.owners = vec![squid.clone()];
    let mut filling = destination("10.0.0.5", "10.0.2.20:443", 9_000, 500);
    filling.seconds_to_half = Some(40.0);
    filling.seconds_to_exhaustion = Some(130.0);
    filling.owners = vec![
        owner("curl", 4_711, "backup.service", 0.8, OwnerBasis::LiveSockets),
        owner("python3", 99, "cron.service", 0.15, OwnerBasis::LiveSockets),
        owner("java", 100, "app.service", 0.05, OwnerBasis::LiveSockets),
    ];
    let mut report = report(vec![namespace(
        "host",
        vec![squeezed, filling, destination("10.0.0.5", "192.0.2.80:80", 12, 0)],
    )]);
    report.namespaces[0].counters = BTreeMap::from([
        ("TcpExt.TCPTimeWaitOverflow".to_owned(), 1_234),
        ("TcpExt.TW".to_owned(), 5_000_000),
        ("TcpExt.ListenOverflows".to_owned(), 0),
    ]);
    let mut critical = finding(
        "ports-running-out",
        Severity::Critical,
        "10.0.0.5 -> 10.0.2.9:3306",
        "10.0.0.5 -> 10.0.2.9:3306 runs out of ports in 23 s (482 connects/s, the ports allow 468)",
    );
    critical.evidence = vec![
        "25,126 of 28,232 ports are in use, 25,000 of them by sockets in TIME_WAIT".to_owned(),
        "482 connects a second over the last seconds, 416 over the last minute".to_owned(),
    ];
    critical.owner = Some(squid);
    critical.remedies = vec![
        remedy(
            1,
            "reuse-connections",
            "let squid keep its connections to 10.0.2.9:3306 open and reuse them",
            None,
            "removes the cause: 482 connects/s become a few",
            "none for the kernel; the peer holds idle connections",
        ),
        remedy(
            2,
            "widen-port-range",
            "widen net.ipv4.ip_local_port_range to 1024 65535",
            Some("tidewait tune apply net.ipv4.ip_local_port_range=\"1024 65535\" --confirm-within 60s"),
            "64,512 ports carry 1,075 connects/s, 537 before connect() slows down",
            "a service that binds a port above 1023 later may find it taken",
        ),
        remedy(
            3,
            "tw-reuse",
            "let connect() take over sockets in TIME_WAIT",
            Some("sysctl -w net.ipv4.tcp_tw_reuse=1"),
            "up to 28,232 connects/s",
            "none where both ends send TCP timestamps",
        ),
    ];
    critical.no_help = vec![
        NoHelp {
            setting: "net.ipv4.tcp_fin_timeout".to_owned(),
            why: "it limits FIN_WAIT2 of closed sockets; TIME_WAIT stays 60 s (measured)".to_owned(),
        },
        NoHelp {
            setting: "net.ipv4.tcp_keepalive_time".to_owned(),
            why: "sockets in TIME_WAIT send no keepalive".to_owned(),
        },
    ];
    let warning = finding(
        "port-search-cliff",
        Severity::Warning,
        "10.0.0.5 -> 10.0.2.20:443",
        "connect() will slow down in 40 s: half of the ports will be in use",
    );
    let notice =
        finding("time-wait-incoming", Severity::Notice, "0.0.0.0:443", "41,000 sockets in TIME_WAIT");
    report.findings = vec![critical, warning, notice];
    report
}

/// More than half the ports in use: connect() burns CPU, nothing fails.
pub fn past_the_cliff() -> Report {
    let mut slow = destination("10.0.0.5", "10.0.2.9:3306", 16_000, 200);
    slow.seconds_to_half = Some(0.0);
    slow.reusable = 15_200;
    slow.ports_outside_range = 3;
    let mut report = report(vec![namespace("host", vec![slow])]);
    report.findings = vec![finding(
        "port-search-cliff",
        Severity::Warning,
        "10.0.0.5 -> 10.0.2.9:3306",
        "57 % of the ports are in use, so each connect() searches for about 1.5 ms",
    )];
    report
}

/// bind() before connect() has used up a source address, whatever the destination.
pub fn bind_pool() -> Report {
    let mut pool = destination("10.0.0.5", "*", 28_000, 232);
    pool.pool = Pool::Bind;
    pool.pool_how = "parity of the ports, and 212 destinations share them".to_owned();
    pool.seconds_to_half = Some(0.0);
    pool.seconds_to_exhaustion = Some(0.0);
    let mut one = destination("10.0.0.5", "198.51.100.7:443", 900, 11);
    one.pool = Pool::Bind;
    let mut host = namespace("host", vec![pool, one]);
    host.destinations_total = 213;
    let mut report = report(vec![host]);
    report.findings = vec![finding(
        "bind-pool-exhausted",
        Severity::Critical,
        "10.0.0.5 -> any destination",
        "10.0.0.5 has no port left for bind(): bind() fails with EADDRINUSE towards every destination",
    )];
    report
}

/// The port range could not be read: nothing is known of limits.
pub fn no_range() -> Report {
    let mut open = destination("10.0.0.5", "10.0.2.9:3306", 20_000, 500);
    open.ports_usable = None;
    open.ports_free = None;
    open.fill = None;
    open.limit_per_second = None;
    open.pool = Pool::Unknown;
    open.pool_how = String::new();
    let mut host = namespace("host", vec![open]);
    host.ports = None;
    let mut report = report(vec![host]);
    report.limits = vec![Limit::new("settings of host", "/proc/sys/net is not there")];
    report
}

/// 200 namespaces: one in trouble, four busy, five with a little, the rest idle.
pub fn many_namespaces() -> Report {
    let mut report = running_out();
    for index in 1..200 {
        let destinations = match index {
            1..5 => vec![destination("10.1.0.2", "10.0.2.9:3306", 4_000, 50)],
            5..10 => vec![destination("10.1.0.2", "10.0.2.9:3306", 40, 5)],
            _ => vec![],
        };
        report.namespaces.push(namespace(&format!("pod-{index}"), destinations));
    }
    report
}

/// A user without privileges on a machine with containers.
pub fn unprivileged() -> Report {
    let mut report = healthy();
    report.limits = (1..=40)
        .map(|index| {
            Limit::new(
                format!("network namespace of pid {}", 1_000 + index),
                "entering it needs CAP_SYS_ADMIN",
            )
            .remedy("run as root: sudo tidewait report")
        })
        .collect();
    report.limits.push(
        Limit::new("owners of the sockets of other users", "reading /proc/PID/fd needs CAP_SYS_PTRACE")
            .remedy("run as root: sudo tidewait report")
            .of_detail(),
    );
    report
}

/// Nothing but limits, each for its own reason.
pub fn many_limits() -> Report {
    let mut report = report(vec![]);
    report.limits = (1..=25)
        .map(|index| Limit::new(format!("namespace ns{index}"), format!("it went away after {index} ms")))
        .collect();
    report.timings = vec![
        Timing { step: "namespaces".to_owned(), seconds: 0.0042, items: 25 },
        Timing { step: "sockets".to_owned(), seconds: 0.0003, items: 0 },
    ];
    report
}

/// IPv6, one destination with a link-local address.
pub fn ipv6() -> Report {
    let mut full = destination("2001:db8:10:20:30:40:50:60", "[2001:db8:aa:bb:cc:dd:ee:ff]:5432", 13_000, 10);
    full.seconds_to_half = Some(66.0);
    report(vec![namespace("host", vec![full, destination("fe80::1%3", "[fe80::2%3]:80", 1_500, 2)])])
}

/// Names that try to drive the terminal, and numbers that are none.
pub fn hostile() -> Report {
    let mut row = destination("10.0.0.5", "10.0.2.9:3306", 20_000, 1);
    row.fill = Some(f64::NAN);
    row.rate_now_per_second = f64::NAN;
    row.seconds_to_half = Some(f64::INFINITY);
    row.seconds_to_exhaustion = Some(-1.0);
    row.limit_per_second = Some(f64::NEG_INFINITY);
    let evil = owner("\u{1b}[31mroot\u{202e}", 1, "a\nb.service", 1.0, OwnerBasis::LiveSocketsSampled);
    row.owners = vec![evil];
    let mut report = report(vec![namespace("\u{1b}]0;pwned\u{7}", vec![row])]);
    report.duration_seconds = f64::NAN;
    report
}

/// What an unprivileged user on an older kernel gets from the doctor.
pub fn checkup() -> Checkup {
    let probe = |id: &str, title: &str, verdict, detail: &str, remedy: Option<&str>| Probe {
        id: id.to_owned(),
        title: title.to_owned(),
        verdict,
        detail: detail.to_owned(),
        enables: "tidewait reap: a shorter TIME_WAIT".to_owned(),
        remedy: remedy.map(str::to_owned),
    };
    Checkup {
        schema: doctor::SCHEMA.to_owned(),
        kernel: "5.15.0".to_owned(),
        user: "www-data".to_owned(),
        capabilities: vec![],
        probes: vec![
            probe("dump", "socket dump", Verdict::Works, "1,204 sockets in 0.4 ms", None),
            probe(
                "destroy-time-wait",
                "destroy a socket in TIME_WAIT",
                Verdict::Unsupported,
                "EOPNOTSUPP",
                Some("Linux 6.0 or later"),
            ),
            probe(
                "netns-enter",
                "enter another network namespace",
                Verdict::NotPermitted,
                "EPERM from setns()",
                Some("CAP_SYS_ADMIN: run as root"),
            ),
            probe("bpf-tp-btf", "load a tp_btf program", Verdict::Unknown, "built without BPF", None),
        ],
    }
}

/// The lines of a session of steering.
pub fn steer() -> Vec<tidewait_model::steer::Line> {
    use tidewait_model::steer::{Away, Begin, Counts, End, Line, Progress, SCHEMA};
    use tidewait_model::stream::{Opening, Reason};
    let counts = Counts {
        connects: 12_345,
        steered: 12_345,
        learning: 3,
        reused: 12,
        candidates: 20_000,
        ..Counts::default()
    };
    let at = "2026-01-01T00:00:09.000000Z".to_owned();
    vec![
        Line::Begin(Begin {
            opening: Opening {
                schema: SCHEMA.to_owned(),
                at: at.clone(),
                host: Host { hostname: "web1".to_owned(), kernel: "6.12.0".to_owned() },
            },
            namespace: "host".to_owned(),
            target: "nginx.service".to_owned(),
            ports: 12_268,
            ranges: vec!["22268-29999".to_owned(), "61000-65535".to_owned()],
            reuse_after_seconds: Some(5.0),
            sources: vec!["10.0.0.5".to_owned()],
            warnings: Vec::new(),
        }),
        Line::Progress(Progress {
            at: at.clone(),
            ports: 12_268,
            sources_missing: vec!["10.0.0.5".to_owned()],
            counts,
        }),
        Line::Away(Away { at: at.clone(), target: "nginx.service".to_owned() }),
        Line::End(End { at, seconds: 9.0, reason: Reason::Time, counts }),
    ]
}

/// What became of a command, and of its connections.
pub fn exec() -> tidewait_model::exec::Report {
    use tidewait_model::exec::{Chosen, Report, SCHEMA};
    use tidewait_model::steer::Counts;
    use tidewait_model::stream::Opening;
    Report {
        opening: Opening {
            schema: SCHEMA.to_owned(),
            at: "2026-01-01T00:00:09.000000Z".to_owned(),
            host: Host { hostname: "web1".to_owned(), kernel: "6.12.0".to_owned() },
        },
        command: vec!["./client".to_owned(), "10.0.2.9:3306".to_owned()],
        seconds: 9.0,
        exit_code: Some(0),
        signal: None,
        no_port: true,
        steer: Some(Chosen {
            ports: 12_268,
            ranges: vec!["22268-29999".to_owned(), "61000-65535".to_owned()],
            reuse_after_seconds: None,
            sources: Vec::new(),
            sources_missing: Vec::new(),
            counts: Counts {
                connects: 12_345,
                steered: 12_340,
                fell_back: 5,
                candidates: 20_000,
                ..Counts::default()
            },
        }),
        reap: Some(tidewait_model::reap::Counters { killed: 4_000, looks: 80, ..Default::default() }),
        reap_trouble: None,
    }
}
