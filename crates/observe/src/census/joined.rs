//! Whose the sockets in TIME_WAIT were: rows of the dump joined by their cookies with what the tracer noted.

use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use tidewait_model::trace::{Program, Traced};
use tidewait_model::{Endpoint, Owner, OwnerBasis, State};

use super::Key;
use crate::owners::{OWNERS_SHOWN, share};
use crate::sock_diag::{Row, Timer};
use crate::trace::Picture;
use crate::trace::picture::together;

/// What the age of a socket may be wrong by: timers count in jiffies of up to 10 ms (CONFIG_HZ=100), which on a busy
/// machine are counted late, and a dump is read a moment after it was written.
const MARGIN: Duration = Duration::from_millis(30);

/// Sockets in TIME_WAIT that were born while it was traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Births {
    /// How many.
    pub born: u64,
    /// Of those, how many have an owner.
    pub attributed: u64,
}

impl From<Births> for Traced {
    fn from(Births { born, attributed }: Births) -> Traced {
        Traced { born, attributed, ..Traced::default() }
    }
}

/// When a socket must have gone into TIME_WAIT for its owner to be known, and whose the cookies are.
///
/// When it did is told by what is left of its time. That begins anew when the peer sends something more
/// (tcp_minisocks.c `tcp_timewait_state_process`), so that a socket older than the trace may pass for a young one: it then
/// counts as born, and has no owner.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    /// What was traced.
    pub picture: &'a Picture,
    /// Since when it was traced.
    pub since: Instant,
    /// When the picture was taken.
    pub until: Instant,
    /// How long a socket stays in TIME_WAIT.
    pub time_wait: Duration,
}

impl Window<'_> {
    /// Whether a socket that has `left` of its TIME_WAIT was born while it was traced, if it was looked at `now`.
    fn has_birth(&self, now: Instant, left: Duration) -> bool {
        let age = self.time_wait.saturating_sub(left);
        now.checked_sub(age).is_some_and(|birth| birth >= self.since + MARGIN && birth + MARGIN <= self.until)
    }
}

/// Those of one destination or service that were born, and their owners by number.
#[derive(Default)]
pub(super) struct Share {
    born: u64,
    owners: HashMap<u32, u64>,
}

impl Share {
    pub(super) fn add(&mut self, owner: Option<u32>) {
        self.born += 1;
        if let Some(owner) = owner {
            *self.owners.entry(owner).or_default() += 1;
        }
    }

    pub(super) fn merge(&mut self, other: Share) {
        self.born += other.born;
        for (owner, count) in other.owners {
            *self.owners.entry(owner).or_default() += count;
        }
    }
}

/// What the join has counted of the rows that have come.
pub(super) struct Join<'a> {
    window: Window<'a>,
    pub(super) births: Births,
    pub(super) destinations: HashMap<Key, Share>,
    pub(super) services: HashMap<Endpoint, Share>,
}

impl<'a> Join<'a> {
    pub(super) fn new(window: Window<'a>) -> Join<'a> {
        Join { window, births: Births::default(), destinations: HashMap::new(), services: HashMap::new() }
    }

    /// The number of the owner, `Some(None)` if it has none; `None` for a socket that is not in TIME_WAIT or was born at
    /// another time.
    pub(super) fn birth(&mut self, row: &Row<'_>) -> Option<Option<u32>> {
        // Without a cookie, as from /proc/net/tcp, nothing can be said of any.
        let (Some(State::TimeWait), Timer::TimeWait(ms), 1..) = (row.state(), row.timer(), row.cookie())
        else {
            return None;
        };
        if !self.window.has_birth(Instant::now(), Duration::from_millis(ms.into())) {
            return None;
        }
        let picture = self.window.picture;
        let owner = picture.waiting.get(&row.cookie()).map(|waiting| waiting.owner);
        let owner = owner.filter(|owner| picture.people.contains_key(owner));
        self.births.born += 1;
        self.births.attributed += u64::from(owner.is_some());
        Some(owner)
    }

    /// The owners of a destination or a service by name.
    pub(super) fn owners(&self, share: &Share) -> Vec<Owner> {
        let people = &self.window.picture.people;
        let named =
            share.owners.iter().filter_map(|(number, count)| Some((people.get(number)?.clone(), *count)));
        owners(named, share.born)
    }
}

/// Programs as the owners of so many sockets of `all`, those with most first, at most [`OWNERS_SHOWN`].
pub(crate) fn owners(programs: impl IntoIterator<Item = (Program, u64)>, all: u64) -> Vec<Owner> {
    let mut rows = together(programs.into_iter().map(|(program, count)| ((), Some(program), count)));
    rows.sort_by(|(_, one, fewer), (_, other, more)| more.cmp(fewer).then_with(|| one.cmp(other)));
    let owner = |(_, program, count): (_, Option<Program>, u64)| {
        let Program { command, pid, unit, container, user, .. } = program?;
        Some(Owner { command, pid, unit, container, user, share: share(count, all), how: OwnerBasis::Traced })
    };
    rows.into_iter().filter_map(owner).take(OWNERS_SHOWN).collect()
}
