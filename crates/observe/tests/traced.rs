//! Whose the sockets in TIME_WAIT are, as the survey tells while it is traced, against what `ss` counts.
#![cfg_attr(feature = "bpf", expect(clippy::unwrap_used, reason = "a test may fail"))]

use std::time::Duration;

use tidewait_observe::survey::Tracing;
use tidewait_observe::trace::Wish;

#[cfg(not(feature = "bpf"))]
#[test]
fn without_bpf_built_in_the_tracer_says_so() {
    let limit = Tracing::start(&Wish::default(), Duration::from_secs(1)).err().unwrap();
    assert!(limit.why.contains("built without BPF") && limit.remedy.is_some(), "{limit:?}");
}

#[cfg(feature = "bpf")]
mod with_bpf {
    use std::net::{IpAddr, SocketAddr, TcpStream};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::thread::sleep;
    use std::time::Instant;

    use tidewait_lab::{ChurnOptions, Closer, Host, Lab, Path, Policy, Server, Side, isolated, scaled, skip};
    use tidewait_model::address::Address;
    use tidewait_model::trace::{Direction, Flow, Traced};
    use tidewait_model::{NamespaceFacts, Observation, Owner, OwnerBasis};
    use tidewait_observe::places::Scope;
    use tidewait_observe::survey::{Owners, Question, survey_traced};

    use super::*;

    /// Held by each test: a child has all descriptors of this process between fork() and exec(), and what a test closes meanwhile
    /// is closed by the child.
    static ALONE: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn question() -> Question {
        Question {
            root: "/".into(),
            scope: Scope::Auto,
            to: None,
            keep: 10,
            owners: Owners::Always,
            watch_for: None,
        }
    }

    /// Longer than what the age of a socket may be wrong by.
    const PAUSE: Duration = Duration::from_millis(150);
    const CHURNED: &str = "10.77.0.2:80";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Runs a test inside the first of two hosts, with a tracer that runs already.
    fn traced(name: &str, window: Duration, test: impl FnOnce(&mut Tracing, &Host, &Host) + Send) {
        let _alone = alone();
        let full = format!("with_bpf::{name}");
        isolated(&full, || {
            let (client, server) = Lab::new().pair().unwrap();
            let inside = || match Tracing::start(&Wish::default(), window) {
                Ok(mut tracing) => {
                    sleep(PAUSE);
                    test(&mut tracing, &client, &server);
                }
                Err(limit) => skip(&full, format!("{limit:?}")),
            };
            client.run(inside).unwrap();
        });
    }

    fn look(tracing: &mut Tracing) -> Observation {
        sleep(PAUSE);
        survey_traced(&question(), tracing).unwrap()
    }

    fn facts(observation: &Observation) -> (&NamespaceFacts, &Traced) {
        assert_eq!(observation.namespaces.len(), 1);
        let facts = &observation.namespaces[0];
        (facts, facts.traced.as_ref().unwrap())
    }

    fn ss(host: &Host, filter: &[&str]) -> u64 {
        let output = host.command("ss").args(["-tanH", "state", "time-wait"]).args(filter).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Whether at least 99 % of the sockets in TIME_WAIT, all of them born while it was traced, have an owner. How many
    /// there are only `ss` knows: on a busy machine some connections end otherwise than planned.
    fn all_have_owners(traced: &Traced, host: &Host, about: u64) {
        let all = ss(host, &[]);
        assert!(all * 10 >= about * 9, "{all} of {about} are there");
        assert!((traced.births.attributed..=all).contains(&traced.births.born), "{all}: {traced:?}");
        assert!(traced.births.attributed * 100 >= all * 99, "{all}: {traced:?}");
    }

    fn is_this(owner: &Owner) -> bool {
        owner.pid == Some(std::process::id()) && owner.how == OwnerBasis::Traced
    }

    fn churn(client: &Host, server: &Host, to: &str, count: u64, closer: Closer) {
        let options = ChurnOptions {
            count: Some(count),
            rate: None,
            threads: Some(1),
            duration: Duration::from_secs(30),
            closer,
            ..ChurnOptions::default()
        };
        let churn = Path::between(client, server).to(address(to)).churn(options).unwrap();
        assert_eq!(churn.wait().made, count);
    }

    fn outgoing<'t>(traced: &'t Traced, to: &str) -> Vec<&'t Flow> {
        let to_there = |flow: &&Flow| flow.remote.is_some_and(|remote| remote.to_string() == to);
        traced.flows.iter().filter(to_there).collect()
    }

    #[test]
    fn every_socket_in_time_wait_that_was_born_has_its_owner() {
        let minute = Duration::from_secs(60);
        traced("every_socket_in_time_wait_that_was_born_has_its_owner", minute, |tracing, client, server| {
            let (most, fewer) = (scaled(20_000), scaled(1_000));
            Path::between(client, server).to(address("10.77.0.2:3306")).fill_time_wait(most).unwrap();
            Path::between(client, server).to(address("10.77.0.2:6379")).fill_time_wait(fewer).unwrap();
            let observation = look(tracing);
            let (facts, traced) = facts(&observation);
            all_have_owners(traced, client, most + fewer);
            for destination in &facts.census.destinations {
                let [owner] = destination.owners.as_slice() else { panic!("{:?}", destination.owners) };
                assert!(is_this(owner) && owner.share >= 0.99, "{owner:?}");
            }
            let flows = outgoing(traced, "10.77.0.2:3306");
            assert_eq!(flows.iter().map(|flow| flow.counts.connects).sum::<u64>(), most);
            let steps: Vec<&str> = observation.timings.iter().map(|timing| timing.step.as_str()).collect();
            assert!(steps.contains(&"tracing") && steps.contains(&"reading the trace"), "{steps:?}");
        });
    }

    #[test]
    fn under_load_what_is_on_the_border_is_not_held_against_the_join() {
        let minute = Duration::from_secs(60);
        traced(
            "under_load_what_is_on_the_border_is_not_held_against_the_join",
            minute,
            |tracing, client, server| {
                let _server = Server::start(server, &[address(CHURNED)], Policy::CloseAfterPeer).unwrap();
                let options = ChurnOptions { rate: Some(2_000), ..ChurnOptions::default() };
                let churn = Path::between(client, server).to(address(CHURNED)).churn(options).unwrap();
                let mut rounds = [0.0; 5];
                for share in &mut rounds {
                    sleep(Duration::from_millis(300));
                    let observation = survey_traced(&question(), tracing).unwrap();
                    let (_, traced) = facts(&observation);
                    assert!(traced.births.born > scaled(100), "{traced:?}");
                    *share = traced.births.attributed as f64 / traced.births.born as f64;
                }
                // A processor that was away for a while has counted its time wrong, and the latest births are on the border.
                assert!(rounds.iter().any(|share| *share >= 0.99), "{rounds:?}");
                churn.stop();
                // None is on the border any more: whatever has no owner now was lost.
                let observation = look(tracing);
                let (_, traced) = facts(&observation);
                let share = traced.births.attributed as f64 / traced.births.born as f64;
                assert!(share >= 0.99, "{share} {traced:?}");
            },
        );
    }

    #[test]
    fn sockets_from_before_belong_to_nobody_that_was_traced() {
        let _alone = alone();
        let name = "with_bpf::sockets_from_before_belong_to_nobody_that_was_traced";
        isolated(name, || {
            let (client, server) = Lab::new().pair().unwrap();
            Path::between(&client, &server).to(address(CHURNED)).fill_time_wait(500).unwrap();
            sleep(PAUSE);
            let inside = || match Tracing::start(&Wish::default(), PAUSE) {
                Ok(mut tracing) => {
                    let observation = look(&mut tracing);
                    let (facts, traced) = facts(&observation);
                    assert_eq!(
                        (traced.births.born, traced.births.attributed, traced.flows.len()),
                        (0, 0, 0),
                        "{traced:?}"
                    );
                    assert!(traced.seconds >= PAUSE.as_secs_f64());
                    assert_eq!(facts.census.destinations[0].owners, []);
                }
                Err(limit) => skip(name, format!("{limit:?}")),
            };
            client.run(inside).unwrap();
        });
    }

    #[test]
    fn the_server_that_closes_first_is_who_keeps_the_time_wait() {
        let minute = Duration::from_secs(60);
        traced(
            "the_server_that_closes_first_is_who_keeps_the_time_wait",
            minute,
            |tracing, client, server| {
                let _server = Server::start(client, &[address("10.77.0.1:80")], Policy::CloseFirst).unwrap();
                churn(server, client, "10.77.0.1:80", 300, Closer::Server);
                let observation = look(tracing);
                let (facts, traced) = facts(&observation);
                all_have_owners(traced, client, 300);
                let [service] = facts.census.incoming.as_slice() else {
                    panic!("{:?}", facts.census.incoming)
                };
                let [owner] = service.owners.as_slice() else { panic!("{:?}", service.owners) };
                assert!(is_this(owner) && owner.share >= 0.99, "{owner:?}");
                let incoming = traced.flows.iter().filter(|flow| flow.direction == Direction::Incoming);
                assert!(
                    incoming.map(|flow| flow.counts.closed_here).sum::<u64>() >= traced.births.attributed
                );
            },
        );
    }

    #[test]
    fn where_the_peer_closes_first_the_connections_say_whose_they_are() {
        let minute = Duration::from_secs(60);
        traced(
            "where_the_peer_closes_first_the_connections_say_whose_they_are",
            minute,
            |tracing, client, server| {
                let to = [address(CHURNED), address("10.77.0.2:81")];
                let _server = Server::start(server, &to[..1], Policy::CloseFirst).unwrap();
                churn(client, server, CHURNED, 300, Closer::Server);
                let path = Path::between(client, server).to(to[1]);
                let held = path.hold_established(20).unwrap();
                let observation = look(tracing);
                let (facts, traced) = facts(&observation);
                assert_eq!(traced.births.born, 0);
                let flows = outgoing(traced, CHURNED);
                assert_eq!(flows.iter().map(|flow| flow.counts.closed_there).sum::<u64>(), 300, "{flows:?}");
                let opened = facts.census.destinations.iter().find(|known| known.peer.port == 81).unwrap();
                assert!(is_this(&opened.owners[0]) && opened.owners.len() == 1, "{:?}", opened.owners);
                assert_eq!(held.count(Side::Client), 20);
            },
        );
    }

    #[test]
    fn a_pool_from_before_is_not_given_to_who_connected_a_moment_ago() {
        let _alone = alone();
        let name = "with_bpf::a_pool_from_before_is_not_given_to_who_connected_a_moment_ago";
        isolated(name, || {
            let (client, server) = Lab::new().pair().unwrap();
            let path = Path::between(&client, &server).to(address(CHURNED));
            let _pool = path.hold_established(200).unwrap();
            let inside = || match Tracing::start(&Wish::default(), PAUSE) {
                Ok(mut tracing) => {
                    sleep(PAUSE);
                    let connect = || TcpStream::connect(address(CHURNED)).unwrap();
                    let _more: Vec<TcpStream> = (0..5).map(|_| connect()).collect();
                    let observation = look(&mut tracing);
                    let (facts, traced) = facts(&observation);
                    assert_eq!(outgoing(traced, CHURNED)[0].counts.connects, 5);
                    let owners = &facts.census.destinations[0].owners;
                    assert!(owners.iter().all(|owner| owner.how == OwnerBasis::LiveSockets), "{owners:?}");
                }
                Err(limit) => skip(name, format!("{limit:?}")),
            };
            client.run(inside).unwrap();
        });
    }

    #[test]
    fn ipv6_and_mapped_addresses_are_joined_too() {
        let minute = Duration::from_secs(60);
        traced("ipv6_and_mapped_addresses_are_joined_too", minute, |tracing, client, server| {
            client.add_address("fd77::1/64").unwrap();
            server.add_address("fd77::2/64").unwrap();
            let six = Path::between(client, server).to(address("[fd77::2]:80"));
            let mapped = Path::between(client, server).to(address("[::ffff:10.77.0.2]:81"));
            six.fill_time_wait(200).unwrap();
            mapped.fill_time_wait(100).unwrap();
            let observation = look(tracing);
            let (facts, traced) = facts(&observation);
            all_have_owners(traced, client, 300);
            for (peer, count) in [("[fd77::2]:80", 200), ("10.77.0.2:81", 100)] {
                let mut all = facts.census.destinations.iter();
                let destination = all.find(|destination| destination.peer.to_string() == peer).unwrap();
                assert!(is_this(&destination.owners[0]), "{:?}", destination.owners);
                let flows = outgoing(traced, peer);
                assert_eq!((flows.len(), flows[0].local), (1, Some(destination.source)));
                assert_eq!(flows[0].counts.connects, count);
            }
        });
    }

    #[test]
    fn a_destination_from_two_sources_is_two_rows_and_the_peer_asked_for_is_the_only_one() {
        let name = "a_destination_from_two_sources_is_two_rows_and_the_peer_asked_for_is_the_only_one";
        traced(name, Duration::from_secs(60), |tracing, client, server| {
            client.add_address("10.77.0.3/24").unwrap();
            let sources = ["10.77.0.1", "10.77.0.3"].map(|source| source.parse::<IpAddr>().unwrap());
            let path = Path::between(client, server).to(address(CHURNED)).from(sources[0]).from(sources[1]);
            path.fill_time_wait(100).unwrap();
            Path::between(client, server).to(address("10.77.0.2:81")).fill_time_wait(70).unwrap();
            let all = look(tracing);
            let (_, traced) = facts(&all);
            assert_eq!(outgoing(traced, CHURNED).len(), 2);
            all_have_owners(traced, client, 170);
            let asked = Question { to: Some("10.77.0.2:80".parse().unwrap()), ..question() };
            let observation = survey_traced(&asked, tracing).unwrap();
            let (facts, traced) = facts(&observation);
            assert_eq!(traced.flows.len(), 2, "{traced:?}");
            assert_eq!(traced.births.born, facts.census.states.total(), "{traced:?}");
            assert!(traced.flows.iter().all(|flow| flow.remote.is_some_and(|remote| remote.port == 80)));
            let mut sources: Vec<Address> =
                facts.census.destinations.iter().map(|known| known.source).collect();
            sources.sort_unstable();
            let mut locals: Vec<Address> = traced.flows.iter().filter_map(|flow| flow.local).collect();
            locals.sort_unstable();
            assert_eq!(sources, locals);
        });
    }

    #[test]
    fn a_tracer_that_goes_on_tells_of_its_window_only() {
        let window = Duration::from_millis(300);
        traced("a_tracer_that_goes_on_tells_of_its_window_only", window, |tracing, client, server| {
            let _server = Server::start(server, &[address(CHURNED)], Policy::CloseAfterPeer).unwrap();
            let begin = Instant::now();
            let connects = |observation: &Observation| -> u64 {
                let (_, traced) = facts(observation);
                traced.flows.iter().map(|flow| flow.counts.connects).sum()
            };
            churn(client, server, CHURNED, 50, Closer::Client);
            sleep(window);
            assert_eq!(connects(&look(tracing)), 50);
            churn(client, server, CHURNED, 20, Closer::Client);
            sleep(window);
            let second = look(tracing);
            assert_eq!(connects(&second), 20);
            let (_, traced) = facts(&second);
            assert!(traced.seconds < begin.elapsed().as_secs_f64() - window.as_secs_f64(), "{traced:?}");
            // Whose the TIME_WAIT are is known longer.
            all_have_owners(traced, client, 70);
            sleep(window);
            assert_eq!(connects(&look(tracing)), 0);
        });
    }
}
