//! bind() that is refused because another program's connections hold the ports of the address.

use tidewait_model::Source;
use tidewait_model::address::Address;
use tidewait_model::report::Pool;
use tidewait_model::trace::Flow;

use super::ports::{destination, occupancy};
use super::traced::{bind, counts, outgoing, report};
use super::traced_ports::with_row;
use super::*;

const TO: &str = "10.0.2.9:9100";
const FULL: u32 = 2_000;

fn address(text: &str) -> Address {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// A range of 2,000, of which `held` are open from `source` to 10.0.2.9:9100 by holder[11]; and what was traced.
fn holding(source: &str, held: u32, flows: Vec<Flow>) -> NamespaceFacts {
    let mut facts = host();
    set(&mut facts, &[("net.ipv4.ip_local_port_range", "42000 43999")]);
    let row = tidewait_model::Destination {
        source: address(source),
        owners: vec![owner("holder", 11)],
        ..destination(TO, occupancy(&[], held, 42_000, 1))
    };
    with_row(facts, row, flows)
}

/// victim[22] is refused a port of `at`, while holder[11] connects from `from`.
fn refused(at: &str, from: &str) -> Vec<Flow> {
    let connects = Flow { local: Some(address(from)), ..outgoing("holder", 11, TO, counts(2_100, 2_100, 3)) };
    vec![connects, Flow { local: Some(address(at)), ..bind("victim", 22, 0, 400) }]
}

/// The finding about bind(), whatever is found besides.
fn of_bind(facts: NamespaceFacts) -> Finding {
    let found = findings_of(facts);
    let mut of_bind = found.into_iter().filter(|finding| finding.id == "bind-pool-exhausted");
    let first = of_bind.next().unwrap();
    assert_eq!(of_bind.next(), None);
    first
}

fn ids(finding: &Finding) -> Vec<&str> {
    finding.remedies.iter().map(|remedy| remedy.id.as_str()).collect()
}

#[test]
fn who_holds_the_ports_is_told_and_not_that_a_range_is_narrow() {
    for (source, error) in
        [("10.0.0.5", "10.0.0.5 -> any destination"), ("fd00::5", "fd00::5 -> any destination")]
    {
        let facts = holding(source, FULL, refused(source, source));
        assert_eq!(report(facts.clone()).namespaces[0].destinations[0].pool, Pool::Connect);
        let finding = of_bind(facts);
        assert_eq!((finding.severity, finding.subject.as_str()), (Severity::Critical, error));
        assert_eq!(
            finding.summary,
            format!(
                "bind() found no port for {source} 400 times in 10 s (EADDRINUSE, \"Address already in use\"): 2,000 of 2,000 \
                 are in use"
            )
        );
        let held = format!(
            "all ports of {source} are in use: 2,000 of 2,000, most by holder[11] (2,000 to 10.0.2.9:9100)"
        );
        assert!(finding.evidence.contains(&held), "{:?}", finding.evidence);
        assert!(finding.evidence.iter().all(|line| !line.contains("IP_LOCAL_PORT_RANGE")));
        assert_eq!(finding.owner.as_ref().and_then(|owner| owner.pid), Some(22));
        assert_eq!(
            ids(&finding),
            ["bind-address-no-port", "reuse-connections", "wider-range", "more-addresses"]
        );
        let summary = |id| &remedy(&finding, id).summary;
        assert!(summary("bind-address-no-port").starts_with("let victim[22] set IP_BIND_ADDRESS_NO_PORT"));
        assert!(summary("reuse-connections").starts_with("let holder[11] keep connections open"));
        assert!(remedy(&finding, "bind-address-no-port").effect.ends_with(
            "2,000 ports for each, less those that connections to it hold now (2,000 to 10.0.2.9:9100)"
        ));
        assert!(is_no_help(&finding, "net.ipv4.tcp_tw_reuse") && is_no_help(&finding, "SO_REUSEADDR"));
    }
}

#[test]
fn who_holds_the_ports_may_be_refused_as_well() {
    let in_vain = tidewait_model::trace::Counts { connects: 1_653, no_port: 1_653, ..Default::default() };
    let mut facts =
        holding("10.0.0.5", 0, vec![outgoing("holder", 11, TO, in_vain), bind("victim", 22, 0, 400)]);
    let row = &mut facts.census.destinations[0];
    (row.occupancy, row.owners) = (occupancy(&[(30, FULL)], 0, 42_000, 1), vec![]);
    facts.census.sources[0].occupancy = row.occupancy.clone();
    let finding = of_bind(facts);
    assert!(
        finding.evidence.iter().any(|line| line.ends_with("most by holder[11] (2,000 to 10.0.2.9:9100)"))
    );
    assert!(
        remedy(&finding, "reuse-connections").summary.starts_with("let holder[11] keep connections open")
    );
}

#[test]
fn a_range_of_its_own_is_thought_of_where_ports_are_free() {
    let finding = of_bind(holding("10.0.0.5", 1_200, refused("10.0.0.5", "10.0.0.5")));
    assert!(finding.evidence.iter().any(|line| line.contains("IP_LOCAL_PORT_RANGE")));
    assert_eq!(ids(&finding)[0], "own-port-range");
}

#[test]
fn any_address_needs_a_port_that_is_free_on_all() {
    for (any, source, explained, told) in [
        ("0.0.0.0", "10.0.0.5", true, "all ports of 10.0.0.5 are in use: at least 2,000 of 2,000"),
        ("::", "fd00::5", true, "all ports of fd00::5 are in use: at least 2,000 of 2,000"),
        ("::", "10.0.0.5", true, "only a socket for IPv6 alone (IPV6_V6ONLY) does not need its ports"),
        ("0.0.0.0", "fd00::5", false, ""),
    ] {
        let finding = of_bind(holding(source, FULL, refused(any, source)));
        assert_eq!(finding.subject, "any address -> any destination");
        assert_eq!(has_remedy(&finding, "own-port-range"), !explained, "{any} {source}");
        assert!(finding.evidence.iter().any(|line| line.contains(told)), "{:?}", finding.evidence);
    }
    // Two addresses that hold a half each leave none either.
    let mut facts = holding("10.0.0.5", 1_000, refused("0.0.0.0", "10.0.0.5"));
    let other = occupancy(&[], 1_000, 43_000, 1);
    facts.census.destinations.push(tidewait_model::Destination {
        source: address("10.0.0.6"),
        ..destination("10.0.2.8:80", other.clone())
    });
    facts.census.sources.push(Source {
        address: address("10.0.0.6"),
        occupancy: other,
        destinations: 1,
        parity: [0, 0],
    });
    let finding = of_bind(facts);
    let held = "all ports of 10.0.0.5, 10.0.0.6 are in use: at least 2,000 of 2,000, for one destination at most \
                1,000 to 10.0.2.9:9100 by holder[11]";
    assert!(finding.evidence.iter().any(|line| line == held), "{:?}", finding.evidence);
    assert!(finding.summary.ends_with("at least 2,000 of 2,000 are in use"), "{}", finding.summary);
}

#[test]
fn who_tries_in_vain_is_not_taken_for_who_holds_the_ports() {
    // Open since before the trace, in a range so full that its ports do not tell who chose them.
    let finding = of_bind(holding("10.0.0.5", FULL, vec![bind("victim", 22, 0, 400)]));
    assert!(finding.evidence.iter().any(|line| line == "most of the ports are held by holder[11]"));
    assert!(remedy(&finding, "bind-address-no-port").summary.starts_with("let victim[22] set"));
    assert!(remedy(&finding, "reuse-connections").summary.starts_with("let holder[11] keep"));
}
