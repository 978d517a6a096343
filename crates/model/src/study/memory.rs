//! What studies saw in all, by namespace and destination, for whoever is about to cut TIME_WAIT short.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Destination, Kind, Study};
use crate::address::Endpoint;
use crate::trace::Direction;

/// The value of [`Memory::schema`].
pub const MEMORY_SCHEMA: &str = "tidewait.study-memory/1";

/// How many destinations are remembered.
const MOST: usize = 4_096;

/// A network namespace: by its name where it has one that lasts, else by its inode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// `host`, a name under /run/netns, or what else it was called.
    pub name: String,
    /// Inode number of its file.
    pub inode: u64,
}

impl Place {
    /// Whether both may be the same. A name or a number can come back for another namespace: then too much is remembered of it,
    /// never too little.
    pub fn may_be(&self, other: &Place) -> bool {
        self.name == other.name || self.inode == other.inode
    }
}

/// A segment that TIME_WAIT was there for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sighting {
    /// How old the TIME_WAIT was, in seconds.
    pub age_seconds: f64,
    /// What it was.
    pub kind: Kind,
    /// When it came, RFC 3339 in UTC.
    pub at: String,
}

/// What was seen of one destination or service over all studies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Remembered {
    /// Where.
    pub namespace: Place,
    /// Which way the connections were opened.
    pub direction: Direction,
    /// Outgoing: the remote address and port. Incoming: the local ones. Null: destinations beyond the bound, any of them.
    pub end: Option<String>,
    /// Sockets in TIME_WAIT that were watched.
    pub sockets: u64,
    /// Segments that came for them and that TIME_WAIT is there for.
    pub needed: u64,
    /// The latest of those; null where none was ever seen.
    pub latest: Option<Sighting>,
    /// When the last study ended that watched it, RFC 3339 in UTC.
    pub last_studied: String,
}

/// What studies saw in all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Always `tidewait.study-memory/1`.
    pub schema: String,
    /// One entry a destination.
    pub destinations: Vec<Remembered>,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { schema: MEMORY_SCHEMA.to_owned(), destinations: Vec::new() }
    }
}

impl Memory {
    /// The latest segment that TIME_WAIT was there for, as far as studies saw, of connections to `remote` (outgoing) or to the
    /// service `local` (incoming); `None` where none was seen. That is no promise: ask [`Memory::studied`] how much was watched.
    pub fn latest(&self, namespace: &Place, direction: Direction, end: Endpoint) -> Option<&Sighting> {
        let end = end.to_string();
        self.destinations
            .iter()
            .filter(|entry| entry.namespace.may_be(namespace))
            // Those beyond the bound are kept together, whichever way they were opened.
            .filter(|entry| {
                entry.end.as_ref().is_none_or(|known| *known == end && entry.direction == direction)
            })
            .filter_map(|entry| entry.latest.as_ref())
            .max_by(|one, other| one.age_seconds.total_cmp(&other.age_seconds))
    }

    /// How many sockets in TIME_WAIT studies watched of connections to `end`.
    pub fn studied(&self, namespace: &Place, direction: Direction, end: Endpoint) -> u64 {
        let end = end.to_string();
        self.destinations
            .iter()
            .filter(|entry| entry.direction == direction && entry.namespace.may_be(namespace))
            .filter(|entry| entry.end.as_ref() == Some(&end))
            .map(|entry| entry.sockets)
            .sum()
    }

    /// Adds what a study saw that ended at `now`. Where there are too many destinations, those go first of which no needed segment
    /// is known and whose study is longest ago.
    pub fn learn(&mut self, study: &Study, now: &str) {
        for seen in &study.destinations {
            self.add(&study.namespace, seen, now);
        }
        if self.destinations.len() > MOST {
            self.destinations.sort_by(|one, other| {
                let rank = |entry: &Remembered| (entry.latest.is_some(), entry.last_studied.clone());
                rank(other).cmp(&rank(one))
            });
            self.destinations.truncate(MOST);
        }
        self.destinations.sort_by(|one, other| {
            (&one.namespace, one.direction, &one.end).cmp(&(&other.namespace, other.direction, &other.end))
        });
    }

    fn add(&mut self, namespace: &Place, destination: &Destination, now: &str) {
        let seen = &destination.seen;
        if seen.sockets == 0 && seen.needed == 0 {
            return;
        }
        let known = self.destinations.iter_mut().find(|entry| {
            entry.namespace == *namespace
                && entry.direction == destination.direction
                && entry.end == destination.end
        });
        let Some(entry) = known else {
            self.destinations.push(Remembered {
                namespace: namespace.clone(),
                direction: destination.direction,
                end: destination.end.clone(),
                sockets: seen.sockets,
                needed: seen.needed,
                latest: seen.latest_needed.clone(),
                last_studied: now.to_owned(),
            });
            return;
        };
        entry.sockets = entry.sockets.saturating_add(seen.sockets);
        entry.needed = entry.needed.saturating_add(seen.needed);
        now.clone_into(&mut entry.last_studied);
        let age =
            |sighting: &Option<Sighting>| sighting.as_ref().map_or(-1.0, |sighting| sighting.age_seconds);
        if age(&seen.latest_needed) > age(&entry.latest) {
            entry.latest.clone_from(&seen.latest_needed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Method, SCHEMA, Seen};
    use super::*;
    use crate::report::Host;

    fn place(name: &str, inode: u64) -> Place {
        Place { name: name.to_owned(), inode }
    }

    fn end(text: &str) -> Endpoint {
        let (ip, port) = text.rsplit_once(':').unwrap();
        let ip: std::net::IpAddr = ip.parse().unwrap();
        Endpoint { address: ip.into(), port: port.parse().unwrap() }
    }

    fn study(destinations: &[(Option<&str>, u64, Option<f64>)]) -> Study {
        let destinations = destinations
            .iter()
            .map(|(end, sockets, age)| Destination {
                direction: Direction::Outgoing,
                end: end.map(str::to_owned),
                seen: Seen {
                    sockets: *sockets,
                    needed: u64::from(age.is_some()),
                    latest_needed: age.map(|age_seconds| Sighting {
                        age_seconds,
                        kind: Kind::Fin,
                        at: "2026-01-01T00:00:00Z".to_owned(),
                    }),
                    ..Seen::default()
                },
            })
            .collect();
        Study {
            schema: SCHEMA.to_owned(),
            begun_at: String::new(),
            seconds: 1.0,
            host: Host { hostname: String::new(), kernel: String::new() },
            namespace: place("host", 1),
            method: Method::Tc,
            sample: 1,
            time_wait_seconds: 60.0,
            limits: Vec::new(),
            segments_looked_at: None,
            packets_not_looked_at: 0,
            fin_wait2_segments: 0,
            bands: Vec::new(),
            total: Seen::default(),
            destinations,
        }
    }

    #[test]
    fn the_latest_of_all_studies_counts_for_its_destination_alone() {
        let mut memory = Memory::default();
        memory.learn(
            &study(&[(Some("10.0.0.1:80"), 10, Some(2.5)), (Some("10.0.0.2:80"), 3, None)]),
            "2026-01-02",
        );
        memory.learn(&study(&[(Some("10.0.0.1:80"), 5, Some(0.2))]), "2026-01-03");
        let here = place("host", 1);
        let latest = |to| memory.latest(&here, Direction::Outgoing, end(to)).map(|seen| seen.age_seconds);
        assert_eq!(latest("10.0.0.1:80"), Some(2.5));
        assert_eq!(latest("10.0.0.2:80"), None);
        assert_eq!(memory.studied(&here, Direction::Outgoing, end("10.0.0.1:80")), 15);
        assert_eq!(memory.studied(&here, Direction::Outgoing, end("10.0.0.3:80")), 0);
        assert_eq!(memory.latest(&here, Direction::Incoming, end("10.0.0.1:80")), None);
        assert_eq!(memory.latest(&place("blue", 2), Direction::Outgoing, end("10.0.0.1:80")), None);
    }

    #[test]
    fn what_has_no_destination_may_be_any() {
        let mut memory = Memory::default();
        memory.learn(&study(&[(None, 1, Some(7.0)), (Some("10.0.0.1:80"), 1, Some(1.0))]), "2026-01-02");
        let latest = memory.latest(&place("host", 9), Direction::Outgoing, end("10.0.0.1:80")).unwrap();
        assert!((latest.age_seconds - 7.0).abs() < f64::EPSILON);
        let incoming = memory.latest(&place("host", 9), Direction::Incoming, end("10.0.0.9:443"));
        assert!(incoming.is_some(), "services beyond the bound are among them");
    }

    #[test]
    fn of_too_many_the_ones_without_a_sighting_go_first() {
        let mut memory = Memory::default();
        memory.learn(&study(&[(Some("10.9.9.9:1"), 1, Some(1.0))]), "2025-01-01");
        for port in 1..=5_000_u64 {
            let name = format!("10.0.0.1:{port}");
            memory.add(&place("host", 1), &study(&[(Some(&name), 1, None)]).destinations[0], "2026-01-02");
        }
        memory.learn(&study(&[]), "2026-01-03");
        assert_eq!(memory.destinations.len(), MOST);
        assert!(memory.latest(&place("host", 1), Direction::Outgoing, end("10.9.9.9:1")).is_some());
    }
}
