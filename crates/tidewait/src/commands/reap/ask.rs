//! Asks before sockets are ended that somebody may still hold.

use std::io::{self, BufRead, IsTerminal};

use tidewait_model::reap::Reapable;

use crate::cli::Reap;
use crate::exit::Usage;

/// Says what follows for states other than TIME_WAIT, and has it confirmed.
pub fn consent(options: &Reap, states: &[Reapable]) -> anyhow::Result<()> {
    let consequences: Vec<&str> = states.iter().filter_map(|state| state.consequences()).collect();
    if consequences.is_empty() || options.dry_run {
        return Ok(());
    }
    for words in consequences {
        anstream::eprintln!("tidewait: {words}");
    }
    if options.yes {
        return Ok(());
    }
    let question = format!("end sockets in {}?", super::titles(states));
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Usage(format!("{question} There is nobody to ask: repeat it with --yes")).into());
    }
    anstream::eprint!("tidewait: {question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Usage("nothing was ended".to_owned()).into()),
    }
}
