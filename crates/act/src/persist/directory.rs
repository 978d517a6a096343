//! /etc/sysctl.d below a root: found without leaving the root, locked, and one file in it replaced in one piece.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags, flock, fstat, mkdirat, open,
    openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;
use tidewait_kernel::file::{self, Step, Unreplaced};

use super::PersistError;

/// Where the file is, below the root.
const WHERE: [&str; 2] = ["etc", "sysctl.d"];
/// The file's name.
const NAME: &str = "80-tidewait.conf";
/// How the name of a temporary file begins.
const TEMPORARY: &str = ".80-tidewait.conf.";
/// A file as long as this is not tidewait's.
const LONGEST: u64 = 1 << 20;
/// How often the lock is tried for, and the pause between.
const TRIES: (u32, Duration) = (40, Duration::from_millis(50));

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How paths are resolved below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    /// By openat2, links within the root.
    InRoot,
    /// Step by step, links refused; for kernels and containers without openat2.
    NoLinks,
    /// As the kernel does by itself: for the root `/`.
    Plain,
}

/// The directory, open.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// The directory below `root`, made if it is not there, and whether it was made.
    pub(super) fn open_or_make(root: &Path) -> Result<(Directory, bool), PersistError> {
        if let Some(directory) = Directory::open(root)? {
            return Ok((directory, false));
        }
        let (etc, resolver) = open_below(root, &WHERE[..1])?;
        let path = root.join(WHERE[0]).join(WHERE[1]);
        let Some(etc) = etc else {
            return Err(PersistError::NoDirectory { path: root.join(WHERE[0]), root: root.to_owned() });
        };
        let failed = |operation| failed(operation, &path);
        let made = match mkdirat(&etc, WHERE[1], Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            // Somebody else made it just now; or it is a link to nothing, and what it leads to is not ours to make.
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed("make")(error)),
        };
        let (fd, _) = open_with(root, &WHERE, resolver)?;
        let Some(fd) = fd else {
            return Err(PersistError::NoDirectory { path, root: root.to_owned() });
        };
        if made {
            // Whatever the umask.
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(failed("set the mode of"))?;
            rustix::fs::fsync(&etc).map_err(failed("sync the directory above"))?;
        }
        Ok((Directory { fd, path }, made))
    }

    /// The directory below `root`, if it is there.
    pub(super) fn open(root: &Path) -> Result<Option<Directory>, PersistError> {
        let path = root.join(WHERE[0]).join(WHERE[1]);
        Ok(open_below(root, &WHERE)?.0.map(|fd| Directory { fd, path }))
    }

    /// The file's path, with the root before it.
    pub(super) fn file(&self) -> PathBuf {
        self.path.join(NAME)
    }

    /// Keeps other runs out until the lock is dropped.
    pub(super) fn lock(&self) -> Result<Lock<'_>, PersistError> {
        for _ in 0..TRIES.0 {
            match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => std::thread::sleep(TRIES.1),
                Err(Errno::INTR) => {}
                // A file system without locks: two runs at once may lose what one of them wrote, and no more.
                Ok(()) | Err(_) => return Ok(Lock(self)),
            }
        }
        Err(PersistError::Busy { path: self.path.clone() })
    }

    /// Removes temporary files that a run which was killed has left. Only under the lock.
    pub(super) fn sweep(&self) -> Result<(), PersistError> {
        let entries = Dir::read_from(&self.fd).map_err(failed("read", &self.path))?;
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.path))?;
            let name = entry.file_name();
            let ours = name.to_bytes().starts_with(TEMPORARY.as_bytes());
            if ours
                && statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
            {
                let path = self.path.join(name.to_string_lossy().as_ref());
                unlinkat(&self.fd, name, AtFlags::empty()).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// The text of the file; `None` where there is none.
    pub(super) fn read(&self) -> Result<Option<String>, PersistError> {
        let path = self.file();
        if !self.is_file()? {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.fd, NAME, flags, Mode::empty()).map_err(failed("open", &path))?;
        let mut bytes = Vec::new();
        File::from(fd).take(LONGEST).read_to_end(&mut bytes).map_err(|source| PersistError::Io {
            operation: "read",
            path,
            source,
        })?;
        // What is not UTF-8 was not written here, and the replacement shows as an edit.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Whether the file is there; what has its name and is no file is an error.
    fn is_file(&self) -> Result<bool, PersistError> {
        let path = self.file();
        match statat(&self.fd, NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(failed("look at", &path)(error)),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(true),
                FileType::Symlink => Err(PersistError::NotAFile { path, kind: "a symbolic link" }),
                FileType::Directory => Err(PersistError::NotAFile { path, kind: "a directory" }),
                _ => Err(PersistError::NotAFile { path, kind: "a device, a pipe or a socket" }),
            },
        }
    }

    /// Puts `text` in the file's place. Until that is done the old file is as it was.
    pub(super) fn replace(&self, text: &[u8]) -> Result<(), PersistError> {
        let draft = format!("{TEMPORARY}{}", std::process::id());
        file::replace(&self.fd, NAME, &draft, text).map_err(|Unreplaced { step, source }| match step {
            Step::SyncDirectory => PersistError::NotSynced { path: self.file(), source },
            Step::Replace => PersistError::Io { operation: step.words(), path: self.file(), source },
            _ => PersistError::Io { operation: step.words(), path: self.path.join(&draft), source },
        })
    }

    /// Removes the file.
    pub(super) fn remove(&self) -> Result<(), PersistError> {
        if self.is_file()? {
            unlinkat(&self.fd, NAME, AtFlags::empty()).map_err(failed("remove", &self.file()))?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), PersistError> {
        rustix::fs::fsync(&self.fd)
            .map_err(|error| PersistError::NotSynced { path: self.file(), source: error.into() })
    }
}

/// Keeps other runs out of the directory.
pub(super) struct Lock<'a>(&'a Directory);

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // The lock would end with the descriptor too.
        let _ = flock(&self.0.fd, FlockOperation::Unlock);
    }
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(Errno) -> PersistError {
    let path = path.to_owned();
    move |error| PersistError::Io { operation, path: path.clone(), source: error.into() }
}

/// Opens a directory below `root` by the best resolver there is; `None` where it is not there.
fn open_below(root: &Path, parts: &[&str]) -> Result<(Option<OwnedFd>, Resolver), PersistError> {
    match open_with(root, parts, Resolver::InRoot) {
        Err(PersistError::Io { source, .. }) if is_unsupported(&source) => {
            let resolver = if is_system_root(root) { Resolver::Plain } else { Resolver::NoLinks };
            open_with(root, parts, resolver)
        }
        result => result,
    }
}

/// Whether openat2 is not there: an old kernel, or a container's filter that does not know it.
fn is_unsupported(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSYS | Errno::PERM))
}

/// Whether `root` is the root of the system that this process runs in.
fn is_system_root(root: &Path) -> bool {
    let identity = |path: &Path| {
        let fd = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
    };
    identity(root).is_some_and(|root| Some(root) == identity(Path::new("/")))
}

pub(super) fn open_with(
    root: &Path,
    parts: &[&str],
    resolver: Resolver,
) -> Result<(Option<OwnedFd>, Resolver), PersistError> {
    let fd = openat(CWD, root, DIRECTORY, Mode::empty()).map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR => {
            PersistError::NoDirectory { path: root.to_owned(), root: root.to_owned() }
        }
        error => failed("open", root)(error),
    })?;
    let path = parts.iter().fold(root.to_owned(), |path, part| path.join(part));
    let opened = match resolver {
        Resolver::InRoot => in_root(&fd, &parts.join("/")),
        Resolver::Plain => openat(&fd, parts.join("/"), DIRECTORY, Mode::empty()),
        Resolver::NoLinks => parts
            .iter()
            .try_fold(fd, |fd, part| openat(&fd, *part, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())),
    };
    match opened {
        Ok(fd) => Ok((Some(fd), resolver)),
        Err(Errno::NOENT) => Ok((None, resolver)),
        // With O_DIRECTORY a link that is not followed is reported as no directory.
        Err(Errno::LOOP | Errno::NOTDIR) if resolver == Resolver::NoLinks && has_link(root, parts) => {
            Err(PersistError::LinkInImage { path })
        }
        Err(Errno::NOTDIR | Errno::LOOP) => Err(PersistError::NoDirectory { path, root: root.to_owned() }),
        Err(error) => Err(failed("open", &path)(error)),
    }
}

/// openat2 below a root. It gives up with EAGAIN where something is renamed meanwhile (openat2(2)).
fn in_root(fd: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..16 {
        match openat2(fd, path, DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Whether one of the steps is a link: for the words of an error only.
fn has_link(root: &Path, parts: &[&str]) -> bool {
    let mut path = root.to_owned();
    parts.iter().any(|part| {
        path.push(part);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.is_symlink(),
            Err(error) => error.kind() == ErrorKind::PermissionDenied,
        }
    })
}
