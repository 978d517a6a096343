//! How the program ends: one place that turns a result into words on stderr and an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use tidewait_observe::places::PlaceError;

/// What was wrong with the call, found only after it was parsed. Ends with 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// What this user may not do here, and how it can be allowed. Ends with 77.
#[derive(Debug)]
pub struct NotPermitted(pub String);

impl std::fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotPermitted {}

/// The exit code for a result: 0 done, 1 failed, 2 wrong usage, 77 not permitted. A reader that went away
/// (`| head`) is no failure.
pub fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    // Where nobody can be told, the code still tells.
    let _ = writeln!(anstream::stderr(), "tidewait: {}", words(&error));
    ExitCode::from(if error.is::<Usage>() {
        2
    } else if error.is::<NotPermitted>() {
        77
    } else {
        match error.downcast_ref::<PlaceError>() {
            Some(error) if error.is_permission() => 77,
            Some(
                PlaceError::Unknown { .. } | PlaceError::NoProcess { .. } | PlaceError::NotANamespace { .. },
            ) => 2,
            _ => 1,
        }
    })
}

/// An error with what caused it. Many say that themselves, in the middle of a sentence: then it is not said again.
pub fn words(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
    }
    said
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says its cause itself, and passes it on.
    #[derive(Debug)]
    struct Told(io::Error);

    impl std::fmt::Display for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "cannot open the file: {} (try again)", self.0)
        }
    }

    impl std::error::Error for Told {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let wet = || io::Error::other("it is wet");
        let error = anyhow::Error::new(Told(wet())).context("no report");
        assert_eq!(words(&error), "no report: cannot open the file: it is wet (try again)");
        assert_eq!(words(&anyhow::Error::new(wet()).context("no report")), "no report: it is wet");
    }
}
