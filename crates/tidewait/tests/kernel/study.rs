//! `tidewait study` on a namespace of its own: one object at the end, a memory beside it, nothing left when it is killed.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidewait_lab::{Lab, NetNs, Path, isolated, skip};

const PATIENCE: Duration = Duration::from_secs(20);

fn study(netns: &NetNs, state: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = netns.command(env!("CARGO_BIN_EXE_tidewait"));
    command.arg("study").args(arguments).arg("--state").arg(state);
    command.stdin(Stdio::null());
    command
}

/// What keeps it from working here, as it says itself.
fn obstacle(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr).into_owned();
    text.contains("cannot be seen").then_some(text)
}

#[test]
fn a_quiet_namespace_is_studied_and_remembered() {
    let name = "study::a_quiet_namespace_is_studied_and_remembered";
    isolated(name, || {
        let netns = NetNs::new().unwrap();
        let state = tempfile::tempdir().unwrap();
        let out = study(&netns, state.path(), &["--json", "--for", "0.3"]).output().unwrap();
        if let Some(why) = obstacle(&out.stderr) {
            return skip(name, why);
        }
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(told["schema"], "tidewait.study/1");
        assert_eq!(
            (&told["total"]["segments"], &told["total"]["sockets"]),
            (&0.into(), &0.into()),
            "{told:#}"
        );
        let text = std::fs::read_to_string(state.path().join("study.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["schema"], "tidewait.study-memory/1");
        // What is no memory is named before anything is watched, and left alone.
        std::fs::write(state.path().join("study.json"), "[]").unwrap();
        let out = study(&netns, state.path(), &["--for", "3600"]).output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains("study.json is damaged"), "{out:?}");
        let out = study(&netns, state.path(), &["--for", "0.1", "--no-memory"]).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        assert_eq!(std::fs::read_to_string(state.path().join("study.json")).unwrap(), "[]");
    });
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    let name = "study::nothing_is_left_when_it_is_killed";
    isolated(name, || {
        let netns = NetNs::new().unwrap();
        let state = tempfile::tempdir().unwrap();
        let out = study(&netns, state.path(), &["--for", "0.1"]).output().unwrap();
        if let Some(why) = obstacle(&out.stderr) {
            return skip(name, why);
        }
        let mut child = study(&netns, state.path(), &[]).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let programs = loop {
            // A link keeps its program: `prog_id` of every link that the process holds.
            let programs = programs_of(child.id());
            if !programs.is_empty() {
                break programs;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing is attached");
            sleep(Duration::from_millis(20));
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(programs_of(std::process::id()).is_empty());
        // The numbers of programs are given once; an open one would still be told by its number.
        let begun = Instant::now();
        for program in programs {
            while Command::new("bpftool")
                .args(["prog", "show", "id", &program])
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
            {
                assert!(begun.elapsed() < PATIENCE, "program {program} is still there");
                sleep(Duration::from_millis(20));
            }
        }
    });
}

/// Waits until a study holds programs at so many places; `None` where it cannot watch here.
fn at_work(child: &mut std::process::Child, places: usize) -> Option<()> {
    let begun = Instant::now();
    loop {
        let held = links_of(child.id());
        if held.iter().filter(|interface| interface.as_str() != "0").count() >= places {
            return Some(());
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(begun.elapsed() < PATIENCE, "attached at {held:?}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_ends_with_its_namespace() {
    let name = "study::it_ends_with_its_namespace";
    isolated(name, || {
        let called = format!("tidewait-study-{}", std::process::id());
        let netns = NetNs::named(&called).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidewait"))
            .args(["study", "--json", "--no-memory", "--netns", &called])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let watched = at_work(&mut child, 1);
        // It looks at the sockets once before it begins to wait.
        sleep(Duration::from_secs(2));
        drop(netns);
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("it watches a namespace that is gone");
            }
            sleep(Duration::from_millis(20));
        }
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        if watched.is_none() {
            return skip(name, said);
        }
        assert!(out.status.success() && said.contains("is gone"), "{said}");
        assert_eq!(serde_json::from_slice::<Value>(&out.stdout).unwrap()["schema"], "tidewait.study/1");
    });
}

#[test]
fn an_interface_with_the_number_of_one_that_is_gone_is_watched() {
    let name = "study::an_interface_with_the_number_of_one_that_is_gone_is_watched";
    isolated(name, || {
        let netns = NetNs::new().unwrap();
        let ip = |words: &str| {
            netns.command("ip").args(words.split(' ')).status().is_ok_and(|status| status.success())
        };
        let appear = || ip("link add one index 77 type veth peer name two index 78") && ip("link set one up");
        if !appear() {
            return skip(name, "no `ip` that makes interfaces");
        }
        let state = tempfile::tempdir().unwrap();
        let mut child = study(&netns, state.path(), &["--method", "tc", "--no-memory"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if at_work(&mut child, 2).is_none() {
            return skip(name, "no tc here");
        }
        // Between two looks.
        assert!(ip("link del one") && appear());
        let watched = at_work(&mut child, 2);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(watched.is_some());
    });
}

#[test]
fn a_namespace_that_ends_at_its_start_is_told_of_as_such() {
    let name = "study::a_namespace_that_ends_at_its_start_is_told_of_as_such";
    isolated(name, || {
        let mut met = 0;
        // Later and later, until it comes to watch: somewhere between it ends while things are set up.
        for step in 0..13 {
            let called = format!("tidewait-study-{}-{step}", std::process::id());
            let netns = NetNs::named(&called).unwrap();
            let mut child = Command::new(env!("CARGO_BIN_EXE_tidewait"))
                .args(["study", "--json", "--no-memory", "--for", "1", "--netns", &called])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            sleep(Duration::from_millis((1 << step) - 1));
            let at_work = !links_of(child.id()).is_empty();
            drop(netns);
            if at_work {
                child.kill().unwrap();
                child.wait().unwrap();
                break;
            }
            let out = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            if out.status.code() == Some(77) || said.contains("built without") {
                return skip(name, said);
            }
            // It may have come to watch all the same.
            let words = [
                "no network namespace is called",
                "is not a network namespace",
                "is gone",
                "has ended before",
            ];
            assert!(
                out.status.success() || words.iter().any(|words| said.contains(words)),
                "after {} ms: {}: {said}",
                (1 << step) - 1,
                out.status
            );
            met += u32::from(!out.status.success());
        }
        assert!(met > 0, "it is set up within no time");
    });
}

/// Interrupts a study; what it has printed.
fn ended(child: std::process::Child) -> Value {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn of_a_sample_a_part_of_the_connections_is_watched() {
    let name = "study::of_a_sample_a_part_of_the_connections_is_watched";
    isolated(name, || {
        let (client, server) = Lab::new().pair().unwrap();
        let state = tempfile::tempdir().unwrap();
        let start = |sample: &str| {
            let mut child = study(&client, state.path(), &["--json", "--no-memory", "--sample", sample]);
            let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            at_work(&mut child, 1).map(|()| child)
        };
        let (Some(all), Some(some)) = (start("1"), start("4")) else {
            return skip(name, "nothing can be watched here");
        };
        let to: SocketAddr = "10.77.0.2:443".parse().unwrap();
        Path::between(&client, &server).to(to).fill_time_wait(400).unwrap();
        // Ages are counted in ticks: a socket that is younger than a few is none yet.
        sleep(Duration::from_millis(100));
        let (all, some) = (ended(all), ended(some));
        assert_eq!((&all["sample"], &some["sample"]), (&1.into(), &4.into()));
        assert_eq!(all["total"]["sockets"], 400);
        // A hundred are expected, and the spread of such a choice is nine.
        let watched = some["total"]["sockets"].as_u64().unwrap();
        assert!((40..=160).contains(&watched), "{watched}");
        let out = study(&client, state.path(), &["--for", "0.1", "--sample", "4"]).output().unwrap();
        assert!(String::from_utf8_lossy(&out.stdout).contains("one connection in 4"), "{out:?}");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains(&format!("reap` with --state-dir {}", state.path().display())), "{said}");
    });
}

#[test]
fn somebody_elses_program_at_the_same_interface_stays_and_runs() {
    let name = "study::somebody_elses_program_at_the_same_interface_stays_and_runs";
    isolated(name, || {
        let (client, server) = Lab::new().pair().unwrap();
        let tc = |words: &str| server.command("tc").args(words.split(' ')).output();
        // Drops what goes to port 9 by TCP over IPv4, and passes on all else.
        let program = "4,40 0 0 36,21 0 1 9,6 0 0 2,6 0 0 4294967295";
        let added = tc("qdisc add dev eth0 clsact").and_then(|_| {
            let words = "filter add dev eth0 ingress bpf da bytecode";
            server.command("tc").args(words.split(' ')).arg(program).output()
        });
        if !added.as_ref().is_ok_and(|output| output.status.success()) {
            return skip(name, format!("no `tc` that attaches a program: {added:?}"));
        }
        let meets = |port: u16| {
            let to = SocketAddr::from(([10, 77, 0, 2], port));
            let connect = || TcpStream::connect_timeout(&to, Duration::from_millis(500)).map(drop);
            client.run(connect).unwrap().map_err(|error| error.kind())
        };
        let as_before = |when: &str| {
            assert_eq!(meets(9), Err(ErrorKind::TimedOut), "{when}: it is dropped");
            assert_eq!(meets(10), Err(ErrorKind::ConnectionRefused), "{when}: it is passed on");
        };
        as_before("before");
        let state = tempfile::tempdir().unwrap();
        let mut child = study(&server, state.path(), &["--json", "--no-memory", "--method", "tc"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if at_work(&mut child, 1).is_none() {
            let out = child.wait_with_output().unwrap();
            return skip(name, String::from_utf8_lossy(&out.stderr));
        }
        as_before("meanwhile");
        let told = ended(child);
        assert!(told["segments_looked_at"].as_u64().unwrap() >= 2, "{told:#}");
        as_before("afterwards");
        let left = String::from_utf8(tc("filter show dev eth0 ingress").unwrap().stdout).unwrap();
        assert!(left.contains(program), "{left}");
    });
}

/// Numbers of the interfaces that the links of a process are at; 0 where it is gone; empty for other links.
fn links_of(pid: u32) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts
        .filter(|text| text.contains("link_type:"))
        .map(|text| {
            let number = text.lines().find_map(|line| line.strip_prefix("ifindex:"));
            number.unwrap_or_default().trim().to_owned()
        })
        .collect()
}

fn programs_of(pid: u32) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts
        .filter(|text| text.contains("link_type:"))
        .filter_map(|text| {
            let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"))?;
            Some(id.trim().to_owned())
        })
        .collect()
}
