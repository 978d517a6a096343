//! How many sockets may end now where there is a limit a second.

/// Sockets a second, handed out as time passes.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    per_second: f64,
    credit: f64,
    at_ms: u64,
}

/// What was not used adds up for this time, no longer: a limit a second is one in every second.
const SAVED_SECONDS: f64 = 0.1;

impl Allowance {
    /// An allowance that begins now, with nothing saved: the first second has no more than any other.
    pub fn new(per_second: u32, now_ms: u64) -> Allowance {
        Allowance { per_second: f64::from(per_second.max(1)), credit: 0.0, at_ms: now_ms }
    }

    /// One at least, or a low limit would never be reached.
    fn most(per_second: f64) -> f64 {
        (per_second * SAVED_SECONDS).max(1.0)
    }

    /// How many may end now.
    pub fn now(&mut self, now_ms: u64) -> usize {
        let seconds = now_ms.saturating_sub(self.at_ms) as f64 / 1_000.0;
        self.at_ms = now_ms;
        self.credit = (self.credit + seconds * self.per_second).min(Allowance::most(self.per_second));
        self.credit as usize
    }

    /// So many did.
    pub fn spend(&mut self, count: usize) {
        self.credit -= count as f64;
    }

    /// Milliseconds until there is one more.
    pub fn wait_ms(&self) -> u64 {
        (((1.0 - self.credit).max(0.0) / self.per_second) * 1_000.0).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_its_limit_and_a_moment() {
        let mut allowance = Allowance::new(1_000, 0);
        let mut times = Vec::new();
        for now in (0..5_000).step_by(7) {
            let count = allowance.now(now);
            allowance.spend(count);
            times.push((now, count));
        }
        let total: usize = times.iter().map(|(_, count)| count).sum();
        assert!((4_900..=5_100).contains(&total), "{total}");
        let first: usize = times.iter().filter(|(now, _)| *now < 1_000).map(|(_, count)| count).sum();
        assert!(first <= 1_000, "{first}");
        for begin in (0..4_000).step_by(100) {
            let within = |now: &u64| (begin..begin + 1_000).contains(now);
            let count: usize = times.iter().filter(|(now, _)| within(now)).map(|(_, count)| count).sum();
            assert!(count <= 1_100, "{count} from {begin} on");
        }
    }

    #[test]
    fn a_limit_below_one_a_moment_is_reached_too() {
        let mut allowance = Allowance::new(2, 0);
        assert_eq!((allowance.now(0), allowance.wait_ms()), (0, 500));
        let first = allowance.now(500);
        allowance.spend(first);
        assert_eq!((first, allowance.now(500), allowance.wait_ms()), (1, 0, 500));
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let mut allowance = Allowance::new(1_000, 0);
        assert_eq!(allowance.now(60_000), 100);
    }
}
