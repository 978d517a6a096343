//! Steering on the real kernel, in network namespaces and cgroups of the tests' own.
#![cfg(feature = "bpf")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod client;
mod common;
mod ports;
mod sources;
