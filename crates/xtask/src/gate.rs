//! The gate: every check of the project, all of them run to the end, one table at the close. CI runs this.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::harness::{Outcome, Tally, watch};
use crate::workspace::{Workspace, cargo};
use crate::{check, generate, policy, read_only, vm};

/// Which steps to run.
#[derive(Args)]
pub struct Options {
    /// Run this step and no other; may be repeated
    #[arg(long, value_name = "STEP", value_parser = names())]
    only: Vec<String>,
    /// Leave this step out; may be repeated
    #[arg(long, value_name = "STEP", value_parser = names(), conflicts_with = "only")]
    skip: Vec<String>,
}

/// One line of the table.
struct Step {
    name: &'static str,
    run: fn(&Workspace) -> Result<Outcome>,
}

/// The quick ones first. `-D warnings` is given to clippy and rustdoc, so that a plain build stays usable with warnings.
const STEPS: &[Step] = &[
    Step { name: "fmt", run: |workspace| run_cargo(workspace, &["fmt", "--all", "--check"], &[]) },
    Step { name: "check", run: |workspace| Ok(Outcome::from(check::complaints(workspace)?)) },
    Step { name: "generated", run: |workspace| Ok(Outcome::from(generate::complaints(workspace)?)) },
    Step { name: "policy", run: |workspace| Ok(Outcome::from(policy::complaints(workspace)?)) },
    Step {
        name: "clippy",
        run: |workspace| {
            run_cargo(
                workspace,
                &[
                    "clippy",
                    "--locked",
                    "--workspace",
                    "--all-targets",
                    "--keep-going",
                    "--",
                    "-D",
                    "warnings",
                ],
                &[],
            )
        },
    },
    Step {
        name: "no-bpf",
        run: |workspace| {
            let rest = [
                "--locked",
                "--workspace",
                "--all-targets",
                "--no-default-features",
                "--keep-going",
                "--",
                "-D",
                "warnings",
            ];
            run_cargo(workspace, &[&["clippy"], &rest[..]].concat(), &[])
        },
    },
    Step { name: "read-only", run: read_only::outcome },
    Step {
        name: "test",
        run: |workspace| {
            // What a passing test printed is shown, for the sake of its SKIPPED lines.
            let arguments = ["test", "--locked", "--workspace", "--no-fail-fast", "--", "--show-output"];
            run_cargo(workspace, &arguments, &[])
        },
    },
    Step {
        name: "doc",
        run: |workspace| {
            run_cargo(
                workspace,
                &["doc", "--locked", "--workspace", "--no-deps", "--keep-going"],
                &[("RUSTDOCFLAGS", "-D warnings")],
            )
        },
    },
    Step {
        name: "fuzz",
        run: |workspace| {
            let target = workspace.target().display().to_string();
            let arguments =
                ["clippy", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", &target];
            // Compiled, not run: the fuzzer's own C++ half need not be built for that, nor found.
            let environment = [("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a")];
            run_cargo(workspace, &[&arguments, &["--", "-D", "warnings"][..]].concat(), &environment)
        },
    },
    Step { name: "vm-test", run: |workspace| vm::suite::outcome(workspace, &[]) },
];

fn names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

/// Runs the chosen steps and prints the table. Fails if one of them does.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut rows = Vec::new();
    let (mut skipped, mut failing) = (Vec::new(), Vec::new());
    let mut tests = Tally::default();
    let mut failed = 0;
    let begun = Instant::now();
    for step in STEPS {
        let name = step.name.to_owned();
        if options.skip.contains(&name) || !(options.only.is_empty() || options.only.contains(&name)) {
            rows.push((step.name, "left out", Duration::ZERO));
            continue;
        }
        println!("\n== {name}");
        let begun = Instant::now();
        let outcome = (step.run)(workspace).unwrap_or_else(|error| Outcome::from(vec![format!("{error:#}")]));
        for failure in &outcome.failures {
            eprintln!("error: {failure}");
        }
        failed += usize::from(!outcome.failures.is_empty());
        rows.push((
            step.name,
            if outcome.failures.is_empty() { "passed" } else { "FAILED" },
            begun.elapsed(),
        ));
        skipped.extend(outcome.skipped.into_iter().map(|what| format!("{name}: {what}")));
        failing.extend(outcome.failing.into_iter().map(|test| format!("{name}: {test}")));
        tests.add(outcome.tests);
    }

    println!("\n== summary");
    for (name, verdict, took) in &rows {
        println!("{name:<10} {verdict:<8} {:>7.1} s", took.as_secs_f64());
    }
    println!("{:<10} {:<8} {:>7.1} s", "total", "", begun.elapsed().as_secs_f64());
    for what in &skipped {
        println!("SKIPPED {what}");
    }
    // At the end, where who looks at a long log looks first.
    for test in &failing {
        println!("\nFAILED {test}");
    }
    let ran = rows.iter().filter(|(_, verdict, _)| *verdict != "left out").count();
    println!(
        "gate: {} of {ran} steps passed; tests: {} passed, {} failed, {} ignored, {} skipped",
        ran - failed,
        tests.passed,
        tests.failed,
        tests.ignored,
        skipped.len()
    );
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs cargo in the root, passes on what it prints, and picks out what the table needs.
fn run_cargo(workspace: &Workspace, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
    println!("cargo {}", arguments.join(" "));
    let mut command = Command::new(cargo());
    command.args(arguments).envs(environment.iter().copied()).current_dir(&workspace.root);
    let (success, seen) = watch(&mut command)?;
    let mut outcome = seen;
    if !success {
        outcome.failures.push(format!("cargo {} failed", arguments.first().unwrap_or(&"")));
    }
    Ok(outcome)
}
