//! Which namespace it was: told from those that had its number before, or will have it.
#![expect(unsafe_code, reason = "getsockopt(2) for an option that rustix does not know")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tidewait_model::tune::NamespaceId;

use super::{Place, PlaceError, Scope, find};

impl Place {
    /// What the namespace is known by for as long as the machine runs.
    ///
    /// # Errors
    /// As [`Place::enter`].
    pub fn identity(&self) -> Result<NamespaceId, PlaceError> {
        let cookie = self.enter(cookie)?;
        Ok(NamespaceId { name: self.name.clone(), inode: self.inode, cookie })
    }
}

/// Finds a namespace again; `None` if it has ended, or is out of sight.
///
/// # Errors
/// Where the one with its number cannot be entered to see whether it is the same.
pub fn find_again(root: &Path, wanted: &NamespaceId) -> Result<Option<Place>, PlaceError> {
    for place in find(root, &Scope::All)?.places {
        if place.inode == wanted.inode && place.identity()?.is(wanted) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// SO_NETNS_COOKIE (include/uapi/asm-generic/socket.h): what the calling thread's namespace, and no other while the machine
/// runs, is called. `None` before Linux 5.14, and where no socket can be made.
fn cookie() -> Option<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket: OwnedFd =
        socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    let mut cookie = 0_u64;
    let mut size = libc::socklen_t::try_from(size_of_val(&cookie)).ok()?;
    // SAFETY: the kernel writes at most `size` bytes, the size of `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    (result == 0).then_some(cookie)
}
