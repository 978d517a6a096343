//! Doing work inside a network namespace.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use rustix::fs::{CWD, readlinkat_raw};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};

use super::{Kind, Place, PlaceError, Scope, find};
use crate::procfs::link_inode;

impl Place {
    /// Does `work` inside the namespace: sockets it makes, /proc/sys/net and /proc/thread-self/net belong to it.
    ///
    /// If the calling thread is in the namespace already, it does the work itself, and no privilege is needed.
    /// Otherwise a thread is made for it that ends in the namespace, so that nothing can fail on the way back;
    /// that takes CAP_SYS_ADMIN. The namespace's file is open only until the thread is inside.
    ///
    /// # Errors
    /// [`PlaceError::Vanished`] if the namespace has ended since it was found, [`PlaceError::NotPermitted`], or
    /// [`PlaceError::Failed`]. `work` has not begun then. A panic in `work` goes on in the caller.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, PlaceError> {
        let here = self.inode == 0 || current().map_or(self.own, |inode| inode == self.inode);
        if here {
            return Ok(work());
        }
        thread::scope(|scope| {
            let inside = || {
                self.move_in()?;
                Ok(work())
            };
            match thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, inside) {
                Ok(handle) => handle.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(error) => {
                    let source = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
                    Err(PlaceError::Failed { name: self.name.clone(), action: "make a thread for", source })
                }
            }
        })
    }

    /// Whether somebody else than this process keeps the namespace: a name, or a process that lives in it. Whoever works inside
    /// keeps it from ending, so that nothing else would tell.
    pub fn is_kept(&self) -> bool {
        if self.own || std::fs::metadata(&self.file).is_ok_and(|file| file.ino() == self.inode) {
            return true;
        }
        let found = find(Path::new("/"), &Scope::One(format!("net:[{}]", self.inode)));
        found.is_ok_and(|found| {
            found.places.iter().any(|place| {
                matches!(place.kind, Kind::Host | Kind::Named)
                    || place.leader.is_some_and(|leader| leader != std::process::id())
            })
        })
    }

    /// Moves the calling thread into the namespace.
    fn move_in(&self) -> Result<(), PlaceError> {
        let trouble = |action: &'static str, error: Errno| match error {
            Errno::NOENT | Errno::SRCH => PlaceError::Vanished { name: self.name.clone() },
            Errno::PERM => PlaceError::denied(&self.name, CapabilitySet::SYS_ADMIN),
            Errno::ACCESS => {
                PlaceError::denied(&self.name, CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE)
            }
            Errno::INVAL => PlaceError::NotANamespace {
                name: self.name.clone(),
                why: "its file is that of another kind of namespace".to_owned(),
            },
            source => PlaceError::Failed { name: self.name.clone(), action, source },
        };
        let io = |action: &'static str| {
            move |error: std::io::Error| trouble(action, Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        let file = std::fs::File::open(&self.file).map_err(io("open"))?;
        // The name or the process number may by now belong to another namespace.
        if file.metadata().map_err(io("look at"))?.ino() != self.inode {
            return Err(PlaceError::Vanished { name: self.name.clone() });
        }
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| trouble("enter", error))
    }
}

/// The inode of the calling thread's network namespace; none where /proc is not mounted.
fn current() -> Option<u64> {
    let mut buffer = [0; 64];
    let length = readlinkat_raw(CWD, "/proc/thread-self/ns/net", &mut buffer[..]).ok()?;
    link_inode(buffer.get(..length)?, "net")
}
