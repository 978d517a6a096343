//! Every scenario of the lab, as `tidewait lab run all` runs them: what has to be told is, and nothing else.
//!
//! A test program of its own: the load of the scenarios and the measurements of other tests would disturb each other.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidewait_diagnose::findings::KINDS;
use tidewait_lab::{Scenario, skip};

/// The binary under test.
const TIDEWAIT: &str = env!("CARGO_BIN_EXE_tidewait");

#[test]
fn every_cause_is_told_and_nothing_else() {
    const NAME: &str = "every_cause_is_told_and_nothing_else";
    let output = Command::new(TIDEWAIT).args(["lab", "run", "all", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        return skip(NAME, said.lines().last().unwrap_or_default());
    }
    let run: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/schema/tidewait.lab-1.json")).unwrap();
    jsonschema::validate(&schema, &run).unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), Scenario::all().len());
    let mut wrong = Vec::new();
    for result in results {
        let name = result["scenario"].as_str().unwrap();
        let reason = result["reason"].as_str().unwrap_or_default();
        match result["verdict"].as_str().unwrap() {
            "as_expected" => {}
            "skipped" => skip(&format!("{NAME}: {name}"), reason),
            verdict => wrong.push(format!("{name}: {verdict}: {reason}")),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_list_for_programs_holds_what_can_be_run() {
    let output = Command::new(TIDEWAIT).args(["lab", "list", "--json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/schema/tidewait.lab-list-1.json")).unwrap();
    jsonschema::validate(&schema, &list).unwrap();
    let names: Vec<&str> =
        list["scenarios"].as_array().unwrap().iter().map(|one| one["scenario"].as_str().unwrap()).collect();
    let all: Vec<&str> = Scenario::all().iter().map(|scenario| scenario.name).collect();
    assert_eq!(names, all);
}

#[test]
fn every_kind_of_finding_is_proved_by_a_scenario_that_expects_it() {
    for kind in KINDS {
        let scenario = Scenario::all().into_iter().find(|scenario| scenario.name == kind.scenario);
        let scenario = scenario.unwrap_or_else(|| panic!("{}: no scenario {:?}", kind.id, kind.scenario));
        assert!(
            scenario.expects.iter().any(|expected| expected.id == kind.id),
            "{} does not expect {}",
            scenario.name,
            kind.id
        );
    }
}

#[test]
fn a_scenario_that_is_not_known_is_answered_with_near_names() {
    let output =
        Command::new(TIDEWAIT).args(["lab", "run", "ports-exhausted", "syn-sent-pile-up"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("\"syn-sent-pile-up\"") && said.contains("syn-sent-pileup,"), "{said}");
}

#[test]
fn a_run_that_is_killed_leaves_nothing_behind() {
    const NAME: &str = "a_run_that_is_killed_leaves_nothing_behind";
    let mut run = Command::new(TIDEWAIT)
        .args(["lab", "run", "close-wait-leak"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let machine = loop {
        let machine = descendants(run.id());
        if machine.iter().any(|pid| command(*pid).as_deref() == Some("leaky-app")) {
            break machine;
        }
        if run.try_wait().unwrap().is_some_and(|status| status.code() == Some(77)) {
            return skip(NAME, "namespaces are not allowed here");
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "the scenario does not start");
        thread::sleep(Duration::from_millis(20));
    };
    assert!(machine.len() >= 4, "the one outside, the first, the stage and the server: {machine:?}");
    run.kill().unwrap();
    run.wait().unwrap();
    let begin = Instant::now();
    while machine.iter().any(|pid| lives(*pid)) {
        assert!(begin.elapsed() < Duration::from_secs(20), "still there: {machine:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn where_namespaces_are_forbidden_it_says_so_and_how_to_allow_them() {
    const NAME: &str = "where_namespaces_are_forbidden_it_says_so_and_how_to_allow_them";
    // Root of a namespace that may have none below, and no capabilities.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --bounding-set=-all \
                  --no-new-privs \"$0\" lab run ports-exhausted";
    let output =
        Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", script, TIDEWAIT]).output();
    let output = match output {
        Ok(output) if output.status.code() == Some(77) => output,
        Ok(output) => return skip(NAME, String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return skip(NAME, format!("unshare: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("user.max_user_namespaces") && said.contains("as root"), "{said}");
    assert!(output.stdout.is_empty());
}

/// The processes below `top`, by what /proc says of their parents.
fn descendants(top: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let all: Vec<(u32, u32)> = pids
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, status(pid, "PPid:")?.parse().ok()?)))
        .collect();
    let mut found = vec![top];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Whether a process is there and is more than an entry that waits to be collected.
fn lives(pid: u32) -> bool {
    status(pid, "State:").is_some_and(|state| !state.starts_with('Z'))
}

fn command(pid: u32) -> Option<String> {
    status(pid, "Name:")
}

fn status(pid: u32, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(text.lines().find_map(|line| line.strip_prefix(field))?.trim().to_owned())
}
