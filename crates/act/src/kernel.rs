//! Settings as the calling thread's network namespace has them: read and written as the kernel spells them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::OFlags;

/// Where settings are read and written: the kernel, or what stands in for it in tests.
pub trait Kernel {
    /// The value of a setting as the kernel spells it, without the line end.
    ///
    /// # Errors
    /// What the kernel answers; `NotFound` where it does not have the setting.
    fn read(&self, setting: &str) -> io::Result<String>;

    /// Writes a value, with a line end after it: without one an empty list would change nothing.
    ///
    /// # Errors
    /// What the kernel answers: EINVAL for a value it refuses, EACCES, EPERM, EROFS.
    fn write(&self, setting: &str, value: &str) -> io::Result<()>;

    /// Whether a setting may be written, without writing it.
    ///
    /// # Errors
    /// What the kernel answers when it is opened for writing.
    fn may_write(&self, setting: &str) -> io::Result<()>;
}

/// /proc/sys of the calling thread: settings below `net` belong to the network namespace that the thread is in, not to the
/// one of the process (fs/proc/proc_sysctl.c, `net_ctl_root.lookup`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sysctl;

/// The longest value there is, a list of all odd ports, has some 190,000 letters. A list must be read at once: what comes
/// in a second read is empty (kernel/sysctl.c `proc_do_large_bitmap`).
const LONGEST: usize = 256 * 1024;

impl Kernel for Sysctl {
    fn read(&self, setting: &str) -> io::Result<String> {
        let mut bytes = vec![0; LONGEST];
        let length = File::open(path(setting)?)?.read(&mut bytes)?;
        bytes.truncate(length);
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a text"))
    }

    fn write(&self, setting: &str, value: &str) -> io::Result<()> {
        let mut file = open_to_write(setting)?;
        // In one call as far as the kernel takes it. It takes a page of a list at a time, and adds what follows at a later
        // place of the file to it, so that a long list gets there whole.
        file.write_all(format!("{value}\n").as_bytes())
    }

    fn may_write(&self, setting: &str) -> io::Result<()> {
        open_to_write(setting).map(|_| ())
    }
}

fn open_to_write(setting: &str) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path(setting)?)
}

/// The file of a setting. Names of the catalogue have no dots but those that part them.
fn path(setting: &str) -> io::Result<PathBuf> {
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    if !setting.split('.').all(plain) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{setting:?} is no name of a setting"),
        ));
    }
    Ok(PathBuf::from("/proc/sys").join(setting.replace('.', "/")))
}
