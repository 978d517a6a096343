//! Too few ports: what is offered, in which order, with which figures; and what is said to do nothing.

use tidewait_model::report::Pool;
use tidewait_model::{Census, Destination};

use super::ports::{destination, occupancy, steady};
use super::*;

/// The finding about `10.0.2.9:3306` at 460 connections a second, ports chosen by connect().
fn short_of_ports(pairs: &[(&str, &str)], change: impl Fn(&mut Census)) -> Finding {
    let mut facts = host();
    set(&mut facts, pairs);
    facts.census.destinations = vec![destination("10.0.2.9:3306", occupancy(&steady(460), 0, 32_768, 2))];
    change(&mut facts.census);
    let found = findings_of(facts);
    let ports = |finding: &&Finding| finding.subject.starts_with("10.0.0.5");
    found.into_iter().find(|finding| ports(&finding)).unwrap()
}

fn ids(finding: &Finding) -> Vec<&str> {
    finding.remedies.iter().map(|remedy| remedy.id.as_str()).collect()
}

fn first(census: &mut Census) -> &mut Destination {
    &mut census.destinations[0]
}

#[test]
fn the_order_is_program_ports_reuse_addresses() {
    let known = |census: &mut Census| first(census).owners = vec![owner("app", 9)];
    let finding = short_of_ports(&[], known);
    assert_eq!(
        ids(&finding),
        ["reuse-connections", "wider-range", "tw-reuse", "steer-ports", "less-time", "more-addresses"]
    );
    assert_eq!(remedy(&finding, "steer-ports").command.as_deref(), Some("tidewait steer --unit app.service"));
    let less = remedy(&finding, "less-time");
    assert_eq!(less.command.as_deref(), Some("tidewait reap --keep-below 45% --to 10.0.2.9:3306"));
    // 45 % of 28,232 ports at 460 a second.
    assert!(less.effect.contains("at 460 a second each is then kept for about 27 s"), "{}", less.effect);
    assert!(finding.remedies[0].effect.contains("460 new ports a second"), "{}", finding.remedies[0].effect);
    let nobody = short_of_ports(&[], |_| ());
    assert_eq!(ids(&nobody)[..2], ["identify-program", "reuse-connections"]);
    assert_eq!(nobody.remedies[0].command.as_deref(), Some("tidewait report --trace 10"));
    let vendors = short_of_ports(&[("net.ipv4.tcp_tw_timeout", "60")], known);
    assert_eq!(
        ids(&vendors),
        ["reuse-connections", "wider-range", "tw-reuse", "steer-ports", "less-time", "more-addresses"]
    );
    assert!(remedy(&vendors, "less-time").effect.contains("15 s instead of 60 s: at most 1,882"));
}

#[test]
fn a_wider_range_is_reckoned_and_keeps_clear_of_services() {
    let finding = short_of_ports(&[], |_| ());
    let wider = remedy(&finding, "wider-range");
    assert_eq!(wider.effect, "28,232 to 55,296 ports: 470 to 921 connections a second");
    assert_eq!(wider.command.as_deref(), Some("sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\""));

    let finding = short_of_ports(&[("net.ipv4.ip_local_reserved_ports", "33000-33009")], |census| {
        census.listeners = vec![listener("0.0.0.0:11211", 0, 128), listener("0.0.0.0:80", 0, 128)];
        census.bound = [80, 11_211].into_iter().collect();
    });
    let wider = remedy(&finding, "wider-range");
    assert_eq!(
        wider.command.as_deref(),
        Some(
            "sysctl -w net.ipv4.ip_local_reserved_ports=11211,33000-33009 net.ipv4.ip_local_port_range=\"10240 65535\""
        )
    );
    // Ten reserved before, and one port bound by the service that is now reserved.
    assert!(wider.effect.starts_with("28,222 to 55,285 ports"), "{}", wider.effect);
    let widest = short_of_ports(&[("net.ipv4.ip_local_port_range", "10240 65535")], |census| {
        first(census).occupancy.ports.extend(10_240..=65_535);
    });
    assert!(!has_remedy(&widest, "wider-range"));
}

#[test]
fn open_connections_take_nothing_from_what_more_ports_bring() {
    let finding = short_of_ports(&[], |census| {
        let open = occupancy(&[], 27_000, 32_768, 1);
        census.destinations = vec![destination("10.0.2.9:3306", open)];
    });
    // 1,232 ports are left; 27,064 come with the range, 28,232 with an address, each for 60 s.
    assert_eq!(
        remedy(&finding, "wider-range").effect,
        "28,232 to 55,296 ports: 20 to 471 connections a second"
    );
    assert!(remedy(&finding, "more-addresses").effect.contains("470 connections a second more"));
}

#[test]
fn reuse_is_offered_where_it_works_and_refused_with_the_reason_where_it_does_not() {
    let stamps = |seen: Option<bool>| move |census: &mut Census| first(census).peer_timestamps = seen;
    for (pairs, seen, words) in [
        (&[][..], None, Ok("not seen on a live connection")),
        (&[][..], Some(true), Ok("(seen)")),
        (&[][..], Some(false), Err("the peer sends none")),
        (&[("net.ipv4.tcp_timestamps", "0")][..], Some(true), Err("net.ipv4.tcp_timestamps is 0")),
    ] {
        let finding = short_of_ports(pairs, stamps(seen));
        match words {
            Ok(risk) => {
                let reuse = remedy(&finding, "tw-reuse");
                assert!(reuse.risk.contains(risk), "{}", reuse.risk);
                assert!(reuse.effect.contains("1 s instead of 60 s: at most 28,232"), "{}", reuse.effect);
                assert!(!is_no_help(&finding, "net.ipv4.tcp_tw_reuse"));
            }
            Err(why) => {
                assert!(!has_remedy(&finding, "tw-reuse"));
                let told =
                    finding.no_help.iter().find(|advice| advice.setting == "net.ipv4.tcp_tw_reuse").unwrap();
                assert!(told.why.contains(why), "{}", told.why);
            }
        }
    }
    let quicker = short_of_ports(&[("net.ipv4.tcp_tw_reuse_delay", "500")], |_| ());
    assert!(remedy(&quicker, "tw-reuse").effect.contains("0.5 s instead of 60 s: at most 56,464"));
}

#[test]
fn ports_that_open_connections_hold_are_not_helped_by_what_is_about_time_wait() {
    let mut facts = host();
    facts.census.destinations = vec![destination("10.0.2.9:3306", occupancy(&[], 28_232, 32_768, 2))];
    let found = findings_of(facts);
    let finding = only(&found);
    assert!(!has_remedy(finding, "tw-reuse") && is_no_help(finding, "net.ipv4.tcp_tw_reuse"));
    // Keepalive may well end open connections whose peers are gone.
    assert!(!is_no_help(finding, "net.ipv4.tcp_keepalive_time, _intvl, _probes"));
    assert!(finding.remedies[0].effect.contains("28,232 connections are open"));
}

#[test]
fn orphans_in_fin_wait2_hold_ports_that_tcp_fin_timeout_does_give_back() {
    let finding = short_of_ports(&[], |census| first(census).occupancy.states.add(State::FinWait2, 3_000));
    assert!(!is_no_help(&finding, "net.ipv4.tcp_fin_timeout"));
    assert!(is_no_help(&short_of_ports(&[], |_| ()), "net.ipv4.tcp_fin_timeout"));
}

#[test]
fn a_known_program_gets_its_own_lines_and_an_unknown_one_a_hint() {
    for (command, known) in [("nginx", true), ("homemade", false)] {
        let finding = short_of_ports(&[], |census| first(census).owners = vec![owner(command, 9)]);
        let reuse = remedy(&finding, "reuse-connections");
        assert_eq!(!reuse.configuration.is_empty(), known, "{command}");
        assert_eq!(reuse.summary.contains("tidewait explain programs"), !known, "{}", reuse.summary);
        assert!(reuse.summary.contains(&format!("{command}[9]")));
    }
}

#[test]
fn connections_that_go_on_over_a_full_range_take_ports_over() {
    let full = |recycled: i64, rate: u32| {
        let mut facts = host();
        set(&mut facts, &[("net.ipv4.ip_local_port_range", "32768 36767"), ("net.ipv4.tcp_tw_reuse", "1")]);
        counted(&mut facts, &[("TcpExt.TWRecycled", recycled)]);
        let mut past: Vec<(u32, u32)> = (54..60).map(|left| (left, rate)).collect();
        past.push((40, 4_000 - 6 * rate));
        let mut row = destination("10.0.2.9:3306", occupancy(&past, 0, 32_768, 1));
        row.occupancy.ports = (32_768..=36_767).collect();
        facts.census.destinations = vec![row];
        let report = assess(&seen(vec![facts], Machine::default()), &Options { top: 0, timings: false });
        (report.namespaces[0].destinations[0].pool, told(&report.findings).len())
    };
    assert_eq!(full(1_000, 200), (Pool::Connect, 0));
    // Nothing was taken over, or connections come no faster than TIME_WAIT ends.
    assert_eq!(full(0, 200), (Pool::Unknown, 1));
    assert_eq!(full(1_000, 66), (Pool::Unknown, 1));
}

#[test]
fn a_bind_pool_is_owned_by_who_owns_its_destinations() {
    let mut facts = host();
    let mut held = Vec::new();
    for (port, command) in [(80, "squid"), (81, "squid"), (82, "other")] {
        let mut row = destination(&format!("10.0.2.9:{port}"), occupancy(&[(30, 9_000)], 100, 32_769, 2));
        row.owners = vec![owner(command, 9)];
        held.push(row);
    }
    let mut all = tidewait_model::Occupancy::default();
    held.iter().for_each(|row| all.merge(&row.occupancy));
    all.ports.extend(32_768..=60_999);
    let address = held[0].source;
    facts.census.sources =
        vec![tidewait_model::Source { address, occupancy: all, destinations: 3, parity: [0, 9_000] }];
    facts.census.destinations = held;
    let found = findings_of(facts);
    let finding = found.iter().find(|finding| finding.id == "bind-pool-exhausted").unwrap();
    assert_eq!(finding.owner.as_ref().map(|owner| owner.command.as_str()), Some("squid"));
    assert!(!remedy(finding, "bind-address-no-port").configuration.is_empty());
    assert!(is_no_help(finding, "net.ipv4.tcp_tw_reuse") && is_no_help(finding, "SO_REUSEADDR"));
}
