//! `tidewait explain`: what a topic or an error message means, with this machine's values beside it.

use std::io::Read;
use std::path::PathBuf;

use tidewait_diagnose::explain::{explain, topics};
use tidewait_diagnose::{Options, assess};
use tidewait_model::report::Report;
use tidewait_observe::places::Scope;
use tidewait_observe::survey::{Owners, Question, survey};
use tidewait_surfaces::text;

use super::report::scope;
use crate::cli::Explain;
use crate::exit::Usage;
use crate::output;

/// So much of standard input is read: a message, perhaps with the log around it.
const MOST_INPUT: u64 = 4 * 1024 * 1024;

/// How many destinations are looked at: the fullest is told.
const KEEP: usize = 10;

/// Runs the command.
pub fn run(options: &Explain) -> anyhow::Result<()> {
    let page = output::page(options.format, usize::MAX);
    if options.list {
        let topics = topics();
        if options.format.json {
            return output::json(&topics, false);
        }
        output::text(&text::topics(&topics, &page))?;
        return Ok(());
    }
    let text = topic(&options.topic)?;
    let explanation = explain(&text, look(options.netns.as_deref())?.as_ref())
        .map_err(|unknown| Usage(unknown.to_string()))?;
    if options.format.json {
        output::json(&explanation, false)
    } else {
        output::text(&text::explanation(&explanation, &page))?;
        Ok(())
    }
}

/// What was typed, or came in on standard input.
fn topic(words: &[String]) -> anyhow::Result<String> {
    if words != ["-"] {
        return Ok(words.join(" "));
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MOST_INPUT + 1).read_to_end(&mut bytes)?;
    if read as u64 > MOST_INPUT {
        let most = MOST_INPUT / (1024 * 1024);
        return Err(Usage(format!(
            "standard input has more than {most} MiB: pass the lines with the error, such as by `tail -n 100`"
        ))
        .into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A look at this machine. What cannot be seen is left out of the page; only a namespace that was asked for by name has
/// to be there.
fn look(netns: Option<&str>) -> anyhow::Result<Option<Report>> {
    let question = |scope| Question {
        root: PathBuf::from("/"),
        scope,
        to: None,
        keep: KEEP,
        owners: Owners::NearLimit,
        watch_for: None,
    };
    let observation = match (survey(&question(scope(netns))), netns) {
        (Ok(observation), _) => Some(observation),
        (Err(error), Some(_)) => return Err(error.into()),
        (Err(_), None) => survey(&question(Scope::One(std::process::id().to_string()))).ok(),
    };
    Ok(observation.map(|observation| assess(&observation, &Options { top: KEEP, timings: false })))
}
