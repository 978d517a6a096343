//! `tidewait tune confirm` and `tidewait tune rollback`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tidewait_act::change::{self, Drifted};
use tidewait_act::journal::{self, Journal};
use tidewait_act::kernel::Sysctl;
use tidewait_act::persist;
use tidewait_model::tune::{Entry, Undoing};
use tidewait_observe::places::{self, Scope, find_again};
use tidewait_observe::procfs;

use super::apply::{PATIENCE, explained};
use crate::exit::Usage;
use crate::{interrupt, output};

/// Keeps a change.
pub fn confirm(id: Option<&str>, state: &Path) -> Result<()> {
    let boot = procfs::boot_id(Path::new("/"));
    let entries = entries(state)?;
    let number = match id {
        Some(id) => number(&entries, id)?,
        None => {
            let waiting = |entry: &&Entry| entry.boot == boot && entry.is_unconfirmed();
            let waiting: Vec<&Entry> = entries.iter().filter(waiting).collect();
            match meant(&waiting)? {
                Choice::One(number) => number,
                Choice::None => {
                    bail!("no change waits to be confirmed; `tidewait tune status` shows what is in force")
                }
            }
        }
    };
    let entry = inside(&entries, number, &boot, || {
        let mut journal = Journal::open(state, PATIENCE)?;
        change::confirm(&Sysctl, &mut journal, number, &boot)
    })?;
    let mut text = format!(
        "change {number} is confirmed; `tidewait tune rollback {number}` would restore what was before\n"
    );
    if entry.configured {
        text.push_str(&format!(
            "it lasts until the machine is started anew; `tidewait tune persist {number}` keeps it beyond that\n"
        ));
    }
    output::text(&text).with_context(|| format!("change {number} is confirmed all the same"))
}

/// Restores what was before a change.
pub fn rollback(id: Option<&str>, force: bool, state: &Path) -> Result<()> {
    let boot = procfs::boot_id(Path::new("/"));
    let entries = entries(state)?;
    let number = match id {
        Some(id) => number(&entries, id)?,
        None => {
            let open: Vec<&Entry> =
                entries.iter().filter(|entry| entry.boot == boot && entry.is_open()).collect();
            match meant(&open)? {
                Choice::One(number) => number,
                Choice::None => bail!("no change is in force; `tidewait tune history` shows what there was"),
            }
        }
    };
    // A signal does not end it between two settings; what was begun is done in no time.
    let _over = interrupt::catch()?;
    let drifted = if force { Drifted::Restore } else { Drifted::Refuse };
    let undo = inside(&entries, number, &boot, || {
        let mut journal = Journal::open(state, PATIENCE)?;
        change::undo(&Sysctl, &mut journal, number, &boot, Undoing::Rollback, drifted)
    })?;
    let mut text = String::new();
    for was in &undo.entry.changes {
        text.push_str(&format!("{} = {}\n", was.setting, tidewait_model::tune::spaced(&was.before)));
    }
    if undo.left.is_empty() {
        text.push_str(&format!("change {number} is undone: every setting is what it was before\n"));
    } else {
        text.push_str(&format!(
            "change {number} is undone, but for what is not there any more: {}\n",
            undo.left.join(", ")
        ));
    }
    let names: Vec<&str> = undo.entry.changes.iter().map(|was| was.setting.as_str()).collect();
    if let Ok(Some(file)) = persist::read(Path::new("/"))
        && undo.entry.configured
        && file.settings().iter().any(|(name, _)| names.contains(&name.as_str()))
    {
        text.push_str(&format!(
            "{} still keeps them for the next start: `tidewait tune unpersist` takes them out\n",
            persist::FILE
        ));
    }
    if let Some(error) = undo.unnoted {
        anstream::eprintln!(
            "tidewait: the journal could not take it down: {error}; `tidewait tune status` sees it by the values"
        );
    }
    output::text(&text).with_context(|| format!("change {number} is undone all the same"))
}

/// Does `work` in the namespace of a change. What is over needs no namespace to be told so.
fn inside<T: Send>(
    entries: &[Entry],
    number: u64,
    boot: &str,
    work: impl FnOnce() -> Result<T, change::ChangeError> + Send,
) -> Result<T> {
    let Some(entry) = entries.iter().find(|entry| entry.number == number) else {
        return Err(explained(change::ChangeError::Unknown(number)));
    };
    let done = if entry.boot != boot || !entry.is_open() {
        work()
    } else {
        let Some(place) = find_again(Path::new("/"), &entry.namespace)? else {
            bail!(
                "network namespace {} of change {number} is gone, or out of sight from here: its settings went with it, and nothing \
                 is left to restore or to keep",
                entry.namespace.name
            );
        };
        place.enter(work)?
    };
    done.map_err(explained)
}

/// Which change is meant where none is named.
enum Choice {
    One(u64),
    None,
}

/// The last one of the namespace that this program runs in; where that has none, the last one there is, if all are of one
/// namespace that is still there.
fn meant(entries: &[&Entry]) -> Result<Choice> {
    let root = Path::new("/");
    let own = places::find(root, &Scope::Auto)?.places.into_iter().find(|place| place.own);
    let own = own.map(|place| place.identity()).transpose()?;
    if let Some(entry) =
        entries.iter().rev().find(|entry| own.as_ref().is_some_and(|own| entry.namespace.is(own)))
    {
        return Ok(Choice::One(entry.number));
    }
    let mut there: Vec<&Entry> = Vec::new();
    for entry in entries {
        if find_again(root, &entry.namespace)?.is_some() {
            there.push(entry);
        }
    }
    match there.last() {
        None => Ok(Choice::None),
        Some(last) if there.iter().all(|entry| entry.namespace.is(&last.namespace)) => {
            Ok(Choice::One(last.number))
        }
        Some(_) => {
            let listed: Vec<String> =
                there.iter().map(|entry| format!("{} (in {})", entry.number, entry.namespace.name)).collect();
            Err(Usage(format!(
                "none is of the network namespace that tidewait runs in, and there are some of several others: say which of {}",
                listed.join(", ")
            ))
            .into())
        }
    }
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
