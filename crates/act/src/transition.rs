//! Several settings from one set of values to another: all of them, or none.

use std::fmt;
use std::io;

use tidewait_model::tune::spaced;

use crate::kernel::Kernel;

/// A setting on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Full name.
    pub setting: String,
    /// The value it has to have before it is touched.
    pub from: String,
    /// The value it is to have.
    pub to: String,
}

/// Why a setting could not be brought to its value.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It could not be read.
    #[error("{setting} cannot be read: {error}")]
    Read {
        /// The setting.
        setting: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The kernel refused the value.
    #[error("{setting} = {value:?} cannot be written: {}", refused(error))]
    Write {
        /// The setting.
        setting: String,
        /// The value.
        value: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The kernel took it, and it is something else.
    #[error(
        "{setting} is {is:?} after {wanted:?} was written: the kernel takes another value, or somebody else writes it too"
    )]
    NotTaken {
        /// The setting.
        setting: String,
        /// What was written.
        wanted: String,
        /// What it is.
        is: String,
    },
    /// It does not have the value it was to be changed from.
    #[error("{setting} is {is:?} and not {expected:?} any more: somebody else has changed it meanwhile")]
    Moved {
        /// The setting.
        setting: String,
        /// What it was to be.
        expected: String,
        /// What it is.
        is: String,
    },
    /// Somebody wanted it to end.
    #[error("interrupted")]
    Interrupted,
}

fn refused(error: &io::Error) -> String {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ROFS) => {
            "/proc/sys is read-only here, as in a container or under ProtectKernelTunables=: run it \
             on the host, with --netns for the container"
                .to_owned()
        }
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            format!("{error}: it takes root, or CAP_NET_ADMIN in the user namespace of the network namespace")
        }
        Some(rustix::io::Errno::INVAL) => format!("{error}: the kernel refuses this value"),
        _ => error.to_string(),
    }
}

impl Cause {
    /// Whether privileges or a writable /proc/sys would help.
    pub fn is_permission(&self) -> bool {
        let errno = match self {
            Cause::Read { error, .. } | Cause::Write { error, .. } => error.raw_os_error(),
            _ => None,
        };
        errno.map(rustix::io::Errno::from_raw_os_error).is_some_and(|errno| {
            matches!(errno, rustix::io::Errno::ROFS | rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)
        })
    }
}

/// A transition that did not come about.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub cause: Cause,
    /// Settings that were changed and could not be brought back, each with the reason. Empty: all is as it was before.
    pub stuck: Vec<Cause>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        for stuck in &self.stuck {
            write!(f, "; and could not be brought back: {stuck}")?;
        }
        Ok(())
    }
}

/// Brings every setting from its `from` to its `to`, in order; each is looked at before, and read back after. If one
/// fails, or `interrupted` says so before it, those that were changed are brought back in reverse.
///
/// A setting that is `to` already is passed over, and stays so.
///
/// # Errors
/// [`Failed`], which says whether all is as it was.
pub fn carry_out(kernel: &impl Kernel, steps: &[Step], interrupted: &dyn Fn() -> bool) -> Result<(), Failed> {
    let mut done: Vec<&Step> = Vec::new();
    for step in steps {
        let moved = if interrupted() { Err((Cause::Interrupted, false)) } else { set(kernel, step) };
        match moved {
            Ok(true) => done.push(step),
            Ok(false) => {}
            Err((cause, touched)) => {
                let touched = touched.then_some(step);
                let back = done.into_iter().chain(touched).rev();
                let stuck = back.filter_map(|step| bring_back(kernel, step).err()).collect();
                return Err(Failed { cause, stuck });
            }
        }
    }
    Ok(())
}

/// Whether two spellings are the same value.
pub fn same(one: &str, other: &str) -> bool {
    one == other || spaced(one) == spaced(other)
}

/// Sets one; whether it had to be written. The error says whether it may have been touched.
fn set(kernel: &impl Kernel, Step { setting, from, to }: &Step) -> Result<bool, (Cause, bool)> {
    let read = |touched| {
        kernel.read(setting).map_err(|error| (Cause::Read { setting: setting.clone(), error }, touched))
    };
    let is = read(false)?;
    if same(&is, to) {
        return Ok(false);
    }
    if !same(&is, from) {
        return Err((Cause::Moved { setting: setting.clone(), expected: from.clone(), is }, false));
    }
    kernel
        .write(setting, to)
        .map_err(|error| (Cause::Write { setting: setting.clone(), value: to.clone(), error }, true))?;
    let is = read(true)?;
    if same(&is, to) {
        Ok(true)
    } else {
        Err((Cause::NotTaken { setting: setting.clone(), wanted: to.clone(), is }, true))
    }
}

/// Brings one back, whatever it is now: it was this program that touched it a moment ago.
fn bring_back(kernel: &impl Kernel, Step { setting, from, .. }: &Step) -> Result<(), Cause> {
    let read = || kernel.read(setting).map_err(|error| Cause::Read { setting: setting.clone(), error });
    if read().is_ok_and(|is| same(&is, from)) {
        return Ok(());
    }
    kernel.write(setting, from).map_err(|error| Cause::Write {
        setting: setting.clone(),
        value: from.clone(),
        error,
    })?;
    let is = read()?;
    if same(&is, from) {
        Ok(())
    } else {
        Err(Cause::NotTaken { setting: setting.clone(), wanted: from.clone(), is })
    }
}

#[cfg(test)]
mod tests;
