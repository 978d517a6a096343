//! The journal and the plan as files: torn, damaged, of another version, edited; and several commands at once.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use serde_json::Value;

use crate::bench::{Bench, said};

#[test]
fn a_torn_line_at_the_end_is_cut_off_and_nothing_is_lost() {
    let bench = Bench::new();
    assert!(bench.apply(&[]).output().unwrap().status.success());
    let path = bench.state.path().join("journal");
    let whole = bench.journal();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"sum\":\"0123").unwrap();
    let status = bench.tune(&["status"]);
    assert!(status.status.success() && String::from_utf8_lossy(&status.stdout).contains("in force"));
    assert!(bench.tune(&["rollback"]).status.success());
    assert!(bench.is_before());
    assert!(bench.journal().starts_with(&whole) && bench.journal().lines().all(|line| line.ends_with('}')));
}

#[test]
fn a_damaged_line_is_named_what_is_whole_can_be_undone_and_nothing_new_is_applied() {
    let bench = Bench::new();
    assert!(bench.tune(&["apply", "-s", "net.ipv4.tcp_syn_retries=3"]).status.success());
    assert!(bench.apply(&[]).output().unwrap().status.success());
    let damaged = bench.journal().replace("\"wanted\":\"3\"", "\"wanted\":\"4\"");
    fs::write(bench.state.path().join("journal"), damaged).unwrap();
    let status = bench.tune(&["status"]);
    let page = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(page.contains("line 2 of") && page.contains("change 2  in force"), "{page}");
    let refused = bench.tune(&["apply", "-s", "net.ipv4.tcp_tw_reuse=0"]);
    assert!(said(&refused).contains("damaged in line 2"), "{}", said(&refused));
    assert!(bench.tune(&["rollback"]).status.success());
    assert!(bench.is_before());
}

#[test]
fn the_journal_of_a_newer_version_is_left_alone() {
    let bench = Bench::new();
    assert!(bench.apply(&[]).output().unwrap().status.success());
    // A record of a kind to come, with a right checksum.
    let rest = r#""line":4,"what":"blessed","number":1}"#;
    let sum = tidewait_sum(rest);
    let path = bench.state.path().join("journal");
    let line = format!("{{\"sum\":\"{sum}\",{rest}\n");
    OpenOptions::new().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
    let before = bench.journal();
    for args in
        [&["rollback"][..], &["confirm", "1"], &["status"], &["apply", "-s", "net.ipv4.tcp_tw_reuse=0"]]
    {
        let refused = bench.tune(args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
        assert!(said(&refused).contains("written by a newer tidewait"), "{args:?}: {}", said(&refused));
    }
    assert!(bench.is_wanted());
    assert_eq!(bench.journal(), before);
}

/// The checksum of a line, by another program.
fn tidewait_sum(text: &str) -> String {
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()[..16].to_owned()
}

#[test]
fn several_at_once_take_turns() {
    let bench = Bench::new();
    let settings: Vec<String> =
        ["tcp_syn_retries=3", "tcp_fin_timeout=30", "tcp_keepalive_time=300", "tcp_tw_reuse=1"]
            .map(|setting| format!("net.ipv4.{setting}"))
            .into();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            settings.iter().map(|setting| scope.spawn(|| bench.tune(&["apply", "-s", setting]))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for output in &outputs {
        assert!(output.status.success(), "{}", said(output));
    }
    let history: Value = serde_json::from_slice(&bench.tune(&["history", "--json"]).stdout).unwrap();
    let numbers: Vec<u64> = history["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    // And one value: who comes second finds that it is not what it was.
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = ["4", "5"]
            .map(|value| {
                let bench = &bench;
                scope
                    .spawn(move || bench.tune(&["apply", "-s", &format!("net.ipv4.tcp_syn_retries={value}")]))
            })
            .into();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    // Unless the second began after the first was done.
    assert!(outputs.iter().any(|output| output.status.success()));
    for output in outputs.iter().filter(|output| !output.status.success()) {
        assert!(said(output).contains("somebody else has changed it"), "{}", said(output));
    }
}

#[test]
fn a_plan_is_applied_as_it_was_reviewed_or_not_at_all() {
    let bench = Bench::new();
    let file = bench.state.path().join("plan.json");
    let path = file.to_str().unwrap();
    assert!(bench.tune(&["plan", "--profile", "proxy", "--out", path]).status.success());
    let plan: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/schema/tidewait.plan-1.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &plan), "{plan:#}");

    // Edited.
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.replace("10240 65535", "10241 65535")).unwrap();
    let edited = bench.tune(&["apply", path]);
    assert_eq!(edited.status.code(), Some(2));
    assert!(said(&edited).contains("it was edited since"), "{}", said(&edited));
    fs::write(&file, whole.replace("tidewait.plan/1", "tidewait.plan/2")).unwrap();
    assert!(said(&bench.tune(&["apply", path])).contains("made by another version"));
    fs::write(&file, "{}").unwrap();
    assert!(said(&bench.tune(&["apply", path])).contains("is no plan"));
    fs::write(&file, &whole).unwrap();

    // Moved.
    bench.netns.set("net.ipv4.tcp_tw_reuse", "0").unwrap();
    let moved = bench.tune(&["apply", path]);
    assert_eq!(moved.status.code(), Some(1));
    assert!(said(&moved).contains("net.ipv4.tcp_tw_reuse was \"2\""), "{}", said(&moved));
    assert_eq!(bench.netns.get("net.ipv4.ip_local_port_range").unwrap(), "32768\t60999");

    let rebased = bench.tune(&["apply", path, "--rebase"]);
    assert!(rebased.status.success(), "{}", said(&rebased));
    assert_eq!(bench.netns.get("net.ipv4.tcp_tw_reuse").unwrap(), "1");
    // By the plan's name, too.
    assert!(bench.tune(&["rollback", plan["id"].as_str().unwrap()]).status.success());
    assert_eq!(bench.netns.get("net.ipv4.tcp_tw_reuse").unwrap(), "0");
}

#[test]
fn a_dry_run_checks_and_changes_nothing() {
    let bench = Bench::new();
    let dry = bench.apply(&["--dry-run"]).output().unwrap();
    assert!(dry.status.success() && said(&dry).contains("nothing was changed"), "{}", said(&dry));
    assert!(bench.is_before() && bench.journal().is_empty());
}

#[test]
fn a_long_list_of_reserved_ports_is_restored_to_the_last_port() {
    let bench = Bench::new();
    let list: Vec<String> = (0..3_000).map(|number| (10_001 + 2 * number).to_string()).collect();
    let list = list.join(",");
    // The lab writes it in one call, which is more than the kernel takes at once.
    bench
        .netns
        .run(|| {
            let mut file =
                OpenOptions::new().write(true).open("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap();
            file.write_all(format!("{list}\n").as_bytes()).unwrap();
        })
        .unwrap();
    assert!(bench.values()[0] == list);
    let applied = bench.tune(&["apply", "-s", "net.ipv4.ip_local_reserved_ports=8080"]);
    assert!(applied.status.success(), "{}", said(&applied));
    assert_eq!(bench.values()[0], "8080");
    assert!(bench.tune(&["rollback"]).status.success());
    assert!(bench.values()[0] == list);
}
