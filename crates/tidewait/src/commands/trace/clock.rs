//! The clock of the kernel's events made into that of people.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use rustix::time::{ClockId, Timespec, clock_gettime};

const SECOND: i128 = 1_000_000_000;

/// CLOCK_MONOTONIC to wall-clock time. What was written of a second is kept: the next event is mostly in the same one.
pub struct Clock {
    /// Nanoseconds from one clock's zero to the other's.
    offset: i128,
    /// The second that `utc` and `local` are of.
    second: Option<i64>,
    utc: String,
    local: String,
    zone: TimeZone,
}

impl Clock {
    /// The clocks as they are now, in the machine's time zone.
    pub fn read() -> Clock {
        let zone = TimeZone::system();
        let mut clock = Clock { offset: 0, second: None, utc: String::new(), local: String::new(), zone };
        clock.refresh();
        clock
    }

    /// Looks at both clocks again: somebody may have set one.
    pub fn refresh(&mut self) {
        let read = |id| {
            let Timespec { tv_sec, tv_nsec } = clock_gettime(id);
            i128::from(tv_sec) * SECOND + i128::from(tv_nsec)
        };
        self.offset = read(ClockId::Realtime) - read(ClockId::Monotonic);
    }

    /// `2026-11-22T14:03:07` in UTC and the microsecond, of a moment in nanoseconds of CLOCK_MONOTONIC.
    pub fn utc(&mut self, monotonic: u64) -> (&str, u32) {
        let micro = self.turn(monotonic);
        (&self.utc, micro)
    }

    /// `14:03:07.123` in the machine's time zone.
    pub fn local(&mut self, monotonic: u64) -> String {
        let micro = self.turn(monotonic);
        format!("{}.{:03}", self.local, micro / 1_000)
    }

    /// The same for now.
    pub fn local_now(&mut self) -> String {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
        let now = i128::from(tv_sec) * SECOND + i128::from(tv_nsec);
        self.local(u64::try_from(now).unwrap_or_default())
    }

    fn turn(&mut self, monotonic: u64) -> u32 {
        let at = i128::from(monotonic) + self.offset;
        let second = i64::try_from(at.div_euclid(SECOND)).unwrap_or_default();
        if self.second != Some(second) {
            let stamp = Timestamp::from_second(second).unwrap_or_default();
            self.utc = stamp.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            self.local = Zoned::new(stamp, self.zone.clone()).strftime("%H:%M:%S").to_string();
            self.second = Some(second);
        }
        u32::try_from(at.rem_euclid(SECOND) / 1_000).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_the_second_that_they_are_in() {
        let mut clock = Clock::read();
        clock.zone = TimeZone::fixed(jiff::tz::offset(2));
        clock.offset = 1_700_000_000 * SECOND;
        assert_eq!(clock.utc(1_999_999), ("2023-11-14T22:13:20", 1_999));
        assert_eq!(clock.local(59_999_999_999), "00:14:19.999");
        assert_eq!(clock.utc(60_000_000_000), ("2023-11-14T22:14:20", 0));
        clock.offset -= SECOND / 2;
        assert_eq!(clock.utc(60_000_000_000), ("2023-11-14T22:14:19", 500_000));
    }
}
