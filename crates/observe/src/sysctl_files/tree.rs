//! The files below a root, which may be that of an image: its links mean places of the image, wherever they lead here.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// A file of this many bytes or more is no file of settings.
const LONGEST: u64 = 1 << 20;
/// As many links as the kernel follows (include/linux/namei.h `MAXSYMLINKS`).
const LINKS: u32 = 40;

/// The files below a root, one of them perhaps with another text than it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree<'a> {
    root: &'a Path,
    /// A file below the root that is taken to be there, with this text.
    instead: Option<(&'a Path, &'a str)>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a Path) -> Tree<'a> {
        Tree { root, instead: None }
    }

    /// The same files, where `path` has `text`.
    pub(super) fn with(self, path: &'a Path, text: &'a str) -> Tree<'a> {
        Tree { instead: Some((path, text)), ..self }
    }

    /// Whether there is such a file or directory.
    pub(super) fn there(&self, path: &str) -> bool {
        self.metadata(Path::new(path)).is_ok()
    }

    /// Whether there is an entry of this name, be it a link to nothing.
    pub(super) fn entry(&self, path: &str) -> bool {
        fs::symlink_metadata(self.parent_within(Path::new(path))).is_ok()
    }

    /// Where the link leads, as it is written; `None` if it is none.
    pub(super) fn link(&self, path: &str) -> Option<PathBuf> {
        fs::read_link(self.parent_within(Path::new(path))).ok()
    }

    pub(super) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        fs::metadata(self.within(path))
    }

    /// Whether it is a regular file, or is taken to be one.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.is_instead(path) || self.metadata(path).is_ok_and(|metadata| metadata.is_file())
    }

    /// Which file it is; `None` where there is none.
    pub(super) fn identity(&self, path: &Path) -> Option<(u64, u64)> {
        self.metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }

    /// The names in a directory, in no order.
    pub(super) fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        let listed = fs::read_dir(self.within(Path::new(directory)));
        let instead = self.instead.filter(|(path, _)| path.parent() == Some(Path::new(directory)));
        let mut names: Vec<OsString> = match listed {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect(),
            Err(error) if is_absent(&error) && instead.is_some() => Vec::new(),
            Err(error) => return Err(error),
        };
        if let Some(name) = instead.and_then(|(path, _)| path.file_name())
            && !names.iter().any(|other| other == name)
        {
            names.push(name.to_owned());
        }
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// The text of a file. What is no file, or too long for one of settings, is an error; a device has no text.
    pub(super) fn text(&self, path: &Path) -> io::Result<String> {
        if let Some((_, text)) = self.instead.filter(|_| self.is_instead(path)) {
            return Ok(text.to_owned());
        }
        let whole = self.within(path);
        let metadata = fs::metadata(&whole)?;
        if metadata.is_file() && metadata.len() < LONGEST {
            return Ok(String::from_utf8_lossy(&fs::read(&whole)?).into_owned());
        }
        if metadata.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidData, "not a text file of reasonable size"));
        }
        Ok(String::new())
    }

    fn is_instead(&self, path: &Path) -> bool {
        self.instead.is_some_and(|(instead, _)| instead == path)
    }

    /// The path with its directory resolved, and its last part as it is.
    fn parent_within(&self, path: &Path) -> PathBuf {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => self.within(parent).join(name),
            _ => self.within(path),
        }
    }

    /// The path with all links resolved below the root. Where they go in circles it is left as it is, and opening it
    /// fails.
    fn within(&self, path: &Path) -> PathBuf {
        let mut links = LINKS;
        let mut resolved: Vec<OsString> = Vec::new();
        let mut ahead: Vec<OsString> = parts(path);
        while let Some(part) = ahead.pop() {
            if part == ".." {
                resolved.pop();
                continue;
            }
            let candidate: PathBuf =
                [self.root.as_os_str()].into_iter().chain(resolved.iter().map(OsString::as_os_str)).collect();
            match fs::read_link(candidate.join(&part)) {
                Ok(_) if links == 0 => return self.root.join(path),
                Ok(to) => {
                    links -= 1;
                    if to.is_absolute() {
                        resolved.clear();
                    }
                    ahead.extend(parts(&to));
                }
                Err(_) => resolved.push(part),
            }
        }
        resolved.iter().fold(self.root.to_owned(), |path, part| path.join(part))
    }
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
