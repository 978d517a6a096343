//! What the loader of BPF programs has to say, and what its errors mean.

use std::cell::RefCell;
use std::fmt;

use libbpf_rs::{PrintLevel, set_print};

/// Advice of libbpf on a first load that fails, whatever the reason; the error number says more.
const GUESSES: &[&str] = &["RLIMIT_MEMLOCK", "ulimit", "bpf_object__probe_loading", "failed to load object"];

/// The kernel's own error number for "not supported", which leaks out of bpf(2) (include/linux/errno.h).
const ENOTSUPP: i32 = 524;

thread_local! {
    /// What libbpf had to say on this thread; it would print it otherwise.
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Refused for want of privileges, or by policy.
    Refused,
    /// The kernel does not know a kind of program, map, helper or function.
    Unsupported,
    /// No memory for it.
    NoMemory,
    /// Something else, which says nothing about the kernel.
    Unknown,
}

/// Why a step did not work.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What kind of trouble it is.
    pub cause: Cause,
    /// The step, and the line of libbpf's log that decides, else its error.
    pub detail: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Keeps what libbpf says from here on instead of printing it, and forgets what it said before: that explains no later
/// trouble.
pub fn listen() {
    set_print(Some((PrintLevel::Warn, |_, line| LOG.with_borrow_mut(|log| log.push_str(&line)))));
    LOG.with_borrow_mut(String::clear);
}

/// What an error of libbpf in `step` means.
pub fn trouble(step: &str, error: &libbpf_rs::Error) -> Trouble {
    let text = format!("{error:#}");
    let log = LOG.take();
    let cause = match errno(&text) {
        Some(libc::EPERM) => Cause::Refused,
        Some(libc::ENOMEM) => Cause::NoMemory,
        // EACCES is how the verifier refuses a program.
        Some(
            libc::EACCES
            | libc::EINVAL
            | libc::ENOENT
            | libc::ENOSYS
            | libc::ESRCH
            | libc::EOPNOTSUPP
            | ENOTSUPP
            | libc::E2BIG,
        ) => Cause::Unsupported,
        _ => Cause::Unknown,
    };
    Trouble { cause, detail: format!("{step}: {}", decisive(&log).unwrap_or(&text)) }
}

/// The number in "Operation not permitted (os error 1)": libbpf-rs gives it in no other way.
fn errno(text: &str) -> Option<i32> {
    text.rsplit_once("(os error ")?.1.split_once(')')?.0.parse().ok()
}

/// The line of libbpf's log that names the cause: the verifier's last word, else what libbpf says of the program, else
/// its first warning.
fn decisive(log: &str) -> Option<&str> {
    let verifier = log
        .split_once("-- BEGIN PROG LOAD LOG --")
        .and_then(|(_, rest)| rest.split_once("-- END PROG LOAD LOG --"))
        .and_then(|(words, _)| {
            words.lines().map(str::trim).rfind(|line| {
                !line.is_empty() && !line.starts_with("processed ") && !line.starts_with("libbpf:")
            })
        });
    let says = |needle: &str| log.lines().find(|line| line.contains(needle));
    verifier
        .or_else(|| says("BPF program load failed"))
        .or_else(|| says("failed to find"))
        .or_else(|| says("failed to create"))
        .or_else(|| {
            log.lines().find(|line| !(line.trim().is_empty() || GUESSES.iter().any(|g| line.contains(g))))
        })
        .map(|line| line.trim().trim_start_matches("libbpf: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decisive_line_is_the_verifiers_last_word_or_else_libbpfs() {
        let log = "libbpf: prog 'x': BPF program load failed: Permission denied\n\
                   libbpf: prog 'x': -- BEGIN PROG LOAD LOG --\n0: (85) call 1\n\
                   unknown func bpf_x#9\nprocessed 1 insns (limit 1)\n-- END PROG LOAD LOG --\n";
        assert_eq!(decisive(log), Some("unknown func bpf_x#9"));
        let refused = "libbpf: failed to guess\nlibbpf: prog 'x': BPF program load failed: -EPERM\n";
        assert_eq!(decisive(refused), Some("prog 'x': BPF program load failed: -EPERM"));
        assert_eq!(decisive("\n"), None);
    }

    #[test]
    fn libbpfs_guess_at_a_refusal_is_not_passed_on() {
        let log =
            "libbpf: Failed to bump RLIMIT_MEMLOCK (err = -EPERM), you might need to do it explicitly!\n";
        assert_eq!(decisive(log), None);
    }

    #[test]
    fn the_error_number_is_read_out_of_the_text() {
        assert_eq!(errno("load: Operation not permitted (os error 1)"), Some(1));
        assert_eq!(errno("no such thing"), None);
    }
}
