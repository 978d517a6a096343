//! Traced machines: a proxy that closes first and is refused, beside programs of every other kind.

use tidewait_model::observation::OwnerBasis;
use tidewait_model::report::{ClosedFirst, ClosedHere, Connections, Report, Severity, Traced, TracedSum};
use tidewait_model::trace::{Direction, Program};

use super::{destination, finding, namespace, owner, report};

fn program(command: &str, unit: &str, pid: Option<u32>, processes: Option<u32>) -> Option<Program> {
    Some(Program {
        command: command.to_owned(),
        pid,
        processes,
        unit: Some(unit.to_owned()),
        container: None,
        user: None,
    })
}

fn outgoing(to: &str, connects: u64) -> Connections {
    Connections {
        source: Some("10.0.0.5".to_owned()),
        destination: Some(to.to_owned()),
        connects,
        connects_per_second: connects as f64 / 10.0,
        ..Connections::default()
    }
}

/// A proxy whose connections to its database close here first, and find no port any more.
pub fn traced() -> Report {
    let mut full = destination("10.0.0.5", "10.0.2.9:3306", 28_000, 232);
    full.seconds_to_half = Some(0.0);
    full.seconds_to_exhaustion = Some(0.0);
    full.rate_how =
        "traced now, TIME_WAIT timers over a minute; of connections that closed here first, the ones that keep a port"
            .to_owned();
    full.pool_how = "traced: connect() chose 6,020 times".to_owned();
    let squid = owner("squid", 812, "squid.service", 0.99, OwnerBasis::Traced);
    let nginx = owner("nginx", 44, "nginx.service", 0.01, OwnerBasis::Traced);
    full.owners = vec![squid.clone()];
    full.traced = Some(TracedSum {
        opened_per_second: 482.0,
        closed_here_per_second: 467.5,
        closed_there_per_second: 14.5,
        closed_here_share: Some(0.97),
        mean_lifetime_seconds: Some(0.012),
        no_port: 1_204,
        time_wait_born: 4_675,
        time_wait_attributed: 4_675,
        ..TracedSum::default()
    });
    let mut host = namespace("host", vec![full]);
    host.closed_here = ClosedHere {
        by_owner: vec![squid.clone(), nginx.clone()],
        outgoing: Some(ClosedFirst { here: 4_675, there: 147, by_owner: vec![squid] }),
        incoming: Some(ClosedFirst { here: 45, there: 6_800, by_owner: vec![nginx] }),
    };
    let rows = vec![
        Connections {
            program: program("squid", "squid.service", Some(812), Some(1)),
            closed_here: 4_675,
            closed_there: 145,
            time_wait: 4_675,
            mean_lifetime_seconds: Some(0.012),
            no_port: 1_204,
            ..outgoing("10.0.2.9:3306", 6_020)
        },
        Connections {
            program: program("squid", "squid.service", Some(812), Some(1)),
            direction: Direction::Bind,
            source: Some("10.0.0.6".to_owned()),
            no_port: 31,
            ..Connections::default()
        },
        Connections {
            program: program("nginx", "nginx.service", None, Some(4)),
            direction: Direction::Incoming,
            local: Some("0.0.0.0:443".to_owned()),
            accepts: 6_830,
            closed_here: 45,
            closed_there: 6_800,
            aborted_there: 12,
            mean_lifetime_seconds: Some(4.2),
            ..Connections::default()
        },
        Connections {
            program: program("curl", "backup-of-everything-that-is-left@night.service", None, None),
            refused: 9,
            unanswered: 3,
            failed: 1,
            ..outgoing("[2001:db8:aa:bb:cc:dd:ee:ff]:8443", 13)
        },
        Connections { closed_there: 2, ..Connections::default() },
    ];
    host.traced = Some(Traced {
        seconds: 10.0,
        time_wait_born: 4_720,
        time_wait_attributed: 4_718,
        connections_total: 17,
        connections: rows,
    });
    let mut report = report(vec![host]);
    report.findings = vec![finding(
        "ports-exhausted",
        Severity::Critical,
        "10.0.0.5 -> 10.0.2.9:3306",
        "connect() found no local port for 10.0.0.5 -> 10.0.2.9:3306 1,204 times in 10 s (EADDRNOTAVAIL)",
    )];
    report
}

/// One second on a machine where nothing happened.
pub fn traced_quiet() -> Report {
    let mut host = namespace("host", vec![]);
    host.traced = Some(Traced {
        seconds: 1.0,
        time_wait_born: 0,
        time_wait_attributed: 0,
        connections: vec![],
        connections_total: 0,
    });
    report(vec![host])
}
