//! Compiles the library of `exec --no-port`, which is loaded before other programs. It is part of the binary.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

const SOURCE: &str = "preload/no_port.c";

fn main() -> ExitCode {
    println!("cargo::rustc-check-cfg=cfg(preload)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=preload");
    if env::var_os("CARGO_FEATURE_ACT").is_none() {
        return ExitCode::SUCCESS;
    }
    match compile() {
        Ok(()) => println!("cargo::rustc-cfg=preload"),
        // All else works without it, and the program says why this does not.
        Err(error) => println!("cargo::warning=`tidewait exec --no-port` is left out: {error}"),
    }
    ExitCode::SUCCESS
}

/// With the compiler that links the program itself.
fn compile() -> Result<(), String> {
    let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or("OUT_DIR is not set")?;
    let compiler =
        cc::Build::new().cargo_metadata(false).try_get_compiler().map_err(|error| error.to_string())?;
    let output = compiler
        .to_command()
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"])
        // It is loaded with any C library, so it may need none.
        .args(["-nostdlib", "-ffreestanding", "-fno-stack-protector"])
        .args(["-Wl,--hash-style=both", "-Wl,-z,noexecstack", "-Wl,-z,relro", "-s", SOURCE, "-o"])
        .arg(out.join("no_port.so"))
        .output()
        .map_err(|error| format!("{}: {error}", compiler.path().display()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{SOURCE}: {}", String::from_utf8_lossy(&output.stderr).replace('\n', " ")))
    }
}
