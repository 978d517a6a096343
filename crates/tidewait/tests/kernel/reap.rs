//! `tidewait reap` on the running kernel: what goes, what stays, and what is said of it.
mod live;
mod stage;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tidewait_lab::{ChurnOptions, Lab, NetNs, Path, Policy, Server, Side, isolated, scaled, skip};

use crate::common::{TIDEWAIT, failure, is_root};
use stage::{FIRST, Running, SECOND, address, end, ends_time_wait, joined, lines, until, valid, waiting};

#[test]
fn only_what_was_selected_and_old_enough_goes() {
    joined("reap::only_what_was_selected_and_old_enough_goes", |client, server| {
        let path = |to: &str| Path::between(client, server).to(address(to));
        path(FIRST).fill_time_wait(200).unwrap();
        path(SECOND).fill_time_wait(100).unwrap();
        path("10.77.0.2:3308").fill_time_wait(10).unwrap();
        // Longer than two runs take to begin on an emulated machine.
        sleep(Duration::from_millis(5_100));
        path(FIRST).fill_time_wait(30).unwrap();

        let dry = end(client, &["--older-than", "5s", "--to", FIRST, "--dry-run"]);
        assert_eq!((dry["killed"].as_u64(), waiting(client)), (Some(200), 340));

        let told = end(client, &["--older-than", "5s", "--to", FIRST, "--once"]);
        assert_eq!((told["killed"].as_u64(), told["reason"].as_str()), (Some(200), Some("once")));
        assert_eq!(told["destinations"][0]["destination"], format!("10.77.0.1 -> {FIRST}"));
        assert_eq!(told["destinations"][0]["waiting"], 30);
        assert_eq!(waiting(client), 140);

        // By port and by this end; another source address has none.
        assert_eq!(end(client, &["--older-than", "5s", "--from", "10.77.0.9", "--once"])["killed"], 0);
        assert_eq!(end(client, &["--older-than", "5s", "--port", "3308", "--once"])["killed"], 10);
        assert_eq!(
            end(client, &["--older-than", "5s", "--from", "10.77.0.1", "--port", "3307", "--once"])["killed"],
            100
        );
        assert_eq!(waiting(client), 30);
    });
}

#[test]
fn what_is_not_in_time_wait_stays_unless_it_is_named() {
    joined("reap::what_is_not_in_time_wait_stays_unless_it_is_named", |client, server| {
        let path = |to: &str| Path::between(client, server).to(address(to));
        let open = path("10.77.0.2:1").hold_established(5).unwrap();
        let orphans = path("10.77.0.2:2").orphan_fin_wait2(6).unwrap();
        let leaked = path("10.77.0.2:3").leak_close_wait(Side::Client, 7).unwrap();
        path(FIRST).fill_time_wait(20).unwrap();
        // The server's side of the sockets that are to be told apart: it opened none of them.
        let served = end(server, &["--older-than", "1s", "--once"]);
        assert_eq!(served["killed"], 0);
        sleep(Duration::from_millis(1_100));
        assert_eq!(end(client, &["--older-than", "1s", "--once"])["killed"], 20);
        let states = |netns: &NetNs| {
            let report = crate::common::report(netns, &["--owners=never"]);
            let of = |state: &str| crate::common::only(&report)["states"][state].as_u64().unwrap();
            [of("established"), of("fin_wait2"), of("close_wait"), of("time_wait")]
        };
        assert_eq!(states(client), [5, 6, 7, 0]);

        // There is nobody to ask.
        let mut command = client.command(TIDEWAIT);
        command.args(["reap", "--older-than", "1s", "--state", "close-wait", "--once"]).stdin(Stdio::null());
        let words = failure(command, 2);
        assert!(words.contains("file descriptor stays") && words.contains("--yes"), "{words}");
        assert_eq!(states(client), [5, 6, 7, 0]);

        let named = ["--older-than", "1s", "--yes", "--once", "--state"];
        assert_eq!(end(client, &[&named[..], &["close-wait"]].concat())["killed"], 7);
        assert_eq!(states(client), [5, 6, 0, 0]);
        assert_eq!(end(client, &[&named[..], &["fin-wait2"]].concat())["killed"], 6);
        assert_eq!(states(client), [5, 0, 0, 0]);
        drop((open, orphans, leaked));
    });
}

#[test]
fn an_interrupt_is_an_answer_to_the_question() {
    const TEST: &str = "reap::an_interrupt_is_an_answer_to_the_question";
    let has_script = Command::new("script").arg("--version").output().is_ok();
    if !has_script || !is_root() || !cfg!(feature = "act") {
        return skip(TEST, "it takes root, script of util-linux for a terminal, and the feature `act`");
    }
    let netns = NetNs::new().unwrap();
    let asks = format!("{TIDEWAIT} reap --older-than 1s --state close-wait --once");
    let mut command = netns.command("script");
    command.args(["-qec", &asks, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = Vec::new();
    let mut output = child.stdout.take().unwrap();
    while !String::from_utf8_lossy(&said).contains("[y/N]") {
        let mut byte = [0];
        assert_eq!(output.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.extend(byte);
    }
    // Ctrl-C, as the terminal gets it.
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(30) {
            // With its terminal the program ends, too.
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the question goes on after Ctrl-C");
        }
        sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(128 + Signal::INT.as_raw()), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn what_came_in_stays_unless_it_is_wanted_and_other_namespaces_are_not_touched() {
    joined(
        "reap::what_came_in_stays_unless_it_is_wanted_and_other_namespaces_are_not_touched",
        |client, server| {
            // A server that closes first keeps the TIME_WAIT, on a port of the automatic range at that.
            let service = address("10.77.0.2:40000");
            let _server = Server::start(server, &[service], Policy::CloseFirst).unwrap();
            let options = ChurnOptions {
                rate: None,
                count: Some(40),
                closer: tidewait_lab::Closer::Server,
                ..ChurnOptions::default()
            };
            let made = Path::between(client, server).to(service).churn(options).unwrap().wait();
            assert_eq!(made.made, 40);
            until("the server's TIME_WAIT", || waiting(server) == 40);
            Path::between(client, server).to(address(FIRST)).fill_time_wait(5).unwrap();
            sleep(Duration::from_millis(1_100));
            assert_eq!(end(server, &["--older-than", "1s", "--once"])["killed"], 0);
            let told = end(server, &["--older-than", "1s", "--incoming", "--once"]);
            assert_eq!(told["killed"], 40);
            assert_eq!(told["destinations"][0]["destination"], format!("incoming to {service}"));
            assert_eq!((waiting(server), waiting(client)), (0, 5));
        },
    );
}

#[test]
fn both_families_and_the_mix_of_them_go() {
    const TEST: &str = "reap::both_families_and_the_mix_of_them_go";
    isolated(TEST, || {
        let (client, server) = Lab::new().pair().unwrap();
        if !ends_time_wait(TEST, client.netns(), server.netns()) {
            return;
        }
        client.add_address("fd77::1/64").unwrap();
        let (client, server) = (client.netns(), client.netns());
        let path = |to: &str| Path::between(client, server).to(address(to));
        path("[fd77::1]:80").fill_time_wait(11).unwrap();
        path("[::ffff:10.77.0.1]:81").fill_time_wait(12).unwrap();
        path("10.77.0.1:82").fill_time_wait(13).unwrap();
        sleep(Duration::from_millis(1_100));
        let told = end(client, &["--older-than", "1s", "--to", "[fd77::1]:80", "--once"]);
        assert_eq!((told["killed"].as_u64(), waiting(client)), (Some(11), 25));
        // An IPv4 address means the sockets that speak IPv4 through IPv6, too.
        let told = end(client, &["--older-than", "1s", "--to", "10.77.0.1:81", "--once"]);
        assert_eq!((told["killed"].as_u64(), waiting(client)), (Some(12), 13));
        assert_eq!(told["destinations"][0]["destination"], "10.77.0.1 -> 10.77.0.1:81");
        assert_eq!(end(client, &["--older-than", "1s", "--once"])["killed"], 13);
    });
}

#[test]
fn a_run_follows_the_timers_and_stops_cleanly() {
    joined("reap::a_run_follows_the_timers_and_stops_cleanly", |client, server| {
        let path = Path::between(client, server).to(address(FIRST));
        path.fill_time_wait(50).unwrap();
        let running = Running::start(client, &["--older-than", "2s"]);
        until("the first ones to go", || waiting(client) == 0);
        // Born after the first look.
        path.fill_time_wait(20).unwrap();
        until("the later ones to go", || waiting(client) == 0);
        let told = running.stop(Signal::TERM);
        assert_eq!((told["killed"].as_u64(), told["reason"].as_str()), (Some(70), Some("signal")));
        // Looks follow the timers: one every two seconds, not one every moment.
        let most = told["seconds"].as_f64().unwrap() / 2.0 + 2.0;
        assert!(told["looks"].as_f64().unwrap() <= most, "{told}");

        // Killed outright, it leaves nothing behind: what is there afterwards stays.
        let mut running = Running::start(client, &["--older-than", "2s"]);
        assert_eq!(running.next()["event"], "begin");
        drop(running);
        path.fill_time_wait(10).unwrap();
        sleep(Duration::from_millis(2_300));
        assert_eq!(waiting(client), 10);
    });
}

#[test]
fn what_would_do_nothing_or_less_than_was_meant_is_refused() {
    joined("reap::what_would_do_nothing_or_less_than_was_meant_is_refused", |client, _| {
        let nowhere = tempfile::tempdir().unwrap();
        let nowhere = nowhere.path().to_str().unwrap();
        for (arguments, words) in [
            (["--older-than", "60s", "--floor", "1"], "TIME_WAIT lasts 60 s here"),
            (["--older-than", "10s", "--state-dir", nowhere], "no study is kept there"),
        ] {
            let output =
                client.command(TIDEWAIT).args(["reap", "--dry-run"]).args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(words), "{said}");
        }
    });
}

#[test]
fn two_at_once_are_harmless() {
    joined("reap::two_at_once_are_harmless", |client, server| {
        let count = scaled(5_000);
        Path::between(client, server).to(address(FIRST)).fill_time_wait(count).unwrap();
        let both = [
            Running::start(client, &["--older-than", "2s"]),
            Running::start(client, &["--older-than", "2s"]),
        ];
        until("all of them to go", || waiting(client) == 0);
        // The last batch may be told of a moment later.
        sleep(Duration::from_millis(200));
        let told = both.map(|running| running.stop(Signal::INT));
        let killed: u64 = told.iter().map(|end| end["killed"].as_u64().unwrap()).sum();
        // The kernel may say yes to both when they hit one socket at the same moment (`tcp_abort`).
        assert!((count..=2 * count).contains(&killed), "{told:?}");
        assert!(told.iter().all(|end| end["refused"] == 0), "{told:?}");
    });
}

#[test]
fn a_port_that_was_taken_anew_is_left_to_its_new_connection() {
    joined("reap::a_port_that_was_taken_anew_is_left_to_its_new_connection", |client, server| {
        // One port, so that the new connection has the same four numbers; tcp_tw_reuse lets it take the old one's place.
        client.set("net.ipv4.ip_local_port_range", "40000 40000").unwrap();
        client.set("net.ipv4.tcp_tw_reuse", "1").unwrap();
        let path = Path::between(client, server).to(address(FIRST));
        path.fill_time_wait(1).unwrap();
        let running = Running::start(client, &["--older-than", "4s"]);
        // It has been seen by now; taken over after a second.
        sleep(Duration::from_millis(1_300));
        let mut open = None;
        until("the port to be taken over", || {
            open = path.hold_established(1).ok();
            open.is_some()
        });
        sleep(Duration::from_secs(4));
        let told = running.stop(Signal::INT);
        assert_eq!(told["killed"], 0, "{told}");
        let report = crate::common::report(client, &["--owners=never"]);
        assert_eq!(crate::common::only(&report)["states"]["established"], 1);
        drop(open);
    });
}

#[test]
fn pressure_keeps_a_destination_below_its_share_and_lets_the_young_live() {
    joined("reap::pressure_keeps_a_destination_below_its_share_and_lets_the_young_live", |client, server| {
        client.set("net.ipv4.ip_local_port_range", "40000 40999").unwrap();
        let path = |to: &str| Path::between(client, server).to(address(to));
        path(FIRST).fill_time_wait(300).unwrap();
        sleep(Duration::from_millis(100));
        let between = Instant::now();
        sleep(Duration::from_secs(3));
        path(FIRST).fill_time_wait(300).unwrap();
        path(SECOND).fill_time_wait(400).unwrap();
        sleep(Duration::from_millis(1_100));
        let told = end(client, &["--keep-below", "45%", "--once"]);
        // 600 of 1000 in use for one, 400 for the other.
        assert_eq!(told["killed"], 150, "{told}");
        assert_eq!(told["destinations"][0]["destination"], format!("10.77.0.1 -> {FIRST}"));
        // Those that are left: the 150 that were younger among the old, and the 300 of later.
        // The age is taken a moment before the look: less than three seconds, the young are none that are meant.
        let age = format!("{}ms", between.elapsed().as_millis());
        let dry = end(client, &["--older-than", &age, "--to", FIRST, "--dry-run"]);
        let row = &dry["destinations"][0];
        assert_eq!(dry["killed"].as_u64().unwrap() + row["waiting"].as_u64().unwrap(), 450, "{dry}");
        assert!((150..300).contains(&dry["killed"].as_u64().unwrap()), "the oldest went: {dry}");

        // And while it grows.
        let running = Running::start(client, &["--keep-below", "60%", "--to", FIRST]);
        // 240 more than the 450, and ten seconds' worth of ports above the share: a slow machine keeps up too.
        let options =
            ChurnOptions { rate: Some(40), duration: Duration::from_secs(6), ..ChurnOptions::default() };
        let _server = Server::start(server, &[address(FIRST)], Policy::Echo).unwrap();
        let churned = path(FIRST).churn(options).unwrap().wait();
        assert_eq!(churned.failures(), 0, "{churned:?}");
        // A look may just be due.
        until("the destination to be below its share", || {
            let left = crate::common::report(client, &["--owners=never"]);
            let row = crate::common::row(crate::common::only(&left), FIRST);
            crate::common::number(row, "ports_used") <= 600.0
        });
        let told = running.stop(Signal::INT);
        assert!(told["killed"].as_u64().unwrap() > 0, "{told}");
    });
}

#[test]
fn a_rate_is_not_exceeded_and_a_floor_not_passed() {
    joined("reap::a_rate_is_not_exceeded_and_a_floor_not_passed", |client, server| {
        Path::between(client, server).to(address(FIRST)).fill_time_wait(400).unwrap();
        sleep(Duration::from_millis(1_100));
        let told = end(client, &["--older-than", "1s", "--rate", "200", "--once"]);
        assert_eq!(told["killed"], 400);
        // 20 at once, the others at 200 a second.
        assert!(told["seconds"].as_f64().unwrap() >= 1.8, "{told}");

        for (args, words) in [
            (&["--older-than", "500ms", "--once"][..], "below the floor of 1 s"),
            (&["--older-than", "4s", "--floor", "5", "--once"][..], "below the floor of 5 s"),
            (&["--keep-below", "45%", "--floor", "60"][..], "--floor 60 s: no socket gets that old"),
        ] {
            let mut command = client.command(TIDEWAIT);
            command.arg("reap").args(args);
            let said = failure(command, 2);
            assert!(said.contains(words), "{said}");
        }
        // What is only counted takes no time.
        Path::between(client, server).to(address(FIRST)).fill_time_wait(10).unwrap();
        sleep(Duration::from_millis(50));
        let counted = end(client, &["--older-than", "10ms", "--floor", "0", "--rate", "1", "--dry-run"]);
        assert_eq!(counted["killed"], 10);
        assert!(counted["seconds"].as_f64().unwrap() < 9.0, "{counted}");
        let held = end(client, &["--keep-below", "1%", "--floor", "30", "--once"]);
        assert_eq!(held["killed"], 0);
        assert_eq!(end(client, &["--older-than", "10ms", "--floor", "0.01", "--once"])["killed"], 10);
    });
}

#[test]
fn what_a_study_saw_is_a_floor() {
    joined("reap::what_a_study_saw_is_a_floor", |client, server| {
        let directory = tempfile::tempdir().unwrap();
        let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
        let now = String::from_utf8(now.stdout).unwrap().trim().to_owned();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let memory = serde_json::json!({
            "schema": "tidewait.study-memory/1",
            "destinations": [{
                "namespace": {"name": "studied", "inode": client.inode(), "boot": boot.trim()},
                "direction": "outgoing",
                "end": FIRST,
                "sockets": 12_000,
                "needed": 3,
                "latest": {"age_seconds": 36.5, "kind": "fin", "at": now},
                "last_studied": now,
            }],
        });
        let file = directory.path().join("study.json");
        std::fs::write(&file, memory.to_string()).unwrap();
        let reap = |args: &[&str]| {
            let mut command = client.command(TIDEWAIT);
            command.env("TIDEWAIT_STATE", "/nonexistent").arg("reap").args(args);
            command.arg("--state-dir").arg(directory.path());
            command
        };
        let path = |to: &str| Path::between(client, server).to(address(to));
        path(FIRST).fill_time_wait(20).unwrap();
        path(SECOND).fill_time_wait(30).unwrap();
        sleep(Duration::from_millis(2_100));
        let words = failure(reap(&["--older-than", "2s", "--to", FIRST, "--once"]), 2);
        assert!(words.contains("retransmitted FIN seen 36.5 s into TIME_WAIT"), "{words}");
        assert!(words.contains("give 37.5 s or more") && words.contains(file.to_str().unwrap()), "{words}");
        // What the selection cannot meet is not told of, and what is asked for anyway is no news.
        for args in [["--older-than", "2s", "--to", SECOND], ["--older-than", "38s", "--to", "10.77.0.2"]] {
            let output = reap(&args).args(["--dry-run", "--json"]).output().unwrap();
            assert_eq!(lines(&output)[0]["floors"].as_array().map(Vec::len), Some(0), "{args:?}");
        }
        let output = reap(&["--older-than", "2s", "--once", "--json"]).output().unwrap();
        let told = lines(&output);
        assert_eq!(told[0]["floors"][0]["destination"], FIRST);
        assert_eq!(told.last().unwrap()["killed"], 30);
        let rows = told.last().unwrap()["destinations"].as_array().unwrap().clone();
        let held: BTreeMap<String, u64> = rows
            .iter()
            .map(|row| (row["destination"].as_str().unwrap().to_owned(), row["held"].as_u64().unwrap()))
            .collect();
        assert_eq!(held[&format!("10.77.0.1 -> {FIRST}")], 20, "{rows:?}");
        // Another boot, or too long ago.
        let other_boot = memory.to_string().replace(boot.trim(), "another");
        for old in [other_boot, memory.to_string().replace(&now, "2026-01-01T00:00:00Z")] {
            std::fs::write(&file, old).unwrap();
            let output =
                reap(&["--older-than", "2s", "--to", FIRST, "--dry-run", "--json"]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(lines(&output)[0]["floors"].as_array().map(Vec::len), Some(0));
        }
    });
}

#[test]
fn a_namespace_that_ends_ends_the_run() {
    const TEST: &str = "reap::a_namespace_that_ends_ends_the_run";
    if !is_root() {
        return skip(TEST, "only root enters namespaces of others");
    }
    let netns = NetNs::new().unwrap();
    // A process keeps it.
    let mut keeper = netns.command("sleep").arg("600").spawn().unwrap();
    let mut command = Command::new(TIDEWAIT);
    command.args(["reap", "--json", "--older-than", "1s", "--netns", &keeper.id().to_string()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut child = child;
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running { child, lines };
    let first = running.next();
    assert_eq!(first["event"], "begin");
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    drop(netns);
    let mut last = Value::Null;
    for line in (&mut running.lines).lines() {
        last = valid(&line.unwrap());
    }
    assert_eq!(last["reason"], "target_gone");
    assert!(running.child.wait().unwrap().success());
}

#[test]
fn who_may_not_is_told_what_goes_without() {
    const TEST: &str = "reap::who_may_not_is_told_what_goes_without";
    if !is_root() {
        return skip(TEST, "only root can give up a privilege");
    }
    let netns = NetNs::new().unwrap();
    netns
        .run(|| {
            // A connection that only waits, so that there is something to see.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            drop(client);
            drop(server);
        })
        .unwrap();
    let drop_admin = |args: &[&str]| {
        let mut command = netns.command("setpriv");
        command
            .args(["--inh-caps=-all", "--bounding-set=-net_admin", "--"])
            .arg(TIDEWAIT)
            .arg("reap")
            .args(args);
        command
    };
    if drop_admin(&["--help"]).output().map_or(true, |output| !output.status.success()) {
        return skip(TEST, "setpriv is not installed");
    }
    let words = failure(drop_admin(&["--older-than", "10s", "--once"]), 77);
    assert!(words.contains("CAP_NET_ADMIN missing") && words.contains("--dry-run"), "{words}");
    assert!(drop_admin(&["--older-than", "10s", "--dry-run"]).output().unwrap().status.success());
    // Root of a user namespace has the capability, and it counts in none of the host's network namespaces: said also where nothing is
    // there that could be ended.
    let empty = NetNs::new().unwrap();
    let in_user_namespace = |args: &[&str]| {
        let mut command = empty.command("unshare");
        command.args(["--user", "--map-root-user", "--"]).arg(TIDEWAIT).arg("reap").args(args);
        command
    };
    if in_user_namespace(&["--help"]).output().map_or(true, |output| !output.status.success()) {
        return skip(TEST, "user namespaces cannot be made");
    }
    let words = failure(in_user_namespace(&["--older-than", "10s", "--once"]), 77);
    assert!(words.contains("user namespace") && words.contains("--dry-run"), "{words}");
    assert!(in_user_namespace(&["--older-than", "10s", "--dry-run"]).output().unwrap().status.success());
}
