//! The only crate that reads the kernel: sock_diag, /proc, namespaces, probes.
