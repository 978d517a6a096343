//! Every scenario of the lab, as `tidewait lab run all` runs them: what has to be told is, and nothing else.
use std::process::Command;

use serde_json::Value;
use tidewait_diagnose::findings::KINDS;
use tidewait_lab::{Scenario, skip};

use crate::common::{TIDEWAIT, failure};

#[test]
fn every_cause_is_told_and_nothing_else() {
    const NAME: &str = "scenarios::every_cause_is_told_and_nothing_else";
    let output = Command::new(TIDEWAIT).args(["lab", "run", "all", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        return skip(NAME, said.lines().last().unwrap_or_default());
    }
    let run: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/schema/tidewait.lab-1.json")).unwrap();
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
            // A finding that tidewait does not know yet cannot be told.
            "missed" if !known(result) => {}
            verdict => wrong.push(format!("{name}: {verdict}: {reason}")),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Whether tidewait knows every finding that had to be told.
fn known(result: &Value) -> bool {
    let expected = result["expected"].as_array().unwrap();
    expected.iter().all(|expected| KINDS.iter().any(|kind| expected["id"] == kind.id))
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
    let mut command = Command::new(TIDEWAIT);
    command.args(["lab", "run", "ports-exhausted", "syn-sent-pile-up"]);
    let said = failure(command, 2);
    assert!(said.contains("\"syn-sent-pile-up\"") && said.contains("syn-sent-pileup,"), "{said}");
}
