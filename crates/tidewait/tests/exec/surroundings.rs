//! Surroundings that are not as usual: what `exec` makes of them, and that the command notices nothing.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidewait_lab::{scaled, skip};

use crate::bench::{TIDEWAIT, can_steer, exec, keeper_of, left_of, netns, said_wrong, until_gone, ways};

#[test]
fn a_message_that_cannot_be_written_changes_nothing() {
    if !can_steer("a_message_that_cannot_be_written_changes_nothing") {
        return;
    }
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    // One message while somebody goes on in the background, and others in the end.
    let script = "(sleep 0.3; echo done) & exit 3";
    let mut command = exec(&["--steer", "--no-port", "-v"], &["sh", "-c", script]);
    let child = command.stdout(Stdio::piped()).stderr(full()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"done\n".as_slice()));
    until_gone(pid);
    // Nor is another exit code given to what did not start.
    for (options, command, code) in
        [(["--steer", "-v"], "no-such-program-anywhere", 127), (["--spread", "203.0.113.1"], "true", 2)]
    {
        let status = exec(&options, &[command]).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{options:?}");
    }
}

#[test]
fn where_sigchld_is_ignored_the_exit_code_is_known_all_the_same() {
    const TEST: &str = "where_sigchld_is_ignored_the_exit_code_is_known_all_the_same";
    const IGNORED: &str = "--ignore-signal=CHLD";
    let known = Command::new("env").args([IGNORED, "true"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        return skip(TEST, "env cannot have a signal ignored");
    }
    let mut ways = ways(TEST);
    if ways.len() > 1 {
        ways.push(&["--reap", "10s", "--no-port"]);
    }
    for options in ways {
        let Some(netns) = netns(TEST) else { return };
        let mut command = netns.command("env");
        command.args([IGNORED, TIDEWAIT, "exec"]).args(options);
        let output = command.args(["--", "sh", "-c", "exit 3"]).output().unwrap();
        let said = said_wrong(&output);
        assert_eq!(output.status.code(), Some(3), "{options:?}: {said}");
        assert!(!said.contains("ended early"), "{said}");
    }
}

/// `exec` as the first process of a process namespace; `None`, and a skip, where there is no such thing.
fn first(test: &str, options: &[&str], script: &str) -> Option<Command> {
    let netns = netns(test)?;
    let namespace = ["--pid", "--fork", "--mount-proc"];
    let tried = netns.command("unshare").args(namespace).arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        skip(test, "no process namespace");
        return None;
    }
    let mut command = netns.command("unshare");
    command.args(namespace).args([TIDEWAIT, "exec"]).args(options).args(["--", "sh", "-c", script]);
    Some(command)
}

#[test]
fn as_the_first_process_it_ends_with_the_code_of_the_signal_and_buries_orphans() {
    const TEST: &str = "as_the_first_process_it_ends_with_the_code_of_the_signal_and_buries_orphans";
    if !can_steer(TEST) {
        return;
    }
    // Each inner shell ends before what it has started.
    let script = "for i in 1 2 3 4 5; do sh -c 'sleep 0.1 &'; done; sleep 0.3; tries=0; \
                  while grep -qs '^State:.*Z' /proc/[0-9]*/status; do \
                  sleep 0.1; tries=$((tries + 1)); test $tries -lt 50 || exit 9; done; kill -TERM $$";
    for options in [["--steer"].as_slice(), &["--reap", "50s"]] {
        let Some(mut command) = first(TEST, options, script) else { return };
        let output = command.output().unwrap();
        let said = said_wrong(&output);
        assert_eq!(output.status.code(), Some(143), "{options:?}: {:?} {said}", output.status);
        assert!(!said.contains("ended early"), "{said}");
    }
}

#[test]
fn two_of_the_same_number_have_a_cgroup_each() {
    const TEST: &str = "two_of_the_same_number_have_a_cgroup_each";
    if !can_steer(TEST) {
        return;
    }
    let script = "sed -n s/^0:://p /proc/self/cgroup; read line; exit 5";
    let begin = || {
        let mut command = first(TEST, &["--steer"], script)?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Some((child, line))
    };
    let Some((mut first, place)) = begin() else { return };
    let (mut second, other) = begin().unwrap();
    assert!(place.contains("/tidewait-exec-1") && other.contains("/tidewait-exec-1"), "{place}{other}");
    assert_ne!(place, other);
    for child in [&mut first, &mut second] {
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }
}

#[test]
fn whatever_the_umask_is_other_users_can_load_the_library() {
    const TEST: &str = "whatever_the_umask_is_other_users_can_load_the_library";
    let Some(netns) = netns(TEST) else { return };
    // In a /run of its own: nobody has made the directory yet.
    let script = format!(
        "mount -t tmpfs tmpfs /run || exit 99; umask 077; exec {TIDEWAIT} exec --no-port -- \
         sh -c 'umask; stat -c %a /run/tidewait /run/tidewait/*'"
    );
    let output = netns.command("unshare").args(["--mount", "sh", "-c", &script]).output();
    match output {
        Ok(output) if output.status.success() => {
            assert_eq!(String::from_utf8_lossy(&output.stdout), "0077\n755\n444\n");
        }
        Ok(output) => skip(TEST, said_wrong(&output).trim()),
        Err(error) => skip(TEST, error),
    }
}

#[test]
fn a_report_to_a_descriptor_goes_on_where_that_is() {
    const TEST: &str = "a_report_to_a_descriptor_goes_on_where_that_is";
    if !can_steer(TEST) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("reports");
    for (redirected, path) in
        [("3>>", "/dev/fd/3"), ("3>>", "/proc/self/fd/3"), ("2>>", "/dev/stderr"), ("3>", "/dev/fd/3")]
    {
        std::fs::write(&file, "before\n").unwrap();
        let Some(netns) = netns(TEST) else { return };
        let number = &redirected[..1];
        let script = format!(
            "{{ echo first >&{number}; \"$1\" exec --steer --report {path} -- sh -c 'echo it >&{number}'; \
             echo last >&{number}; }} {redirected}\"$2\""
        );
        let output = netns.command("sh").args(["-c", &script, "sh", TIDEWAIT]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", said_wrong(&output));
        let text = std::fs::read_to_string(&file).unwrap();
        let before = if redirected.ends_with(">>") { "before\n" } else { "" };
        let report =
            text.strip_prefix(&format!("{before}first\nit\n")).and_then(|rest| rest.strip_suffix("last\n"));
        let report = report.unwrap_or_else(|| panic!("{redirected} {path}: {text}"));
        let report: serde_json::Value = serde_json::from_str(report).unwrap();
        assert_eq!(report["exit_code"], 0, "{report}");
    }
    let refused = exec(&["--steer", "--report", "/dev/fd/99"], &["echo", "started"]).output().unwrap();
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0), "{}", said_wrong(&refused));
}

#[test]
fn a_keeper_that_is_told_to_end_does_not_linger() {
    let mut command = exec(&["--no-port"], &["sh", "-c", "echo ready; read line"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let keeper = Pid::from_raw(keeper_of(child.id()).unwrap()).unwrap();
    // As of a service that is stopped: all of its processes get it, and the command takes its time.
    kill_process(keeper, Signal::TERM).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(left_of(child.id()).len(), 2);
    drop(child.stdin.take());
    child.wait().unwrap();
    let begin = Instant::now();
    until_gone(child.id());
    // Otherwise it waits for a second. An emulated machine is not that fast.
    let emulated = scaled(1000) < 1000;
    assert!(emulated || begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
}
