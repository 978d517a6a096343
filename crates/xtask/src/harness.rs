//! What programs print, read along: how many tests passed, what was skipped and why, and what failing tests said.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, ensure};

/// How many lines of what a failing test said are said again: the last ones.
const WORDS: usize = 40;

/// What a step found.
#[derive(Default)]
pub struct Outcome {
    /// Reasons to fail, already shown where they are long.
    pub failures: Vec<String>,
    /// What was not tried here: `name: reason`.
    pub skipped: Vec<String>,
    /// What failing tests said, the name of each in the first line.
    pub failing: Vec<String>,
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
    let (mut line, mut part) = (Vec::new(), Part::default());
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        if let Ok(mut seen) = seen.lock() {
            let line = String::from_utf8_lossy(&line);
            seen.note(&line);
            seen.failing.extend(part.next(line.trim_end()));
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

/// Where in a test program's output a line is: what failing tests said stands below the first `failures:`, above the second.
#[derive(Default)]
struct Part {
    /// The test whose words come, and those that came, where these are words of a failing test.
    failed: Option<Vec<String>>,
    /// Below the line `stack backtrace:`, which says little to who has the message.
    backtrace: bool,
}

impl Part {
    /// Takes a line; what a failing test said, when that was its last.
    fn next(&mut self, line: &str) -> Option<String> {
        let name = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"));
        let Some(words) = &mut self.failed else {
            self.failed = (line == "failures:").then(Vec::new);
            return None;
        };
        if line == "failures:" || line.starts_with("test result: ") {
            let words = self.failed.take()?;
            return told(&words);
        }
        if let Some(name) = name {
            self.backtrace = false;
            return told(&std::mem::replace(words, vec![name.to_owned()]));
        }
        self.backtrace = (self.backtrace || line == "stack backtrace:") && !line.starts_with("note: ");
        if !self.backtrace && !words.is_empty() {
            words.push(line.to_owned());
        }
        None
    }
}

/// The name of a test and its last words.
fn told(words: &[String]) -> Option<String> {
    let (name, said) = words.split_first()?;
    let said = &said[said.len().saturating_sub(WORDS)..];
    Some(format!("{name}\n{}", said.join("\n").trim_matches('\n')))
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

    #[test]
    fn what_failing_tests_said_is_kept_and_what_the_others_said_is_not() {
        let printed = "\
running 3 tests

successes:

---- fine stdout ----
nothing of note

successes:
    fine

failures:

---- census::folds stdout ----

thread 'census::folds' panicked at src/census.rs:1:1:
left: 1
stack backtrace:
   0: rust_begin_unwind
note: Some details are omitted

---- other stdout ----
Error: refused

failures:
    census::folds
    other

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let seen = Mutex::default();
        read_along(printed.as_bytes(), Vec::new(), &seen).unwrap();
        let outcome: Outcome = seen.into_inner().unwrap();
        assert_eq!(outcome.failing.len(), 2, "{:?}", outcome.failing);
        assert!(outcome.failing[0].starts_with("census::folds\nthread"), "{}", outcome.failing[0]);
        assert!(!outcome.failing[0].contains("rust_begin_unwind"), "{}", outcome.failing[0]);
        assert_eq!(outcome.failing[1], "other\nError: refused");
    }
}
