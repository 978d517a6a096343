//! The kernel's own count of the sockets in a namespace: what a load is checked against.

use std::fs;
use std::time::Duration;

use tidewait_model::{State, StateCounts};

use crate::error::{Context, Error, Result};
use crate::netns::NetNs;

/// The TCP line of /proc/net/sockstat. `in_use` and `time_wait` belong to the namespace, `orphans` to the
/// machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sockstat {
    /// Full sockets in use.
    pub in_use: u64,
    /// Sockets that no process holds any more, on the whole machine.
    pub orphans: u64,
    /// TIME_WAIT sockets, and those in FIN_WAIT2 that nobody holds.
    pub time_wait: u64,
}

impl NetNs {
    /// Reads the namespace's TCP line of /proc/net/sockstat: two cheap numbers, whatever their size.
    ///
    /// # Errors
    /// When /proc is not mounted or the line is not there.
    pub fn sockstat(&self) -> Result<Sockstat> {
        let path = "/proc/thread-self/net/sockstat";
        let text = self.run(|| fs::read_to_string(path))?.context("read", path)?;
        parse_sockstat(&text).ok_or_else(|| Error::Refused(format!("{path}: no TCP line in {text:?}")))
    }

    /// Counts the namespace's sockets by state, IPv4 and IPv6 together, from /proc/net/tcp and tcp6.
    ///
    /// The kernel shows a half-open connection there as SYN_RECV, and bound sockets without a connection
    /// not at all.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn states(&self) -> Result<StateCounts> {
        let mut counts = StateCounts::default();
        for line in self.rows()? {
            if let Some(state) = state(&line) {
                counts.add(state, 1);
            }
        }
        Ok(counts)
    }

    /// How many connections wait in accept queues: open for the kernel, and not yet in a program's hands.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn unaccepted(&self) -> Result<u64> {
        let rows = self.rows()?;
        Ok(rows
            .iter()
            .filter(|line| state(line) == Some(State::Listen))
            .filter_map(|line| received(line))
            .sum())
    }

    /// The longest time that a timer of the namespace's sockets in `state` has still to run; `None` where none runs.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub(crate) fn longest_timer(&self, state_wanted: State) -> Result<Option<Duration>> {
        let rows = self.rows()?;
        Ok(rows.iter().filter(|line| state(line) == Some(state_wanted)).filter_map(|line| timer(line)).max())
    }

    /// How many connections of the namespace have ended without TIME_WAIT because there were too many (TCPTimeWaitOverflow of
    /// /proc/net/netstat).
    ///
    /// # Errors
    /// When /proc is not mounted or the counter is not there.
    pub(crate) fn time_wait_overflow(&self) -> Result<u64> {
        let missing = || Error::Refused("/proc/net/netstat: no TCPTimeWaitOverflow".to_owned());
        self.counter("TCPTimeWaitOverflow")?.ok_or_else(missing)
    }

    /// A counter of /proc/net/netstat; `None` if this kernel has none of that name.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub(crate) fn counter(&self, name: &str) -> Result<Option<u64>> {
        let path = "/proc/thread-self/net/netstat";
        let text = self.run(|| fs::read_to_string(path))?.context("read", path)?;
        Ok(parse_counter(&text, name))
    }

    /// The rows of /proc/net/tcp and tcp6.
    fn rows(&self) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for path in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
            let text = match self.run(|| fs::read_to_string(path))? {
                // A kernel without IPv6.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.ends_with('6') => continue,
                other => other.context("read", path)?,
            };
            rows.extend(text.lines().skip(1).map(str::to_owned));
        }
        Ok(rows)
    }
}

/// The state of a row of /proc/net/tcp.
fn state(row: &str) -> Option<State> {
    u8::from_str_radix(row.split_whitespace().nth(3)?, 16).ok().and_then(State::from_number)
}

/// The receive queue of a row of /proc/net/tcp: of a listener, its accept queue (`tx_queue:rx_queue`).
fn received(row: &str) -> Option<u64> {
    u64::from_str_radix(row.split_whitespace().nth(4)?.split_once(':')?.1, 16).ok()
}

/// The time that the timer of a row of /proc/net/tcp has still to run (`tr:tm->when`, in hundredths of a second: USER_HZ of
/// asm-generic/param.h). `None` where none runs.
fn timer(row: &str) -> Option<Duration> {
    let (kind, when) = row.split_whitespace().nth(5)?.split_once(':')?;
    let when = u64::from_str_radix(when, 16).ok()?;
    (kind != "00").then(|| Duration::from_millis(when * 10))
}

/// A counter of /proc/net/netstat: a line of names, and one of numbers below it.
fn parse_counter(text: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    let (names, numbers) = lines.chunks(2).find_map(|pair| {
        let [names, numbers] = pair else { return None };
        names.split_whitespace().any(|found| found == name).then_some((names, numbers))
    })?;
    let place = names.split_whitespace().position(|found| found == name)?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

fn parse_sockstat(text: &str) -> Option<Sockstat> {
    let mut fields = text.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_whitespace();
    let mut found = Sockstat { in_use: 0, orphans: 0, time_wait: 0 };
    while let (Some(key), Some(value)) = (fields.next(), fields.next()) {
        let value = value.parse().ok()?;
        match key {
            "inuse" => found.in_use = value,
            "orphan" => found.orphans = value,
            "tw" => found.time_wait = value,
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_state_and_accept_queue() {
        let row = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000011 00:00000000 00000000     0        0 8086 1 0 100";
        assert_eq!((state(row), received(row)), (Some(State::Listen), Some(17)));
        assert_eq!((state("x"), received("x")), (None, None));
    }

    #[test]
    fn a_row_tells_how_long_its_timer_runs() {
        let row = "  15: 01004D0A:8000 02004D0A:01BB 06 00000000:00000000 03:0000176F 00000000     0        0 0 3 000000000";
        assert_eq!((state(row), timer(row)), (Some(State::TimeWait), Some(Duration::from_millis(59_990))));
        assert_eq!(timer(&row.replace("03:0000176F", "00:00000000")), None);
        assert_eq!(timer("x"), None);
    }

    #[test]
    fn a_counter_is_the_number_below_its_name() {
        let text =
            "TcpExt: SyncookiesSent TW TCPTimeWaitOverflow\nTcpExt: 0 12 7\nIpExt: InOctets\nIpExt: 9\n";
        assert_eq!(parse_counter(text, "TCPTimeWaitOverflow"), Some(7));
        assert_eq!(parse_counter(text, "InOctets"), Some(9));
        assert_eq!(parse_counter(text, "InMcastOctets"), None);
    }

    #[test]
    fn the_tcp_line_is_found_among_the_others() {
        let text = "sockets: used 27\nTCP: inuse 4 orphan 1 tw 20000 alloc 9 mem 3\nUDP: inuse 2 mem 0\n";
        assert_eq!(parse_sockstat(text), Some(Sockstat { in_use: 4, orphans: 1, time_wait: 20_000 }));
        assert_eq!(parse_sockstat("UDP: inuse 2 mem 0\n"), None);
        assert_eq!(parse_sockstat("TCP: inuse many\n"), None);
    }
}
