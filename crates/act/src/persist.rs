//! The file that keeps settings over a boot, /etc/sysctl.d/80-tidewait.conf: written, changed and removed in one piece.
//!
//! The file holds a block for each plan that it was written for, and a checksum, so that an edit by hand is noticed and
//! not lost. It is replaced as a whole: a temporary file beside it is written, synced and renamed, and the directory is
//! synced; until the renaming the old file is as it was. The temporary file is called `.80-tidewait.conf.` and a number: no
//! reader of sysctl files takes a name that does not end in `.conf` (systemd 252, procps 4.0.2, busybox 1.35 seen).
//!
//! The root may be `/` or that of an image. An image is not trusted to keep its links within itself: they are resolved
//! below its root (openat2(2), `RESOLVE_IN_ROOT`), so that nothing outside is read or written.

mod directory;
mod file;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tidewait_model::catalogue::{Refusal, setting};

use directory::Directory;
pub use file::PersistedFile;
use file::render;

pub use tidewait_model::persist::FILE;

/// What one plan keeps: a block of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The plan's id: up to 128 printable ASCII characters, no spaces.
    pub plan: String,
    /// When it was kept, RFC 3339.
    pub at: String,
    /// Names, dots between the parts, and values, in the order in which they are applied.
    pub settings: Vec<(String, String)>,
}

/// What to do about a file of tidewait's that was edited by hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edited {
    /// Leave it alone.
    #[default]
    Refuse,
    /// Take what can be understood of it; the rest is dropped, and told in [`Written::dropped`].
    Take,
}

/// What is no longer to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// Everything.
    All,
    /// The block of this plan.
    Plan(&'a str),
    /// These settings, whichever plan they are of.
    Settings(&'a [&'a str]),
}

/// What [`persist`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file, with the root before it.
    pub path: PathBuf,
    /// Settings that an older block kept, with its plan and its value: they are kept by the new one now.
    pub replaced: Vec<(String, Kept)>,
    /// Lines of an edited file that were not taken over.
    pub dropped: Vec<String>,
    /// Whether /etc/sysctl.d had to be made.
    pub directory_made: bool,
}

/// What [`unpersist`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The file, with the root before it.
    pub path: PathBuf,
    /// What is kept no longer, block by block; empty where nothing of what was asked for was kept.
    pub removed: Vec<Kept>,
    /// Lines of an edited file that were not taken over.
    pub dropped: Vec<String>,
    /// Whether the file is gone.
    pub file_removed: bool,
}

/// Why the file was not written, removed or read. Where nothing else is said, the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}; the settings kept for the next boot are as they were{}", .path.display(), remedy(.source))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// How it failed.
        source: std::io::Error,
    },
    /// The file is replaced or removed, but whether that is on the disk is not known.
    #[error("{} is written or removed as asked, but syncing its directory failed: {source}; after a loss of power the old file may be \
        back: try again", .path.display())]
    NotSynced {
        /// The file.
        path: PathBuf,
        /// How syncing failed.
        source: std::io::Error,
    },
    /// The file was edited by hand.
    #[error(
        "{} was edited by hand: its checksum does not fit. Move what was added into another file of that directory and delete this \
         one, or take it over with --force, which keeps the lines that tidewait could have written", .path.display()
    )]
    Edited {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else's file has the name.
    #[error("{} was not written by tidewait, which leaves it alone: rename it (the name must still end in .conf) and try again", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// No file: a link, a directory, a device.
    #[error("{} is {kind} and no file; tidewait leaves it alone: remove it and try again", .path.display())]
    NotAFile {
        /// What has the name.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The root has no /etc, or sysctl.d in it is no directory.
    #[error("{} is no directory: is {} the root of a system?", .path.display(), .root.display())]
    NoDirectory {
        /// What should be a directory.
        path: PathBuf,
        /// The root.
        root: PathBuf,
    },
    /// Links of an image cannot be resolved safely.
    #[error(
        "{} has a symbolic link in it, and this kernel or container does not offer openat2 (Linux 5.6), without which links of an \
         image may lead out of it: run it outside of the container, or in the image with chroot and without --root", .path.display()
    )]
    LinkInImage {
        /// The path below the root.
        path: PathBuf,
    },
    /// Somebody else holds the directory's lock.
    #[error("{} is locked by another process for more than two seconds: wait for the other tidewait to end (lslocks shows who it is)", .path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A plan's id that cannot stand in a comment.
    #[error("plan id {plan:?}: up to 128 printable ASCII characters without spaces are taken")]
    BadPlan {
        /// The id.
        plan: String,
    },
    /// A time that is none.
    #[error("time {at:?} of plan {plan}: it must be RFC 3339, as 2026-01-31T12:00:00Z: {source}")]
    BadTime {
        /// The plan.
        plan: String,
        /// The time.
        at: String,
        /// What is wrong with it.
        source: jiff::Error,
    },
    /// A setting that is not tidewait's business.
    #[error("{name} is no setting that tidewait knows: keep it in a file of your own in /etc/sysctl.d")]
    UnknownSetting {
        /// Its name.
        name: String,
    },
    /// A value that should not be kept.
    #[error("cannot keep {0}")]
    BadValue(#[from] Refusal),
    /// Nothing to keep.
    #[error("plan {plan} has no settings to keep")]
    Nothing {
        /// The plan.
        plan: String,
    },
}

/// What helps against an error, as the end of a sentence.
fn remedy(error: &std::io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => ". Free some space and try again",
        Some(Errno::ROFS) => {
            ". The file system is mounted read-only: remount it, or set this where the system is built"
        }
        Some(Errno::ACCESS | Errno::PERM) => ". Run it as root; lsattr shows whether the file is immutable",
        _ => "",
    }
}

/// Keeps settings: writes them into the file below `root`. A setting that an older block has moves to the new one, and a
/// block that has none left goes. A block of the same plan is extended.
///
/// # Errors
/// See [`PersistError`]. A directory /etc/sysctl.d that was made for the file may stay behind empty.
pub fn persist(root: &Path, kept: &Kept, edited: Edited) -> Result<Written, PersistError> {
    let mut kept = checked(kept)?;
    let (directory, made) = Directory::open_or_make(root)?;
    let _lock = directory.lock()?;
    directory.sweep()?;
    let Existing { mut blocks, dropped, .. } = existing(&directory, edited)?;
    let mut replaced = Vec::new();
    for block in &mut blocks {
        let old = take(block, |name| kept.settings.iter().any(|(new, _)| new == name));
        replaced.extend(
            old.settings.into_iter().map(|(name, value)| {
                (name.clone(), Kept { settings: vec![(name, value)], ..block_of(block) })
            }),
        );
    }
    if let Some(at) = blocks.iter().position(|block| block.plan == kept.plan) {
        let mut settings = blocks.remove(at).settings;
        settings.append(&mut kept.settings);
        kept.settings = settings;
    }
    blocks.push(kept);
    blocks.retain(|block| !block.settings.is_empty());
    directory.replace(render(&blocks).as_bytes())?;
    Ok(Written { path: directory.file(), replaced, dropped, directory_made: made })
}

/// Keeps settings no longer: takes them out of the file below `root`, and removes the file when it keeps nothing more.
/// What is in force now does not change.
///
/// # Errors
/// See [`PersistError`]. That there is nothing to remove is none.
pub fn unpersist(root: &Path, which: Which<'_>, edited: Edited) -> Result<Removed, PersistError> {
    let path = root.join(FILE.trim_start_matches('/'));
    let nothing = Removed { path, removed: Vec::new(), dropped: Vec::new(), file_removed: false };
    let Some(directory) = Directory::open(root)? else { return Ok(nothing) };
    let _lock = directory.lock()?;
    directory.sweep()?;
    let Existing { mut blocks, dropped, there } = existing(&directory, edited)?;
    let mut removed: Vec<Kept> = blocks
        .iter_mut()
        .map(|block| match which {
            Which::All => take(block, |_| true),
            Which::Plan(id) if block.plan == id => take(block, |_| true),
            Which::Plan(_) => block_of(block),
            Which::Settings(names) => take(block, |name| names.contains(&name)),
        })
        .collect();
    removed.retain(|block| !block.settings.is_empty());
    blocks.retain(|block| !block.settings.is_empty());
    let emptied = there && blocks.is_empty();
    if emptied {
        directory.remove()?;
    } else if !removed.is_empty() || !dropped.is_empty() {
        directory.replace(render(&blocks).as_bytes())?;
    }
    Ok(Removed { removed, dropped, file_removed: emptied, ..nothing })
}

/// What is kept below `root`; `None` where there is no file. An edited file is read as far as it can be understood.
///
/// # Errors
/// See [`PersistError`]: a file of somebody else's, or one that cannot be read.
pub fn read(root: &Path) -> Result<Option<PersistedFile>, PersistError> {
    let Some(directory) = Directory::open(root)? else { return Ok(None) };
    let Some(text) = directory.read()? else { return Ok(None) };
    PersistedFile::parse(&text).map(Some).ok_or(PersistError::Foreign { path: directory.file() })
}

/// What there is before a change.
struct Existing {
    blocks: Vec<Kept>,
    /// Lines that are not understood and go.
    dropped: Vec<String>,
    /// Whether there is a file.
    there: bool,
}

fn existing(directory: &Directory, edited: Edited) -> Result<Existing, PersistError> {
    let Some(text) = directory.read()? else {
        return Ok(Existing { blocks: Vec::new(), dropped: Vec::new(), there: false });
    };
    let path = directory.file();
    let mut file = PersistedFile::parse(&text).ok_or(PersistError::Foreign { path: path.clone() })?;
    if file.edited && edited == Edited::Refuse {
        return Err(PersistError::Edited { path });
    }
    if file.edited {
        // By hand a setting may have come in twice. The last one is what was in force.
        let mut seen = BTreeSet::new();
        for block in file.blocks.iter_mut().rev() {
            let mut settings: Vec<_> =
                block.settings.drain(..).rev().filter(|(name, _)| seen.insert(name.clone())).collect();
            settings.reverse();
            block.settings = settings;
        }
        file.blocks.retain(|block| !block.settings.is_empty());
    }
    Ok(Existing { blocks: file.blocks, dropped: file.not_understood, there: true })
}

/// A block with the same plan and no settings.
fn block_of(block: &Kept) -> Kept {
    Kept { plan: block.plan.clone(), at: block.at.clone(), settings: Vec::new() }
}

/// Takes the settings out of a block that `wanted` says yes to.
fn take(block: &mut Kept, wanted: impl Fn(&str) -> bool) -> Kept {
    let (taken, left) = std::mem::take(&mut block.settings).into_iter().partition(|(name, _)| wanted(name));
    block.settings = left;
    Kept { settings: taken, ..block_of(block) }
}

/// The block as it is written: values with one space between their parts, each setting once, with its last value.
fn checked(kept: &Kept) -> Result<Kept, PersistError> {
    let plan = kept.plan.clone();
    if !file::is_plan_id(&plan) {
        return Err(PersistError::BadPlan { plan });
    }
    if kept.settings.is_empty() {
        return Err(PersistError::Nothing { plan });
    }
    if let Err(source) = kept.at.parse::<jiff::Timestamp>() {
        return Err(PersistError::BadTime { plan, at: kept.at.clone(), source });
    }
    let mut settings = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, value) in kept.settings.iter().rev() {
        let Some(row) = setting(name) else {
            return Err(PersistError::UnknownSetting { name: name.clone() });
        };
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        row.check(&value)?;
        if seen.insert(row.name) {
            settings.push((name.clone(), value));
        }
    }
    settings.reverse();
    Ok(Kept { plan, at: kept.at.clone(), settings })
}

#[cfg(test)]
mod tests;
