//! Compiles the BPF programs, each `*.bpf.c` beside the Rust that loads it, with clang.

/// Without the feature there is nothing to build.
#[cfg(not(feature = "bpf"))]
fn main() {}

#[cfg(feature = "bpf")]
fn main() -> std::process::ExitCode {
    use tidewait_clang::{Program, run};
    run(&[Program { source: "src/steer/bpf/steer.bpf.c", object: "steer.bpf.o", instructions: "v3" }])
}
