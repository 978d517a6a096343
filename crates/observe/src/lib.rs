//! The only crate that reads the kernel: sock_diag, /proc, namespaces, probes.
//!
//! Data flows one way: [`places`] finds the network namespaces, [`sock_diag`] dumps their sockets, [`census`] folds
//! the rows as they arrive, [`owners`] says whose they are, [`survey`] puts it together.

pub mod attached;
pub mod census;
pub mod in_use;
pub mod owners;
pub mod places;
pub mod probe;
pub mod procfs;
pub mod refusal;
pub mod sock_diag;
pub mod study;
pub mod survey;
pub mod sysctl_files;
pub mod trace;
pub mod waiting;
