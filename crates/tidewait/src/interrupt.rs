//! Signals that end a wait rather than the program, so that what was seen until then can be told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT};
use signal_hook::flag;

/// How late an interrupt may be noticed.
const NAP: Duration = Duration::from_millis(20);

/// A flag that the first of `signals` raises. From then on they do what they do by default; they do as well once somebody else
/// has raised it. SIGHUP stays ignored where it was, by nohup.
///
/// # Errors
/// When a signal cannot be caught.
pub fn catch(signals: &[i32]) -> io::Result<Arc<AtomicBool>> {
    let over = Arc::new(AtomicBool::new(false));
    for signal in signals.iter().filter(|signal| **signal != SIGHUP || !is_ignored(SIGHUP)) {
        // In this order: the first signal finds the flag down and raises it, a second one finds it up.
        flag::register_conditional_default(*signal, Arc::clone(&over))?;
        flag::register(*signal, Arc::clone(&over))?;
    }
    Ok(over)
}

/// Whether whoever started this program had it ignore `signal`; not, where /proc does not tell.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

/// Waits for `time`, or until SIGINT comes. From then on SIGINT ends the program, as it does by default.
///
/// # Errors
/// When the signal cannot be caught.
pub fn wait(time: Duration) -> io::Result<()> {
    let over = catch(&[SIGINT])?;
    let begin = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let left = time.saturating_sub(begin.elapsed());
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(NAP));
    }
    over.store(true, Ordering::Relaxed);
    Ok(())
}
