//! A command in a cgroup of its own: who is steered, for how long, and what is left.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidewait_lab::{NetNs, Policy, Server, skip};

use crate::bench::{
    TIDEWAIT, answer, can_steer, errand, exec, exec_in, keeper_of, left_of, netns, said_wrong, until,
    until_gone,
};

const PEER: &str = "127.0.0.1:8001";

fn scene(test: &str) -> Option<(NetNs, Server)> {
    if !can_steer(test) {
        return None;
    }
    let netns = netns(test)?;
    // On several processors an ACK may come to a peer that has closed already; its reset would end TIME_WAIT (RFC 1337).
    netns.set("net.ipv4.tcp_rfc1337", "1").unwrap();
    let server =
        Server::start(&netns, &[PEER.parse::<SocketAddr>().unwrap()], Policy::CloseAfterPeer).unwrap();
    Some((netns, server))
}

/// The lowest and the highest port, and the addresses.
fn plain(netns: &NetNs, options: Option<&[&str]>) -> (u16, u16, String) {
    let answer = errand(netns, options, &format!("plain 100 {PEER}"));
    let mut words = answer.split(' ');
    let mut word = || words.next().unwrap().to_owned();
    (word().parse().unwrap(), word().parse().unwrap(), word())
}

#[test]
fn ports_and_addresses_are_chosen_for_the_command_and_for_nobody_after_it() {
    let Some((netns, _server)) =
        scene("ports_and_addresses_are_chosen_for_the_command_and_for_nobody_after_it")
    else {
        return;
    };
    let (low, high, from) = plain(&netns, Some(&["--steer", "--range", "20000-20499"]));
    assert!(20_000 <= low && high < 20_500, "{low} {high}");
    assert_eq!(from, "127.0.0.1");
    let spread = ["--spread", "127.0.0.5,127.0.0.6"];
    let (low, _, from) = plain(&netns, Some(&spread));
    assert!(low >= 32_768, "{low}");
    assert_eq!(from, "127.0.0.5,127.0.0.6");
    let all = [spread.as_slice(), &["--no-port", "--steer", "--range", "21000-21499"]].concat();
    let (low, high, from) = plain(&netns, Some(&all));
    assert!(21_000 <= low && high < 21_500, "{low} {high}");
    assert_eq!(from, "127.0.0.5,127.0.0.6");
    let (low, _, from) = plain(&netns, None);
    assert!(low >= 32_768, "{low}");
    assert_eq!(from, "127.0.0.1");
}

#[test]
fn where_nobody_listens_a_connection_does_not_meet_itself() {
    let Some((netns, _server)) = scene("where_nobody_listens_a_connection_does_not_meet_itself") else {
        return;
    };
    // A port of the range, on this machine: each tenth connection would come from it.
    let made = errand(&netns, Some(&["--steer", "--range", "20000-20009"]), "vain 100 127.0.0.1:20005");
    assert_eq!(made, "0");
}

#[test]
fn time_wait_ends_early_while_the_command_runs() {
    const TEST: &str = "time_wait_ends_early_while_the_command_runs";
    let Some((netns, _server)) = scene(TEST) else { return };
    let tried = exec_in(&netns, &["--reap", "1s"], &["sh", "-c", "exit 4"]).output().unwrap();
    assert_eq!(tried.status.code(), Some(4), "{}", said_wrong(&tried));
    let said = said_wrong(&tried);
    assert!(said.contains("every outgoing connection of the network namespace"), "{said}");
    // What reap has to say comes through; that it was ended is nothing that has to be told.
    assert!(said.contains("tcp_tw_reuse") && !said.contains("ended early"), "{said}");
    let mut child = exec_in(&netns, &["--reap", "1s"], &["sh", "-c", "read line; exit 0"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    plain(&netns, None);
    let waiting = || {
        let table = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap()).unwrap();
        // State 06 is TIME_WAIT.
        table.lines().filter(|line| line.split_whitespace().nth(3) == Some("06")).count()
    };
    let begin = Instant::now();
    while waiting() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(50), "{} still wait", waiting());
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    until_gone(child.id());
}

/// Starts it, and waits for its first line.
fn started(mut command: Command) -> (Child, BufReader<ChildStdout>) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    if line != "ready\n" {
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        panic!("{line}{said}");
    }
    (child, output)
}

/// Reads until nobody is left who could write.
fn until_silent(mut output: impl std::io::Read) -> String {
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn it_stays_until_the_last_process_has_ended() {
    if !can_steer("it_stays_until_the_last_process_has_ended") {
        return;
    }
    // Of the background process standard input is not the null device, as of a shell without job control.
    let script = "exec 3<&0; (read line <&3; echo \"$line\") & echo ready; exit 3";
    let (mut child, output) = started(exec(&["--steer"], &["sh", "-c", script]));
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    errors.read_line(&mut said).unwrap();
    assert!(said.contains("has ended (exit status: 3), and 1 process goes on"), "{said}");
    assert!(child.try_wait().unwrap().is_none());
    writeln!(child.stdin.as_mut().unwrap(), "word").unwrap();
    assert_eq!(until_silent(output), "word\n");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    until_gone(child.id());
}

#[test]
fn a_signal_ends_what_goes_on_in_the_background() {
    if !can_steer("a_signal_ends_what_goes_on_in_the_background") {
        return;
    }
    let script = "exec 3<&0; (read line <&3) & echo ready; exit 3";
    let (mut child, output) = started(exec(&["--steer"], &["sh", "-c", script]));
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut String::new()).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    until_silent(output);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    until_gone(child.id());
}

#[test]
fn a_kill_takes_the_command_and_all_that_it_started_along() {
    if !can_steer("a_kill_takes_the_command_and_all_that_it_started_along") {
        return;
    }
    let script = "exec 3<&0; (read line <&3) & (sh -c 'read line' <&3) & echo ready; read line";
    let (mut child, output) = started(exec(&["--steer", "--no-port"], &["sh", "-c", script]));
    let pid = child.id();
    assert!(left_of(pid).len() >= 2, "{:?}", left_of(pid));
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    assert!(!child.wait().unwrap().success());
    // Its standard input is still open: only a kill can have ended them.
    until_silent(output);
    until_gone(pid);
}

#[test]
fn without_its_keeper_it_cleans_up_itself() {
    if !can_steer("without_its_keeper_it_cleans_up_itself") {
        return;
    }
    let (mut child, _output) = started(exec(&["--steer"], &["sh", "-c", "echo ready; read line; exit 7"]));
    let keeper = Pid::from_raw(keeper_of(child.id()).unwrap()).unwrap();
    kill_process(keeper, Signal::KILL).unwrap();
    until("without its keeper", || keeper_of(child.id()).is_none());
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(left_of(child.id()), Vec::<String>::new());
}

#[test]
fn cgroups_that_the_command_makes_go_with_it() {
    const TEST: &str = "cgroups_that_the_command_makes_go_with_it";
    if !can_steer(TEST) {
        return;
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point =
        mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let Some(point) = point else { return skip(TEST, "no cgroup v2 tree is mounted") };
    let script = "read line </dev/null; own=$1$(sed -n 's/^0:://p' /proc/self/cgroup); mkdir -p \"$own/a/b\" && \
                  echo $$ >\"$own/a/b/cgroup.procs\" && echo ready; read line; exit 5";
    for killed in [false, true] {
        let (mut child, output) = started(exec(&["--steer"], &["sh", "-c", script, "sh", point]));
        if killed {
            kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
            until_silent(output);
            child.wait().unwrap();
        } else {
            drop(child.stdin.take());
            assert_eq!(child.wait().unwrap().code(), Some(5));
        }
        until_gone(child.id());
    }
}

#[test]
fn where_no_cgroup_tree_is_mounted_one_is_for_itself_alone_and_doctor_says_so() {
    const TEST: &str = "where_no_cgroup_tree_is_mounted_one_is_for_itself_alone_and_doctor_says_so";
    if !can_steer(TEST) {
        return;
    }
    let script = format!(
        "umount -a -t cgroup2 2>/dev/null; grep -q ' - cgroup2 ' /proc/self/mountinfo && exit 99; \
         {TIDEWAIT} doctor --json && \
         exec {TIDEWAIT} exec --steer --range 20000-20999 -- sh -c 'sed -n s/^0:://p /proc/self/cgroup; exit 4'"
    );
    let Some(netns) = netns(TEST) else { return };
    let output = match netns.command("unshare").args(["--mount", "sh", "-c", &script]).output() {
        Ok(output) => output,
        Err(error) => return skip(TEST, error),
    };
    if output.status.code() == Some(99) {
        return skip(TEST, "the cgroup v2 tree cannot be unmounted");
    }
    assert_eq!(output.status.code(), Some(4), "{}", said_wrong(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("/tidewait-exec-"), "{said}");
    let doctor =
        serde_json::Deserializer::from_str(&said).into_iter::<serde_json::Value>().next().unwrap().unwrap();
    for id in ["cgroup2", "cgroup-create", "bpf-connect4", "bpf-connect6", "bpf-sock-ops"] {
        let probes = doctor["probes"].as_array().unwrap();
        let probe = probes.iter().find(|probe| probe["id"] == id).unwrap_or_else(|| panic!("{id}: {doctor}"));
        assert_eq!(probe["verdict"], "works", "{probe}");
    }
}

#[test]
fn what_cannot_be_is_said_before_anything_is_started() {
    const TEST: &str = "what_cannot_be_is_said_before_anything_is_started";
    if !can_steer(TEST) {
        return;
    }
    let cases: [(&[&str], i32, &str); 3] = [
        (&["--spread", "203.0.113.1"], 2, "--spread: 203.0.113.1 is not local"),
        (&["--steer", "--range", "20000-20999", "--spread", "2001:db8::2"], 2, "2001:db8::2 is not local"),
        (&["--steer", "--no-port"], 2, "busybox"),
    ];
    for (options, code, words) in cases {
        let program = if words == "busybox" { "busybox" } else { "sh" };
        if program == "busybox"
            && !["/bin", "/usr/bin"].iter().any(|place| std::path::Path::new(place).join(program).exists())
        {
            continue;
        }
        let output = exec(options, &[program, "-c", "echo started"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{options:?}: {}", said_wrong(&output));
        assert!(output.stdout.is_empty());
        assert!(said_wrong(&output).contains(words), "{}", said_wrong(&output));
    }
}

#[test]
fn a_report_says_what_became_of_the_command_and_of_its_connections() {
    let Some((netns, _server)) = scene("a_report_says_what_became_of_the_command_and_of_its_connections")
    else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("report.json");
    let report = ["--report", file.to_str().unwrap()];
    let read = || -> serde_json::Value {
        let value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        crate::contract::holds(&value, include_str!("../../../../docs/schema/tidewait.exec-1.json"));
        value
    };
    // Fifty ports and a hundred connections that stay.
    plain(&netns, Some(&[["--steer", "--range", "20000-20049"].as_slice(), &report].concat()));
    let told = read();
    assert_eq!((&told["exit_code"], &told["reap"]), (&0.into(), &serde_json::Value::Null), "{told}");
    let steer = &told["steer"];
    assert_eq!(
        (&steer["connects"], &steer["steered"], &steer["fell_back"]),
        (&100.into(), &50.into(), &50.into())
    );
    // What went wrong is said without being asked for, and not on standard output.
    let tried = exec_in(
        &netns,
        &[["--reap", "50s"].as_slice(), &report].concat(),
        &["sh", "-c", "echo out; kill -9 $$"],
    );
    let tried = { tried }.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tried.stdout), "out\n");
    let told = read();
    assert_eq!(
        (&told["signal"], &told["exit_code"], &told["steer"]),
        (&9.into(), &serde_json::Value::Null, &serde_json::Value::Null)
    );
    assert_eq!(told["reap"]["killed"], 0, "{told}");
    for (options, words) in [
        (["--steer", "--report", "/no/such/directory/x"].as_slice(), "/no/such/directory/x"),
        (&["--no-port", "--report", "/dev/null"], "--report needs"),
    ] {
        let refused = exec_in(&netns, options, &["sh", "-c", "echo started"]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", said_wrong(&refused));
        assert!(
            refused.stdout.is_empty() && said_wrong(&refused).contains(words),
            "{}",
            said_wrong(&refused)
        );
    }
}

#[test]
fn ports_that_run_out_are_said_without_being_asked_for() {
    let Some((netns, _server)) = scene("ports_that_run_out_are_said_without_being_asked_for") else { return };
    let client = std::env::current_exe().unwrap();
    let command = [client.to_str().unwrap(), "--exact", "client::errand", "--nocapture"];
    let run = |options: &[&str]| {
        let output = exec_in(&netns, options, &command)
            .env(crate::client::ERRAND, format!("plain 100 {PEER}"))
            .output()
            .unwrap();
        said_wrong(&output)
    };
    let said = run(&["--steer", "--range", "20000-20039"]);
    assert!(said.contains("60 of 100 connections found no free port among 40"), "{said}");
    assert!(!run(&["--steer", "--range", "21000-21999"]).contains("connections"));
    let said = run(&["--steer", "--range", "22000-22999", "-v"]);
    assert!(said.contains("100 connections were tried, 100 got their port here"), "{said}");
}

/// Makes a control group with a program at connect4, says `ready`, and takes all back at the end of its input. `alone`: the kernel
/// lets no other stand beside it (flags 0), and it lets everything pass; `turns`: it turns every connection to 127.0.0.1.
const OTHERS: &str = r#"
import ctypes, os, platform, sys
number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = libc.syscall(number, command, buffer, 128)
    if result < 0:
        sys.exit("bpf %d: %s" % (command, os.strerror(ctypes.get_errno())))
    return result
def word(value): return value.to_bytes(4, sys.byteorder)
def long(value): return value.to_bytes(8, sys.byteorder)
def step(code, registers, offset, value): return bytes([code, registers]) + offset.to_bytes(2, sys.byteorder) + word(value)
group, does = sys.argv[1:]
passes = step(0xb7, 0, 0, 1) + step(0x95, 0, 0, 0)
turns = step(0xb4, 2, 0, int.from_bytes(bytes([127, 0, 0, 1]), sys.byteorder)) + step(0x63, 0x21, 4, 0)
steps = turns + passes if does == "turns" else passes
os.mkdir(group)
try:
    instructions = ctypes.create_string_buffer(steps, len(steps))
    licence = ctypes.create_string_buffer(b"GPL")
    CONNECT4 = 10
    program = bpf(5, word(18) + word(len(steps) // 8) + long(ctypes.addressof(instructions)) + long(ctypes.addressof(licence))
        + bytes(16) + word(0) + word(0) + bytes(16) + word(0) + word(CONNECT4))
    place = os.open(group, os.O_RDONLY)
    bpf(8, word(place) + word(program) + word(CONNECT4) + word(2 if does == "turns" else 0))
    print("ready", flush=True)
    sys.stdin.read()
finally:
    os.rmdir(group)
"#;

/// A control group of the test's own, with a program of others at connect4.
struct Others {
    group: String,
    python: Child,
}

impl Others {
    fn new(test: &str, does: &str) -> Option<Others> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let tree = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let place = words.next()?;
            (words.next() == Some("cgroup2")).then_some(place)
        });
        let Some(tree) = tree else {
            skip(test, "no cgroup v2 tree is mounted");
            return None;
        };
        let group = format!("{tree}/tidewait-test-{does}-{}", std::process::id());
        let mut python = Command::new("python3");
        python.args(["-c", OTHERS, &group, does]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = match python.spawn() {
            Ok(python) => python,
            Err(error) => {
                skip(test, format!("python3: {error}"));
                return None;
            }
        };
        let mut first = String::new();
        BufReader::new(python.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        assert_eq!(first, "ready\n");
        Some(Others { group, python })
    }

    /// A command line of tidewait that is run in the group.
    fn line(&self, command: &str) -> String {
        format!("echo 0 > {}/cgroup.procs; exec {TIDEWAIT} {command}", self.group)
    }

    fn end(mut self) {
        until("the processes to leave the group", || {
            std::fs::read_to_string(format!("{}/cgroup.procs", self.group)).unwrap().is_empty()
        });
        drop(self.python.stdin.take());
        assert!(self.python.wait().unwrap().success());
        assert!(!std::path::Path::new(&self.group).exists());
    }
}

#[test]
fn beside_a_program_that_suffers_none_nothing_is_started() {
    const TEST: &str = "beside_a_program_that_suffers_none_nothing_is_started";
    if !can_steer(TEST) {
        return;
    }
    let Some(others) = Others::new(TEST, "alone") else { return };
    let below = |command: &str| Command::new("sh").args(["-c", &others.line(command)]).output().unwrap();
    let outputs = [
        below("exec --steer --range 20000-20999 -- echo started"),
        below("exec --spread 127.0.0.5 -- echo started"),
        below(&format!("steer --cgroup {} --range 20000-20999 --for 1", others.group)),
        // What needs no program goes on.
        below("exec --no-port -- echo started"),
    ];
    others.end();
    let [refused @ .., last] = &outputs;
    for output in refused {
        assert_eq!(output.status.code(), Some(1), "{}", said_wrong(output));
        assert!(said_wrong(output).contains("suffers none beside it"), "{}", said_wrong(output));
        assert!(output.stdout.is_empty());
    }
    assert!(last.status.success(), "{}", said_wrong(last));
}

#[test]
fn what_a_load_balancer_turns_elsewhere_has_the_kernels_ports_and_all_else_is_steered() {
    const TEST: &str = "what_a_load_balancer_turns_elsewhere_has_the_kernels_ports_and_all_else_is_steered";
    let Some((netns, _server)) = scene(TEST) else { return };
    let Some(others) = Others::new(TEST, "turns") else { return };
    // Thirty ports: towards the address that is asked for they are always free, and towards 127.0.0.1 soon none is.
    let run = |to: &str| {
        let mut command = netns.command("sh");
        let line = others.line("exec --steer --range 20000-20029 -- \"$@\"");
        let client = std::env::current_exe().unwrap();
        command.args(["-c", &line, "sh"]).arg(client).args(["--exact", "client::errand", "--nocapture"]);
        answer(command, &format!("plain 100 {to}:8001"))
    };
    let (balanced, direct) = (run("127.0.0.200"), run("127.0.0.1"));
    others.end();
    let lowest = |answer: &str| answer.split(' ').next().unwrap().parse::<u16>().unwrap();
    assert!(lowest(&balanced.0) >= 32_768, "{}", balanced.0);
    assert!((20_000..20_030).contains(&lowest(&direct.0)), "{}", direct.0);
    for (_, said) in [balanced, direct] {
        assert!(said.contains("load balancers"), "{said}");
    }
}
