//! What is left, and what is said, without any privilege.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may fail like tests"
)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, capabilities};
use tidewait_observe::owners::{Search, holders};
use tidewait_observe::places::{PlaceError, Scope, find};
use tidewait_observe::procfs::{counters, settings};

/// Set where this program runs as nobody; the value is the name of a namespace that root made and the number of a
/// process in another.
const AS_NOBODY: &str = "TIDEWAIT_TEST_NAMESPACE";

/// A namespace, a process in another, and a copy of this program that nobody may run; all removed on drop.
struct Made {
    name: String,
    sleeper: Child,
    program: PathBuf,
    _directory: tempfile::TempDir,
}

impl Made {
    fn new() -> Made {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("test");
        // By a process beside: what this one has open for writing, forks of other tests would hold open (ETXTBSY).
        let this = std::env::current_exe().unwrap();
        assert!(Command::new("cp").arg(this).arg(&program).status().unwrap().success());
        for path in [directory.path(), &program] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let name = format!("tw-unprivileged-{}", std::process::id());
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        let sleeper = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
        let command = || std::fs::read_to_string(format!("/proc/{}/comm", sleeper.id())).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while command() != "sleep\n" {
            assert!(Instant::now() < end, "unshare did not start");
            std::thread::sleep(Duration::from_millis(2));
        }
        Made { name, sleeper, program, _directory: directory }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.sleeper.kill();
        let _ = self.sleeper.wait();
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Runs itself once more as nobody, without capabilities, and there looks at what can be seen.
#[test]
fn without_privilege_the_own_namespace_is_read_and_the_rest_is_a_limit() {
    if let Ok(name) = std::env::var(AS_NOBODY) {
        let (name, sleeper) = name.split_once(' ').unwrap();
        return as_nobody(name, sleeper);
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: making a network namespace and becoming nobody takes root");
        return;
    }
    let made = Made::new();
    let mut setpriv = Command::new("setpriv");
    setpriv.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]);
    let done = setpriv
        .arg(&made.program)
        .args([
            "--exact",
            "without_privilege_the_own_namespace_is_read_and_the_rest_is_a_limit",
            "--nocapture",
        ])
        .env(AS_NOBODY, format!("{} {}", made.name, made.sleeper.id()))
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .expect("setpriv (util-linux)");
    let output =
        format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    eprint!("{output}");
    assert!(done.status.success() && output.contains("1 passed"), "as nobody: {output}");
}

fn as_nobody(name: &str, sleeper: &str) {
    let root = Path::new("/");
    assert_eq!(capabilities(None).unwrap().effective, CapabilitySet::empty());

    let found = find(root, &Scope::All).unwrap();
    assert_eq!(found.places.len(), 1, "{found:?}");
    assert!(found.places[0].own);
    for missing in [": CAP_SYS_ADMIN missing", ": CAP_SYS_PTRACE and CAP_SYS_ADMIN missing"] {
        let limits: Vec<_> = found.limits.iter().filter(|limit| limit.why.contains(missing)).collect();
        assert_eq!(limits.len(), 1, "each reason once: {:?}", found.limits);
        assert!(limits[0].what.contains("network namespace") && limits[0].remedy.is_some(), "{limits:?}");
    }

    let one = |wanted: &str| find(root, &Scope::One(wanted.to_owned()));
    let PlaceError::NotPermitted { why, .. } = one(name).unwrap_err() else { panic!("{name}") };
    assert!(why.contains("CAP_SYS_ADMIN"), "{why}");
    let PlaceError::NotPermitted { why, .. } = one(sleeper).unwrap_err() else { panic!("{sleeper}") };
    assert!(why.contains("CAP_SYS_PTRACE"), "{why}");
    // The process that started this one belongs to root, but shows that it lives here too.
    for pid in
        [std::process::id(), rustix::process::getppid().unwrap().as_raw_nonzero().get().cast_unsigned()]
    {
        assert_eq!(one(&pid.to_string()).unwrap().places, found.places);
    }

    let (settings, limits) = found.places[0].enter(|| settings(root)).unwrap();
    assert!(settings.port_range().is_some() && limits.is_empty(), "{limits:?}");
    assert!(counters(root).0.contains_key("TcpExt.TW"));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = u32::try_from(rustix::fs::fstat(&listener).unwrap().st_ino).unwrap();
    let search = Search { wanted: HashSet::from([inode]), ..Search::default() };
    let owners = holders(root, &search);
    assert_eq!(owners.holder(inode).unwrap().0.pid, std::process::id());
    assert_eq!(owners.limits.len(), 1, "{:?}", owners.limits);
    assert!(owners.limits[0].why.contains("CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"), "{:?}", owners.limits);
    eprintln!("{:?}\n{:?}", found.limits, owners.limits);
}
