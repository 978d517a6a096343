//! What the tests of `tune` share: a namespace, a state directory, the command, the values as they are.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tidewait_lab::NetNs;

/// The binary under test.
pub const TIDEWAIT: &str = env!("CARGO_BIN_EXE_tidewait");

/// Three settings that bound or follow each other, with the values that they are changed to.
pub const CHANGES: [(&str, &str); 3] = [
    ("net.ipv4.ip_local_reserved_ports", "20000-20001,30000"),
    ("net.ipv4.ip_local_port_range", "10240\t60999"),
    ("net.ipv4.tcp_tw_reuse", "1"),
];

/// What they are before, byte for byte.
pub const BEFORE: [&str; 3] = ["8080,9000-9009", "32768\t60999", "2"];

/// A namespace to change settings in, and a place for the journal.
pub struct Bench {
    pub netns: NetNs,
    pub state: TempDir,
}

impl Bench {
    /// A new one with the settings of [`BEFORE`].
    pub fn new() -> Bench {
        let bench = Bench { netns: NetNs::new().unwrap(), state: tempfile::tempdir().unwrap() };
        bench.reset();
        bench
    }

    /// The settings of [`BEFORE`] and no journal.
    pub fn reset(&self) {
        for ((name, _), value) in CHANGES.iter().zip(BEFORE) {
            self.netns.set(name, value).unwrap();
        }
        for entry in std::fs::read_dir(self.state.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    /// The settings, byte for byte but for the line end.
    pub fn values(&self) -> Vec<String> {
        let read = |(name, _): &(&str, &str)| {
            let path = Path::new("/proc/sys").join(name.replace('.', "/"));
            // In one read: the kernel answers a second one of a list with nothing.
            let mut bytes = vec![0; 1 << 18];
            let length = self.netns.run(|| File::open(path).unwrap().read(&mut bytes).unwrap()).unwrap();
            String::from_utf8_lossy(&bytes[..length]).trim_end_matches('\n').to_owned()
        };
        CHANGES.iter().map(read).collect()
    }

    /// `tidewait ARGS` in the namespace.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.netns.command(TIDEWAIT);
        command.args(args).env("TIDEWAIT_STATE", self.state.path()).stdin(std::process::Stdio::null());
        command
    }

    /// `tidewait tune apply` of [`CHANGES`] and `args`.
    pub fn apply(&self, args: &[&str]) -> Command {
        let mut command = self.command(&["tune", "apply"]);
        for (name, value) in CHANGES {
            command.arg("--setting").arg(format!("{name}={value}"));
        }
        command.args(args);
        command
    }

    /// Runs `tidewait tune ARGS`.
    pub fn tune(&self, args: &[&str]) -> Output {
        self.command(&[&["tune"], args].concat()).output().unwrap()
    }

    /// Waits until the settings are those of [`BEFORE`].
    pub fn wait_until_before(&self) {
        let begin = Instant::now();
        while !self.is_before() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", self.values());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills whoever waits for a confirmation here.
    pub fn kill_guards(&self) {
        while let Some(guard) = guards(self).pop() {
            // It may have ended by itself.
            let _ = kill_process(guard, Signal::KILL);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The journal as it is.
    pub fn journal(&self) -> String {
        std::fs::read_to_string(self.state.path().join("journal")).unwrap_or_default()
    }

    pub fn is_before(&self) -> bool {
        self.values() == BEFORE
    }

    pub fn is_wanted(&self) -> bool {
        self.values() == CHANGES.map(|(_, value)| value)
    }
}

/// Processes that wait for a confirmation of what was changed here.
pub fn guards(bench: &Bench) -> Vec<Pid> {
    let state = bench.state.path().to_str().unwrap();
    let mut guards = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let pid = path.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw);
        let line = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        if line.contains("\0guard\0") && line.contains(state) {
            guards.extend(pid);
        }
    }
    guards
}

/// What a command said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
