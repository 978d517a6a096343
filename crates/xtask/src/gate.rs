//! The gate: every check of the project, all of them run to the end, one table at the close. CI runs this.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

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

/// What a step found.
#[derive(Default)]
pub struct Outcome {
    /// Reasons to fail, already shown where they are long.
    pub failures: Vec<String>,
    /// What was not tried here: `name: reason`.
    pub skipped: Vec<String>,
    /// Tests that ran, where the step runs tests.
    pub tests: Tally,
}

/// Counts of tests as the test harness reports them.
#[derive(Default, Clone, Copy, PartialEq, Debug)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests marked as ignored.
    pub ignored: u64,
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
    let mut skipped = Vec::new();
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

/// Runs a command, passes its output on line by line and reads along. Says whether it succeeded.
pub fn watch(command: &mut Command) -> Result<(bool, Outcome)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let seen = Mutex::new(Outcome::default());
    let read = thread::scope(|scope| {
        let errors = scope.spawn(|| stderr.map_or(Ok(()), |from| read_along(from, std::io::stderr(), &seen)));
        let output = stdout.map_or(Ok(()), |from| read_along(from, std::io::stdout(), &seen));
        output.and(errors.join().unwrap_or(Ok(())))
    });
    let status = child.wait().with_context(|| format!("waiting for {name}"))?;
    read.with_context(|| format!("reading what {name} prints"))?;
    let seen = seen.into_inner();
    ensure!(seen.is_ok(), "a reader of what {name} prints has panicked");
    Ok((status.success(), seen.unwrap_or_default()))
}

/// Copies lines, whatever their encoding, and notes what each tells.
pub fn read_along(from: impl Read, mut to: impl Write, seen: &Mutex<Outcome>) -> std::io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        if let Ok(mut seen) = seen.lock() {
            seen.note(&String::from_utf8_lossy(&line));
        }
        line.clear();
    }
    Ok(())
}

impl Outcome {
    /// Takes from one line of test output what it tells: a result line or a skipped test.
    pub fn note(&mut self, line: &str) {
        if let Some(what) = line.trim_start().strip_prefix("SKIPPED ") {
            self.skipped.push(what.trim_end().to_owned());
        } else if let Some(tally) = Tally::parse(line) {
            self.tests.add(tally);
        }
    }
}

impl From<Vec<String>> for Outcome {
    fn from(failures: Vec<String>) -> Self {
        Self { failures, ..Self::default() }
    }
}

impl Tally {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Self::default();
        for count in counts.split("; ") {
            match count.trim().split_once(' ') {
                Some((number, "passed")) => tally.passed = number.parse().ok()?,
                Some((number, "failed")) => tally.failed = number.parse().ok()?,
                Some((number, "ignored")) => tally.ignored = number.parse().ok()?,
                _ => {}
            }
        }
        Some(tally)
    }

    /// Adds another count to this one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_and_skips_are_named() {
        let mut outcome = Outcome::default();
        outcome.note("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n");
        outcome.note("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n");
        outcome.note("  SKIPPED destroys_sockets: no CAP_NET_ADMIN\n");
        outcome.note("test census::tests::folds ... ok\n");
        assert_eq!(outcome.tests, Tally { passed: 15, failed: 2, ignored: 1 });
        assert_eq!(outcome.skipped, ["destroys_sockets: no CAP_NET_ADMIN"]);
    }

    #[test]
    fn lines_are_passed_on_as_they_are() {
        let (mut shown, seen) = (Vec::new(), Mutex::default());
        let printed = b"SKIPPED a: b\ntest result: ok. 1 passed; 0 failed\n\xff no newline";
        read_along(&printed[..], &mut shown, &seen).unwrap();
        let outcome: Outcome = seen.into_inner().unwrap();
        assert_eq!(shown, printed);
        assert_eq!((outcome.tests.passed, outcome.skipped.len()), (1, 1));
    }
}
