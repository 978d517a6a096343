//! Something done over and over in a namespace, at a steady rate: requests, or a client program started anew each time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::netns::NetNs;

/// The longest that a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to repeat.
#[derive(Clone, Copy, Debug)]
pub struct Repeat {
    /// Times a second, over all threads; what cannot be done in time is left out.
    pub rate: u32,
    /// Threads that do it.
    pub threads: u32,
}

/// What is being repeated. Dropping it stops it.
#[derive(Debug)]
pub struct Repeated {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
}

impl NetNs {
    /// Does `work` in this namespace again and again.
    ///
    /// # Errors
    /// When a thread cannot be started; failures of the work are counted.
    pub fn repeat(
        &self,
        how: Repeat,
        work: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Repeated> {
        let work = Arc::new(work);
        let mut repeated = Repeated { shared: Arc::default(), threads: Vec::new() };
        let pause = Duration::from_secs_f64(f64::from(how.threads.max(1)) / f64::from(how.rate.max(1)));
        for _ in 0..how.threads.max(1) {
            let (shared, work) = (Arc::clone(&repeated.shared), Arc::clone(&work));
            repeated.threads.push(self.spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let counter = if work().is_ok() { &shared.done } else { &shared.failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(pause.saturating_sub(begin.elapsed()));
                }
            })?);
        }
        Ok(repeated)
    }

    /// Sends `request` to `address` on a connection of its own, again and again, and reads each answer to its end.
    ///
    /// # Errors
    /// As [`NetNs::repeat`].
    pub fn request(&self, how: Repeat, address: SocketAddr, request: &str) -> Result<Repeated> {
        let request = request.to_owned();
        self.repeat(how, move || {
            let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer)?;
            if answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200") {
                Ok(())
            } else {
                Err(io::Error::other("not answered with 200"))
            }
        })
    }
}

impl Repeated {
    /// How often it was done.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// How often it failed.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}
