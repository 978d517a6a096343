//! Compiles the BPF programs, each `*.bpf.c` beside the Rust that loads it, with clang.

/// Without the feature there is nothing to build.
#[cfg(not(feature = "bpf"))]
fn main() {}

#[cfg(feature = "bpf")]
fn main() -> std::process::ExitCode {
    use tidewait_clang::{Program, run};
    run(&[
        // The probes of `doctor` do with the oldest instructions.
        Program { source: "src/probe/bpf/trace.bpf.c", object: "trace.bpf.o", instructions: "v1" },
        Program { source: "src/probe/bpf/network.bpf.c", object: "network.bpf.o", instructions: "v1" },
        Program {
            source: "src/trace/bpf/connections.bpf.c",
            object: "connections.bpf.o",
            instructions: "v3",
        },
        Program { source: "src/study/bpf/late.bpf.c", object: "late.bpf.o", instructions: "v3" },
    ])
}
