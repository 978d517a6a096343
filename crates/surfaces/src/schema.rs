//! JSON schemas of everything that is printed with `--json`, made from the types themselves.

use schemars::{JsonSchema, schema_for};
use tidewait_model::capacity::Capacity;
use tidewait_model::doctor::Checkup;
use tidewait_model::experiment::SettingsRun;
use tidewait_model::explain::{Explanation, Topics};
use tidewait_model::reap::Line as ReapLine;
use tidewait_model::report::Report;
use tidewait_model::scenario::{LabList, LabRun};
use tidewait_model::study::{Memory, Study};
use tidewait_model::table::TableRun;
use tidewait_model::trace::line::Line;
use tidewait_model::tune::{Applied, KeptReport, Plan, Status};

/// The schema of `tidewait report --json`.
pub fn report() -> String {
    pretty::<Report>()
}

/// The schema of `tidewait doctor --json`.
pub fn doctor() -> String {
    pretty::<Checkup>()
}

/// The schema of `tidewait capacity --json`.
pub fn capacity() -> String {
    pretty::<Capacity>()
}

/// The schema of `tidewait lab run --json`.
pub fn lab() -> String {
    pretty::<LabRun>()
}

/// The schema of `tidewait lab list --json`.
pub fn lab_list() -> String {
    pretty::<LabList>()
}

/// The schema of `tidewait lab run settings --json`.
pub fn lab_settings() -> String {
    pretty::<SettingsRun>()
}

/// The schema of `tidewait lab run seed-table --json` and its like.
pub fn lab_table() -> String {
    pretty::<TableRun>()
}

/// The schema of `tidewait explain TOPIC --json`.
pub fn explain() -> String {
    pretty::<Explanation>()
}

/// The schema of `tidewait explain --list --json`.
pub fn topics() -> String {
    pretty::<Topics>()
}

/// The schema of a line of `tidewait trace --json`.
pub fn trace() -> String {
    pretty::<Line>()
}

/// The schema of `tidewait study --json`.
pub fn study() -> String {
    pretty::<Study>()
}

/// The schema of what `tidewait study` keeps in the state directory.
pub fn study_memory() -> String {
    pretty::<Memory>()
}

/// The schema of a line of `tidewait steer --json` and `tidewait spread --json`.
pub fn steer() -> String {
    pretty::<tidewait_model::steer::Line>()
}

/// The schema of what `tidewait exec --report` writes.
pub fn exec() -> String {
    pretty::<tidewait_model::exec::Report>()
}

/// The schema of `tidewait tune plan --json`.
pub fn plan() -> String {
    pretty::<Plan>()
}

/// The schema of `tidewait tune apply --json`.
pub fn change() -> String {
    pretty::<Applied>()
}

/// The schema of `tidewait tune status --json` and `tidewait tune history --json`.
pub fn tune() -> String {
    pretty::<Status>()
}

/// The schema of `tidewait tune persist --json`.
pub fn kept() -> String {
    pretty::<KeptReport>()
}

/// The schema of a line of `tidewait reap --json`.
pub fn reap() -> String {
    pretty::<ReapLine>()
}

/// Every schema with the name of the file that holds it under docs/schema.
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("tidewait.report-1.json", report()),
        ("tidewait.doctor-1.json", doctor()),
        ("tidewait.capacity-1.json", capacity()),
        ("tidewait.lab-1.json", lab()),
        ("tidewait.lab-list-1.json", lab_list()),
        ("tidewait.lab-settings-1.json", lab_settings()),
        ("tidewait.lab-table-1.json", lab_table()),
        ("tidewait.explain-1.json", explain()),
        ("tidewait.topics-1.json", topics()),
        ("tidewait.trace-1.json", trace()),
        ("tidewait.study-1.json", study()),
        ("tidewait.study-memory-1.json", study_memory()),
        ("tidewait.steer-1.json", steer()),
        ("tidewait.exec-1.json", exec()),
        ("tidewait.plan-1.json", plan()),
        ("tidewait.change-1.json", change()),
        ("tidewait.tune-1.json", tune()),
        ("tidewait.kept-1.json", kept()),
        ("tidewait.reap-1.json", reap()),
    ]
}

fn pretty<T: JsonSchema>() -> String {
    // Sorted, so that the text does not depend on which features of serde_json a build turns on.
    let mut schema = schema_for!(T).to_value();
    schema.sort_all_objects();
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Serialize;
    use serde_json::Value;
    use tidewait_model::capacity::{PRESETS, Quantities, Question};
    use tidewait_model::tune::CHANGE_SCHEMA;

    use super::*;
    use crate::samples;

    fn assert_valid(schema: &str, value: &impl Serialize) {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let value = serde_json::to_value(value).unwrap();
        let errors: Vec<String> =
            jsonschema::validator_for(&schema).unwrap().iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn what_is_printed_is_what_the_schemas_say() {
        for sample in
            [samples::running_out(), samples::no_range(), samples::many_limits(), samples::bind_pool()]
        {
            assert_valid(&report(), &sample);
        }
        assert_valid(&doctor(), &samples::checkup());
        assert_valid(&plan(), &samples::tune::plan());
        assert_valid(&tune(), &samples::tune::status());
        assert_valid(&kept(), &samples::tune::kept());
        for line in samples::steer() {
            assert_valid(&steer(), &line);
        }
        assert_valid(&exec(), &samples::exec());
        let applied = Applied {
            schema: CHANGE_SCHEMA.to_owned(),
            plan: samples::tune::plan(),
            not_tried: None,
            proof: None,
            change: Some(samples::tune::entry()),
        };
        assert_valid(&change(), &applied);
        let mut memory = Memory::default();
        memory.learn(&crate::text::study_sample(), "2026-11-26T20:00:00Z", "2026-10-27T20:00:00Z");
        assert_eq!(memory.destinations.len(), 3);
        assert_valid(&study(), &crate::text::study_sample());
        assert_valid(&study_memory(), &memory);
        assert_valid(&lab(), &crate::text::lab_sample());
        assert_valid(&lab_settings(), &crate::text::experiments_sample());
        assert_valid(&explain(), &crate::text::explain_sample());
        assert_valid(&topics(), &crate::text::sample_topics());
        let wanted = Quantities { rate_per_second: Some(2_000.0), ..Quantities::default() };
        let question = Question::new(wanted, 28_232, 60.0, "this machine");
        assert_valid(&capacity(), &question.answers().unwrap());
        assert_valid(&capacity(), &question.preset(&PRESETS[3]).answers().unwrap());
    }

    #[test]
    #[should_panic(expected = "ports_used")]
    fn a_key_that_is_missing_does_not_pass() {
        let mut value = serde_json::to_value(samples::running_out()).unwrap();
        value["namespaces"][0]["destinations"][0].as_object_mut().unwrap().remove("ports_used");
        assert_valid(&report(), &value);
    }

    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
        for (file, schema) in all() {
            let path = folder.join(file);
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == schema, "docs/schema/{file} is out of date: run `cargo xtask generate`");
        }
    }

    #[test]
    fn no_schema_file_is_left_over() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".json"))
            .collect();
        found.sort();
        let mut expected: Vec<&str> = all().into_iter().map(|(file, _)| file).collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
