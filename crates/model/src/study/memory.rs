//! What studies saw in all, by namespace and destination, for whoever is about to cut TIME_WAIT short.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Destination, Kind, Study};
use crate::trace::Direction;

/// The value of [`Memory::schema`].
pub const MEMORY_SCHEMA: &str = "tidewait.study-memory/1";

/// For how many days something counts that was seen. What has not been studied for as long is forgotten.
pub const DAYS: u32 = 30;

/// How many destinations are remembered.
const MOST: usize = 4_096;

/// How many lower sightings are remembered beside the latest.
const MOST_LOWER: usize = 15;

/// A network namespace: by its name where it has one that lasts, else by its inode.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// `host`, a name under /run/netns, or what else it was called.
    pub name: String,
    /// Inode number of its file: its own for as long as it lives, and no longer than the boot.
    pub inode: u64,
    /// That boot (/proc/sys/kernel/random/boot_id); empty where it is not known.
    #[serde(default)]
    pub boot: String,
}

impl Place {
    /// Whether both may be the same. A name, or within a boot a number, can come back for another namespace: then too much is remembered
    /// of it, never too little.
    pub fn may_be(&self, other: &Place) -> bool {
        let same_boot = !self.boot.is_empty() && self.boot == other.boot;
        self.name == other.name || self.inode == other.inode && same_boot
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
    /// The latest of those that came within the days that count; null where none did.
    pub latest: Option<Sighting>,
    /// Less late ones that came after it, each the latest since: they count when it has become too old.
    #[serde(default)]
    pub lower: Vec<Sighting>,
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

impl Remembered {
    /// The latest segment that came at `since` or after, RFC 3339 in UTC: such times sort as they are written.
    pub fn latest_since(&self, since: &str) -> Option<&Sighting> {
        self.latest.iter().chain(&self.lower).find(|sighting| *sighting.at >= *since)
    }

    /// Adds one that came after all that are known.
    fn see(&mut self, sighting: &Sighting, since: &str) {
        let mut kept: Vec<Sighting> = self.latest.take().into_iter().chain(self.lower.drain(..)).collect();
        kept.retain(|known| *known.at >= *since && known.age_seconds > sighting.age_seconds);
        kept.truncate(MOST_LOWER);
        kept.push(sighting.clone());
        let mut kept = kept.into_iter();
        self.latest = kept.next();
        self.lower.extend(kept);
    }
}

impl Memory {
    /// Adds what a study saw that ended at `now`, and forgets what was studied before `since` for the last time. Where there are too many
    /// destinations, those go first of which no needed segment is known and whose study is longest ago.
    pub fn learn(&mut self, study: &Study, now: &str, since: &str) {
        for seen in &study.destinations {
            self.add(&study.namespace, seen, now, since);
        }
        self.destinations.retain(|entry| *entry.last_studied >= *since);
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

    fn add(&mut self, namespace: &Place, destination: &Destination, now: &str, since: &str) {
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
                lower: Vec::new(),
                last_studied: now.to_owned(),
            });
            return;
        };
        entry.sockets = entry.sockets.saturating_add(seen.sockets);
        entry.needed = entry.needed.saturating_add(seen.needed);
        now.clone_into(&mut entry.last_studied);
        if let Some(sighting) = &seen.latest_needed {
            entry.see(sighting, since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Method, SCHEMA, Seen};
    use super::*;
    use crate::report::Host;

    const SINCE: &str = "2025-12-15T00:00:00Z";

    fn place(name: &str, inode: u64) -> Place {
        Place { name: name.to_owned(), inode, boot: "first".to_owned() }
    }

    /// How late the latest is of those that came to a destination since a time.
    fn latest(memory: &Memory, end: Option<&str>, since: &str) -> Option<f64> {
        let entry = memory.destinations.iter().find(|entry| entry.end.as_deref() == end)?;
        entry.latest_since(since).map(|seen| seen.age_seconds)
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
            SINCE,
        );
        memory.learn(&study(&[(Some("10.0.0.1:80"), 5, Some(0.2))]), "2026-01-03", SINCE);
        assert_eq!(latest(&memory, Some("10.0.0.1:80"), SINCE), Some(2.5));
        assert_eq!(latest(&memory, Some("10.0.0.2:80"), SINCE), None);
        let sockets: Vec<u64> = memory.destinations.iter().map(|entry| entry.sockets).collect();
        assert_eq!(sockets, [15, 3]);
    }

    #[test]
    fn of_too_many_the_ones_without_a_sighting_go_first() {
        let mut memory = Memory::default();
        memory.learn(&study(&[(Some("10.9.9.9:1"), 1, Some(1.0))]), "2026-01-01", SINCE);
        for port in 1..=5_000_u64 {
            let name = format!("10.0.0.1:{port}");
            memory.add(
                &place("host", 1),
                &study(&[(Some(&name), 1, None)]).destinations[0],
                "2026-01-02",
                SINCE,
            );
        }
        memory.learn(&study(&[]), "2026-01-03", SINCE);
        assert_eq!(memory.destinations.len(), MOST);
        assert_eq!(latest(&memory, Some("10.9.9.9:1"), SINCE), Some(1.0));
    }

    #[test]
    fn what_was_seen_counts_for_its_days_and_what_came_after_it_is_not_forgotten_with_it() {
        let mut memory = Memory::default();
        let learn = |memory: &mut Memory, age: Option<f64>, at: &str, since: &str| {
            let mut study = study(&[(Some("10.0.0.1:80"), 1, age)]);
            if let Some(sighting) = &mut study.destinations[0].seen.latest_needed {
                at.clone_into(&mut sighting.at);
            }
            memory.learn(&study, at, since);
        };
        let ages = [(1, 59.0), (5, 2.0), (7, 5.0), (9, 4.0)];
        for (day, age) in ages {
            learn(&mut memory, Some(age), &format!("2026-01-0{day}T00:00:00Z"), "2025-12-15T00:00:00Z");
        }
        let latest = |memory: &Memory, since: &str| latest(memory, Some("10.0.0.1:80"), since);
        assert_eq!(latest(&memory, "2025-12-31T00:00:00Z"), Some(59.0));
        assert_eq!(latest(&memory, "2026-01-02T00:00:00Z"), Some(5.0));
        assert_eq!(latest(&memory, "2026-01-08T00:00:00Z"), Some(4.0));
        assert_eq!(latest(&memory, "2026-01-10T00:00:00Z"), None);
        // A new one drives the outdated out, and what nobody studies is forgotten.
        learn(&mut memory, Some(1.0), "2026-02-03T00:00:00Z", "2026-01-08T00:00:00Z");
        let entry = &memory.destinations[0];
        assert_eq!((entry.latest.as_ref().map(|seen| seen.age_seconds), entry.lower.len()), (Some(4.0), 1));
        memory.learn(&study(&[]), "2026-04-01T00:00:00Z", "2026-03-01T00:00:00Z");
        assert!(memory.destinations.is_empty());
    }

    #[test]
    fn a_number_is_that_of_the_same_namespace_within_a_boot_only() {
        let then = place("nginx[712]", 4_026_532_200);
        let now = |name: &str, boot: &str| Place { boot: boot.to_owned(), ..place(name, 4_026_532_200) };
        assert!(then.may_be(&now("mysqld[3]", "first")));
        assert!(!then.may_be(&now("mysqld[3]", "second")));
        assert!(then.may_be(&now("nginx[712]", "second")), "by its name");
        let unknown = now("old", "");
        assert!(!unknown.may_be(&now("new", "")), "from a file that says nothing of boots");
    }
}
