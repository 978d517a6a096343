//! Segments for TIME_WAIT, each made on purpose: counted once, as what they are, at the age that they had.
#![cfg(feature = "bpf")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod kinds;
mod life;
mod stage;
