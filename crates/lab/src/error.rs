//! What can go wrong in the lab, each with the call, its subject and the kernel's answer.

use std::io;

/// The result of anything the lab does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the lab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a call.
    #[error("{operation} {subject}: {source}")]
    Call {
        /// What was tried, as a verb: "bind", "make the veth pair".
        operation: &'static str,
        /// What it was tried on.
        subject: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A request that cannot be met as it was put; the text names the input and the remedy.
    #[error("{0}")]
    Refused(String),

    /// This user may not do it here; the text says how it can be allowed.
    #[error("not permitted to {0}")]
    NotPermitted(String),

    /// It cannot be done on this machine; the text says what is missing.
    #[error("{0}")]
    Unavailable(String),

    /// More descriptors are needed than this process may have.
    #[error(
        "{needed} file descriptors are needed and RLIMIT_NOFILE allows {allowed}: ask for fewer sockets, \
         or raise the hard limit (ulimit -Hn) before starting"
    )]
    Descriptors {
        /// Descriptors open now and to be opened, together.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },

    /// A load did not get as far as asked in the time it was given.
    #[error("{what}: {made} of {wanted} made within {seconds:.1} s")]
    Unfinished {
        /// The load.
        what: &'static str,
        /// How many were made.
        made: u64,
        /// How many were asked for.
        wanted: u64,
        /// Seconds it took, all told.
        seconds: f64,
    },

    /// A program did not end in the time it was given.
    #[error(
        "{what} had not ended after {seconds:.1} s and was killed; the last change it went for was {last}"
    )]
    TooLong {
        /// The program.
        what: String,
        /// Seconds it was given.
        seconds: f64,
        /// The last of its calls that counted, in words.
        last: String,
    },
}

/// Gives a bare kernel error its operation and subject.
pub(crate) trait Context<T> {
    /// Names what was tried, and on what.
    fn context(self, operation: &'static str, subject: impl ToString) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, operation: &'static str, subject: impl ToString) -> Result<T> {
        self.map_err(|error| Error::Call { operation, subject: subject.to_string(), source: error.into() })
    }
}
