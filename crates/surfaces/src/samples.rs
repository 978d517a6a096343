//! Reports and checkups as they occur, for the tests: a healthy machine, one that runs out, and the odd ones.

use std::collections::BTreeMap;

use tidewait_model::doctor::{self, Checkup, Probe, Verdict};
use tidewait_model::lingering::{Peer, Silence};
use tidewait_model::machine::Process;
use tidewait_model::observation::Growth;
use tidewait_model::report::{
    ClosedHere, Configuration, Consequence, Destination, Finding, Host, Incoming, Listener, Namespace,
    NoHelp, Pool, Ports, Remedy, Report, SCHEMA, Severity, Trend,
};
use tidewait_model::{Limit, Lingering, Owner, OwnerBasis, State, StateCounts, Timing};

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
        time_wait_seconds: 60,
        states: all,
        destinations_total: destinations.len() as u64,
        destinations,
        incoming: vec![],
        listeners: vec![],
        lingering: vec![],
        growth: None,
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

fn app() -> Owner {
    owner("app", 123, "app.service", 1.0, OwnerBasis::OpenFiles)
}

/// Sockets of one state and holder, all of them looked at, nothing unusual about them.
pub fn lingering(state: State, owner: Option<Owner>, sockets: u64) -> Lingering {
    Lingering {
        state,
        held: owner.is_some(),
        owner,
        sockets,
        looked_at: sockets,
        peers: vec![Peer { peer: "10.0.2.9:3306".to_owned(), service: None, sockets }],
        peers_total: 1,
        silence: None,
        unread_end: 0,
        unread_data: 0,
        unread_bytes: 0,
        keepalive: 0,
        retransmitting: 0,
        zero_window: 0,
        retransmits_max: 0,
    }
}

fn leak_of_app() -> Lingering {
    Lingering {
        looked_at: 300,
        peers: vec![
            Peer { peer: "10.0.2.9:3306".to_owned(), service: None, sockets: 200 },
            Peer { peer: "192.0.2.7".to_owned(), service: Some("0.0.0.0:8080".to_owned()), sockets: 80 },
            Peer { peer: "10.0.2.20:443".to_owned(), service: None, sockets: 20 },
        ],
        peers_total: 9,
        silence: Some(Silence { shortest: 312.0, median: 2_400.0, longest: 7_300.0, last_minute: 0 }),
        unread_end: 288,
        unread_data: 12,
        unread_bytes: 4_096,
        ..lingering(State::CloseWait, Some(app()), 9_312)
    }
}

fn leak_finding() -> Finding {
    let mut leak = finding(
        "close-wait-leak",
        Severity::Warning,
        "app",
        "app does not close 9,312 connections that its peers have closed, the oldest 2 h ago",
    );
    leak.evidence = vec![
        "9,312 sockets in CLOSE_WAIT are among the open files of app (pid 123)".to_owned(),
        "none of 300 looked at had a word from its peer within 5 min".to_owned(),
    ];
    leak.owner = Some(app());
    leak.remedies = vec![
        Remedy {
            configuration: vec![Configuration {
                program: "Go net/http".to_owned(),
                about: "close the body of every response, read or not".to_owned(),
                lines: vec![
                    "resp, err := client.Get(url)".to_owned(),
                    "if err != nil {".to_owned(),
                    "    return err".to_owned(),
                    "}".to_owned(),
                    "defer resp.Body.Close()".to_owned(),
                ],
                source: "https://pkg.go.dev/net/http".to_owned(),
            }],
            ..remedy(
                1,
                "close-connections",
                "let app close what it has read to the end",
                None,
                "frees 9,312 descriptors",
                "none",
            )
        },
        remedy(
            2,
            "restart-program",
            "restart app.service to let go of them now",
            Some("systemctl restart app.service"),
            "frees 9,312 descriptors until they have leaked again",
            "open connections of app are cut",
        ),
    ];
    leak.no_help = vec![
        NoHelp {
            setting: "net.ipv4.tcp_fin_timeout".to_owned(),
            why: "it ends orphaned FIN_WAIT2 sockets; these are held by app".to_owned(),
        },
        NoHelp {
            setting: "net.ipv4.tcp_tw_reuse".to_owned(),
            why: "it is about TIME_WAIT; CLOSE_WAIT has no timer".to_owned(),
        },
    ];
    leak
}

/// A program that does not close what its peers have closed.
pub fn leak() -> Report {
    let mut host = namespace("host", vec![destination("10.0.0.5", "10.0.2.9:3306", 100, 9_400)]);
    host.states.add(State::CloseWait, 9_312);
    host.lingering = vec![leak_of_app(), lingering(State::LastAck, None, 17)];
    let mut report = report(vec![host]);
    report.findings = vec![leak_finding()];
    report
}

fn full_queue() -> Listener {
    Listener {
        local: "0.0.0.0:8080".to_owned(),
        sockets: 4,
        full: 4,
        queue: 129,
        limit: 128,
        owners: vec![owner("app", 123, "app.service", 1.0, OwnerBasis::ListeningSocket)],
    }
}

/// A service that does not accept: its queue is full, and the kernel drops what comes.
pub fn accept_queue() -> Report {
    let mut host = namespace("host", vec![]);
    host.listeners = vec![
        full_queue(),
        Listener {
            local: "[::]:443".to_owned(),
            sockets: 1,
            full: 0,
            queue: 300,
            limit: 511,
            owners: vec![],
        },
        Listener {
            local: "127.0.0.1:25".to_owned(),
            sockets: 1,
            full: 0,
            queue: 0,
            limit: 100,
            owners: vec![],
        },
    ];
    host.counters = BTreeMap::from([("TcpExt.ListenOverflows".to_owned(), 48_200)]);
    let counters = BTreeMap::from([("TcpExt.ListenOverflows".to_owned(), 212)]);
    host.growth = Some(Growth { seconds: 5.0, counters });
    let mut report = report(vec![host]);
    let mut full = finding(
        "accept-queue-overflow",
        Severity::Critical,
        "0.0.0.0:8080",
        "0.0.0.0:8080 is up but does not accept: 129 connections wait, its queue takes no more",
    );
    full.evidence = vec!["212 connections were dropped in the last 5 s".to_owned()];
    full.remedies = vec![remedy(
        1,
        "find-the-stall",
        "see what app waits for: its threads do not call accept()",
        None,
        "the queue empties as fast as the program accepts",
        "none",
    )];
    report.findings = vec![full];
    report
}

/// The table of connection tracking is full: packets of new connections are dropped.
pub fn conntrack_full() -> Report {
    let mut report = healthy();
    let settings = &mut report.namespaces[0].settings;
    settings.insert("net.netfilter.nf_conntrack_max".to_owned(), "65536".to_owned());
    settings.insert("net.netfilter.nf_conntrack_count".to_owned(), "65536".to_owned());
    let mut full = finding(
        "conntrack-full",
        Severity::Critical,
        "",
        "connection tracking is full (65,536 of 65,536): packets of new connections are dropped",
    );
    full.remedies = vec![remedy(
        1,
        "raise-conntrack-max",
        "let connection tracking keep more",
        Some("sysctl -w net.netfilter.nf_conntrack_max=262144"),
        "room for 196,608 more connections",
        "about 320 bytes an entry: 60 MiB",
    )];
    report.findings = vec![full];
    report
}

/// A leak that fills the descriptors, and so the accept queue; and two port findings that share advice.
pub fn combined() -> Report {
    let mut report = running_out();
    let host = &mut report.namespaces[0];
    host.lingering = vec![leak_of_app()];
    host.listeners = vec![full_queue()];
    report.processes = vec![
        Process {
            owner: app(),
            namespace: Some("host".to_owned()),
            descriptors: 10_240,
            descriptor_limit: Some(10_240),
            descriptor_limit_hard: Some(524_288),
            sockets_without_connection: Some(31),
        },
        Process {
            owner: owner("squid", 812, "squid.service", 1.0, OwnerBasis::OpenFiles),
            namespace: None,
            descriptors: 14_000,
            descriptor_limit: Some(16_384),
            descriptor_limit_hard: Some(16_384),
            sockets_without_connection: Some(0),
        },
    ];
    let mut leak = leak_finding();
    leak.severity = Severity::Critical;
    leak.consequences = vec![
        Consequence {
            id: "fd-limit-near".to_owned(),
            subject: "app".to_owned(),
            summary: "app has 10,240 of 10,240 files open and can open none".to_owned(),
        },
        Consequence {
            id: "accept-queue-overflow".to_owned(),
            subject: "0.0.0.0:8080".to_owned(),
            summary: "0.0.0.0:8080 does not accept: 129 connections wait".to_owned(),
        },
    ];
    let mut second = report.findings[0].clone();
    second.severity = Severity::Warning;
    second.subject = "10.0.0.5 -> 10.0.2.20:443".to_owned();
    second.summary = "10.0.0.5 -> 10.0.2.20:443 runs out of ports in 130 s".to_owned();
    report.findings.insert(0, leak);
    report.findings.insert(2, second);
    report
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
