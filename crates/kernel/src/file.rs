//! A file of a directory, replaced in one piece: whoever reads it, during the change or after a loss of power, has the old text or the
//! new one.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fsync, openat, renameat, unlinkat};
use rustix::io::retry_on_intr;

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making the draft.
    Create,
    /// Writing it.
    Write,
    /// Letting everybody read it.
    SetMode,
    /// Having it on the disk.
    Sync,
    /// Putting it in the file's place.
    Replace,
    /// Having that on the disk: the new text is there by then.
    SyncDirectory,
}

impl Step {
    /// What cannot be done where it fails: `write`.
    pub fn words(self) -> &'static str {
        match self {
            Step::Create => "create",
            Step::Write => "write",
            Step::SetMode => "set the mode of",
            Step::Sync => "sync",
            Step::Replace => "replace",
            Step::SyncDirectory => "sync the directory of",
        }
    }
}

/// Why a file was not replaced.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} the file: {source}", step.words())]
pub struct Unreplaced {
    /// What was being done.
    pub step: Step,
    /// What the system said.
    pub source: io::Error,
}

/// Puts `text` in the place of the file `name`, which everybody may read then. `draft` is a name in the same directory that nobody else
/// uses: what was written goes by it until it is whole.
///
/// # Errors
/// The old file is as it was, but where [`Step::SyncDirectory`] failed.
pub fn replace(directory: impl AsFd, name: &str, draft: &str, text: &[u8]) -> Result<(), Unreplaced> {
    let directory = directory.as_fd();
    let failed = |step| move |source: io::Error| Unreplaced { step, source };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(directory, draft, flags, Mode::from_raw_mode(0o600))
        .map_err(|errno| failed(Step::Create)(errno.into()))?;
    let mut draft = Draft { directory, name: draft, file: File::from(fd), renamed: false };
    draft.file.write_all(text).map_err(failed(Step::Write))?;
    // Whatever the umask.
    fchmod(&draft.file, Mode::from_raw_mode(0o644)).map_err(|errno| failed(Step::SetMode)(errno.into()))?;
    retry_on_intr(|| fsync(&draft.file)).map_err(|errno| failed(Step::Sync)(errno.into()))?;
    renameat(directory, draft.name, directory, name).map_err(|errno| failed(Step::Replace)(errno.into()))?;
    draft.renamed = true;
    retry_on_intr(|| fsync(directory)).map_err(|errno| failed(Step::SyncDirectory)(errno.into()))
}

/// Removed unless it took the file's place.
struct Draft<'a> {
    directory: BorrowedFd<'a>,
    name: &'a str,
    file: File,
    renamed: bool,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // Whoever tries again removes it too.
            let _ = unlinkat(self.directory, self.name, AtFlags::empty());
        }
    }
}
