//! `tidewait doctor`: what this kernel and these privileges allow.

use tidewait_observe::probe;
use tidewait_surfaces::text;

use crate::cli::Doctor;
use crate::output;

/// Runs the command.
pub fn run(options: Doctor) -> anyhow::Result<()> {
    let checkup = probe::checkup();
    if options.format.json {
        output::json(&checkup, false)
    } else {
        output::text(&text::checkup(&checkup, &output::page(options.format, usize::MAX)))?;
        Ok(())
    }
}
