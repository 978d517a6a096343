//! Connect and close on one thread, as fast as it goes: what a benchmark sets against itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::SocketFlags;
use rustix::time::{ClockId, clock_gettime};

use crate::error::{Context, Result};
use crate::netns::NetNs;
use crate::socket;

/// Where the server listens.
const PORT: u16 = 3_306;
/// Destinations, taken in turn (127.0.0.1 and what follows), so that connect() finds a port at once.
const DESTINATIONS: u8 = 16;

/// What happens on each connection between accept() and close().
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Nothing: whatever is done for each connection weighs most.
    None,
    /// A request and an answer of 100 bytes each, as of a program that opens a connection for each request.
    Request,
}

/// What a sprint did.
#[derive(Debug, Clone, Copy)]
pub struct Sprint {
    /// Connections made, accepted and closed on both sides.
    pub made: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// CPU time of the thread that did it. On the loopback that is all: the kernel carries each packet to its end within
    /// the call that sent it.
    pub cpu: Duration,
}

impl Sprint {
    /// Connections made per second.
    pub fn per_second(&self) -> f64 {
        self.made as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU time for each connection.
    pub fn cpu_each(&self) -> Duration {
        self.cpu.div_f64(self.made.max(1) as f64)
    }
}

impl NetNs {
    /// Connects over the loopback, accepts, closes the client's end and then the server's, over and over for `duration`.
    ///
    /// One thread does it all, so that nothing waits for a processor. Each connection leaves a TIME_WAIT; where many
    /// sprints follow each other, give each a namespace of its own, or connect() will have to search.
    ///
    /// # Errors
    /// When the namespace cannot be entered, the port is taken, or a call fails.
    pub fn sprint(&self, duration: Duration, used: Use) -> Result<Sprint> {
        self.run(|| {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
            let listener = socket::listen(any, 128, false).context("listen on", any)?;
            let (begin, begun) = (Instant::now(), clock_gettime(ClockId::ThreadCPUTime));
            let mut made = 0;
            while begin.elapsed() < duration {
                // Looking at the clock for each would count as well.
                for number in 1..=DESTINATIONS {
                    let to = SocketAddr::from(([127, 0, 0, number], PORT));
                    cycle(&listener, to, used).context("connect to", to)?;
                    made += 1;
                }
            }
            let spent = clock_gettime(ClockId::ThreadCPUTime) - begun;
            let cpu = Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0));
            Ok(Sprint { made, elapsed: begin.elapsed(), cpu })
        })?
    }
}

fn cycle(listener: &OwnedFd, to: SocketAddr, used: Use) -> std::io::Result<()> {
    let client = socket::tcp(to.ip(), SocketFlags::empty())?;
    rustix::net::connect(&client, &to)?;
    let server = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    if used == Use::Request {
        let mut message = [b'.'; 100];
        for (from, to) in [(&client, &server), (&server, &client)] {
            rustix::io::write(from, &message)?;
            rustix::io::read(to, &mut message)?;
        }
    }
    drop(client);
    drop(server);
    Ok(())
}
