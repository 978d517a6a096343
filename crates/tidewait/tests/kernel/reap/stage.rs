//! What the tests of `tidewait reap` have in common: runs, what they print, and a pair of namespaces to run in.
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidewait_lab::{Lab, NetNs, Path, isolated, skip};

use crate::common::{TIDEWAIT, run};

pub const FIRST: &str = "10.77.0.2:3306";
pub const SECOND: &str = "10.77.0.2:3307";

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The lines that a successful run printed, each valid by the committed schema.
pub fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(valid).collect()
}

pub fn valid(line: &str) -> Value {
    let line: Value = serde_json::from_str(line).unwrap();
    crate::contract::holds(&line, include_str!("../../../../../docs/schema/tidewait.reap-1.json"));
    line
}

/// The last line of a run with `--json`.
pub fn end(netns: &NetNs, args: &[&str]) -> Value {
    let lines = lines(&run(netns, &[&["reap", "--json"], args].concat()));
    assert_eq!(lines[0]["schema"], "tidewait.reap/1");
    let end = lines.last().unwrap().clone();
    assert_eq!(end["event"], "end");
    end
}

/// Whether this kernel ends sockets in TIME_WAIT at all; a skip where it says that it does not.
pub fn ends_time_wait(test: &str, client: &NetNs, server: &NetNs) -> bool {
    Path::between(client, server).to(address("10.77.0.2:9")).fill_time_wait(1).unwrap();
    // Old enough for what follows.
    sleep(Duration::from_millis(50));
    let output =
        run(client, &["reap", "--older-than", "10ms", "--floor", "0", "--to", "10.77.0.2:9", "--once"]);
    if output.status.success() {
        return true;
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("Linux 6.0 and later") || words.contains("built without"), "{words}");
    skip(test, words);
    false
}

/// Runs a test between two network namespaces that are joined, where the kernel ends sockets in TIME_WAIT.
pub fn joined(test: &str, run: impl FnOnce(&NetNs, &NetNs)) {
    isolated(test, || {
        let (client, server) = Lab::new().pair().unwrap();
        let (client, server) = (client.netns(), server.netns());
        if ends_time_wait(test, client, server) {
            run(client, server);
        }
    });
}

pub fn waiting(netns: &NetNs) -> u64 {
    netns.sockstat().unwrap().time_wait
}

/// Waits until `done`, and says what it waited for if it takes too long.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waiting for {what}");
        sleep(Duration::from_millis(20));
    }
}

/// A reap that runs until it is ended; killed with the test.
pub struct Running {
    pub child: Child,
    pub lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    pub fn start(netns: &NetNs, args: &[&str]) -> Running {
        let mut command = netns.command(TIDEWAIT);
        command.args(["reap", "--json"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    /// The next line.
    pub fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        valid(&line)
    }

    /// Ends it by a signal; its last line.
    pub fn stop(mut self, signal: Signal) -> Value {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let mut last = Value::Null;
        for line in (&mut self.lines).lines() {
            last = valid(&line.unwrap());
        }
        assert!(self.child.wait().unwrap().success());
        assert_eq!(last["event"], "end");
        last
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
