//! `tidewait tune status` and `tidewait tune history`: what was changed, and how things stand with it.

use std::path::Path;

use anyhow::Result;
use tidewait_act::change::uptime_ms;
use tidewait_act::journal;
use tidewait_act::kernel::{Kernel as _, Sysctl};
use tidewait_act::persist;
use tidewait_act::transition::same;
use tidewait_model::Limit;
use tidewait_model::tune::{Entry, Held, Holding, Now, STATUS_SCHEMA, Situation, State, Status, Told, Was};
use tidewait_observe::places::find_again;
use tidewait_observe::procfs;
use tidewait_surfaces::text;

use super::keep;
use crate::cli::Format;
use crate::output;

/// How long after its time an undo may be on its way, in milliseconds.
const GRACE: u64 = 2_000;

/// Runs the command: every change, or those that are in force, wait or need a look.
pub fn run(format: Format, state: &Path, all: bool) -> Result<()> {
    let status = status(state, all)?;
    if format.json {
        output::json(&status, false)
    } else {
        output::text(&text::tune_status(&status, all, &output::page(format, usize::MAX)))
    }
}

fn status(state: &Path, all: bool) -> Result<Status> {
    let reading = journal::read(state)?
        .unwrap_or_else(|| journal::Reading { path: state.join("journal"), ..journal::Reading::default() });
    let boot = procfs::boot_id(Path::new("/"));
    let mut limits = Vec::new();
    if !reading.damaged.is_empty() {
        let lines: Vec<String> = reading.damaged.iter().map(u64::to_string).collect();
        limits.push(
            Limit::new(
                format!("line {} of {}", lines.join(", "), reading.path.display()),
                "it is not what was written: damaged, or edited",
            )
            .remedy("move the file away once nothing that it holds is in force any more"),
        );
    }
    let changes = reading
        .entries
        .iter()
        .map(|entry| told(entry, &reading.entries, &boot, reading.busy, &mut limits))
        .filter(|told| {
            all || !matches!(
                told.situation,
                Situation::Undone | Situation::Restarted | Situation::NamespaceGone
            )
        })
        .collect();
    let persisted = persisted(&mut limits);
    Ok(Status {
        schema: STATUS_SCHEMA.to_owned(),
        journal: reading.path.display().to_string(),
        changes,
        persisted,
        limits,
    })
}

/// What is kept across a restart.
fn persisted(limits: &mut Vec<Limit>) -> Vec<Held> {
    let root = Path::new("/");
    match persist::read(root) {
        Ok(Some(file)) => {
            if file.edited {
                let what = format!("what {} keeps", persist::FILE);
                limits.push(
                    Limit::new(what, "the file was edited by hand")
                        .remedy("tidewait tune persist --force takes it over"),
                );
            }
            keep::held(&file.blocks, root)
        }
        Ok(None) => Vec::new(),
        Err(error) => {
            limits.push(Limit::new(format!("what {} keeps", persist::FILE), error.to_string()));
            Vec::new()
        }
    }
}

/// An entry and how things stand with it.
fn told(entry: &Entry, all: &[Entry], boot: &str, busy: bool, limits: &mut Vec<Limit>) -> Told {
    let mut told =
        Told { entry: entry.clone(), situation: Situation::Undone, seconds_left: None, now: Vec::new() };
    if !entry.is_open() {
        return told;
    }
    if entry.boot != boot {
        told.situation = Situation::Restarted;
        return told;
    }
    let read = |place: tidewait_observe::places::Place| place.enter(|| now(&entry.changes));
    match find_again(Path::new("/"), &entry.namespace).and_then(|place| place.map(read).transpose()) {
        Ok(Some(now)) => told.now = now,
        Ok(None) => {
            told.situation = Situation::NamespaceGone;
            return told;
        }
        Err(error) => limits.push(error.limit()),
    }
    for now in &mut told.now {
        now.changed_by = all
            .iter()
            .rev()
            .filter(|later| {
                later.number > entry.number && later.is_open() && later.namespace.is(&entry.namespace)
            })
            .find(|later| later.changes.iter().any(|was| was.setting == now.setting))
            .filter(|_| now.held != Holding::Wanted)
            .map(|later| later.number);
    }
    let deadline = entry.deadline.as_ref().filter(|_| entry.is_unconfirmed());
    let left = deadline.map(|deadline| deadline.uptime_ms.saturating_sub(uptime_ms()));
    let late = deadline.is_some_and(|deadline| uptime_ms() > deadline.uptime_ms + GRACE);
    told.seconds_left = left.filter(|left| *left > 0).map(|left| left as f64 / 1e3);
    let now = &told.now;
    let every = |holds: fn(&Now) -> bool| now.iter().all(holds);
    let as_before = !now.is_empty() && every(|now| now.held == Holding::Before && now.changed_by.is_none());
    told.situation = match entry.state {
        State::Begun if busy || is_alive(entry.pid) => Situation::AtWork,
        // Interrupted before the first write, or after the last of its undoing.
        _ if as_before => Situation::Undone,
        State::Begun => Situation::Stranded,
        _ if late => Situation::Stranded,
        // Some of each: an undo that was interrupted.
        _ if every(|now| {
            matches!(now.held, Holding::Before | Holding::Wanted) && now.changed_by.is_none()
        }) && now.iter().any(|now| now.held == Holding::Before) =>
        {
            Situation::Stranded
        }
        _ if left.is_some() => Situation::Unconfirmed,
        _ if every(|now| matches!(now.held, Holding::Wanted | Holding::Unknown)) => Situation::InForce,
        _ if every(|now| now.held == Holding::Wanted || now.changed_by.is_some()) => Situation::ChangedAgain,
        _ => Situation::Drifted,
    };
    told
}

/// Whether whoever makes a change is at it still: the lock may be out of sight.
pub fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The settings of a change in the namespace that the calling thread is in.
fn now(changes: &[Was]) -> Vec<Now> {
    let one = |was: &Was| {
        let value = Sysctl.read(&was.setting).ok();
        let held = match value.as_deref() {
            None => Holding::Unknown,
            Some(is) if same(is, &was.wanted) => Holding::Wanted,
            Some(is) if same(is, &was.before) => Holding::Before,
            Some(_) => Holding::Other,
        };
        Now { setting: was.setting.clone(), value, held, changed_by: None }
    };
    changes.iter().map(one).collect()
}
