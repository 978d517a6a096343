//! The judgement of a scenario: told as it has to be, missed, or a false alarm.

use std::collections::BTreeSet;

use tidewait_model::report::Consequence;

use super::*;

fn finding(id: &str, severity: Severity) -> Finding {
    Finding {
        id: id.to_owned(),
        severity,
        namespace: "host".to_owned(),
        subject: "10.77.0.1 -> 10.77.0.2:80".to_owned(),
        summary: "squid is out of ports".to_owned(),
        evidence: Vec::new(),
        owner: None,
        since: None,
        remedies: Vec::new(),
        no_help: Vec::new(),
        consequences: Vec::new(),
    }
}

fn scenario(expects: &'static [Expectation]) -> Scenario {
    Scenario { name: "x", about: "", expects, tolerates: &["aside"], needs: &[], prepare: |_| Ok(()) }
}

const WANTED: &[Expectation] = &[Expectation::of("wanted", Severity::Warning).says(&["squid"])];
const LEADING: &[Expectation] = &[Expectation::of("wanted", Severity::Warning).leads(&["led"])];

#[test]
fn what_had_to_be_told_and_was_is_as_expected() {
    let told = [finding("wanted", Severity::Critical), finding("aside", Severity::Critical)];
    assert_eq!(scenario(WANTED).judge(&told), Judgement::AsExpected);
    // A notice is never an alarm.
    assert_eq!(scenario(&[]).judge(&[finding("any", Severity::Notice)]), Judgement::AsExpected);
}

#[test]
fn what_is_not_told_or_told_too_low_or_without_its_words_is_missed() {
    let missed = |told: &[Finding], word: &str| match scenario(WANTED).judge(told) {
        Judgement::Missed(reason) => assert!(reason.contains(word), "{reason}"),
        other => panic!("{other:?}"),
    };
    missed(&[], "is not told");
    missed(&[finding("wanted", Severity::Notice)], "notice only");
    let other_words = Finding { summary: "out of ports".to_owned(), ..finding("wanted", Severity::Warning) };
    missed(&[other_words], "squid");
    missed(&[finding("other", Severity::Critical)], "other is told");
}

#[test]
fn what_is_told_besides_is_a_false_alarm() {
    let told = [finding("wanted", Severity::Warning), finding("other", Severity::Warning)];
    assert!(
        matches!(scenario(WANTED).judge(&told), Judgement::FalseAlarm(reason) if reason.contains("other"))
    );
    assert!(matches!(
        scenario(&[]).judge(&[finding("any", Severity::Warning)]),
        Judgement::FalseAlarm(reason) if reason.contains("any")
    ));
}

#[test]
fn a_cause_tells_its_consequence_and_the_consequence_does_not_stand_alone() {
    let alone = finding("wanted", Severity::Warning);
    assert!(matches!(scenario(LEADING).judge(std::slice::from_ref(&alone)), Judgement::Missed(_)));
    let consequence = Consequence { id: "led".to_owned(), subject: String::new(), summary: String::new() };
    let leading = Finding { consequences: vec![consequence], ..alone };
    assert_eq!(scenario(LEADING).judge(std::slice::from_ref(&leading)), Judgement::AsExpected);
    let both = [leading, finding("led", Severity::Warning)];
    assert!(matches!(scenario(LEADING).judge(&both), Judgement::FalseAlarm(_)));
}

#[test]
fn scenarios_have_names_of_their_own_and_a_sentence() {
    let all = Scenario::all();
    let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), all.len());
    for scenario in &all {
        assert!(scenario.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        assert!(scenario.name.len() <= 27, "{}: too long for the matrix", scenario.name);
        assert!(!scenario.about.is_empty() && !scenario.about.ends_with('.'));
    }
}
