//! Chores of the project: generate, check, gate, vm, bench.

fn main() {}
