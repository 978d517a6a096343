//! `tidewait steer` and `tidewait spread`, the binary: who is steered, what is refused, that nothing stays.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidewait_lab::{NetNs, skip};

use crate::common::{TIDEWAIT, failure};

mod again;

/// A cgroup that is removed in the end.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Option<Group> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?.to_owned();
        let path = PathBuf::from(mount).join(format!("tidewait-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Group(path))
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let gone = || !self.0.exists() || fs::remove_dir(&self.0).is_ok();
        assert!(within(gone) || std::thread::panicking(), "{} stays", self.0.display());
    }
}

/// A process in a network namespace and a group, killed in the end.
struct Sleeper(Child);

impl Sleeper {
    fn new(net: &NetNs, group: &std::path::Path) -> Sleeper {
        let child = Sleeper(net.command("sleep").arg("300").spawn().unwrap());
        fs::write(group.join("cgroup.procs"), child.0.id().to_string()).unwrap();
        child
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_ports_are_those_of_the_processes_below_the_group_too() {
    let net = NetNs::new().unwrap();
    let Some(group) = can_steer("below", &net) else { return };
    let (other, inner) = (NetNs::new().unwrap(), group.0.join("inner"));
    let warned = Running::start(&net, &["steer", "--cgroup", group.text(), "--for", "0.1"]);
    assert!(
        warned.begin["warnings"].to_string().contains("no process is in control group"),
        "{}",
        warned.begin
    );
    warned.end();

    fs::create_dir(&inner).unwrap();
    let below = Sleeper::new(&other, &inner);
    let process = below.0.id();
    let running = Running::start(&net, &["steer", "--cgroup", group.text(), "--for", "0.1"]);
    let named = running.begin["namespace"].as_str().unwrap().to_owned();
    assert!(named.contains(&process.to_string()), "{named} is not that of process {process}");
    assert!(!running.begin["warnings"].to_string().contains("no process"), "{}", running.begin);
    running.end();

    let beside = Sleeper::new(&net, &group.0);
    let mut command = net.command(TIDEWAIT);
    command.args(["steer", "--cgroup", group.text()]);
    let words = failure(command, 2);
    assert!(words.contains("in 2 network namespaces: choose one by --netns"), "{words}");
    drop((below, beside));
    assert!(within(|| fs::remove_dir(&inner).is_ok()));
}

/// Whether it becomes true in time, on a slow machine too.
fn within(mut what: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// `steer` or `spread` that runs, and its first line.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    begin: Value,
}

impl Running {
    fn start(net: &NetNs, arguments: &[&str]) -> Running {
        let mut child =
            net.command(TIDEWAIT).args(arguments).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let begin = line(&mut output);
        assert_eq!(begin["event"], "begin", "{arguments:?}: {begin}");
        Running { child, output, begin }
    }

    /// The next line that is so.
    fn until(&mut self, is_so: impl Fn(&Value) -> bool) -> Value {
        // A line comes each second.
        for _ in 0..120 {
            let line = line(&mut self.output);
            if is_so(&line) {
                return line;
            }
            assert_ne!(line["event"], "end", "{line}");
        }
        panic!("no such line in two minutes");
    }

    /// The last line, when it has ended.
    fn end(mut self) -> Value {
        let line = self.until(|line| line["event"] == "end");
        assert!(self.child.wait().unwrap().success());
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line, valid by the committed schema.
fn line(output: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
    crate::contract::holds(&value, include_str!("../../../../docs/schema/tidewait.steer-1.json"));
    value
}

/// A process of the group that connects `count` times to the port; the local ports.
fn ports_of(net: &NetNs, group: &Group, port: u16, count: usize) -> Vec<u16> {
    ends_of(net, group, port, count).iter().map(SocketAddr::port).collect()
}

/// The local addresses and ports.
fn ends_of(net: &NetNs, group: &Group, port: u16, count: usize) -> Vec<SocketAddr> {
    let procs = group.0.join("cgroup.procs");
    let script = format!(
        "echo $$ > {} || exit 1; i=0; while [ $i -lt {count} ]; do exec 3<>/dev/tcp/127.0.0.1/{port} || exit 2; sleep 0.01; i=$((i+1)); done",
        procs.display()
    );
    let listener = net.run(|| TcpListener::bind(("127.0.0.1", port)).unwrap()).unwrap();
    let mut child = net.command("bash").args(["-c", &script]).spawn().unwrap();
    let peers = (0..count).map(|_| listener.accept().unwrap().1).collect();
    assert!(child.wait().unwrap().success());
    peers
}

/// Whether the machine lets one steer at all; said where it does not.
fn can_steer(name: &str, net: &NetNs) -> Option<Group> {
    let Some(group) = Group::new(name) else {
        skip(name, "no cgroup v2 tree that can be written to");
        return None;
    };
    if Command::new("bash").args(["-c", "true"]).status().is_err() {
        skip(name, "no bash to connect with");
        return None;
    }
    let output = net
        .command(TIDEWAIT)
        .args(["steer", "--cgroup", group.text(), "--for", "0.1", "--json"])
        .output()
        .unwrap();
    if output.status.code() == Some(77) || !cfg!(feature = "bpf") {
        skip(name, String::from_utf8_lossy(&output.stderr));
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(group)
}

fn in_ranges(ports: &[u16], begin: &Value) -> bool {
    let ranges: Vec<(u16, u16)> = begin["ranges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|range| {
            let (low, high) = range.as_str().unwrap().split_once('-').unwrap();
            (low.parse().unwrap(), high.parse().unwrap())
        })
        .collect();
    ports.iter().all(|port| ranges.iter().any(|(low, high)| (low..=high).contains(&port)))
}

#[test]
fn a_group_is_steered_beside_the_kernels_range_and_kill_leaves_nothing() {
    const NAME: &str = "kill";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    net.set("net.ipv4.ip_local_reserved_ports", "61000-65535").unwrap();
    let mut running = Running::start(&net, &["steer", "--cgroup", group.text()]);
    assert_eq!(running.begin["ranges"], serde_json::json!(["20000-29999"]));
    let ports = ports_of(&net, &group, 81, 10);
    assert!(in_ranges(&ports, &running.begin), "{ports:?}");
    // Another one in the same namespace gets other ports, or is told who has them.
    let other = Running::start(&net, &["steer", "--cgroup", group.text()]);
    assert_eq!(other.begin["ranges"], serde_json::json!(["15000-19999"]));
    drop(other);
    let mut clash = net.command(TIDEWAIT);
    clash.args(["steer", "--cgroup", group.text(), "--range", "29000-31000"]);
    let words = failure(clash, 2);
    assert!(words.contains(&format!("by process {}", running.child.id())), "{words}");
    // kill -9
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let ports = ports_of(&net, &group, 82, 10);
    assert!(ports.iter().all(|port| *port >= 32_768), "{ports:?}");
    let again =
        Running::start(&net, &["steer", "--cgroup", group.text(), "--range", "29000-31000", "--for", "0.2"]);
    assert_eq!(again.end()["reason"], "time");
}

#[test]
fn it_ends_with_the_process_or_the_group_that_it_is_for() {
    const NAME: &str = "target-gone";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    let running = Running::start(&net, &["steer", "--cgroup", group.text()]);
    fs::remove_dir(&group.0).unwrap();
    assert_eq!(running.end()["reason"], "target_gone");
    let mut sleeper = net.command("sleep").arg("600").spawn().unwrap();
    let number = sleeper.id().to_string();
    let output =
        Command::new(TIDEWAIT).args(["steer", "--pid", &number, "--for", "0.1", "--json"]).output().unwrap();
    if !output.status.success() {
        // In a process namespace of its own numbers are not those of the kernel.
        skip(NAME, String::from_utf8_lossy(&output.stderr));
    } else {
        let running = Running::start(&net, &["steer", "--pid", &number]);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert_eq!(running.end()["reason"], "target_gone");
    }
    let _ = sleeper.kill();
    let _ = sleeper.wait();
}

#[test]
fn ports_that_are_reserved_later_are_given_no_more_until_they_are_free_again() {
    const NAME: &str = "reserved_later";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    let mut running = Running::start(&net, &["steer", "--cgroup", group.text(), "--range", "20000-20029"]);
    net.set("net.ipv4.ip_local_reserved_ports", "20000-20019").unwrap();
    running.until(|line| line["ports"] == 10);
    let ports = ports_of(&net, &group, 84, 9);
    assert!(ports.iter().all(|port| (20_020..=20_029).contains(port)), "{ports:?}");
    net.set("net.ipv4.ip_local_reserved_ports", "1").unwrap();
    // A listener takes its own out of it.
    let _listener = net.run(|| TcpListener::bind("127.0.0.1:20029").unwrap()).unwrap();
    running.until(|line| line["ports"] == 29);
    let ports = ports_of(&net, &group, 85, 25);
    assert!(ports.iter().all(|port| (20_000..=20_028).contains(port)), "{ports:?}");
}

#[test]
fn a_source_that_is_gone_is_left_out_and_comes_back() {
    const NAME: &str = "source_gone";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    let address = |what: &[&str]| {
        assert!(net.command("ip").arg("address").args(what).args(["dev", "lo"]).status().unwrap().success());
    };
    address(&["flush"]);
    for one in ["127.0.0.1/32", "127.0.0.2/32", "127.0.0.3/32"] {
        address(&["add", one]);
    }
    let mut running =
        Running::start(&net, &["spread", "--cgroup", group.text(), "--sources", "127.0.0.2,127.0.0.3"]);
    let last = |port: u16| {
        let ends = ends_of(&net, &group, port, 6);
        let mut last: Vec<String> = ends.iter().map(|end| end.ip().to_string()).collect();
        last.sort_unstable();
        last.dedup();
        last
    };
    assert_eq!(last(86), ["127.0.0.2", "127.0.0.3"]);
    address(&["del", "127.0.0.3/32"]);
    assert_eq!(last(87), ["127.0.0.2"], "at once");
    running.until(|line| line["sources_missing"] == serde_json::json!(["127.0.0.3"]));
    assert_eq!(last(88), ["127.0.0.2"]);
    address(&["del", "127.0.0.2/32"]);
    running.until(|line| line["sources_missing"] == serde_json::json!(["127.0.0.2", "127.0.0.3"]));
    assert_eq!(last(89), ["127.0.0.1"], "routing chooses");
    address(&["add", "127.0.0.3/32"]);
    running.until(|line| line["sources_missing"] == serde_json::json!(["127.0.0.2"]));
    assert_eq!(last(90), ["127.0.0.3"]);
}

#[test]
fn a_unit_is_steered_again_when_it_has_been_started_again() {
    const NAME: &str = "restart";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    let unit = group.0.join(format!("tidewait-test-{}.service", std::process::id()));
    let name = unit.file_name().unwrap().to_str().unwrap().to_owned();
    let group = Group(unit);
    fs::create_dir(&group.0).unwrap();
    let sleeper = Sleeper::new(&net, &group.0);
    let arguments = ["steer", "--unit", &name, "--range", "20000-20099"];
    let mut running = Running::start(&net, &arguments);
    assert_eq!(running.begin["target"], name.as_str());
    assert!(in_ranges(&ports_of(&net, &group, 91, 5), &running.begin));
    drop(sleeper);
    assert!(within(|| fs::remove_dir(&group.0).is_ok()));
    running.until(|line| line["event"] == "away");
    fs::create_dir(&group.0).unwrap();
    let sleeper = Sleeper::new(&net, &group.0);
    running.until(|line| line["event"] == "begin");
    assert!(in_ranges(&ports_of(&net, &group, 92, 5), &running.begin));
    // What was counted before is not lost.
    running.until(|line| line["event"] == "progress" && line["connects"] == 10 && line["steered"] == 10);
    drop(sleeper);
}

#[test]
fn a_process_that_is_moved_to_another_group_is_followed() {
    const NAME: &str = "moved";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    let Some(other) = Group::new("moved-to") else { return skip(NAME, "no group") };
    let sleeper = Sleeper::new(&net, &group.0);
    let number = sleeper.0.id().to_string();
    let tried = net.command(TIDEWAIT).args(["steer", "--pid", &number, "--for", "0.1"]).output().unwrap();
    if !tried.status.success() {
        // In a process namespace of its own numbers are not those of the kernel.
        return skip(NAME, String::from_utf8_lossy(&tried.stderr));
    }
    let mut running = Running::start(&net, &["steer", "--pid", &number]);
    fs::write(other.0.join("cgroup.procs"), &number).unwrap();
    running.until(|line| line["event"] == "begin");
    drop(sleeper);
    assert_eq!(running.end()["reason"], "target_gone");
}

#[test]
fn it_ends_when_nobody_else_keeps_the_network_namespace() {
    const NAME: &str = "namespace-gone";
    let (Ok(net), Ok(home)) = (NetNs::new(), NetNs::new()) else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    let sleeper = Sleeper::new(&net, &group.0);
    let mut running = Running::start(&home, &["steer", "--cgroup", group.text()]);
    // The process by which the namespace was found goes, and another one stays there: what changes is followed all the same.
    let other = Sleeper::new(&net, &group.0);
    drop(sleeper);
    let given = running.until(|line| line["event"] == "progress")["ports"].as_u64().unwrap();
    net.set("net.ipv4.ip_local_reserved_ports", "61000-61099").unwrap();
    running.until(|line| line["ports"] == given - 100);
    drop((other, net));
    assert_eq!(running.end()["reason"], "target_gone");
}

#[test]
fn without_the_capabilities_it_ends_with_77_and_names_them() {
    const NAME: &str = "capabilities";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let calls: [&[&str]; 3] = [
        &["steer", "--all"],
        &["spread", "--all", "--sources", "127.0.0.1"],
        &["exec", "--steer", "--", "sh", "-c", "echo started"],
    ];
    for call in calls {
        let mut command = net.command("setpriv");
        command.args(["--inh-caps=-all", "--bounding-set=-all", TIDEWAIT]).args(call);
        match command.status() {
            Err(error) => return skip(NAME, format!("setpriv: {error}")),
            Ok(status) if status.code() == Some(1) && !cfg!(feature = "bpf") => continue,
            Ok(_) => {}
        }
        let words = failure(command, 77);
        for capability in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "Without"] {
            assert!(words.contains(capability), "{call:?}: {words}");
        }
    }
}

#[test]
fn the_second_of_two_says_that_the_first_is_asked_before() {
    const NAME: &str = "two_of_one_group";
    let net = NetNs::new().unwrap();
    let Some(group) = can_steer(NAME, &net) else { return };
    let one = |range: &str| {
        Running::start(&net, &["steer", "--cgroup", group.text(), "--range", range, "--for", "600"])
    };
    let (first, second) = (one("20000-20999"), one("21000-21999"));
    let warnings = |running: &Running| running.begin["warnings"].to_string();
    assert!(!warnings(&first).contains("is asked first"), "{}", first.begin);
    assert!(warnings(&second).contains("is asked first"), "{}", second.begin);
    let ports = ports_of(&net, &group, 85, 5);
    assert!(ports[1..].iter().all(|port| (20_000..=20_999).contains(port)), "{ports:?}");
    drop(first);
    // The second has them when the first is gone.
    let ports = ports_of(&net, &group, 86, 5);
    assert!(ports[1..].iter().all(|port| (21_000..=21_999).contains(port)), "{ports:?}");
}

#[test]
fn everybody_means_those_of_the_network_namespace() {
    const NAME: &str = "all";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Ok(other) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(_group) = can_steer(NAME, &net) else { return };
    let local = |net: &NetNs| {
        net.run(|| {
            let listener = TcpListener::bind("127.0.0.1:83").unwrap();
            let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 83))).unwrap();
            drop(listener);
            stream.local_addr().unwrap().port()
        })
        .unwrap()
    };
    let running = Running::start(&net, &["steer", "--all", "--range", "20000-20999", "--for", "600"]);
    assert!((20_000..=20_999).contains(&local(&net)));
    assert!(local(&other) >= 32_768);
    drop(running);
    assert!(local(&net) >= 32_768);
}

#[test]
fn a_network_namespace_without_an_address_is_steered_all_the_same() {
    const NAME: &str = "without_an_address";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    net.command("ip").args(["address", "flush", "dev", "lo"]).status().unwrap();
    let output =
        net.command(TIDEWAIT).args(["steer", "--cgroup", group.text(), "--for", "0.1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_cannot_be_is_refused_with_what_helps() {
    const NAME: &str = "refused";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    let refused = |arguments: &[&str]| {
        let mut command = net.command(TIDEWAIT);
        command.args(arguments);
        failure(command, 2)
    };
    let words = refused(&["spread", "--cgroup", group.text(), "--sources", "10.1.2.3"]);
    assert!(words.contains("10.1.2.3 is not local") && words.contains("ip address add"), "{words}");
    let words = refused(&["spread", "--cgroup", group.text(), "--sources", "127.0.0.1,10.1.2.3"]);
    assert!(words.contains("loopback addresses reach this machine alone"), "{words}");
    net.command("ip").args(["address", "add", "10.9.8.1/24", "dev", "lo"]).status().unwrap();
    let words = refused(&["spread", "--cgroup", group.text(), "--sources", "10.9.8.1,10.9.8.255"]);
    assert!(words.contains("10.9.8.255 is the broadcast address"), "{words}");
    let words = refused(&["steer", "--cgroup", "/no/such/group"]);
    assert!(words.contains("/no/such/group") && words.contains("/proc/PID/cgroup"), "{words}");
    let words = refused(&["steer", "--unit", "no-such-unit"]);
    assert!(words.contains("no-such-unit.service"), "{words}");
    let words = refused(&["steer", "--pid", "4194304"]);
    assert!(words.contains("4194304"), "{words}");
    let words = refused(&["steer", "--cgroup", group.text(), "--range", "80-90"]);
    assert!(words.contains("ip_unprivileged_port_start"), "{words}");
    net.set("net.ipv4.ip_local_port_range", "1024 65535").unwrap();
    let words = refused(&["steer", "--cgroup", group.text()]);
    assert!(words.contains("1024-65535") && words.contains("--range kernel"), "{words}");
    let output = net
        .command(TIDEWAIT)
        .args(["steer", "--cgroup", group.text(), "--range", "kernel", "--for", "0.1"])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && words.contains("100 %"), "{words}");
}
