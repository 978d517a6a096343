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

/// Prints the man page of tidewait, or of the command that `names` lead to.
pub fn man(names: &[String]) -> anyhow::Result<()> {
    let mut command = Cli::command();
    command.build();
    let mut title = "tidewait".to_owned();
    for name in names {
        command = match command.find_subcommand(name) {
            Some(below) => below.clone(),
            None => {
                let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
                let known = match known.join(", ") {
                    known if known.is_empty() => format!("`{}` has none", title.replace('-', " ")),
                    known => format!("commands are {known}"),
                };
                return Err(Usage(format!("there is no command '{}': {known}", names.join(" "))).into());
            }
        };
        title = format!("{title}-{name}");
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.name(title)).render(&mut page)?;
    output::text(&String::from_utf8_lossy(&page))?;
    Ok(())
}
