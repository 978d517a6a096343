//! The binary: wires the crates together, one file per command.

fn main() {}
