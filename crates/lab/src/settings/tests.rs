//! The tables of experiments and claims, as far as they can be held against each other without a kernel.

use tidewait_model::experiment::{Judgement, SCHEMA, SettingsRun};
use tidewait_model::report::Host;

use super::*;

/// A run in which every experiment came out as it is known to.
fn as_known() -> SettingsRun {
    let result = |experiment: &Experiment| ExperimentResult {
        experiment: experiment.name.to_owned(),
        about: String::new(),
        given: Vec::new(),
        changes: Vec::new(),
        effects: experiment
            .expects
            .iter()
            .map(|&(metric, expected)| Effect {
                metric,
                before: None,
                after: None,
                verdict: expected,
                expected,
            })
            .collect(),
        reason: None,
        seconds: 0.0,
    };
    SettingsRun {
        schema: SCHEMA.to_owned(),
        host: Host { hostname: String::new(), kernel: String::new() },
        ports: 2_000,
        experiments: all().iter().map(result).collect(),
        claims: Vec::new(),
        seconds: 0.0,
    }
}

#[test]
fn settings_are_those_of_the_catalogue_and_take_their_values() {
    for experiment in all() {
        let settings = experiment.changes.iter().chain(experiment.given).chain(experiment.attempt);
        for (name, value) in settings.filter(|(name, _)| is_setting(name)) {
            let setting =
                catalogue::setting(name).unwrap_or_else(|| panic!("{name} is not in the catalogue"));
            let value = filled_in(value);
            // What is written although the setting does not name a sensible value is written on purpose.
            if experiment.attempt.is_empty() {
                assert_eq!(setting.check(&value), Ok(()), "{}: {name} = {value}", experiment.name);
            }
        }
    }
}

#[test]
fn every_experiment_has_a_name_of_its_own_and_expects_something() {
    for (index, experiment) in all().iter().enumerate() {
        assert!(all()[..index].iter().all(|other| other.name != experiment.name), "{}", experiment.name);
        assert!(!experiment.expects.is_empty() && !experiment.changes.is_empty(), "{}", experiment.name);
    }
}

#[test]
fn every_claim_speaks_of_figures_that_are_measured() {
    let run = as_known();
    for claim in claims() {
        for (experiment, metric, _) in claim.foretells {
            assert!(run.effect(experiment, *metric).is_some(), "{}: {experiment} {metric:?}", claim.says);
        }
    }
}

#[test]
fn the_claims_come_out_by_what_is_measured() {
    let mut run = as_known();
    let verdict = |run: &SettingsRun, says: &str| {
        judge(run).into_iter().find(|claim| claim.says.contains(says)).map(|claim| claim.verdict)
    };
    assert_eq!(verdict(&run, "releases TIME_WAIT sooner"), Some(Judgement::Wrong));
    assert_eq!(verdict(&run, "reduce connections in TIME_WAIT"), Some(Judgement::Wrong));
    assert_eq!(verdict(&run, "do not affect TCP_TIMEWAIT_LEN"), Some(Judgement::Right));
    assert_eq!(verdict(&run, "a wider port range"), Some(Judgement::Right));
    assert_eq!(verdict(&run, "not effective at a sustained rate"), Some(Judgement::Half));
    assert_eq!(verdict(&run, "every address of the service"), Some(Judgement::Half));
    // Mainline has no setting for the length of TIME_WAIT.
    for result in run.experiments.iter_mut().filter(|result| result.experiment == "tcp_tw_timeout") {
        result.effects[0].verdict = Verdict::NotHere;
    }
    assert_eq!(verdict(&run, "reduce the time in TIME_WAIT"), Some(Judgement::NotHere));
    assert_eq!(verdict(&run, "/proc has nothing"), Some(Judgement::Right));
    // A run of a few experiments leaves the rest of the claims open.
    run.experiments.retain(|result| result.experiment == "tcp_fin_timeout");
    assert_eq!(verdict(&run, "releases TIME_WAIT sooner"), Some(Judgement::Wrong));
    assert_eq!(verdict(&run, "a wider port range"), Some(Judgement::Untested));
}

#[test]
fn the_ports_of_a_value_are_those_of_the_range() {
    let ports = ports();
    assert_eq!(filled_in("{low} {high}"), format!("32768 {}", 32_767 + ports));
    assert_eq!(filled_in("1"), "1");
}

/// Rows of the catalogue that claim nothing about TIME_WAIT or local ports, and that nobody says it of.
const ABOUT_ELSE: &[&str] = &[
    // Connections that come in: how often SYN+ACK is repeated, what a full queue does.
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_abort_on_overflow",
    // Memory and files of the whole machine.
    "net.ipv4.tcp_mem",
    "fs.file-max",
    "fs.nr_open",
    // The table of connection tracking: of the whole machine, or about connections that are open.
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
];

#[test]
fn every_setting_is_measured_or_about_something_else() {
    for setting in catalogue::SETTINGS {
        let measured = all().iter().any(|one| one.changes.iter().any(|(name, _)| *name == setting.name));
        let elsewhere = ABOUT_ELSE.contains(&setting.name);
        assert!(
            measured != elsewhere,
            "{}: measured {measured}, about something else {elsewhere}",
            setting.name
        );
    }
}
