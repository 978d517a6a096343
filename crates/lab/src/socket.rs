//! Sockets as the loads need them: options that the standard library lacks, and the descriptor limit.
#![expect(unsafe_code, reason = "two IP socket options have no safe wrapper")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidewait_model::PortRange;

use crate::error::{Context, Error, Result};

/// uapi/linux/in.h
const IP_BIND_ADDRESS_NO_PORT: libc::c_int = 24;
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// Descriptors kept for everything that is not load: namespaces, listeners, epoll, standard streams.
const SPARE_DESCRIPTORS: u64 = 128;

/// A TCP socket for the family of `address`, in the namespace of the calling thread.
pub(crate) fn tcp(address: IpAddr, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)?)
}

/// Listens on `address`; in the unspecified IPv6 address `dual_stack` lets IPv4 clients in as well.
pub(crate) fn listen(address: SocketAddr, backlog: i32, dual_stack: bool) -> io::Result<OwnedFd> {
    // Who connects to a v4-mapped address speaks IPv4, so that is what has to listen.
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let socket = tcp(address.ip(), SocketFlags::empty())?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !dual_stack)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Chooses the source address and leaves the port to connect() (Linux 4.2).
///
/// # Errors
/// When the kernel refuses the option or the address.
pub fn set_source(socket: &OwnedFd, source: IpAddr) -> io::Result<()> {
    set_option(socket, IP_BIND_ADDRESS_NO_PORT, 1)?;
    Ok(rustix::net::bind(socket, &SocketAddr::new(source, 0))?)
}

/// IP_BIND_ADDRESS_NO_PORT alone: a later bind() to port 0 keeps only the address.
///
/// # Errors
/// When the kernel refuses the option.
pub fn set_no_port(socket: &OwnedFd) -> io::Result<()> {
    set_option(socket, IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Leaves connect() a part of the range to choose from (Linux 6.3).
pub(crate) fn set_port_range(socket: &OwnedFd, range: PortRange) -> io::Result<()> {
    set_option(socket, IP_LOCAL_PORT_RANGE, (u32::from(range.high) << 16) | u32::from(range.low))
}

/// Leaves connect() one port to choose from (Linux 6.3). The port still counts as chosen by connect().
///
/// # Errors
/// When the kernel does not know the option.
pub fn set_only_port(socket: &OwnedFd, port: u16) -> io::Result<()> {
    set_port_range(socket, PortRange { low: port, high: port })
}

/// Both work on IPv6 sockets too: the kernel hands SOL_IP options of a stream socket to IPv4.
fn set_option(socket: &OwnedFd, option: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            (&raw const value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The longest that a blocking call on the socket waits; connect() obeys the one for sending.
pub(crate) fn set_patience(socket: &OwnedFd, id: sockopt::Timeout, patience: Duration) -> io::Result<()> {
    Ok(sockopt::set_socket_timeout(socket, id, Some(patience))?)
}

/// SO_KEEPALIVE, with the first probe after `idle` of silence.
pub(crate) fn keep_alive(socket: &OwnedFd, idle: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    Ok(sockopt::set_tcp_keepidle(socket, idle)?)
}

/// Makes the coming close a reset, which leaves no state behind on either side.
pub(crate) fn abort_on_close(socket: impl AsFd) {
    // On a socket that is gone already there is nothing to abort.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Reads and throws away until the peer has closed. The wait is that of the socket's receive timeout.
pub(crate) fn drain(socket: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0_u8; 4096];
    loop {
        match rustix::io::read(socket, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Allows this process and those that it starts `count` descriptors, or as many as the hard limit has.
pub(crate) fn allow_descriptors(count: u64) -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(count, |maximum| maximum.min(count)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).context("set", "the descriptor limit")
}

/// Makes sure that this process may open `more` descriptors, and raises its limit where it may.
pub(crate) fn reserve_descriptors(more: u64) -> Result<()> {
    let open = std::fs::read_dir("/proc/self/fd").context("read", "/proc/self/fd")?.count() as u64;
    let needed = more.saturating_add(open + SPARE_DESCRIPTORS);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // Going past the hard limit takes CAP_SYS_RESOURCE, and fs.nr_open ends it.
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .map_err(|_| Error::Descriptors { needed, allowed: limit.maximum.unwrap_or(u64::MAX) })
}
