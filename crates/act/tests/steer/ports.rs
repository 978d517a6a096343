//! Which local ports unmodified programs get.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use tidewait_act::steer::{Claim, ClaimError, Wish};
use tidewait_model::{PortRange, PortSet, Version};

use crate::common::{Client, Group, Scene, counted};

pub fn range(low: u16, high: u16) -> PortSet {
    (low..=high).collect()
}

fn all_in(ports: &[u64], low: u64, high: u64) -> bool {
    ports.iter().all(|port| (low..=high).contains(port))
}

/// A server in the namespace, not steered.
pub fn server(scene: &Scene, hosts: &[&str], port: u16) -> Client {
    let mut server = scene.client(false);
    for host in hosts {
        server.ask(&format!("serve {host} {port}"));
    }
    server
}

#[test]
fn connect_gets_ports_of_the_range_and_shares_them_between_destinations() {
    const NAME: &str = "ports::connect_gets_ports_of_the_range_and_shares_them_between_destinations";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["0.0.0.0"], 80);
    let _server6 = server(&scene, &["fd99::1"], 80);
    let mut client = scene.client(true);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_039))) else { return };
    for host in ["10.99.0.1", "10.99.0.2", "127.0.0.1", "fd99::1", "::ffff:127.0.0.9"] {
        let ports = client.numbers(&format!("keep {host} {host} 80 36"));
        assert_eq!(ports.len(), 36, "{host}");
        assert!(all_in(&ports, 20_000, 20_039), "{host}: {ports:?}");
        let distinct: std::collections::BTreeSet<u64> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 36, "{host}");
        assert_eq!(client.ask(&format!("echoes {host}")), "all", "{host}");
    }
    let counts = counted(&steering, true, false);
    assert_eq!((counts.steered, counts.fell_back), (5 * 36, 0), "{counts:?}");
    assert_eq!(counts.learning, 5, "{counts:?}");
}

/// The kernel makes this machine's address of it, and only then is it known which tuples there are.
#[test]
fn a_connect_to_no_address_gets_a_port_that_is_free_where_it_goes() {
    const NAME: &str = "ports::a_connect_to_no_address_gets_a_port_that_is_free_where_it_goes";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["0.0.0.0"], 80);
    let _server6 = server(&scene, &["fd99::1", "::1"], 80);
    let mut client = scene.client(true);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_099))) else { return };
    let mut used = Vec::new();
    for (host, before, source) in [
        ("0.0.0.0", "", "127.0.0.1"),
        ("::", "", "::1"),
        ("0.0.0.0", " address 10.99.0.2", "10.99.0.2"),
        ("::ffff:0.0.0.0", " address ::ffff:10.99.0.1", "10.99.0.1"),
        ("::", " address fd99::2", "fd99::2"),
    ] {
        let ports = client.numbers(&format!("keep a {host} 80 110{before}"));
        let ours = ports.iter().filter(|port| (20_000..=20_099).contains(*port)).count();
        assert!((90..=100).contains(&ours), "{host}{before}: {ours} {:?}", steering.counts());
        if source == "127.0.0.1" {
            used = ports;
        }
        assert_eq!(client.ask("echoes a"), "all");
        assert_eq!(client.ask("sources a"), [source; 110].join(" "), "{host}{before}");
        client.ask("drop a");
    }
    // The tuples of the first ones are in TIME_WAIT by now: none is taken again, whatever the program calls this machine.
    for (host, before) in [("::ffff:0.0.0.0", ""), ("::", " address ::ffff:127.0.0.1"), ("127.0.0.1", "")] {
        let ports = client.numbers(&format!("keep a {host} 80 5{before}"));
        assert!(!ports.iter().any(|port| used.contains(port)), "{host}{before}: {ports:?}");
    }
    let counts = counted(&steering, true, false);
    assert_eq!((counts.unknown_source, counts.refused_by_bind), (0, 0), "{counts:?}");
}

/// Local port, remote address and cookie of every established connection, as `ss` shows them.
fn live(scene: &Scene) -> std::collections::BTreeSet<String> {
    let output = scene.net.command("ss").args(["-Htne", "state", "established"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let cookie = words.iter().find(|word| word.starts_with("sk:"))?;
        Some(format!("{} {} {cookie}", words.get(2)?, words.get(3)?))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn live_connections_keep_their_tuples_and_their_bytes_while_the_range_runs_full() {
    const NAME: &str = "ports::live_connections_keep_their_tuples_and_their_bytes_while_the_range_runs_full";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["10.99.0.1"], 80);
    let mut client = scene.client(true);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_099))) else { return };
    assert_eq!(client.numbers("keep long 10.99.0.1 80 90").len(), 90);
    let before = live(&scene);
    assert_eq!(before.len(), 180, "both ends");
    // The ten that are left are used again and again: closed by RST, they are free at once.
    let sums = client.numbers("race 10.99.0.1 80 1 200");
    assert_eq!(sums, [200, 0, 0]);
    assert!(live(&scene).is_superset(&before));
    // Ten more fill the range; the next are the kernel's.
    assert_eq!(client.numbers("keep last 10.99.0.1 80 10").len(), 10);
    let beyond = client.numbers("keep beyond 10.99.0.1 80 5");
    assert!(!beyond.iter().any(|port| (20_000..=20_099).contains(port)), "{beyond:?}");
    let counts = counted(&steering, true, false);
    assert!(counts.fell_back >= 5 && counts.steered + counts.fell_back == 305, "{counts:?}");
    assert!(live(&scene).is_superset(&before));
    for name in ["long", "last", "beyond"] {
        assert_eq!(client.ask(&format!("echoes {name}")), "all", "{name}");
    }
}

/// A search looks at 1,000 candidates and finds the one free port of 500 in 86 of 100 cases. A short one would in 12.
#[test]
fn a_search_that_had_bad_luck_does_not_keep_the_next_ones_short() {
    const NAME: &str = "ports::a_search_that_had_bad_luck_does_not_keep_the_next_ones_short";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["10.99.0.1"], 80);
    let mut client = scene.client(true);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_499))) else { return };
    assert_eq!(client.numbers("keep long 10.99.0.1 80 499").len(), 499);
    let before = counted(&steering, true, false);
    // Closed by RST, the port is free at once.
    assert_eq!(client.numbers("race 10.99.0.1 80 1 300"), [300, 0, 0]);
    let counts = counted(&steering, true, false);
    assert_eq!(counts.connects - before.connects, 300, "{counts:?}");
    assert!(counts.steered - before.steered > 200, "{before:?} {counts:?}");
}

#[test]
fn who_chose_for_himself_is_left_alone() {
    const NAME: &str = "ports::who_chose_for_himself_is_left_alone";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["10.99.0.1", "fd99::1"], 80);
    let mut client = scene.client(true);
    let mut other = scene.client(false);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_099))) else { return };
    assert_eq!(client.numbers("keep bound 10.99.0.1 80 1 port 30123"), [30_123]);
    assert_eq!(client.numbers("keep bound fd99::1 80 1 port 30124"), [30_124]);
    assert_eq!(counted(&steering, true, false).left_with_port, 2);
    // Nobody outside of the group, no UDP.
    let ports = other.numbers("keep free 10.99.0.1 80 5");
    assert!(!ports.iter().any(|port| (20_000..=20_099).contains(port)), "{ports:?}");
    let udp = client.ask("udp 10.99.0.1 80");
    assert!(!udp.contains(":20"), "{udp}");
    // A source that was bound without a port keeps it, and gets a port for it.
    let ports = client.numbers("keep sourced 10.99.0.1 80 5 address 10.99.0.2");
    assert!(all_in(&ports, 20_000, 20_099), "{ports:?}");
    assert_eq!(client.ask("sources sourced"), ["10.99.0.2"; 5].join(" "));
    // A range of one's own, where the kernel knows of such (Linux 6.3).
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if release.parse::<Version>().unwrap() >= Version::new(6, 3) {
        assert_eq!(client.numbers("keep only 10.99.0.1 80 1 only 40000"), [40_000]);
    }
    let ports = client.numbers("nonblocking later 10.99.0.1 80 5");
    assert!(all_in(&ports, 20_000, 20_099), "{ports:?}");
    assert_eq!(client.ask("echoes later"), "all");
}

/// A candidate is refused a thousand times, and the kernel's connect() with it: there is nothing to choose.
#[test]
fn a_socket_that_cannot_reach_its_destination_is_left_alone() {
    const NAME: &str = "ports::a_socket_that_cannot_reach_its_destination_is_left_alone";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["10.99.0.1"], 80);
    let mut client = scene.client(true);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_099))) else { return };
    for _ in 0..5 {
        assert!(client.try_ask("keep a ::ffff:10.99.0.1 80 1 address fd99::1").starts_with("error"));
    }
    let counts = counted(&steering, true, false);
    assert_eq!((counts.left_apart, counts.candidates, counts.refused_by_bind), (5, 0, 0), "{counts:?}");
    // The next ones to there look as long as any.
    client.ask("keep a ::ffff:10.99.0.1 80 5 address ::ffff:10.99.0.2");
    assert_eq!(counted(&steering, true, false).steered, 5);
}

/// The tuple of a connect() that failed is claimed for a second.
#[test]
fn connects_that_fail_at_once_use_up_the_range_for_a_second() {
    const NAME: &str = "ports::connects_that_fail_at_once_use_up_the_range_for_a_second";
    let Some(scene) = Scene::new(NAME) else { return };
    let mut client = scene.client(true);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_049))) else { return };
    let mut fail = |count: usize| {
        let unreachable = vec!["101"; count].join(" ");
        assert_eq!(client.ask(&format!("attempts 203.0.113.1 80 {count}")), unreachable);
        counted(&steering, true, false)
    };
    let counts = fail(50);
    assert_eq!((counts.steered, counts.candidates), (50, 50), "{counts:?}");
    let counts = fail(10);
    assert!(counts.fell_back > 0, "{counts:?}");
    std::thread::sleep(Duration::from_millis(1_100));
    let after = fail(20);
    assert_eq!((after.steered - counts.steered, after.fell_back), (20, counts.fell_back), "{after:?}");
}

#[test]
fn ports_that_are_no_longer_offered_are_given_no_more_and_come_back() {
    const NAME: &str = "ports::ports_that_are_no_longer_offered_are_given_no_more_and_come_back";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["10.99.0.1"], 80);
    let mut client = scene.client(true);
    let Some(mut steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_099))) else { return };
    assert!(all_in(&client.numbers("keep a 10.99.0.1 80 20"), 20_000, 20_099));
    steering.offer(&scene.offer(range(20_090, 20_149))).unwrap();
    let ports = client.numbers("keep b 10.99.0.1 80 40");
    assert!(all_in(&ports, 20_090, 20_149), "{ports:?}");
    // None is left: the kernel chooses, and connect() goes on.
    steering.offer(&scene.offer(PortSet::default())).unwrap();
    let ports = client.numbers("keep c 10.99.0.1 80 5");
    assert!(!ports.iter().any(|port| (20_000..=20_149).contains(port)), "{ports:?}");
    let counts = counted(&steering, true, false);
    assert_eq!((counts.steered, counts.fell_back), (60, 5), "{counts:?}");
    steering.offer(&scene.offer(range(20_000, 20_089))).unwrap();
    assert!(all_in(&client.numbers("keep d 10.99.0.1 80 20"), 20_000, 20_089));
    for name in ["a", "b", "c", "d"] {
        assert_eq!(client.ask(&format!("echoes {name}")), "all", "{name}");
    }
}

#[test]
fn a_first_search_among_many_addresses_is_as_short_as_any() {
    const NAME: &str = "ports::a_first_search_among_many_addresses_is_as_short_as_any";
    let Some(scene) = Scene::new(NAME) else { return };
    // All its ports are listened on, so that a search finds none.
    let mut holder = server(&scene, &["10.99.0.1"], 80);
    for port in 20_000..20_010 {
        holder.ask(&format!("serve 0.0.0.0 {port}"));
    }
    let mut client = scene.client(true);
    let mut wish = scene.wish(range(20_000, 20_009));
    wish.offer.locals = (1..=16).map(|last| std::net::Ipv4Addr::new(10, 99, 1, last).into()).collect();
    let Some(steering) = scene.steer(NAME, &wish) else { return };
    client.ask("keep a 10.99.0.1 80 1");
    let counts = counted(&steering, true, false);
    // What it has found taken once it passes over, up to half of them.
    assert_eq!(counts.fell_back, 1, "{counts:?}");
    assert!((500 / 16..=1_000 / 16).contains(&counts.candidates), "{counts:?}");
}

#[test]
fn one_process_is_steered_and_the_others_of_its_group_are_not() {
    const NAME: &str = "ports::one_process_is_steered_and_the_others_of_its_group_are_not";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["10.99.0.1"], 80);
    let (mut one, mut other) = (scene.client(true), scene.client(true));
    let wish = Wish { process: Some(one.pid()), ..scene.wish(range(20_000, 20_099)) };
    let Some(_steering) = scene.steer(NAME, &wish) else { return };
    assert!(all_in(&one.numbers("keep a 10.99.0.1 80 5"), 20_000, 20_099));
    let ports = other.numbers("keep a 10.99.0.1 80 5");
    assert!(!ports.iter().any(|port| (20_000..=20_099).contains(port)), "{ports:?}");
}

#[test]
fn threads_that_race_never_get_the_same_tuple() {
    const NAME: &str = "ports::threads_that_race_never_get_the_same_tuple";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["10.99.0.1", "fd99::1"], 80);
    let mut client = scene.client(true);
    let mut mapped = scene.client(true);
    // So few ports that the cursors go around all the time.
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_019))) else { return };
    let each = tidewait_lab::scaled(1_500);
    for (client, host) in [(&mut client, "10.99.0.1"), (&mut mapped, "fd99::1")] {
        let sums = client.numbers(&format!("race {host} 80 8 {each}"));
        assert_eq!(sums, [8 * each, 0, 0], "{host}: {:?}", steering.counts());
    }
    let counts = counted(&steering, true, false);
    assert!(counts.steered > counts.fell_back, "{counts:?}");
}

#[test]
fn a_time_wait_is_taken_only_when_old_enough_and_protected_by_timestamps() {
    const NAME: &str = "ports::a_time_wait_is_taken_only_when_old_enough_and_protected_by_timestamps";
    let Some(scene) = Scene::new(NAME) else { return };
    let _server = server(&scene, &["10.99.0.1"], 80);
    let mut client = scene.client(true);
    let outside = |ports: &[u64]| !ports.iter().any(|port| (20_000..=20_009).contains(port));
    {
        let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_009))) else { return };
        let churned = client.numbers("churn 10.99.0.1 80 10");
        assert!(all_in(&churned, 20_000, 20_009));
        let ports = client.numbers("keep a 10.99.0.1 80 3");
        assert!(outside(&ports), "without --reuse-after: {churned:?} {ports:?} {:?}", steering.counts());
    }
    {
        let old = Wish { reuse_after: Some(Duration::from_secs(3_600)), ..scene.wish(range(20_000, 20_009)) };
        let Some(_steering) = scene.steer(NAME, &old) else { return };
        assert!(outside(&client.numbers("keep b 10.99.0.1 80 3")), "too young");
    }
    std::thread::sleep(Duration::from_millis(2_100));
    let soon = Wish { reuse_after: Some(Duration::from_secs(1)), ..scene.wish(range(20_000, 20_009)) };
    let Some(steering) = scene.steer(NAME, &soon) else { return };
    let ports = client.numbers("keep c 10.99.0.1 80 8");
    assert!(all_in(&ports, 20_000, 20_009), "{ports:?}");
    assert_eq!(counted(&steering, true, false).reused, 8);
    assert_eq!(client.ask("echoes c"), "all");
    drop(steering);
    // Without timestamps none is protected.
    scene.net.set("net.ipv4.tcp_timestamps", "0").unwrap();
    let other = Wish { offer: scene.offer(range(21_000, 21_009)), ..soon };
    let Some(_steering) = scene.steer(NAME, &other) else { return };
    assert!(all_in(&client.numbers("churn 10.99.0.1 80 10"), 21_000, 21_009));
    std::thread::sleep(Duration::from_millis(2_100));
    let ports = client.numbers("keep d 10.99.0.1 80 3");
    assert!(!ports.iter().any(|port| (21_000..=21_009).contains(port)), "{ports:?}");
}

#[test]
fn a_neighbour_that_is_not_steered_finds_ports_all_the_same() {
    const NAME: &str = "ports::a_neighbour_that_is_not_steered_finds_ports_all_the_same";
    let Some(scene) = Scene::new(NAME) else { return };
    scene.net.set("net.ipv4.ip_local_port_range", "40000 40039").unwrap();
    let _server = server(&scene, &["10.99.0.1", "10.99.0.2"], 80);
    let (mut steered, mut neighbour) = (scene.client(true), scene.client(false));
    // Beside the kernel's range: nobody is poorer.
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_199))) else { return };
    assert_eq!(steered.numbers("keep a 10.99.0.1 80 200").len(), 200);
    assert_eq!(neighbour.ask("attempts 10.99.0.2 80 40"), "", "a range of its own");
    neighbour.ask("drop attempts");
    drop(steering);
    // Out of the kernel's range: what is given is lost for the neighbour, to every destination. That is why it is not the default.
    let mut steered = scene.client(true);
    let mut neighbour = scene.client(false);
    let Some(_steering) = scene.steer(NAME, &scene.wish(range(40_000, 40_029))) else { return };
    assert_eq!(steered.numbers("keep a 10.99.0.1 80 30").len(), 30);
    let refused = neighbour.numbers("attempts 10.99.0.2 80 40");
    assert!(refused.len() >= 30 && refused.iter().all(|errno| *errno == 99), "{refused:?}");
}

#[test]
fn a_listener_may_come_later_and_is_not_taken_for_a_free_port() {
    const NAME: &str = "ports::a_listener_may_come_later_and_is_not_taken_for_a_free_port";
    let Some(scene) = Scene::new(NAME) else { return };
    let mut server = server(&scene, &["10.99.0.1"], 80);
    let mut client = scene.client(true);
    let Some(steering) = scene.steer(NAME, &scene.wish(range(20_000, 20_009))) else { return };
    assert!(all_in(&client.numbers("keep a 10.99.0.1 80 5"), 20_000, 20_009));
    let used: Vec<u64> = client.numbers("churn 10.99.0.1 80 1");
    // Ports that connections have: with SO_REUSEADDR, as servers set it, one may listen there.
    for port in 20_000..20_010 {
        assert_eq!(server.ask(&format!("serve 0.0.0.0 {port}")), port.to_string());
    }
    assert_eq!(client.ask("echoes a"), "all");
    // Now every port of the range is listened on.
    let ports = client.numbers("keep b 10.99.0.1 80 3");
    assert!(!ports.iter().any(|port| (20_000..=20_009).contains(port)), "{ports:?} {used:?}");
    assert!(counted(&steering, true, false).fell_back >= 3);
    // What it shows of itself: the option is set on sockets that got their port here.
    assert_eq!(client.ask("reuseaddr a"), "1 1 1 1 1");
    assert_eq!(client.ask("reuseaddr b"), "0 0 0");
}

#[test]
fn the_inner_of_two_groups_comes_first_and_the_outer_leaves_its_choice_alone() {
    const NAME: &str = "ports::the_inner_of_two_groups_comes_first_and_the_outer_leaves_its_choice_alone";
    let Some(scene) = Scene::new(NAME) else { return };
    let Some(inner) = Group::new(Some(&scene.group.path)) else { return };
    let _server = server(&scene, &["10.99.0.1"], 80);
    let mut client = scene.client_in(&inner);
    let Some(outside) = scene.steer(NAME, &scene.wish(range(20_000, 20_099))) else { return };
    assert!(all_in(&client.numbers("keep a 10.99.0.1 80 5"), 20_000, 20_099));
    let wish = Wish { cgroup: inner.file.as_fd(), ..scene.wish(range(21_000, 21_099)) };
    let Some(inside) = scene.steer(NAME, &wish) else { return };
    assert!(all_in(&client.numbers("keep b 10.99.0.1 80 5"), 21_000, 21_099));
    assert_eq!(counted(&inside, true, false).steered, 5);
    let counts = counted(&outside, true, false);
    assert_eq!((counts.steered, counts.left_with_port), (5, 5));
    drop(inside);
    assert!(all_in(&client.numbers("keep c 10.99.0.1 80 5"), 20_000, 20_099));
    drop(client);
}

#[test]
fn two_that_claim_the_same_ports_find_each_other_and_none_outlives_its_process() {
    const NAME: &str = "ports::two_that_claim_the_same_ports_find_each_other_and_none_outlives_its_process";
    let Some(scene) = Scene::new(NAME) else { return };
    let mut other = scene.client(false);
    other.ask("claim 20000 20999");
    let range = |low, high| PortRange { low, high };
    scene
        .net
        .run(|| {
            match Claim::take(&[range(20_990, 21_000)]) {
                Err(ClaimError::Held(holder)) => {
                    assert_eq!((holder.range, holder.pid), (range(20_000, 20_999), other.pid()));
                }
                outcome => panic!("{outcome:?}"),
            }
            let beside = Claim::take(&[range(21_000, 21_999)]).unwrap();
            assert_eq!(Claim::all(Path::new("/")).unwrap().len(), 2);
            // The number of the process alone tells nothing: another process namespace may have the same.
            for clash in [range(21_000, 21_999), range(21_500, 21_600)] {
                assert!(matches!(Claim::take(&[clash]), Err(ClaimError::Held(_))), "{clash}");
            }
            drop(beside);
        })
        .unwrap();
    // Killed, as by kill -9.
    drop(other);
    scene.net.run(|| Claim::take(&[range(20_000, 20_999)]).unwrap()).unwrap();
}
