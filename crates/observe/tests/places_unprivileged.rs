//! What is left, and what is said, without any privilege.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may fail like tests"
)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::thread::{CapabilitySet, capabilities};
use tidewait_observe::owners::holders;
use tidewait_observe::places::{PlaceError, Scope, find};
use tidewait_observe::procfs::{counters, settings};

/// Set where this program runs as nobody; the value is a namespace that root made.
const AS_NOBODY: &str = "TIDEWAIT_TEST_NAMESPACE";

/// A namespace and a copy of this program that nobody may run; both removed on drop.
struct Made {
    name: String,
    program: PathBuf,
    _directory: tempfile::TempDir,
}

impl Made {
    fn new() -> Made {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        for path in [directory.path(), &program] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let name = format!("tw-unprivileged-{}", std::process::id());
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        Made { name, program, _directory: directory }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Runs itself once more as nobody, without capabilities, and there looks at what can be seen.
#[test]
fn without_privilege_the_own_namespace_is_read_and_the_rest_is_a_limit() {
    if let Ok(name) = std::env::var(AS_NOBODY) {
        return as_nobody(&name);
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
        .env(AS_NOBODY, &made.name)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .expect("setpriv (util-linux)");
    let output =
        format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    eprint!("{output}");
    assert!(done.status.success() && output.contains("1 passed"), "as nobody: {output}");
}

fn as_nobody(name: &str) {
    let root = Path::new("/");
    assert_eq!(capabilities(None).unwrap().effective, CapabilitySet::empty());

    let found = find(root, &Scope::All).unwrap();
    assert_eq!(found.places.len(), 1, "{found:?}");
    assert!(found.places[0].own);
    let refused = |what: &str, missing: &str| {
        found
            .limits
            .iter()
            .any(|limit| limit.what.contains(what) && limit.why.contains(missing) && limit.remedy.is_some())
    };
    assert!(refused("network namespace", "CAP_SYS_ADMIN missing"), "{:?}", found.limits);
    assert!(refused("process", "CAP_SYS_PTRACE missing"), "{:?}", found.limits);
    assert_eq!(found.limits.len(), 2, "each reason once: {:?}", found.limits);

    let one = |wanted: &str| find(root, &Scope::One(wanted.to_owned()));
    let PlaceError::NotPermitted { why, .. } = one(name).unwrap_err() else { panic!("{name}") };
    assert!(why.contains("CAP_SYS_ADMIN"), "{why}");
    let PlaceError::NotPermitted { why, .. } = one("1").unwrap_err() else { panic!("1") };
    assert!(why.contains("CAP_SYS_PTRACE"), "{why}");
    assert!(one(&std::process::id().to_string()).unwrap().places[0].own);

    let (settings, limits) = found.places[0].enter(|| settings(root)).unwrap();
    assert!(settings.port_range().is_some() && limits.is_empty(), "{limits:?}");
    assert!(counters(root).0.contains_key("TcpExt.TW"));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = u32::try_from(rustix::fs::fstat(&listener).unwrap().st_ino).unwrap();
    let owners = holders(root, &HashSet::from([inode]));
    assert_eq!(owners.holder(inode).unwrap().0.pid, std::process::id());
    assert_eq!(owners.limits.len(), 1, "{:?}", owners.limits);
    assert!(owners.limits[0].why.contains("CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE"), "{:?}", owners.limits);
    eprintln!("{:?}\n{:?}", found.limits, owners.limits);
}
