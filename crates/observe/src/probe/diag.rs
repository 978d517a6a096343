//! Sockets of a dump, kept, and the order to destroy one. Dumps go through the reader that every command uses.

use std::io;

use tidewait_model::{AddressFilter, Endpoint, State};

use super::Failure;
use super::netlink::{self, Netlink};
use crate::sock_diag::{self, DumpError, Family, Request, Sockets, Timer};

const SOCK_DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;

/// One IPv4 socket of a dump.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) local: Endpoint,
    pub(super) remote: Endpoint,
    /// The kernel's number for the socket, unique while the machine is up.
    pub(super) cookie: u64,
    pub(super) cgroup_id: Option<u64>,
    /// Whether the kernel tells its options.
    pub(super) options: bool,
    /// Whether it is one of the small sockets that only wait for their end.
    pub(super) small: bool,
    interface: u32,
}

impl Socket {
    /// The local and the remote port.
    pub(super) fn ports(&self) -> (u16, u16) {
        (self.local.port, self.remote.port)
    }
}

/// Every TCP socket of the family in one of the states, in this network namespace; only those of a peer, if given.
pub(super) fn dump(
    family: Family,
    states: &[State],
    to: Option<AddressFilter>,
) -> Result<Vec<Socket>, Failure> {
    let mut found = Vec::new();
    let request = Request::all(family).states(states.iter().copied()).to(to);
    let outcome = sock_diag::Netlink::open().and_then(|mut reader| {
        reader.dump(&request, &mut |row| {
            found.push(Socket {
                local: row.local(),
                remote: row.remote(),
                cookie: row.cookie(),
                cgroup_id: row.cgroup_id(),
                options: row.options().is_some(),
                small: matches!(row.timer(), Timer::TimeWait(_)),
                interface: row.interface(),
            });
        })
    });
    match outcome {
        Ok(_) => Ok(found),
        Err(error @ DumpError::Unsupported(_)) => Err(Failure::Unsupported(error.to_string())),
        Err(error @ DumpError::NotPermitted(_)) => Err(Failure::NotPermitted(error.to_string())),
        Err(error) => Err(Failure::Unknown(error.to_string())),
    }
}

/// Destroys this very IPv4 socket: the cookie keeps the order from hitting a successor.
pub(super) fn destroy(socket: &Socket) -> io::Result<()> {
    // struct inet_diag_req_v2: family, protocol, extensions, padding; states; struct inet_diag_sockid.
    let mut message = vec![AF_INET, IPPROTO_TCP, 0, 0];
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(socket.local.port.to_be_bytes());
    message.extend(socket.remote.port.to_be_bytes());
    for endpoint in [socket.local, socket.remote] {
        match endpoint.address.ip {
            std::net::IpAddr::V4(ip) => message.extend(ip.octets()),
            std::net::IpAddr::V6(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
        message.extend([0; 12]);
    }
    message.extend(socket.interface.to_ne_bytes());
    // The cookie's low half comes first, whatever the byte order.
    let [low, high] = [socket.cookie & u64::from(u32::MAX), socket.cookie >> 32];
    for half in [low, high] {
        message.extend(u32::try_from(half).map_err(io::Error::other)?.to_ne_bytes());
    }
    Netlink::open(netlink::SOCK_DIAG)?.order(SOCK_DESTROY, 0, &message)
}
