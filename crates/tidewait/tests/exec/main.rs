//! `tidewait exec` on the running kernel: what a command sees of it, what becomes of its ports, and what is left.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod bench;
mod client;
#[path = "../contract/mod.rs"]
mod contract;
mod full;
mod no_port;
mod refused;
mod seen;
mod steered;
mod surroundings;
mod terminal;
