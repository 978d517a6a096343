//! `tidewait tune confirm` and `tidewait tune rollback`.

use std::path::Path;

use anyhow::{Result, bail};
use tidewait_act::change::{self, Drifted};
use tidewait_act::journal::{self, Journal};
use tidewait_act::kernel::Sysctl;
use tidewait_act::persist;
use tidewait_model::tune::{Entry, Undoing};
use tidewait_observe::places::find_again;
use tidewait_observe::procfs;

use super::apply::{PATIENCE, explained};
use crate::exit::Usage;

/// Keeps a change.
pub fn confirm(id: Option<&str>, state: &Path) -> Result<()> {
    let boot = procfs::boot_id(Path::new("/"));
    let entries = entries(state)?;
    let number = match id {
        Some(id) => number(&entries, id)?,
        None => {
            let waiting: Vec<u64> = entries
                .iter()
                .filter(|entry| entry.boot == boot && entry.is_unconfirmed())
                .map(|entry| entry.number)
                .collect();
            match waiting[..] {
                [one] => one,
                [] => bail!("no change waits to be confirmed; `tidewait tune status` shows what is in force"),
                _ => {
                    return Err(Usage(format!(
                        "several changes wait to be confirmed: give one of {}",
                        waiting.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
                    ))
                    .into());
                }
            }
        }
    };
    let mut journal = Journal::open(state, PATIENCE)?;
    let entry = change::confirm(&mut journal, number, &boot).map_err(explained)?;
    anstream::println!(
        "change {number} is confirmed; `tidewait tune rollback {number}` would restore what was before"
    );
    if entry.configured {
        anstream::println!(
            "it lasts until the machine is started anew; `tidewait tune persist {number}` keeps it beyond that"
        );
    }
    Ok(())
}

/// Restores what was before a change.
pub fn rollback(id: Option<&str>, force: bool, state: &Path) -> Result<()> {
    let boot = procfs::boot_id(Path::new("/"));
    let entries = entries(state)?;
    let number = match id {
        Some(id) => number(&entries, id)?,
        None => {
            let last = entries.iter().rev().find(|entry| entry.boot == boot && entry.is_open());
            match last {
                Some(entry) => entry.number,
                None => bail!("no change is in force; `tidewait tune history` shows what there was"),
            }
        }
    };
    let Some(entry) = entries.iter().find(|entry| entry.number == number) else {
        return Err(explained(change::ChangeError::Unknown(number)));
    };
    let drifted = if force { Drifted::Restore } else { Drifted::Refuse };
    let work = || -> Result<change::Undo, change::ChangeError> {
        let mut journal = Journal::open(state, PATIENCE)?;
        change::undo(&Sysctl, &mut journal, number, &boot, Undoing::Rollback, drifted)
    };
    // What is over needs no namespace to be told so.
    let undo = if entry.boot != boot || !entry.is_open() {
        work()
    } else {
        let Some(place) = find_again(Path::new("/"), &entry.namespace)? else {
            bail!(
                "network namespace {} of change {number} is gone, or out of sight from here: its settings went with it, and nothing \
                 is left to restore",
                entry.namespace.name
            );
        };
        place.enter(work)?
    };
    let undo = undo.map_err(explained)?;
    for was in &undo.entry.changes {
        anstream::println!("{} = {}", was.setting, tidewait_model::tune::spaced(&was.before));
    }
    anstream::println!("change {number} is undone: every setting is what it was before");
    let names: Vec<&str> = undo.entry.changes.iter().map(|was| was.setting.as_str()).collect();
    if let Ok(Some(file)) = persist::read(Path::new("/"))
        && undo.entry.configured
        && file.settings().iter().any(|(name, _)| names.contains(&name.as_str()))
    {
        anstream::println!(
            "{} still keeps them for the next start: `tidewait tune unpersist` takes them out",
            persist::FILE
        );
    }
    if let Some(error) = undo.unnoted {
        anstream::eprintln!(
            "tidewait: the journal could not take it down: {error}; `tidewait tune status` sees it by the values"
        );
    }
    Ok(())
}

fn entries(state: &Path) -> Result<Vec<Entry>> {
    match journal::read(state)? {
        Some(reading) => Ok(reading.entries),
        None => bail!(
            "nothing was ever changed: there is no journal in {}; --state names another directory",
            state.display()
        ),
    }
}

/// The change that `id` means: its number, or the last one of a plan.
pub fn number(entries: &[Entry], id: &str) -> Result<u64> {
    if let Some(entry) = entries.iter().rev().find(|entry| entry.plan == id) {
        return Ok(entry.number);
    }
    match id.parse() {
        Ok(number) if entries.iter().any(|entry| entry.number == number) => Ok(number),
        _ => Err(Usage(format!("there is no change {id:?}: `tidewait tune history` lists them")).into()),
    }
}
