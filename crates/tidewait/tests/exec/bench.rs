//! What the tests of `exec` share: the command, and what of it is still there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tidewait_lab::{NetNs, skip};

use crate::client::{ANSWER, ERRAND};

/// The binary under test.
pub const TIDEWAIT: &str = env!("CARGO_BIN_EXE_tidewait");

/// A network namespace; a skip where none can be made.
pub fn netns(test: &str) -> Option<NetNs> {
    match NetNs::new() {
        Ok(netns) => Some(netns),
        Err(error) => {
            skip(test, error);
            None
        }
    }
}

/// `tidewait exec OPTIONS -- COMMAND`, in a namespace of its own where one can be made.
pub fn exec(options: &[&str], command: &[&str]) -> Command {
    match NetNs::new() {
        Ok(netns) => exec_in(&netns, options, command),
        Err(_) => {
            let mut exec = Command::new(TIDEWAIT);
            exec.arg("exec").args(options).arg("--").args(command).stdin(Stdio::null());
            exec
        }
    }
}

/// Each way in which it runs a command, that can be tried here.
pub fn ways(test: &str) -> Vec<&'static [&'static str]> {
    let mut ways: Vec<&[&str]> = vec![&["--no-port"]];
    if can_steer(test) {
        ways.extend([["--steer"].as_slice(), &["--spread", "127.0.0.1", "--no-port"]]);
    }
    ways
}

/// Whether ports can be chosen here; a skip where not.
pub fn can_steer(test: &str) -> bool {
    let tried = exec(&["--steer"], &["sh", "-c", "true"]).output().unwrap();
    match tried.status.code() {
        Some(0) => true,
        Some(77) => {
            skip(test, said_wrong(&tried).trim());
            false
        }
        _ if !cfg!(feature = "bpf") => {
            skip(test, "built without BPF");
            false
        }
        _ => panic!("{}", said_wrong(&tried)),
    }
}

/// The same in a namespace.
pub fn exec_in(netns: &NetNs, options: &[&str], command: &[&str]) -> Command {
    let mut exec = netns.command(TIDEWAIT);
    exec.arg("exec").args(options).arg("--").args(command).stdin(Stdio::null());
    exec
}

/// What the client answers to an errand, under `exec` with options, or without it.
pub fn errand(netns: &NetNs, options: Option<&[&str]>, words: &str) -> String {
    let client = std::env::current_exe().unwrap();
    let client = [client.to_str().unwrap(), "--exact", "client::errand", "--nocapture"];
    let command = match options {
        Some(options) => exec_in(netns, options, &client),
        None => {
            let mut command = netns.command(client[0]);
            command.args(&client[1..]);
            command
        }
    };
    answer(command, words).0
}

/// What the client answers that this command starts, and what the command said on standard error.
pub fn answer(mut command: Command, words: &str) -> (String, String) {
    let output = command.env(ERRAND, words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words}: {said}{}", said_wrong(&output));
    // The test harness leaves its own line open.
    let (_, answer) = said.split_once(ANSWER).unwrap_or_else(|| panic!("{words}: {said}"));
    (answer.lines().next().unwrap().to_owned(), said_wrong(&output))
}

/// What a command said on standard error.
pub fn said_wrong(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whatever is left of the command that process `pid` was: its library, its cgroup, its keeper.
pub fn left_of(pid: u32) -> Vec<String> {
    let mut left = Vec::new();
    for directory in ["/run/tidewait", "/var/lib/tidewait/run"] {
        let library = Path::new(directory).join(format!("no-port-{pid}.so"));
        left.extend(library.exists().then(|| library.display().to_string()));
    }
    left.extend(keeper_of(pid).map(|keeper| format!("keeper {keeper}")));
    let name = format!("tidewait-exec-{pid}");
    left.extend(
        cgroups().into_iter().filter(|path| path.ends_with(&name)).map(|path| path.display().to_string()),
    );
    left
}

/// The process that cleans up behind process `pid`.
pub fn keeper_of(pid: u32) -> Option<i32> {
    let is_meant = |line: &str| {
        let words: Vec<&str> = line.split('\0').collect();
        words.starts_with(&["tidewait", "exec-keeper", "--pid", &pid.to_string()])
    };
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let line = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        is_meant(&line).then(|| path.file_name()?.to_str()?.parse().ok())?
    })
}

/// The cgroups of `exec` directly below the one of this test and the root.
fn cgroups() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points =
        mounts.lines().filter(|line| line.contains(" - cgroup2 ")).filter_map(|line| line.split(' ').nth(4));
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    let below = |point: &str| std::fs::read_dir(Path::new(point).join(&own)).into_iter().flatten();
    points.flat_map(below).filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Waits until something is so.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "not {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until nothing is left.
pub fn until_gone(pid: u32) {
    until(&format!("gone: {:?}", left_of(pid)), || left_of(pid).is_empty());
}
