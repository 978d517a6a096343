//! Which source addresses unmodified programs get. The server is in another namespace: to the own machine none are spread.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

use tidewait_act::steer::{Offer, Wish};
use tidewait_lab::{Host, Lab};
use tidewait_model::PortSet;

use crate::common::{Client, Group, counted, started};
use crate::ports::range;

/// A client with three addresses of each family, a server, and a group.
struct Pair {
    client: Host,
    server: Host,
    group: Group,
}

const SOURCES: [&str; 3] = ["10.98.0.1", "10.98.0.3", "10.98.0.4"];
const SOURCES6: [&str; 3] = ["fd98::1", "fd98::3", "fd98::4"];

impl Pair {
    fn new(name: &str) -> Option<Pair> {
        let made = || -> tidewait_lab::Result<(Host, Host)> {
            let lab = Lab::new();
            let (client, server) = (lab.host("client")?, lab.host("server")?);
            lab.link(&client, "10.98.0.1/24", &server, "10.98.0.2/24")?;
            for address in ["10.98.0.3/24", "10.98.0.4/24", "fd98::1/64", "fd98::3/64", "fd98::4/64"] {
                client.add_address(address)?;
            }
            server.add_address("fd98::2/64")?;
            Ok((client, server))
        };
        match (made(), Group::new(None)) {
            (Ok((client, server)), Some(group)) => Some(Pair { client, server, group }),
            (Err(error), _) => {
                tidewait_lab::skip(name, error);
                None
            }
            (_, None) => {
                tidewait_lab::skip(name, "no cgroup v2 tree that can be written to");
                None
            }
        }
    }

    fn wish(&self, ports: PortSet, sources: &[&str]) -> Wish<'_> {
        let parse = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let mut locals = parse(&SOURCES);
        locals.extend(parse(&SOURCES6));
        locals.extend(parse(&["127.0.0.1", "::1"]));
        Wish {
            cgroup: self.group.file.as_fd(),
            netns: self.client.inode(),
            process: None,
            offer: Offer { ports, sources: parse(sources), locals },
            reuse_after: None,
            careful: false,
        }
    }

    fn serve(&self) -> Client {
        let mut server = Client::new(&self.server, None);
        for host in ["0.0.0.0", "fd98::2"] {
            server.ask(&format!("serve {host} 80"));
        }
        server
    }

    fn steered(&self) -> Client {
        Client::new(&self.client, Some(&self.group.path))
    }
}

fn tally(client: &mut Client, name: &str) -> BTreeMap<String, u32> {
    let mut tally = BTreeMap::new();
    for source in client.ask(&format!("sources {name}")).split_whitespace() {
        *tally.entry(source.to_owned()).or_default() += 1;
    }
    tally
}

fn even(sources: &[&str], each: u32) -> BTreeMap<String, u32> {
    sources.iter().map(|source| ((*source).to_owned(), each)).collect()
}

#[test]
fn sources_take_turns_for_each_destination() {
    const NAME: &str = "sources::sources_take_turns_for_each_destination";
    let Some(pair) = Pair::new(NAME) else { return };
    let _server = pair.serve();
    let mut client = pair.steered();
    let all: Vec<&str> = SOURCES.into_iter().chain(SOURCES6).collect();
    let Some(steering) = started(NAME, &pair.wish(PortSet::default(), &all)) else { return };
    for (name, host, sources) in [
        ("four", "10.98.0.2", SOURCES),
        ("six", "fd98::2", SOURCES6),
        ("mapped", "::ffff:10.98.0.2", SOURCES),
    ] {
        client.ask(&format!("keep {name} {host} 80 9"));
        assert_eq!(tally(&mut client, name), even(&sources, 3), "{name}");
        assert_eq!(client.ask(&format!("echoes {name}")), "all");
    }
    // A program that chose its source keeps it.
    client.ask("keep own 10.98.0.2 80 3 address 10.98.0.4");
    assert_eq!(tally(&mut client, "own"), even(&["10.98.0.4"], 3));
    let counts = counted(&steering, false, true);
    assert_eq!((counts.spread, counts.left_with_source, counts.steered), (27, 3, 0), "{counts:?}");
    drop(steering);
    client.ask("keep after 10.98.0.2 80 3");
    assert_eq!(tally(&mut client, "after"), even(&["10.98.0.1"], 3));
}

#[test]
fn each_source_has_all_the_ports() {
    const NAME: &str = "sources::each_source_has_all_the_ports";
    let Some(pair) = Pair::new(NAME) else { return };
    let _server = pair.serve();
    let mut client = pair.steered();
    let Some(steering) = started(NAME, &pair.wish(range(20_000, 20_049), &SOURCES)) else { return };
    let ports = client.numbers("keep a 10.98.0.2 80 144");
    assert!(ports.iter().all(|port| (20_000..=20_049).contains(port)), "{ports:?}");
    assert_eq!(tally(&mut client, "a"), even(&SOURCES, 48));
    let counts = counted(&steering, true, true);
    assert_eq!((counts.spread, counts.steered, counts.fell_back), (144, 144, 0), "{counts:?}");
}

/// bind() that is refused takes the address of the socket with it.
#[test]
fn a_source_stays_where_somebody_has_bound_all_ports() {
    const NAME: &str = "sources::a_source_stays_where_somebody_has_bound_all_ports";
    let Some(pair) = Pair::new(NAME) else { return };
    let _server = pair.serve();
    let mut holder = Client::new(&pair.client, None);
    for port in 20_000..20_004 {
        holder.ask(&format!("hold :: {port}"));
    }
    let mut client = pair.steered();
    let ports = range(20_000, 20_003);
    let wish = pair.wish(ports.clone(), &[]);
    let Some(steering) = started(NAME, &wish) else { return };
    for (name, host, source) in [
        ("four", "10.98.0.2", "10.98.0.4"),
        ("six", "fd98::2", "fd98::4"),
        ("mapped", "::ffff:10.98.0.2", "::ffff:10.98.0.4"),
    ] {
        client.ask(&format!("keep {name} {host} 80 3 address {source}"));
        let source = source.trim_start_matches("::ffff:");
        assert_eq!(tally(&mut client, name), even(&[source], 3), "{name}");
        assert_eq!(client.ask(&format!("reuseaddr {name}")), "0 0 0", "{name}");
    }
    client.ask("keep shared 10.98.0.2 80 3 reuse");
    assert_eq!(client.ask("reuseaddr shared"), "1 1 1", "the program's own");
    let counts = counted(&steering, true, false);
    assert!(counts.fell_back == 12 && counts.refused_by_bind >= 12, "{counts:?}");
    drop(steering);
    let Some(steering) = started(NAME, &pair.wish(ports, &SOURCES)) else { return };
    client.ask("keep spread 10.98.0.2 80 6");
    assert_eq!(tally(&mut client, "spread"), even(&SOURCES, 2));
    let counts = counted(&steering, true, true);
    assert_eq!((counts.spread, counts.fell_back), (6, 6), "{counts:?}");
}

/// Those that routing chose are told from those that the program did.
#[test]
fn what_a_program_binds_says_nothing_of_what_routing_chooses() {
    const NAME: &str = "sources::what_a_program_binds_says_nothing_of_what_routing_chooses";
    let Some(pair) = Pair::new(NAME) else { return };
    let _server = pair.serve();
    let mut client = pair.steered();
    let Some(steering) = started(NAME, &pair.wish(range(20_000, 20_019), &[])) else { return };
    for (host, bound) in [("10.98.0.2", "10.98.0.4"), ("fd98::2", "fd98::1")] {
        client.ask(&format!("keep bound {host} 80 3 address {bound}"));
        let before = counted(&steering, true, false);
        client.ask(&format!("keep free {host} 80 5"));
        assert!(!tally(&mut client, "free").contains_key(bound), "{host}");
        // The first one is held against all addresses, and the others against the one that it went from.
        let counts = counted(&steering, true, false);
        assert_eq!(counts.learning - before.learning, 1, "{counts:?}");
        client.ask("drop free");
    }
}

#[test]
fn an_address_that_vanishes_is_passed_over_and_counted() {
    const NAME: &str = "sources::an_address_that_vanishes_is_passed_over_and_counted";
    let Some(pair) = Pair::new(NAME) else { return };
    let _server = pair.serve();
    let mut client = pair.steered();
    let Some(steering) = started(NAME, &pair.wish(PortSet::default(), &SOURCES)) else { return };
    let removed = pair.client.command("ip").args(["addr", "del", "10.98.0.4/24", "dev", "eth0"]).status();
    assert!(removed.unwrap().success());
    client.ask("keep a 10.98.0.2 80 12");
    let tally = tally(&mut client, "a");
    assert_eq!(tally.values().sum::<u32>(), 12, "{tally:?}");
    assert!(!tally.contains_key("10.98.0.4"), "{tally:?}");
    let counts = counted(&steering, false, true);
    assert!(counts.sources_gone >= 3 && counts.spread == 12, "{counts:?}");
}

#[test]
fn what_is_offered_is_followed_at_once() {
    const NAME: &str = "sources::what_is_offered_is_followed_at_once";
    let Some(pair) = Pair::new(NAME) else { return };
    let _server = pair.serve();
    let mut client = pair.steered();
    let wish = pair.wish(PortSet::default(), &SOURCES);
    let Some(mut steering) = started(NAME, &wish) else { return };
    let offer = |sources: &[&str]| Offer {
        sources: sources.iter().map(|ip| ip.parse().unwrap()).collect(),
        ..wish.offer.clone()
    };
    for (name, sources) in [("two", &SOURCES[1..]), ("one", &SOURCES[..1]), ("all", &SOURCES)] {
        steering.offer(&offer(sources)).unwrap();
        client.ask(&format!("keep {name} 10.98.0.2 80 6"));
        assert_eq!(tally(&mut client, name), even(sources, 6 / sources.len() as u32), "{name}");
    }
    // None at all: routing chooses, and connect() goes on.
    steering.offer(&offer(&[])).unwrap();
    client.ask("keep none 10.98.0.2 80 3");
    assert_eq!(tally(&mut client, "none"), even(&["10.98.0.1"], 3));
    let counts = counted(&steering, false, true);
    assert_eq!((counts.spread, counts.left_to_routing, counts.sources_gone), (18, 3, 0), "{counts:?}");
}

#[test]
fn loopback_and_the_own_addresses_are_no_place_to_spread_to() {
    const NAME: &str = "sources::loopback_and_the_own_addresses_are_no_place_to_spread_to";
    let Some(pair) = Pair::new(NAME) else { return };
    let mut local = Client::new(&pair.client, None);
    local.ask("serve 0.0.0.0 80");
    let mut client = pair.steered();
    {
        let Some(steering) = started(NAME, &pair.wish(PortSet::default(), &SOURCES)) else { return };
        client.ask("keep lo 127.0.0.1 80 3");
        assert_eq!(tally(&mut client, "lo"), even(&["127.0.0.1"], 3));
        client.ask("keep own 10.98.0.3 80 3");
        assert_eq!(tally(&mut client, "own").len(), 1);
        let counts = counted(&steering, false, true);
        assert_eq!((counts.left_to_routing, counts.left_apart), (6, 0), "{counts:?}");
    }
    {
        // With ports each is counted once more, as steered.
        let Some(steering) = started(NAME, &pair.wish(range(20_000, 20_099), &SOURCES)) else { return };
        client.ask("keep both 10.98.0.3 80 3");
        let _server = pair.serve();
        client.ask("keep far 10.98.0.2 80 3");
        let counts = counted(&steering, true, true);
        assert_eq!((counts.steered, counts.left_to_routing, counts.spread), (6, 3, 3), "{counts:?}");
    }
    // Loopback sources are for the machine itself.
    let inside = ["127.0.0.2", "127.0.0.3"];
    let Some(_steering) = started(NAME, &pair.wish(PortSet::default(), &inside)) else { return };
    client.ask("keep in 127.0.0.1 80 6");
    assert_eq!(tally(&mut client, "in"), even(&inside, 3));
    let _server = pair.serve();
    client.ask("keep out 10.98.0.2 80 3");
    assert_eq!(tally(&mut client, "out"), even(&["10.98.0.1"], 3));
}

/// Of more than 16 addresses none is held against a port, and each is the machine's own all the same.
#[test]
fn the_own_addresses_are_no_place_to_spread_to_however_many_they_are() {
    const NAME: &str = "sources::the_own_addresses_are_no_place_to_spread_to_however_many_they_are";
    let Some(pair) = Pair::new(NAME) else { return };
    let mut local = Client::new(&pair.client, None);
    for last in 101..=120 {
        pair.client.add_address(&format!("10.98.0.{last}/24")).unwrap();
        pair.client.add_address(&format!("fd98::{last}/64")).unwrap();
    }
    for host in ["0.0.0.0", "fd98::119"] {
        local.ask(&format!("serve {host} 80"));
    }
    let mut client = pair.steered();
    let all: Vec<&str> = SOURCES.into_iter().chain(SOURCES6).collect();
    let mut wish = pair.wish(PortSet::default(), &all);
    for last in 101..=120 {
        for address in [format!("10.98.0.{last}"), format!("fd98::{last}")] {
            wish.offer.locals.push(address.parse().unwrap());
        }
    }
    let Some(mut steering) = started(NAME, &wish) else { return };
    for (name, host) in [("four", "10.98.0.119"), ("mapped", "::ffff:10.98.0.119"), ("six", "fd98::119")] {
        client.ask(&format!("keep {name} {host} 80 3"));
        assert_eq!(tally(&mut client, name).len(), 1, "{name}");
    }
    let counts = counted(&steering, false, true);
    assert_eq!((counts.left_to_routing, counts.spread), (9, 0), "{counts:?}");
    // What is not the machine's own any more is spread to.
    wish.offer.locals.retain(|local| *local != "10.98.0.119".parse::<IpAddr>().unwrap());
    steering.offer(&wish.offer).unwrap();
    client.ask("keep elsewhere 10.98.0.119 80 3");
    assert_eq!(counted(&steering, false, true).spread, 3);
}
