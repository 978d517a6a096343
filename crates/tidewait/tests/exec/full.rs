//! A range that is nearly full: `ss` is the witness that no connection that lives is touched, and every byte of them is looked at.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::mpsc::{self, TryRecvError};

use tidewait_lab::{NetNs, Policy, Server, scaled, skip};

use crate::bench::{can_steer, exec_in, netns, until_gone};
use crate::client::{ANSWER, ERRAND};

const PEER: &str = "127.0.0.1:8007";

/// Ports of the range, and how many of them live connections have: 95 %.
const RANGE: &str = "20000-20199";
const LIVE: usize = 190;

/// Local port, remote address and cookie of every established connection, as `ss` shows them; `None` where there is none.
fn witness(netns: &NetNs) -> Option<BTreeSet<String>> {
    let output = netns.command("ss").args(["-Htne", "state", "established"]).output().ok()?;
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let cookie = words.iter().find(|word| word.starts_with("sk:"))?;
        Some(format!("{} {} {cookie}", words.get(2)?, words.get(3)?))
    };
    Some(String::from_utf8_lossy(&output.stdout).lines().filter_map(row).collect())
}

#[test]
fn at_95_percent_no_live_connection_is_touched() {
    const TEST: &str = "at_95_percent_no_live_connection_is_touched";
    if !can_steer(TEST) {
        return;
    }
    let Some(netns) = netns(TEST) else { return };
    if witness(&netns).is_none() {
        return skip(TEST, "no `ss`");
    }
    let _server = Server::start(&netns, &[PEER.parse::<SocketAddr>().unwrap()], Policy::Echo).unwrap();
    let client = std::env::current_exe().unwrap();
    let client = [client.to_str().unwrap(), "--exact", "client::errand", "--nocapture"];
    let tries = scaled(2_000);
    let mut child = exec_in(&netns, &["--steer", "--range", RANGE], &client)
        .env(ERRAND, format!("full {PEER} {LIVE} {tries}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (tell, hear) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if let Some((_, answer)) = line.split_once(ANSWER) {
                tell.send(answer.to_owned()).unwrap();
            }
        }
    });
    let mut go_on = child.stdin.take().unwrap();
    assert_eq!(hear.recv().unwrap(), "held");
    let before = witness(&netns).unwrap();
    assert_eq!(before.len(), 2 * LIVE, "both ends");
    writeln!(go_on, "begin").unwrap();
    let mut looks = 0;
    let answer = loop {
        let answer = hear.try_recv();
        let now = witness(&netns).unwrap();
        assert!(now.is_superset(&before), "gone: {:?}", before.difference(&now).collect::<Vec<_>>());
        looks += 1;
        match answer {
            Ok(answer) => break answer,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => panic!("the client has ended"),
        }
    };
    // Made, of those on ports of the range; rounds over the live connections, of which every byte was right.
    let numbers: Vec<u64> = answer.split(' ').map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers[..2], [tries, tries], "{answer}");
    assert!(numbers[2] >= 1 && looks >= 1, "{answer}, {looks} looks");
    drop(go_on);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
    until_gone(child.id());
}
