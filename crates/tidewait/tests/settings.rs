//! Every experiment on settings, as `tidewait lab run settings` runs them: each figure is as it is known to be.
//!
//! A test program of its own, since other tests would disturb it, and it them.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::process::{Command, Output};

use tidewait_lab::{settings, skip};
use tidewait_model::experiment::{Judgement, SettingsRun, Verdict};

/// The binary under test.
const TIDEWAIT: &str = env!("CARGO_BIN_EXE_tidewait");

/// What no namespace has.
const HOST_WIDE: &str = "tcp_max_orphans";

fn run(arguments: &[&str]) -> Output {
    Command::new(TIDEWAIT).args(["lab", "run"]).args(arguments).output().unwrap()
}

#[test]
fn every_setting_does_what_is_known_of_it_and_no_more() {
    const NAME: &str = "every_setting_does_what_is_known_of_it_and_no_more";
    let output = run(&["settings", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        return skip(NAME, said.lines().last().unwrap_or_default());
    }
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/schema/tidewait.lab-settings-1.json")).unwrap();
    jsonschema::validate(&schema, &value).unwrap();
    let run: SettingsRun = serde_json::from_value(value).unwrap();
    assert_eq!(run.experiments.len(), settings::all().len());
    let mut wrong = Vec::new();
    for result in &run.experiments {
        for effect in &result.effects {
            let what = format!("{}: {}", result.experiment, effect.metric.words());
            match effect.verdict {
                Verdict::NotMeasured if result.experiment != HOST_WIDE => {
                    skip(&format!("{NAME}: {what}"), result.reason.as_deref().unwrap_or_default());
                }
                _ if effect.is_as_expected() => {}
                _ => wrong.push(format!("{what}: {effect:?}, {:?}", result.reason)),
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(output.status.success(), "{said}");
    // What is known of every kernel that is tested on.
    let verdict = |says: &str| run.claims.iter().find(|claim| claim.says.contains(says)).unwrap().verdict;
    assert_eq!(verdict("releases TIME_WAIT sooner"), Judgement::Wrong);
    assert_eq!(verdict("reduce connections in TIME_WAIT"), Judgement::Wrong);
    assert_eq!(verdict("do not affect TCP_TIMEWAIT_LEN"), Judgement::Right);
    assert_eq!(verdict("not effective at a sustained rate"), Judgement::Half);
}

#[test]
fn a_part_is_run_by_the_name_of_the_setting() {
    const NAME: &str = "a_part_is_run_by_the_name_of_the_setting";
    let output = run(&["settings", "net.ipv4.tcp_tw_recycle", "--ascii"]);
    if output.status.code() == Some(77) {
        return skip(NAME, "namespaces are not allowed here");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("not on this kernel: removed in Linux 4.12"), "{said}");
    assert!(said.contains("not here") && !said.contains("tcp_fin_timeout"), "{said}");
}

#[test]
fn a_setting_that_is_not_known_is_a_matter_of_usage() {
    for arguments in
        [&["settings", "tcp_fin"][..], &["ports-exhausted", "settings"], &["settings", "--report"]]
    {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("settings") || said.contains("tcp_fin_timeout"), "{said}");
    }
}
