//! Every load does what it says, by the kernel's own count.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tidewait_lab::{
    ChurnOptions, Closer, Host, Lab, NetNs, Path, Policy, Repeat, Server, ServerOptions, Side, isolated,
};
use tidewait_model::State;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A line of /proc/net/tcp or tcp6.
struct Row {
    local: String,
    remote: String,
    state: State,
    /// What waits in the receive queue; in a listener, connections that wait for accept().
    waiting: u64,
    /// The kind of timer: 0 none, 2 keepalive, 3 TIME_WAIT.
    timer: String,
}

impl Row {
    fn read(line: &str) -> Row {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, waiting) = fields[4].split_once(':').unwrap();
        Row {
            local: fields[1].to_owned(),
            remote: fields[2].to_owned(),
            state: State::from_number(u8::from_str_radix(fields[3], 16).unwrap()).unwrap(),
            waiting: u64::from_str_radix(waiting, 16).unwrap(),
            timer: fields[5].split_once(':').unwrap().0.to_owned(),
        }
    }

    fn local_port(&self) -> u16 {
        u16::from_str_radix(self.local.split_once(':').unwrap().1, 16).unwrap()
    }
}

/// The sockets of a namespace in one state: by the kernel's table, so that these tests need no other program.
fn rows(netns: &NetNs, table: &str, state: State) -> Vec<Row> {
    let path = format!("/proc/thread-self/net/{table}");
    let text = netns.run(|| std::fs::read_to_string(path).unwrap()).unwrap();
    text.lines().skip(1).map(Row::read).filter(|row| row.state == state).collect()
}

/// An address as those tables write it: words of the machine in hexadecimal.
fn hex(address: IpAddr) -> String {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    bytes
        .chunks_exact(4)
        .map(|word| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap())))
        .collect()
}

fn count_to(netns: &NetNs, destination: &str, state: State) -> usize {
    let destination = address(destination);
    let table = if destination.is_ipv4() { "tcp" } else { "tcp6" };
    let remote = format!("{}:{:04X}", hex(destination.ip()), destination.port());
    rows(netns, table, state).iter().filter(|row| row.remote == remote).count()
}

/// Waits for what the kernel does in the background.
fn wait_until(done: impl Fn() -> bool, expected: impl Fn() -> String) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(5), "expected: {}", expected());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a namespace has `count` sockets in `state`.
fn expect(netns: &NetNs, state: State, count: u64) {
    let states = || netns.states().unwrap();
    wait_until(|| states()[state] == count, || format!("{count} in {state:?} of {:?}", states()));
}

/// A client and a server that keep their TIME_WAIT sockets to the last one: by default a small machine keeps few.
fn pair() -> (Host, Host) {
    let (client, server) = Lab::new().pair().unwrap();
    for host in [&client, &server] {
        host.set("net.ipv4.tcp_max_tw_buckets", "100000").unwrap();
    }
    (client, server)
}

#[test]
fn time_wait_goes_to_the_client_and_is_spread_evenly() {
    isolated("time_wait_goes_to_the_client_and_is_spread_evenly", || {
        let (client, server) = pair();
        let (first, second) = (address("10.77.0.2:80"), address("10.77.0.2:81"));
        let filled = Path::between(&client, &server).to(first).to(second).fill_time_wait(5_001).unwrap();
        assert_eq!((filled.made, filled.time_wait), (5_001, 5_001));
        // The kernel counts an orphan in FIN_WAIT2 as one: on a slow machine the last FIN may be on its way yet.
        expect(&client, State::TimeWait, 5_001);
        assert_eq!(count_to(&client, "10.77.0.2:80", State::TimeWait), 2_501);
        assert_eq!(count_to(&client, "10.77.0.2:81", State::TimeWait), 2_500);
        assert_eq!(client.states().unwrap().total(), 5_001, "nothing but TIME_WAIT stays behind");
        let left = || server.states().unwrap().total();
        wait_until(|| left() == 0, || format!("nothing at all on the server's side, not {}", left()));
    });
}

#[test]
fn a_fill_puts_back_the_setting_that_it_needs() {
    isolated("a_fill_puts_back_the_setting_that_it_needs", || {
        let (client, server) = Lab::new().pair().unwrap();
        client.set("net.ipv4.tcp_rfc1337", "0").unwrap();
        Path::between(&client, &server).to(address("10.77.0.2:80")).fill_time_wait(100).unwrap();
        assert_eq!(client.get("net.ipv4.tcp_rfc1337").unwrap(), "0");
    });
}

#[test]
fn time_wait_over_ipv6_and_from_several_sources() {
    isolated("time_wait_over_ipv6_and_from_several_sources", || {
        let (client, server) = pair();
        client.add_address("fd00:77::3/64").unwrap();
        let path = Path::between(&client, &server).to(address("[fd00:77::2]:80"));
        path.from(ip("fd00:77::1")).from(ip("fd00:77::3")).fill_time_wait(200).unwrap();
        expect(&client, State::TimeWait, 200);
        let rows = rows(&client, "tcp6", State::TimeWait);
        for source in ["fd00:77::1", "fd00:77::3"] {
            let source = hex(ip(source));
            assert_eq!(rows.iter().filter(|row| row.local.starts_with(&source)).count(), 100);
        }
    });
}

#[test]
fn v4_mapped_sockets_take_ipv4_ports() {
    isolated("v4_mapped_sockets_take_ipv4_ports", || {
        let (client, server) = pair();
        client.set("net.ipv4.ip_local_port_range", "40000 40099").unwrap();
        let mapped = Path::between(&client, &server).to(address("[::ffff:10.77.0.2]:80"));
        mapped.fill_time_wait(100).unwrap();
        expect(&client, State::TimeWait, 100);
        assert_eq!(rows(&client, "tcp6", State::TimeWait).len(), 100, "IPv6 sockets");
        let plain = Path::between(&client, &server).to(address("10.77.0.2:80"));
        assert!(plain.hold_established(1).is_err(), "and no port left for IPv4");
    });
}

#[test]
fn time_wait_fills_a_range_to_the_last_port() {
    isolated("time_wait_fills_a_range_to_the_last_port", || {
        let (client, server) = pair();
        client.set("net.ipv4.ip_local_port_range", "40000 40999").unwrap();
        let path = Path::between(&client, &server).to(address("10.77.0.2:80"));
        path.fill_time_wait(1_000).unwrap();
        let refused = path.hold_established(1).unwrap_err().to_string();
        assert!(refused.contains("connect to 10.77.0.2:80"), "{refused}");
        // The ports are connect()'s own: to another destination they all serve again.
        let elsewhere = Path::between(&client, &server).to(address("10.77.0.2:81"));
        assert_eq!(elsewhere.hold_established(1_000).unwrap().count(Side::Client), 1_000);
        let refused = path.fill_time_wait(1_001).unwrap_err().to_string();
        assert!(refused.contains("1000 ports each"), "{refused}");
        client.set("net.ipv4.tcp_max_tw_buckets", "500").unwrap();
        let refused = path.fill_time_wait(10).unwrap_err().to_string();
        assert!(refused.contains("net.ipv4.tcp_max_tw_buckets = 500"), "{refused}");
    });
}

/// The order in which ports are used up has to leave connect() in front of the same cliff as a natural load.
#[test]
fn the_first_half_of_a_range_is_the_one_that_connect_searches_first() {
    isolated("the_first_half_of_a_range_is_the_one_that_connect_searches_first", || {
        let (client, server) = pair();
        client.set("net.ipv4.ip_local_port_range", "40000 40999").unwrap();
        let path = Path::between(&client, &server).to(address("10.77.0.2:80"));
        path.fill_time_wait(499).unwrap();
        let _two = path.hold_established(2).unwrap();
        let ports: Vec<u16> = rows(&client, "tcp", State::Established).iter().map(Row::local_port).collect();
        let odd = ports.iter().filter(|port| *port % 2 == 1).count();
        assert_eq!((ports.len(), odd), (2, 1), "the last even port, then an odd one: {ports:?}");
    });
}

#[test]
fn held_sockets_have_their_states_and_leave_none_behind() {
    isolated("held_sockets_have_their_states_and_leave_none_behind", || {
        let (client, server) = pair();
        let path = Path::between(&client, &server).to(address("10.77.0.2:80"));

        let held = path.hold_established(20).unwrap();
        assert_eq!((held.count(Side::Client), held.count(Side::Server)), (20, 20));
        assert_eq!(rows(&client, "tcp", State::Established).len(), 20);
        drop(held);
        expect(&client, State::Established, 0);
        assert_eq!(client.states().unwrap().total(), 0);
        assert_eq!(server.states().unwrap().total(), 0);

        let held = path.leak_close_wait(Side::Client, 20).unwrap();
        expect(&client, State::CloseWait, 20);
        expect(&server, State::FinWait2, 20);
        drop(held);
        expect(&client, State::CloseWait, 0);

        let held = path.orphan_fin_wait2(20).unwrap();
        expect(&client, State::FinWait2, 20);
        expect(&server, State::CloseWait, 20);
        assert!(rows(&client, "tcp", State::FinWait2).iter().all(|row| row.timer == "03"));
        drop(held);
        expect(&client, State::FinWait2, 0);

        let held = path.hold_fin_wait2(20).unwrap();
        expect(&client, State::FinWait2, 20);
        assert!(rows(&client, "tcp", State::FinWait2).iter().all(|row| row.timer == "00"));
        drop(held);
        expect(&client, State::FinWait2, 0);
    });
}

#[test]
fn a_peer_gone_silent_leaves_unacknowledged_closes() {
    isolated("a_peer_gone_silent_leaves_unacknowledged_closes", || {
        let (client, server) = pair();
        let mut open =
            Path::between(&client, &server).to(address("10.77.0.2:80")).hold_established(5).unwrap();
        let mut left = Path::between(&client, &server)
            .to(address("10.77.0.2:81"))
            .leak_close_wait(Side::Client, 7)
            .unwrap();
        expect(&client, State::CloseWait, 7);
        client.blackhole(ip("10.77.0.2")).unwrap();
        open.close(Side::Client);
        left.close(Side::Client);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(rows(&client, "tcp", State::FinWait1).len(), 5);
        assert_eq!(rows(&client, "tcp", State::LastAck).len(), 7);
    });
}

#[test]
fn a_silent_address_keeps_connections_in_syn_sent() {
    isolated("a_silent_address_keeps_connections_in_syn_sent", || {
        let (client, server) = pair();
        client.blackhole(ip("10.77.0.250")).unwrap();
        client.blackhole(ip("fd00:77::250")).unwrap();
        let path = Path::between(&client, &server);
        let path = path.to(address("10.77.0.250:80")).to(address("[fd00:77::250]:80"));
        let held = path.syn_sent(20).unwrap();
        // Without the silence the kernel gives up after three seconds: nobody has the address.
        std::thread::sleep(Duration::from_millis(3_500));
        assert_eq!(client.states().unwrap()[State::SynSent], 20);
        drop(held);
        assert_eq!(client.states().unwrap().total(), 0);

        let refused = client.blackhole(ip("192.0.2.1")).unwrap_err().to_string();
        assert!(refused.contains("192.0.2.1") && refused.contains("client"), "{refused}");
    });
}

#[test]
fn raw_syns_leave_half_open_connections() {
    isolated("raw_syns_leave_half_open_connections", || {
        let (client, server) = pair();
        let (silent, listener) = (ip("10.77.0.250"), address("10.77.0.2:80"));
        server.blackhole(silent).unwrap();
        let _server = Server::start(&server, &[listener], Policy::CloseAfterPeer).unwrap();
        Path::between(&client, &server).from(silent).to(listener).half_open(30).unwrap();
        std::thread::sleep(Duration::from_millis(3_500));
        assert_eq!(server.states().unwrap()[State::SynRecv], 30);
        assert_eq!(client.states().unwrap().total(), 0);
    });
}

#[test]
fn a_server_that_never_accepts_lets_its_queue_overflow() {
    isolated("a_server_that_never_accepts_lets_its_queue_overflow", || {
        let (client, server) = pair();
        let destination = address("10.77.0.2:80");
        let options = ServerOptions { backlog: 4, ..ServerOptions::new(Policy::NeverAccept) };
        let _server = Server::with(&server, &[destination], options).unwrap();
        let path = Path::between(&client, &server).to(destination);
        // A backlog of 4 holds 5.
        let _queued = path.syn_sent(5).unwrap();
        let full = || rows(&server, "tcp", State::Listen)[0].waiting == 5;
        wait_until(full, || "five connections wait for accept()".to_owned());
        let _dropped = path.syn_sent(15).unwrap();
        let states = client.states().unwrap();
        assert_eq!((states[State::Established], states[State::SynSent]), (5, 15), "{states:?}");
    });
}

#[test]
fn bound_and_listening_sockets_hold_ports() {
    isolated("bound_and_listening_sockets_hold_ports", || {
        let netns = NetNs::new().unwrap();
        let _bound = netns.bound_inactive(ip("127.0.0.1"), 30).unwrap();
        let _listening = netns.listen(&[address("127.0.0.1:80"), address("[::1]:80")]).unwrap();
        assert_eq!(netns.states().unwrap()[State::Listen], 2);
        // Bound sockets hold their ports, so a range of 40 has room for ten more.
        let narrow = NetNs::new().unwrap();
        narrow.set("net.ipv4.ip_local_port_range", "40000 40039").unwrap();
        let _bound = narrow.bound_inactive(ip("127.0.0.1"), 30).unwrap();
        let _rest = narrow.bound_inactive(ip("127.0.0.1"), 10).unwrap();
        assert!(narrow.bound_inactive(ip("127.0.0.1"), 1).is_err());
    });
}

#[test]
fn servers_differ_in_who_keeps_the_time_wait() {
    isolated("servers_differ_in_who_keeps_the_time_wait", || {
        for (policy, closer) in
            [(Policy::CloseAfterPeer, Closer::Client), (Policy::CloseFirst, Closer::Server)]
        {
            let (client, server) = pair();
            let destination = address("10.77.0.2:80");
            let running = Server::start(&server, &[destination], policy).unwrap();
            let options =
                ChurnOptions { rate: None, count: Some(200), bytes: 100, closer, ..ChurnOptions::default() };
            let report = Path::between(&client, &server).to(destination).churn(options).unwrap().wait();
            assert_eq!((report.made, report.failures()), (200, 0), "{:?}", report.failed);
            let (keeper, other) =
                if closer == Closer::Client { (&client, &server) } else { (&server, &client) };
            // The client does not know which ports the server keeps in TIME_WAIT, and may by chance choose one of them
            // again: the server then takes the new connection in its place (RFC 9293 MAY-2).
            let kept = || keeper.states().unwrap()[State::TimeWait];
            let listening = |host: &Host| host.states().unwrap()[State::Listen];
            let least = if closer == Closer::Client { 200 } else { 195 };
            wait_until(
                || (least..=200).contains(&kept()),
                || format!("{least} in TIME_WAIT, not {}", kept()),
            );
            let total = |host: &Host| host.states().unwrap().total() - listening(host);
            wait_until(|| (total(keeper), total(other)) == (kept(), 0), || "nothing else".to_owned());
            // The last socket is gone from the table before the server has noted that.
            let served = || (running.accepted(), running.open(), running.turned_away());
            wait_until(|| served() == (200, 0, 0), || format!("200 accepted and closed, not {:?}", served()));
        }
    });
}

#[test]
fn a_server_that_never_closes_leaks_close_wait() {
    isolated("a_server_that_never_closes_leaks_close_wait", || {
        let (client, server) = pair();
        let destination = address("10.77.0.2:80");
        let running = Server::start(&server, &[destination], Policy::NeverClose).unwrap();
        let options = ChurnOptions { rate: None, count: Some(50), ..ChurnOptions::default() };
        Path::between(&client, &server).to(destination).churn(options).unwrap().wait();
        expect(&server, State::CloseWait, 50);
        // A connection may end while it waits for accept().
        wait_until(|| running.open() == 50, || format!("50 open, not {}", running.open()));
        drop(running);
        expect(&server, State::CloseWait, 0);
        assert_eq!(server.states().unwrap().total(), 0);
    });
}

#[test]
fn a_server_that_forgets_to_close_has_read_the_end_and_one_that_never_looks_has_not() {
    isolated("a_server_that_forgets_to_close_has_read_the_end_and_one_that_never_looks_has_not", || {
        for (policy, unread) in [(Policy::Forget, 0), (Policy::NeverClose, 1)] {
            let (client, server) = pair();
            let destination = address("10.77.0.2:80");
            let _server = Server::start(&server, &[destination], policy).unwrap();
            let churn = ChurnOptions { count: Some(30), ..ChurnOptions::default() };
            Path::between(&client, &server).to(destination).churn(churn).unwrap().wait();
            expect(&server, State::CloseWait, 30);
            let rows = || rows(&server, "tcp", State::CloseWait);
            wait_until(
                || rows().iter().all(|row| row.waiting == unread),
                || format!("{policy:?}: {unread} unread, the FIN"),
            );
        }
    });
}

#[test]
fn a_server_that_closes_later_passes_through_close_wait() {
    isolated("a_server_that_closes_later_passes_through_close_wait", || {
        let (client, server) = pair();
        let destination = address("10.77.0.2:80");
        let _server = Server::start(&server, &[destination], Policy::CloseLater).unwrap();
        // Over a second and a half, each for a second in between: some can be seen there, and on a busy machine never all.
        let options = ChurnOptions { rate: Some(20), count: Some(30), ..ChurnOptions::default() };
        let churn = Path::between(&client, &server).to(destination).churn(options).unwrap();
        let between =
            || (server.states().unwrap()[State::CloseWait], client.states().unwrap()[State::FinWait2]);
        let some = || {
            let (closing, waiting) = between();
            closing > 0 && waiting > 0
        };
        wait_until(some, || format!("some that wait for the server to close, not {:?}", between()));
        assert_eq!(churn.wait().made, 30);
        expect(&server, State::CloseWait, 0);
        expect(&client, State::TimeWait, 30);
    });
}

#[test]
fn keepalive_takes_leaked_sockets_out_of_the_table_and_leaves_their_descriptors() {
    isolated("keepalive_takes_leaked_sockets_out_of_the_table_and_leaves_their_descriptors", || {
        let (client, server) = pair();
        client.set("net.ipv4.tcp_fin_timeout", "1").unwrap();
        let destination = address("10.77.0.2:80");
        let options = ServerOptions {
            keepalive: Some(Duration::from_secs(2)),
            ..ServerOptions::new(Policy::NeverClose)
        };
        let leaking = Server::with(&server, &[destination], options).unwrap();
        let churn = ChurnOptions { count: Some(30), ..ChurnOptions::default() };
        Path::between(&client, &server).to(destination).churn(churn).unwrap().wait();
        expect(&server, State::CloseWait, 30);
        expect(&server, State::CloseWait, 0);
        assert_eq!(leaking.open(), 30);
    });
}

#[test]
fn a_stuffed_connection_that_is_closed_waits_for_the_window_in_fin_wait1() {
    isolated("a_stuffed_connection_that_is_closed_waits_for_the_window_in_fin_wait1", || {
        let (client, server) = pair();
        server.set("net.ipv4.tcp_rmem", "4096 8192 16384").unwrap();
        let mut held =
            Path::between(&client, &server).to(address("10.77.0.2:80")).hold_established(5).unwrap();
        held.stuff(Side::Client).unwrap();
        held.close(Side::Client);
        let probing = || rows(&client, "tcp", State::FinWait1).iter().filter(|row| row.timer == "04").count();
        wait_until(|| probing() == 5, || format!("5 zero-window probes, not {}", probing()));
    });
}

#[test]
fn requests_that_are_refused_count_as_failed() {
    isolated("requests_that_are_refused_count_as_failed", || {
        let (client, _server) = pair();
        let how = Repeat { rate: 200, threads: 2 };
        let refused = client.request(how, address("10.77.0.2:81"), "GET / HTTP/1.0\r\n\r\n").unwrap();
        wait_until(|| refused.failed() > 20, || format!("20 failures, not {}", refused.failed()));
        assert_eq!(refused.done(), 0);
    });
}

#[test]
fn an_echo_server_answers_both_families_on_one_socket() {
    isolated("an_echo_server_answers_both_families_on_one_socket", || {
        use std::io::{Read, Write};
        let (client, server) = pair();
        let options = ServerOptions { dual_stack: true, ..ServerOptions::new(Policy::Echo) };
        let _server = Server::with(&server, &[address("[::]:80")], options).unwrap();
        for destination in ["10.77.0.2:80", "[fd00:77::2]:80"] {
            let answer = client.run(|| {
                let mut connection = std::net::TcpStream::connect(destination).unwrap();
                connection.write_all(b"tide").unwrap();
                let mut answer = [0; 4];
                connection.read_exact(&mut answer).unwrap();
                answer
            });
            assert_eq!(&answer.unwrap(), b"tide");
        }
    });
}

#[test]
fn a_churn_keeps_its_rate_and_stops() {
    isolated("a_churn_keeps_its_rate_and_stops", || {
        let (client, server) = pair();
        let destination = address("10.77.0.2:80");
        let _server = Server::start(&server, &[destination], Policy::CloseAfterPeer).unwrap();
        let options = ChurnOptions { rate: Some(500), ..ChurnOptions::default() };
        let churn = Path::between(&client, &server).to(destination).churn(options).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let report = churn.stop();
        assert_eq!(report.failures(), 0, "{:?}", report.failed);
        // What was missed is said, so the sum is the rate even on a machine that is busy otherwise.
        let turns = (report.made + report.missed) as f64 / report.elapsed.as_secs_f64();
        // But not what became due in a pause at the very end.
        assert!((350.0..=550.0).contains(&turns), "{turns} a second: {report:?}");
        expect(&client, State::TimeWait, report.made);
    });
}

#[test]
fn a_churn_holds_connections_and_lets_go_of_them_when_dropped() {
    isolated("a_churn_holds_connections_and_lets_go_of_them_when_dropped", || {
        let (client, server) = pair();
        let destination = address("10.77.0.2:80");
        let _server = Server::start(&server, &[destination], Policy::CloseAfterPeer).unwrap();
        let options = ChurnOptions {
            rate: Some(1_000),
            count: Some(100),
            hold: Duration::from_secs(30),
            ..ChurnOptions::default()
        };
        let churn = Path::between(&client, &server).to(destination).churn(options).unwrap();
        expect(&client, State::Established, 100);
        drop(churn);
        expect(&client, State::Established, 0);
        assert_eq!(client.states().unwrap().total(), 0);
    });
}

#[test]
fn bind_before_connect_runs_out_in_bind_and_no_port_heals_it() {
    isolated("bind_before_connect_runs_out_in_bind_and_no_port_heals_it", || {
        let (first, second) = (address("10.77.0.2:80"), address("10.77.0.2:81"));
        for no_port in [false, true] {
            let (client, server) = pair();
            client.set("net.ipv4.ip_local_port_range", "40000 40099").unwrap();
            let _server = Server::start(&server, &[first, second], Policy::CloseAfterPeer).unwrap();
            let options = ChurnOptions {
                rate: None,
                count: Some(150),
                bind_first: Some(ip("10.77.0.1")),
                no_port,
                ..ChurnOptions::default()
            };
            let path = Path::between(&client, &server).to(first).to(second);
            let report = path.churn(options).unwrap().wait();
            if no_port {
                assert_eq!((report.made, report.failures()), (150, 0), "each destination has 100 ports");
            } else {
                let in_use = rustix::io::Errno::ADDRINUSE.raw_os_error();
                assert_eq!(report.made, 100, "both destinations together have 100 ports");
                assert_eq!(report.failed.get(&("bind", in_use)), Some(&50), "{:?}", report.failed);
            }
        }
    });
}

#[test]
fn contradictions_are_refused_with_the_remedy() {
    isolated("contradictions_are_refused_with_the_remedy", || {
        let netns = NetNs::new().unwrap();
        let none = Path::within(&netns).fill_time_wait(1).unwrap_err().to_string();
        assert!(none.contains("add one with to()"), "{none}");
        let path = Path::within(&netns).to(address("10.0.0.1:80"));
        let mixed = path.clone().from(ip("fd00::1")).fill_time_wait(1).unwrap_err().to_string();
        assert!(mixed.contains("10.0.0.1:80"), "{mixed}");
        let options = ChurnOptions { rate: Some(0), ..ChurnOptions::default() };
        assert!(path.churn(options).unwrap_err().to_string().contains("rate 0"));
        let options = ChurnOptions { no_port: true, ..ChurnOptions::default() };
        assert!(path.churn(options).unwrap_err().to_string().contains("bind_first"));
        let many = path.hold_established(1 << 40).unwrap_err().to_string();
        assert!(many.contains("RLIMIT_NOFILE"), "{many}");
        let away = path.hold_established(1).unwrap_err().to_string();
        assert!(away.contains("listen at 10.0.0.1:80"), "{away}");
    });
}
