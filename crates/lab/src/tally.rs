//! The kernel's own count of the sockets in a namespace: what a load is checked against.

use std::fs;

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
        for path in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
            let text = match self.run(|| fs::read_to_string(path))? {
                // A kernel without IPv6.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.ends_with('6') => continue,
                other => other.context("read", path)?,
            };
            for line in text.lines().skip(1) {
                let number = line.split_whitespace().nth(3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                if let Some(state) = number.and_then(State::from_number) {
                    counts.add(state, 1);
                }
            }
        }
        Ok(counts)
    }
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
    fn the_tcp_line_is_found_among_the_others() {
        let text = "sockets: used 27\nTCP: inuse 4 orphan 1 tw 20000 alloc 9 mem 3\nUDP: inuse 2 mem 0\n";
        assert_eq!(parse_sockstat(text), Some(Sockstat { in_use: 4, orphans: 1, time_wait: 20_000 }));
        assert_eq!(parse_sockstat("UDP: inuse 2 mem 0\n"), None);
        assert_eq!(parse_sockstat("TCP: inuse many\n"), None);
    }
}
