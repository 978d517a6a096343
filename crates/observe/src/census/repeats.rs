//! Rows that a dump gives twice, found by their cookies.

/// How far back a repeated row can lie: the kernel repeats only within the hash bucket at which it resumed
/// (it holds at most 16 sockets of a bucket at a time, inet_diag.c `SKARR_SZ`).
const WINDOW: usize = 16;

/// The cookies of the last rows.
#[derive(Default)]
pub(crate) struct Repeats {
    recent: [u64; WINDOW],
    at: usize,
}

impl Repeats {
    /// Whether a row with this cookie was seen a moment ago. The kernel makes a cookie for every socket it
    /// dumps; 0 would mean that it made none.
    pub(crate) fn is_repeated(&mut self, cookie: u64) -> bool {
        if cookie == 0 {
            return false;
        }
        if self.recent.contains(&cookie) {
            return true;
        }
        self.recent[self.at] = cookie;
        self.at = (self.at + 1) % WINDOW;
        false
    }
}
