//! What one look at a running kernel tells of sockets that linger, of listeners and of processes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tidewait_lab::{Host, Lab, Path, Policy, Server, ServerOptions, Side, isolated, scaled, skip};
use tidewait_model::machine::Process;
use tidewait_model::steer::Holder as Holds;
use tidewait_model::{Lingering, NamespaceFacts, Observation, PortRange, State};
use tidewait_observe::places::Scope;
use tidewait_observe::survey::{Owners, Question, survey};

/// Held by each test: a child has all descriptors of this process between fork() and exec().
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
        owners: Owners::NearLimit,
        watch_for: None,
    }
}

/// Waits for what the kernel does in the background.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited for {what} in vain");
        sleep(Duration::from_millis(5));
    }
}

/// What is seen from inside a host.
fn seen_by(host: &Host, question: &Question) -> Observation {
    host.run(|| survey(question)).unwrap().unwrap()
}

fn facts(observation: &Observation) -> &NamespaceFacts {
    assert_eq!(observation.namespaces.len(), 1);
    &observation.namespaces[0]
}

/// The one group of sockets in this state.
fn group(observation: &Observation, state: State, held: bool) -> &Lingering {
    let groups = &facts(observation).lingering;
    let mut of_this = groups.iter().filter(|group| (group.state, group.held) == (state, held));
    let group = of_this.next().unwrap_or_else(|| panic!("no {state:?} among {groups:?}"));
    assert_eq!(of_this.next(), None);
    group
}

fn pid_of(group: &Lingering) -> Option<u32> {
    group.owner.as_ref()?.pid
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Connections from `client` to `server`, port 80: both ends of each.
fn connections(client: &Host, server: &Host, count: usize) -> (Vec<TcpStream>, Vec<TcpStream>) {
    let listener = server.run(|| TcpListener::bind("10.77.0.2:80")).unwrap().unwrap();
    let connect = || {
        let ours = client.run(|| TcpStream::connect("10.77.0.2:80")).unwrap().unwrap();
        (ours, listener.accept().unwrap().0)
    };
    (0..count).map(|_| connect()).unzip()
}

/// A connection from a port that was bound for it.
fn connect_from(port: u16, to: &str) -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
    rustix::net::connect(&socket, &address(to)).unwrap();
    socket
}

/// A process in a host's namespace that holds descriptors and does nothing; ended on drop.
struct Holder(Child);

impl Holder {
    fn of<F: AsFd>(host: &Host, held: &[F]) -> Holder {
        for descriptor in held {
            fcntl_setfd(descriptor, FdFlags::empty()).unwrap();
        }
        let mut command: Command = host.command("sleep");
        Holder(command.arg("120").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn found_in<'o>(&self, observation: &'o Observation) -> Option<&'o Process> {
        observation.machine.processes.iter().find(|process| process.owner.pid == Some(self.0.id()))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_leak_in_close_wait_is_told_with_its_process_ages_and_keepalive() {
    let _alone = alone();
    isolated("a_leak_in_close_wait_is_told_with_its_process_ages_and_keepalive", || {
        let (client, server) = Lab::new().pair().unwrap();
        let (leaked, ended) = connections(&client, &server, 30);
        for socket in &leaked[..12] {
            rustix::net::sockopt::set_socket_keepalive(socket, true).unwrap();
        }
        // The last ten send something that nobody reads.
        for socket in &ended[20..] {
            rustix::io::write(socket, b"1234").unwrap();
        }
        drop(ended);
        sleep(Duration::from_millis(1_500));
        let observation = seen_by(&client, &Question { owners: Owners::Always, ..question() });
        let group = group(&observation, State::CloseWait, true);
        assert_eq!((group.sockets, group.looked_at, pid_of(group)), (30, 30, Some(std::process::id())));
        assert_eq!(
            (group.keepalive, group.unread_end, group.unread_data, group.unread_bytes),
            (12, 20, 10, 40)
        );
        let silence = group.silence.unwrap();
        assert!((1.4..20.0).contains(&silence.shortest) && silence.longest < 30.0, "{silence:?}");
        assert_eq!(silence.last_minute, 30);
        assert_eq!((group.peers.len(), group.peers_total), (1, 1));
        assert_eq!((group.peers[0].peer.as_str(), &group.peers[0].service), ("10.77.0.2:80", &None));
        let owner = group.owner.as_ref().unwrap();
        assert_eq!(owner.share, 1.0);
        let process = observation.machine.processes.iter().find(|process| process.owner.pid == owner.pid);
        assert!(process.unwrap().descriptors >= 30);
        assert!(observation.machine.open_files.unwrap() > 30);
        assert!(!facts(&observation).configured, "files are applied to the namespace of process 1");
        drop(leaked);
    });
}

#[test]
fn many_leaked_sockets_are_worth_a_search_for_their_holder() {
    let _alone = alone();
    isolated("many_leaked_sockets_are_worth_a_search_for_their_holder", || {
        let (client, server) = Lab::new().pair().unwrap();
        let path = Path::between(&client, &server).to(address("10.77.0.2:81"));
        let count = scaled(1_000).max(150);
        let _leak = path.leak_close_wait(Side::Server, count).unwrap();
        until("all the clients' FINs", || server.states().unwrap()[State::CloseWait] == count);
        let observation = seen_by(&server, &question());
        let group = group(&observation, State::CloseWait, true);
        assert_eq!((group.sockets, pid_of(group)), (count, Some(std::process::id())));
        assert_eq!(group.peers[0].peer, "10.77.0.1");
        assert_eq!(group.peers[0].service.as_deref(), Some("10.77.0.2:81"));
        let never = seen_by(&server, &Question { owners: Owners::Never, ..question() });
        assert_eq!(facts(&never).lingering[0].owner, None);
    });
}

#[test]
fn fin_wait2_is_told_apart_by_whether_it_is_held_and_syn_sent_has_no_age() {
    let _alone = alone();
    isolated("fin_wait2_is_told_apart_by_whether_it_is_held_and_syn_sent_has_no_age", || {
        let (client, server) = Lab::new().pair().unwrap();
        let path = |text: &str| Path::between(&client, &server).to(address(text));
        let _orphans = path("10.77.0.2:81").orphan_fin_wait2(40).unwrap();
        let _held = path("10.77.0.2:82").hold_fin_wait2(30).unwrap();
        client.blackhole("10.77.0.250".parse().unwrap()).unwrap();
        let _silent = path("10.77.0.250:443").syn_sent(120).unwrap();
        sleep(Duration::from_millis(2_500));
        let observation = seen_by(&client, &question());
        let orphans = group(&observation, State::FinWait2, false);
        assert_eq!((orphans.sockets, &orphans.owner, orphans.silence), (40, &None, None));
        assert_eq!(orphans.peers[0].peer, "10.77.0.2:81");
        let held = group(&observation, State::FinWait2, true);
        assert_eq!((held.sockets, pid_of(held)), (30, Some(std::process::id())));
        assert!(held.silence.unwrap().shortest > 2.0);
        let silent = group(&observation, State::SynSent, true);
        assert_eq!((silent.sockets, silent.silence, silent.retransmitting), (120, None, 120));
        assert!((1..=4).contains(&silent.retransmits_max), "{silent:?}");
        assert_eq!(silent.peers[0].peer, "10.77.0.250:443");
        assert_eq!(pid_of(silent), Some(std::process::id()));
    });
}

#[test]
fn closed_here_and_unheard_are_orphans_that_retransmit() {
    let _alone = alone();
    isolated("closed_here_and_unheard_are_orphans_that_retransmit", || {
        let (client, server) = Lab::new().pair().unwrap();
        let (ours, theirs) = connections(&client, &server, 50);
        let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
        // The server closes half of them: those will be in LAST_ACK here, the others in FIN_WAIT1.
        drop(theirs.by_ref().take(25).collect::<Vec<_>>());
        sleep(Duration::from_millis(200));
        client.blackhole("10.77.0.2".parse().unwrap()).unwrap();
        drop(ours.by_ref().collect::<Vec<_>>());
        sleep(Duration::from_millis(1_500));
        let observation = seen_by(&client, &question());
        for state in [State::LastAck, State::FinWait1] {
            let group = group(&observation, state, false);
            assert_eq!((group.sockets, &group.owner), (25, &None), "{state:?}");
            // One or the other may just be between two timers.
            assert!(group.retransmitting >= 20, "{group:?}");
            assert!(group.retransmits_max >= 1 && group.silence.unwrap().shortest > 1.4, "{group:?}");
        }
    });
}

#[test]
fn a_full_accept_queue_has_an_owner_and_its_forsaken_connections_have_none() {
    let _alone = alone();
    isolated("a_full_accept_queue_has_an_owner_and_its_forsaken_connections_have_none", || {
        let (client, server) = Lab::new().pair().unwrap();
        let full = ServerOptions { backlog: 25, ..ServerOptions::new(Policy::NeverAccept) };
        let _full = Server::with(&server, &[address("10.77.0.2:80")], full).unwrap();
        let _idle = Server::start(&server, &[address("10.77.0.2:90")], Policy::Echo).unwrap();
        let waiting: Vec<TcpStream> =
            (0..26).map(|_| client.run(|| TcpStream::connect("10.77.0.2:80")).unwrap().unwrap()).collect();
        // Their own side is open before the last packet of the handshake has arrived.
        until("all 26 in the queue", || server.unaccepted().unwrap() == 26);
        let observation = seen_by(&server, &question());
        let of_port = |port| {
            let listeners = &facts(&observation).census.listeners;
            listeners.iter().find(|listener| listener.local.port == port).unwrap()
        };
        let listener = of_port(80);
        assert_eq!((listener.full, listener.queue, listener.limit), (1, 26, 25));
        assert_eq!((listener.still_full, of_port(90).still_full), (Some(1), None));
        assert_eq!(listener.owners[0].pid, Some(std::process::id()));
        assert_eq!(of_port(90).owners, [], "its queue is empty");

        // The clients give up: nobody holds these connections, but they are no orphans.
        drop(waiting);
        sleep(Duration::from_millis(200));
        let observation = seen_by(&server, &question());
        let forsaken = group(&observation, State::CloseWait, false);
        assert_eq!((forsaken.sockets, &forsaken.owner, forsaken.unread_end), (26, &None, 26));
        let always = seen_by(&server, &Question { owners: Owners::Always, ..question() });
        assert!(facts(&always).census.listeners.iter().all(|listener| listener.owners.len() == 1));
    });
}

#[test]
fn a_queue_that_a_burst_has_filled_has_room_when_it_is_looked_at_again() {
    let _alone = alone();
    isolated("a_queue_that_a_burst_has_filled_has_room_when_it_is_looked_at_again", || {
        let (client, server) = Lab::new().pair().unwrap();
        // A program that listens and is busy with something else for the moment.
        let listener = server.run(|| TcpListener::bind("10.77.0.2:80")).unwrap().unwrap();
        rustix::net::listen(&listener, 25).unwrap();
        // On a slow machine the first look may come too late, when the queue has room already: then once more.
        let mut told = Vec::new();
        while told.len() < 10 && told.last() != Some(&(1, 26, Some(0))) {
            let _waiting: Vec<TcpStream> = (0..26)
                .map(|_| client.run(|| TcpStream::connect("10.77.0.2:80")).unwrap().unwrap())
                .collect();
            told.push(thread::scope(|scope| {
                let program = scope.spawn(|| {
                    sleep(Duration::from_millis(200));
                    (0..26).map(|_| listener.accept().unwrap().0).collect::<Vec<TcpStream>>()
                });
                let observation = seen_by(&server, &question());
                let _accepted = program.join().unwrap();
                let seen = &facts(&observation).census.listeners[0];
                (seen.full, seen.queue, seen.still_full)
            }));
        }
        assert_eq!(told.last(), Some(&(1, 26, Some(0))), "{told:?}");
    });
}

#[test]
fn who_steers_ports_is_told_and_connections_from_them_went_out() {
    let _alone = alone();
    isolated("who_steers_ports_is_told_and_connections_from_them_went_out", || {
        let (client, server) = Lab::new().pair().unwrap();
        // A service whose port looks like a client's, and connections from ports that do not.
        let listener = server.run(|| TcpListener::bind("10.77.0.2:40000")).unwrap().unwrap();
        let _open: Vec<(OwnedFd, TcpStream)> = (22_000..22_030)
            .map(|port| {
                let ours = client.run(|| connect_from(port, "10.77.0.2:40000")).unwrap();
                (ours, listener.accept().unwrap().0)
            })
            .collect();
        let told = || {
            let observation = seen_by(&client, &question());
            let facts = facts(&observation);
            let outgoing: u32 = facts.census.destinations.iter().map(|to| to.occupancy.ports.len()).sum();
            (facts.steered.clone(), outgoing, facts.census.incoming.len())
        };
        let steers = Holds { range: PortRange { low: 22_000, high: 22_999 }, pid: 4_711 };
        let bind = || UnixListener::bind_addr(&UnixAddress::from_abstract_name(steers.name()).unwrap());
        let name = client.run(bind).unwrap().unwrap();
        assert_eq!(told(), (vec![steers], 30, 0));
        drop(name);
        assert_eq!(told(), (vec![], 0, 30));
    });
}

#[test]
fn a_process_near_its_limit_of_open_files_is_told() {
    let _alone = alone();
    isolated("a_process_near_its_limit_of_open_files_is_told", || {
        let (client, _server) = Lab::new().pair().unwrap();
        let files: Vec<OwnedFd> =
            (0..270).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        let holder = Holder::of(&client, &files);
        drop(files);
        let limit = |soft| {
            let pid = Pid::from_child(&holder.0);
            prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(soft), maximum: Some(4_000) })
                .unwrap();
        };
        limit(1_000);
        assert_eq!(holder.found_in(&seen_by(&client, &question())), None);
        limit(300);
        let never = Question { owners: Owners::Never, ..question() };
        let observation = seen_by(&client, &never);
        let process = holder.found_in(&observation).expect("a process near its limit");
        assert!((270..300).contains(&process.descriptors), "{process:?}");
        assert_eq!((process.descriptor_limit, process.descriptor_limit_hard), (Some(300), Some(4_000)));
        assert_eq!(process.namespace.as_ref(), Some(&facts(&observation).name));
        assert_eq!((process.owner.command.as_str(), process.sockets_without_connection), ("sleep", None));
    });
}

#[test]
fn sockets_whose_connection_was_reset_are_found_in_the_process_that_keeps_them() {
    let _alone = alone();
    isolated("sockets_whose_connection_was_reset_are_found_in_the_process_that_keeps_them", || {
        let (client, server) = Lab::new().pair().unwrap();
        // Sixty connections that the client made, and twenty-five that it accepted, are reset by the server.
        let (ours, mut theirs) = connections(&client, &server, 90);
        let alive = theirs.split_off(60);
        let listener = client.run(|| TcpListener::bind("10.77.0.1:99")).unwrap().unwrap();
        let accepted: Vec<TcpStream> = (0..25)
            .map(|_| {
                theirs.push(server.run(|| TcpStream::connect("10.77.0.1:99")).unwrap().unwrap());
                listener.accept().unwrap().0
            })
            .collect();
        for socket in theirs {
            rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        }
        // Beside them: thirty connections that live, their other ends (of another namespace), sockets that are bound only,
        // and new ones.
        let mut held: Vec<OwnedFd> =
            ours.into_iter().chain(alive).chain(accepted).map(OwnedFd::from).collect();
        held.push(listener.into());
        client
            .run(|| {
                use rustix::net::{AddressFamily, SocketType, bind, socket};
                for number in 0..60 {
                    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
                    if number < 30 {
                        bind(&socket, &address("10.77.0.1:0")).unwrap();
                    }
                    held.push(socket);
                }
            })
            .unwrap();
        let holder = Holder::of(&client, &held);
        drop(held);
        // A program needs a moment to close what was reset.
        let observation = seen_by(&client, &question());
        let at_once = holder.found_in(&observation).and_then(|process| process.sockets_without_connection);
        assert!(at_once.is_none_or(|sockets| sockets == 0), "{at_once:?}");
        sleep(Duration::from_millis(5_100));
        let observation = seen_by(&client, &question());
        let process = holder.found_in(&observation).unwrap_or_else(|| panic!("{:?}", observation.timings));
        assert_eq!(process.sockets_without_connection, Some(85));
        assert_eq!(process.namespace.as_ref(), Some(&facts(&observation).name));
    });
}

#[test]
fn counters_are_watched_for_as_long_as_was_asked() {
    let _alone = alone();
    isolated("counters_are_watched_for_as_long_as_was_asked", || {
        let (client, server) = Lab::new().pair().unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseAfterPeer).unwrap();
        let (once, begin) = (seen_by(&client, &question()), Instant::now());
        assert_eq!(facts(&once).growth, None);
        let watching = Question { watch_for: Some(Duration::from_secs(3)), ..question() };
        let observation = thread::scope(|scope| {
            let looking = scope.spawn(|| seen_by(&client, &watching));
            // Until the first look is over, and well before the second.
            sleep(Duration::from_secs(1));
            for _ in 0..5 {
                client.run(|| TcpStream::connect("10.77.0.2:80")).unwrap().unwrap();
            }
            looking.join().unwrap()
        });
        let growth = facts(&observation).growth.as_ref().unwrap();
        assert!(growth.seconds >= 3.0 && growth.seconds <= begin.elapsed().as_secs_f64(), "{growth:?}");
        assert_eq!(growth.counters.get("Tcp.ActiveOpens"), Some(&5));
        assert!(!growth.counters.keys().any(|name| name.starts_with("sockstat")), "{growth:?}");
    });
}

#[test]
fn connection_tracking_counts_where_the_kernel_shows_it() {
    let _alone = alone();
    isolated("connection_tracking_counts_where_the_kernel_shows_it", || {
        let (client, _server) = Lab::new().pair().unwrap();
        let shows = client.run(|| std::path::Path::new("/proc/thread-self/net/stat/nf_conntrack").exists());
        if !shows.unwrap() {
            return skip("connection_tracking_counts_where_the_kernel_shows_it", "no nf_conntrack here");
        }
        let observation = seen_by(&client, &question());
        for name in ["insert_failed", "drop", "early_drop", "invalid"] {
            assert_eq!(facts(&observation).counters.get(&format!("conntrack.{name}")), Some(&0), "{name}");
        }
    });
}
