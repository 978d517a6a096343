//! A TUN device: packets that a namespace sends there come out of a descriptor, and what is written to that arrives.
#![expect(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};

use crate::error::{Context, Error, Result};
use crate::netlink::Route;

const PATH: &str = "/dev/net/tun";

/// Packets that may wait for the forwarder; 500 by default, of which a burst of handshakes would lose some.
const QUEUE: u32 = 20_000;

/// Makes a TUN device in the namespace of the calling thread and brings it up. It goes when the descriptor is closed.
///
/// # Errors
/// [`Error::Unavailable`] where the kernel has no TUN, or it cannot be reached from here.
pub(super) fn make(device: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tun = open(PATH, flags, Mode::empty()).map_err(|error| {
        Error::Unavailable(format!(
            "a wire in user space needs {PATH}: {}; load the module tun, or run as root",
            io::Error::from(error)
        ))
    })?;
    attach(&tun, device).context("make the TUN device", device)?;
    let route = Route::open()?;
    route.lengthen_queue(device, QUEUE)?;
    route.bring_up(device)?;
    Ok(tun)
}

fn attach(tun: &OwnedFd, device: &str) -> io::Result<()> {
    // Bare IP packets, each whole and with its checksums: no offload has been asked for.
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags as libc::c_short },
    };
    // The last byte stays 0.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(device.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    // SAFETY: the request is an ifreq, which outlives the call.
    let answer = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
