//! What those have in common that read the kernel and write to it: sock_diag, the errors of the BPF loader, the cgroup v2 tree,
//! files replaced in one piece.
//!
//! What is read and written is for the crates `observe` and `act`, which import this one and not each other.

#[cfg(feature = "bpf")]
pub mod bpf;
pub mod cgroup;
pub mod file;
pub mod wire;
