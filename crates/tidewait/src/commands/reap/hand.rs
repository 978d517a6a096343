//! What ends the sockets: the kernel by order; or nothing, where they are only counted.

#[cfg(feature = "act")]
use rustix::io::Errno;
#[cfg(feature = "act")]
use rustix::thread::CapabilitySet;
#[cfg(feature = "act")]
use tidewait_act::reap::{Destroyer, Fate as Act, Refusal, Victim, Warrant};
use tidewait_diagnose::reap::Due;
use tidewait_model::reap::Reapable;
#[cfg(feature = "act")]
use tidewait_observe::probe::Privileges;
use tidewait_observe::sock_diag::Handle;

use crate::cli::Reap;
#[cfg(feature = "act")]
use crate::needs::Needs;

#[cfg(feature = "act")]
const NEEDS: Needs = Needs {
    else_not: "sockets cannot be ended",
    capabilities: CapabilitySet::NET_ADMIN,
    instead: None,
    without: "`tidewait reap --dry-run` works without: it says what would go; so does `tidewait report`",
};

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "act"), expect(dead_code, reason = "sockets are only counted"))]
pub enum Fate {
    /// It is gone by this order, or would be.
    Ended,
    /// It was gone already.
    Gone,
    /// The kernel refused.
    Refused,
    /// The kernel's answer was lost.
    Unclear,
}

/// What became of sockets, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Those that are gone by order, or would be.
    pub ended: u64,
    /// Those that were gone already.
    pub gone: u64,
    /// Those that the kernel refused to end.
    pub refused: u64,
    /// Those of which its answer was lost.
    pub unclear: u64,
}

impl Fates {
    /// One more.
    pub fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Ended => self.ended += 1,
            Fate::Gone => self.gone += 1,
            Fate::Refused => self.refused += 1,
            Fate::Unclear => self.unclear += 1,
        }
    }

    /// Those that are not gone by this order.
    pub fn not_ended(self) -> u64 {
        self.gone + self.refused + self.unclear
    }
}

/// See the module.
pub enum Hand {
    /// Ends them.
    #[cfg(feature = "act")]
    Ends { destroyer: Destroyer, warrant: Warrant, victims: Vec<Victim> },
    /// Counts them.
    Counts,
}

impl Hand {
    /// What was asked for, in the calling thread's network namespace.
    pub fn open(options: &Reap, states: &[Reapable]) -> anyhow::Result<Hand> {
        if options.dry_run {
            return Ok(Hand::Counts);
        }
        open(states)
    }

    /// Ends the sockets, and tells of each what became of it.
    ///
    /// # Errors
    /// If the kernel takes no orders, or refused one: it would refuse the next one too.
    pub fn end(
        &mut self,
        batch: &[Due<Handle>],
        each: &mut dyn FnMut(&Due<Handle>, Fate),
    ) -> anyhow::Result<()> {
        match self {
            Hand::Counts => batch.iter().for_each(|due| each(due, Fate::Ended)),
            #[cfg(feature = "act")]
            Hand::Ends { destroyer, warrant, victims } => {
                victims.clear();
                let warrant = *warrant;
                // All pass: only states that are named were looked for.
                victims.extend(batch.iter().filter_map(|due| warrant.victim(due.key)));
                let mut refused = None;
                destroyer.end(victims, &mut |place, fate| {
                    let Some(due) = batch.get(place) else { return };
                    let fate = match fate {
                        Act::Ended => Fate::Ended,
                        Act::Gone => Fate::Gone,
                        Act::Unclear => Fate::Unclear,
                        Act::Refused(errno) => {
                            refused = Some(errno);
                            Fate::Refused
                        }
                    };
                    each(due, fate);
                })?;
                if let Some(errno) = refused {
                    return Err(refusal(errno));
                }
            }
        }
        Ok(())
    }
}

#[cfg(feature = "act")]
fn open(states: &[Reapable]) -> anyhow::Result<Hand> {
    NEEDS.check()?;
    // The kernel looks at it with the first socket that is there, and there may be none.
    if !Privileges::read().rule_here {
        return Err(elsewhere());
    }
    match Destroyer::open() {
        Ok(destroyer) => {
            Ok(Hand::Ends { destroyer, warrant: Warrant::for_states(states), victims: Vec::new() })
        }
        Err(Refusal::NotPermitted) => Err(elsewhere()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(feature = "act"))]
fn open(_: &[Reapable]) -> anyhow::Result<Hand> {
    anyhow::bail!("this tidewait was built without the feature `act`: it only reads")
}

/// The error for sockets that the kernel refused to end.
#[cfg(feature = "act")]
fn refusal(errno: Errno) -> anyhow::Error {
    match errno {
        Errno::OPNOTSUPP => anyhow::anyhow!(
            "this kernel does not end sockets in TIME_WAIT or orphans in FIN_WAIT2, which Linux 6.0 and later do (`tidewait doctor`, \
             destroy-time-wait); net.ipv4.tcp_tw_reuse=1 helps before that: `tidewait tune plan`"
        ),
        Errno::PERM | Errno::ACCESS => elsewhere(),
        errno => anyhow::anyhow!("the kernel refused to end a socket: {errno}"),
    }
}

/// The capability is there, and not where it is needed.
#[cfg(feature = "act")]
fn elsewhere() -> anyhow::Error {
    let why = "CAP_NET_ADMIN counts only in the user namespace that the network namespace belongs to, and here it does not (a rootless \
               container, or a namespace that was entered from one)";
    NEEDS.refused(why, Some("run it as root outside")).into()
}
