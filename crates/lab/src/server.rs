//! Servers: one thread that accepts at some addresses and treats each connection by one policy.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketFlags};

use crate::error::{Context, Result};
use crate::netns::NetNs;
use crate::socket;

/// What a server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Reads and throws away, and closes when the client has closed: the client keeps the TIME_WAIT.
    CloseAfterPeer,
    /// Reads and throws away, and closes a second after the client has closed, as a program does that has to finish first.
    CloseLater,
    /// Closes at once and waits for the client to follow: the server keeps the TIME_WAIT.
    CloseFirst,
    /// Sends back what comes, and closes when the client has closed.
    Echo,
    /// Answers each request like a small HTTP server that allows keep-alive, and closes when the client has closed.
    Http,
    /// Never looks at its connections, nor closes them: each that the client ends stays in CLOSE_WAIT, its end unread.
    NeverClose,
    /// Reads to the end, and then forgets to close: each connection that the client ends stays in CLOSE_WAIT.
    Forget,
    /// Never accepts: the accept queue fills up, and then the kernel drops SYNs.
    NeverAccept,
}

impl Policy {
    /// Every policy.
    pub(crate) const ALL: [Policy; 8] = [
        Policy::CloseAfterPeer,
        Policy::CloseLater,
        Policy::CloseFirst,
        Policy::Echo,
        Policy::Http,
        Policy::NeverClose,
        Policy::Forget,
        Policy::NeverAccept,
    ];

    /// Its name on a command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Policy::CloseAfterPeer => "close-after-peer",
            Policy::CloseLater => "close-later",
            Policy::CloseFirst => "close-first",
            Policy::Echo => "echo",
            Policy::Http => "http",
            Policy::NeverClose => "never-close",
            Policy::Forget => "forget",
            Policy::NeverAccept => "never-accept",
        }
    }

    /// The policy of a name.
    pub(crate) fn from_word(word: &str) -> Option<Policy> {
        Policy::ALL.into_iter().find(|policy| policy.word() == word)
    }
}

/// What an HTTP server of the lab says to every request; a request is taken to come in one piece.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok";

/// A request for this path is never answered.
const SLOW: &[u8] = b"GET /slow";

/// How long [`Policy::CloseLater`] takes.
const LATER: Duration = Duration::from_secs(1);

/// How a server listens.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// What it does with a connection.
    pub policy: Policy,
    /// Length of the accept queue; the kernel caps it at net.core.somaxconn of the namespace.
    pub backlog: i32,
    /// Whether IPv6 addresses take IPv4 clients as well, who then show as v4-mapped.
    pub dual_stack: bool,
    /// Sets SO_KEEPALIVE on its connections, with the first probe after this time.
    pub keepalive: Option<Duration>,
}

impl ServerOptions {
    /// The policy, with an accept queue of 4096 and each family by itself.
    pub fn new(policy: Policy) -> ServerOptions {
        ServerOptions { policy, backlog: 4096, dual_stack: false, keepalive: None }
    }
}

/// A running server. Dropping it stops it and resets what it still holds.
#[derive(Debug)]
pub struct Server {
    counts: Arc<Counts>,
    stop: Arc<OwnedFd>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicU64,
    turned_away: AtomicU64,
}

impl Server {
    /// Starts a server in `netns` at `addresses`. It answers when this returns.
    ///
    /// # Errors
    /// When an address cannot be listened at.
    pub fn start(netns: &NetNs, addresses: &[SocketAddr], policy: Policy) -> Result<Server> {
        Server::with(netns, addresses, ServerOptions::new(policy))
    }

    /// As [`Server::start`], with all options.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn with(netns: &NetNs, addresses: &[SocketAddr], options: ServerOptions) -> Result<Server> {
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).context("open", "an eventfd")?);
        let mut listeners = Vec::new();
        netns.run(|| {
            for &address in addresses {
                let listener = socket::listen(address, options.backlog, options.dual_stack)
                    .and_then(|listener| Ok(rustix::io::ioctl_fionbio(&listener, true).map(|()| listener)?));
                let listener = listener.context("listen at", address)?;
                if let Some(idle) = options.keepalive {
                    // Connections inherit both from their listener.
                    socket::keep_alive(&listener, idle).context("set SO_KEEPALIVE at", address)?;
                }
                listeners.push(listener);
            }
            Ok::<_, crate::Error>(())
        })??;
        let serving = Serving::new(listeners, options.policy, Arc::clone(&counts), Arc::clone(&stop))
            .context("watch", "the server's sockets")?;
        let thread = thread::Builder::new().name("lab-server".into()).spawn(move || serving.run());
        Ok(Server { counts, stop, thread: Some(thread.context("start", "a server thread")?) })
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections it holds now.
    pub fn open(&self) -> u64 {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// How often accept() failed, for example because the process had no descriptor left.
    pub fn turned_away(&self) -> u64 {
        self.counts.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// What the event calls the descriptor that ends the server; listeners follow it, connections come after
/// those.
const STOP: u64 = 0;

/// The server's thread.
struct Serving {
    epoll: OwnedFd,
    listeners: Vec<OwnedFd>,
    /// Connections by what their events are called.
    connections: HashMap<u64, OwnedFd>,
    /// When connections are to be closed whose clients have closed, the earliest first.
    later: VecDeque<(Instant, u64)>,
    next: u64,
    policy: Policy,
    counts: Arc<Counts>,
    /// Kept open as long as epoll watches it.
    _stop: Arc<OwnedFd>,
}

impl Serving {
    fn new(
        listeners: Vec<OwnedFd>,
        policy: Policy,
        counts: Arc<Counts>,
        stop: Arc<OwnedFd>,
    ) -> io::Result<Serving> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &*stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        if policy != Policy::NeverAccept {
            for (name, listener) in (1..).zip(&listeners) {
                epoll::add(&epoll, listener, epoll::EventData::new_u64(name), epoll::EventFlags::IN)?;
            }
        }
        let next = listeners.len() as u64 + 1;
        let (connections, later) = (HashMap::new(), VecDeque::new());
        Ok(Serving { epoll, listeners, connections, later, next, policy, counts, _stop: stop })
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(256);
        let mut stopped = false;
        while !stopped {
            events.clear();
            let pause = self.later.front().map(|(due, _)| due.saturating_duration_since(Instant::now()));
            let pause = pause.and_then(|pause| rustix::event::Timespec::try_from(pause).ok());
            match epoll::wait(&self.epoll, spare_capacity(&mut events), pause.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
            while let Some(&(due, name)) = self.later.front()
                && due <= Instant::now()
            {
                self.later.pop_front();
                self.close(name);
            }
            for event in &events {
                match event.data.u64() {
                    STOP => stopped = true,
                    listener if listener <= self.listeners.len() as u64 => self.accept(listener as usize - 1),
                    connection => self.serve(connection),
                }
            }
        }
        self.connections.values().for_each(socket::abort_on_close);
    }

    /// Takes everything that waits at a listener.
    fn accept(&mut self, listener: usize) {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&self.listeners[listener], flags) {
                Ok(connection) => self.begin(connection),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => {
                    self.counts.turned_away.fetch_add(1, Ordering::Relaxed);
                    // The listener stays readable: wait for a descriptor to come free rather than spin.
                    thread::sleep(Duration::from_millis(10));
                    return;
                }
            }
        }
    }

    fn begin(&mut self, connection: OwnedFd) {
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        if self.policy == Policy::CloseFirst {
            // Only the sending half: closing outright would reset the connection if the client has sent
            // something.
            let _ = rustix::net::shutdown(&connection, Shutdown::Write);
        }
        // A client in a hurry has closed already: then epoll need not hear of the connection.
        let keeps = matches!(self.policy, Policy::NeverClose | Policy::Forget | Policy::CloseLater);
        if !keeps && self.is_over(&connection) {
            return;
        }
        let name = self.next;
        self.next += 1;
        let watched = self.policy == Policy::NeverClose
            || epoll::add(&self.epoll, &connection, epoll::EventData::new_u64(name), epoll::EventFlags::IN)
                .is_ok();
        if watched {
            self.connections.insert(name, connection);
            self.counts.open.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn serve(&mut self, name: u64) {
        let over = self.connections.get(&name).is_some_and(|connection| self.is_over(connection));
        if !over {
            return;
        }
        if !matches!(self.policy, Policy::CloseLater | Policy::Forget) {
            return self.close(name);
        }
        if let Some(connection) = self.connections.get(&name) {
            // Its end would be told again and again.
            let _ = epoll::delete(&self.epoll, connection);
        }
        if self.policy == Policy::CloseLater {
            self.later.push_back((Instant::now() + LATER, name));
        }
    }

    /// Closes a connection, which takes it out of epoll too.
    fn close(&mut self, name: u64) {
        self.connections.remove(&name);
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Reads what is there. True when the client has closed or the connection has failed.
    fn is_over(&self, connection: &OwnedFd) -> bool {
        let mut buffer = [0_u8; 16 * 1024];
        loop {
            match rustix::io::read(connection, &mut buffer) {
                Ok(0) => return true,
                Ok(length) if matches!(self.policy, Policy::Echo | Policy::Http) => {
                    let said = &buffer[..length];
                    if self.policy == Policy::Http && said.starts_with(SLOW) {
                        continue;
                    }
                    let answer = if self.policy == Policy::Http { ANSWER } else { said };
                    // What the client's window does not take now is dropped: a load, not a protocol.
                    match rustix::net::send(connection, answer, SendFlags::NOSIGNAL) {
                        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                        Err(_) => return true,
                    }
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => return true,
            }
        }
    }
}
