//! What this kernel and these privileges allow, found out by doing it in a disposable namespace.
//!
//! Every probe is one row of a table (`Spec`) and runs in a forked child (`worker`), because a user namespace can
//! only be entered by a process with a single thread, because the child's end takes its namespaces, sockets
//! and BPF programs along, and because a probe that hangs can then be killed without hiding the others.
//! Nothing is concluded from the version of the kernel.

mod bpf;
mod cgroup;
mod diag;
mod netlink;
mod places;
mod privileges;
mod sandbox;
mod settings;
mod sockets;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use tidewait_model::doctor::{Checkup, Probe, SCHEMA, Verdict};

#[cfg(feature = "bpf")]
pub(crate) use places::lockdown_mode;
pub use privileges::Privileges;
use sandbox::Namespace;

/// When to give up on all of it; what is not done by then is reported as not tried. A machine takes a tenth of
/// this at most; only an emulated one, or a kernel that hangs, comes near.
const TOTAL: Duration = Duration::from_secs(5);

/// Tries everything and says what came of it.
///
/// Takes about a fifth of a second, changes nothing outside namespaces (and one cgroup) of its own making, and leaves
/// nothing behind. A probe that hangs is given up after a second, all of it after five.
///
/// It forks: call it where no other thread holds a lock that the child would need. A child that gets stuck all the
/// same is killed, and its probe reported as unknown.
#[must_use]
pub fn checkup() -> Checkup {
    let privileges = Privileges::read();
    let deadline = Instant::now() + TOTAL;
    let mut probes = Vec::new();
    for (room, specs) in [
        (Room::Outside, places::OUTSIDE),
        (Room::UserNamespace, places::USER_NAMESPACE),
        (Room::Anywhere, places::NAMESPACE),
        (Room::Sandbox, places::SANDBOX),
        (Room::Anywhere, sockets::DUMPS),
        (Room::Sandbox, sockets::SPECS),
        (Room::Sandbox, settings::SPECS),
        (Room::Privileged, cgroup::SPECS),
        (Room::Privileged, bpf::SPECS),
    ] {
        probes.extend(worker::run(room, specs, &privileges, deadline));
    }
    Checkup {
        schema: SCHEMA.to_owned(),
        kernel: crate::procfs::kernel_release(),
        user: privileges.user.clone(),
        capabilities: privileges.names(),
        probes,
    }
}

/// Why capabilities may not suffice.
const OUT_OF_SCOPE: &str = "outside, the capabilities of this user namespace do not count";

/// Where the worker stands while it runs its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Where the caller stands: for looking only.
    Outside,
    /// In a new network namespace, through a user namespace where that is the only way.
    Sandbox,
    /// As `Sandbox`, for probes that have something to say also where no namespace can be made.
    Anywhere,
    /// In a new user namespace, also where it would not be needed.
    UserNamespace,
    /// In a new network namespace if that works without a user namespace (BPF does not work inside one), else outside.
    Privileged,
}

/// One probe: what it is, and how to try it.
struct Spec {
    id: &'static str,
    title: &'static str,
    enables: &'static str,
    /// Capabilities that it takes in the user namespace that owns the machine's sockets.
    needs: CapabilitySet,
    /// How to get it where the kernel or its configuration is what is missing.
    remedy: &'static str,
    run: fn(&Bench) -> Answer,
}

/// What a probe finds at hand.
struct Bench {
    privileges: Privileges,
    namespace: Namespace,
}

/// What was seen where it works; else what kept it from working.
type Answer = Result<String, Failure>;

/// Why a probe did not show that the thing works.
#[derive(Debug)]
enum Failure {
    /// The kernel cannot do it.
    Unsupported(String),
    /// Refused for want of privileges.
    NotPermitted(String),
    /// It could not be tried, or came out in a way that says nothing.
    Unknown(String),
}

impl Failure {
    /// Files an error of the kernel under what it means; `doing` says what was asked.
    fn of(doing: &str, error: &io::Error) -> Self {
        let text = format!("{doing}: {error}");
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::ACCESS) => Self::NotPermitted(text),
            Some(
                Errno::OPNOTSUPP
                | Errno::NOPROTOOPT
                | Errno::PROTONOSUPPORT
                | Errno::AFNOSUPPORT
                | Errno::NOSYS,
            ) => Self::Unsupported(text),
            _ => Self::Unknown(text),
        }
    }
}

/// Shorthand: `attempt.doing("what")?` in a probe.
trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, Failure>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(what, &error))
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::of(what, &error.into()))
    }
}

impl Spec {
    /// The row of the checkup for this answer.
    ///
    /// Two corrections are made here for all probes: a success in a user namespace does not carry over to the
    /// machine's own namespaces without the capability; and a refusal in spite of the capability is the
    /// kernel's policy (lockdown, a security module, seccomp), which more privileges would not change.
    fn probe(&self, answer: Answer, bench: &Bench) -> Probe {
        let missing = bench.privileges.lacks(self.needs);
        let own_namespace = matches!(bench.namespace, Namespace::Own | Namespace::UserOwned);
        let held = privileges::names(self.needs).join(", ");
        let (verdict, detail) = match answer {
            Ok(seen) if own_namespace && !missing.is_empty() => (
                Verdict::NotPermitted,
                format!("in a user namespace: {seen}; outside it, missing: {}", missing.join(", ")),
            ),
            Ok(seen) if own_namespace && !self.needs.is_empty() && !bench.privileges.rule_here => {
                (Verdict::NotPermitted, format!("in a new namespace: {seen}; {OUT_OF_SCOPE}"))
            }
            Ok(seen) => (Verdict::Works, seen),
            Err(Failure::Unsupported(why)) => (Verdict::Unsupported, why),
            Err(Failure::Unknown(why)) => (Verdict::Unknown, why),
            Err(Failure::NotPermitted(why)) if !missing.is_empty() => {
                (Verdict::NotPermitted, format!("{why}; missing: {}", missing.join(", ")))
            }
            Err(Failure::NotPermitted(why)) if self.needs.is_empty() => (Verdict::NotPermitted, why),
            Err(Failure::NotPermitted(why)) if !bench.privileges.initial_user_namespace => {
                (Verdict::NotPermitted, format!("{why}; {OUT_OF_SCOPE}"))
            }
            Err(Failure::NotPermitted(why)) => (
                Verdict::Unsupported,
                format!("{why}, in spite of {held}: lockdown, a security module or seccomp"),
            ),
        };
        let remedy = match verdict {
            Verdict::Works => None,
            Verdict::NotPermitted if !missing.is_empty() => {
                Some(format!("run as root, or with {}", missing.join(", ")))
            }
            Verdict::NotPermitted if !self.needs.is_empty() => {
                Some("run it outside of the user namespace (rootless container)".to_owned())
            }
            _ => Some(self.remedy.to_owned()),
        };
        Probe {
            id: self.id.to_owned(),
            title: self.title.to_owned(),
            verdict,
            detail,
            enables: self.enables.to_owned(),
            remedy,
        }
    }
}
