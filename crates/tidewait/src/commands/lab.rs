//! `tidewait lab`: makes trouble on purpose, each kind in a machine of its own, and compares what tidewait says of it.

mod jobs;
mod progress;
mod settings;
mod stage;
mod tables;

use std::sync::mpsc;

use anyhow::{Result, bail};
use tidewait_lab::{Actor, Client, Judgement, Scenario};
use tidewait_model::report::Report;
use tidewait_model::scenario::{
    Expected, Given, LIST_SCHEMA, LabList, LabRun, ListedExperiment, ListedScenario, ListedTable, SCHEMA,
    ScenarioResult, ScenarioVerdict,
};
use tidewait_observe::procfs;
use tidewait_surfaces::text::{self, Page};

use crate::cli::{Format, Lab, LabErrand, LabRun as Options};
use crate::exit::{NotPermitted, Usage};
use crate::output;
use progress::Progress;
use stage::Ending;

/// Near names that are offered for one that is unknown.
const NEAR: usize = 3;

/// How alike they have to be, 0 to 1.
const LIKE: f64 = 0.7;

/// Runs the command.
pub fn run(options: &Lab) -> Result<()> {
    match &options.errand {
        LabErrand::List { format } => list(*format),
        LabErrand::Run(options) => match options.names.split_first() {
            Some((first, _)) if tables::is_table(first) => tables::run(options),
            _ if options.quick || options.tiny => {
                Err(Usage("--quick is for tables; `tidewait lab list` names them".to_owned()).into())
            }
            Some((first, experiments)) if first == settings::NAME => settings::run(experiments, options),
            _ => run_scenarios(options),
        },
        LabErrand::Stage { scenario } => stage::play(scenario),
        LabErrand::Client { words } => output::text(&format!("{}\n", Client::play(words)?)),
        LabErrand::Actor { words } => match Actor::play(words)? {},
    }
}

fn list(format: Format) -> Result<()> {
    let scenarios = Scenario::all();
    if format.json {
        let listed = scenarios.iter().map(|scenario| ListedScenario {
            scenario: scenario.name.to_owned(),
            about: scenario.about.to_owned(),
            expected: expected(scenario),
        });
        let experiments = tidewait_lab::settings::all().iter().map(|experiment| ListedExperiment {
            experiment: experiment.name.to_owned(),
            about: experiment.about.to_owned(),
        });
        let headlines = tidewait_lab::tables::all().iter().map(|headline| ListedTable {
            table: headline.name.to_owned(),
            about: headline.about.to_owned(),
            seconds: headline.seconds.0,
            quick_seconds: headline.seconds.1,
        });
        let list = LabList {
            schema: LIST_SCHEMA.to_owned(),
            scenarios: listed.collect(),
            experiments: experiments.collect(),
            tables: headlines.collect(),
        };
        return output::json(&list, false);
    }
    let page = output::page(format, usize::MAX);
    let names = scenarios.iter().map(|scenario| (scenario.name, scenario.about));
    let names = names.chain([(settings::NAME, settings::ABOUT), (tables::NAME, tables::ABOUT)]);
    let names =
        names.chain(tidewait_lab::tables::all().iter().map(|headline| (headline.name, headline.about)));
    output::text(&text::scenario_list(names, &page))?;
    Ok(())
}

fn run_scenarios(options: &Options) -> Result<()> {
    let scenarios = choose(&options.names)?;
    let page = output::page(options.format, usize::MAX);
    let results = run_all(&scenarios, options, &page)?;
    let run = LabRun { schema: SCHEMA.to_owned(), host: procfs::host(), results };
    if options.format.json {
        output::json(&run, false)?;
    } else {
        output::text(&text::lab(&run, &page))?;
    }
    let (_, wrong, _) = run.tally();
    match wrong {
        0 => Ok(()),
        1 => bail!("1 scenario is not as expected"),
        wrong => bail!("{wrong} scenarios are not as expected"),
    }
}

/// What happens to a scenario, for whoever shows it.
enum Event {
    /// It is doing this now.
    Step(&'static str, String),
    /// It has ended.
    Ended(usize, Box<ScenarioResult>, Option<Box<Report>>),
    /// It may not be made here, and so may none.
    NotPermitted(String),
}

/// Runs them, some at a time, and shows each as it ends; the results in the order of the scenarios. Those that change the whole
/// machine come last, each alone: the others would meet its limits.
fn run_all(scenarios: &[Scenario], options: &Options, page: &Page) -> Result<Vec<ScenarioResult>> {
    let mut results: Vec<Option<ScenarioResult>> = vec![None; scenarios.len()];
    let mut show = |event, progress: &mut Progress| {
        match event {
            Event::Step(scenario, step) => progress.step(scenario, &step),
            Event::Ended(index, result, report) => {
                progress.end(&result.scenario);
                progress.say_or_print(&text::scenario(&result, page), options.format.json)?;
                if let (true, Some(report)) = (options.report, report) {
                    output::text(&format!(
                        "\n{}\n",
                        text::report(&report, &Page { top: 10, ..page.clone() })
                    ))?;
                }
                results[index] = Some(*result);
            }
            Event::NotPermitted(reason) => return Err(NotPermitted(reason).into()),
        }
        Ok(())
    };
    let (alone, beside): (Vec<_>, Vec<_>) =
        scenarios.iter().copied().enumerate().partition(|(_, scenario)| scenario.changes_the_machine());
    for (list, at_a_time) in [(beside, options.jobs), (alone, 1)] {
        let work =
            |_, (index, scenario): (usize, Scenario), tell: &mpsc::Sender<Event>| one(index, &scenario, tell);
        jobs::run(&list, at_a_time, work, &mut show)?;
    }
    Ok(results.into_iter().flatten().collect())
}

/// Runs one scenario to its end.
fn one(index: usize, scenario: &Scenario, tell: &mpsc::Sender<Event>) -> Event {
    let step = |step: String| {
        // Nobody hears when the run has been given up.
        let _ = tell.send(Event::Step(scenario.name, step));
    };
    let (ending, seconds) = stage::watch(scenario.name, step);
    let (verdict, reason, report) = match ending {
        Ending::Report(report) => match scenario.judge(&report.findings) {
            Judgement::AsExpected => (ScenarioVerdict::AsExpected, None, Some(report)),
            Judgement::Missed(reason) => (ScenarioVerdict::Missed, Some(reason), Some(report)),
            Judgement::FalseAlarm(reason) => (ScenarioVerdict::FalseAlarm, Some(reason), Some(report)),
        },
        Ending::Skipped(reason) => (ScenarioVerdict::Skipped, Some(reason), None),
        Ending::Failed(reason) => (ScenarioVerdict::Failed, Some(reason), None),
        Ending::NotPermitted(reason) => return Event::NotPermitted(reason),
    };
    let given = report.iter().flat_map(|report| &report.findings).map(|finding| Given {
        id: finding.id.clone(),
        severity: finding.severity,
        summary: finding.summary.clone(),
    });
    let result = ScenarioResult {
        scenario: scenario.name.to_owned(),
        about: scenario.about.to_owned(),
        expected: expected(scenario),
        given: given.collect(),
        verdict,
        reason,
        seconds,
    };
    Event::Ended(index, Box::new(result), report)
}

/// What must be told of a scenario.
fn expected(scenario: &Scenario) -> Vec<Expected> {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let findings = scenario.expects.iter().map(|expected| Expected {
        id: expected.id.to_owned(),
        severity: expected.severity,
        says: owned(expected.says),
        leads: owned(expected.leads),
    });
    findings.collect()
}

/// The scenarios of these names, in the order of the list, each once.
fn choose(names: &[String]) -> Result<Vec<Scenario>> {
    let all = Scenario::all();
    if names.iter().any(|name| name == settings::NAME) {
        let name = settings::NAME;
        return Err(Usage(format!(
            "{name} is no scenario: it runs by itself, `tidewait lab run {name}`, with names of settings after it for a part"
        ))
        .into());
    }
    if let Some(name) = names.iter().find(|name| tables::is_table(name)) {
        return Err(Usage(format!(
            "{name} is no scenario: tables run by themselves, `tidewait lab run {name}`"
        ))
        .into());
    }
    if let Some(unknown) =
        names.iter().find(|name| *name != "all" && !all.iter().any(|scenario| scenario.name == **name))
    {
        let near = match near(unknown, &all).join(", ") {
            near if near.is_empty() => near,
            near => format!("near are {near}; "),
        };
        return Err(
            Usage(format!("no scenario is called {unknown:?}; {near}`tidewait lab list` shows all")).into()
        );
    }
    let everything = names.iter().any(|name| name == "all");
    Ok(all
        .into_iter()
        .filter(|scenario| everything || names.iter().any(|name| name == scenario.name))
        .collect())
}

/// The names that are most like an unknown one.
fn near<'a>(unknown: &str, all: &'a [Scenario]) -> Vec<&'a str> {
    let mut names: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
    names.extend([settings::NAME, tables::NAME]);
    names.extend(tidewait_lab::tables::all().iter().map(|headline| headline.name));
    let likeness = |name: &str| {
        let contains = if name.contains(unknown) { 1.0 } else { 0.0 };
        contains + strsim::jaro_winkler(unknown, name)
    };
    names.retain(|name| likeness(name) >= LIKE);
    names.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    names.truncate(NEAR);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_chosen_once_and_in_the_order_of_the_list() {
        let names = |names: &[&str]| -> Vec<&'static str> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            choose(&names).unwrap().iter().map(|scenario| scenario.name).collect()
        };
        assert_eq!(
            names(&["bind-pool-exhausted", "ports-exhausted", "bind-pool-exhausted"]),
            ["ports-exhausted", "bind-pool-exhausted"]
        );
        assert_eq!(names(&["ports-exhausted", "all"]).len(), Scenario::all().len());
    }

    #[test]
    fn an_unknown_name_is_answered_with_near_ones() {
        let said = choose(&["port-exhausted".to_owned()]).unwrap_err().to_string();
        assert!(said.contains("\"port-exhausted\"") && said.contains("near are ports-exhausted"), "{said}");
        let said = choose(&["nope".to_owned()]).unwrap_err().to_string();
        assert!(!said.contains("near are") && said.contains("lab list"), "{said}");
        let said = choose(&["squid".to_owned()]).unwrap_err().to_string();
        assert!(said.contains("near are bind-pool-squid"), "{said}");
        let said = choose(&["setings".to_owned()]).unwrap_err().to_string();
        assert!(said.contains("near are settings"), "{said}");
    }
}
