//! The names under /run/netns, as `ip netns` keeps them.

use std::path::{Path, PathBuf};

use rustix::fs::{stat, statfs};
use rustix::io::Errno;
use tidewait_model::Limit;

use super::PlaceError;
use crate::procfs::printable;

/// `NSFS_MAGIC`, include/uapi/linux/magic.h: the file system that namespace files live in (since Linux 3.19).
const NSFS: u64 = 0x6e73_6673;

/// Where names are kept. The second is the same directory on most machines.
const DIRECTORIES: [&str; 2] = ["run/netns", "var/run/netns"];

/// A name that leads to a network namespace.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) inode: u64,
    pub(super) file: PathBuf,
}

/// All names, sorted, and what is wrong with those that lead nowhere. Nothing is opened: an open file would
/// keep its namespace alive.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) named: Vec<Named>,
    pub(super) broken: Vec<PlaceError>,
    pub(super) limits: Vec<Limit>,
}

pub(super) fn names(root: &Path) -> Names {
    let mut names = Names::default();
    let mut seen = Vec::new();
    for directory in DIRECTORIES {
        let path = root.join(directory);
        let Ok(status) = stat(&path) else { continue };
        if seen.contains(&(status.st_dev, status.st_ino)) {
            continue;
        }
        seen.push((status.st_dev, status.st_ino));
        match std::fs::read_dir(&path) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    names.add(printable(&entry.file_name().to_string_lossy()), entry.path());
                }
            }
            Err(error) => {
                let what = format!("names of network namespaces in /{directory}");
                names.limits.push(Limit::new(what, error.to_string()));
            }
        }
    }
    names.named.sort_by(|a, b| a.name.cmp(&b.name));
    names.broken.sort_by_key(ToString::to_string);
    names
}

impl Names {
    fn add(&mut self, name: String, file: PathBuf) {
        let looked_at = statfs(&file).and_then(|system| Ok((system, stat(&file)?)));
        match looked_at {
            Ok((system, status)) if u64::try_from(system.f_type) == Ok(NSFS) => {
                self.named.push(Named { name, inode: status.st_ino, file });
            }
            Ok(_) => {
                let why = "its file is an ordinary one, no namespace is mounted there (any more)".to_owned();
                self.broken.push(PlaceError::NotANamespace { name, why });
            }
            Err(Errno::NOENT) => {}
            Err(source) => self.broken.push(PlaceError::Failed { name, action: "look at", source }),
        }
    }
}
