//! Where one measurement is made: a client and a server in fresh namespaces, with settings, and connections one by one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::sockopt::{self, Timeout};

use crate::error::{Context, Error, Result};
use crate::host::{Host, Lab};
use crate::netns::NetNs;
use crate::path::{PATIENCE, Path};
use crate::socket;

/// Where the server listens: below every range that is used here.
const PORT: u16 = 443;

/// The longest that a count may take; TIME_WAIT begins to end after 60 s.
const TIME_LIMIT: Duration = Duration::from_secs(50);

/// How long the last closes may take to be worked off by the kernel's network threads.
const SETTLING: Duration = Duration::from_secs(2);

/// A pause after a connect() that found no port: the others that run beside this one need the processor too.
const BREATH: Duration = Duration::from_micros(500);

/// How the client's program makes a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    /// Calls bind() with its address and port 0 before connect().
    pub(super) bind: bool,
    /// Sets SO_REUSEADDR.
    pub(super) reuse_address: bool,
    /// Sets IP_BIND_ADDRESS_NO_PORT before that bind().
    pub(super) no_port: bool,
}

/// Over what the connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A wire between two namespaces.
    Wire,
    /// The loopback of one.
    Loopback,
}

/// A client and a server, gone when dropped.
pub(super) struct Site {
    pub(super) client: NetNs,
    pub(super) server: NetNs,
    host: Option<Host>,
    source: IpAddr,
    destinations: Vec<SocketAddr>,
    listeners: Vec<OwnedFd>,
}

/// How far a count came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// Connections made.
    pub(super) made: u64,
    /// Whether the kernel refused one more.
    pub(super) refused: bool,
}

impl Site {
    /// Makes the namespaces, with a server address for each of `destinations`. No reset ends a TIME_WAIT there
    /// (tcp_rfc1337=1): a port that one set free would count as that of a setting.
    pub(super) fn new(place: Place, destinations: u8) -> Result<Site> {
        let site = Site::stock(place, destinations)?;
        site.set("net.ipv4.tcp_rfc1337", "1")?;
        Ok(site)
    }

    fn stock(place: Place, destinations: u8) -> Result<Site> {
        match place {
            Place::Loopback => {
                let netns = NetNs::new()?;
                let addresses = (1..=destinations).map(|number| IpAddr::from([127, 0, 0, number]));
                let destinations = addresses.map(|address| SocketAddr::new(address, PORT)).collect();
                let source = IpAddr::from([127, 0, 0, 1]);
                let (client, server) = (netns.clone(), netns);
                Ok(Site { client, server, host: None, source, destinations, listeners: Vec::new() })
            }
            Place::Wire => {
                let lab = Lab::new();
                let (client, server) = (lab.host("client")?, lab.host("server")?);
                lab.link(&client, "10.77.0.1/24", &server, "10.77.0.2/24")?;
                for number in 1..destinations {
                    server.add_address(&format!("10.77.0.{}/24", 2 + number))?;
                }
                let addresses = (0..destinations).map(|number| IpAddr::from([10, 77, 0, 2 + number]));
                Ok(Site {
                    client: client.netns().clone(),
                    server: server.netns().clone(),
                    host: Some(client),
                    source: IpAddr::from([10, 77, 0, 1]),
                    destinations: addresses.map(|address| SocketAddr::new(address, PORT)).collect(),
                    listeners: Vec::new(),
                })
            }
        }
    }

    /// Writes a setting at the client, and at the server what is not about the client's ports.
    pub(super) fn set(&self, name: &str, value: &str) -> Result<()> {
        self.client.set(name, value)?;
        if self.client.inode() != self.server.inode() && !name.starts_with("net.ipv4.ip_") {
            self.server.set(name, value)?;
        }
        Ok(())
    }

    /// From the client to the first destination.
    pub(super) fn path(&self) -> Path {
        Path::between(&self.client, &self.server).to(self.destination())
    }

    pub(super) fn destination(&self) -> SocketAddr {
        self.destinations[0]
    }

    /// Listens at every destination, with the settings as they are by now.
    pub(super) fn listen(&mut self) -> Result<()> {
        let path = Path::between(&self.client, &self.server);
        self.listeners = self.destinations.iter().fold(path, |path, to| path.to(*to)).listeners()?;
        Ok(())
    }

    /// Stops listening.
    pub(super) fn deafen(&mut self) {
        self.listeners.clear();
    }

    /// Makes the server silent: what the client sends there is lost.
    pub(super) fn silence(&self) -> Result<()> {
        match &self.host {
            Some(host) => host.blackhole(self.destination().ip()),
            None => Err(Error::Refused("a loopback cannot be made silent".to_owned())),
        }
    }

    /// Connections to each destination in turn, closed at once, until the kernel has no port for one more or `cap` are made.
    pub(super) fn until_refused(&self, client: Client, cap: u64) -> Result<Counted> {
        self.client.run(|| {
            let begin = Instant::now();
            let (mut made, mut refused) = (0, false);
            for number in 0..self.destinations.len() {
                refused = false;
                while made < cap && !refused {
                    match self.once(client, number) {
                        Ok(()) => made += 1,
                        Err(error) if no_port(&error) => refused = true,
                        Err(error) => return Err(error).context("connect to", self.destinations[number]),
                    }
                    if begin.elapsed() > TIME_LIMIT {
                        let seconds = begin.elapsed().as_secs_f64();
                        let what = "connections until there is no port";
                        return Err(Error::Unfinished { what, made, wanted: cap, seconds });
                    }
                }
            }
            Ok(Counted { made, refused })
        })?
    }

    /// Connections a second to the first destination for `window`, as fast as they go.
    pub(super) fn rate(&self, client: Client, window: Duration) -> Result<f64> {
        self.client.run(|| {
            let begin = Instant::now();
            let mut made: u64 = 0;
            while begin.elapsed() < window {
                match self.once(client, 0) {
                    Ok(()) => made += 1,
                    Err(error) if no_port(&error) => thread::sleep(BREATH),
                    Err(error) => return Err(error).context("connect to", self.destination()),
                }
            }
            Ok(made as f64 / begin.elapsed().as_secs_f64())
        })?
    }

    /// How long after now the next connect() succeeds; `None` after `patience`.
    pub(super) fn until_possible(&self, client: Client, patience: Duration) -> Result<Option<Duration>> {
        self.client.run(|| {
            let begin = Instant::now();
            while begin.elapsed() < patience {
                match self.once(client, 0) {
                    Ok(()) => return Ok(Some(begin.elapsed())),
                    Err(error) if no_port(&error) => thread::sleep(Duration::from_millis(2)),
                    Err(error) => return Err(error).context("connect to", self.destination()),
                }
            }
            Ok(None)
        })?
    }

    /// Sockets in TIME_WAIT at the client, orphaned FIN_WAIT2 included, once they are `expected` or it does not change.
    pub(super) fn time_wait(&self, expected: u64) -> Result<u64> {
        let begin = Instant::now();
        loop {
            let count = self.client.sockstat()?.time_wait;
            if count >= expected || begin.elapsed() > SETTLING {
                return Ok(count);
            }
            thread::sleep(Duration::from_millis(20));
            if self.client.sockstat()?.time_wait == count && begin.elapsed() > SETTLING / 4 {
                return Ok(count);
            }
        }
    }

    /// A socket of the client, bound if its program does that, on a thread of the client's.
    fn socket(&self, client: Client) -> io::Result<OwnedFd> {
        let socket = socket::tcp(self.source, SocketFlags::empty())?;
        socket::set_patience(&socket, Timeout::Send, PATIENCE)?;
        if client.reuse_address {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        if client.no_port {
            socket::set_no_port(&socket)?;
        }
        if client.bind {
            rustix::net::bind(&socket, &SocketAddr::new(self.source, 0))?;
        }
        Ok(socket)
    }

    /// A connection to destination `number` and both its ends, on a thread of the client's.
    pub(super) fn connect(&self, client: Client, number: usize) -> io::Result<(OwnedFd, OwnedFd)> {
        let socket = self.socket(client)?;
        rustix::net::connect(&socket, &self.destinations[number])?;
        let accepted = rustix::net::accept_with(&self.listeners[number], SocketFlags::CLOEXEC)?;
        Ok((socket, accepted))
    }

    /// A connection that the client closes first: its end goes to TIME_WAIT.
    fn once(&self, client: Client, number: usize) -> io::Result<()> {
        let (client, server) = self.connect(client, number)?;
        drop(client);
        // The client's FIN has to be here before the server closes, or both would close at once.
        socket::drain(&server)
    }
}

/// Whether the kernel has no port: connect() says EADDRNOTAVAIL, bind() EADDRINUSE.
fn no_port(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(Errno::ADDRNOTAVAIL.raw_os_error()) || number == Some(Errno::ADDRINUSE.raw_os_error())
}
