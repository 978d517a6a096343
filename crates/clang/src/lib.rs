//! Compiles BPF programs with clang, for the build scripts of the crates that have some.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The headers that the programs share.
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include");

const HELP: &str = "The BPF half of tidewait is compiled by clang (14 or later) with the kernel's user headers. On Debian and \
                    Ubuntu: apt-get install clang libelf-dev zlib1g-dev linux-libc-dev pkg-config. CLANG names another \
                    clang. To build without: --no-default-features.";

/// A program to compile.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its source, from the directory of the crate. What else is in the source's directory is taken for its headers, and what all
    /// programs share is in `include` of this crate.
    pub source: &'static str,
    /// The name that its object gets in OUT_DIR.
    pub object: &'static str,
    /// The instruction set that it needs: v1 is in every kernel; v3 has atomic operations that give the former value
    /// (Linux 5.12).
    pub instructions: &'static str,
}

/// Compiles `programs` into OUT_DIR. To be called by a build script, as all that it does for BPF.
///
/// The build script's crate needs libbpf-sys as a direct dependency: that is how it hears where libbpf's headers are.
#[expect(clippy::print_stdout, reason = "a build script talks to cargo so")]
pub fn run(programs: &[Program]) -> ExitCode {
    match compile(programs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a build script talks to cargo so")]
fn compile(programs: &[Program]) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SHARED}");
    for program in programs {
        if let Some(directory) = Path::new(program.source).parent() {
            println!("cargo::rerun-if-changed={}", directory.display());
        }
    }
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
    for Program { source, object, instructions } in programs {
        let output = Command::new(&clang)
            .args([
                "-target",
                "bpf",
                "-O2",
                "-g",
                "-Wall",
                "-Werror",
                "-I",
                SHARED,
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
