//! Sockets of a dump, kept, and the order to destroy one. Dumps go through the reader that every command uses.

use std::io;

use tidewait_model::{AddressFilter, Endpoint, State};
use zerocopy::IntoBytes;

use super::Failure;
use super::netlink::{self, Netlink};
use crate::sock_diag::{self, DumpError, Family, Handle, Request, Sockets, Timer};

/// One socket of a dump.
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
    handle: Handle,
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
                handle: row.handle(),
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

/// Destroys this very socket: the cookie keeps the order from hitting a successor.
pub(super) fn destroy(socket: &Socket) -> io::Result<()> {
    Netlink::open(netlink::SOCK_DIAG)?.send(socket.handle.destroy(1, true).as_bytes())
}
