//! The only writer of kernel state: settings with a journal, their undoing, the file that keeps them.
//!
//! Whoever builds tidewait without this crate (feature `act` of the binary) has a program that only reads.

pub mod persist;
