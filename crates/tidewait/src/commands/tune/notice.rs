//! A word, whatever the command, about a change that was interrupted or should have been undone by now.

use std::path::Path;

use tidewait_act::change::{is_as_before, uptime_ms};
use tidewait_act::journal;
use tidewait_act::kernel::Sysctl;
use tidewait_model::tune::{Entry, State};
use tidewait_observe::places::find_again;
use tidewait_observe::procfs;

use super::status::is_alive;
use crate::cli::StateDir;

/// How long after its time an undo may be on its way, in milliseconds.
const GRACE: u64 = 2_000;

/// Says it on standard error. A journal that cannot be read is not for this.
pub fn say() {
    let directory = StateDir { directory: None }.path();
    let Ok(Some(reading)) = journal::recent(&directory) else { return };
    if reading.busy {
        return;
    }
    let boot = procfs::boot_id(Path::new("/"));
    for entry in reading.entries.iter().filter(|entry| entry.boot == boot) {
        if let Some(word) = word(entry).filter(|_| is_there(entry)) {
            anstream::eprintln!("tidewait: {word}");
        }
    }
}

/// Whether anything is left of a change: its namespace may be gone, or its undo not taken down.
fn is_there(entry: &Entry) -> bool {
    match find_again(Path::new("/"), &entry.namespace) {
        Ok(Some(place)) => place.enter(|| !is_as_before(&Sysctl, entry)).unwrap_or(true),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn word(entry: &Entry) -> Option<String> {
    let number = entry.number;
    let place = &entry.namespace.name;
    match (&entry.state, &entry.deadline) {
        (State::Begun, _) if is_alive(entry.pid) => None,
        (State::Begun, _) => Some(format!(
            "change {number} of {} ({place}) was interrupted: `tidewait tune status` says which settings it reached, `tidewait tune \
             rollback {number}` restores all",
            entry.begun_at
        )),
        (State::Applied { .. }, Some(deadline)) if uptime_ms() > deadline.uptime_ms + GRACE => Some(format!(
            "change {number} ({place}) was to be undone at {} and was not, because whoever was to do it is gone: `tidewait tune \
             rollback {number}` restores what was before, `tidewait tune confirm {number}` keeps it",
            deadline.at
        )),
        _ => None,
    }
}
