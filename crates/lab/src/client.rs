//! A client as a process of its own, to be started as it is or under a remedy: connects, accepts, closes, and counts.
//!
//! One thread does both ends, the accepting one in the server's namespace: what is measured waits for no other thread. It calls
//! the C library for what a library loaded before it may want to change.
#![expect(
    unsafe_code,
    reason = "socket(), bind() and connect() of the C library, which a preloaded library can take over"
)]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketFlags};
use rustix::time::{ClockId, clock_gettime};
use tidewait_model::PortRange;

use crate::error::{Context, Error, Result};
use crate::netns::NetNs;
use crate::path::PATIENCE;
use crate::socket;

/// Connections before those that are timed: what is done once must not be taken for what each costs.
const WARM_UP: u64 = 10;

/// Later than this, the turns that were missed are given up instead of being made up for in a burst.
const LATEST: Duration = Duration::from_millis(100);

/// The accept queue; it never holds more than one.
const BACKLOG: i32 = 16;

/// What a client does.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Where it connects to, in turn or one after the other.
    pub destinations: Vec<SocketAddr>,
    /// The namespace where it listens there: a path.
    pub server: PathBuf,
    /// Connections to make at most; refused ones count as well, but not with `until_refused`.
    pub count: u64,
    /// Connections a second; as many as go if `None`.
    pub rate: Option<f64>,
    /// Ends after so long.
    pub time: Duration,
    /// With the first connection refused for want of a port, it goes on to the next destination, and ends after the last. Otherwise
    /// destinations are taken in turn, and refused connections are counted.
    pub until_refused: bool,
    /// Calls bind() with this address and port 0 before connect().
    pub bind: Option<IpAddr>,
    /// Sets IP_LOCAL_PORT_RANGE to this.
    pub range: Option<PortRange>,
    /// Resets each connection, so that nothing is left of it; otherwise it closes first and keeps the TIME_WAIT.
    pub reset: bool,
    /// After all that, waits so long and tries again so many times.
    pub again: Option<(Duration, u64)>,
    /// Begins when its standard input says so, by a line or its end.
    pub on_command: bool,
}

/// What a client did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientReport {
    /// Connections made.
    pub made: u64,
    /// Connections for which there was no port.
    pub refused: u64,
    /// Connections that failed otherwise.
    pub failed: u64,
    /// Turns given up because it did not keep up with its rate.
    pub missed: u64,
    /// When it was refused for the first time, in seconds after it began; `None` if never.
    pub refused_after: Option<f64>,
    /// The error number of the last refusal.
    pub error: Option<i32>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Of those, in connect() and the calls before it.
    pub connecting: f64,
    /// CPU time, in seconds.
    pub cpu: f64,
    /// The longest that the faster half of the connect() calls took, in microseconds.
    pub median: f64,
    /// The longest that 99 of 100 took, in microseconds.
    pub p99: f64,
    /// How many source addresses its connections had.
    pub sources: u64,
    /// Of those tried again after a pause, how many were made.
    pub again: u64,
}

impl Client {
    /// As many connections as go, one destination, closed here first.
    pub fn new(server: &NetNs, destination: SocketAddr) -> Client {
        Client {
            destinations: vec![destination],
            server: server.path(),
            count: u64::MAX,
            rate: None,
            time: Duration::from_secs(50),
            until_refused: false,
            bind: None,
            range: None,
            reset: false,
            again: None,
            on_command: false,
        }
    }

    /// The command line that starts it, for [`Client::play`].
    pub(crate) fn words(&self) -> Vec<String> {
        let destinations: Vec<String> = self.destinations.iter().map(SocketAddr::to_string).collect();
        let mut words = vec![
            format!("to={}", destinations.join(",")),
            format!("server={}", self.server.display()),
            format!("count={}", self.count),
            format!("time={}", self.time.as_millis()),
        ];
        words.extend(self.rate.map(|rate| format!("rate={rate}")));
        words.extend(self.bind.map(|address| format!("bind={address}")));
        words.extend(self.range.map(|range| format!("range={}-{}", range.low, range.high)));
        words.extend(self.until_refused.then(|| "until-refused=1".to_owned()));
        words.extend(self.on_command.then(|| "on-command=1".to_owned()));
        words.extend(self.reset.then(|| "reset=1".to_owned()));
        words.extend(self.again.map(|(pause, count)| format!("again={}-{count}", pause.as_millis())));
        words
    }

    fn parse(words: &[String]) -> Option<Client> {
        let words: BTreeMap<&str, &str> = words.iter().filter_map(|word| word.split_once('=')).collect();
        let two = |name: &str| words.get(name).and_then(|pair| pair.split_once('-'));
        let range = match two("range") {
            Some((low, high)) => Some(PortRange { low: low.parse().ok()?, high: high.parse().ok()? }),
            None => None,
        };
        let again = match two("again") {
            Some((pause, count)) => Some((Duration::from_millis(pause.parse().ok()?), count.parse().ok()?)),
            None => None,
        };
        Some(Client {
            destinations: words.get("to")?.split(',').map(|one| one.parse().ok()).collect::<Option<_>>()?,
            server: PathBuf::from(words.get("server")?),
            count: words.get("count")?.parse().ok()?,
            rate: optional(&words, "rate")?,
            time: Duration::from_millis(words.get("time")?.parse().ok()?),
            until_refused: words.contains_key("until-refused"),
            bind: optional(&words, "bind")?,
            range,
            reset: words.contains_key("reset"),
            again,
            on_command: words.contains_key("on-command"),
        })
    }

    /// Does what the words of a command line say, in the namespace that it was started in, and returns a line for
    /// `ClientReport::parse`.
    ///
    /// # Errors
    /// When the words are none of `Client::words`, or it cannot listen.
    pub fn play(words: &[String]) -> Result<String> {
        let client = Client::parse(words).ok_or_else(|| {
            Error::Refused(format!("lab client {words:?}: only the lab's tables start these"))
        })?;
        let server = NetNs::open(&client.server)?;
        let listeners = server.run(|| {
            let listen = |address: &SocketAddr| {
                let listener = socket::listen(*address, BACKLOG, false).context("listen at", address)?;
                socket::set_patience(&listener, Timeout::Recv, PATIENCE).context("set up", address)?;
                Ok::<_, Error>(listener)
            };
            client.destinations.iter().map(listen).collect::<Result<Vec<OwnedFd>>>()
        })??;
        if client.on_command {
            io::stdin().read_line(&mut String::new()).context("read from", "standard input")?;
        }
        let run = Run { client: &client, listeners: &listeners, latencies: Vec::new(), sources: Vec::new() };
        Ok(run.run().line())
    }

    /// A socket of the client, connected to a destination.
    fn connect(&self, destination: SocketAddr) -> io::Result<OwnedFd> {
        let family = if destination.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        // SAFETY: three numbers; the descriptor is checked before it is owned.
        let socket =
            unsafe { libc::socket(family.as_raw().into(), libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given it to this process, and nobody else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        socket::set_patience(&socket, Timeout::Send, PATIENCE)?;
        if let Some(range) = self.range {
            socket::set_port_range(&socket, range)?;
        }
        if let Some(address) = self.bind {
            call_with(&SocketAddr::new(address, 0), |address, length| {
                // SAFETY: the address outlives the call.
                unsafe { libc::bind(socket.as_raw_fd(), address, length) }
            })?;
        }
        call_with(&destination, |address, length| {
            // SAFETY: the address outlives the call.
            unsafe { libc::connect(socket.as_raw_fd(), address, length) }
        })?;
        Ok(socket)
    }
}

/// A word that may be left out: what it says, or nothing. `None` if it says nonsense.
fn optional<T: FromStr>(words: &BTreeMap<&str, &str>, name: &str) -> Option<Option<T>> {
    match words.get(name) {
        Some(word) => word.parse().ok().map(Some),
        None => Some(None),
    }
}

/// Calls with an address as C has it.
fn call_with(
    address: &SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> libc::c_int,
) -> io::Result<()> {
    let any = address.as_any();
    if call(any.as_ptr().cast(), any.addr_len()) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A client at work.
struct Run<'a> {
    client: &'a Client,
    listeners: &'a [OwnedFd],
    /// What connect() took, in nanoseconds.
    latencies: Vec<u32>,
    sources: Vec<IpAddr>,
}

impl Run<'_> {
    fn run(mut self) -> ClientReport {
        let mut report = ClientReport::default();
        if self.client.reset {
            for turn in 0..WARM_UP {
                // What fails will fail again.
                let _ = self.once(turn as usize % self.listeners.len());
            }
            self.latencies.clear();
        }
        let (begin, cpu) = (Instant::now(), clock_gettime(ClockId::ThreadCPUTime));
        self.pace(begin, &mut report);
        let spent = clock_gettime(ClockId::ThreadCPUTime) - cpu;
        report.seconds = begin.elapsed().as_secs_f64();
        report.cpu = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
        report.connecting = self.latencies.iter().map(|ns| f64::from(*ns)).sum::<f64>() / 1e9;
        self.latencies.sort_unstable();
        let at = |part: f64| {
            let place = (self.latencies.len() as f64 * part) as usize;
            let last = self.latencies.len().saturating_sub(1);
            self.latencies.get(place.min(last)).map_or(0.0, |ns| f64::from(*ns) / 1e3)
        };
        (report.median, report.p99) = (at(0.5), at(0.99));
        report.sources = self.sources.len() as u64;
        if let Some((pause, count)) = self.client.again {
            thread::sleep(pause);
            report.again = (0..count).filter(|_| self.once(self.listeners.len() - 1).is_ok()).count() as u64;
        }
        report
    }

    /// One connection after the other, until it is enough.
    fn pace(&mut self, begin: Instant, report: &mut ClientReport) {
        // Slower than one in a thousand seconds is as good as never, and no rate at all is no interval.
        let interval = self.client.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(0.001)));
        let (mut next, mut place) = (begin, 0);
        loop {
            let refused = if self.client.until_refused { 0 } else { report.refused };
            if begin.elapsed() >= self.client.time || report.made + refused >= self.client.count {
                return;
            }
            if let Some(interval) = interval {
                let now = Instant::now();
                if now < next {
                    thread::sleep((next - now).min(self.client.time.saturating_sub(begin.elapsed())));
                    continue;
                }
                next += interval;
                if now.saturating_duration_since(next) > LATEST {
                    report.missed += ((now - next).as_nanos() / interval.as_nanos().max(1)) as u64;
                    next = now;
                }
            }
            let outcome = self.once(place);
            if !self.client.until_refused {
                place = (place + 1) % self.listeners.len();
            }
            let Err(error) = outcome else {
                report.made += 1;
                continue;
            };
            let number = error.raw_os_error();
            if [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE]
                .iter()
                .any(|no_port| number == Some(no_port.raw_os_error()))
            {
                report.refused += 1;
                report.refused_after.get_or_insert(begin.elapsed().as_secs_f64());
                report.error = number;
                if self.client.until_refused {
                    place += 1;
                    if place == self.listeners.len() {
                        return;
                    }
                }
            } else {
                report.failed += 1;
                report.error = number;
                if self.client.until_refused {
                    return;
                }
            }
        }
    }

    /// A connection from its beginning to its end.
    fn once(&mut self, place: usize) -> io::Result<()> {
        let begin = Instant::now();
        let near = self.client.connect(self.client.destinations[place]);
        self.latencies.push(u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX));
        let near = near?;
        let far = rustix::net::accept_with(&self.listeners[place], SocketFlags::CLOEXEC)?;
        if let Ok(Ok(source)) = rustix::net::getsockname(&near).map(SocketAddr::try_from)
            && !self.sources.contains(&source.ip())
        {
            self.sources.push(source.ip());
        }
        if self.client.reset {
            socket::abort_on_close(&near);
            drop(near);
            return Ok(());
        }
        drop(near);
        // The client's FIN has to be here before the server closes, or both would close at once.
        socket::set_patience(&far, Timeout::Recv, PATIENCE)?;
        socket::drain(&far)
    }
}

impl ClientReport {
    fn line(&self) -> String {
        let optional = |number: Option<f64>| number.map_or("-".to_owned(), |number| number.to_string());
        let ClientReport { made, refused, failed, missed, seconds, connecting, cpu, median, p99, .. } = self;
        format!(
            "client {made} {refused} {failed} {missed} {} {} {seconds} {connecting} {cpu} {median} {p99} {} {}",
            optional(self.refused_after),
            optional(self.error.map(f64::from)),
            self.sources,
            self.again
        )
    }

    /// Reads the line that a client printed; `None` if it is another.
    pub(crate) fn parse(line: &str) -> Option<ClientReport> {
        let words: Vec<&str> = line.strip_prefix("client ")?.split_whitespace().collect();
        let whole = |at: usize| words.get(at)?.parse::<u64>().ok();
        let number = |at: usize| words.get(at)?.parse::<f64>().ok();
        Some(ClientReport {
            made: whole(0)?,
            refused: whole(1)?,
            failed: whole(2)?,
            missed: whole(3)?,
            refused_after: number(4),
            error: number(5).map(|number| number as i32),
            seconds: number(6)?,
            connecting: number(7)?,
            cpu: number(8)?,
            median: number(9)?,
            p99: number(10)?,
            sources: whole(11)?,
            again: whole(12)?,
        })
    }

    /// Connections a second.
    pub fn per_second(&self) -> f64 {
        self.made as f64 / self.seconds.max(f64::EPSILON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_and_report_survive_the_command_line() {
        let plain = Client {
            destinations: vec!["10.77.0.2:443".parse().unwrap(), "[fd00:77::2]:443".parse().unwrap()],
            server: PathBuf::from("/proc/1/fd/7"),
            count: 100,
            rate: None,
            time: Duration::from_secs(3),
            until_refused: false,
            bind: None,
            range: None,
            reset: false,
            again: None,
            on_command: false,
        };
        let special = Client {
            rate: Some(31.67),
            until_refused: true,
            bind: Some("10.77.0.1".parse().unwrap()),
            range: Some(PortRange { low: 1_024, high: 2_047 }),
            reset: true,
            again: Some((Duration::from_millis(1_200), 50)),
            on_command: true,
            ..plain.clone()
        };
        for client in [plain, special] {
            assert_eq!(Client::parse(&client.words()), Some(client));
        }
        assert_eq!(Client::parse(&["to=nowhere".to_owned()]), None);
        let report =
            ClientReport { made: 3, refused: 1, seconds: 0.5, median: 12.25, ..ClientReport::default() };
        let refused = ClientReport { refused_after: Some(0.25), error: Some(99), ..report.clone() };
        for report in [report, refused] {
            assert_eq!(ClientReport::parse(&report.line()), Some(report));
        }
        assert_eq!(ClientReport::parse("tidewait: steering"), None);
    }
}
