//! Changes under the journal, as far as they can be told without a kernel; the rest is in the tests of the binary.

use super::*;

#[test]
fn times_are_whole_seconds_in_utc() {
    let now = now();
    assert!(now.ends_with('Z') && now.len() == "2026-11-26T03:12:45Z".len(), "{now}");
}

#[test]
fn a_deadline_is_counted_from_the_start_of_the_machine() {
    let before = uptime_ms();
    let deadline = deadline(Duration::from_secs(60));
    assert!((before + 60_000..=uptime_ms() + 60_000).contains(&deadline.uptime_ms));
    assert_eq!(deadline.seconds, 60.0);
}
