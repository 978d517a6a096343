//! Whether anybody has a file open or mapped: no process of any user has to be looked at for it.
#![expect(unsafe_code, reason = "fcntl(2) for a lease, which rustix does not know")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Whether anybody but `file` itself has the file open or mapped.
///
/// The kernel grants a lease for writing only on a file that nobody else has open, and what is mapped is open
/// (fs/locks.c `check_conflicting_open`). It is given back at once. Whoever opens the file in between waits for that, and
/// this process gets SIGIO: it has to be ignored or caught.
///
/// # Errors
/// Where the file belongs to somebody else (EACCES), or its file system has no leases (EINVAL).
pub fn is_in_use(file: BorrowedFd<'_>) -> io::Result<bool> {
    match lease(file, libc::F_WRLCK) {
        Ok(()) => lease(file, libc::F_UNLCK).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn lease(file: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes two numbers and no memory.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn who_else_has_it_open_is_seen() -> io::Result<()> {
        let place = tempfile::tempdir()?;
        let path = place.path().join("file");
        std::fs::write(&path, "text")?;
        let file = File::open(&path)?;
        assert!(!is_in_use(file.as_fd())?);
        let other = File::open(&path)?;
        assert!(is_in_use(file.as_fd())?);
        drop(other);
        assert!(!is_in_use(file.as_fd())?);
        Ok(())
    }
}
