//! What the sysctl files set at boot: the files in the order in which they are applied, as far as the catalogue goes.
//!
//! The rules are those of sysctl.d(5): files of several directories are taken in the order of their names, a file hides
//! those of the same name in directories that count less, one that is empty or links to /dev/null only hides. A setting
//! that is named in full is not touched by wildcards (src/sysctl/sysctl.c of systemd). procps reads the same files, and
//! /etc/sysctl.conf after them (sysctl(8), `--system`).

mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tidewait_model::Limit;
use tidewait_model::catalogue::{SETTINGS, obsolete, setting};
use tidewait_model::machine::Configured;

use crate::procfs::printable;
use line::{Line, is_pattern, matches, parse};

/// Directories of files, those that count most first (sysctl.d(5)). The last is the third where /usr is merged.
const DIRECTORIES: [&str; 5] =
    ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
/// The file that procps reads last of all.
const LAST: &str = "etc/sysctl.conf";
/// A file of this many bytes or more is no sysctl file.
const LONGEST: u64 = 1 << 20;
/// A second name of a setting (net/netfilter/nf_conntrack_standalone.c `nf_ct_netfilter_table`), and the first.
const ALIAS: (&str, &str) = ("net.nf_conntrack_max", "net.netfilter.nf_conntrack_max");

/// What the files of a machine say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SysctlFiles {
    /// What they set, in the order in which it is applied: the last value of a setting is the one it has after boot.
    pub applied: Vec<Configured>,
    /// What /etc/sysctl.conf sets, where nothing reads it at boot.
    pub not_applied: Vec<Configured>,
    /// Which program applies them at boot, and how that is known; none if it is not.
    pub applied_by: Option<String>,
    /// Files and lines that cannot be read, and may set something.
    pub limits: Vec<Limit>,
}

/// Reads the sysctl files below `root`. Only settings of the catalogue and obsolete ones are kept.
pub fn sysctl_files(root: &Path) -> SysctlFiles {
    let mut files = SysctlFiles::default();
    let mut lines = Vec::new();
    for (_, path) in found(root, &mut files.limits) {
        read(root, &path, &mut lines, &mut files.limits);
    }
    let by = boot_program(root);
    files.applied_by = by.as_ref().map(|(_, told)| told.clone());
    let mut last = Vec::new();
    read(root, Path::new(LAST), &mut last, &mut files.limits);
    // Where no program is known, somebody runs `sysctl --system`.
    if by.is_none_or(|(reads_last, _)| reads_last) {
        lines.append(&mut last);
    } else if !lines.iter().any(|line| is_same_file(root, &line.file, LAST)) {
        files.not_applied = settings(&last);
    }
    files.applied = settings(&lines);
    files
}

/// A line of a file that says something.
struct Placed {
    /// Below the root.
    file: PathBuf,
    number: u32,
    line: Line,
}

/// The files by name, each with the path below the root that counts.
fn found(root: &Path, limits: &mut Vec<Limit>) -> BTreeMap<String, PathBuf> {
    let mut files: BTreeMap<String, Option<PathBuf>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for directory in DIRECTORIES {
        let entries = match fs::read_dir(root.join(directory)) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => continue,
            Err(error) => {
                limits.push(unreadable(&format!("/{directory}"), &error));
                continue;
            }
        };
        let identity = fs::metadata(root.join(directory)).map(|metadata| (metadata.dev(), metadata.ino()));
        if identity.is_ok_and(|identity| !seen.insert(identity)) {
            continue;
        }
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if !name.ends_with(".conf") || name.starts_with('.') || files.contains_key(&name) {
                continue;
            }
            let path = Path::new(directory).join(&name);
            match fs::metadata(root.join(&path)) {
                Ok(metadata) if only_hides(&metadata) => {
                    files.insert(name, None);
                }
                Ok(metadata) if metadata.is_file() => {
                    files.insert(name, Some(path));
                }
                Ok(_) => {}
                // A link to nothing is passed over, and hides nothing.
                Err(error) if is_absent(&error) => {}
                Err(error) => limits.push(unreadable(&shown(&path), &error)),
            }
        }
    }
    files.into_iter().filter_map(|(name, path)| Some((name, path?))).collect()
}

/// Whether a file only hides others of its name: it is empty, or /dev/null.
fn only_hides(metadata: &Metadata) -> bool {
    (metadata.is_file() && metadata.len() == 0) || metadata.file_type().is_char_device()
}

/// Whether the file `one` is the file `other`, perhaps by a link.
fn is_same_file(root: &Path, one: &Path, other: &str) -> bool {
    let identity = |path: PathBuf| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let one = identity(root.join(one));
    one.is_some() && one == identity(root.join(other))
}

/// Adds the lines of a file to `lines`. A file that is not there has none.
fn read(root: &Path, path: &Path, lines: &mut Vec<Placed>, limits: &mut Vec<Limit>) {
    let whole = root.join(path);
    let text = fs::metadata(&whole).and_then(|metadata| {
        if metadata.is_file() && metadata.len() < LONGEST {
            fs::read(&whole)
        } else {
            Err(io::Error::new(ErrorKind::InvalidData, "not a text file of reasonable size"))
        }
    });
    let text = match text {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if is_absent(&error) => return,
        Err(error) => return limits.push(unreadable(&shown(path), &error)),
    };
    for (line, number) in text.lines().zip(1..) {
        match parse(line) {
            Some(Line::Broken(words)) if means_a_setting(&words) => limits.push(
                Limit::new(
                    format!("line {number} of {}: {}", shown(path), printable(&words)),
                    "it is no assignment, and is passed over at boot",
                )
                .remedy("write it as name = value")
                .of_detail(),
            ),
            Some(Line::Broken(_)) | None => {}
            Some(line) => lines.push(Placed { file: path.to_owned(), number, line }),
        }
    }
}

/// Whether a line that is no assignment seems to be about a setting of interest.
fn means_a_setting(words: &str) -> bool {
    let first = words.split([' ', '\t', ':']).next().unwrap_or_default();
    is_of_interest(&line::key_of(first).replace('/', "."))
}

/// Whether a setting, dots between its parts, is looked for in the files.
fn is_of_interest(name: &str) -> bool {
    name == ALIAS.0 || setting(name).is_some() || obsolete(name).is_some()
}

/// What the lines set of what is of interest, in the order in which it is applied.
fn settings(lines: &[Placed]) -> Vec<Configured> {
    let named: BTreeSet<&str> = lines
        .iter()
        .map(|placed| match &placed.line {
            Line::Assignment { key, .. } | Line::Exclusion(key) | Line::Broken(key) => key.as_str(),
        })
        .collect();
    let mut configured = Vec::new();
    for Placed { file, number, line } in lines {
        let Line::Assignment { key, value } = line else { continue };
        let mut set = |setting: String| {
            configured.push(Configured {
                file: shown(file),
                line: *number,
                setting: if setting == ALIAS.0 { ALIAS.1.to_owned() } else { setting },
                value: printable(value),
            });
        };
        if is_pattern(key) {
            let free = |name: &&str| !named.contains(name.replace('.', "/").as_str()) && matches(key, name);
            SETTINGS.iter().map(|setting| setting.name).filter(free).for_each(|name| set(name.to_owned()));
        } else {
            let name = key.replace('/', ".");
            if is_of_interest(&name) {
                set(name);
            }
        }
    }
    configured
}

/// Which program applies the files at boot: whether it reads /etc/sysctl.conf last, and the words for it.
fn boot_program(root: &Path) -> Option<(bool, String)> {
    let there = |path: &str| root.join(path).exists();
    let systemd =
        ["usr/lib/systemd/systemd-sysctl", "lib/systemd/systemd-sysctl"].into_iter().find(|path| there(path));
    // sd_booted(3): the directory is there if and only if systemd is process 1.
    if let Some(program) = systemd.filter(|_| there("run/systemd/system")) {
        let linked = fs::read_dir(root.join("etc/sysctl.d"))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .any(|name| {
                name.ends_with(".conf") && is_same_file(root, &Path::new("etc/sysctl.d").join(name), LAST)
            });
        let last = if linked {
            "reads /etc/sysctl.conf through a link in /etc/sysctl.d"
        } else {
            "does not read /etc/sysctl.conf"
        };
        return Some((false, format!("systemd-sysctl: /{program} is there, systemd runs; it {last}")));
    }
    ["etc/init.d/procps", "etc/init.d/sysctl"].into_iter().find(|script| there(script)).map(|script| {
        (
            true,
            format!(
                "sysctl --system: /{script} is there, systemd does not run; it reads /etc/sysctl.conf last"
            ),
        )
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn unreadable(path: &str, error: &io::Error) -> Limit {
    let limit = Limit::new(format!("what {path} sets at boot"), error.to_string()).of_detail();
    match error.kind() {
        ErrorKind::PermissionDenied => limit.remedy("run it as root"),
        _ => limit,
    }
}

/// A path below the root as it is told.
fn shown(path: &Path) -> String {
    printable(&format!("/{}", path.display()))
}

#[cfg(test)]
mod tests;
