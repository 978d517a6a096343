//! The guard where systemd runs the machine: a unit of its own, which outlives its own death.
//!
//! A systemd of its own runs in namespaces of its own, below a cgroup of its own, with no unit but empty targets: it starts
//! nothing and sets nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bench::{TIDEWAIT, said};

const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// Prepares the machine and becomes its process 1. $1: a cgroup to be in, $2: a directory of units.
const INIT: &str = "echo 0 >\"$1\"/cgroup.procs && exec unshare --cgroup --mount --pid --fork --mount-proc --uts --ipc --net sh -c '\
    mount -t tmpfs none /run && umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && \
    export container=lab SYSTEMD_UNIT_PATH=\"$1\" && \
    exec /usr/lib/systemd/systemd --system --unit=basic.target --log-target=null --show-status=no' sh \"$2\"";

struct Machine {
    init: Child,
    cgroup: PathBuf,
    /// The process number of its process 1, outside.
    first: String,
    units: TempDir,
}

impl Machine {
    /// `None`, with a word, where it cannot be.
    fn start(test: &str) -> Option<Machine> {
        let skip = |reason: &str| {
            println!("SKIPPED {test}: {reason}");
            None
        };
        if !Path::new(SYSTEMD).exists() {
            return skip("needs systemd");
        }
        let Some(unified) = unified() else { return skip("needs a cgroup v2 tree") };
        let cgroup = unified.join(format!("tidewait-test-{}-{test}", std::process::id()));
        if fs::create_dir(&cgroup).is_err() {
            return skip("needs a cgroup v2 tree that can be written");
        }
        let units = tempfile::tempdir().unwrap();
        for target in ["basic", "sysinit", "shutdown", "sockets", "timers", "paths", "slices", "multi-user"] {
            let text = "[Unit]\nDescription=Nothing\nDefaultDependencies=no\n";
            fs::write(units.path().join(format!("{target}.target")), text).unwrap();
        }
        let init = Command::new("sh")
            .args(["-c", INIT, "sh"])
            .args([&cgroup, units.path()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut machine = Machine { init, cgroup, first: String::new(), units };
        let begin = Instant::now();
        loop {
            let parent = machine.init.id();
            let children =
                fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            if let Some(first) = children.split_whitespace().next() {
                machine.first = first.to_owned();
                let running = machine.run(&["systemctl", "is-system-running"]);
                if matches!(String::from_utf8_lossy(&running.stdout).trim(), "running" | "degraded") {
                    return Some(machine);
                }
            }
            if begin.elapsed() > Duration::from_secs(20) || machine.init.try_wait().unwrap().is_some() {
                return skip("systemd does not start in a container here");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a command in the machine.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first, "-a", "env", "TIDEWAIT_STATE=/run/state"]);
        command.args(args).stdin(Stdio::null()).output().unwrap()
    }

    fn reuse(&self) -> String {
        let output = self.run(&["cat", "/proc/sys/net/ipv4/tcp_tw_reuse"]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn wait_for_reuse(&self, value: &str) {
        let begin = Instant::now();
        while self.reuse() != value {
            assert!(begin.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn guards(&self) -> String {
        let list = ["systemctl", "list-units", "--plain", "--no-legend", "tidewait-guard-*"];
        String::from_utf8_lossy(&self.run(&list).stdout).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its process 1, and with it everything.
        let _ = Command::new("kill").args(["-9", &self.first]).stderr(Stdio::null()).status();
        let _ = self.init.kill();
        let _ = self.init.wait();
        for _ in 0..50 {
            remove_below(&self.cgroup);
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.units.path();
    }
}

/// Where the cgroup v2 tree is mounted.
fn unified() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(PathBuf::from(line.split(' ').nth(1)?))
}

fn remove_below(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_below(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[test]
fn under_systemd_the_guard_is_a_unit_that_is_started_again_when_it_is_killed() {
    let Some(machine) = Machine::start("under_systemd_the_guard_is_a_unit") else { return };
    let before = machine.reuse();
    let wanted = if before == "1" { "0" } else { "1" };
    let setting = format!("net.ipv4.tcp_tw_reuse={wanted}");
    let apply = |within: &str| {
        let output = machine.run(&[TIDEWAIT, "tune", "apply", "-s", &setting, "--confirm-within", within]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(machine.reuse(), wanted);
    };
    // Killed, it comes back and undoes the change in its time.
    apply("3s");
    let guards = machine.guards();
    assert!(guards.contains("tidewait-guard-1-"), "{guards}");
    let kill = machine.run(&["systemctl", "kill", "--signal=KILL", "tidewait-guard-1-*"]);
    assert!(kill.status.success(), "{}", said(&kill));
    assert_eq!(machine.reuse(), wanted);
    machine.wait_for_reuse(&before);
    let history = machine.run(&[TIDEWAIT, "tune", "history"]);
    let page = String::from_utf8_lossy(&history.stdout).into_owned();
    assert!(page.contains("because nobody confirmed it in time"), "{page}");
    // Confirmed, it goes.
    apply("60s");
    assert!(machine.run(&[TIDEWAIT, "tune", "confirm"]).status.success());
    let begin = Instant::now();
    while !machine.guards().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", machine.guards());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(machine.reuse(), wanted);
}
