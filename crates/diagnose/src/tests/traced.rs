//! What follows from tracing beside the ports: who closes first, servers, unanswered connections, and calm where all is well.

use tidewait_model::report::{ClosedHere, Report};
use tidewait_model::trace::{Births, Counts, Direction, Flow, Program};
use tidewait_model::{Census, Hides, Incoming, StateCounts, Traced};

use super::ports::{destination, occupancy, steady};
use super::*;

pub(super) fn program(command: &str, pid: u32) -> Program {
    Program { command: command.to_owned(), pid: Some(pid), processes: Some(1), ..Program::default() }
}

/// Connections of `command[pid]` from 10.0.0.5 to `to`.
pub(super) fn outgoing(command: &str, pid: u32, to: &str, counts: Counts) -> Flow {
    Flow {
        program: Some(program(command, pid)),
        direction: Direction::Outgoing,
        local: Some(endpoint("10.0.0.5:0").address),
        remote: Some(endpoint(to)),
        port: 0,
        counts,
    }
}

/// Connections that came in to `local`.
fn incoming(command: &str, pid: u32, local: &str, counts: Counts) -> Flow {
    let local = endpoint(local);
    Flow {
        direction: Direction::Incoming,
        local: Some(local.address),
        port: local.port,
        remote: None,
        ..outgoing(command, pid, "10.0.0.9:1", counts)
    }
}

/// A bind() to `port` of 10.0.0.5 that failed so often.
pub(super) fn bind(command: &str, pid: u32, port: u16, no_port: u64) -> Flow {
    Flow {
        direction: Direction::Bind,
        remote: None,
        port,
        ..outgoing(command, pid, "10.0.0.9:1", Counts { no_port, ..Counts::default() })
    }
}

/// `connects` connections of which `here` closed here first and the rest there, after `milliseconds` each.
pub(super) fn counts(connects: u64, here: u64, milliseconds: u64) -> Counts {
    Counts {
        connects,
        closed_here: here,
        closed_there: connects - here,
        time_wait: here,
        aged: connects,
        lived_ns: connects * milliseconds * 1_000_000,
        ..Counts::default()
    }
}

/// What ten seconds showed.
pub(super) fn traced(facts: &mut NamespaceFacts, flows: Vec<Flow>) {
    facts.traced = Some(Traced { seconds: 10.0, flows, births: Births::default() });
}

pub(super) fn report(facts: NamespaceFacts) -> Report {
    assess(&seen(vec![facts], Machine::default()), &Options { top: 0, timings: false })
}

fn shares(owners: &[Owner]) -> Vec<(&str, f64)> {
    owners.iter().map(|owner| (owner.command.as_str(), owner.share)).collect()
}

#[test]
fn who_closes_first_is_told_by_owner_and_by_direction() {
    let mut facts = host();
    let nobody = Flow { program: None, ..outgoing("", 0, "10.0.2.9:80", counts(100, 100, 1)) };
    let flows = vec![
        outgoing("curl", 1, "10.0.2.9:80", counts(500, 500, 5)),
        outgoing("curl", 1, "10.0.2.9:81", counts(150, 100, 5)),
        outgoing("pool", 2, "10.0.2.9:80", counts(50, 0, 5)),
        incoming("nginx", 3, "10.0.0.5:443", Counts { closed_here: 300, ..Counts::default() }),
        nobody,
    ];
    traced(&mut facts, flows);
    let closed = report(facts.clone()).namespaces.remove(0).closed_here;
    assert_eq!(shares(&closed.by_owner), [("curl", 0.6), ("nginx", 0.3)]);
    let (went, came) = (closed.outgoing.unwrap(), closed.incoming.unwrap());
    assert_eq!((shares(&went.by_owner), went.here, went.there), (vec![("curl", 0.8571)], 700, 100));
    assert_eq!((shares(&came.by_owner), came.here, came.there), (vec![("nginx", 1.0)], 300, 0));
    assert!(closed.by_owner.iter().all(|owner| owner.how == OwnerBasis::Traced));

    let short = assess(&seen(vec![facts], Machine::default()), &Options { top: 1, timings: false });
    let namespace = &short.namespaces[0];
    assert_eq!(namespace.closed_here.by_owner.len(), 1);
    let rows = namespace.traced.as_ref().unwrap();
    assert_eq!((rows.connections.len(), rows.connections_total), (1, 5));
    // Nothing is said where nothing was traced.
    assert_eq!(report(host()).namespaces[0].closed_here, ClosedHere::default());
}

#[test]
fn what_found_no_port_is_listed_first() {
    let mut facts = host();
    let refused = Counts { connects: 1, no_port: 1, ..Counts::default() };
    let flows = vec![
        outgoing("busy", 1, "10.0.2.9:80", counts(500, 500, 5)),
        outgoing("calm", 2, "10.0.2.9:81", counts(5, 5, 5)),
        outgoing("refused", 3, "10.0.2.9:82", refused),
    ];
    traced(&mut facts, flows);
    let rows = report(facts).namespaces.remove(0).traced.unwrap().connections;
    let names: Vec<String> = rows.into_iter().filter_map(|row| Some(row.program?.command)).collect();
    assert_eq!(names, ["refused", "busy", "calm"]);
}

#[test]
fn a_failed_bind_keeps_the_port_that_it_asked_for() {
    let rows = [0, 8_080].map(|port| crate::traced::row(&bind("app", 1, port, 1), 10.0));
    assert_eq!(rows[0].source.as_deref(), Some("10.0.0.5"));
    assert_eq!((rows[0].local.as_deref(), rows[1].local.as_deref()), (None, Some("10.0.0.5:8080")));
}

/// A web server with so many connections in TIME_WAIT, closed first as told.
fn server(waiting: u32, counts: Option<Counts>) -> Finding {
    let flows = counts.map(|counts| vec![incoming("nginx", 44, "10.0.0.5:443", counts)]);
    server_of(waiting, flows)
}

/// The same, of several processes.
fn server_of(waiting: u32, flows: Option<Vec<Flow>>) -> Finding {
    let mut facts = host();
    let mut states = StateCounts::default();
    states.add(State::TimeWait, waiting.into());
    facts.census.incoming = vec![Incoming {
        local: endpoint("0.0.0.0:443"),
        listening: true,
        states,
        expiring: vec![waiting / 60; 60],
        owners: vec![],
        births: Births::default(),
    }];
    if let Some(mut flows) = flows {
        let other = incoming("other", 9, "10.0.0.5:80", Counts { closed_here: 9_999, ..Counts::default() });
        flows.push(other);
        traced(&mut facts, flows);
    }
    only(&findings_of(facts)).clone()
}

#[test]
fn a_server_that_closes_first_is_named_with_what_closing_second_would_change() {
    let first = Counts { accepts: 5_000, ..counts(5_000, 4_900, 20) };
    let finding = server(30_000, Some(Counts { connects: 0, ..first }));
    assert_eq!(told(std::slice::from_ref(&finding)), [("time-wait-incoming", Severity::Notice)]);
    assert_eq!(finding.owner.as_ref().map(|owner| owner.command.as_str()), Some("nginx"));
    assert_eq!(
        finding.evidence,
        [
            "nginx[44] closes first, 490 times a second: who closes first keeps the TIME_WAIT",
            "traced: nginx[44] accepted 500 connections a second; of 5,000 that ended 98 % were closed here first, 2 % by the \
             peer; they lived 20 ms on average",
        ]
    );
    assert_eq!(
        finding.remedies[0].effect,
        "if nginx[44] closed second, the TIME_WAIT of 490 connections a second would be its clients': up to 7.7 MB come free here"
    );

    let second = Counts { accepts: 5_000, connects: 0, ..counts(5_000, 100, 20) };
    let finding = server(30_000, Some(second));
    assert!(finding.evidence[0].contains("the peers closed first: what waits here is from before"));
    assert!(finding.remedies[0].effect.contains("256 bytes less"));
    assert!(server(30_000, None).evidence[0].starts_with("the service closes first, 500 times"));
}

#[test]
fn a_master_that_accepts_is_not_blamed_for_what_its_workers_do_not_close() {
    let prefork = |here: [u64; 2]| {
        let worker = |pid, here| {
            incoming("nginx", pid, "10.0.0.5:443", Counts { connects: 0, ..counts(2_500, here, 20) })
        };
        let master =
            incoming("nginx", 30_900, "10.0.0.5:443", Counts { accepts: 5_000, ..Counts::default() });
        server_of(30_000, Some(vec![master, worker(30_901, here[0]), worker(30_902, here[1])]))
    };
    for here in [[0, 0], [0, 3]] {
        let finding = prefork(here);
        assert!(
            finding.evidence[0].contains("the peers closed first: what waits here is from before"),
            "{here:?}"
        );
        assert!(finding.remedies[0].effect.contains("256 bytes less"), "{here:?}");
    }
    // One worker does: it is the one, not the master, and not the other.
    let finding = prefork([0, 2_400]);
    assert!(finding.evidence[0].starts_with("nginx[30902] closes first"), "{:?}", finding.evidence);
    assert_eq!(finding.owner.as_ref().and_then(|owner| owner.pid), Some(30_902));
    assert!(
        finding.remedies[0]
            .effect
            .starts_with("if nginx[30902] closed second, the TIME_WAIT of 240 connections a second")
    );
    // No end was seen: nobody is named, and nothing of 0 connections is promised.
    let master = incoming("nginx", 30_900, "10.0.0.5:443", Counts { accepts: 5_000, ..Counts::default() });
    let finding = server_of(30_000, Some(vec![master]));
    assert!(
        finding.evidence[0].starts_with("while it was traced none was closed here first"),
        "{:?}",
        finding.evidence
    );
    assert!(finding.remedies[0].effect.contains("256 bytes less"));
}

#[test]
fn refused_and_given_up_connections_are_evidence_where_connections_hang() {
    let hanging = |counts: Option<Counts>| {
        let mut facts = host();
        let mut group = held(State::SynSent, 60);
        group.peers = vec![Peer { peer: "10.0.2.9:3306".to_owned(), service: None, sockets: 60 }];
        group.retransmitting = 60;
        group.retransmits_max = 4;
        facts.lingering = vec![group];
        if let Some(counts) = counts {
            let other = Counts { refused: 77, ..counts };
            let flows =
                vec![outgoing("app", 7, "10.0.2.9:3306", counts), outgoing("app", 7, "10.0.2.8:3306", other)];
            traced(&mut facts, flows);
        }
        only(&findings_of(facts)).evidence.join("\n")
    };
    let said = hanging(Some(Counts { connects: 90, unanswered: 20, refused: 4, ..Counts::default() }));
    assert!(
        said.contains(
            "traced: of 90 connections to 10.0.2.9:3306 20 were given up without an answer (ETIMEDOUT), 4 were refused \
             (ECONNREFUSED): then the host answers, and nothing listens"
        ),
        "{said}"
    );
    assert!(!hanging(Some(Counts { connects: 90, ..Counts::default() })).contains("traced"));
    assert!(!hanging(None).contains("traced"));
}

/// A machine with all kinds of work, none of it in trouble.
fn busy() -> NamespaceFacts {
    let mut facts = host();
    let mut states = StateCounts::default();
    states.add(State::TimeWait, 3_000);
    facts.census = Census {
        destinations: vec![
            destination("10.0.2.9:3306", occupancy(&steady(100), 200, 32_768, 2)),
            destination("10.0.2.20:443", occupancy(&[], 900, 32_768, 2)),
        ],
        incoming: vec![Incoming {
            local: endpoint("0.0.0.0:443"),
            listening: true,
            states,
            expiring: vec![50; 60],
            owners: vec![owner("nginx", 44)],
            births: Births::default(),
        }],
        ..Census::default()
    };
    facts
}

#[test]
fn a_healthy_busy_machine_gives_no_finding_however_it_is_traced() {
    let failed = Counts { connects: 400, refused: 200, unanswered: 100, failed: 100, ..Counts::default() };
    let by_bind = Counts { port_by_bind: 700, ..counts(1_000, 1_000, 3) };
    let by_program = Counts { port_by_program: 50, ..counts(50, 50, 3) };
    for (what, flows) in [
        (
            "short connections that close here first",
            vec![outgoing("app", 7, "10.0.2.9:3306", counts(1_000, 1_000, 3))],
        ),
        // Far more than the ports carry if they closed here: they do not.
        ("many that the peer closes", vec![outgoing("app", 7, "10.0.2.9:3306", counts(90_000, 1_000, 3))]),
        ("peers that refuse and do not answer", vec![outgoing("scan", 7, "192.0.2.1:80", failed)]),
        ("a service that finds its port taken", vec![bind("nginx", 44, 443, 30)]),
        ("mixed ways of choosing", vec![outgoing("app", 7, "10.0.2.9:3306", by_bind)]),
        ("ports that the program chooses", vec![outgoing("app", 7, "10.0.2.9:3306", by_program)]),
        ("a busy server", vec![incoming("nginx", 44, "10.0.0.5:443", counts(90_000, 45_000, 3))]),
        ("nothing", vec![]),
    ] {
        let mut facts = busy();
        traced(&mut facts, flows);
        let report = report(facts);
        assert_eq!(told(&report.findings), [], "{what}");
        assert!(report.limits.iter().all(|limit| limit.hides == Hides::Detail), "{what}");
    }
}
