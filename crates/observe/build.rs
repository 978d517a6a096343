//! Compiles the BPF programs, each `*.bpf.c` beside the Rust that loads it, with clang.

/// Without the feature there is nothing to build.
#[cfg(not(feature = "bpf"))]
fn main() {}

#[cfg(feature = "bpf")]
fn main() -> std::process::ExitCode {
    match bpf::compile() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "bpf")]
mod bpf {
    use std::env;
    use std::path::PathBuf;
    use std::process::Command;

    const HELP: &str = "The BPF half of tidewait is compiled by clang (14 or later) with the kernel's user headers. On Debian and \
                        Ubuntu: apt-get install clang libelf-dev zlib1g-dev linux-libc-dev pkg-config. CLANG names another \
                        clang. To build without: --no-default-features.";

    /// Every program: its source, the name that its object gets in OUT_DIR, and the instruction set that it needs. The
    /// probes of `doctor` do with the oldest; v3 has atomic operations that give the former value (Linux 5.12).
    const PROGRAMS: &[(&str, &str, &str)] = &[
        ("src/probe/bpf/trace.bpf.c", "trace.bpf.o", "v1"),
        ("src/probe/bpf/network.bpf.c", "network.bpf.o", "v1"),
        ("src/trace/bpf/connections.bpf.c", "connections.bpf.o", "v3"),
    ];

    pub fn compile() -> Result<(), String> {
        println!("cargo::rerun-if-env-changed=CLANG");
        println!("cargo::rerun-if-changed=build.rs");
        println!("cargo::rerun-if-changed=src/probe/bpf");
        println!("cargo::rerun-if-changed=src/trace/bpf");
        let clang = clang()?;
        let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?);
        // linux/bpf.h includes asm/types.h, which Debian keeps in a directory for each architecture; clang only looks
        // there for the architecture it compiles for, and that is bpf.
        let architecture = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        let headers = format!("/usr/include/{architecture}-linux-gnu");
        // Which registers the arguments of a system call are in (bpf/bpf_tracing.h has the names).
        let registers = match architecture.as_str() {
            "x86_64" => "x86",
            "aarch64" => "arm64",
            other => other,
        };
        // libbpf-sys says where libbpf's own headers are.
        let libbpf = env::var("DEP_BPF_INCLUDE").map_err(|error| format!("DEP_BPF_INCLUDE: {error}"))?;
        for (source, object, instructions) in PROGRAMS {
            let output = Command::new(&clang)
                .args([
                    "-target",
                    "bpf",
                    "-O2",
                    "-g",
                    "-Wall",
                    "-Werror",
                    "-I",
                    &libbpf,
                    "-idirafter",
                    &headers,
                ])
                .arg(format!("-mcpu={instructions}"))
                .arg(format!("-D__TARGET_ARCH_{registers}"))
                .args(["-c", source, "-o"])
                .arg(out.join(object))
                .output()
                .map_err(|error| format!("{}: {error}", clang.display()))?;
            if !output.status.success() {
                return Err(format!("{source}:\n{}\n{HELP}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        Ok(())
    }

    /// $CLANG, else clang, else the newest clang-N.
    fn clang() -> Result<PathBuf, String> {
        let runs = |clang: &PathBuf| {
            Command::new(clang).arg("--version").output().is_ok_and(|output| output.status.success())
        };
        if let Some(chosen) = env::var_os("CLANG").map(PathBuf::from) {
            return if runs(&chosen) {
                Ok(chosen)
            } else {
                Err(format!("CLANG={} does not run. {HELP}", chosen.display()))
            };
        }
        std::iter::once(PathBuf::from("clang"))
            .chain((14..=19).rev().map(|version| PathBuf::from(format!("clang-{version}"))))
            .find(runs)
            .ok_or_else(|| format!("no clang found. {HELP}"))
    }
}
