//! Trouble beside the ports: a leak, a full accept queue, a full table of connection tracking, and several at once.

use std::collections::BTreeMap;

use tidewait_model::lingering::{Peer, Silence};
use tidewait_model::machine::Process;
use tidewait_model::observation::Growth;
use tidewait_model::report::{
    Configuration, Consequence, Finding, Listener, NoHelp, Remedy, Report, Severity,
};
use tidewait_model::{Lingering, Owner, OwnerBasis, State};

use super::{destination, finding, healthy, namespace, owner, remedy, report, running_out};

fn app() -> Owner {
    owner("app", 123, "app.service", 1.0, OwnerBasis::OpenFiles)
}

/// Sockets of one state and holder, all of them looked at, nothing unusual about them.
fn lingering(state: State, owner: Option<Owner>, sockets: u64) -> Lingering {
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
        still_full: Some(1),
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
            still_full: None,
            owners: vec![],
        },
        Listener {
            local: "127.0.0.1:25".to_owned(),
            sockets: 1,
            full: 0,
            queue: 0,
            limit: 100,
            still_full: None,
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
            running_seconds: Some(86_400.0),
        },
        Process {
            owner: owner("squid", 812, "squid.service", 1.0, OwnerBasis::OpenFiles),
            namespace: None,
            descriptors: 14_000,
            descriptor_limit: Some(16_384),
            descriptor_limit_hard: Some(16_384),
            sockets_without_connection: Some(0),
            running_seconds: Some(86_400.0),
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
