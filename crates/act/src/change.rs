//! Changes of settings under the journal: made, confirmed, undone.

mod error;

use std::io::ErrorKind;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tidewait_model::tune::{Deadline, Entry, NamespaceId, State, Undoing, Was};

use crate::journal::{Journal, JournalError, Record, binds, holds};
use crate::kernel::Kernel;
use crate::transition::{Cause, Step, carry_out, same};

pub use error::ChangeError;

/// What is to be changed, where, and by whom.
#[derive(Clone, Debug)]
pub struct Order {
    /// The plan's id.
    pub plan: String,
    /// Where the plan came from.
    pub from: String,
    /// The namespace that the calling thread is in.
    pub namespace: NamespaceId,
    /// Whether that is the namespace that the files of /etc/sysctl.d are applied to at boot.
    pub configured: bool,
    /// The boot, as /proc/sys/kernel/random/boot_id says.
    pub boot: String,
    /// Who it is for.
    pub by: String,
    /// Settings with the value that they have to have, and the one they are to get.
    pub changes: Vec<Was>,
    /// How long there is to confirm it; `None`: it need not be.
    pub confirm_within: Option<Duration>,
}

/// Makes a change in the namespace that the calling thread is in. Its undo is in the journal, and on the disk, before the
/// first write. `guard` is called between the two for a change that has to be confirmed; it has to see to it that the change is undone
/// in time.
///
/// # Errors
/// [`ChangeError`]: then every setting is as it was, but for [`ChangeError::Between`].
pub fn apply(
    kernel: &impl Kernel,
    journal: &mut Journal,
    order: &Order,
    guard: impl FnOnce(&Entry) -> Result<(), String>,
    interrupted: &dyn Fn() -> bool,
) -> Result<Entry, ChangeError> {
    journal.sound()?;
    settle(kernel, journal, &order.namespace, &order.boot)?;
    for was in &order.changes {
        let waiting = journal.entries().iter().find(|entry| {
            entry.boot == order.boot
                && entry.namespace.is(&order.namespace)
                && entry.is_unconfirmed()
                && binds(entry, &was.setting)
        });
        if let Some(entry) = waiting {
            let (setting, number) = (was.setting.clone(), entry.number);
            return Err(if entry.state == State::Begun {
                ChangeError::Unfinished(number)
            } else {
                ChangeError::Waiting { setting, number }
            });
        }
    }
    let mut changes = order.changes.clone();
    let mut moved = Vec::new();
    for was in &mut changes {
        let setting = was.setting.clone();
        match kernel.read(&setting) {
            Ok(is) if same(&is, &was.before) => was.before = is,
            Ok(is) => moved.push(Cause::Moved { setting, expected: was.before.clone(), is }),
            Err(error) => return Err(ChangeError::Failed(Cause::Read { setting, error })),
        }
        if let Err(error) = kernel.may_write(&was.setting) {
            let (setting, value) = (was.setting.clone(), was.wanted.clone());
            return Err(ChangeError::Failed(Cause::Write { setting, value, error }));
        }
    }
    if !moved.is_empty() {
        return Err(ChangeError::Moved(moved));
    }
    if interrupted() {
        return Err(ChangeError::Failed(Cause::Interrupted));
    }
    let number = journal.next();
    let entry = Entry {
        number,
        plan: order.plan.clone(),
        from: order.from.clone(),
        begun_at: now(),
        by: order.by.clone(),
        pid: std::process::id(),
        namespace: order.namespace.clone(),
        configured: order.configured,
        boot: order.boot.clone(),
        changes,
        deadline: order.confirm_within.map(deadline),
        state: State::Begun,
    };
    journal.reserve()?;
    journal.append(&Record::Begin(Box::new(entry.clone())))?;
    if entry.deadline.is_some()
        && let Err(why) = guard(&entry)
    {
        // If it cannot be noted, it will be found that all is as it was.
        let _ = undone(journal, number, Undoing::Failed, Vec::new());
        return Err(ChangeError::Unguarded(why));
    }
    if entry.deadline.as_ref().is_some_and(|deadline| uptime_ms() >= deadline.uptime_ms) {
        let _ = undone(journal, number, Undoing::Failed, Vec::new());
        return Err(ChangeError::Unguarded("that took longer than there is to confirm it".to_owned()));
    }
    if let Err(failed) = carry_out(kernel, &forth(&entry), interrupted) {
        if !failed.stuck.is_empty() {
            return Err(ChangeError::Between { failed, number });
        }
        let why = match failed.cause {
            Cause::Interrupted => Undoing::Interrupted,
            _ => Undoing::Failed,
        };
        let _ = undone(journal, number, why, Vec::new());
        return Err(ChangeError::Failed(failed.cause));
    }
    if let Err(error) = journal.append(&Record::Applied { number, at: now() }) {
        return match carry_out(kernel, &back(&entry), &|| false) {
            Ok(()) => Err(ChangeError::Unnoted(error)),
            Err(failed) => Err(ChangeError::Between { failed, number }),
        };
    }
    find(journal, number).cloned()
}

/// Takes down that changes of this namespace are over whose values are all what they were before: they were interrupted before the
/// first write, or undone while nothing could be taken down.
fn settle(
    kernel: &impl Kernel,
    journal: &mut Journal,
    namespace: &NamespaceId,
    boot: &str,
) -> Result<(), ChangeError> {
    let unsettled = |entry: &&Entry| {
        let unfinished = entry.state == State::Begun || entry.is_unconfirmed();
        let here = entry.boot == boot && entry.namespace.is(namespace);
        // What a later change made of it says nothing about this one.
        let alone =
            || entry.changes.iter().all(|was| later(kernel, journal, entry, &was.setting, holds).is_none());
        here && unfinished && is_as_before(kernel, entry) && alone()
    };
    let over: Vec<u64> = journal.entries().iter().filter(unsettled).map(|entry| entry.number).collect();
    for number in over {
        undone(journal, number, Undoing::Found, Vec::new())?;
    }
    Ok(())
}

/// Whether every setting of a change is what it was before, in the namespace that the calling thread is in.
pub fn is_as_before(kernel: &impl Kernel, entry: &Entry) -> bool {
    entry.changes.iter().all(|was| kernel.read(&was.setting).is_ok_and(|is| same(&is, &was.before)))
}

/// Confirms a change that was to be undone otherwise, in the namespace that the calling thread is in.
///
/// # Errors
/// [`ChangeError`] where there is nothing to confirm.
pub fn confirm(
    kernel: &impl Kernel,
    journal: &mut Journal,
    number: u64,
    boot: &str,
) -> Result<Entry, ChangeError> {
    let namespace = find(journal, number)?.namespace.clone();
    settle(kernel, journal, &namespace, boot)?;
    let entry = find(journal, number)?;
    match &entry.state {
        State::Undone { at, why, .. } => {
            return Err(ChangeError::Over { number, at: at.clone(), why: *why });
        }
        _ if entry.boot != boot => return Err(ChangeError::Restarted { number }),
        State::Begun => return Err(ChangeError::Unfinished(number)),
        State::Confirmed { .. } => return Err(ChangeError::NothingToConfirm { number, was: true }),
        State::Applied { .. } if entry.deadline.is_none() => {
            return Err(ChangeError::NothingToConfirm { number, was: false });
        }
        State::Applied { .. } => {}
    }
    journal.append(&Record::Confirmed { number, at: now() })?;
    find(journal, number).cloned()
}

/// What an undo came to.
#[derive(Debug)]
pub struct Undo {
    /// The entry as it is now.
    pub entry: Entry,
    /// Settings that were left as they are, because somebody else had changed them.
    pub left: Vec<String>,
    /// All is undone, but the journal could not take it down.
    pub unnoted: Option<JournalError>,
}

/// What to do with settings that somebody else has changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drifted {
    /// Undo nothing.
    Refuse,
    /// Restore them too.
    Restore,
    /// Leave them, and restore the others: for an undo that nobody watches.
    Leave,
}

/// Undoes a change in the namespace that the calling thread is in: all of it, or nothing. It needs no room on the disk: what is
/// to be restored stands in the journal already, and where its end cannot be noted the values themselves tell.
///
/// # Errors
/// [`ChangeError`].
pub fn undo(
    kernel: &impl Kernel,
    journal: &mut Journal,
    number: u64,
    boot: &str,
    why: Undoing,
    drifted: Drifted,
) -> Result<Undo, ChangeError> {
    let entry = find(journal, number)?.clone();
    if let State::Undone { at, why, .. } = &entry.state {
        return Err(ChangeError::Over { number, at: at.clone(), why: *why });
    }
    if entry.boot != boot {
        return Err(ChangeError::Restarted { number });
    }
    let mut steps = back(&entry);
    let mut causes = Vec::new();
    let mut left = Vec::new();
    for step in &mut steps {
        let setting = step.setting.clone();
        match kernel.read(&setting) {
            Ok(is) if same(&is, &step.from) || same(&is, &step.to) => {}
            Ok(is) => {
                causes.push(Cause::Moved { setting, expected: step.from.clone(), is: is.clone() });
                step.from = is;
            }
            // Its module is gone, and its value with it.
            Err(error) if error.kind() == ErrorKind::NotFound && drifted != Drifted::Refuse => {
                left.push(setting);
            }
            Err(error) => {
                return Err(ChangeError::NotUndone { cause: Cause::Read { setting, error }, number });
            }
        }
    }
    steps.retain(|step| !left.contains(&step.setting));
    match drifted {
        Drifted::Refuse => {
            let changed_again = |setting: &str| later(kernel, journal, &entry, setting, holds);
            if let Some((setting, later)) = entry.changes.iter().find_map(|was| changed_again(&was.setting)) {
                return Err(ChangeError::Covered { setting, later });
            }
            if !causes.is_empty() {
                return Err(ChangeError::Drifted { causes, number });
            }
        }
        Drifted::Restore => {}
        Drifted::Leave => {
            for cause in &causes {
                if let Cause::Moved { setting, .. } = cause {
                    steps.retain(|step| step.setting != *setting);
                    left.push(setting.clone());
                }
            }
        }
    }
    if let Err(failed) = carry_out(kernel, &steps, &|| false) {
        if !failed.stuck.is_empty() {
            return Err(ChangeError::Between { failed, number });
        }
        // It may be refused because of what came later and bounds it.
        let cause = failed.cause;
        let bound = match &cause {
            Cause::Write { setting, .. } => later(kernel, journal, &entry, setting, binds),
            _ => None,
        };
        return Err(match bound {
            Some((_, later)) => ChangeError::Bound { number, later, cause },
            None => ChangeError::NotUndone { cause, number },
        });
    }
    let unnoted = undone(journal, number, why, left.clone()).err();
    let entry = find(journal, number)?.clone();
    Ok(Undo { entry, left, unnoted })
}

/// A change of the same namespace after `entry` that holds `setting`, or binds it, and is in force.
fn later(
    kernel: &impl Kernel,
    journal: &Journal,
    entry: &Entry,
    setting: &str,
    holds: fn(&Entry, &str) -> bool,
) -> Option<(String, u64)> {
    let later = journal.entries().iter().rev().find(|later| {
        later.number > entry.number
            && later.boot == entry.boot
            && later.namespace.is(&entry.namespace)
            && holds(later, setting)
            && !is_as_before(kernel, later)
    });
    later.map(|later| (setting.to_owned(), later.number))
}

/// Restores what was before a change whose journal is gone; settings that somebody else has changed are left.
///
/// # Errors
/// [`ChangeError::Failed`] or [`ChangeError::Between`].
pub fn restore(kernel: &impl Kernel, entry: &Entry) -> Result<(), ChangeError> {
    let mut steps = back(entry);
    steps.retain(|step| {
        kernel.read(&step.setting).is_ok_and(|is| same(&is, &step.from) || same(&is, &step.to))
    });
    carry_out(kernel, &steps, &|| false).map_err(|failed| {
        if failed.stuck.is_empty() {
            ChangeError::NotUndone { cause: failed.cause, number: entry.number }
        } else {
            ChangeError::Between { failed, number: entry.number }
        }
    })
}

/// Milliseconds since the machine was started, those it slept included.
pub fn uptime_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

fn deadline(within: Duration) -> Deadline {
    let at = Timestamp::now().checked_add(within).unwrap_or(Timestamp::MAX);
    Deadline {
        uptime_ms: uptime_ms() + u64::try_from(within.as_millis()).unwrap_or(u64::MAX / 2),
        at: seconds(at),
        seconds: within.as_secs_f64(),
    }
}

fn find(journal: &Journal, number: u64) -> Result<&Entry, ChangeError> {
    journal.entry(number).ok_or(ChangeError::Unknown(number))
}

fn undone(journal: &mut Journal, number: u64, why: Undoing, left: Vec<String>) -> Result<(), JournalError> {
    journal.append(&Record::Undone { number, at: now(), why, left })
}

fn forth(entry: &Entry) -> Vec<Step> {
    let step =
        |was: &Was| Step { setting: was.setting.clone(), from: was.before.clone(), to: was.wanted.clone() };
    entry.changes.iter().map(step).collect()
}

fn back(entry: &Entry) -> Vec<Step> {
    let turn = |step: Step| Step { from: step.to, to: step.from, ..step };
    forth(entry).into_iter().rev().map(turn).collect()
}

/// Takes down that settings are kept in a file, or are not any more.
///
/// # Errors
/// [`JournalError::Io`].
pub fn note_kept(
    journal: &mut Journal,
    file: &str,
    settings: &[(String, String)],
) -> Result<(), JournalError> {
    let settings = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    journal.append(&Record::Kept { at: now(), file: file.to_owned(), settings })
}

/// The time, to the second, RFC 3339 in UTC.
pub fn now() -> String {
    seconds(Timestamp::now())
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

#[cfg(test)]
mod tests;
