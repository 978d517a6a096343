//! A command on a terminal: who gets what that sends. script(1) is the terminal; what is written to it is typed.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidewait_lab::skip;

use crate::bench::{TIDEWAIT, can_steer, netns, until_gone};
use crate::client::ERRAND;

const CTRL_C: &[u8] = b"\x03";

/// `tidewait exec --steer -- COMMAND` on a terminal, and all that is shown on it.
struct Terminal {
    script: Child,
    shown: String,
    /// The number of tidewait.
    pid: u32,
}

impl Terminal {
    /// `None`, and a skip, where there is no terminal to be had.
    fn new(test: &str, command: &str) -> Option<Terminal> {
        let line = format!("echo $$.; exec {TIDEWAIT} exec --steer -- {command}");
        let mut script = netns(test)?.command("script");
        // -e is understood by the one of util-linux alone.
        script.args(["-q", "-e", "-c", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let script = match script.spawn() {
            Ok(script) => script,
            Err(error) => {
                skip(test, format!("script: {error}"));
                return None;
            }
        };
        let mut terminal = Terminal { script, shown: String::new(), pid: 0 };
        if !terminal.shows(".") {
            skip(test, format!("script shows nothing: {}", terminal.shown));
            return None;
        }
        terminal.pid = terminal.shown.trim().trim_end_matches('.').parse().unwrap();
        Some(terminal)
    }

    /// Reads until words are there; false if it ends before.
    fn shows(&mut self, words: &str) -> bool {
        let output = self.script.stdout.as_mut().unwrap();
        let mut bytes = [0; 1000];
        while !self.shown.contains(words) {
            let count = output.read(&mut bytes).unwrap();
            if count == 0 {
                return false;
            }
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        true
    }

    fn types(&mut self, bytes: &[u8]) {
        self.script.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Waits for the end; the exit code, 128 and the number where a signal ended it, and all that was shown.
    fn ended(mut self) -> (Option<i32>, String) {
        assert!(!self.shows("what nobody shows"));
        let code = self.script.wait().unwrap().code();
        until_gone(self.pid);
        (code, self.shown)
    }
}

#[test]
fn ctrl_c_gets_to_the_command_once_wherever_that_is() {
    const TEST: &str = "ctrl_c_gets_to_the_command_once_wherever_that_is";
    if !can_steer(TEST) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("on");
    let client = std::env::current_exe().unwrap();
    let client = format!(
        "env \"{ERRAND}=hears {}\" {} --exact client::errand --nocapture",
        file.display(),
        client.display()
    );
    for (before, code) in [
        // In the process group of tidewait: the terminal sends it to both.
        ("", 0),
        // In groups of their own.
        ("setsid -w", 0),
        ("timeout 60", 0),
        // A daemon, whose first process has ended.
        ("sh -c 'setsid -f \"$@\"; exit 4' sh", 4),
    ] {
        std::fs::write(&file, "").unwrap();
        let Some(mut terminal) = Terminal::new(TEST, &format!("{before} {client}")) else { return };
        assert!(terminal.shows("ready"), "{before}: {}", terminal.shown);
        if code == 4 {
            assert!(terminal.shows("that it started"), "{}", terminal.shown);
        }
        terminal.types(CTRL_C);
        assert!(terminal.shows("heard"), "{before}: {}", terminal.shown);
        // For a second one to come.
        std::thread::sleep(Duration::from_millis(200));
        std::fs::remove_file(&file).unwrap();
        let (ended, shown) = terminal.ended();
        assert_eq!(ended, Some(code), "{before}: {shown}");
        // timeout(1) itself sends it twice: to its child, and to its group.
        let most = if before.starts_with("timeout") { 2 } else { 1 };
        assert!(shown.matches("heard").count() <= most, "{before}: {shown}");
    }
}

#[test]
fn a_terminal_that_goes_ends_the_command_where_tidewait_leads_the_session() {
    const TEST: &str = "a_terminal_that_goes_ends_the_command_where_tidewait_leads_the_session";
    if !can_steer(TEST) {
        return;
    }
    let Some(mut terminal) = Terminal::new(TEST, "sh -c 'echo ready; exec sleep 1000'") else { return };
    assert!(terminal.shows("ready"), "{}", terminal.shown);
    kill_process(Pid::from_child(&terminal.script), Signal::KILL).unwrap();
    terminal.script.wait().unwrap();
    until_gone(terminal.pid);
}

/// Whether tidewait, and not the shell before it, catches signals already.
fn catches(pid: u32) -> bool {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let status = read("status");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    let winch = 1 << (Signal::WINCH.as_raw() - 1);
    read("comm").starts_with("tidewait") && u64::from_str_radix(caught.trim(), 16).unwrap() & winch != 0
}

#[test]
fn ctrl_c_while_it_gets_ready_starts_nothing() {
    const TEST: &str = "ctrl_c_while_it_gets_ready_starts_nothing";
    if !can_steer(TEST) {
        return;
    }
    // On a machine that is busy with other tests it may come too late now and then.
    for _ in 0..20 {
        let Some(mut terminal) = Terminal::new(TEST, "sh -c 'trap \"\" INT; echo started; exit 5'") else {
            return;
        };
        let begin = Instant::now();
        while !catches(terminal.pid) && begin.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        terminal.types(CTRL_C);
        let (code, shown) = terminal.ended();
        if !shown.contains("started") {
            assert_eq!(code, Some(130), "{shown}");
            return;
        }
        assert!(matches!(code, Some(5 | 130)), "{code:?} {shown}");
    }
    panic!("the command was started each time");
}
