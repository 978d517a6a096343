//! Reading small kernel files and links through a directory handle, with buffers that are used again.

use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, readlinkat_raw, statat};
use rustix::io::{Errno, read, retry_on_intr};

/// How much a read asks for at first where a text is expected to be short.
pub(crate) const SHORT: usize = 4 << 10;

/// How much it asks for where it is expected to be longer: /proc/net/netstat has about 6 KiB.
pub(crate) const LONGER: usize = 32 << 10;

/// A kernel text of this size or more is not believed: the longest setting, every second port reserved, has 192 KiB.
const LONGEST: usize = 4 << 20;

/// A directory held open, so that many files below it are found without walking the whole path.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens the directory at `path`.
    pub(crate) fn open(path: &Path) -> Result<Directory, Errno> {
        open_at(CWD, path).map(Directory)
    }

    /// Opens the directory `path` below this one.
    pub(crate) fn directory(&self, path: &str) -> Result<Directory, Errno> {
        open_at(&self.0, path).map(Directory)
    }

    /// Reads the file `path` into `text`, whose former content is dropped, by one read of `size` bytes.
    ///
    /// The files of /proc that are read here give all they have to one read that is large enough. One that fills
    /// the buffer is read anew with a larger one and not read on: the kernel answers a second read of a list like
    /// ip_local_reserved_ports with nothing (`proc_do_large_bitmap`, kernel/sysctl.c), and the text would silently
    /// be cut. Near the end of the buffer counts as full, since the kernel may leave out a number that does not fit.
    pub(crate) fn read(&self, path: &str, mut size: usize, text: &mut Vec<u8>) -> Result<(), Errno> {
        loop {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = openat(&self.0, path, flags, Mode::empty())?;
            text.resize(size, 0);
            let length = retry_on_intr(|| read(&file, text.as_mut_slice()))?;
            if length < size - 64 {
                text.truncate(length);
                return Ok(());
            }
            size *= 8;
            if size > LONGEST {
                return Err(Errno::FBIG);
            }
        }
    }

    /// Reads the symbolic link `path` into `buffer` and gives the part that was filled.
    pub(crate) fn link<'b>(&self, path: &str, buffer: &'b mut [u8; 64]) -> Result<&'b [u8], Errno> {
        let length = readlinkat_raw(&self.0, path, &mut buffer[..])?;
        Ok(buffer.get(..length).unwrap_or_default())
    }

    /// The inode of the file `path`.
    pub(crate) fn inode(&self, path: &str) -> Result<u64, Errno> {
        Ok(statat(&self.0, path, AtFlags::empty())?.st_ino)
    }

    /// What the kernel says is the size of the file `path`.
    pub(crate) fn size(&self, path: &str) -> Result<u64, Errno> {
        Ok(u64::try_from(statat(&self.0, path, AtFlags::empty())?.st_size).unwrap_or(0))
    }

    /// Calls `each` with the name of every entry, `.` and `..` left out. Names that are not UTF-8 are left out
    /// too: none of the kernel's are.
    pub(crate) fn names(
        &self,
        buffer: &mut [MaybeUninit<u8>],
        mut each: impl FnMut(&str),
    ) -> Result<(), Errno> {
        let mut entries = RawDir::new(&self.0, buffer);
        while let Some(entry) = entries.next() {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => each(name),
            }
        }
        Ok(())
    }
}

fn open_at(parent: impl rustix::fd::AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    openat(parent, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The number in a link like `net:[4026531840]` or `socket:[123]`, if it is of that kind.
pub(crate) fn link_inode(link: &[u8], kind: &str) -> Option<u64> {
    let digits = link.strip_prefix(kind.as_bytes())?.strip_prefix(b":[")?.strip_suffix(b"]")?;
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_tells_its_kind_and_number() {
        assert_eq!(link_inode(b"net:[4026531840]", "net"), Some(4026531840));
        assert_eq!(link_inode(b"socket:[77]", "socket"), Some(77));
        for other in
            ["socket:[77]", "net:[]", "net:[12", "net:[1x]", "net:4", "", "net:[99999999999999999999]"]
        {
            assert_eq!(link_inode(other.as_bytes(), "net"), None, "{other}");
        }
    }

    #[test]
    fn a_text_of_any_length_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let here = Directory::open(directory.path()).unwrap();
        let mut text = Vec::new();
        for length in [0, 1, 4031, 4032, 4095, 4096, 4097, 200_000, 3] {
            std::fs::write(directory.path().join("file"), vec![b'x'; length]).unwrap();
            here.read("file", SHORT, &mut text).unwrap();
            assert_eq!(text.len(), length);
        }
        assert_eq!(here.read("absent", SHORT, &mut text), Err(Errno::NOENT));
    }

    proptest! {
        #[test]
        fn a_link_of_any_bytes_is_no_trouble(link in prop::collection::vec(any::<u8>(), 0..64)) {
            link_inode(&link, "net");
        }

        #[test]
        fn every_number_is_read_back(number in 0_u64..=u64::from(u32::MAX) * 4) {
            prop_assert_eq!(link_inode(format!("net:[{number}]").as_bytes(), "net"), Some(number));
        }
    }
}
