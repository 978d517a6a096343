//! Steering on the real kernel, in network namespaces and cgroups of the tests' own.
#![cfg(feature = "bpf")]

mod client;
mod common;
mod ports;
