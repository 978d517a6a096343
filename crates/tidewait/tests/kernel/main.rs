//! The binary on the running kernel, in namespaces of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod check;
mod common;
#[path = "../contract/mod.rs"]
mod contract;
mod explain;
#[cfg(feature = "act")]
mod reap;
mod report;
#[cfg(feature = "act")]
mod steer;
mod study;
mod trace;
mod traced;
mod trouble;
