//! `tidewait reap` where programs still have the sockets.

use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tidewait_lab::{NetNs, skip};

use super::stage::{Running, until, valid};

/// Half closed: in CLOSE_WAIT, and the peer goes on reading what comes.
fn half_closed() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    // Until its FIN is here.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    (client, server)
}

#[test]
fn a_connection_that_is_used_again_before_it_is_due_stays() {
    const TEST: &str = "reap::a_connection_that_is_used_again_before_it_is_due_stays";
    if !cfg!(feature = "act") {
        return skip(TEST, "built without the feature `act`");
    }
    let netns = NetNs::new().unwrap();
    let (mut client, mut server) = netns.run(half_closed).unwrap();
    let age = ["--older-than", "3s", "--yes", "--state", "close-wait"];
    let mut running = Running::start(&netns, &age);
    assert_eq!(running.next()["event"], "begin");
    // Longer than it would have taken the socket to be old enough.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(4_500) {
        client.write_all(b"more").unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        sleep(Duration::from_millis(50));
    }
    // Once it is idle it gets old.
    until("the idle connection to be ended", || running.next()["killed"] == 1);
    assert_eq!(client.write_all(b"more").unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(running.stop(Signal::TERM)["killed"], 1);
}

#[test]
fn a_connection_that_is_used_again_while_a_limit_keeps_others_waiting_stays() {
    const TEST: &str = "reap::live::a_connection_that_is_used_again_while_a_limit_keeps_others_waiting_stays";
    if !cfg!(feature = "act") {
        return skip(TEST, "built without the feature `act`");
    }
    let netns = NetNs::new().unwrap();
    let mut pairs = netns.run(|| (0..10).map(|_| half_closed()).collect::<Vec<_>>()).unwrap();
    sleep(Duration::from_millis(1_200));
    // All of them are due, the last in 5 s.
    let args = ["--older-than", "1s", "--yes", "--state", "close-wait", "--rate", "2", "--once"];
    let mut running = Running::start(&netns, &args);
    assert_eq!(running.next()["event"], "begin");
    let mut over = false;
    while !over {
        over = running.child.try_wait().unwrap().is_some();
        // Those that were ended are refused.
        pairs.retain_mut(|(client, server)| {
            client.write_all(b"more").is_ok() && server.read_exact(&mut [0; 4]).is_ok()
        });
        sleep(Duration::from_millis(50));
    }
    let last = (&mut running.lines).lines().last().unwrap().unwrap();
    let told: Value = valid(&last);
    assert_eq!(told["reason"], "once");
    let ended = told["killed"].as_u64().unwrap();
    assert!(ended < 5 && ended + pairs.len() as u64 == 10, "{told}, {} are left", pairs.len());
}
