//! Connections that stay open though no process has a descriptor of them: on their way through a socket (unix(7), SCM_RIGHTS).
//!
//! A table of the whole range holds 28,000 connections and both their ends, and few machines allow a process as many
//! descriptors; what is under way does not count as open.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, IoSlice};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use rustix::process::{Resource, getrlimit};

use crate::error::{Context, Error, Result};
use crate::socket;

/// The most that go in one message (SCM_MAX_FD is 253, include/net/scm.h).
const AT_ONCE: usize = 250;

/// Sockets under way. Dropping resets them, so that no state of theirs stays behind.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    /// Both ends of each way; nobody reads.
    ways: Vec<(OwnedFd, OwnedFd)>,
    /// Not yet sent.
    hand: Vec<OwnedFd>,
    sent: u64,
}

impl Parked {
    /// Takes one more.
    ///
    /// # Errors
    /// [`Error::Descriptors`] where this process may not have as many under way: without CAP_SYS_ADMIN or CAP_SYS_RESOURCE
    /// the limit of descriptors holds for these as well.
    pub(crate) fn take(&mut self, socket: OwnedFd) -> Result<()> {
        socket::abort_on_close(&socket);
        self.hand.push(socket);
        if self.hand.len() < AT_ONCE { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<()> {
        // A way is full when its buffer is; a new one has room.
        let sent = match self.ways.last() {
            Some((way, _)) => self.send_on(way),
            None => Err(Errno::AGAIN),
        };
        let sent = if sent == Err(Errno::AGAIN) {
            let way = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                .context("make", "a socket pair")?;
            let sent = self.send_on(&way.0);
            self.ways.push(way);
            sent
        } else {
            sent
        };
        match sent {
            Ok(()) => {
                self.sent += self.hand.len() as u64;
                self.hand.clear();
                Ok(())
            }
            Err(Errno::TOOMANYREFS) => Err(Error::Descriptors {
                needed: self.sent + self.hand.len() as u64,
                allowed: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            }),
            Err(error) => Err(error).context("pass on", "descriptors"),
        }
    }

    fn send_on(&self, way: &OwnedFd) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = self.hand.iter().map(AsFd::as_fd).collect();
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(way, &[IoSlice::new(b".")], &mut ancillary, SendFlags::DONTWAIT).map(drop)
    }
}
