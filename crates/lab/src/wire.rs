//! A wire through user space, with delay, loss, duplication and reordering by rule, and a hand on single segments.
//!
//! Each end is a TUN device; a thread carries the packets from one to the other and does to them what it is told: by chance
//! ([`Rules`]), or to the very segment that matters ([`Wire::trap`]). Needs no module but tun.
//!
//! ```no_run
//! use std::time::Duration;
//! use tidewait_lab::Lab;
//! use tidewait_lab::wire::{Deed, Direction, Rules, Segment};
//! # fn main() -> tidewait_lab::Result<()> {
//! let (client, server, wire) = Lab::new().wired_pair()?;
//! wire.rule(Direction::Back, Rules { delay: Duration::from_millis(20), loss: 0.01, ..Rules::default() });
//! // The client's last ACK is lost, and the server has to send its FIN again.
//! let lost = wire.trap(Direction::Forth, 1, Segment::last_ack, Deed::Drop);
//! // ... connections from `client` to `server` ...
//! assert!(lost.wait(1, Duration::from_secs(5)));
//! # Ok(())
//! # }
//! ```

mod engine;
mod segment;
mod tun;

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Context, Error, Result};
use crate::host::{Host, Lab};
use crate::netlink::Interface;
pub use segment::Segment;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first host to the second: of a pair, from the client to the server.
    Forth,
    /// From the second to the first.
    Back,
}

/// What happens to the segments that go one way. The default lets everything pass at once.
///
/// Chance decides over TCP segments alone, by the seed and the number of the segment on its way: the same segments meet the
/// same fate again. Other packets are delayed and nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// How long each takes.
    pub delay: Duration,
    /// Up to so much more, evenly. It changes no order: who comes after waits.
    pub jitter: Duration,
    /// The part that is lost, 0 to 1.
    pub loss: f64,
    /// The part that arrives twice.
    pub duplicate: f64,
    /// How long after the first the second arrives.
    pub duplicate_after: Duration,
    /// The part that is overtaken by what comes after it.
    pub reorder: f64,
    /// For how long those are held back.
    pub reorder_by: Duration,
    /// Where chance begins.
    pub seed: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            duplicate_after: Duration::ZERO,
            reorder: 0.0,
            reorder_by: Duration::ZERO,
            seed: 0,
        }
    }
}

/// What is done to a segment that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing: it is only kept, for [`Trap::caught`] and [`Wire::inject`].
    Record,
    /// It is lost.
    Drop,
    /// It arrives so much later, and what comes after overtakes it.
    Hold(Duration),
    /// It goes on, and a copy arrives so much later.
    Copy(Duration),
}

/// What went one way since the wire was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// TCP segments that were sent.
    pub segments: u64,
    /// Packets of anything else: IPv6 has some of its own.
    pub others: u64,
    /// Segments lost by rule.
    pub lost: u64,
    /// Segments of which a second was sent along by rule.
    pub duplicated: u64,
    /// Segments held back by rule.
    pub reordered: u64,
    /// Segments on which a trap has sprung.
    pub trapped: u64,
    /// Segments put in by [`Wire::inject`].
    pub injected: u64,
    /// Packets handed over at the far end, segments or not.
    pub delivered: u64,
    /// Packets that the far end did not take: its device is down.
    pub refused: u64,
}

/// A wire. Dropping it takes both devices away, with their addresses.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<engine::Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What waits for segments and does something to them. Dropping it lets them pass again.
#[derive(Debug)]
#[must_use = "a trap that is dropped catches nothing"]
pub struct Trap(Arc<Snare>);

/// The trap's side of the wire.
#[derive(Debug, Default)]
struct Snare {
    caught: Mutex<Vec<Segment>>,
    more: Condvar,
}

impl Lab {
    /// The usual pair, as [`Lab::pair`] makes it, on a wire through user space.
    ///
    /// # Errors
    /// As [`Lab::host`] and [`Lab::wire`].
    pub fn wired_pair(&self) -> Result<(Host, Host, Wire)> {
        let (client, server) = (self.host("client")?, self.host("server")?);
        let wire = self.wire(&client, "10.77.0.1/24", &server, "10.77.0.2/24")?;
        if client.get("net.ipv6.conf.all.disable_ipv6").is_ok_and(|value| value == "0") {
            client.add_address("fd00:77::1/64")?;
            server.add_address("fd00:77::2/64")?;
        }
        Ok((client, server, wire))
    }

    /// Joins two hosts by a wire through user space, and gives each end its address.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the kernel has no TUN; when an address is malformed or taken.
    pub fn wire(&self, left: &Host, left_address: &str, right: &Host, right_address: &str) -> Result<Wire> {
        let ends = [(left, Interface::parse(left_address)?), (right, Interface::parse(right_address)?)];
        let mut devices = Vec::new();
        for (host, interface) in ends {
            let device = host.next_device();
            devices.push(host.run(|| tun::make(&device))??);
            host.add_interface(&device, interface)?;
        }
        let (Some(right), Some(left)) = (devices.pop(), devices.pop()) else {
            return Err(Error::Refused("a wire has two ends".to_owned()));
        };
        Wire::start([left, right])
    }
}

impl Wire {
    fn start(ends: [OwnedFd; 2]) -> Result<Wire> {
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("make", "an eventfd")?;
        let shared = Arc::new(engine::Shared::new(ends, wake));
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("lab-wire".into()).spawn(move || of_thread.run());
        Ok(Wire { shared, thread: Some(thread.context("start", "a thread")?) })
    }

    /// Sets the rules of one way. They hold for what is sent from now on; what is under way stays so.
    pub fn rule(&self, direction: Direction, rules: Rules) {
        self.shared.lock().lane(direction).rule(rules);
    }

    /// Waits for the next `times` segments of one way that `matches` and does the same to each, whatever the rules say.
    /// Of several traps the one that was set first has the segment. `matches` must not ask the wire for anything: it waits.
    pub fn trap(
        &self,
        direction: Direction,
        times: u64,
        matches: impl FnMut(&Segment) -> bool + Send + 'static,
        deed: Deed,
    ) -> Trap {
        let snare = Arc::new(Snare::default());
        self.shared.lock().lane(direction).trap(Arc::downgrade(&snare), times, Box::new(matches), deed);
        Trap(snare)
    }

    /// Delivers a segment again, as it is, at once and past all rules.
    pub fn inject(&self, direction: Direction, segment: &Segment) {
        self.shared.lock().lane(direction).inject(segment, Instant::now());
        self.shared.wake();
    }

    /// What has gone one way so far.
    pub fn counts(&self, direction: Direction) -> Counts {
        self.shared.lock().lane(direction).counts
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Trap {
    /// What it has caught so far, in that order.
    pub fn caught(&self) -> Vec<Segment> {
        self.0.lock().clone()
    }

    /// Waits until it has caught `count`; false if it has not by then.
    pub fn wait(&self, count: usize, patience: Duration) -> bool {
        let few = |caught: &mut Vec<Segment>| caught.len() < count;
        let waited = self.0.more.wait_timeout_while(self.0.lock(), patience, few);
        waited.unwrap_or_else(PoisonError::into_inner).0.len() >= count
    }
}

impl Snare {
    fn lock(&self) -> MutexGuard<'_, Vec<Segment>> {
        self.caught.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spring(&self, segment: Segment) {
        self.lock().push(segment);
        self.more.notify_all();
    }
}
