//! `tidewait lab run settings`: what each setting does to TIME_WAIT and ports, measured here, and who was right about it.

use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Result, bail};
use tidewait_lab::settings::{self, Experiment};
use tidewait_lab::{Error, enter};
use tidewait_model::experiment::{ExperimentResult, SCHEMA, SettingsRun};
use tidewait_observe::procfs;
use tidewait_surfaces::text::{self, Page};

use super::jobs;
use crate::cli::LabRun as Options;
use crate::exit::{NotPermitted, Usage};
use crate::output;

/// The name beside those of the scenarios.
pub const NAME: &str = "settings";

/// What it is, in a sentence.
pub const ABOUT: &str =
    "each setting that is said to help against TIME_WAIT or for more ports: measured before and after";

/// Experiments at a time for each scenario at a time: they wait for timers most of their time.
const EACH: u8 = 2;

/// What happens to an experiment, for whoever shows it.
enum Event {
    /// It is doing this now.
    Step(&'static str, String),
    /// It has ended.
    Ended(usize, Box<ExperimentResult>),
    /// Namespaces cannot be made, and so nothing can be measured.
    Failed(Error),
}

/// Runs the experiments of these names, or all, and shows them.
pub fn run(names: &[String], options: &Options) -> Result<()> {
    if options.report {
        return Err(Usage(format!("--report is for scenarios; {NAME} has no report to print")).into());
    }
    let chosen = choose(names)?;
    // Before there are threads.
    if let Err(error) = enter() {
        return Err(NotPermitted(format!("not permitted to {error}")).into());
    }
    let page = output::page(options.format, usize::MAX);
    let (host, begin) = (procfs::host(), Instant::now());
    if !options.format.json {
        output::text(&text::settings_head(&host.kernel, settings::ports(), &page))?;
    }
    let experiments = run_all(&chosen, options, &page)?;
    let mut run = SettingsRun {
        schema: SCHEMA.to_owned(),
        host,
        ports: settings::ports(),
        experiments,
        claims: Vec::new(),
        seconds: begin.elapsed().as_secs_f64(),
    };
    run.claims = settings::judge(&run);
    if options.format.json {
        output::json(&run, false)?;
    } else {
        output::text(&text::settings_run(&run, &page))?;
    }
    match run.tally().1 {
        0 => Ok(()),
        1 => bail!("1 figure is not as expected"),
        wrong => bail!("{wrong} figures are not as expected"),
    }
}

/// Runs them, some at a time, and shows each as it ends; the results in the order of the list.
fn run_all(chosen: &[Experiment], options: &Options, page: &Page) -> Result<Vec<ExperimentResult>> {
    let mut results: Vec<Option<ExperimentResult>> = vec![None; chosen.len()];
    let work = |index: usize, experiment: Experiment, tell: &mpsc::Sender<Event>| {
        let step = |step: &str| {
            // Nobody hears when the run has been given up.
            let _ = tell.send(Event::Step(experiment.name, step.to_owned()));
        };
        match experiment.run(step) {
            Ok(result) => Event::Ended(index, Box::new(result)),
            Err(error) => Event::Failed(error),
        }
    };
    jobs::run(chosen, options.jobs.saturating_mul(EACH), work, |event, progress| {
        match event {
            Event::Step(experiment, step) => progress.step(experiment, &step),
            Event::Ended(index, result) => {
                progress.end(&result.experiment);
                progress.say_or_print(&text::experiment(&result, page), options.format.json)?;
                results[index] = Some(*result);
            }
            Event::Failed(error) => return Err(NotPermitted(error.to_string()).into()),
        }
        Ok(())
    })?;
    Ok(results.into_iter().flatten().collect())
}

/// The experiments whose name is, or begins with, one of these; all where there is none.
fn choose(names: &[String]) -> Result<Vec<Experiment>> {
    let all = settings::all();
    let short = |name: &str| name.rsplit_once('.').map_or(name.to_owned(), |(_, short)| short.to_owned());
    let fits = |experiment: &Experiment, name: &str| {
        let rest = experiment.name.strip_prefix(short(name).as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|one| fits(one, name))) {
        let known: Vec<&str> = all.iter().map(|experiment| experiment.name).collect();
        return Err(
            Usage(format!("no experiment is called {unknown:?}; there are {}", known.join(", "))).into()
        );
    }
    let wanted =
        |experiment: &&Experiment| names.is_empty() || names.iter().any(|name| fits(experiment, name));
    Ok(all.iter().filter(wanted).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        choose(&names).unwrap().iter().map(|experiment| experiment.name).collect()
    }

    #[test]
    fn a_setting_is_chosen_by_either_name_with_its_variants() {
        assert_eq!(chosen(&["net.ipv4.tcp_fin_timeout"]), ["tcp_fin_timeout", "tcp_fin_timeout-1"]);
        assert_eq!(chosen(&["tcp_fin_timeout-1"]), ["tcp_fin_timeout-1"]);
        assert_eq!(chosen(&["tcp_tw_reuse_delay", "tcp_rfc1337"]).len(), 3);
        assert_eq!(chosen(&[]).len(), settings::all().len());
    }

    #[test]
    fn an_unknown_one_is_answered_with_those_that_there_are() {
        let said = choose(&["tcp_fin".to_owned()]).unwrap_err().to_string();
        assert!(said.contains("\"tcp_fin\"") && said.contains("tcp_fin_timeout,"), "{said}");
    }
}
