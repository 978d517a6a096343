//! What one destination holds, in as little memory as it takes: packed numbers while few, a bitmap when many.

use tidewait_model::{Occupancy, PortSet, State, StateCounts};

/// From this many sockets on a destination is kept as [`Occupancy`] with a bitmap of 8 KiB.
const MANY: usize = 512;
/// The seconds value that means "not in TIME_WAIT".
const NO_TIMER: u32 = 0xfff;

/// A socket in 32 bits: local port, state, seconds left in TIME_WAIT.
#[derive(Clone, Copy)]
pub(super) struct Packed(u32);

impl Packed {
    pub(super) fn new(port: u16, state: State, seconds_left: Option<u32>) -> Packed {
        let seconds = seconds_left.map_or(NO_TIMER, |seconds| seconds.min(NO_TIMER - 1));
        Packed(u32::from(port) << 16 | u32::from(state.number()) << 12 | seconds)
    }

    fn port(self) -> u16 {
        // The upper half of 32 bits fits 16.
        (self.0 >> 16) as u16
    }

    fn state(self) -> State {
        // Packed from a State, so the number is one.
        State::from_number((self.0 >> 12 & 0xf) as u8).unwrap_or(State::Close)
    }

    fn seconds_left(self) -> Option<u32> {
        Some(self.0 & 0xfff).filter(|seconds| *seconds != NO_TIMER)
    }

    pub(super) fn count_into(self, occupancy: &mut Occupancy) {
        occupancy.states.add(self.state(), 1);
        occupancy.ports.insert(self.port());
        if let Some(seconds) = self.seconds_left() {
            expire(&mut occupancy.expiring, seconds, 1);
        }
    }
}

/// Counts `count` sockets that let go in `seconds`.
pub(super) fn expire(expiring: &mut Vec<u32>, seconds: u32, count: u32) {
    let second = seconds.min(NO_TIMER - 1) as usize;
    if expiring.len() <= second {
        expiring.resize(second + 1, 0);
    }
    expiring[second] += count;
}

/// The sockets of one destination.
pub(super) enum Holding {
    Few(Vec<Packed>),
    Many(Box<Occupancy>),
}

impl Default for Holding {
    fn default() -> Holding {
        Holding::Few(Vec::new())
    }
}

impl Holding {
    pub(super) fn add(&mut self, packed: Packed) {
        match self {
            Holding::Many(occupancy) => packed.count_into(occupancy),
            Holding::Few(list) if list.len() < MANY => list.push(packed),
            Holding::Few(list) => {
                let mut occupancy = Occupancy { ports: PortSet::bitmap(), ..Occupancy::default() };
                list.iter().for_each(|packed| packed.count_into(&mut occupancy));
                packed.count_into(&mut occupancy);
                *self = Holding::Many(Box::new(occupancy));
            }
        }
    }

    pub(super) fn sockets(&self) -> u64 {
        match self {
            Holding::Few(list) => list.len() as u64,
            Holding::Many(occupancy) => occupancy.states.total(),
        }
    }

    pub(super) fn states(&self) -> StateCounts {
        match self {
            Holding::Few(list) => {
                let mut states = StateCounts::default();
                list.iter().for_each(|packed| states.add(packed.state(), 1));
                states
            }
            Holding::Many(occupancy) => occupancy.states,
        }
    }

    /// The local port, if there is just one socket.
    pub(super) fn only_port(&self) -> Option<u16> {
        match self {
            Holding::Few(list) => match list.as_slice() {
                [only] => Some(only.port()),
                _ => None,
            },
            Holding::Many(_) => None,
        }
    }

    pub(super) fn each_port(&self, mut each: impl FnMut(u16)) {
        match self {
            Holding::Few(list) => list.iter().for_each(|packed| each(packed.port())),
            Holding::Many(occupancy) => occupancy.ports.iter().for_each(each),
        }
    }

    pub(super) fn into_occupancy(self) -> Occupancy {
        match self {
            Holding::Many(occupancy) => *occupancy,
            Holding::Few(list) => {
                let mut occupancy = Occupancy {
                    ports: list.iter().map(|packed| packed.port()).collect(),
                    ..Occupancy::default()
                };
                list.iter().for_each(|packed| packed.count_into(&mut occupancy));
                occupancy
            }
        }
    }
}
