//! `tidewait tune` on the running kernel, in namespaces of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]
#![expect(
    clippy::print_stdout,
    reason = "the walk says how many points it killed at; skips are counted by the gate"
)]

mod bench;
mod journal;
mod keep;
mod ports;
mod proof;
mod readers;
mod systemd;
mod trouble;
mod undo;
mod walk;
