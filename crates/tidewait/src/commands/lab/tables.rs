//! `tidewait lab run seed-table` and its like: the headline tables, measured here with the remedies of this very program.

use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use tidewait_lab::tables::{self, Headline, Setup};
use tidewait_lab::{Error, enter};
use tidewait_model::table::{SCHEMA, Size, Table, TableRun};
use tidewait_observe::procfs;
use tidewait_surfaces::text;

use super::jobs;
use crate::cli::LabRun as Options;
use crate::exit::{NotPermitted, Usage};
use crate::output;

/// The name for all of them.
pub const NAME: &str = "tables";

/// What that is, in a sentence.
pub const ABOUT: &str = "every headline table, one after the other";

/// What happens to a headline, for whoever shows it.
enum Event {
    /// It is doing this now.
    Step(&'static str, String),
    /// It has ended.
    Ended(&'static str, Vec<Table>),
    /// It has broken down.
    Failed(&'static str, Error),
}

/// Whether this is a name for [`run`].
pub fn is_table(name: &str) -> bool {
    name == NAME || tables::all().iter().any(|headline| headline.name == name)
}

/// Makes the tables of these names and shows them.
pub fn run(options: &Options) -> Result<()> {
    if options.report {
        return Err(Usage("--report is for scenarios; a table has no report to print".to_owned()).into());
    }
    let chosen = choose(&options.names)?;
    // Before there are threads.
    if let Err(error) = enter() {
        return Err(NotPermitted(format!("not permitted to {error}")).into());
    }
    let size = match (options.quick, options.tiny) {
        (_, true) => Size::Tiny,
        (true, _) => Size::Quick,
        _ => Size::Full,
    };
    // The file may be replaced meanwhile, and /proc/self/exe would be the client's own.
    let program = std::env::current_exe().context("cannot find out which program this is")?;
    let (page, begin) = (output::page(options.format, usize::MAX), Instant::now());
    let setup = Setup { program, size };
    let mut made = Vec::new();
    let work = |index: usize, headline: Headline, tell: &mpsc::Sender<Event>| {
        let begun = Instant::now();
        let later: u32 = chosen.iter().skip(index + 1).map(|headline| seconds(headline, size)).sum();
        let step = |step: &str| {
            let left = later + seconds(&headline, size).saturating_sub(begun.elapsed().as_secs() as u32);
            let step = format!("{step} ({} of {}, {})", index + 1, chosen.len(), time_left(left));
            // Nobody hears when the run has been given up.
            let _ = tell.send(Event::Step(headline.name, step));
        };
        step(headline.about);
        match headline.run(&setup, &step) {
            Ok(tables) => Event::Ended(headline.name, tables),
            Err(error) => Event::Failed(headline.name, error),
        }
    };
    // One at a time: they are about speed.
    jobs::run(&chosen, 1, work, |event, progress| {
        match event {
            Event::Step(name, step) => progress.step(name, &step),
            Event::Ended(name, tables) => {
                progress.end(name);
                for table in &tables {
                    progress
                        .say_or_print(&format!("{}\n", text::table(table, &page)), options.format.json)?;
                }
                made.extend(tables);
            }
            Event::Failed(_, Error::NotPermitted(what)) => {
                return Err(NotPermitted(format!("not permitted to {what}")).into());
            }
            Event::Failed(name, error) => return Err(anyhow::Error::from(error).context(name)),
        }
        Ok(())
    })?;
    if options.format.json {
        let run = TableRun {
            schema: SCHEMA.to_owned(),
            host: procfs::host(),
            processors: processors(),
            size,
            tables: made,
            seconds: begin.elapsed().as_secs_f64(),
        };
        output::json(&run, false)?;
    }
    Ok(())
}

/// By the times that headlines take on two idle processors.
fn time_left(seconds: u32) -> String {
    match seconds {
        0..10 => "nearly done".to_owned(),
        10..100 => format!("about {seconds} s left"),
        _ => format!("about {} min left", seconds.div_ceil(60)),
    }
}

fn seconds(headline: &Headline, size: Size) -> u32 {
    match size {
        Size::Full => headline.seconds.0,
        Size::Quick => headline.seconds.1,
        Size::Tiny => 3,
    }
}

/// The headlines of these names, in the order of the list, each once.
fn choose(names: &[String]) -> Result<Vec<Headline>> {
    if let Some(other) = names.iter().find(|name| !is_table(name)) {
        let known: Vec<&str> = tables::all().iter().map(|headline| headline.name).collect();
        return Err(Usage(format!(
            "{other:?} is no table, and nothing else can be run beside one; there are {}, and {NAME} for all",
            known.join(", ")
        ))
        .into());
    }
    let all = names.iter().any(|name| name == NAME);
    let wanted = |headline: &&Headline| all || names.iter().any(|name| name == headline.name);
    Ok(tables::all().iter().filter(wanted).copied().collect())
}

/// How many processors this machine has, and which.
fn processors() -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    match name {
        Some((_, name)) => format!("{count} of {}", name.trim()),
        None => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_chosen_once_and_in_the_order_of_the_list() {
        let chosen = |names: &[&str]| -> Vec<&'static str> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            choose(&names).unwrap().iter().map(|headline| headline.name).collect()
        };
        assert_eq!(chosen(&["fill-table", "seed-table", "fill-table"]), ["seed-table", "fill-table"]);
        assert_eq!(chosen(&["tables", "seed-table"]).len(), tables::all().len());
    }

    #[test]
    fn what_is_left_is_told_as_people_say_it() {
        assert_eq!(
            [3, 45, 100, 835].map(time_left),
            ["nearly done", "about 45 s left", "about 2 min left", "about 14 min left"]
        );
    }

    #[test]
    fn nothing_else_runs_beside_them() {
        let said = choose(&["seed-table".to_owned(), "healthy".to_owned()]).unwrap_err().to_string();
        assert!(
            said.contains("\"healthy\"") && said.contains("seed-table, reap-table, fill-table"),
            "{said}"
        );
    }
}
