//! Signals that end a wait rather than the program, so that what was seen until then can be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// What ends a wait: Ctrl-C, `timeout` and `kill`, and a terminal that goes.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
/// How late an interrupt may be noticed.
const NAP: Duration = Duration::from_millis(20);

/// A flag that the first of the signals raises. From then on they do what they do by default; they do as well once somebody
/// else has raised it. SIGHUP stays ignored where it was, by nohup.
///
/// # Errors
/// When a signal cannot be caught.
pub fn catch() -> anyhow::Result<Arc<AtomicBool>> {
    const CANNOT: &str = "cannot catch signals";
    let over = Arc::new(AtomicBool::new(false));
    for signal in SIGNALS.into_iter().filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP)) {
        // In this order: the first signal finds the flag down and raises it, a second one finds it up.
        flag::register_conditional_default(signal, Arc::clone(&over)).context(CANNOT)?;
        flag::register(signal, Arc::clone(&over)).context(CANNOT)?;
    }
    Ok(over)
}

/// Whether whoever started this program had it ignore `signal`; not, where /proc does not tell.
pub fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

/// Waits for `time`, or until one of the signals comes. From then on they end the program, as they do by default.
///
/// # Errors
/// When a signal cannot be caught.
pub fn wait(time: Duration) -> anyhow::Result<()> {
    let over = catch()?;
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
