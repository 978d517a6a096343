//! Recorded dumps, folded without a kernel. Each was made by the commands above its test, on the kernel in its name.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::PathBuf;

use tidewait_model::{Census, PortRange, State};
use tidewait_observe::census::Builder;
use tidewait_observe::census::direction::Ports;
use tidewait_observe::sock_diag::{Family, Recording, Request, Sockets};

fn census(name: &str) -> Census {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let mut recording = Recording::open(&path).unwrap();
    let mut builder = Builder::new(Ports::of(Some(PortRange { low: 32_768, high: 60_999 })));
    for family in Family::BOTH {
        let outcome = recording.dump(&Request::all(family), &mut |row| builder.add(row)).unwrap();
        assert_eq!((outcome.malformed, outcome.interrupted), (0, false));
    }
    builder.finish(100)
}

/// `load states --count 20 -- record states-6.18.dump`: 20 sockets in each state that one can get stuck in.
#[test]
fn every_stuck_state_of_6_18() {
    let census = census("states-6.18.dump");
    for (state, count) in census.states.iter() {
        let made = match state {
            State::SynRecv | State::FinWait2 | State::Close | State::LastAck | State::Closing => continue,
            // Two of the loads leave it behind.
            State::FinWait1 => 40,
            State::Listen => 1,
            _ => 20,
        };
        assert_eq!(count, made, "{}: {:?}", state.key(), census.states);
    }
    assert_eq!((census.repeated, census.unknown_states), (0, 0));
}

/// `load churn --rate 300 --seconds 30 -- sh -c 'sleep 6; record churn-6.18.dump'`: 300 a second for 6 seconds.
#[test]
fn a_churn_of_300_a_second_on_6_18() {
    let census = census("churn-6.18.dump");
    let destination = &census.destinations[0];
    let closed: Vec<u32> = destination.occupancy.expiring.iter().rev().copied().collect();
    assert!(closed.iter().skip(1).take(4).all(|count| (290..=310).contains(count)), "{closed:?}");
    assert!(destination.occupancy.ports.iter().all(|port| port % 2 == 0), "connect() takes even ports first");
    assert_eq!(census.sources[0].parity[1], 0);
}
