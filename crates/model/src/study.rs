//! What TIME_WAIT absorbed: segments that arrived for sockets in TIME_WAIT, by age and kind, with their denominators.
//!
//! [`Study`] is what `tidewait study` prints; [`Memory`] what it leaves behind for `tidewait reap`, which stays above the ages at
//! which segments came late.

mod memory;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::observation::Limit;
use crate::report::Host;
use crate::trace::Direction;

pub use memory::{DAYS, MEMORY_SCHEMA, Memory, Place, Remembered, Sighting};

/// The value of [`Study::schema`].
pub const SCHEMA: &str = "tidewait.study/1";

/// How many bands of age are told apart.
pub const BANDS: usize = 16;

/// Where each band of age begins, in milliseconds. The last has no end: retransmitted FINs start the minute anew, so that a
/// socket can be older than 60 s.
pub const BAND_BEGINS_MS: [u32; BANDS] =
    [0, 1, 10, 100, 200, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 15_000, 20_000, 30_000, 45_000, 60_000];

/// The band that an age belongs to.
pub fn band(age_ms: u64) -> usize {
    BAND_BEGINS_MS.iter().rposition(|begin| age_ms >= u64::from(*begin)).unwrap_or(0)
}

/// What a segment was that arrived for a socket in TIME_WAIT (tcp_timewait_state_process, net/ipv4/tcp_minisocks.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The peer's FIN once more: our last ACK was lost or slow, and TIME_WAIT repeats it.
    Fin,
    /// Data, or a FIN, from before the peer's FIN: a delayed duplicate.
    OldData,
    /// Data that goes beyond the peer's FIN: not of the connection that was.
    NewData,
    /// A SYN that the kernel lets through: a new connection with the same addresses and ports.
    SynAccepted,
    /// A SYN that it does not: an old one, or one that could be.
    SynRefused,
    /// A reset that ends TIME_WAIT (tcp_rfc1337=0).
    RstKills,
    /// A reset that does not.
    RstIgnored,
    /// An acknowledgement without data.
    Ack,
    /// Something else, such as a SYN-ACK.
    Other,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Kind; 9] = [
        Kind::Fin,
        Kind::OldData,
        Kind::NewData,
        Kind::SynAccepted,
        Kind::SynRefused,
        Kind::RstKills,
        Kind::RstIgnored,
        Kind::Ack,
        Kind::Other,
    ];

    /// Whether TIME_WAIT is there for such a segment: to repeat the last ACK, or to keep what is old out of a new connection.
    pub fn needs_time_wait(self) -> bool {
        matches!(self, Kind::Fin | Kind::OldData)
    }

    /// What it is called in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Fin => "retransmitted FIN",
            Kind::OldData => "old data",
            Kind::NewData => "data beyond the FIN",
            Kind::SynAccepted => "SYN accepted",
            Kind::SynRefused => "SYN refused",
            Kind::RstKills => "RST that ended TIME_WAIT",
            Kind::RstIgnored => "RST ignored",
            Kind::Ack => "plain ACK",
            Kind::Other => "other",
        }
    }
}

/// How segments were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// In the kernel's function that answers them (fentry): after the firewall, and nothing else is looked at.
    Fentry,
    /// As they come in at the interfaces (tc): before the firewall, and every TCP segment is looked at.
    Tc,
}

/// What `tidewait study --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.study/1")]
pub struct Study {
    /// Always `tidewait.study/1`.
    pub schema: String,
    /// When it began, RFC 3339 in UTC.
    pub begun_at: String,
    /// How long it was watched, in seconds.
    pub seconds: f64,
    /// The machine.
    pub host: Host,
    /// The network namespace that was watched.
    pub namespace: Place,
    /// How segments were seen.
    pub method: Method,
    /// One of so many connections was watched, chosen by its addresses and ports; 1: all.
    pub sample: u32,
    /// How long TIME_WAIT lasts here, in seconds.
    pub time_wait_seconds: f64,
    /// What could not be seen, and why.
    pub limits: Vec<Limit>,
    /// TCP segments that were looked at, TIME_WAIT or not; null where only those for TIME_WAIT were seen.
    pub segments_looked_at: Option<u64>,
    /// Packets that could not be looked at, such as IP fragments.
    pub packets_not_looked_at: u64,
    /// Segments for orphans in FIN_WAIT2, which are no TIME_WAIT and not counted below.
    pub fin_wait2_segments: u64,
    /// Where each band of age begins, in seconds since TIME_WAIT began; the last has no end.
    pub bands: Vec<f64>,
    /// What was seen of all destinations together.
    pub total: Seen,
    /// By destination, the latest needed segment first, then most sockets.
    pub destinations: Vec<Destination>,
}

/// What was seen of the connections with one destination, or of one service of this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    /// Which way the connections were opened.
    pub direction: Direction,
    /// Outgoing: the remote address and port. Incoming: the local ones. Null: those beyond the bound, together.
    pub end: Option<String>,
    /// What was seen.
    #[serde(flatten)]
    pub seen: Seen,
}

/// Sockets that were watched, and segments that came for them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Sockets in TIME_WAIT that were watched, at least: those that ended within seconds may have been missed.
    pub sockets: u64,
    /// Of those, how many were watched at each age, at least.
    pub sockets_at_age: Vec<u64>,
    /// Segments that came for them.
    pub segments: u64,
    /// Of those, the ones that TIME_WAIT is there for: retransmitted FINs and old data.
    pub needed: u64,
    /// The latest of those; null where there was none.
    pub latest_needed: Option<Sighting>,
    /// By kind, those that came; in the order of the page.
    pub kinds: Vec<KindSeen>,
}

/// Segments of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KindSeen {
    /// The kind.
    pub kind: Kind,
    /// How many.
    pub segments: u64,
    /// Of those, how many had a timestamp that gave them away as old (PAWS).
    pub rejected_by_timestamp: u64,
    /// How many came at each age.
    pub at_age: Vec<u64>,
    /// The highest age, in seconds.
    pub latest_seconds: f64,
}

impl Seen {
    /// How many needed segments came at each age.
    pub fn needed_at_age(&self) -> [u64; BANDS] {
        let mut bands = [0; BANDS];
        for kind in self.kinds.iter().filter(|kind| kind.kind.needs_time_wait()) {
            for (sum, count) in bands.iter_mut().zip(&kind.at_age) {
                *sum += count;
            }
        }
        bands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_belongs_to_the_last_band_that_has_begun() {
        for (age, begins) in
            [(0, 0), (1, 1), (9, 1), (10, 10), (999, 500), (59_999, 45_000), (u64::MAX, 60_000)]
        {
            assert_eq!(BAND_BEGINS_MS[band(age)], begins, "{age}");
        }
        assert!(BAND_BEGINS_MS.is_sorted());
    }

    #[test]
    fn a_new_connection_is_no_need_of_time_wait() {
        let needed: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.needs_time_wait()).collect();
        assert_eq!(needed, [Kind::Fin, Kind::OldData]);
    }
}
