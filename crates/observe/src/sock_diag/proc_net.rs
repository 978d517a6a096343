//! /proc/net/tcp as a source of rows where sock_diag is missing: slower and poorer, but always there.
//!
//! It lacks cookies, attributes and bound sockets, and knows times to a hundredth of a second only
//! (net/ipv4/tcp_ipv4.c `tcp4_seq_show`; Documentation/networking/proc_net_tcp.rst).

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::{DumpError, Family, Outcome, Request, Row, Sockets};
use tidewait_kernel::wire::{InetDiagMsg, SockId};

/// Clock ticks a second in /proc (`USER_HZ`), on every architecture that Rust's standard library runs on.
const TICKS: u64 = 100;

/// Reads the namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct ProcNet {
    directory: PathBuf,
}

impl ProcNet {
    /// The tables below `root`/proc.
    pub fn new(root: &Path) -> ProcNet {
        ProcNet { directory: root.join("proc/thread-self/net") }
    }
}

impl Sockets for ProcNet {
    fn dump(&mut self, request: &Request, each: &mut dyn FnMut(&Row<'_>)) -> Result<Outcome, DumpError> {
        let name = match request.family {
            Family::V4 => "tcp",
            Family::V6 => "tcp6",
        };
        let failed = |source| DumpError::Io { step: "read /proc/net/tcp", source };
        let mut outcome = Outcome::default();
        let file = match File::open(self.directory.join(name)) {
            Ok(file) => file,
            // Without IPv6 there is no table for it.
            Err(error) if request.family == Family::V6 && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(outcome);
            }
            Err(error) => return Err(failed(error)),
        };
        let mut lines = BufReader::with_capacity(64 * 1024, file);
        let mut line = String::new();
        let mut header = true;
        loop {
            line.clear();
            if lines.read_line(&mut line).map_err(failed)? == 0 {
                return Ok(outcome);
            }
            outcome.bytes += line.len() as u64;
            if std::mem::take(&mut header) {
                continue;
            }
            match parse(&line, request.family) {
                Some(msg) => {
                    let row = Row::bare(msg);
                    if wanted(request, &row) {
                        outcome.rows += 1;
                        each(&row);
                    }
                }
                None => outcome.malformed += 1,
            }
        }
    }
}

fn wanted(request: &Request, row: &Row<'_>) -> bool {
    row.state().is_none_or(|state| request.states & state.mask() != 0)
        && request.only.passes(row.local(), row.remote())
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode ...`, numbers in hex but for the last three.
fn parse(line: &str, family: Family) -> Option<InetDiagMsg> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (src, sport) = endpoint(fields.next()?, family)?;
    let (dst, dport) = endpoint(fields.next()?, family)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (wqueue, rqueue) = pair(fields.next()?)?;
    let (timer, when) = pair(fields.next()?)?;
    let retrans = u32::from_str_radix(fields.next()?, 16).ok()?;
    let uid = fields.next()?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let ms = u64::from(when).saturating_mul(1_000 / TICKS);
    Some(InetDiagMsg {
        family: family.number(),
        state,
        timer: u8::try_from(timer).unwrap_or(u8::MAX),
        retrans: u8::try_from(retrans).unwrap_or(u8::MAX),
        id: SockId { sport, dport, src, dst, interface: 0, cookie: [0, 0] },
        expires: u32::try_from(ms).unwrap_or(u32::MAX),
        rqueue,
        wqueue,
        uid,
        inode,
    })
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (a, b) = text.split_once(':')?;
    Some((u32::from_str_radix(a, 16).ok()?, u32::from_str_radix(b, 16).ok()?))
}

/// Addresses are printed as host-order words of what is in network order in memory.
fn endpoint(text: &str, family: Family) -> Option<([u8; 16], [u8; 2])> {
    let (address, port) = text.split_once(':')?;
    let words = if family == Family::V4 { 1 } else { 4 };
    if address.len() != words * 8 {
        return None;
    }
    let mut bytes = [0; 16];
    for (at, slot) in bytes.chunks_exact_mut(4).take(words).enumerate() {
        let word = u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?;
        slot.copy_from_slice(&word.to_ne_bytes());
    }
    Some((bytes, u16::from_str_radix(port, 16).ok()?.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidewait_model::State;

    use super::super::Timer;
    use super::*;

    #[test]
    fn a_time_wait_line_of_a_little_endian_machine() {
        let line = "   1: 0500000A:9C40 0902000A:0CEA 06 00000000:00000000 03:000016F8 00000000     0        0 0 3 0000000000000000";
        let row = Row::bare(parse(line, Family::V4).unwrap());
        assert_eq!(row.state(), Some(State::TimeWait));
        assert_eq!(row.timer(), Timer::TimeWait(58_800));
        if cfg!(target_endian = "little") {
            assert_eq!(row.local().to_string(), "10.0.0.5:40000");
            assert_eq!(row.remote().to_string(), "10.0.2.9:3306");
        }
    }

    #[test]
    fn an_ipv6_listener_with_its_owner() {
        let line = "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 7551 1 0 100 0 0 10 0";
        let row = Row::bare(parse(line, Family::V6).unwrap());
        assert_eq!((row.state(), row.uid(), row.inode()), (Some(State::Listen), Some(1_000), Some(7_551)));
        assert_eq!(row.local().to_string(), "[::]:22");
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in "\\PC{0,200}") {
            let _ = (parse(&line, Family::V4), parse(&line, Family::V6));
        }
    }
}
