//! What the tests of the binary share: running it in a namespace and reading what it says.
use std::process::{Command, Output};

use serde_json::Value;
use tidewait_lab::NetNs;

/// The binary under test.
pub const TIDEWAIT: &str = env!("CARGO_BIN_EXE_tidewait");

/// Runs the binary inside a namespace.
pub fn run(netns: &NetNs, args: &[&str]) -> Output {
    netns.command(TIDEWAIT).args(args).output().unwrap()
}

/// Runs `report --json` inside a namespace; the whole report.
pub fn report(netns: &NetNs, args: &[&str]) -> Value {
    json(&run(netns, &[&["report", "--json"], args].concat()))
}

/// The JSON that a successful run printed, valid by the committed schema.
pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    crate::contract::holds(&report, include_str!("../../../../docs/schema/tidewait.report-1.json"));
    report
}

/// The namespace that the report is about, when it is about one.
pub fn only(report: &Value) -> &Value {
    let namespaces = report["namespaces"].as_array().unwrap();
    assert_eq!(namespaces.len(), 1, "{namespaces:#?}");
    &namespaces[0]
}

/// The row of a destination.
pub fn row<'a>(namespace: &'a Value, destination: &str) -> &'a Value {
    let rows = namespace["destinations"].as_array().unwrap();
    rows.iter()
        .find(|row| row["destination"] == destination)
        .unwrap_or_else(|| panic!("no row for {destination}: {rows:#?}"))
}

/// A number of a row.
pub fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {row:#}"))
}

/// The words on stderr of a run that had to fail with `code`.
pub fn failure(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words}");
    assert!(output.stdout.is_empty());
    assert!(!words.contains("panicked"), "{words}");
    words
}

/// Whether the test is run by the real root.
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t")
}
