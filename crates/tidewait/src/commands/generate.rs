//! `tidewait completions` and `tidewait man`: made from the definition of the command line.

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit::Usage;
use crate::output;

/// Prints the completion script for `shell`.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidewait", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(())
}

/// Prints the man page of tidewait, or of one command.
pub fn man(name: Option<&str>) -> anyhow::Result<()> {
    let mut root = Cli::command();
    root.build();
    let command = match name {
        None => root,
        Some(name) => match root.find_subcommand(name) {
            Some(command) => command.clone().name(format!("tidewait-{name}")),
            None => {
                let names: Vec<&str> = root.get_subcommands().map(clap::Command::get_name).collect();
                return Err(Usage(format!(
                    "there is no command '{name}': commands are {}",
                    names.join(", ")
                ))
                .into());
            }
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    output::text(&String::from_utf8_lossy(&page))?;
    Ok(())
}
