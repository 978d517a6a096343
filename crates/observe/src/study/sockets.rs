//! The sockets that are watched: how many, and how many at each age, counted from dumps some seconds apart.
//!
//! A dump tells by the timer of each socket how old its TIME_WAIT is, and so which of them were born since the last dump and which
//! ages the others have reached meanwhile. A socket that is born and ends between two dumps (reused, destroyed, reset) is not
//! counted: all numbers are at least what they say.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use rustix::time::{ClockId, clock_gettime};
use tidewait_model::study::{BAND_BEGINS_MS, BANDS, band};
use tidewait_model::trace::Direction;
use tidewait_model::{Endpoint, State};

use super::layout;
use crate::census::Repeats;
use crate::census::direction::Ports;
use crate::sock_diag::{DumpError, Family, Filter, Request, Sockets, Timer};

/// A destination or a service.
pub(super) type End = (Direction, Endpoint);

/// Sockets that were watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) sockets: u64,
    pub(super) at_age: [u64; BANDS],
}

/// Which local ports are services, as the programs in the kernel judge it (`is_incoming`).
pub(super) struct Services {
    chosen: Ports,
    listening: Bits,
}

/// A bit for each port, as the programs have them.
type Bits = Box<[u64; 1024]>;

fn bits(ports: impl Iterator<Item = u16>) -> Bits {
    let mut bits = Box::new([0_u64; 1024]);
    for port in ports {
        if let Some(word) = bits.get_mut(usize::from(port >> 6)) {
            *word |= 1 << (port & 63);
        }
    }
    bits
}

impl Services {
    /// Asks who listens. `chosen`: the ports that connect() gets.
    pub(super) fn read(source: &mut dyn Sockets, chosen: Ports) -> Result<Services, DumpError> {
        let mut listening = Vec::new();
        for family in Family::BOTH {
            source.dump(&Request::all(family).states([State::Listen]), &mut |row| {
                listening.push(row.local().port);
            })?;
        }
        Ok(Services { chosen, listening: bits(listening.into_iter()) })
    }

    fn end(&self, local: Endpoint, remote: Endpoint) -> End {
        let word = self.listening.get(usize::from(local.port >> 6));
        let listening = word.is_some_and(|word| word >> (local.port & 63) & 1 != 0);
        if listening || self.chosen.came_in(local.port, remote.port) {
            (Direction::Incoming, local)
        } else {
            (Direction::Outgoing, remote)
        }
    }

    /// Writes them where the programs read them.
    pub(super) fn write(&self, live: &mut layout::Live) {
        live.services = *self.listening;
        live.chosen = *bits(self.chosen.iter());
    }
}

/// Sockets whose timer began anew: when, and when their TIME_WAIT began, in milliseconds of CLOCK_MONOTONIC.
pub(super) type Renewed = HashMap<(Endpoint, Endpoint), (u64, u64)>;

/// How far a timer, which counts in ticks, may be off the moment that it began at, in milliseconds.
const TICK_MS: u64 = 50;

/// The count, from the first dump on.
pub(super) struct Watchlist {
    only: Filter,
    sample: u32,
    time_wait: Duration,
    /// Destinations that are told apart, at most.
    most: usize,
    /// When the last dump began.
    last: Option<Instant>,
    /// By direction and destination or service; `None`: those beyond the bound.
    pub(super) ends: HashMap<(Direction, Option<Endpoint>), Watched>,
}

impl Watchlist {
    pub(super) fn new(only: Filter, sample: u32, time_wait: Duration, most: usize) -> Watchlist {
        Watchlist { only, sample, time_wait, most, last: None, ends: HashMap::default() }
    }

    /// How long may pass between two dumps: no socket is born and dies of age between them, and each is seen in the last band.
    pub(super) fn pause(&self) -> Duration {
        (self.time_wait / 5).min(Duration::from_secs(10))
    }

    /// When the last dump began.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Dumps the sockets in TIME_WAIT and adds what is new; nothing where that fails half-way.
    pub(super) fn look(
        &mut self,
        source: &mut dyn Sockets,
        services: &Services,
        renewed: &Renewed,
    ) -> Result<(), DumpError> {
        let begun = Instant::now();
        let monotonic = clock_gettime(ClockId::Monotonic);
        let now_ms = u64::try_from(monotonic.tv_sec * 1_000 + monotonic.tv_nsec / 1_000_000).unwrap_or(0);
        let (mut found, mut repeats) = (HashMap::default(), Repeats::default());
        let elapsed = self.last.map(|last| begun.duration_since(last));
        for family in Family::BOTH {
            if self.only.to.is_some_and(|to| family == Family::V4 && to.ip.is_ipv6()) {
                continue;
            }
            let request = Request::all(family).states([State::TimeWait]).only(self.only);
            source.dump(&request, &mut |row| {
                let Timer::TimeWait(left) = row.timer() else { return };
                if repeats.is_repeated(row.cookie()) {
                    return;
                }
                let age = self.time_wait.saturating_sub(Duration::from_millis(u64::from(left)));
                // Born after the dump began: the next one counts it.
                let Some(age) = age.checked_sub(begun.elapsed()) else { return };
                let since = now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                let age = match renewed.get(&(row.local(), row.remote())) {
                    Some((began, birth)) if began.abs_diff(since) < TICK_MS => {
                        Duration::from_millis(now_ms.saturating_sub(*birth))
                    }
                    _ => age,
                };
                let (local, remote) = (row.local(), row.remote());
                if self.sample == 1 || hash(local, remote).is_multiple_of(self.sample) {
                    found
                        .entry(services.end(local, remote))
                        .or_insert_with(Watched::default)
                        .add(age, elapsed);
                }
            })?;
        }
        for ((direction, end), watched) in found {
            let key = (direction, Some(end));
            let known = self.ends.len() < self.most || self.ends.contains_key(&key);
            self.ends.entry(if known { key } else { (direction, None) }).or_default().merge(&watched);
        }
        self.last = Some(begun);
        Ok(())
    }
}

impl Watched {
    fn merge(&mut self, other: &Watched) {
        self.sockets += other.sockets;
        self.at_age.iter_mut().zip(other.at_age).for_each(|(sum, count)| *sum += count);
    }

    fn add(&mut self, age: Duration, elapsed: Option<Duration>) {
        let now = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let Some(elapsed) = elapsed else {
            self.sockets += 1;
            self.at_age[band(now)] += 1;
            return;
        };
        let before =
            i64::try_from(now).unwrap_or(i64::MAX) - i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        self.sockets += u64::from(before < 0);
        for (count, begins) in self.at_age.iter_mut().zip(BAND_BEGINS_MS) {
            *count += u64::from(before < i64::from(begins) && u64::from(begins) <= now);
        }
    }
}

/// Which share of the connections one belongs to: `share` in bpf/segment.h.
fn hash(local: Endpoint, remote: Endpoint) -> u32 {
    let mix = |hash: u32, word: u32| {
        let hash = (hash ^ word).wrapping_mul(0x85eb_ca6b);
        hash ^ hash >> 15
    };
    let words = |end: Endpoint| {
        let (_, bytes) = bytes(end.address.ip);
        let (words, _) = bytes.as_chunks::<4>();
        let mut array = [0; 4];
        for (word, chunk) in array.iter_mut().zip(words) {
            *word = u32::from_ne_bytes(*chunk);
        }
        array
    };
    let ports = u32::from(local.port) << 16 | u32::from(remote.port);
    words(local)
        .into_iter()
        .zip(words(remote))
        .fold(mix(0, ports), |hash, (mine, theirs)| mix(mix(hash, mine), theirs))
}

/// Family and bytes of an address as the programs have them.
pub(super) fn bytes(address: IpAddr) -> (u8, [u8; 16]) {
    match address {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            (2, bytes)
        }
        IpAddr::V6(ip) => (10, ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn reached(watched: &Watched) -> Vec<u32> {
        BAND_BEGINS_MS
            .into_iter()
            .zip(watched.at_age)
            .filter(|(_, count)| *count > 0)
            .map(|(begins, _)| begins)
            .collect()
    }

    #[test]
    fn a_socket_counts_once_at_each_age_that_it_was_watched_at() {
        let mut watched = Watched::default();
        // There before: nothing is known of its first 12 s.
        watched.add(seconds(12), None);
        assert_eq!(reached(&watched), [10_000]);
        for age in [22, 32, 42, 52] {
            watched.add(seconds(age), Some(seconds(10)));
        }
        assert_eq!(reached(&watched), [10_000, 15_000, 20_000, 30_000, 45_000]);
        assert_eq!((watched.sockets, watched.at_age.iter().max()), (1, Some(&1)));
    }

    #[test]
    fn one_that_was_born_between_was_watched_from_its_birth() {
        let mut watched = Watched::default();
        watched.add(Duration::from_millis(150), Some(seconds(10)));
        assert_eq!((watched.sockets, reached(&watched)), (1, vec![0, 1, 10, 100]));
        watched.add(Duration::from_millis(2_150), Some(seconds(2)));
        assert_eq!((watched.sockets, reached(&watched)), (1, vec![0, 1, 10, 100, 200, 500, 1_000, 2_000]));
        assert_eq!(watched.at_age.iter().max(), Some(&1));
    }

    #[test]
    fn a_service_is_what_is_listened_on_or_what_a_client_came_to() {
        let chosen = Ports { range: None, steered: (22_268..=29_999).collect() };
        let services = Services { chosen, listening: bits([40_000].into_iter()) };
        let end = |port| Endpoint { address: IpAddr::from([10, 0, 0, 1]).into(), port };
        for (local, remote, direction) in [
            (40_000, 80, Direction::Incoming),
            (40_001, 80, Direction::Outgoing),
            (80, 50_000, Direction::Incoming),
            (1_023, 2_049, Direction::Outgoing),
            // Steered, to a service whose port might be a client's.
            (22_268, 50_051, Direction::Outgoing),
        ] {
            assert_eq!(services.end(end(local), end(remote)).0, direction, "{local} {remote}");
        }
    }

    #[test]
    fn a_share_is_a_share() {
        let end = |port: u16| Endpoint { address: IpAddr::from([10, 0, 0, 1]).into(), port };
        let chosen = (32_768..60_999).filter(|port| hash(end(*port), end(80)).is_multiple_of(8)).count();
        assert!((3_200..3_900).contains(&chosen), "{chosen} of 28231");
    }
}
