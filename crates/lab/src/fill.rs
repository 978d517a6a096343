//! TIME_WAIT sockets by the hundred thousand, faster than connect() finds ports on its own.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::sockopt::Timeout;
use tidewait_model::PortRange;

use crate::error::{Context, Error, Result};
use crate::netns::NetNs;
use crate::path::{PATIENCE, Pair, Path};
use crate::socket;

/// A fill that takes longer would lose its first sockets, which live 60 s, while it makes the last.
const TIME_LIMIT: Duration = Duration::from_secs(55);

/// Whether TIME_WAIT ignores resets.
const RFC1337: &str = "net.ipv4.tcp_rfc1337";

/// How long the last closes may take to be worked off by the kernel's network threads.
const SETTLING: Duration = Duration::from_secs(1);

/// What a fill made.
#[derive(Debug, Clone, Copy)]
pub struct Filled {
    /// Connections made and closed by the client, so that its side went to TIME_WAIT.
    pub made: u64,
    /// What /proc/net/sockstat of the client's namespace counts now, with what was there before.
    pub time_wait: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Filled {
    /// Connections made per second.
    pub fn per_second(&self) -> f64 {
        self.made as f64 / self.elapsed.as_secs_f64()
    }
}

impl Path {
    /// Leaves `count` TIME_WAIT sockets on the client's side, evenly over the pairs of source and
    /// destination.
    ///
    /// connect() takes a millisecond once half the range is in use, so this names each port itself by
    /// IP_LOCAL_PORT_RANGE (Linux 6.3; before that connect() searches). The sockets look as if connect()
    /// had chosen: ports of the parity of the range's first port go first, scattered, then the others.
    /// About 125,000 a second on two idle cores, 50,000 when they are busy.
    ///
    /// # Errors
    /// [`Error::Refused`] when `count` does not fit the port range or net.ipv4.tcp_max_tw_buckets of the
    /// namespace; [`Error::Unfinished`] when it takes longer than 55 s, or ports are taken by something
    /// else; or the first call that failed.
    pub fn fill_time_wait(&self, count: u64) -> Result<Filled> {
        let pairs = self.pairs()?;
        let range = self.client.get("net.ipv4.ip_local_port_range")?;
        let range = PortRange::parse(&range)
            .ok_or_else(|| Error::Refused(format!("net.ipv4.ip_local_port_range {range:?}: not a range")))?;
        let present = self.client.sockstat()?.time_wait;
        self.check_room(count, present, pairs.len() as u64, range)?;
        let listeners = self.listeners()?;
        let work = Work::new(count, pairs, range, &listeners);
        let _protected = Protected::new(&self.client);

        let start = Instant::now();
        self.client.run(|| {
            let workers = thread::available_parallelism().map_or(1, usize::from).min(4);
            thread::scope(|scope| {
                for _ in 0..workers {
                    let worker = thread::Builder::new().name("lab-fill".into());
                    worker.spawn_scoped(scope, || work.run(start)).context("start", "a thread")?;
                }
                Ok::<_, Error>(())
            })
        })??;
        let elapsed = start.elapsed();
        work.finish(count, elapsed)?;
        Ok(Filled { made: count, time_wait: self.settle(present + count)?, elapsed })
    }

    /// Waits a little until the kernel counts `expected`, and returns what it counts.
    fn settle(&self, expected: u64) -> Result<u64> {
        let start = Instant::now();
        loop {
            let time_wait = self.client.sockstat()?.time_wait;
            if time_wait >= expected || start.elapsed() > SETTLING {
                return Ok(time_wait);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn check_room(&self, count: u64, present: u64, pairs: u64, range: PortRange) -> Result<()> {
        let ports = u64::from(range.size());
        if count.div_ceil(pairs) > ports {
            return Err(Error::Refused(format!(
                "{count} TIME_WAIT sockets do not fit: {pairs} pairs of source and destination have {ports} \
                 ports each; add destinations or sources, or widen net.ipv4.ip_local_port_range in the \
                 namespace"
            )));
        }
        let buckets = self.client.get("net.ipv4.tcp_max_tw_buckets")?;
        if buckets.parse::<u64>().is_ok_and(|buckets| present + count > buckets) {
            return Err(Error::Refused(format!(
                "{count} TIME_WAIT sockets beside {present} do not fit net.ipv4.tcp_max_tw_buckets = \
                 {buckets}: raise it in the namespace"
            )));
        }
        Ok(())
    }
}

/// Keeps resets from ending TIME_WAIT sockets (tcp_rfc1337, net/ipv4/tcp_minisocks.c) while a fill lasts.
///
/// A busy machine now and then acknowledges a FIN so late that the server has sent it again. The answer to
/// the second one finds the server's socket gone, the server resets, and without this a few sockets in a
/// million would be lost.
struct Protected<'a> {
    netns: &'a NetNs,
    before: Option<String>,
}

impl Protected<'_> {
    fn new(netns: &NetNs) -> Protected<'_> {
        // In a namespace that was here before the settings stay, and the few are lost.
        let before = netns.get(RFC1337).ok().filter(|_| netns.set(RFC1337, "1").is_ok());
        Protected { netns, before }
    }
}

impl Drop for Protected<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was written a moment ago, so it can be written now.
            let _ = self.netns.set(RFC1337, before);
        }
    }
}

/// What the workers share.
struct Work<'a> {
    pairs: Vec<Lane>,
    listeners: &'a [OwnedFd],
    ports: Vec<u16>,
    made: AtomicU64,
    stop: AtomicBool,
    /// False once the kernel has said that it has no IP_LOCAL_PORT_RANGE.
    names_ports: AtomicBool,
    failure: Mutex<Option<Error>>,
}

/// A pair with its share of the work.
struct Lane {
    pair: Pair,
    target: u64,
    begun: AtomicU64,
    next_port: AtomicU64,
}

impl<'a> Work<'a> {
    fn new(count: u64, pairs: Vec<Pair>, range: PortRange, listeners: &'a [OwnedFd]) -> Work<'a> {
        let (share, rest) = (count / pairs.len() as u64, count % pairs.len() as u64);
        let lane = |(place, pair)| Lane {
            pair,
            target: share + u64::from((place as u64) < rest),
            begun: AtomicU64::new(0),
            next_port: AtomicU64::new(0),
        };
        Work {
            pairs: pairs.into_iter().enumerate().map(lane).collect(),
            listeners,
            ports: ports_in_order(range),
            made: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            names_ports: AtomicBool::new(true),
            failure: Mutex::new(None),
        }
    }

    /// One worker: round after round over the pairs, one connection each, until every pair has its share.
    fn run(&self, start: Instant) {
        let mut busy = true;
        while busy && !self.stop.load(Ordering::Relaxed) && start.elapsed() < TIME_LIMIT {
            busy = false;
            for lane in &self.pairs {
                if lane.begun.fetch_add(1, Ordering::Relaxed) >= lane.target {
                    continue;
                }
                busy = true;
                match self.next(lane) {
                    Ok(true) => drop(self.made.fetch_add(1, Ordering::Relaxed)),
                    // This pair has no port left; the total will show it.
                    Ok(false) => lane.begun.store(lane.target, Ordering::Relaxed),
                    Err(error) => return self.fail(error),
                }
            }
        }
    }

    /// Makes one connection of the lane, on the next of its ports that is free. False when there is none.
    fn next(&self, lane: &Lane) -> Result<bool> {
        loop {
            let port = if self.names_ports.load(Ordering::Relaxed) {
                let place = lane.next_port.fetch_add(1, Ordering::Relaxed);
                match self.ports.get(place as usize) {
                    Some(port) => Some(*port),
                    None => return Ok(false),
                }
            } else {
                None
            };
            match self.connect_and_close(lane.pair, port) {
                Ok(()) => return Ok(true),
                Err(error) if error.raw_os_error() == Some(Errno::ADDRNOTAVAIL.raw_os_error()) => {
                    if port.is_none() {
                        return Ok(false);
                    }
                }
                Err(error)
                    if port.is_some() && error.raw_os_error() == Some(Errno::NOPROTOOPT.raw_os_error()) =>
                {
                    self.names_ports.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    return Err(error).context("make a TIME_WAIT socket to", lane.pair.destination);
                }
            }
        }
    }

    fn connect_and_close(&self, pair: Pair, port: Option<u16>) -> io::Result<()> {
        let client = pair.socket(SocketFlags::empty())?;
        if let Some(port) = port {
            socket::set_only_port(&client, port)?;
        }
        socket::set_patience(&client, Timeout::Send, PATIENCE)?;
        rustix::net::connect(&client, &pair.destination)?;
        drop(client);
        // Another worker's connection may be the one accepted: every worker takes as many as it made. Its
        // FIN has to be here before the server closes, or both would close at once and the server keep a
        // TIME_WAIT too.
        let server = rustix::net::accept_with(&self.listeners[pair.index], SocketFlags::CLOEXEC)?;
        socket::drain(&server)
    }

    fn fail(&self, error: Error) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failure = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    fn finish(self, wanted: u64, elapsed: Duration) -> Result<()> {
        if let Some(error) = self.failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Err(error);
        }
        let made = self.made.into_inner();
        if made < wanted {
            let seconds = elapsed.as_secs_f64();
            return Err(Error::Unfinished { what: "TIME_WAIT sockets", made, wanted, seconds });
        }
        Ok(())
    }
}

/// The ports of a range in the order in which connect() uses them up: those of the parity of the first one,
/// then the others, each half scattered over the whole range.
pub(crate) fn ports_in_order(range: PortRange) -> Vec<u16> {
    let mut ports = Vec::with_capacity(range.size() as usize);
    for parity in 0..2 {
        let half = (range.size() + 1 - parity) / 2;
        // Any step without a common divisor visits every place once; near the golden ratio it scatters them
        // well.
        let step = (half * 618 / 1000..).find(|&step| step > 0 && divisor(step, half) == 1).unwrap_or(1);
        let mut place = 0_u32;
        for _ in 0..half {
            ports.push((u32::from(range.low) + parity + 2 * place) as u16);
            place = (place + step) % half;
        }
    }
    ports
}

fn divisor(left: u32, right: u32) -> u32 {
    if right == 0 { left } else { divisor(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_comes_once_and_the_parity_of_the_first_goes_first() {
        for (low, high) in [(32_768, 60_999), (1_024, 65_535), (1_025, 1_030), (1_024, 1_026), (5_000, 5_000)]
        {
            let range = PortRange { low, high };
            let ports = ports_in_order(range);
            let first = range.size().div_ceil(2) as usize;
            assert!(ports[..first].iter().all(|port| port % 2 == low % 2), "{range}");
            assert!(ports[first..].iter().all(|port| port % 2 != low % 2), "{range}");
            let mut sorted = ports.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (low..=high).collect::<Vec<_>>());
        }
    }
}
