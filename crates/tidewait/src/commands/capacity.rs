//! `tidewait capacity`: the arithmetic of ports, with this machine's figures where none are given.

use std::path::PathBuf;

use tidewait_diagnose::accounting::Range;
use tidewait_model::capacity::{PRESETS, Preset, Quantities, Question};
use tidewait_observe::places::Scope;
use tidewait_observe::survey::{self, survey};
use tidewait_surfaces::text;

use crate::cli::Capacity;
use crate::exit::Usage;
use crate::output;

/// Ports and TIME_WAIT of a kernel as it comes, for a machine that does not tell its own.
const STOCK: (u32, u32) = (28_232, 60);

/// Runs the command.
pub fn run(options: &Capacity) -> anyhow::Result<()> {
    let page = output::page(options.format, usize::MAX);
    if options.presets {
        if options.format.json {
            return output::json(&PRESETS, false);
        }
        output::text(&text::presets(PRESETS, &page))?;
        return Ok(());
    }
    let given = Quantities {
        rate_per_second: options.rate,
        ports: options.ports,
        time_wait_seconds: options.time_wait,
        sources: options.sources,
        destinations: options.destinations,
    };
    let answer = question(given, options.preset).answers().map_err(|error| Usage(error.to_string()))?;
    if options.format.json {
        output::json(&answer, false)
    } else {
        output::text(&text::capacity(&answer, &page))?;
        Ok(())
    }
}

fn question(given: Quantities, preset: Option<&'static Preset>) -> Question {
    let (ports, time_wait, from) = this_machine().unwrap_or((
        STOCK.0,
        STOCK.1,
        "a kernel as it comes; this machine's settings could not be read",
    ));
    let question = Question::new(given, ports, f64::from(time_wait), from);
    match preset {
        None => question,
        Some(preset) => question.preset(preset),
    }
}

/// Usable ports and TIME_WAIT seconds of the namespace that this process is in.
fn this_machine() -> Option<(u32, u32, &'static str)> {
    let question = survey::Question {
        root: PathBuf::from("/"),
        scope: Scope::One(std::process::id().to_string()),
        to: None,
        keep: 0,
        owners: survey::Owners::Never,
        watch_for: None,
    };
    let observation = survey(&question).ok()?;
    let facts = observation.namespaces.first()?;
    Some((Range::of(facts)?.usable(), facts.settings.time_wait_seconds(), "this machine"))
}
