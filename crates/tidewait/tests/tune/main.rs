//! `tidewait tune` on the running kernel, in namespaces of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod bench;
mod journal;
mod keep;
mod ports;
mod proof;
mod systemd;
mod trouble;
mod undo;
mod walk;
