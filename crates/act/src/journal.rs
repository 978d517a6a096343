//! The journal: what was about to be changed, written and synced before it is; and what became of it.
//!
//! One line a record, as JSON whose first key is a checksum over the rest of the line, so that it can be read by people and by jq, and a
//! line that was torn by a crash or touched by hand is told. Lines are only ever added. Whoever adds one holds a lock.

mod record;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock, fsync};
use rustix::io::{Errno, retry_on_intr};
use tidewait_model::tune::Entry;

pub use record::Record;
use record::{Line, VERSION, read_line, write_line};

/// The file in the state directory.
const FILE: &str = "journal";

/// What whoever writes holds a lock on. The journal is for everybody to read, and a lock on it would be for everybody to take.
const LOCK: &str = "lock";

/// Room on the disk that is set aside before anything is changed, in bytes: for the records that say how it ended, and for
/// those of its undoing.
const RESERVE: u64 = 16 * 1024;

/// How long to sleep while another tidewait has the lock.
const NAP: Duration = Duration::from_millis(20);

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It could not be opened, read or written.
    #[error("the journal {path} cannot be {action}: {error}{}", remedy(error))]
    Io {
        /// The file or its directory.
        path: String,
        /// What was tried.
        action: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// Another tidewait holds it.
    #[error(
        "another tidewait is at work on {path}, for {seconds} s now: wait for it, or find it with `fuser -v {path}`"
    )]
    Busy {
        /// The file.
        path: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It was written by a later version.
    #[error(
        "the journal {path} was written by a newer tidewait (format {version}, this one knows {VERSION}): use that one, or \
         another --state directory; nothing was changed"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        version: u64,
    },
    /// Lines in it are not what was written.
    #[error(
        "the journal {path} is damaged in line {}: what is still in force can be seen with `tidewait tune status` and undone; move \
         the file away before anything new is applied",
        lines.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
    )]
    Damaged {
        /// The file.
        path: String,
        /// The lines, from 1 on.
        lines: Vec<u64>,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root, or choose a directory with --state",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, or choose another directory with --state"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; choose a directory that can be written with --state",
        _ => "",
    }
}

/// The journal of a state directory.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Held while the journal is open.
    _lock: File,
    /// Bytes up to which its lines are whole.
    whole: u64,
    /// Lines in it.
    lines: u64,
    /// The entries that its records add up to.
    entries: Vec<Entry>,
    /// Lines that are not what was written.
    damaged: Vec<u64>,
}

/// What can be told of a journal without its lock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The file.
    pub path: PathBuf,
    /// The entries, oldest first.
    pub entries: Vec<Entry>,
    /// Lines that are not what was written, from 1 on; a last line that was torn is none of them.
    pub damaged: Vec<u64>,
    /// Whether somebody is at work on it.
    pub busy: bool,
}

/// Reads the journal of a state directory; `None` where there is none.
///
/// # Errors
/// [`JournalError::Io`] and [`JournalError::Newer`].
pub fn read(directory: &Path) -> Result<Option<Reading>, JournalError> {
    read_from(directory, |_| Ok(false))
}

/// Reads it from where `seek` leaves it; that says whether it is in the middle of a line.
fn read_from(
    directory: &Path,
    seek: impl FnOnce(&mut File) -> io::Result<bool>,
) -> Result<Option<Reading>, JournalError> {
    let path = directory.join(FILE);
    let failed = |action, error| JournalError::Io { path: path.display().to_string(), action, error };
    // A pipe in its place is not waited for.
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed("read", error)),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(failed("read", io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    let busy = is_locked(directory);
    let within = seek(&mut file).map_err(|error| failed("read", error))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| failed("read", error))?;
    let begin = if within {
        bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1)
    } else {
        0
    };
    let Contents { entries, damaged, .. } = contents(&bytes[begin..], &path)?;
    Ok(Some(Reading { path, entries, damaged, busy }))
}

/// The entries that the last lines of a journal tell of, for whoever has no time to read all of it; and whether somebody is at
/// work on it.
///
/// # Errors
/// As [`read`].
pub fn recent(directory: &Path) -> Result<Option<Reading>, JournalError> {
    /// Some hundred records.
    const LAST: u64 = 64 * 1024;
    read_from(directory, |file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST)))?;
        Ok(length > LAST)
    })
}

/// Whether somebody is at work; whoever may not look is told that nobody is.
fn is_locked(directory: &Path) -> bool {
    let Ok(lock) = File::open(directory.join(LOCK)) else { return false };
    match retry_on_intr(|| flock(&lock, FlockOperation::NonBlockingLockShared)) {
        // Let go at once: a reader is to keep nobody from writing.
        Ok(()) => flock(&lock, FlockOperation::Unlock).is_err(),
        Err(error) => error == Errno::WOULDBLOCK,
    }
}

impl Journal {
    /// Opens the journal of a state directory, makes both if they are not there, and takes the lock, waiting for it at most for
    /// `patience`. A last line that a crash has torn is cut off: nothing was done after it.
    ///
    /// # Errors
    /// [`JournalError`], but for damage.
    pub fn open(directory: &Path, patience: Duration) -> Result<Journal, JournalError> {
        let path = directory.join(FILE);
        let failed =
            |action, error: io::Error| JournalError::Io { path: path.display().to_string(), action, error };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(|error| failed("made", error))?;
        let open = |name: &str, mode: u32| {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(mode)
                .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits().cast_signed())
                .open(directory.join(name))
                .map_err(|error| failed("opened", error))
        };
        let lock = open(LOCK, 0o600)?;
        let begin = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if begin.elapsed() < patience => thread::sleep(NAP),
                Err(Errno::WOULDBLOCK) => {
                    let path = directory.join(LOCK).display().to_string();
                    return Err(JournalError::Busy { path, seconds: patience.as_secs() });
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed("locked", error.into())),
            }
        }
        let file = open(FILE, 0o644)?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(failed("opened", io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
        }
        let mut journal =
            Journal { path, file, _lock: lock, whole: 0, lines: 0, entries: Vec::new(), damaged: Vec::new() };
        journal.load()?;
        if journal.lines == 0 {
            journal.append(&Record::Journal { version: VERSION })?;
            let parent = File::open(directory).map_err(|error| journal.failed("synced", error))?;
            retry_on_intr(|| fsync(&parent)).map_err(|error| journal.failed("synced", error.into()))?;
        }
        Ok(journal)
    }

    fn load(&mut self) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_end(&mut bytes))
            .map_err(|error| self.failed("read", error))?;
        let Contents { entries, damaged, lines, whole } = contents(&bytes, &self.path)?;
        if whole < bytes.len() as u64 {
            self.file.set_len(whole).map_err(|error| self.failed("mended", error))?;
        }
        (self.entries, self.damaged, self.lines, self.whole) = (entries, damaged, lines, whole);
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of this number.
    pub fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.number == number)
    }

    /// The number that the next entry gets.
    pub fn next(&self) -> u64 {
        self.entries.iter().map(|entry| entry.number).max().unwrap_or(0) + 1
    }

    /// Refuses where lines are damaged.
    ///
    /// # Errors
    /// [`JournalError::Damaged`].
    pub fn sound(&self) -> Result<(), JournalError> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        Err(JournalError::Damaged { path: self.path.display().to_string(), lines: self.damaged.clone() })
    }

    /// Sets room aside on the disk for the records that are still to come, where the file system can do that: a disk that
    /// fills up in the middle of a change shall not keep its end from being noted.
    ///
    /// # Errors
    /// [`JournalError::Io`] where there is no room.
    pub fn reserve(&self) -> Result<(), JournalError> {
        let reserve = || fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.whole, RESERVE);
        match retry_on_intr(reserve) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(self.failed("given room on the disk", error.into())),
        }
    }

    /// Adds a record; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`JournalError::Io`]; then nothing of it is in the journal.
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let line = write_line(self.lines + 1, record);
        let written =
            self.file.write_all(line.as_bytes()).and_then(|()| Ok(retry_on_intr(|| fsync(&self.file))?));
        if let Err(error) = written {
            // If this fails too, the next that opens it finds a line without its end, or one that is whole and says what
            // was to be.
            let _ = self.file.set_len(self.whole);
            return Err(self.failed("written", error));
        }
        self.whole += line.len() as u64;
        self.lines += 1;
        record.fold_into(&mut self.entries);
        Ok(())
    }

    fn failed(&self, action: &'static str, error: io::Error) -> JournalError {
        JournalError::Io { path: self.path.display().to_string(), action, error }
    }
}

/// What the bytes of a journal say.
struct Contents {
    entries: Vec<Entry>,
    damaged: Vec<u64>,
    lines: u64,
    whole: u64,
}

fn contents(bytes: &[u8], path: &Path) -> Result<Contents, JournalError> {
    let mut contents = Contents { entries: Vec::new(), damaged: Vec::new(), lines: 0, whole: 0 };
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        contents.lines += 1;
        match read_line(line) {
            Line::Record { number, record } => {
                if let Record::Journal { version } = record
                    && version > VERSION
                {
                    return Err(JournalError::Newer { path: path.display().to_string(), version });
                }
                // A number that is not its place: lines before it are missing, or were added.
                if number != contents.lines {
                    contents.damaged.push(contents.lines);
                }
                record.fold_into(&mut contents.entries);
            }
            // Whole, and of a kind that this version does not know: written by a later one that kept the format.
            Line::Unknown => {
                return Err(JournalError::Newer { path: path.display().to_string(), version: VERSION + 1 });
            }
            Line::Damaged => contents.damaged.push(contents.lines),
        }
        contents.whole = (bytes.len() - rest.len()) as u64;
    }
    Ok(contents)
}

/// Whether an entry that is not undone holds a setting.
pub(crate) fn holds(entry: &Entry, setting: &str) -> bool {
    entry.is_open() && entry.changes.iter().any(|was| was.setting == setting)
}

/// Whether an entry that is not undone holds a setting, or one without which the kernel may refuse its value.
pub(crate) fn binds(entry: &Entry, setting: &str) -> bool {
    entry.is_open() && entry.changes.iter().any(|was| bound_together(&was.setting, setting))
}

/// Whether the kernel may refuse a value of one setting because of the other's.
fn bound_together(one: &str, other: &str) -> bool {
    const BOUND: [&str; 2] = ["net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"];
    one == other || BOUND.contains(&one) && BOUND.contains(&other)
}

#[cfg(test)]
mod tests;
