//! What a command and whoever started it see of `exec`: nothing but what was asked for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{exec, said_wrong, until_gone, ways};
use crate::client::ERRAND;

#[test]
fn the_exit_code_is_passed_through() {
    for options in ways("the_exit_code_is_passed_through") {
        for code in [0, 3, 255] {
            let output = exec(options, &["sh", "-c", &format!("exit {code}")]).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{}", said_wrong(&output));
            assert_eq!(said_wrong(&output), "");
        }
    }
}

#[test]
fn the_signal_that_ended_it_is_passed_through() {
    for options in ways("the_signal_that_ended_it_is_passed_through") {
        for (name, signal) in [("INT", Signal::INT), ("KILL", Signal::KILL), ("SEGV", Signal::SEGV)] {
            let output = exec(options, &["sh", "-c", &format!("kill -{name} $$")]).output().unwrap();
            let ended_by = output.status.signal().and_then(Signal::from_named_raw);
            assert_eq!(ended_by, Some(signal), "{options:?}: {:?}", output.status);
        }
    }
}

#[test]
fn input_output_and_arguments_are_its_own() {
    for options in ways("input_output_and_arguments_are_its_own") {
        let script = "read line; echo \"$0 $1 $2 $line\"; echo wrong >&2";
        let mut command = exec(options, &["sh", "-c", script, "name", "a b", "--steer"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"a line\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "name a b --steer a line\n");
        assert_eq!(said_wrong(&output), "wrong\n");
    }
}

#[test]
fn a_signal_sent_to_it_gets_to_the_command() {
    for options in ways("a_signal_sent_to_it_gets_to_the_command") {
        for (name, signal) in
            [("TERM", Signal::TERM), ("HUP", Signal::HUP), ("INT", Signal::INT), ("WINCH", Signal::WINCH)]
        {
            let client = std::env::current_exe().unwrap();
            let words = [client.to_str().unwrap(), "--exact", "client::errand", "--nocapture"];
            let mut command = exec(options, &words);
            command.env(ERRAND, format!("ends-at {}", signal.as_raw()));
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(child.stdout.as_mut().unwrap()).lines();
            assert!(said.map_while(Result::ok).any(|line| line.ends_with("ready")), "{options:?} {name}");
            let pid = Pid::from_child(&child);
            kill_process(pid, signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(9), "{options:?} {name}");
        }
    }
}

#[test]
fn nothing_is_left_however_it_ends() {
    for options in ways("nothing_is_left_however_it_ends") {
        for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
            let script = "echo ready; read line";
            let mut command = exec(options, &["sh", "-c", script]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            let pid = child.id();
            match signal {
                None => drop(child.stdin.take()),
                Some(signal) => kill_process(Pid::from_child(&child), signal).unwrap(),
            }
            child.wait().unwrap();
            until_gone(pid);
        }
    }
}
