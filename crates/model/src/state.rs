//! TCP states as Linux numbers and names them, and a count of sockets by state.

use std::ops::{AddAssign, Index, SubAssign};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A TCP state. The discriminant is the kernel's number (include/net/tcp_states.h), which is also the bit
/// number in the `idiag_states` mask of a sock_diag request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Open connection (RFC 9293 section 3.3.2).
    Established = 1,
    /// SYN sent, no answer yet.
    SynSent = 2,
    /// A full socket in SYN_RECV (TCP Fast Open); the usual half-open connection is [`State::NewSynRecv`].
    SynRecv = 3,
    /// Closed here, our FIN not yet acknowledged.
    FinWait1 = 4,
    /// Closed here, our FIN acknowledged, the peer has not closed.
    FinWait2 = 5,
    /// Closed on both sides, kept so that late segments and a repeated FIN find it.
    TimeWait = 6,
    /// Not connected. sock_diag shows no TCP socket in it, except as [`State::BoundInactive`].
    Close = 7,
    /// The peer has closed; the program here has not.
    CloseWait = 8,
    /// The peer closed first, then we did; our FIN is not yet acknowledged.
    LastAck = 9,
    /// Accepts connections.
    Listen = 10,
    /// Both sides closed at once; our FIN is not yet acknowledged.
    Closing = 11,
    /// Half-open incoming connection, kept as a small request socket since Linux 4.4.
    NewSynRecv = 12,
    /// Holds a port by bind() but neither listens nor connects; visible since Linux 6.8.
    BoundInactive = 13,
}

/// How many states there are.
pub const STATES: usize = 13;

impl State {
    /// Every state, in the kernel's numeric order.
    pub const ALL: [State; STATES] = [
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait1,
        State::FinWait2,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::Closing,
        State::NewSynRecv,
        State::BoundInactive,
    ];

    /// The state with the kernel's number `number`, if there is one.
    pub fn from_number(number: u8) -> Option<State> {
        State::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The kernel's number for the state (1 to 13).
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The bit of the state in an `idiag_states` mask.
    pub fn mask(self) -> u32 {
        1 << self.number()
    }

    /// The lower-case name used in JSON and metrics: `time_wait`.
    pub fn key(self) -> &'static str {
        match self {
            State::Established => "established",
            State::SynSent => "syn_sent",
            State::SynRecv => "syn_recv",
            State::FinWait1 => "fin_wait1",
            State::FinWait2 => "fin_wait2",
            State::TimeWait => "time_wait",
            State::Close => "close",
            State::CloseWait => "close_wait",
            State::LastAck => "last_ack",
            State::Listen => "listen",
            State::Closing => "closing",
            State::NewSynRecv => "new_syn_recv",
            State::BoundInactive => "bound_inactive",
        }
    }

    /// The name as operators write it: `TIME_WAIT`.
    pub fn title(self) -> &'static str {
        match self {
            State::Established => "ESTABLISHED",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::FinWait1 => "FIN_WAIT1",
            State::FinWait2 => "FIN_WAIT2",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Listen => "LISTEN",
            State::Closing => "CLOSING",
            State::NewSynRecv => "NEW_SYN_RECV",
            State::BoundInactive => "BOUND_INACTIVE",
        }
    }
}

/// Sockets counted by state. In JSON: an object with every state by its lower-case name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts([u64; STATES]);

impl StateCounts {
    /// Adds `count` sockets in `state`.
    pub fn add(&mut self, state: State, count: u64) {
        self.0[usize::from(state.number()) - 1] += count;
    }

    /// All sockets, whatever their state.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Sockets that hold a port for as long as somebody uses them: everything but TIME_WAIT.
    pub fn live(&self) -> u64 {
        self.total() - self[State::TimeWait]
    }

    /// The states with their counts, in the kernel's numeric order.
    pub fn iter(&self) -> impl Iterator<Item = (State, u64)> + '_ {
        State::ALL.into_iter().map(|state| (state, self[state]))
    }
}

impl Index<State> for StateCounts {
    type Output = u64;
    fn index(&self, state: State) -> &u64 {
        &self.0[usize::from(state.number()) - 1]
    }
}

impl AddAssign for StateCounts {
    fn add_assign(&mut self, other: StateCounts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

impl SubAssign for StateCounts {
    fn sub_assign(&mut self, other: StateCounts) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_sub(theirs);
        }
    }
}

impl Serialize for StateCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(STATES))?;
        for (state, count) in self.iter() {
            map.serialize_entry(state.key(), &count)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for StateCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let by_state = std::collections::BTreeMap::<State, u64>::deserialize(deserializer)?;
        let mut counts = StateCounts::default();
        for (state, count) in by_state {
            counts.add(state, count);
        }
        Ok(counts)
    }
}

impl JsonSchema for StateCounts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StateCounts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let keys: Vec<&str> = State::ALL.iter().map(|state| state.key()).collect();
        let properties: serde_json::Map<String, serde_json::Value> = keys
            .iter()
            .map(|key| ((*key).to_owned(), json_schema!({"type": "integer", "minimum": 0}).to_value()))
            .collect();
        json_schema!({
            "type": "object",
            "description": "Sockets by state, every state by its lower-case name.",
            "properties": properties,
            "required": keys,
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree_in_both_directions() {
        for state in State::ALL {
            assert_eq!(State::from_number(state.number()), Some(state));
            assert_eq!(state.title().to_lowercase(), state.key());
            assert_eq!(serde_json::to_value(state).unwrap(), state.key());
        }
        assert_eq!(State::from_number(0), None);
        assert_eq!(State::from_number(14), None);
    }

    #[test]
    fn counts_round_trip_through_json() {
        let mut counts = StateCounts::default();
        counts.add(State::TimeWait, 7);
        counts.add(State::Listen, 2);
        let json = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<StateCounts>(&json).unwrap(), counts);
        assert_eq!(counts.live(), 2);
    }
}
