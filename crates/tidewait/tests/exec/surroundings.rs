//! Surroundings that are not as usual: what `exec` makes of them, and that the command notices nothing.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use tidewait_lab::skip;

use crate::bench::{TIDEWAIT, can_steer, exec, netns, said_wrong, until_gone, ways};

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
