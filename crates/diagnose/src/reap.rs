//! Which sockets end before their time, and when to look again. The clock is the caller's: milliseconds from any beginning.
//!
//! Either by age ([`by_age`]): one look tells when each socket will be old enough, and nothing born after it can be before the
//! next. Or by pressure ([`by_pressure`]): where a destination uses more than a share of its ports, its oldest sockets go, as
//! few as it takes to stay below until the next look.

mod advice;
mod allowance;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use tidewait_model::address::Address;
use tidewait_model::reap::{Found, Group, Look, Waiting};
use tidewait_model::report::Pool;
use tidewait_model::{Occupancy, PortRange, PortSet};

pub use advice::{Scene, beside_range, notes};
pub use allowance::Allowance;

use crate::accounting::{Account, Range, infer};

/// The longest between two looks: a socket whose timer was set anew is noticed then.
pub const LONGEST_MS: u64 = 10_000;
/// The shortest between two looks under pressure.
pub const SHORTEST_MS: u64 = 100;
/// Under pressure a destination is relieved when its share would be exceeded within this time, or until it can be looked again,
const AHEAD_SECONDS: f64 = 0.25;
/// and then by so much more that it lasts for this time at the rate of the last second.
const RELIEF_SECONDS: f64 = 1.0;
/// The shortest between two looks at sockets that have to be looked at anew when they are due.
const AFRESH_MS: u64 = 1_000;
/// What a destination is kept below its share for being ahead, at most.
const MOST_AHEAD: f64 = 0.25;

/// For how long the sockets of a group are left, in milliseconds, whatever happens.
pub trait Floors {
    /// The floor of one group.
    fn of(&self, group: &Group) -> u32;
}

/// The same for every group.
impl Floors for u32 {
    fn of(&self, _: &Group) -> u32 {
        *self
    }
}

/// A socket whose end is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due<K> {
    /// When it is to end.
    pub at_ms: u64,
    /// Its group, by its place in the look.
    pub group: u32,
    /// The socket.
    pub key: K,
}

/// What follows from one look.
#[derive(Clone, Debug)]
pub struct Schedule<K> {
    /// The sockets that end before the next look, the first one first.
    pub due: VecDeque<Due<K>>,
    /// When to look again.
    pub look_ms: u64,
    /// For each group, the sockets that its floor alone keeps.
    pub held: Vec<u32>,
    /// How old the oldest socket is that is left, in milliseconds.
    pub oldest_ms: Option<u32>,
    /// For each group, how many ports it may use and uses, as the look found it; `None` where that was not asked for.
    pub accounts: Vec<Option<Account>>,
    /// How many more sockets the fullest destination may have before it is to be relieved; `None` where that was not asked for.
    pub room: Option<u64>,
}

impl<K> Default for Schedule<K> {
    fn default() -> Schedule<K> {
        Schedule {
            due: VecDeque::new(),
            look_ms: 0,
            held: Vec::new(),
            oldest_ms: None,
            accounts: Vec::new(),
            room: None,
        }
    }
}

impl<K> Schedule<K> {
    /// Takes out the sockets that are due, `most` at most.
    pub fn take(&mut self, now_ms: u64, most: usize) -> impl Iterator<Item = Due<K>> + '_ {
        let due = self.due.partition_point(|socket| socket.at_ms <= now_ms);
        self.due.drain(..due.min(most))
    }

    /// When the next socket is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.due.front().map(|socket| socket.at_ms)
    }
}

/// Ends each socket that has waited for `older_than_ms`, or for its group's floor where that is more.
///
/// `live`: states other than TIME_WAIT are among them. A program may use such a socket again, or close it, before it is due: what is not
/// old enough yet is then left to a look at that time.
pub fn by_age<K>(
    look: Look<K>,
    now_ms: u64,
    older_than_ms: u32,
    floors: &impl Floors,
    live: bool,
) -> Schedule<K> {
    let limits: Vec<u32> =
        look.groups.iter().map(|found| floors.of(&found.group).max(older_than_ms)).collect();
    // What is born after this look is due no earlier; what is due later is seen again.
    let latest_ms = now_ms + u64::from(older_than_ms).min(LONGEST_MS);
    let mut look_ms = latest_ms;
    let mut held = vec![0; limits.len()];
    let mut oldest_ms = None;
    let mut due = Vec::with_capacity(look.waiting.len());
    for socket in look.waiting {
        let place = socket.group as usize;
        let Some(limit) = limits.get(place) else { continue };
        let left = limit.saturating_sub(socket.age_ms);
        if left > 0 {
            oldest_ms = oldest_ms.max(Some(socket.age_ms));
            held[place] += u32::from(socket.age_ms >= older_than_ms);
        }
        let at_ms = now_ms + u64::from(left);
        if live && left > 0 {
            look_ms = look_ms.min(at_ms.max(now_ms + AFRESH_MS));
        } else if at_ms <= latest_ms {
            due.push((socket.age_ms, Due { at_ms, group: socket.group, key: socket.key }));
        }
    }
    // Of those that are due at once the oldest first: with a limit a second they are not ended all at once.
    due.sort_unstable_by_key(|(age_ms, socket)| (socket.at_ms, Reverse(*age_ms)));
    let due = due.into_iter().map(|(_, socket)| socket).collect();
    Schedule { due, look_ms, held, oldest_ms, accounts: vec![None; limits.len()], room: None }
}

/// What relief by pressure goes by.
#[derive(Clone, Debug)]
pub struct Pressure<'a> {
    /// net.ipv4.ip_local_port_range.
    pub range: PortRange,
    /// Ports of it that are reserved.
    pub reserved: &'a PortSet,
    /// The kernel's release: which ports connect() and bind() prefer.
    pub kernel: &'a str,
    /// The share of its ports that a destination is kept below, 0 to 1.
    pub share: f64,
    /// How long it may take until it can be looked again, in milliseconds: a look takes its time where sockets are many.
    pub pause_ms: u64,
}

/// Ends the oldest sockets where more than a share of the ports is in use, or would be before it could be looked again.
///
/// What shares ports is relieved together: the connections of one source address to one destination, where connect() chose
/// the ports; all of a source address, where bind() did, as far as the ports' parity tells.
pub fn by_pressure<K>(
    look: Look<K>,
    now_ms: u64,
    pressure: &Pressure<'_>,
    floors: &impl Floors,
) -> Schedule<K> {
    let (pools, accounts) = pools(&look.groups, &look.bound, pressure);
    let mut of_group: Vec<Option<usize>> = vec![None; look.groups.len()];
    for (place, pool) in pools.iter().enumerate() {
        pool.groups.iter().for_each(|group| of_group[*group] = Some(place));
    }
    let limits: Vec<u32> = look.groups.iter().map(|found| floors.of(&found.group)).collect();
    let mut held = vec![0; limits.len()];
    let mut oldest_ms = None;
    let mut sockets: Vec<Vec<Waiting<K>>> = pools.iter().map(|_| Vec::new()).collect();
    for socket in look.waiting {
        // The end of another, one that was steered or bound by number, relieves nothing.
        let counts = pressure.range.contains(socket.port) && !pressure.reserved.contains(socket.port);
        match of_group.get(socket.group as usize).copied().flatten().filter(|_| counts) {
            Some(pool) => sockets[pool].push(socket),
            None => oldest_ms = oldest_ms.max(Some(socket.age_ms)),
        }
    }
    let mut due = Vec::new();
    let mut look_ms = now_ms + LONGEST_MS;
    let ahead_seconds = AHEAD_SECONDS.max(pressure.pause_ms as f64 / 1e3);
    // Whoever comes anew has a share of the whole range.
    let mut room = f64::from(pressure.range.size()) * pressure.share;
    for (pool, mut sockets) in pools.iter().zip(sockets) {
        let births = sockets.iter().filter(|socket| socket.age_ms < 1_000).count() as f64;
        let limit = (f64::from(pool.account.usable) * pressure.share).floor();
        let most = limit * MOST_AHEAD;
        let ahead = (births * ahead_seconds).min(most);
        let mut used = f64::from(pool.account.used);
        if used + ahead > limit {
            let relief = (births * (ahead_seconds + RELIEF_SECONDS)).min(most * 2.0);
            let mut surplus = (used - (limit - relief)).max(0.0).ceil() as usize;
            sockets.sort_unstable_by_key(|socket| Reverse(socket.age_ms));
            let floor = |socket: &Waiting<K>| limits.get(socket.group as usize).copied().unwrap_or(u32::MAX);
            let mut left = Vec::new();
            for socket in sockets {
                if surplus > 0 && socket.age_ms >= floor(&socket) {
                    surplus -= 1;
                    used -= 1.0;
                    due.push((socket.age_ms, Due { at_ms: now_ms, group: socket.group, key: socket.key }));
                } else {
                    left.push(socket);
                }
            }
            for socket in left.iter().filter(|socket| socket.age_ms < floor(socket)).take(surplus) {
                held[socket.group as usize] += 1;
            }
            sockets = left;
        }
        room = room.min(limit - used);
        oldest_ms = oldest_ms.max(sockets.iter().map(|socket| socket.age_ms).max());
        let lasts = (limit - used) / births - ahead_seconds;
        // Without births it lasts; a NaN of 0 / 0 is no reason to hurry either.
        let lasts = if lasts.is_finite() { (lasts * 1_000.0).max(0.0) as u64 } else { LONGEST_MS };
        look_ms = look_ms.min(now_ms + lasts.clamp(SHORTEST_MS, LONGEST_MS));
    }
    due.sort_by_key(|(age_ms, _)| Reverse(*age_ms));
    let due = due.into_iter().map(|(_, socket)| socket).collect();
    Schedule { due, look_ms, held, oldest_ms, accounts, room: Some(room.max(0.0) as u64) }
}

/// What shares ports.
struct Shared {
    /// Its groups, by their places.
    groups: Vec<usize>,
    account: Account,
}

/// The outgoing groups, those of one source address together where bind() chose their ports; and what each group may use and
/// uses, as it is seen there.
fn pools(groups: &[Found], bound: &PortSet, pressure: &Pressure<'_>) -> (Vec<Shared>, Vec<Option<Account>>) {
    let inside =
        |ports: &PortSet| ports.iter().filter(|port| pressure.range.contains(*port)).collect::<PortSet>();
    let reserved = inside(pressure.reserved);
    let mut bound = inside(bound);
    let mut by_bind: BTreeMap<Address, (Vec<usize>, PortSet)> = BTreeMap::new();
    let mut by_connect = Vec::new();
    for (place, found) in groups.iter().enumerate() {
        let Group::Outgoing { source, .. } = found.group else { continue };
        let occupancy = Occupancy { ports: found.ports.clone(), ..Occupancy::default() };
        if infer(&occupancy, pressure.range, pressure.kernel).pool == Pool::Bind {
            let (places, ports) = by_bind.entry(source).or_default();
            places.push(place);
            ports.union(&occupancy.ports);
        } else {
            by_connect.push(place);
        }
    }
    // connect() passes over what bind() gave out.
    by_bind.values().for_each(|(_, ports)| bound.union(ports));
    bound.subtract(&reserved);
    let range = Range { range: pressure.range, reserved, bound };
    let one = |place: usize| Shared { groups: vec![place], account: range.account(&groups[place].ports) };
    let mut pools: Vec<Shared> = by_connect.into_iter().map(one).collect();
    pools.extend(
        by_bind
            .into_values()
            .map(|(places, ports)| Shared { account: range.account(&ports), groups: places }),
    );
    let mut accounts = vec![None; groups.len()];
    for pool in &pools {
        pool.groups.iter().for_each(|place| accounts[*place] = Some(pool.account));
    }
    (pools, accounts)
}

#[cfg(test)]
mod tests;
