//! What is undone, by whom, and what somebody else has changed meanwhile.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::Value;
use tidewait_lab::NetNs;

use crate::bench::{Bench, guards, said};

const REUSE: &str = "net.ipv4.tcp_tw_reuse";

fn status(bench: &Bench) -> Value {
    let output = bench.tune(&["status", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/schema/tidewait.tune-1.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &status), "{status:#}");
    status
}

fn situation(bench: &Bench) -> String {
    status(bench)["changes"][0]["situation"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn a_change_that_nobody_confirms_is_undone_though_the_shell_that_made_it_is_gone() {
    let bench = Bench::new();
    // A session of its own, as of a terminal; its whole group is told that the terminal is gone.
    let script =
        "\"$0\" tune apply -s net.ipv4.tcp_tw_reuse=1 --confirm-within 3s >/dev/null; kill -HUP 0; sleep 9";
    let mut shell = bench.netns.command("setsid");
    shell.args(["sh", "-c", script, crate::bench::TIDEWAIT]).env("TIDEWAIT_STATE", bench.state.path());
    let begin = Instant::now();
    assert!(!shell.status().unwrap().success());
    assert_eq!(bench.netns.get(REUSE).unwrap(), "1");
    assert_eq!(situation(&bench), "unconfirmed");
    bench.wait_until_before();
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(3), "{took:?}");
    let history = String::from_utf8(bench.tune(&["history"]).stdout).unwrap();
    assert!(history.contains("because nobody confirmed it in time"), "{history}");
    let late = bench.tune(&["confirm", "1"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(said(&late).contains("was undone at"), "{}", said(&late));
}

#[test]
fn a_confirmed_change_stays_and_its_guard_goes() {
    let bench = Bench::new();
    assert!(bench.apply(&["--confirm-within", "10s"]).output().unwrap().status.success());
    assert_eq!(guards(&bench).len(), 1);
    assert!(bench.tune(&["confirm"]).status.success());
    let begin = Instant::now();
    while !guards(&bench).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_secs(10).saturating_sub(begin.elapsed()));
    assert!(bench.is_wanted());
    assert_eq!(situation(&bench), "in_force");
    let again = bench.tune(&["confirm", "1"]);
    assert!(said(&again).contains("is confirmed already"), "{}", said(&again));
}

#[test]
fn where_the_guard_was_killed_every_command_says_so() {
    let bench = Bench::new();
    assert!(bench.apply(&["--confirm-within", "3s"]).output().unwrap().status.success());
    bench.kill_guards();
    std::thread::sleep(Duration::from_millis(5_200));
    assert!(bench.is_wanted());
    assert_eq!(situation(&bench), "stranded");
    let notice = said(&bench.command(&["capacity", "--ports", "10"]).output().unwrap());
    assert!(notice.contains("was to be undone at") && notice.contains("tune rollback 1"), "{notice}");
    assert!(bench.tune(&["rollback"]).status.success());
    assert!(bench.is_before());
}

#[test]
fn what_waits_to_be_confirmed_is_not_changed_again() {
    let bench = Bench::new();
    assert!(bench.apply(&["--confirm-within", "20s"]).output().unwrap().status.success());
    let second = bench.tune(&["apply", "-s", "net.ipv4.tcp_tw_reuse=0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("change 1, which waits to be confirmed"), "{}", said(&second));
    // Another setting is nobody's.
    assert!(bench.tune(&["apply", "-s", "net.ipv4.tcp_syn_retries=3"]).status.success());
    assert!(bench.tune(&["rollback", "1"]).status.success());
    assert!(bench.is_before());
    assert_eq!(bench.netns.get("net.ipv4.tcp_syn_retries").unwrap(), "3");
}

#[test]
fn what_somebody_else_changed_is_left_unless_force_says_otherwise() {
    let bench = Bench::new();
    assert!(bench.apply(&[]).output().unwrap().status.success());
    bench.netns.set(REUSE, "0").unwrap();
    assert_eq!(situation(&bench), "drifted");
    let refused = bench.tune(&["rollback"]);
    let words = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains(REUSE) && words.contains("\"0\"") && words.contains("--force"), "{words}");
    assert_eq!(bench.netns.get("net.ipv4.ip_local_port_range").unwrap(), "10240\t60999");
    assert!(bench.tune(&["rollback", "--force"]).status.success());
    assert!(bench.is_before());
}

#[test]
fn an_undo_that_nobody_watches_leaves_what_somebody_else_changed_and_says_so() {
    let bench = Bench::new();
    assert!(bench.apply(&["--confirm-within", "3s"]).output().unwrap().status.success());
    bench.netns.set(REUSE, "0").unwrap();
    let begin = Instant::now();
    while bench.netns.get("net.ipv4.ip_local_port_range").unwrap() != "32768\t60999" {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(bench.netns.get(REUSE).unwrap(), "0");
    let begin = Instant::now();
    let history = loop {
        let history = String::from_utf8(bench.tune(&["history"]).stdout).unwrap();
        if history.contains("undone at") || begin.elapsed() > Duration::from_secs(10) {
            break history;
        }
    };
    assert!(history.contains("left as somebody else had set them") && history.contains(REUSE), "{history}");
}

#[test]
fn changes_on_top_of_each_other_come_off_from_the_top() {
    let bench = Bench::new();
    assert!(bench.apply(&[]).output().unwrap().status.success());
    assert!(bench.tune(&["apply", "-s", "net.ipv4.tcp_tw_reuse=0"]).status.success());
    let lower = bench.tune(&["rollback", "1"]);
    assert_eq!(lower.status.code(), Some(1));
    assert!(said(&lower).contains("changed again by change 2"), "{}", said(&lower));
    assert!(bench.tune(&["rollback"]).status.success());
    assert!(bench.is_wanted());
    assert!(bench.tune(&["rollback"]).status.success());
    assert!(bench.is_before());
    let none = bench.tune(&["rollback"]);
    assert!(said(&none).contains("no change is in force"), "{}", said(&none));
}

#[test]
fn the_settings_of_a_namespace_that_has_gone_went_with_it() {
    let bench = Bench::new();
    let name = format!("tidewait-gone-{}", std::process::id());
    let named = NetNs::named(&name).unwrap();
    let applied =
        bench.tune(&["apply", "-s", "net.ipv4.tcp_tw_reuse=1", "--netns", &name, "--confirm-within", "3s"]);
    assert!(applied.status.success(), "{}", said(&applied));
    assert_eq!(named.get(REUSE).unwrap(), "1");
    bench.kill_guards();
    drop(named);
    let rollback = bench.tune(&["rollback", "1"]);
    assert!(said(&rollback).contains("is gone"), "{}", said(&rollback));
    // It is not what is meant where nothing is named.
    assert!(said(&bench.tune(&["rollback"])).contains("no change is in force"));
    assert!(said(&bench.tune(&["confirm"])).contains("no change waits"));
    let history = String::from_utf8(bench.tune(&["history"]).stdout).unwrap();
    assert!(history.contains("its network namespace is gone"), "{history}");
    // Another that has its name, and perhaps its number, is not the one that was changed.
    let other = NetNs::named(&name).unwrap();
    other.set(REUSE, "1").unwrap();
    assert!(said(&bench.tune(&["rollback", "1"])).contains("is gone"));
    assert_eq!(other.get(REUSE).unwrap(), "1");
}

#[test]
fn another_namespace_is_changed_and_changed_back_by_its_name() {
    let bench = Bench::new();
    let name = format!("tidewait-blue-{}", std::process::id());
    let blue = NetNs::named(&name).unwrap();
    assert!(bench.tune(&["apply", "-s", "net.ipv4.tcp_tw_reuse=1", "--netns", &name]).status.success());
    assert_eq!(blue.get(REUSE).unwrap(), "1");
    assert_eq!(bench.netns.get(REUSE).unwrap(), "2");
    assert!(bench.tune(&["rollback"]).status.success());
    assert_eq!(blue.get(REUSE).unwrap(), "2");
}

#[test]
fn the_time_to_confirm_is_not_that_of_the_clock_on_the_wall() {
    if std::env::var_os("TIDEWAIT_LAB_DISPOSABLE").is_none() {
        println!(
            "SKIPPED the_time_to_confirm_is_not_that_of_the_clock_on_the_wall: sets the clock of the machine, which has to be one that \
             may be thrown away"
        );
        return;
    }
    let bench = Bench::new();
    let clock = |by: i64| {
        let now = clock_gettime(ClockId::Realtime);
        clock_settime(ClockId::Realtime, Timespec { tv_sec: now.tv_sec + by, ..now }).unwrap();
    };
    const DAY: i64 = 86_400;
    for jump in [400 * DAY, -800 * DAY] {
        let begin = Instant::now();
        assert!(bench.apply(&["--confirm-within", "5s"]).output().unwrap().status.success());
        clock(jump);
        std::thread::sleep(Duration::from_secs(1));
        assert!(bench.is_wanted(), "undone at once by a jump of the clock");
        assert_eq!(situation_of_last(&bench), "unconfirmed");
        bench.wait_until_before();
        assert!(begin.elapsed() >= Duration::from_secs(5));
    }
    clock(400 * DAY);
}

fn situation_of_last(bench: &Bench) -> String {
    let status = status(bench);
    let changes = status["changes"].as_array().unwrap();
    changes.last().map_or("none", |change| change["situation"].as_str().unwrap()).to_owned()
}

#[test]
fn a_change_below_another_is_not_undone_though_the_value_happens_to_be_its_own() {
    let bench = Bench::new();
    for value in ["1", "2"] {
        assert!(bench.tune(&["apply", "-s", &format!("{REUSE}={value}")]).status.success());
    }
    // Change 1 went from 2 to 1, change 2 back to 2.
    let lower = bench.tune(&["rollback", "1"]);
    assert!(said(&lower).contains("changed again by change 2"), "{}", said(&lower));
    assert!(bench.tune(&["rollback"]).status.success());
    assert_eq!(bench.netns.get(REUSE).unwrap(), "1");
    assert!(bench.tune(&["rollback"]).status.success());
    assert_eq!(bench.netns.get(REUSE).unwrap(), "2");
}

#[test]
fn what_a_waiting_change_needs_for_its_undo_is_not_taken_from_it() {
    let bench = Bench::new();
    let start = "net.ipv4.ip_unprivileged_port_start";
    assert!(bench.tune(&["apply", "-s", &format!("{start}=80"), "--confirm-within", "20s"]).status.success());
    let below = bench.tune(&["apply", "-s", "net.ipv4.ip_local_port_range=80 60999"]);
    assert!(said(&below).contains("change 1, which waits to be confirmed"), "{}", said(&below));
    assert!(bench.tune(&["confirm"]).status.success());
    assert!(bench.tune(&["apply", "-s", "net.ipv4.ip_local_port_range=80 60999"]).status.success());
    // The kernel refuses it now; the message says why.
    let first = bench.tune(&["rollback", "1"]);
    assert!(said(&first).contains("because of change 2: roll that back first"), "{}", said(&first));
    for _ in 0..2 {
        assert!(bench.tune(&["rollback"]).status.success());
    }
    assert!(bench.is_before());
    assert_eq!(bench.netns.get(start).unwrap(), "1024");
}

#[test]
fn what_was_undone_while_nothing_could_be_taken_down_waits_for_nobody() {
    let bench = Bench::new();
    assert!(bench.apply(&["--confirm-within", "60s"]).output().unwrap().status.success());
    bench.kill_guards();
    let journal = bench.journal();
    bench.reset();
    std::fs::write(bench.state.path().join("journal"), journal).unwrap();
    let confirm = bench.tune(&["confirm", "1"]);
    assert_eq!(confirm.status.code(), Some(1));
    assert!(said(&confirm).contains("its values were found as they were before it"), "{}", said(&confirm));
    assert!(bench.apply(&[]).output().unwrap().status.success());
    assert!(bench.tune(&["rollback"]).status.success());
    assert!(bench.is_before());
}

#[test]
fn the_change_that_is_meant_is_one_of_the_namespace_that_one_is_in() {
    let bench = Bench::new();
    let name = format!("tidewait-red-{}", std::process::id());
    let red = NetNs::named(&name).unwrap();
    assert!(bench.tune(&["apply", "-s", "net.ipv4.tcp_tw_reuse=1"]).status.success());
    assert!(bench.tune(&["apply", "-s", "net.ipv4.tcp_tw_reuse=1", "--netns", &name]).status.success());
    // The last one is that of the other namespace.
    assert!(bench.tune(&["rollback"]).status.success());
    assert_eq!(bench.netns.get(REUSE).unwrap(), "2");
    assert_eq!(red.get(REUSE).unwrap(), "1");
    // Where there is only one, that is it.
    assert!(bench.tune(&["rollback"]).status.success());
    assert_eq!(red.get(REUSE).unwrap(), "2");
}

#[test]
fn a_plan_for_another_namespace_is_not_applied_by_the_way() {
    let bench = Bench::new();
    let name = format!("tidewait-tan-{}", std::process::id());
    let tan = NetNs::named(&name).unwrap();
    let file = bench.state.path().join("plan.json");
    let path = file.to_str().unwrap();
    assert!(
        bench
            .tune(&["plan", "-s", "net.ipv4.tcp_tw_reuse=1", "--netns", &name, "--out", path])
            .status
            .success()
    );
    let by_the_way = bench.tune(&["apply", path]);
    assert_eq!(by_the_way.status.code(), Some(2));
    assert!(
        said(&by_the_way).contains(&format!("the plan is for network namespace {name}")),
        "{}",
        said(&by_the_way)
    );
    assert!(bench.tune(&["apply", path, "--netns", &name]).status.success());
    assert_eq!(tan.get(REUSE).unwrap(), "1");
    assert_eq!(bench.netns.get(REUSE).unwrap(), "2");
    assert!(bench.tune(&["rollback"]).status.success());
}

#[test]
fn whoever_cannot_be_told_is_told_that_it_was_done() {
    let bench = Bench::new();
    assert!(bench.apply(&["--confirm-within", "60s"]).output().unwrap().status.success());
    for errand in ["confirm", "rollback"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = bench.command(&["tune", errand]).stdout(full).output().unwrap();
        let words = said(&output);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("all the same") && !words.contains("panicked"), "{words}");
    }
    assert!(bench.is_before());
}

#[test]
fn a_guard_is_not_misled_by_a_journal_that_was_begun_anew() {
    let bench = Bench::new();
    assert!(bench.apply(&["--confirm-within", "3s"]).output().unwrap().status.success());
    let journal = bench.state.path().join("journal");
    std::fs::rename(&journal, bench.state.path().join("journal.old")).unwrap();
    // The first change of the new journal has the number of the one that waits.
    assert!(bench.tune(&["apply", "-s", "net.ipv4.tcp_syn_retries=3"]).status.success());
    bench.wait_until_before();
    assert_eq!(bench.netns.get("net.ipv4.tcp_syn_retries").unwrap(), "3");
    assert_eq!(situation(&bench), "in_force");
}
