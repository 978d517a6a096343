//! `--no-port`: ports that a bound source address does not use up, and programs that notice nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustix::process::{Pid, Signal, kill_process};
use tidewait_lab::{NetNs, Policy, Server, skip};

use crate::bench::{TIDEWAIT, errand, exec, keeper_of, left_of, netns, until, until_gone};

/// Local ports in the tests.
const PORTS: usize = 100;
/// Connections to each of the destinations.
const EACH: usize = 80;
/// Where there are servers.
const PEERS: [&str; 3] = ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"];

/// A namespace with few ports and several servers.
fn scene(test: &str) -> Option<(NetNs, Server)> {
    let netns = netns(test)?;
    netns.set("net.ipv4.ip_local_port_range", &format!("32768\t{}", 32_767 + PORTS)).unwrap();
    // Otherwise connect() takes ports of TIME_WAIT on the loopback.
    netns.set("net.ipv4.tcp_tw_reuse", "0").unwrap();
    // On several processors an ACK may come to a peer that has closed already; its reset would end TIME_WAIT (RFC 1337).
    netns.set("net.ipv4.tcp_rfc1337", "1").unwrap();
    let peers = PEERS.map(|peer| peer.parse::<SocketAddr>().unwrap());
    let server = Server::start(&netns, &peers, Policy::CloseAfterPeer).unwrap();
    Some((netns, server))
}

#[test]
fn a_bound_address_has_every_port_for_each_destination() {
    const TEST: &str = "a_bound_address_has_every_port_for_each_destination";
    let words = format!("bound 127.0.0.2 {EACH} {}", PEERS.join(" "));
    let Some((netns, _server)) = scene(TEST) else { return };
    let without = errand(&netns, None, &words);
    assert_eq!(
        without,
        format!("{PORTS} Some(Os {{ code: 98, kind: AddrInUse, message: \"Address already in use\" }})")
    );
    // Elsewhere: the ports that bind() chose are lost to every connect() that chooses by itself.
    let Some((netns, _server)) = scene(TEST) else { return };
    assert_eq!(errand(&netns, Some(&["--no-port"]), &words), format!("{} None", EACH * PEERS.len()));
}

#[test]
fn whoever_asks_for_the_port_is_told_the_one_it_gets() {
    let Some(netns) = netns("whoever_asks_for_the_port_is_told_the_one_it_gets") else { return };
    for source in ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"] {
        for options in [None, Some(["--no-port"].as_slice())] {
            assert_eq!(
                errand(&netns, options, &format!("asks {source}")),
                "the ports it was told",
                "{source}"
            );
        }
    }
}

#[test]
fn errors_and_datagrams_are_as_without() {
    let Some(netns) = netns("errors_and_datagrams_are_as_without") else { return };
    for words in ["twice 127.0.0.1", "datagram 127.0.0.1", "datagram ::1"] {
        assert_eq!(errand(&netns, Some(&["--no-port"]), words), errand(&netns, None, words));
    }
    assert_eq!(errand(&netns, Some(&["--no-port"]), "datagram-without-port 127.0.0.1"), "0");
}

#[test]
fn a_library_that_is_preloaded_already_stays() {
    let mut command = exec(&["--no-port"], &["sh", "-c", "echo \"$LD_PRELOAD\""]);
    let output = command.env("LD_PRELOAD", "libc.so.6").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("libc.so.6:/") && said.trim_end().ends_with(".so"), "{said}");
}

#[test]
fn the_library_stays_for_a_child_that_outlives_the_command_and_then_goes() {
    // The child is a loader of libraries too: `sh` runs `sh`, so that each of them has it mapped.
    let script = "sh -c 'read line; exec sh -c \"echo $LD_PRELOAD; read line\"' <\"$1\" & echo $$";
    let place = tempfile::tempdir().unwrap();
    let pipe = place.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut command = exec(&["--no-port"], &["sh", "-c", script, "sh", pipe.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opened once the command's child does.
    let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let pid = child.id();
    assert!(child.wait().unwrap().success());
    assert!(!left_of(pid).is_empty());
    writeln!(writer).unwrap();
    let mut said = String::new();
    let mut output = child.stdout.take().unwrap();
    let mut byte = [0];
    while said.lines().count() < 2 || !said.ends_with('\n') {
        assert_eq!(output.read(&mut byte).unwrap(), 1, "{said}");
        said.push(char::from(byte[0]));
    }
    assert!(said.contains(&format!("no-port-{pid}.so")), "{said}");
    assert!(!left_of(pid).is_empty());
    writeln!(writer).unwrap();
    drop(writer);
    until_gone(pid);
    let mut wrong = String::new();
    child.stderr.take().unwrap().read_to_string(&mut wrong).unwrap();
    // The loader complains of a library that is not there.
    assert_eq!(wrong, "");
}

#[test]
fn what_a_killed_keeper_left_the_next_one_removes() {
    let mut command = exec(&["--no-port"], &["sh", "-c", "echo ready; read line"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(left_of(pid).len(), 2);
    let keeper = Pid::from_raw(keeper_of(pid).unwrap()).unwrap();
    kill_process(keeper, Signal::KILL).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    // The library is still there, unless another test has removed it meanwhile.
    until("without its keeper", || keeper_of(pid).is_none());
    assert!(exec(&["--no-port"], &["sh", "-c", "true"]).status().unwrap().success());
    until_gone(pid);
}

fn squid() -> Option<PathBuf> {
    ["/usr/sbin/squid", "/usr/bin/squid"].map(PathBuf::from).into_iter().find(|path| path.is_file())
}

/// Runs squid with a bound source address, asks it for pages of each peer, and how many of them it answered with 200.
fn pages_through_squid(netns: &NetNs, squid: &str, exec: bool) -> usize {
    let proxy: SocketAddr = "127.0.0.1:3128".parse().unwrap();
    let place = tempfile::tempdir().unwrap();
    let scratch = place.path().display();
    let config = place.path().join("squid.conf");
    std::fs::write(
        &config,
        format!(
            "http_port {proxy}\ntcp_outgoing_address 127.0.0.4\nhttp_access allow all\n\
             server_persistent_connections off\ncache deny all\naccess_log none\ncache_log {scratch}/cache.log\n\
             coredump_dir {scratch}\npid_filename none\nnetdb_filename none\npinger_enable off\n\
             visible_hostname lab\nshutdown_lifetime 0 seconds\n"
        ),
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let mut command = if exec { netns.command(TIDEWAIT) } else { netns.command(squid) };
    if exec {
        command.args(["exec", "--no-port", "--", squid]);
    }
    command.args(["-N", "-f", config]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut squid = Running(command.spawn().unwrap());
    until("listening", || {
        std::thread::sleep(Duration::from_millis(100));
        netns.run(|| TcpStream::connect(proxy).is_ok()).unwrap()
    });
    let mut answered = 0;
    for number in 0..EACH * PEERS.len() {
        // Outside of the range: squid's ports are lost to every connect() that chooses by itself.
        let from = SocketAddr::from(([127, 0, 0, 1], 10_000 + u16::try_from(number).unwrap()));
        answered += usize::from(netns.run(|| page(from, proxy, PEERS[number % PEERS.len()])).unwrap());
    }
    assert!(squid.0.try_wait().unwrap().is_none(), "squid has ended");
    answered
}

/// Whether the proxy brings a page of the peer.
fn page(from: SocketAddr, proxy: SocketAddr, peer: &str) -> bool {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &from).unwrap();
    connect(&socket, &proxy).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET http://{peer}/ HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200")
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn squid_with_a_bound_address_has_every_port_for_each_destination() {
    const TEST: &str = "squid_with_a_bound_address_has_every_port_for_each_destination";
    let Some(squid) = squid() else { return skip(TEST, "squid is not installed") };
    let squid = squid.to_str().unwrap();
    for (exec, enough) in [(false, false), (true, true)] {
        let Some((netns, server)) = scene(TEST) else { return };
        drop(server);
        // Clients use ports up too, of another address.
        let peers = PEERS.map(|peer| peer.parse::<SocketAddr>().unwrap());
        let _server = Server::start(&netns, &peers, Policy::Http).unwrap();
        netns.set("net.ipv4.tcp_max_tw_buckets", "262144").unwrap();
        let answered = pages_through_squid(&netns, squid, exec);
        assert_eq!(answered == EACH * PEERS.len(), enough, "{answered} pages");
        assert!(enough || answered <= PORTS, "{answered} pages");
    }
}
