//! The tracer's counts and events against what really happened: every load counts for itself, and the numbers must be the same.
#![cfg(feature = "bpf")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod begins;
mod calls;
mod elsewhere;
mod ends;
mod life;
mod show;
mod sockets;
mod waiting;
mod watch;
mod who;
