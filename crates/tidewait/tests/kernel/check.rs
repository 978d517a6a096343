//! `tidewait check` as a monitoring system runs it: codes, first lines, time-out, other users, other hosts.
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::common::{TIDEWAIT, is_root, run};
use tidewait_lab::{ChurnOptions, Host, Lab, NetNs, Path, Policy, Server, isolated, skip};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What a plugin said and how it ended. Nothing may be on stderr: no monitoring system reads it.
fn answer(output: &Output) -> (i32, String) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().unwrap(), text)
}

fn check(netns: &NetNs, args: &[&str]) -> (i32, String) {
    answer(&run(netns, &[&["check", "--for", "0.1"], args].concat()))
}

/// The value of a label in the performance data.
fn value(text: &str, label: &str) -> Option<f64> {
    let (_, data) = text.lines().next()?.split_once(" | ")?;
    let of = data.split(' ').find_map(|part| part.strip_prefix(label)?.strip_prefix('='))?;
    of.split(';').next()?.trim_end_matches(['%', 's']).parse().ok()
}

/// Two hosts, the client with 400 local ports, and a server that closes after its peer.
fn few_ports() -> (Host, Host, Server) {
    let (client, server) = Lab::new().pair().unwrap();
    client.set("net.ipv4.ip_local_port_range", "40000 40399").unwrap();
    client.set("net.ipv4.tcp_tw_reuse", "0").unwrap();
    let listening = Server::start(&server, &[address("10.77.0.2:3306")], Policy::CloseAfterPeer).unwrap();
    (client, server, listening)
}

/// Connects and closes until no port is left.
fn use_up(client: &Host, server: &Host) {
    let options = ChurnOptions {
        rate: Some(2_000),
        count: Some(450),
        duration: Duration::from_secs(20),
        ..ChurnOptions::default()
    };
    let path = Path::between(client, server).to(address("10.77.0.2:3306"));
    let churned = path.churn(options).unwrap().wait();
    assert!(churned.failures() > 0, "the range had to run out: {churned:?}");
}

#[test]
fn codes_follow_the_findings_as_ports_run_out() {
    isolated("check::codes_follow_the_findings_as_ports_run_out", || {
        let (client, server, _listening) = few_ports();
        let (code, text) = check(client.netns(), &[]);
        assert_eq!(code, 0, "{text}");
        assert!(
            text.starts_with("TIDEWAIT OK - no trouble found; there are no outgoing connections | "),
            "{text}"
        );
        use_up(&client, &server);
        let (code, text) = check(client.netns(), &["-v"]);
        assert_eq!(code, 2, "{text}");
        assert!(text.starts_with("TIDEWAIT CRITICAL - "), "{text}");
        assert!(text.contains("10.77.0.2:3306") && text.contains("[ports-exhausted]"), "{text}");
        assert!(value(&text, "port_fill").unwrap() > 95.0, "{text}");
        assert!(value(&text, "time_wait").unwrap() > 380.0, "{text}");
        assert_eq!(value(&text, "port_exhaustion"), Some(0.0), "{text}");
        let (code, text) =
            check(client.netns(), &["--ignore", "ports-exhausted", "--ignore=port-search-cliff"]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("not counted, as asked: ports-exhausted"), "{text}");
        // Nothing of it concerns another peer.
        let (code, text) = check(client.netns(), &["--to", "10.77.0.9"]);
        assert_eq!((code, value(&text, "time_wait")), (0, Some(0.0)), "{text}");
    });
}

#[test]
fn thresholds_work_as_those_of_a_time_wait_checker() {
    isolated("check::thresholds_work_as_those_of_a_time_wait_checker", || {
        let (client, server) = Lab::new().pair().unwrap();
        Path::between(&client, &server).to(address("10.77.0.2:80")).fill_time_wait(300).unwrap();
        for (args, code, words) in [
            (&["--metric", "time_wait", "-w", "30000"][..], 0, "time_wait is 300"),
            (&["--metric", "time_wait", "-w", "299"], 1, "time_wait is 300, above 299 (the count alone"),
            (&["--metric", "time_wait", "-w", "200", "-c", "@250:350"], 2, "within 250 to 350"),
            (&["--metric", "time_wait", "-c", "301:"], 2, "below 301"),
            (&["-w", "~:50"], 0, "port_fill is 1.06 %"),
            (&["-w", "0.5"], 1, "port_fill is 1.06 %, above 0.5"),
            (&["--metric", "established", "-w", "-5:"], 0, "established is 0"),
            (&["--metric-only", "-w", "0.5"], 1, "TIDEWAIT WARNING - port_fill"),
        ] {
            let (got, text) = check(client.netns(), args);
            assert_eq!(got, code, "{args:?}: {text}");
            assert!(text.contains(words), "{args:?}: {text}");
        }
        let (_, text) = check(client.netns(), &["--metric", "time_wait", "-w", "200", "-c", "400"]);
        assert!(text.contains(" time_wait=300;200;400;0 "), "{text}");
    });
}

#[test]
fn wrong_usage_is_unknown_and_said_on_stdout() {
    for (args, words) in [
        (&["-w", "80%"][..], &["'80%'", "without a unit", "@10:20"][..]),
        (&["-w", "20:10"], &["'20:10'", "ends before it begins"]),
        (&["-c"], &["--critical <RANGE>"]),
        (&["-w", "90", "-c", "80"], &["-w 90", "-c 80", "contradict"]),
        (&["--metric", "load", "-w", "1"], &["load", "port_fill", "time_wait"]),
        (&["--metric", "time_wait"], &["--metric needs a threshold", "-w"]),
        (&["--metric-only"], &["--metric-only needs a threshold"]),
        (&["--only", "no-such-finding"], &["no-such-finding", "ports-exhausted"]),
        (&["--ignore", "no-such-finding"], &["no-such-finding", "ports-exhausted"]),
        (&["--only=ports-exhausted", "--ignore=ports-exhausted"], &["contradict", "ports-exhausted"]),
        (&["-t", "0"], &["'0'", "0.1 to 3600"]),
        (&["-t", "5", "--for", "5"], &["--for 5", "-t 5"]),
        (&["--to", "db.example:3306"], &["db.example", "host names are not looked up"]),
        (&["--netns", "no-such-namespace"], &["no-such-namespace", "/run/netns"]),
        (&["--netns", "4194303999"], &["4194303999"]),
        (&["--json"], &["--json"]),
        (&["extra"], &["extra"]),
    ] {
        let output = Command::new(TIDEWAIT).arg("check").args(args).output().unwrap();
        let (code, text) = answer(&output);
        assert_eq!(code, 3, "{args:?}: {text}");
        assert!(text.starts_with("TIDEWAIT UNKNOWN - "), "{args:?}: {text}");
        for word in words {
            assert!(text.lines().next().unwrap().contains(word), "{args:?}: no '{word}' in {text}");
        }
    }
    for (args, words) in
        [(["--help"], "-w, --warning <RANGE>"), (["-V"], "0."), (["--list-metrics"], "time_wait")]
    {
        let (code, text) = answer(&Command::new(TIDEWAIT).arg("check").args(args).output().unwrap());
        assert_eq!(code, 3);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_look_that_hangs_is_left_behind_in_time() {
    const NAME: &str = "check::a_look_that_hangs_is_left_behind_in_time";
    isolated(NAME, || {
        let (client, server, _listening) = few_ports();
        // With so many in use it is looked who holds them, and with that for the names of the users.
        let path = Path::between(&client, &server).to(address("10.77.0.2:80"));
        let _held = path.hold_established(300).unwrap();
        assert_eq!(check(client.netns(), &[]).0, 0);
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("nobody-writes");
        // Opening a pipe that nobody writes to waits for ever.
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let script = "mount --bind \"$1\" /etc/passwd && exec \"$0\" check -t 1";
        let mut command = client.command("unshare");
        command.args(["--mount", "sh", "-c", script, TIDEWAIT]).arg(&fifo);
        let begin = Instant::now();
        let output = command.output().unwrap();
        let took = begin.elapsed();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("unshare") || said.contains("mount:") {
            return skip(NAME, said.trim());
        }
        let (code, text) = answer(&output);
        assert_eq!(code, 3, "{text}");
        assert!(text.starts_with("TIDEWAIT UNKNOWN - timed out after 1 s\n"), "{text}");
        assert!(took >= Duration::from_secs(1), "{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
        // And nobody is left who waits there.
        let waited_for = || rustix::fs::open(&fifo, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).is_ok();
        while waited_for() {
            assert!(begin.elapsed() < Duration::from_secs(30), "the look goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn a_user_without_privileges_is_answered_for_the_own_namespace() {
    const NAME: &str = "check::a_user_without_privileges_is_answered_for_the_own_namespace";
    if !is_root() {
        return skip(NAME, "only root can give up being root");
    }
    isolated(NAME, || {
        let (client, server, _listening) = few_ports();
        use_up(&client, &server);
        // The binary may lie where only root may go.
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let program = directory.path().join("tidewait");
        // By a process beside: what this one has open for writing, forks of other tests would hold open (ETXTBSY).
        assert!(Command::new("cp").arg(TIDEWAIT).arg(&program).status().unwrap().success());
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let nobody =
            ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
        let output =
            client.command("setpriv").args(nobody).arg(&program).args(["check", "-v"]).output().unwrap();
        let (code, text) = answer(&output);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("[ports-exhausted]"), "{text}");
        assert!(value(&text, "time_wait").unwrap() > 380.0, "{text}");
    });
}

#[test]
fn another_machine_is_not_answered_for() {
    isolated("check::another_machine_is_not_answered_for", || {
        let (client, _server) = Lab::new().pair().unwrap();
        let own_name = String::from_utf8(Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
        let own_name = own_name.trim();
        for own in ["localhost", "127.0.0.1", "::1", "[::1]", "10.77.0.1", "::ffff:10.77.0.1", own_name] {
            let (code, text) = check(client.netns(), &["-H", own]);
            assert_eq!(code, 0, "{own}: {text}");
        }
        for other in ["10.77.0.2", "[fd00:77::2]", "no-such-machine.invalid", ""] {
            let (code, text) = check(client.netns(), &["-H", other]);
            assert_eq!(code, 3, "{other}: {text}");
            assert!(text.contains(other) && text.contains("NRPE"), "{text}");
        }
    });
}

#[test]
fn a_name_server_that_is_silent_takes_no_longer_than_the_time() {
    const NAME: &str = "check::a_name_server_that_is_silent_takes_no_longer_than_the_time";
    isolated(NAME, || {
        let (client, server) = Lab::new().pair().unwrap();
        let _silent = server.run(|| UdpSocket::bind("10.77.0.2:53")).unwrap().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nameserver 10.77.0.2\noptions timeout:30 attempts:2\n").unwrap();
        let script = "mount --bind \"$1\" /etc/resolv.conf && exec \"$0\" check -t 1 -H some-machine.test";
        let begin = Instant::now();
        let output = client
            .command("unshare")
            .args(["--mount", "sh", "-c", script, TIDEWAIT])
            .arg(file.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("unshare") || said.contains("mount:") {
            return skip(NAME, said.trim());
        }
        let (code, text) = answer(&output);
        assert_eq!(code, 3, "{text}");
        assert!(text.starts_with("TIDEWAIT UNKNOWN - timed out after 1 s\n"), "{text}");
        assert!(begin.elapsed() < Duration::from_secs(20));
    });
}
