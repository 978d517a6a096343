//! Plans and changes of settings as they occur: one with everything in it, one that is empty, changes in every situation.

use tidewait_model::Limit;
use tidewait_model::machine::Configured;
use tidewait_model::persist::{Assignment as Line, Conflict, ModuleHint, Outlook, Reader, Stage};
use tidewait_model::report::Host;
use tidewait_model::tune::*;

fn change(setting: &str, now: &str, wanted: &str, capacity: Option<(f64, f64)>) -> Change {
    Change {
        setting: setting.to_owned(),
        now: now.to_owned(),
        wanted: wanted.to_owned(),
        effect: "28,232 to 55,296 ports for each destination: at most 470 to 921 connections a second to one destination".to_owned(),
        capacity: capacity
            .map(|(before_per_second, after_per_second)| Capacity { before_per_second, after_per_second }),
        risk: "A lower end that takes in ports of services makes their start fail now and then with EADDRINUSE.".to_owned(),
        reversible: "yes; connections keep the ports they have until they close".to_owned(),
        scope: "namespace".to_owned(),
        why: "ports-running-out: 10.0.0.5 -> 10.0.2.9:3306".to_owned(),
    }
}

fn left(setting: &str, wanted: Option<&str>, reason: Reason) -> LeftOut {
    LeftOut {
        setting: setting.to_owned(),
        now: (reason != Reason::NotHere).then(|| "60".to_owned()),
        wanted: wanted.map(str::to_owned),
        reason,
        why: "sockets in TIME_WAIT have no keepalive timer".to_owned(),
    }
}

/// A plan with everything in it.
pub fn plan() -> Plan {
    Plan {
        schema: PLAN_SCHEMA.to_owned(),
        id: String::new(),
        made_at: "2026-11-26T03:12:45Z".to_owned(),
        host: Host { hostname: "proxy1".to_owned(), kernel: "6.12.9".to_owned() },
        namespace: "host".to_owned(),
        from: "findings".to_owned(),
        subject: Some("10.0.0.5 -> 10.0.2.9:3306".to_owned()),
        rate_per_second: Some(520.0),
        capacity: Some(Capacity { before_per_second: 470.5, after_per_second: 55_296.0 }),
        changes: vec![
            change("net.ipv4.ip_local_reserved_ports", "", "8080,9000-9009,11211,20000-20010,30000", None),
            change("net.ipv4.ip_local_port_range", "32768 60999", "10240 65535", Some((470.5, 921.6))),
            change("net.ipv4.tcp_tw_reuse", "2", "1", Some((921.6, 55_296.0))),
        ],
        left_out: vec![
            left("net.ipv4.tcp_keepalive_intvl", Some("30"), Reason::NoEffect),
            left("net.ipv4.tcp_keepalive_probes", Some("5"), Reason::NoEffect),
            left("net.ipv4.tcp_tw_recycle", Some("1"), Reason::NotHere),
            left("net.core.somaxconn", Some("4096"), Reason::AlreadySo),
            left("net.ipv4.tcp_fin_timeout", None, Reason::NoEffect),
        ],
        blockers: vec![Blocker {
            setting: "net.ipv4.ip_local_port_range".to_owned(),
            why: "nginx[7] listens on 20000 inside the new range".to_owned(),
            remedy: "reserve it: --reserve does, or".to_owned(),
            offer: Some(Assignment::new("net.ipv4.ip_local_reserved_ports", "20000")),
        }],
        notes: vec!["not in it: tcp_fin_timeout: it does not shorten TIME_WAIT".to_owned()],
    }
    .sealed()
}

/// A plan of nothing.
pub fn no_plan() -> Plan {
    Plan {
        capacity: None,
        subject: None,
        rate_per_second: None,
        changes: Vec::new(),
        left_out: Vec::new(),
        blockers: Vec::new(),
        notes: Vec::new(),
        ..plan()
    }
    .sealed()
}

/// A change that waits to be confirmed.
pub fn entry() -> Entry {
    let was = |setting: &str, before: &str, wanted: &str| Was {
        setting: setting.to_owned(),
        before: before.to_owned(),
        wanted: wanted.to_owned(),
    };
    Entry {
        number: 3,
        plan: plan().id,
        from: "findings".to_owned(),
        begun_at: "2026-11-26T03:12:45Z".to_owned(),
        by: "root".to_owned(),
        pid: 4_711,
        namespace: NamespaceId { name: "host".to_owned(), inode: 4_026_531_840, cookie: Some(1) },
        configured: true,
        boot: "3231df93-ae07-48ae-97b0-cf4cb89a394c".to_owned(),
        changes: vec![
            was("net.ipv4.ip_local_reserved_ports", "", "20000"),
            was("net.ipv4.ip_local_port_range", "32768\t60999", "10240\t65535"),
            was("net.ipv4.tcp_tw_reuse", "2", "1"),
        ],
        deadline: Some(Deadline {
            uptime_ms: 1_000_000,
            at: "2026-11-26T03:13:45Z".to_owned(),
            seconds: 60.0,
        }),
        state: State::Applied { at: "2026-11-26T03:12:45Z".to_owned() },
    }
}

/// Changes in every situation.
pub fn status() -> Status {
    let at = || "2026-11-26T03:13:45Z".to_owned();
    let now = |held: Holding, value: Option<&str>| Now {
        setting: "net.ipv4.tcp_tw_reuse".to_owned(),
        value: value.map(str::to_owned),
        held,
        changed_by: None,
    };
    let told = |situation: Situation, state: State, now: Vec<Now>| Told {
        entry: Entry { state, ..entry() },
        situation,
        seconds_left: (situation == Situation::Unconfirmed).then_some(41.2),
        now,
    };
    let undone = |why: Undoing, left: &[&str]| State::Undone {
        at: at(),
        why,
        left: left.iter().map(|name| (*name).to_owned()).collect(),
    };
    let applied = || State::Applied { at: at() };
    Status {
        schema: STATUS_SCHEMA.to_owned(),
        journal: "/var/lib/tidewait/journal".to_owned(),
        changes: vec![
            told(Situation::Unconfirmed, applied(), vec![now(Holding::Wanted, Some("1"))]),
            told(Situation::InForce, State::Confirmed { at: at() }, vec![now(Holding::Wanted, Some("1"))]),
            told(Situation::Stranded, State::Begun, vec![now(Holding::Before, Some("2"))]),
            told(Situation::Stranded, applied(), vec![now(Holding::Wanted, Some("1"))]),
            told(Situation::Drifted, applied(), vec![now(Holding::Other, Some("0"))]),
            told(
                Situation::ChangedAgain,
                applied(),
                vec![Now { changed_by: Some(4), ..now(Holding::Other, Some("0")) }],
            ),
            told(Situation::AtWork, State::Begun, vec![now(Holding::Unknown, None)]),
            told(Situation::Undone, undone(Undoing::NotConfirmed, &["net.ipv4.tcp_tw_reuse"]), Vec::new()),
            told(Situation::Undone, undone(Undoing::Rollback, &[]), Vec::new()),
            told(Situation::Restarted, applied(), Vec::new()),
            told(Situation::NamespaceGone, applied(), Vec::new()),
        ],
        persisted: vec![held(Some("1")), held(Some("2")), held(None)],
        limits: vec![
            Limit::new("line 4 of the journal", "it is not what was written").remedy("move the file away"),
        ],
    }
}

fn held(now: Option<&str>) -> Held {
    Held {
        setting: "net.ipv4.tcp_tw_reuse".to_owned(),
        value: "1".to_owned(),
        plan: plan().id,
        now: now.map(str::to_owned),
    }
}

/// What is kept, one of it in vain.
pub fn kept() -> KeptReport {
    let winner = Configured {
        file: "/etc/sysctl.d/99-foo.conf".to_owned(),
        line: 3,
        setting: "net.ipv4.tcp_tw_reuse".to_owned(),
        value: "0".to_owned(),
    };
    KeptReport {
        schema: KEPT_SCHEMA.to_owned(),
        file: "/etc/sysctl.d/80-tidewait.conf".to_owned(),
        kept: vec![held(Some("1"))],
        dropped: vec!["net.ipv4.tcp_foo = 1".to_owned()],
        outlook: Outlook {
            conflicts: vec![Conflict {
                setting: "net.ipv4.tcp_tw_reuse".to_owned(),
                ours: "1".to_owned(),
                winner: Some(Line { stage: Stage::Files, at: winner }),
                reader: Reader::SystemdSysctl,
                summary:
                    "net.ipv4.tcp_tw_reuse will be 0 after boot: /etc/sysctl.d/99-foo.conf:3 sets it later"
                        .to_owned(),
                mend: "delete line 3 of /etc/sysctl.d/99-foo.conf".to_owned(),
            }],
            notes: vec![
                "/usr/lib/sysctl.d/50-default.conf:9 sets net.ipv4.tcp_syncookies to the same".to_owned(),
            ],
            modules: vec![ModuleHint {
                module: "nf_conntrack".to_owned(),
                settings: vec!["net.netfilter.nf_conntrack_max".to_owned()],
                mend: "have the module loaded before the files are applied".to_owned(),
                file: "/etc/modules-load.d/nf_conntrack.conf".to_owned(),
                line: "nf_conntrack".to_owned(),
            }],
            limits: vec![Limit::new("what /etc/ufw/ufw.conf sets", "permission denied")],
        },
    }
}
