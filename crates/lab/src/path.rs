//! From where to where: the client's and the server's namespace, source addresses and destinations of a load.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::SocketFlags;
use rustix::net::sockopt::Timeout;

use crate::error::{Context, Error, Result};
use crate::netns::NetNs;
use crate::socket;

/// The longest that one connect, accept or read of a load waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The accept queue of the loads' own listeners; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Where a load's connections come from and go to.
///
/// The loads ([`Path::fill_time_wait`], [`Path::hold_established`], ...) spread their connections evenly
/// over every pair of source and destination. They bring their own listeners, so nothing else may listen at
/// the destinations; only [`Path::churn`] and [`Path::syn_sent`] talk to whatever is there.
#[derive(Debug, Clone)]
pub struct Path {
    pub(crate) client: NetNs,
    pub(crate) server: NetNs,
    sources: Vec<IpAddr>,
    destinations: Vec<SocketAddr>,
}

/// A source, when one was chosen, and a destination with its place in the list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) source: Option<IpAddr>,
    pub(crate) destination: SocketAddr,
    pub(crate) index: usize,
}

impl Path {
    /// From one namespace to another.
    pub fn between(client: &NetNs, server: &NetNs) -> Path {
        Path { client: client.clone(), server: server.clone(), sources: Vec::new(), destinations: Vec::new() }
    }

    /// Client and server in one namespace, over its loopback.
    ///
    /// Prefer an address other than 127/8 there: tcp_tw_reuse treats those differently by default.
    pub fn within(netns: &NetNs) -> Path {
        Path::between(netns, netns)
    }

    /// Adds a destination. A v4-mapped one (`[::ffff:10.77.0.2]:80`) makes IPv6 sockets that speak IPv4.
    #[must_use]
    pub fn to(mut self, destination: SocketAddr) -> Path {
        self.destinations.push(destination);
        self
    }

    /// Adds a source address; without any, the kernel's routing chooses.
    #[must_use]
    pub fn from(mut self, source: IpAddr) -> Path {
        self.sources.push(source);
        self
    }

    /// The destinations, in the order in which they were added.
    pub fn destinations(&self) -> &[SocketAddr] {
        &self.destinations
    }

    /// The source addresses, in the order in which they were added.
    pub fn sources(&self) -> &[IpAddr] {
        &self.sources
    }

    /// Every pair of a source and a destination of the same family.
    pub(crate) fn pairs(&self) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for (index, &destination) in self.destinations.iter().enumerate() {
            let before = pairs.len();
            if self.sources.is_empty() {
                pairs.push(Pair { source: None, destination, index });
            }
            let fitting = self.sources.iter().filter(|source| source.is_ipv4() == destination.is_ipv4());
            pairs.extend(fitting.map(|&source| Pair { source: Some(source), destination, index }));
            if pairs.len() == before {
                return Err(Error::Refused(format!(
                    "destination {destination}: no source address is of its family; add one with from()"
                )));
            }
        }
        if pairs.is_empty() {
            return Err(Error::Refused("the path has no destination; add one with to()".to_owned()));
        }
        Ok(pairs)
    }

    /// A listener at each destination, whose accept() and the reads of its children wait [`PATIENCE`].
    pub(crate) fn listeners(&self) -> Result<Vec<OwnedFd>> {
        self.server.run(|| {
            let listen = |&address| {
                let listener = socket::listen(address, BACKLOG, false).context("listen at", address)?;
                socket::set_patience(&listener, Timeout::Recv, PATIENCE).context("set up", address)?;
                Ok(listener)
            };
            self.destinations.iter().map(listen).collect()
        })?
    }
}

impl Pair {
    /// An unconnected socket with the source chosen, in the namespace of the calling thread.
    pub(crate) fn socket(self, flags: SocketFlags) -> std::io::Result<OwnedFd> {
        let socket = socket::tcp(self.destination.ip(), flags)?;
        if let Some(source) = self.source {
            socket::set_source(&socket, source)?;
        }
        Ok(socket)
    }

    /// Connects and waits for the handshake, [`PATIENCE`] at most.
    pub(crate) fn connect(self) -> Result<OwnedFd> {
        let connect = || {
            let socket = self.socket(SocketFlags::empty())?;
            socket::set_patience(&socket, Timeout::Send, PATIENCE)?;
            rustix::net::connect(&socket, &self.destination)?;
            Ok::<_, std::io::Error>(socket)
        };
        connect().context("connect to", self.destination)
    }
}
