//! The library that leaves ports to connect(): a file for as long as somebody has it loaded.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, test_kill_process};
use tidewait_observe::in_use::is_in_use;

/// The library as it was built; `None` where it was left out.
#[cfg(preload)]
const BUILT: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/no_port.so")));
#[cfg(not(preload))]
const BUILT: Option<&[u8]> = None;

/// How the files are called: so, and the number of the process that the library was written for.
const PREFIX: &str = "no-port-";
const SUFFIX: &str = ".so";

/// The file, open for as long as the value lives.
#[derive(Debug)]
pub struct Library {
    path: PathBuf,
    file: File,
}

impl Library {
    /// Writes the library where every program can load it that this user starts, also one that becomes another user.
    /// Removes those that earlier commands left: of whom nobody was there any more who could.
    pub fn write() -> Result<Library> {
        let built = BUILT.context(
            "this tidewait was built without the library of --no-port: there was no C compiler, or not for this processor",
        )?;
        // Whoever removes the last library removes the directory too, and may do so in between.
        let mut tries = 10;
        loop {
            match Library::write_once(built) {
                Err(error) if tries > 0 && is_not_found(&error) => tries -= 1,
                other => return other,
            }
        }
    }

    fn write_once(built: &[u8]) -> Result<Library> {
        let directory = directory()?;
        sweep(&directory);
        let path = unused(&directory, std::process::id());
        let cannot = || format!("cannot write {}", path.display());
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(cannot)?;
        let written = file
            .write_all(built)
            .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(0o444)))
            .with_context(cannot);
        match written.and_then(|()| Library::open(&path)) {
            Ok(library) => Ok(library),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// The file that is there already.
    pub fn open(path: &Path) -> Result<Library> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Library { path: path.to_owned(), file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether some process has it loaded, or is about to.
    pub fn is_loaded(&self) -> bool {
        // Where the kernel does not tell, it is not to be removed from under somebody.
        is_in_use(self.file.as_fd()).unwrap_or(true)
    }

    /// Removes the file, and its directory if that is empty then.
    pub fn remove(self) {
        // Somebody may have been before.
        let _ = std::fs::remove_file(&self.path);
        if let Some(directory) = self.path.parent() {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// A name that nobody has. One with the number of this process may be that of an earlier one, or of one in another process
/// namespace that shares the directory: that one is in use.
fn unused(directory: &Path, number: u32) -> PathBuf {
    let mut path = directory.join(format!("{PREFIX}{number}{SUFFIX}"));
    let mut next = 1;
    while Library::open(&path).is_ok_and(|library| library.is_loaded()) {
        path = directory.join(format!("{PREFIX}{number}-{next}{SUFFIX}"));
        next += 1;
    }
    // What is left of an earlier process is in the way of a new file.
    let _ = std::fs::remove_file(&path);
    path
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The directory for it. Only the own user may write there: what a program loads before all else must not be another's file, also
/// not when this one is gone and the name is still in somebody's environment. That rules /tmp and /dev/shm out.
fn directory() -> Result<PathBuf> {
    let mut refused = Vec::new();
    for directory in candidates() {
        match prepared(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) => refused.push(format!("{}: {}", directory.display(), crate::exit::words(&error))),
        }
    }
    let tried = if refused.is_empty() {
        "neither XDG_RUNTIME_DIR, XDG_CACHE_HOME nor HOME is set".to_owned()
    } else {
        refused.join("; ")
    };
    bail!("there is no place for the library of --no-port: {tried}")
}

fn candidates() -> Vec<PathBuf> {
    if geteuid().is_root() {
        // /run is mounted noexec on some machines.
        return ["/run/tidewait", "/var/lib/tidewait/run"].map(PathBuf::from).to_vec();
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let below = |base: Option<OsString>, rest: &str| base.map(|base| Path::new(&base).join(rest));
    let candidates = [
        below(set("XDG_RUNTIME_DIR"), "tidewait"),
        below(set("XDG_CACHE_HOME"), "tidewait"),
        below(set("HOME"), ".cache/tidewait"),
    ];
    candidates.into_iter().flatten().collect()
}

fn prepared(directory: &Path) -> Result<()> {
    // LD_PRELOAD parts its libraries by these.
    let parts = |byte: &u8| matches!(byte, b':' | b' ' | b'\t' | b'\n');
    ensure!(
        directory.is_absolute() && !directory.as_os_str().as_bytes().iter().any(parts),
        "not an absolute path without blanks and colons"
    );
    make(directory)?;
    let is = std::fs::symlink_metadata(directory)?;
    ensure!(is.is_dir() && is_own(&is), "others may write there");
    let flags = rustix::fs::statvfs(directory)?.f_flag;
    ensure!(!flags.contains(StatVfsMountFlags::NOEXEC), "mounted noexec");
    ensure!(!flags.contains(StatVfsMountFlags::RDONLY), "mounted read-only");
    Ok(())
}

/// Makes a directory, and those above it, where they are not there. For root others can reach what is in it, whatever the umask:
/// a command may become another user.
fn make(directory: &Path) -> io::Result<()> {
    let made = match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(directory.parent().ok_or(error)?)?;
            DirBuilder::new().mode(0o755).create(directory)
        }
        made => made,
    };
    match made {
        Ok(()) if geteuid().is_root() => {
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))
        }
        // Also one that somebody else made just now.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn is_own(file: &Metadata) -> bool {
    file.uid() == geteuid().as_raw() && file.mode() & 0o022 == 0
}

/// The number of the process that a library was written for.
fn number_of(name: &str) -> Option<i32> {
    let number = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    number.split_once('-').map_or(number, |(number, _)| number).parse().ok()
}

/// Removes the files whose processes have ended and that nobody has open or loaded: of another process namespace no process is
/// found here, but whoever writes a library, and its keeper, have it open.
fn sweep(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(number_of);
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        let has_ended = test_kill_process(pid) == Err(Errno::SRCH);
        if has_ended
            && let Ok(library) = Library::open(&entry.path())
            && !library.is_loaded()
        {
            // Not the directory: it is about to be used.
            let _ = std::fs::remove_file(library.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_of_the_same_number_that_is_in_use_is_left_alone() -> io::Result<()> {
        let place = tempfile::tempdir()?;
        let first = unused(place.path(), 1);
        assert_eq!(first, place.path().join("no-port-1.so"));
        std::fs::write(&first, "in use")?;
        // As its writer in another process namespace, and its keeper, hold it.
        let held = File::open(&first)?;
        let second = unused(place.path(), 1);
        assert_eq!(second, place.path().join("no-port-1-1.so"));
        assert!(first.exists());
        drop(held);
        assert_eq!(unused(place.path(), 1), first);
        assert!(!first.exists());
        Ok(())
    }

    #[test]
    fn what_ended_processes_left_is_swept_and_nothing_else() -> io::Result<()> {
        let place = tempfile::tempdir()?;
        let names = ["no-port-2147483646.so", "no-port-2147483646-1.so", "no-port-x.so", "other"];
        for name in names {
            std::fs::write(place.path().join(name), "left")?;
        }
        let _held = File::open(place.path().join(names[1]))?;
        sweep(place.path());
        let left: Vec<&str> = names.into_iter().filter(|name| place.path().join(name).exists()).collect();
        assert_eq!(left, ["no-port-2147483646-1.so", "no-port-x.so", "other"]);
        Ok(())
    }
}
