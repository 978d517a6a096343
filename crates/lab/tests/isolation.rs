//! Namespaces stay apart from the host and each other, and nothing is left, however their maker ends.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidewait_lab::{Lab, NetNs, Path, isolated, skip};

/// Names the way in which [`maker`] is to end, and the namespace to which it ties a wire.
const ENDING: &str = "TIDEWAIT_LAB_TEST_ENDING";
const TIED_TO: &str = "TIDEWAIT_LAB_TEST_TIED_TO";

#[test]
fn a_namespace_is_new_and_has_a_loopback() {
    isolated("a_namespace_is_new_and_has_a_loopback", || {
        let (here, netns) = (NetNs::current().unwrap(), NetNs::new().unwrap());
        assert_ne!(netns.inode(), here.inode());
        assert_eq!(netns.run(|| NetNs::current().unwrap().inode()).unwrap(), netns.inode());
        assert_eq!(NetNs::open(netns.path()).unwrap().inode(), netns.inode());
        assert_eq!(NetNs::current().unwrap().inode(), here.inode(), "the calling thread stayed where it was");
        let answered = netns.run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).is_ok()
        });
        assert!(answered.unwrap());
        let inode = netns.spawn(|| NetNs::current().unwrap().inode()).unwrap().join().unwrap();
        assert_eq!(inode, netns.inode());
    });
}

#[test]
fn a_command_sees_its_own_network() {
    isolated("a_command_sees_its_own_network", || {
        let netns = NetNs::new().unwrap();
        let link = netns.command("readlink").arg("/proc/self/ns/net").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&link.stdout).trim(), format!("net:[{}]", netns.inode()));
        let devices = netns.command("cat").arg("/proc/self/net/dev").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&devices.stdout).matches(':').count(), 1, "nothing but lo");
    });
}

#[test]
fn a_panic_inside_goes_on_outside() {
    isolated("a_panic_inside_goes_on_outside", || {
        let netns = NetNs::new().unwrap();
        let caught = std::panic::catch_unwind(|| netns.run(|| panic!("high tide")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"high tide"));
    });
}

#[test]
fn settings_change_inside_only() {
    isolated("settings_change_inside_only", || {
        let setting = "net.ipv4.ip_local_port_range";
        let (here, netns) = (NetNs::current().unwrap(), NetNs::new().unwrap());
        let before = here.get(setting).unwrap();
        netns.set(setting, "40000 40009").unwrap();
        assert_eq!(netns.get(setting).unwrap(), "40000\t40009");
        assert_eq!(here.get(setting).unwrap(), before);
        let refused = here.set(setting, "40000 40009").unwrap_err().to_string();
        assert!(refused.contains("only in namespaces it made itself"), "{refused}");
        assert_eq!(here.get(setting).unwrap(), before);

        for wrong in ["kernel.panic", "net.ipv4..tcp_tw_reuse", "net.ipv4.//.tcp_tw_reuse", ""] {
            assert!(netns.set(wrong, "1").unwrap_err().to_string().contains(&format!("{wrong:?}")));
        }
        let unknown = netns.get("net.ipv4.no_such_setting").unwrap_err().to_string();
        assert!(unknown.contains("net.ipv4.no_such_setting"), "{unknown}");
        let invalid = netns.set("net.ipv4.tcp_tw_reuse", "3").unwrap_err().to_string();
        assert!(invalid.contains("net.ipv4.tcp_tw_reuse = 3"), "{invalid}");
    });
}

#[test]
fn a_name_lasts_as_long_as_its_value() {
    isolated("a_name_lasts_as_long_as_its_value", || {
        let name = format!("tidewait-test-{}", std::process::id());
        let named = match NetNs::named(&name) {
            Ok(named) => named,
            Err(error) if !rustix::process::getuid().is_root() || mapped() => {
                eprintln!(
                    "SKIPPED a_name_lasts_as_long_as_its_value: names need the machine's root: {error}"
                );
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let path = format!("/run/netns/{name}");
        assert_eq!(NetNs::open(&path).unwrap().inode(), named.inode());
        assert!(NetNs::named(&name).is_err(), "the name is taken");
        assert_eq!(NetNs::open(&path).unwrap().inode(), named.inode(), "and stays with its first holder");
        drop(named);
        assert!(!std::path::Path::new(&path).exists());
        for wrong in ["", ".", "..", "a/b"] {
            assert!(NetNs::named(wrong).unwrap_err().to_string().contains(&format!("{wrong:?}")));
        }
    });
}

/// Whether root here is somebody else outside.
fn mapped() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

#[test]
fn nothing_is_left_after_a_panic_or_a_kill() {
    isolated("nothing_is_left_after_a_panic_or_a_kill", || {
        let witness = NetNs::new().unwrap();
        for ending in ["panic", "kill"] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "maker", "--ignored", "--nocapture"])
                .env(ENDING, ending)
                .env(TIED_TO, witness.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let ready = lines.map_while(Result::ok).any(|line| line.ends_with("ready"));
            assert!(ready, "the child made its network");
            if ending == "kill" {
                assert_eq!(devices(&witness), 2, "its wire ends here");
                child.kill().unwrap();
            }
            assert!(!child.wait().unwrap().success());
            // The wire goes when the namespace at its other end goes, which the kernel does in the
            // background.
            let start = Instant::now();
            while devices(&witness) != 1 {
                assert!(
                    start.elapsed() < Duration::from_secs(10),
                    "the namespace outlived its maker: {ending}"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
}

fn devices(netns: &NetNs) -> usize {
    let text = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    text.lines().count() - 2
}

/// Not a test by itself: the process that [`nothing_is_left_after_a_panic_or_a_kill`] ends.
#[test]
#[ignore = "started by another test"]
fn maker() {
    let (Some(ending), Some(tied_to)) = (std::env::var_os(ENDING), std::env::var_os(TIED_TO)) else {
        return;
    };
    let lab = Lab::new();
    let witness = lab.host_in("witness", NetNs::open(tied_to).unwrap());
    let host = lab.host("doomed").unwrap();
    lab.link(&host, "10.78.0.1/24", &witness, "10.78.0.2/24").unwrap();
    let inside = Path::within(&host).to("10.78.0.1:80".parse().unwrap());
    inside.fill_time_wait(100).unwrap();
    let _held = inside.hold_established(10).unwrap();
    println!("ready");
    assert_ne!(ending, "panic", "as asked");
    std::thread::sleep(Duration::from_secs(60));
}

/// This test binary, where anybody can reach it: the build directory may be root's alone.
struct Published(PathBuf);

impl Published {
    fn new(name: &str) -> Published {
        let directory = std::env::temp_dir().join(format!("tidewait-lab-{}-{name}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        // By a process beside: a copy that this one writes would be open for writing in whatever another test forks
        // meanwhile, and could not be run (ETXTBSY) until that has called exec.
        let copied = Command::new("cp")
            .arg(std::env::current_exe().unwrap())
            .arg(directory.join("isolation"))
            .status();
        assert!(copied.unwrap().success());
        Published(directory)
    }

    /// Has `command` run one of the tests; returns whether it passed, and what was said.
    fn run(&self, command: &mut Command) -> (bool, String) {
        let output =
            command.args(["--exact", "settings_change_inside_only", "--nocapture"]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_test_without_root_runs_in_a_user_namespace() {
    let name = "a_test_without_root_runs_in_a_user_namespace";
    if !rustix::process::getuid().is_root() || mapped() {
        return skip(name, "only the machine's root can become nobody");
    }
    let published = Published::new("nobody");
    let mut command = Command::new(published.0.join("isolation"));
    let (passed, text) = published.run(command.uid(65_534).gid(65_534));
    assert!(passed, "{text}");
    if text.contains("SKIPPED ") {
        return skip(name, "user namespaces are forbidden on this machine");
    }
    // Once in the process that asks for isolation, once in its child.
    assert_eq!(text.matches("running 1 test").count(), 2, "{text}");
}

#[test]
fn a_test_that_cannot_be_isolated_is_skipped_by_name() {
    let name = "a_test_that_cannot_be_isolated_is_skipped_by_name";
    let util_linux =
        |program| Command::new(program).arg("--version").output().is_ok_and(|run| run.status.success());
    if !(util_linux("unshare") && util_linux("setpriv")) {
        return skip(name, "needs unshare and setpriv of util-linux");
    }
    let published = Published::new("forbidden");
    // Root of a user namespace that allows no further one, which then gives up what root may do.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --bounding-set -all --inh-caps -all --securebits +noroot \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]).arg(published.0.join("isolation"));
    let (passed, text) = published.run(&mut command);
    if text.contains("unshare: unshare failed") {
        return skip(name, "user namespaces are forbidden on this machine anyway");
    }
    assert!(passed, "{text}");
    assert_eq!(text.matches("running 1 test").count(), 1, "{text}");
    assert!(text.contains("SKIPPED settings_change_inside_only: "), "{text}");
}
