//! Connect and close, over and over, at a steady rate.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{SendFlags, SocketFlags};

use crate::error::{Error, Result};
use crate::path::{Pair, Path};
use crate::socket;

/// The longest that a connect or the wait for the server's close may take: a lost SYN is sent again after a
/// second.
const PATIENCE: Duration = Duration::from_secs(3);
/// A worker that is later than this gives the missed turns up instead of catching up in one burst.
const LATEST: Duration = Duration::from_millis(100);
/// The longest sleep, so that a stop is noticed.
const NAP: Duration = Duration::from_millis(20);

/// Who closes first, and so keeps the TIME_WAIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closer {
    /// The client closes when its time is over.
    Client,
    /// The client waits for the server ([`crate::Policy::CloseFirst`]) and then follows.
    Server,
}

/// How to churn.
#[derive(Debug, Clone)]
pub struct ChurnOptions {
    /// Connections a second, over all pairs; `None` is as many as go.
    pub rate: Option<u32>,
    /// Ends by itself after so many attempts.
    pub count: Option<u64>,
    /// Ends by itself after this time.
    pub duration: Duration,
    /// Who closes first.
    pub closer: Closer,
    /// How long the client keeps each connection before it closes.
    pub hold: Duration,
    /// Bytes that the client sends on each connection.
    pub bytes: usize,
    /// Calls bind() with this address and port 0 before connect(), as many programs do.
    pub bind_first: Option<IpAddr>,
    /// Sets IP_BIND_ADDRESS_NO_PORT before that bind().
    pub no_port: bool,
    /// Sets SO_REUSEADDR on the client's sockets.
    pub reuse_address: bool,
    /// Threads that connect; `None` is one, or two from 15,000 connections a second.
    pub threads: Option<usize>,
}

impl Default for ChurnOptions {
    /// 500 connections a second for a minute, closed at once by the client.
    fn default() -> ChurnOptions {
        ChurnOptions {
            rate: Some(500),
            count: None,
            duration: Duration::from_secs(60),
            closer: Closer::Client,
            hold: Duration::ZERO,
            bytes: 0,
            bind_first: None,
            no_port: false,
            reuse_address: false,
            threads: None,
        }
    }
}

impl ChurnOptions {
    /// How many connections it can hold at once.
    fn most_held(&self) -> u64 {
        if self.hold.is_zero() || self.closer == Closer::Server {
            return 0;
        }
        // Without a rate nobody knows beforehand: then accept() and socket() say when there are too many.
        let time = self.hold.min(self.duration).as_secs_f64();
        let by_rate = self.rate.map_or(0, |rate| (f64::from(rate) * time) as u64);
        self.count.map_or(by_rate, |count| count.min(by_rate))
    }
}

/// What a churn did.
#[derive(Debug, Clone, Default)]
pub struct ChurnReport {
    /// Connections made.
    pub made: u64,
    /// Failures by system call and error number.
    pub failed: BTreeMap<(&'static str, i32), u64>,
    /// Turns given up because the machine did not keep up with the rate.
    pub missed: u64,
    /// Time spent in connect(), all threads together.
    pub connecting: Duration,
    /// Time since the start, or until the end when it is over.
    pub elapsed: Duration,
}

impl ChurnReport {
    /// Connections made per second.
    pub fn per_second(&self) -> f64 {
        self.made as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// Failures of every kind.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// A running churn. Dropping it stops it and resets the connections it holds.
#[derive(Debug)]
pub struct Churn {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    pairs: Vec<Pair>,
    options: ChurnOptions,
    start: Instant,
    stop: AtomicBool,
    attempts: AtomicU64,
    made: AtomicU64,
    missed: AtomicU64,
    connecting_ns: AtomicU64,
    failed: Mutex<BTreeMap<(&'static str, i32), u64>>,
    /// When the last worker ended.
    end: Mutex<Option<Instant>>,
}

impl Path {
    /// Starts a churn to whatever listens at the destinations; usually a [`crate::Server`].
    ///
    /// # Errors
    /// When the options contradict each other, or a thread cannot be started. Failures to connect are
    /// counted.
    pub fn churn(&self, options: ChurnOptions) -> Result<Churn> {
        if options.rate == Some(0) {
            return Err(Error::Refused("rate 0: give at least one connection a second".to_owned()));
        }
        if options.bind_first.is_some() && !self.sources().is_empty() {
            return Err(Error::Refused("bind_first names the source itself: leave out from()".to_owned()));
        }
        if options.no_port && options.bind_first.is_none() {
            return Err(Error::Refused(
                "no_port changes the bind() of bind_first: give its address".to_owned(),
            ));
        }
        let fast = options.rate.is_none_or(|rate| rate >= 15_000);
        let count = options.threads.unwrap_or(if fast { 2 } else { 1 }).max(1);
        // At most so many are open at once: the held ones, and one in the hands of each thread. Twice,
        // because the server is usually in this process too.
        let open = options.most_held().saturating_add(count as u64);
        socket::reserve_descriptors(open.saturating_mul(2))?;
        let shared = Arc::new(Shared {
            pairs: self.pairs()?,
            options,
            start: Instant::now(),
            stop: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
            made: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            connecting_ns: AtomicU64::new(0),
            failed: Mutex::default(),
            end: Mutex::default(),
        });
        let mut churn = Churn { shared, threads: Vec::new() };
        for place in 0..count {
            let shared = Arc::clone(&churn.shared);
            churn.threads.push(self.client.spawn(move || Worker::new(&shared, place, count).run())?);
        }
        Ok(churn)
    }
}

impl Churn {
    /// What it has done so far.
    pub fn report(&self) -> ChurnReport {
        let end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        let over = self.threads.iter().all(thread::JoinHandle::is_finished);
        let end = end.filter(|_| over).unwrap_or_else(Instant::now);
        ChurnReport {
            made: self.shared.made.load(Ordering::Relaxed),
            failed: self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            missed: self.shared.missed.load(Ordering::Relaxed),
            connecting: Duration::from_nanos(self.shared.connecting_ns.load(Ordering::Relaxed)),
            elapsed: end - self.shared.start,
        }
    }

    /// Stops it and says what it did.
    pub fn stop(mut self) -> ChurnReport {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join();
        self.report()
    }

    /// Waits until its count or its time is over and says what it did.
    pub fn wait(mut self) -> ChurnReport {
        self.join();
        self.report()
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join();
    }
}

/// One thread of a churn.
struct Worker<'a> {
    shared: &'a Shared,
    /// Connections to be closed, the earliest first.
    held: VecDeque<(Instant, OwnedFd)>,
    turn: usize,
    next: Instant,
    /// Between two connections of this worker; zero when there is no rate to keep.
    interval: Duration,
    payload: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, place: usize, workers: usize) -> Worker<'a> {
        let interval = shared
            .options
            .rate
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(workers as f64 / f64::from(rate)));
        let next = shared.start + interval.mul_f64(place as f64 / workers as f64);
        let payload = vec![b'.'; shared.options.bytes];
        Worker { shared, held: VecDeque::new(), turn: place, next, interval, payload }
    }

    fn run(mut self) {
        let end = self.shared.start + self.shared.options.duration;
        let mut counted_out = false;
        loop {
            let now = Instant::now();
            let stopped = self.shared.stop.load(Ordering::Relaxed);
            if stopped || now >= end || (counted_out && self.held.is_empty()) {
                break;
            }
            while self.held.front().is_some_and(|(due, _)| *due <= now) {
                self.held.pop_front();
            }
            if counted_out || now < self.next {
                let due = self.held.front().map(|(due, _)| *due);
                let until = if counted_out {
                    due.unwrap_or(now)
                } else {
                    due.map_or(self.next, |due| due.min(self.next))
                };
                thread::sleep(until.saturating_duration_since(now).min(NAP));
                continue;
            }
            self.keep_pace(now);
            let attempt = self.shared.attempts.fetch_add(1, Ordering::Relaxed);
            counted_out = self.shared.options.count.is_some_and(|count| attempt >= count);
            if !counted_out {
                self.connect_once();
            }
        }
        self.held.iter().for_each(|(_, connection)| socket::abort_on_close(connection));
        *self.shared.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Sets the next turn, and gives up those that can no longer be made in time.
    fn keep_pace(&mut self, now: Instant) {
        if self.interval.is_zero() {
            return;
        }
        self.next += self.interval;
        let late = now.saturating_duration_since(self.next);
        if late > LATEST {
            let turns = late.as_nanos() / self.interval.as_nanos();
            self.shared.missed.fetch_add(turns as u64, Ordering::Relaxed);
            self.next = now;
        }
    }

    fn connect_once(&mut self) {
        let pair = self.shared.pairs[self.turn % self.shared.pairs.len()];
        self.turn += 1;
        match self.open(pair) {
            Ok(connection) => {
                self.shared.made.fetch_add(1, Ordering::Relaxed);
                if self.shared.options.closer == Closer::Client && !self.shared.options.hold.is_zero() {
                    self.held.push_back((Instant::now() + self.shared.options.hold, connection));
                }
            }
            Err((call, error)) => {
                let number = error.raw_os_error();
                let mut failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed.entry((call, number)).or_default() += 1;
            }
        }
    }

    /// Connects, sends, and waits for the server's close where that comes first. Names the call that failed.
    fn open(&self, pair: Pair) -> std::result::Result<OwnedFd, (&'static str, Errno)> {
        let options = &self.shared.options;
        let bare =
            |call| move |error: std::io::Error| (call, Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let connection = pair.socket(SocketFlags::empty()).map_err(bare("socket"))?;
        socket::set_patience(&connection, Timeout::Send, PATIENCE).map_err(bare("setsockopt"))?;
        if options.reuse_address {
            sockopt::set_socket_reuseaddr(&connection, true).map_err(|error| ("setsockopt", error))?;
        }
        if let Some(address) = options.bind_first {
            if options.no_port {
                socket::set_no_port(&connection).map_err(bare("setsockopt"))?;
            }
            rustix::net::bind(&connection, &SocketAddr::new(address, 0)).map_err(|error| ("bind", error))?;
        }
        let start = Instant::now();
        let connected = rustix::net::connect(&connection, &pair.destination);
        self.shared.connecting_ns.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        connected.map_err(|error| match error {
            // What a blocking connect() says when its time is over.
            Errno::INPROGRESS => ("connect", Errno::TIMEDOUT),
            other => ("connect", other),
        })?;
        if !self.payload.is_empty() {
            rustix::net::send(&connection, &self.payload, SendFlags::NOSIGNAL)
                .map_err(|error| ("send", error))?;
        }
        if options.closer == Closer::Server {
            socket::set_patience(&connection, Timeout::Recv, PATIENCE).map_err(bare("setsockopt"))?;
            socket::drain(&connection).map_err(bare("read"))?;
        }
        Ok(connection)
    }
}
