//! What follows from tracing for local ports: who chose them, at what rate, who was refused, and what reuse would save.

use tidewait_model::report::{Destination as Row, Pool};
use tidewait_model::trace::{Births, Counts, Flow};
use tidewait_model::{Occupancy, Source};

use super::ports::{destination, occupancy, steady};
use super::traced::{bind, counts, outgoing, program, report, traced};
use super::*;
use crate::accounting::{Inferred, settle};

const TO: &str = "10.0.2.9:3306";

/// The host with one destination, and what was traced.
pub(super) fn one(occupancy: Occupancy, flows: Vec<Flow>) -> NamespaceFacts {
    with_row(host(), destination(TO, occupancy), flows)
}

/// The same facts with this one destination, and what was traced.
pub(super) fn with_row(
    mut facts: NamespaceFacts,
    row: tidewait_model::Destination,
    flows: Vec<Flow>,
) -> NamespaceFacts {
    facts.census.sources = vec![Source {
        address: row.source,
        occupancy: row.occupancy.clone(),
        destinations: 1,
        parity: [0, 0],
    }];
    facts.census.destinations = vec![row];
    traced(&mut facts, flows);
    facts
}

fn row(facts: NamespaceFacts) -> Row {
    report(facts).namespaces.remove(0).destinations.remove(0)
}

/// A range that is full of TIME_WAIT, so that its ports do not tell who chose them.
fn full() -> Occupancy {
    occupancy(&[(30, 28_232)], 0, 32_768, 2)
}

fn effect(finding: &Finding) -> &str {
    &remedy(finding, "reuse-connections").effect
}

#[test]
fn what_was_seen_goes_before_what_the_ports_tell() {
    use Pool::{Bind, Connect, Unknown};
    let seen = |connects, port_by_bind, port_by_program| Counts {
        connects,
        port_by_bind,
        port_by_program,
        ..Counts::default()
    };
    for (inferred, counts, failed, pool, how) in [
        (Unknown, seen(0, 0, 0), 0, Unknown, "inferred: x"),
        (Bind, seen(0, 0, 0), 0, Bind, "inferred: x"),
        (Unknown, seen(1, 0, 0), 0, Connect, "traced: connect() chose 1 time"),
        (Unknown, seen(4_820, 0, 0), 0, Connect, "traced: connect() chose 4,820 times"),
        (Connect, seen(4_820, 96, 0), 0, Connect, "traced: connect() chose 4,724 times"),
        (Bind, seen(300, 300, 0), 40, Bind, "traced: bind() chose 340 times, 40 in vain"),
        (Unknown, seen(0, 0, 0), 40, Bind, "traced: bind() chose 40 times, 40 in vain"),
        (Unknown, seen(9, 0, 9), 0, Unknown, "traced: the program itself chose, 9 times"),
        (
            Connect,
            seen(100, 30, 20),
            0,
            Unknown,
            "traced: mixed: connect() chose 50 times, bind() 30 times, the program itself 20 times; the ports from before \
             look like those of connect()",
        ),
        (Unknown, seen(100, 30, 0), 0, Unknown, "traced: mixed: connect() chose 70 times, bind() 30 times"),
        (
            Bind,
            seen(200, 0, 0),
            0,
            Connect,
            "traced: connect() chose 200 times; the ports from before look like those of bind()",
        ),
        (
            Bind,
            seen(2, 0, 0),
            0,
            Bind,
            "inferred: x; traced: connect() chose 2 times, which is too few to tell otherwise",
        ),
    ] {
        let known = settle(Inferred { pool: inferred, how: "inferred: x".to_owned() }, &counts, failed);
        assert_eq!((known.pool, known.how.as_str()), (pool, how));
    }
}

#[test]
fn the_accounting_follows_the_pool_that_was_seen() {
    let by_bind = Counts { port_by_bind: 400, ..counts(400, 400, 3) };
    let with_neighbour = |flows: Vec<Flow>| {
        // Even ports, as connect() would have chosen them.
        let mut facts = one(occupancy(&[(30, 4_000)], 0, 32_768, 2), flows);
        let neighbour = destination("10.0.2.8:80", occupancy(&[], 3_000, 36_768, 2));
        let source = &mut facts.census.sources[0];
        source.occupancy.merge(&neighbour.occupancy);
        source.destinations = 2;
        facts.census.destinations.push(neighbour);
        let report = report(facts);
        let rows = &report.namespaces[0].destinations;
        let row = rows.iter().find(|row| row.destination == TO).unwrap();
        (row.pool, row.ports_usable, rows.len())
    };
    assert_eq!(with_neighbour(vec![]), (Pool::Connect, Some(28_232), 2));
    // bind() needs ports that the neighbour does not hold either; and the source gets a row of its own.
    assert_eq!(with_neighbour(vec![outgoing("squid", 8, TO, by_bind)]), (Pool::Bind, Some(27_232), 3));
}

#[test]
fn rates_say_what_they_are_of_and_the_rest_stands_beside() {
    let flows = || vec![outgoing("app", 7, TO, counts(5_000, 1_000, 40))];
    let row_seen = row(one(occupancy(&steady(100), 0, 32_768, 2), flows()));
    assert_eq!((row_seen.rate_per_second, row_seen.rate_now_per_second), (100.0, 100.0));
    assert!(
        row_seen.rate_how.starts_with("traced now, TIME_WAIT timers over a minute"),
        "{}",
        row_seen.rate_how
    );
    let sum = row_seen.traced.unwrap();
    assert_eq!(
        (sum.opened_per_second, sum.closed_here_per_second, sum.closed_there_per_second),
        (500.0, 100.0, 400.0)
    );
    assert_eq!((sum.closed_here_share, sum.mean_lifetime_seconds), (Some(0.2), Some(0.04)));

    // There was another rate before; the timers still have it.
    let changed = row(one(occupancy(&steady(300), 0, 32_768, 2), flows()));
    assert_eq!((changed.rate_per_second, changed.rate_now_per_second), (300.0, 100.0));
    let mut facts = one(occupancy(&steady(300), 0, 32_768, 2), flows());
    if let Some(traced) = &mut facts.traced {
        traced.seconds = 1.0;
    }
    let glance = row(facts);
    assert_eq!(glance.rate_now_per_second, 300.0, "a second says nothing of a rate");
    assert!(glance.rate_how.starts_with("TIME_WAIT timers"), "{}", glance.rate_how);

    // Sockets that were taken over are missing among the timers.
    let mut facts = one(occupancy(&steady(10), 0, 32_768, 2), flows());
    set(&mut facts, &[("net.ipv4.tcp_tw_reuse", "1")]);
    let reused = row(facts);
    assert_eq!(reused.rate_now_per_second, 100.0);
    assert!(reused.rate_how.starts_with("traced; "), "{}", reused.rate_how);
    assert_eq!(row(one(occupancy(&steady(10), 0, 32_768, 2), vec![])).traced, None);
}

#[test]
fn a_full_range_names_the_error_that_was_seen() {
    let facts = |flows| one(full(), flows);
    let mut untraced = facts(vec![]);
    untraced.traced = None;
    assert!(
        only(&findings_of(untraced)).summary.contains("EADDRNOTAVAIL, or bind() before it with EADDRINUSE")
    );

    let found = findings_of(facts(vec![bind("squid", 8, 0, 3_100)]));
    let finding = only(&found);
    assert_eq!(told(&found), [("bind-pool-exhausted", Severity::Critical)]);
    assert!(finding.summary.contains("bind() fails with EADDRINUSE"), "{}", finding.summary);
    assert!(
        finding.evidence.contains(
            &"traced: bind() found no local port 3,100 times in 10 s (EADDRINUSE): squid[8] 3,100".to_owned()
        ),
        "{:?}",
        finding.evidence
    );
    assert_eq!(finding.owner.as_ref().and_then(|owner| owner.pid), Some(8));
    assert!(has_remedy(finding, "bind-address-no-port") && !has_remedy(finding, "own-port-range"));

    let refused = Counts { no_port: 1_204, ..counts(6_024, 4_820, 12) };
    let found = findings_of(facts(vec![
        outgoing("app", 7, TO, refused),
        outgoing("cron", 9, TO, Counts { connects: 6, no_port: 6, ..Counts::default() }),
    ]));
    let finding = only(&found);
    assert_eq!(told(&found), [("ports-exhausted", Severity::Critical)]);
    assert_eq!(
        finding.summary,
        "connect() found no local port for 10.0.0.5 -> 10.0.2.9:3306 1,210 times in 10 s (EADDRNOTAVAIL, \"Cannot assign \
         requested address\"): 28,232 of 28,232 are in use"
    );
    assert!(finding.evidence.iter().any(|line| line.ends_with("app[7] 1,204, cron[9] 6")));
    assert!(has_remedy(finding, "wider-range"));
}

#[test]
fn who_is_refused_is_not_blamed_for_what_was_there_before() {
    // Three attempts in ten seconds leave no 28,232 in a minute.
    let few = Counts { connects: 3, no_port: 3, ..Counts::default() };
    let found = findings_of(one(full(), vec![outgoing("victim", 7, TO, few)]));
    let finding = only(&found);
    assert_eq!(told(&found), [("ports-exhausted", Severity::Critical)]);
    assert_eq!(finding.owner, None);
    assert!(finding.evidence.iter().any(|line| line.ends_with("victim[7] 3")));
    assert!(finding.evidence.iter().any(|line| line.contains("who left the TIME_WAIT is not known")));
    assert!(finding.remedies.iter().all(|remedy| !remedy.summary.contains("victim")));
    assert!(has_remedy(finding, "identify-program"));

    // A port is hard to find, and the program that connects now found three.
    let found = findings_of(one(
        occupancy(&[(30, 20_000)], 0, 32_768, 2),
        vec![outgoing("late", 7, TO, counts(3, 3, 1))],
    ));
    assert!(!found.is_empty() && found.iter().all(|finding| finding.owner.is_none()), "{found:?}");

    // Half of what it takes: 28,232 in a minute are 4,706 in ten seconds.
    for (attempts, owner) in [(2_352, None), (2_353, Some(7))] {
        let refused = Counts { connects: attempts, no_port: attempts, ..Counts::default() };
        let found = findings_of(one(full(), vec![outgoing("app", 7, TO, refused)]));
        assert_eq!(only(&found).owner.as_ref().and_then(|owner| owner.pid), owner, "{attempts}");
    }
}

#[test]
fn workers_of_one_server_are_one_cause() {
    let worker = |pid, connects| outgoing("nginx", pid, TO, counts(connects, connects, 2));
    let finding = short(vec![worker(1, 2_300), worker(2, 2_300)]);
    let line = "traced: nginx (2 processes) opened 460 connections a second; of 4,600 that ended 100 % were closed here first; \
                they lived 2 ms on average";
    assert!(finding.evidence.contains(&line.to_owned()), "{:?}", finding.evidence);
    let owner = finding.owner.as_ref().unwrap();
    assert_eq!((owner.command.as_str(), owner.pid, owner.share), ("nginx", None, 1.0));
    assert!(
        effect(&finding)
            .starts_with("saves 460 new connections a second: as they live 2 ms each, less than one is open")
    );

    // One does nearly all: that one it is.
    let finding = short(vec![worker(1, 4_200), worker(2, 400)]);
    assert_eq!(finding.owner.as_ref().and_then(|owner| owner.pid), Some(1));
}

#[test]
fn a_full_range_that_lets_connections_through_says_so() {
    let found = findings_of(one(full(), vec![outgoing("app", 7, TO, counts(4_700, 4_700, 12))]));
    let finding = only(&found);
    assert!(finding.evidence.iter().any(|line| {
        line == "traced: connections came about, 470 a second, and none was refused meanwhile"
    }));
    // With reuse the same is no trouble: that connect() chose is known now.
    let mut reused = one(full(), vec![outgoing("app", 7, TO, counts(4_700, 4_700, 12))]);
    set(&mut reused, &[("net.ipv4.tcp_tw_reuse", "1")]);
    assert_eq!(told(&findings_of(reused)), []);
}

#[test]
fn what_was_refused_is_critical_whatever_the_arithmetic_says() {
    let refused = || Counts { no_port: 3, ..counts(903, 900, 12) };
    let some = || occupancy(&steady(15), 0, 32_768, 2);
    let found = findings_of(one(some(), vec![outgoing("app", 7, TO, refused())]));
    let finding = only(&found);
    assert_eq!(told(&found), [("ports-exhausted", Severity::Critical)]);
    assert!(
        finding.summary.ends_with("address\"), although 27,332 of 28,232 are free now"),
        "{}",
        finding.summary
    );
    assert!(finding.evidence.iter().any(|line| line.contains("IP_LOCAL_PORT_RANGE")));
    assert!(remedy(finding, "own-port-range").summary.contains("app[7]"));
    // What the whole range could carry says nothing of a part of it.
    let ids: Vec<&str> = finding.remedies.iter().map(|remedy| remedy.id.as_str()).collect();
    assert_eq!(ids, ["own-port-range", "reuse-connections"]);

    // Traced for longer than TIME_WAIT: the range may have been full at the beginning.
    let mut long = one(some(), vec![outgoing("app", 7, TO, refused())]);
    long.traced.iter_mut().for_each(|traced| traced.seconds = 120.0);
    let found = findings_of(long);
    assert!(has_remedy(only(&found), "wider-range") && !has_remedy(only(&found), "own-port-range"));

    let by_bind = Counts { port_by_bind: 900, ..counts(900, 900, 12) };
    let found = findings_of(one(some(), vec![outgoing("squid", 8, TO, by_bind), bind("squid", 8, 0, 5)]));
    assert_eq!(told(&found), [("bind-pool-exhausted", Severity::Critical)]);
    assert_eq!(
        only(&found).summary,
        "bind() found no port for 10.0.0.5 5 times in 10 s (EADDRINUSE, \"Address already in use\"), although 27,332 of \
         28,232 are free now"
    );
}

#[test]
fn what_was_refused_is_told_where_no_row_is_left_of_it() {
    let refused = Counts { connects: 1, no_port: 1, ..Counts::default() };
    let nowhere = Flow { local: None, remote: None, ..outgoing("app", 7, TO, refused) };
    let any = endpoint("0.0.0.0:0").address;
    let wildcard = Flow { local: Some(any), program: None, ..bind("", 0, 0, 2) };
    for (flow, subject, summary) in [
        (
            outgoing("app", 7, TO, refused),
            "10.0.0.5 -> 10.0.2.9:3306",
            "10.0.2.9:3306 1 time in 10 s (EADDRNOTAVAIL",
        ),
        (
            nowhere,
            "destinations that were too many to be told apart",
            "for destinations that were too many to be told apart 1 time in 10 s",
        ),
        (
            bind("app", 7, 0, 2),
            "10.0.0.5 -> any destination",
            "bind() found no port for 10.0.0.5 2 times in 10 s",
        ),
        (wildcard, "any address -> any destination", "bind() found no port for any address 2 times"),
    ] {
        let mut facts = host();
        let known = flow.program.is_some();
        traced(&mut facts, vec![flow]);
        let found = findings_of(facts);
        let finding = only(&found);
        assert_eq!((finding.severity, finding.subject.as_str()), (Severity::Critical, subject));
        assert!(finding.summary.contains(summary), "{}", finding.summary);
        assert_eq!(finding.owner.is_some(), known);
        assert!(has_remedy(finding, "own-port-range"));
    }
    // A connect() whose source is not known belongs to the row of its destination.
    let any_source = Flow { local: Some(any), ..outgoing("app", 7, TO, refused) };
    assert_eq!(told(&findings_of(one(full(), vec![any_source]))), [("ports-exhausted", Severity::Critical)]);
}

/// The finding about 460 connections a second, of a traced program.
fn short(flows: Vec<Flow>) -> Finding {
    let found = findings_of(one(occupancy(&steady(460), 0, 32_768, 2), flows));
    found.into_iter().find(|finding| finding.subject.starts_with("10.0.0.5")).unwrap()
}

#[test]
fn owners_of_a_few_of_many_are_told_as_such() {
    let said = |born: u64| {
        let flows = vec![outgoing("nginx", 44, TO, counts(4_600, 4_600, 12))];
        let mut facts = one(occupancy(&steady(460), 0, 32_768, 2), flows);
        facts.census.destinations[0].births = Births { born, attributed: born };
        let traced = row(facts.clone()).traced.unwrap();
        assert_eq!((traced.time_wait_born, traced.time_wait_attributed), (born, born));
        let found = findings_of(facts);
        let finding = found.into_iter().find(|finding| finding.subject.starts_with("10.0.0.5")).unwrap();
        finding.evidence.into_iter().find(|line| line.contains("whose the others were is not known"))
    };
    assert_eq!(
        said(460).as_deref(),
        Some(
            "traced: 460 of the 27,600 in TIME_WAIT are from while it was traced; whose the others were is not known"
        )
    );
    assert_eq!(said(4_600), None);
}

#[test]
fn who_closes_first_is_named_with_what_reuse_would_save() {
    let flows = vec![
        outgoing("busy", 5, TO, counts(9_000, 10, 4)),
        outgoing("nginx", 44, TO, counts(4_600, 4_600, 12)),
        outgoing("third", 6, TO, counts(20, 5, 12)),
    ];
    let finding = short(flows);
    assert_eq!(finding.owner.as_ref().map(|owner| owner.command.as_str()), Some("nginx"));
    let reuse = &finding.remedies[0];
    assert_eq!(reuse.id, "reuse-connections");
    assert!(reuse.summary.starts_with("let nginx[44] keep connections open"), "{}", reuse.summary);
    assert_eq!(reuse.configuration[0].program, "nginx");
    // 460 a second that live 12 ms are 5.5 at a time; with 60 s of TIME_WAIT they take 27,606 ports.
    assert_eq!(
        reuse.effect,
        "saves 460 new connections a second: as they live 12 ms each, 5.5 are open at a time on average, and a pool of 6, with \
         room for peaks, does the same work; it needs 6 ports where the short connections need 27,606, TIME_WAIT included"
    );
    let said: Vec<&str> = finding.evidence.iter().filter_map(|line| line.strip_prefix("traced: ")).collect();
    assert_eq!(
        said,
        [
            "nginx[44] opened 460 connections a second; of 4,600 that ended 100 % were closed here first; they lived 12 ms on \
             average",
            "busy[5] opened 900 connections a second; of 9,000 that ended <1 % were closed here first, 99 % by the peer; they \
             lived 4 ms on average",
            "1 more program does less",
        ]
    );
}

#[test]
fn reuse_is_not_promised_where_it_brings_little() {
    // Long connections: as many have to be open as are now.
    let long = short(vec![outgoing("app", 7, TO, counts(4_600, 4_600, 30_000))]);
    assert!(
        effect(&long).contains("needs 13,800 ports where the short connections need 41,400"),
        "{}",
        effect(&long)
    );
    // No begin was seen, or too few to speak of.
    let unseen = short(vec![outgoing("app", 7, TO, Counts { aged: 0, ..counts(4_600, 4_600, 0) })]);
    assert!(effect(&unseen).contains("its share of 460 new ports a second"), "{}", effect(&unseen));
    let few = short(vec![outgoing("app", 7, TO, counts(5, 5, 10))]);
    assert!(effect(&few).contains("its share of"), "{}", effect(&few));
}

#[test]
fn one_that_closes_second_is_told_that_settings_of_time_wait_do_nothing() {
    let open = |here| {
        let seen = Counts { aborted_here: 46, ..counts(4_600, here, 900) };
        let found = findings_of(one(occupancy(&[], 28_232, 32_768, 1), vec![outgoing("app", 7, TO, seen)]));
        only(&found).clone()
    };
    let advice = "any setting of TIME_WAIT on this machine";
    let second = open(100);
    let why = second.no_help.iter().find(|no_help| no_help.setting == advice).unwrap();
    assert_eq!(
        why.why,
        "traced: app[7] closes second, so that the TIME_WAIT is the peer's, and a port is free here as soon as its connection \
         ends"
    );
    assert!(effect(&second).ends_with("fewer handshakes, hardly fewer ports"), "{}", effect(&second));
    assert!(
        second
            .evidence
            .iter()
            .any(|line| line.contains("2 % were closed here first, 97 % by the peer, <1 % cut off"))
    );
    assert!(!is_no_help(&open(4_500), advice));
    // Where TIME_WAIT fills the range, it is about TIME_WAIT all the same.
    assert!(!is_no_help(&short(vec![outgoing("app", 7, TO, counts(4_600, 100, 12))]), advice));
}

#[test]
fn an_owner_that_is_inferred_says_how_to_know() {
    let hint = "`tidewait report --trace 10` shows who opens and who closes first";
    for (how, told) in [
        (OwnerBasis::LiveSockets, true),
        (OwnerBasis::LiveSocketsSampled, true),
        (OwnerBasis::Traced, false),
        (OwnerBasis::OpenFiles, false),
    ] {
        let finding = |seen: bool, open: u32| {
            let time_wait = if open > 0 { vec![] } else { steady(460) };
            let mut facts = one(occupancy(&time_wait, open, 32_768, 2), vec![]);
            if !seen {
                facts.traced = None;
            }
            facts.census.destinations[0].owners = vec![Owner { how, ..owner("app", 7) }];
            findings_of(facts)[0].evidence.iter().any(|line| line.contains(hint))
        };
        assert_eq!(finding(false, 0), told, "{how:?}");
        // Traced already; or open connections, whose owner is no guess.
        assert!(!finding(true, 0) && !finding(false, 28_232));
    }
}

#[test]
fn processes_that_end_with_their_connection_have_none_to_keep() {
    for (pid, processes, ends) in [
        (None, Some(4_000), true),
        (None, None, true),
        (None, Some(40), false),
        (Some(3), Some(1), false),
        (Some(3), None, false),
    ] {
        let mut flow = outgoing("curl", 0, TO, counts(4_600, 4_600, 2));
        flow.program = Some(tidewait_model::trace::Program { pid, processes, ..program("curl", 0) });
        let finding = short(vec![flow]);
        let summary = &remedy(&finding, "reuse-connections").summary;
        assert_eq!(summary.starts_with("let one process of curl make many requests"), ends, "{summary}");
        assert_ne!(summary.contains("keep connections open and use them again"), ends, "{summary}");
    }
}

#[test]
fn many_processes_alike_are_named_with_their_number() {
    for (pid, processes, unit, name) in [
        (None, Some(40), Some("cron.service"), "curl (40 processes, cron.service)"),
        (None, None, None, "curl (many processes)"),
        (None, Some(1), None, "curl"),
        (Some(3), Some(1), Some("cron.service"), "curl[3]"),
    ] {
        let mut flow = outgoing("curl", 0, TO, counts(4_600, 4_600, 2));
        let alike = tidewait_model::trace::Program {
            pid,
            processes,
            unit: unit.map(str::to_owned),
            ..program("curl", 0)
        };
        flow.program = Some(alike);
        let finding = short(vec![flow]);
        assert!(finding.evidence.contains(&format!(
            "traced: {name} opened 460 connections a second; of 4,600 that ended 100 % were closed here first; they lived 2 ms on \
             average"
        )));
    }
}

#[test]
fn a_search_for_ports_is_reckoned_with_every_connection_seen() {
    // Half of the range open; the peer closes what comes and goes, so that no timer shows it.
    let cliff = |flows| {
        let facts = one(occupancy(&[], 15_000, 32_768, 2), flows);
        told(&findings_of(facts)).first().map(|(id, severity)| ((*id).to_owned(), *severity))
    };
    let id = "port-search-cliff".to_owned();
    assert_eq!(cliff(vec![]), Some((id.clone(), Severity::Notice)));
    assert_eq!(cliff(vec![outgoing("app", 7, TO, counts(5_000, 0, 3))]), Some((id, Severity::Warning)));
}
