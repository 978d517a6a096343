//! Sockets kept in one state until they are dropped: ESTABLISHED, CLOSE_WAIT, FIN_WAIT2, SYN_SENT, bound.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketFlags};

use tidewait_model::PortRange;

use crate::error::{Context, Error, Result};
use crate::fill::ports_in_order;
use crate::netns::NetNs;
use crate::parked::Parked;
use crate::path::Path;
use crate::socket;

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that connected.
    Client,
    /// The end that accepted.
    Server,
}

/// Sockets held open. Dropping resets them, so that no state of theirs stays behind.
#[derive(Debug, Default)]
pub struct Held {
    client: Vec<OwnedFd>,
    server: Vec<OwnedFd>,
    /// Kept so that the destination goes on listening while the load lasts.
    listeners: Vec<OwnedFd>,
}

impl Held {
    /// Descriptors held on one side.
    pub fn count(&self, side: Side) -> usize {
        match side {
            Side::Client => self.client.len(),
            Side::Server => self.server.len(),
        }
    }

    /// Closes one side the usual way, as its program would: a FIN goes out.
    ///
    /// Where the other host was made silent meanwhile ([`crate::Host::blackhole`]), the FIN is never
    /// acknowledged, and the sockets stay in FIN_WAIT1, or in LAST_ACK if the other side had closed before.
    pub fn close(&mut self, side: Side) {
        match side {
            Side::Client => self.client.clear(),
            Side::Server => self.server.clear(),
        }
    }

    /// Sends from one side until the other, which does not read, takes no more: its window is zero.
    ///
    /// # Errors
    /// When a connection has failed.
    pub fn stuff(&self, side: Side) -> Result<()> {
        let bytes = [b'.'; 64 * 1024];
        let sockets = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        for socket in sockets {
            loop {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                match rustix::net::send(socket, &bytes, flags) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error).context("send on", "a connection"),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.client.iter().chain(&self.server).for_each(socket::abort_on_close);
    }
}

impl Path {
    /// Holds `count` connections open on both sides: two descriptors each.
    ///
    /// # Errors
    /// When descriptors are short, or a call fails; local ports may run out.
    pub fn hold_established(&self, count: u64) -> Result<Held> {
        socket::reserve_descriptors(count.saturating_mul(2))?;
        let pairs = self.pairs()?;
        let mut held = Held::default();
        held.listeners = self.listeners()?;
        self.client.run(|| {
            for pair in pairs.iter().cycle().take(count as usize) {
                held.client.push(pair.connect()?);
                let listener = &held.listeners[pair.index];
                let accepted = rustix::net::accept_with(listener, SocketFlags::CLOEXEC);
                held.server.push(accepted.context("accept at", pair.destination)?);
            }
            Ok(())
        })??;
        Ok(held)
    }

    /// Holds `count` connections to the first destination, on the ports that connect() would use up first, which this names
    /// itself (Linux 6.3; before that connect() searches). Nobody listens when it returns.
    ///
    /// # Errors
    /// As [`Path::hold_established`], and [`Error::Refused`] when there are not so many ports.
    pub(crate) fn hold_on_ports(&self, range: PortRange, count: u64) -> Result<Parked> {
        let ports = ports_in_order(range);
        if ports.len() < count as usize {
            return Err(Error::Refused(format!("{count} connections do not fit the ports {range}")));
        }
        let pair = self.pairs()?[0];
        let listeners = self.listeners()?;
        let mut held = Parked::default();
        self.client.run(|| {
            for port in &ports[..count as usize] {
                let connect = || {
                    let near = pair.socket(SocketFlags::empty())?;
                    match socket::set_only_port(&near, *port) {
                        Err(error) if error.raw_os_error() == Some(Errno::NOPROTOOPT.raw_os_error()) => {}
                        other => other?,
                    }
                    rustix::net::connect(&near, &pair.destination)?;
                    let far = rustix::net::accept_with(&listeners[pair.index], SocketFlags::CLOEXEC)?;
                    Ok::<_, std::io::Error>((near, far))
                };
                let (near, far) = connect().context("connect to", pair.destination)?;
                held.take(near)?;
                held.take(far)?;
            }
            Ok(())
        })??;
        Ok(held)
    }

    /// Leaves `count` sockets in CLOSE_WAIT on the `leaking` side: the other has closed, this one never does.
    ///
    /// The side that closed goes through FIN_WAIT2, which the kernel ends after tcp_fin_timeout.
    ///
    /// # Errors
    /// As [`Path::hold_established`].
    pub fn leak_close_wait(&self, leaking: Side, count: u64) -> Result<Held> {
        let mut held = self.hold_established(count)?;
        held.close(match leaking {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        });
        Ok(held)
    }

    /// Leaves `count` sockets in FIN_WAIT2 on the client's side that no process holds; they last
    /// tcp_fin_timeout.
    ///
    /// # Errors
    /// As [`Path::hold_established`].
    pub fn orphan_fin_wait2(&self, count: u64) -> Result<Held> {
        self.leak_close_wait(Side::Server, count)
    }

    /// Keeps `count` sockets in FIN_WAIT2 on the client's side that their process still holds after
    /// shutdown(): no timer ever ends those.
    ///
    /// # Errors
    /// As [`Path::hold_established`].
    pub fn hold_fin_wait2(&self, count: u64) -> Result<Held> {
        let held = self.hold_established(count)?;
        for socket in &held.client {
            rustix::net::shutdown(socket, Shutdown::Write).context("shut down", "a connection")?;
        }
        Ok(held)
    }

    /// Begins `count` connections without waiting for an answer.
    ///
    /// They stay in SYN_SENT where nobody answers: at an address made silent by [`crate::Host::blackhole`],
    /// or at a server whose accept queue is full already (fill it by a call of its own: in one burst the
    /// server may answer more SYNs than it has room for).
    ///
    /// # Errors
    /// When descriptors are short, or a connect fails at once.
    pub fn syn_sent(&self, count: u64) -> Result<Held> {
        socket::reserve_descriptors(count)?;
        let pairs = self.pairs()?;
        let mut held = Held::default();
        self.client.run(|| {
            for pair in pairs.iter().cycle().take(count as usize) {
                let socket =
                    pair.socket(SocketFlags::NONBLOCK).context("open a socket to", pair.destination)?;
                match rustix::net::connect(&socket, &pair.destination) {
                    Ok(()) | Err(Errno::INPROGRESS) => held.client.push(socket),
                    Err(error) => return Err(error).context("connect to", pair.destination),
                }
            }
            Ok(())
        })??;
        Ok(held)
    }
}

impl NetNs {
    /// Binds `count` sockets to ports of the kernel's choice at `address` and does nothing more with them.
    ///
    /// # Errors
    /// When descriptors are short or the ports run out.
    pub fn bound_inactive(&self, address: IpAddr, count: u64) -> Result<Held> {
        socket::reserve_descriptors(count)?;
        let mut held = Held::default();
        self.run(|| {
            for _ in 0..count {
                let socket =
                    socket::tcp(address, SocketFlags::empty()).context("open a socket for", address)?;
                rustix::net::bind(&socket, &SocketAddr::new(address, 0)).context("bind", address)?;
                held.client.push(socket);
            }
            Ok::<_, Error>(())
        })??;
        Ok(held)
    }

    /// Listens at each of `addresses` and never accepts.
    ///
    /// # Errors
    /// When descriptors are short or an address is in use.
    pub fn listen(&self, addresses: &[SocketAddr]) -> Result<Held> {
        socket::reserve_descriptors(addresses.len() as u64)?;
        let mut held = Held::default();
        self.run(|| {
            for &address in addresses {
                held.listeners.push(socket::listen(address, 128, false).context("listen at", address)?);
            }
            Ok::<_, Error>(())
        })??;
        Ok(held)
    }
}
