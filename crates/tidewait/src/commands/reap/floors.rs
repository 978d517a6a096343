//! For how long sockets are left, whatever was asked for: a floor for all, and one for each destination of which a study saw
//! segments that came late.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use tidewait_diagnose::reap::Floors;
use tidewait_model::address::Address;
use tidewait_model::reap::{Floor, Group};
use tidewait_model::study::{self, DAYS, Memory, Sighting};
use tidewait_model::trace::Direction;
use tidewait_model::{AddressFilter, Endpoint};
use tidewait_observe::places::Place;

use crate::cli::{Reap, StateDir};
use crate::exit::Usage;
use crate::memory;

/// The floor where none is asked for, in seconds.
const USUAL: f64 = 1.0;
/// How far above the latest segment that a study saw sockets are left, in seconds.
const MARGIN: f64 = 1.0;

/// The floors that are known.
pub struct Known {
    /// Of every socket, in milliseconds.
    least_ms: u32,
    /// Of destinations beyond those that studies tell apart, by direction: of any of them.
    unnamed: HashMap<Direction, (u32, Floor)>,
    /// Of one.
    named: HashMap<(Direction, Endpoint), (u32, Floor)>,
    /// Where that was read.
    file: PathBuf,
}

impl Known {
    /// What applies in this namespace.
    ///
    /// # Errors
    /// [`Usage`] where what is asked for is below.
    pub fn of(options: &Reap, place: &Place) -> anyhow::Result<Known> {
        let least = options.floor.unwrap_or(USUAL);
        if let Some(wanted) = options.older_than
            && wanted.as_secs_f64() < least
        {
            return Err(Usage(format!(
                "--older-than {} s is below the floor of {least} s: late segments of a connection come within its first second, if they \
                 come; --floor {} says that you know better",
                wanted.as_secs_f64(),
                wanted.as_secs_f64()
            ))
            .into());
        }
        if least < USUAL {
            anstream::eprintln!(
                "tidewait: a floor of {least} s: a lost last ACK is repeated by the peer after 0.2 s or more, and then meets nothing but a \
                 reset; a late segment meets whatever connection has the port by then"
            );
        }
        let directory = StateDir { directory: options.state_dir.clone() }.path();
        // A floor that is lost by a slip of the pen would be missed too late.
        if options.state_dir.is_some() && !memory::file(&directory).exists() {
            return Err(Usage(format!(
                "--state-dir {}: no study is kept there; `tidewait study` says at its end where it keeps what it saw",
                directory.display()
            ))
            .into());
        }
        let memory = memory::read(&directory)?;
        let here = memory::place(place);
        Ok(Known::from(&memory, &here, &memory::since(), least, memory::file(&directory)))
    }

    fn from(memory: &Memory, here: &study::Place, since: &str, least: f64, file: PathBuf) -> Known {
        let mut known = Known {
            least_ms: (least * 1_000.0).ceil() as u32,
            unnamed: HashMap::new(),
            named: HashMap::new(),
            file,
        };
        for seen in memory.destinations.iter().filter(|seen| seen.namespace.may_be(here)) {
            let Some(latest) = seen.latest_since(since) else { continue };
            let ms = ((latest.age_seconds + MARGIN) * 1_000.0).ceil() as u32;
            let floor = |destination: String| Floor {
                destination,
                seconds: f64::from(ms) / 1_000.0,
                evidence: evidence(latest),
            };
            match &seen.end {
                None => raise(
                    known.unnamed.entry(seen.direction),
                    (ms, floor("destinations that a study did not tell apart".to_owned())),
                ),
                Some(end) => {
                    // Written by `Endpoint`; what is none is of no destination here.
                    let Some(endpoint) = endpoint(end) else { continue };
                    raise(known.named.entry((seen.direction, endpoint)), (ms, floor(end.clone())));
                }
            }
        }
        known
    }

    /// Where one destination is asked for by itself, an age that a study saw segments at is a mistake; where it is one of many, its
    /// sockets are left for longer.
    ///
    /// # Errors
    /// [`Usage`] where it is.
    pub fn refuse_below(&self, options: &Reap, time_wait_seconds: u32) -> Result<(), Usage> {
        let (Some(wanted), Some(to)) = (options.older_than, options.which.to) else { return Ok(()) };
        let Some(port) = to.port else { return Ok(()) };
        let peer = Endpoint { address: to.ip.into(), port };
        let Some((ms, floor)) = self.named.get(&(Direction::Outgoing, peer)) else { return Ok(()) };
        if wanted.as_millis() >= u128::from(*ms) {
            return Ok(());
        }
        let instead = if floor.seconds < f64::from(time_wait_seconds) {
            format!("give {} s or more", floor.seconds)
        } else {
            format!("its sockets are left for all of their {time_wait_seconds} s")
        };
        Err(Usage(format!(
            "--older-than {} s is too short for {peer}: {}; {instead}. What studies saw counts for {DAYS} days and is kept in {}: \
             without that file it is forgotten",
            wanted.as_secs_f64(),
            floor.evidence,
            self.file.display()
        )))
    }

    /// The floor of every socket, in seconds.
    pub fn least_seconds(&self) -> f64 {
        f64::from(self.least_ms) / 1_000.0
    }

    /// The floors above it that sockets which are asked for may have, the highest first.
    pub fn higher(&self, options: &Reap) -> Vec<Floor> {
        let wanted =
            options.older_than.map_or(self.least_ms, |age| self.least_ms.max(age.as_millis() as u32));
        let meets = |direction: Direction, end: Option<Endpoint>| {
            let filter = match direction {
                Direction::Outgoing => options.which.to,
                Direction::Incoming if options.incoming => options.which.from,
                Direction::Incoming | Direction::Bind => return false,
            };
            filter.zip(end).is_none_or(|(filter, end)| is_of(filter, end))
        };
        let unnamed =
            self.unnamed.iter().filter(|(direction, _)| meets(**direction, None)).map(|(_, floor)| floor);
        let named = self
            .named
            .iter()
            .filter(|((direction, end), _)| meets(*direction, Some(*end)))
            .map(|(_, floor)| floor);
        let mut floors: Vec<Floor> =
            unnamed.chain(named).filter(|(ms, _)| *ms > wanted).map(|(_, floor)| floor.clone()).collect();
        floors
            .sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.destination.cmp(&b.destination)));
        floors
    }
}

impl Floors for Known {
    fn of(&self, group: &Group) -> u32 {
        let (direction, end) = group.end();
        let named = if end.address.is_unspecified() {
            // A service at every address; studies name each by itself.
            let of_it = self.named.iter().filter(|((way, at), _)| *way == direction && at.port == end.port);
            of_it.map(|(_, (ms, _))| *ms).max()
        } else {
            self.named.get(&(direction, end)).map(|(ms, _)| *ms)
        };
        let named = named.unwrap_or(0);
        let unnamed = self.unnamed.get(&direction).map_or(0, |(ms, _)| *ms);
        self.least_ms.max(named).max(unnamed)
    }
}

fn is_of(filter: AddressFilter, end: Endpoint) -> bool {
    end.address.ip == filter.ip && filter.port.is_none_or(|port| port == end.port)
}

type Entry<'a, K> = std::collections::hash_map::Entry<'a, K, (u32, Floor)>;

fn raise<K>(entry: Entry<'_, K>, floor: (u32, Floor)) {
    let kept = entry.or_insert_with(|| floor.clone());
    if floor.0 > kept.0 {
        *kept = floor;
    }
}

fn evidence(latest: &Sighting) -> String {
    format!("{} seen {:.1} s into TIME_WAIT ({})", latest.kind.words(), latest.age_seconds, latest.at)
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let address: SocketAddr = text.parse().ok()?;
    let scope = match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    Some(Endpoint { address: Address::new(address.ip(), scope), port: address.port() })
}

#[cfg(test)]
mod tests {
    use tidewait_model::study::{Kind, Remembered};

    use super::*;

    fn known(end: Option<&str>, since: &str) -> Known {
        let here = study::Place { name: "host".to_owned(), inode: 1, boot: String::new() };
        let at = "2026-01-02T00:00:00Z".to_owned();
        let seen = Remembered {
            namespace: here.clone(),
            direction: Direction::Outgoing,
            end: end.map(str::to_owned),
            sockets: 1,
            needed: 1,
            latest: Some(Sighting { age_seconds: 7.0, kind: Kind::Fin, at: at.clone() }),
            lower: Vec::new(),
            last_studied: at,
        };
        let memory = Memory { destinations: vec![seen], ..Memory::default() };
        Known::from(&memory, &here, since, 1.0, PathBuf::from("study.json"))
    }

    #[test]
    fn a_service_at_every_address_has_the_floor_of_its_highest() {
        let mut known = known(None, "2026-01-03T00:00:00Z");
        let floor = |seconds| Floor { destination: String::new(), seconds, evidence: String::new() };
        for (direction, end, ms) in [
            (Direction::Incoming, "10.0.0.5:80", 31_000),
            (Direction::Incoming, "[fd00::5]:80", 5_000),
            (Direction::Incoming, "10.0.0.5:81", 40_000),
            (Direction::Outgoing, "10.0.0.5:80", 50_000),
        ] {
            known.named.insert((direction, endpoint(end).unwrap()), (ms, floor(f64::from(ms) / 1e3)));
        }
        let of = |service| known.of(&Group::Incoming { service: endpoint(service).unwrap() });
        assert_eq!((of("0.0.0.0:80"), of("[::]:80"), of("10.0.0.5:80")), (31_000, 31_000, 31_000));
        assert_eq!((of("[fd00::5]:80"), of("0.0.0.0:443"), of("10.0.0.6:80")), (5_000, 1_000, 1_000));
    }

    #[test]
    fn what_has_no_destination_may_be_any_of_its_direction() {
        let then = "2026-01-01T00:00:00Z";
        let any = known(None, then);
        assert_eq!(any.unnamed.get(&Direction::Outgoing).map(|(ms, _)| *ms), Some(8_000));
        assert!(any.named.is_empty() && !any.unnamed.contains_key(&Direction::Incoming));
        let one = known(Some("[fd00::1]:80"), then);
        assert!(one.unnamed.is_empty());
        assert_eq!(one.named.values().map(|(ms, _)| *ms).collect::<Vec<_>>(), [8_000]);
        let too_old = known(None, "2026-01-03T00:00:00Z");
        assert!(too_old.unnamed.is_empty());
    }
}
