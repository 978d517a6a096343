//! What reading the kernel and writing to it have in common: the structs of sock_diag, the errors of the BPF loader.
//!
//! Neither reads nor writes by itself: that is for the crates `observe` and `act`, which import this one and not each other.

#[cfg(feature = "bpf")]
pub mod bpf;
pub mod wire;
