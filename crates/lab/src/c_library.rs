//! Sockets by way of the C library, as most programs make them, so that a library loaded before it comes between. The rest of the
//! lab makes its system calls by itself.
#![expect(unsafe_code, reason = "the functions of the C library are what is meant")]

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::net::SocketAddrAny;
use rustix::net::addr::SocketAddrStorage;

/// bind(2).
///
/// # Errors
/// What the C library leaves in errno.
pub fn bind(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let address = SocketAddrAny::from(address);
    // SAFETY: the pointer and the length are those of `address`, which outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.addr_len()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// getsockname(2), of an Internet socket.
///
/// # Errors
/// What the C library leaves in errno.
pub fn local(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut storage = MaybeUninit::<SocketAddrStorage>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of_val(&storage)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, the size of `storage`.
    let result =
        unsafe { libc::getsockname(socket.as_raw_fd(), storage.as_mut_ptr().cast(), &raw mut length) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written an address of this length.
    let address = unsafe { SocketAddrAny::read(storage.as_ptr(), length) };
    SocketAddr::try_from(address).map_err(io::Error::from)
}
