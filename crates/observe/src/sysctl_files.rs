//! What the sysctl files set at boot: the files in the order in which they are applied, as far as the catalogue goes.
//!
//! The rules are those of sysctl.d(5): files of several directories are taken in the order of their names, a file hides
//! those of the same name in directories that count less. A setting that is named in full is not touched by wildcards
//! (src/sysctl/sysctl.c of systemd). procps reads the same files, and /etc/sysctl.conf after them (sysctl(8), `--system`).
//! Other readers have other orders; [`boot`] follows each, and what comes after the files.

pub mod boot;
mod later;
mod line;
mod reader;
mod tree;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tidewait_model::Limit;
use tidewait_model::catalogue::{SETTINGS, obsolete, setting};
use tidewait_model::machine::Configured;
use tidewait_model::persist::Reader;

use crate::procfs::printable;
use line::{Line, is_pattern, matches, parse};
use reader::{Manners, manners};
use tree::{Tree, is_absent};

/// The file that procps reads last of all.
const LAST: &str = "etc/sysctl.conf";
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
    let tree = Tree::new(root);
    let mut files = SysctlFiles::default();
    let by = reader::at_boot(&tree);
    // Where no program is known, somebody runs `sysctl --system`.
    let reader = by.as_ref().map_or(Reader::Procps, |(reader, _)| *reader);
    files.applied_by = by.map(|(_, told)| told);
    let paths = reader::files(&tree, reader, &mut files.limits);
    files.applied = applied(&tree, &paths, manners(reader), &mut files.limits);
    let read_last = paths.iter().any(|path| is_same_file(&tree, path, LAST));
    if reader == Reader::SystemdSysctl && !read_last {
        files.not_applied = applied(&tree, &[PathBuf::from(LAST)], manners(reader), &mut files.limits);
    }
    files
}

/// What `files` set, in the order in which it is applied.
fn applied(tree: &Tree<'_>, files: &[PathBuf], manners: Manners, limits: &mut Vec<Limit>) -> Vec<Configured> {
    let mut lines = Vec::new();
    for path in files {
        read(tree, path, manners, &mut lines, limits);
    }
    settings(&lines, manners)
}

/// A line of a file that says something.
struct Placed {
    /// Below the root.
    file: PathBuf,
    number: u32,
    line: Line,
}

/// Whether the file `one` is the file `other`, perhaps by a link.
fn is_same_file(tree: &Tree<'_>, one: &Path, other: &str) -> bool {
    let one = tree.identity(one);
    one.is_some() && one == tree.identity(Path::new(other))
}

/// Adds the lines of a file to `lines`. A file that is not there has none.
fn read(tree: &Tree<'_>, path: &Path, manners: Manners, lines: &mut Vec<Placed>, limits: &mut Vec<Limit>) {
    let text = match tree.text(path) {
        Ok(text) => text,
        Err(error) if is_absent(&error) => return,
        Err(error) => return limits.push(unreadable(&shown(path), &error)),
    };
    // `while read` takes whole lines only.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let text = if manners.first_word { whole } else { text.as_str() };
    for (line, number) in text.lines().zip(1..) {
        // `sed 's/ = /=/' | while read var comments`: what comes after the first word is lost.
        let cut = manners.first_word.then(|| line.replacen(" = ", "=", 1));
        let line = match &cut {
            Some(cut) if !cut.trim_start().starts_with(['#', ';']) => {
                cut.split_whitespace().next().unwrap_or_default()
            }
            _ => line,
        };
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

/// Whether one of the lines that follow says `-key` (src/sysctl/sysctl.c `parse_file`: one entry a key).
fn is_taken_back(key: &str, following: &[Placed]) -> bool {
    following.iter().any(|placed| matches!(&placed.line, Line::Exclusion(excluded) if excluded == key))
}

/// Whether the line has wildcards and says what the last line with the same key said: it stays where that is.
fn is_repeated(line: &Line, before: &[Placed]) -> bool {
    let Line::Assignment { key, value, .. } = line else { return false };
    let earlier = before.iter().rev().find_map(|placed| match &placed.line {
        Line::Assignment { key: earlier, value, .. } if earlier == key => Some(Some(value)),
        Line::Exclusion(earlier) if earlier == key => Some(None),
        _ => None,
    });
    is_pattern(key) && earlier == Some(Some(value))
}

/// Where the last line that says `-name` is.
fn excluded_at(tree: &Tree<'_>, files: &[PathBuf], name: &str, manners: Manners) -> Option<(String, u32)> {
    let mut lines = Vec::new();
    for path in files {
        read(tree, path, manners, &mut lines, &mut Vec::new());
    }
    let key = line::key_of(name);
    let excluded = |placed: &&Placed| matches!(&placed.line, Line::Exclusion(excluded) if *excluded == key);
    lines.iter().rev().find(excluded).map(|placed| (shown(&placed.file), placed.number))
}

/// What the lines set of what is of interest, in the order in which it is applied.
fn settings(lines: &[Placed], manners: Manners) -> Vec<Configured> {
    let named: BTreeSet<&str> = lines
        .iter()
        .map(|placed| match &placed.line {
            Line::Assignment { key, .. } | Line::Exclusion(key) | Line::Broken(key) => key.as_str(),
        })
        .collect();
    let mut configured = Vec::new();
    for (at, Placed { file, number, line }) in lines.iter().enumerate() {
        let Line::Assignment { key, value, dash } = line else { continue };
        if manners.by_name && (is_taken_back(key, &lines[at + 1..]) || is_repeated(line, &lines[..at])) {
            continue;
        }
        let unknown = *dash && !manners.dash || is_pattern(key) && !manners.wildcards;
        if unknown || value.is_empty() && !manners.empty {
            continue;
        }
        let mut set = |setting: String| {
            configured.push(Configured {
                file: shown(file),
                line: *number,
                setting: if setting == ALIAS.0 { ALIAS.1.to_owned() } else { setting },
                value: shown_value(value),
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

fn unreadable(path: &str, error: &io::Error) -> Limit {
    let limit = Limit::new(format!("what {path} sets at boot"), error.to_string()).of_detail();
    match error.kind() {
        ErrorKind::PermissionDenied => limit.remedy("run it as root"),
        _ => limit,
    }
}

/// A value as it is told. A tab between numbers is a space like others, and nothing to be made visible.
fn shown_value(value: &str) -> String {
    printable(&value.trim().replace('\t', " "))
}

/// A path below the root as it is told.
fn shown(path: &Path) -> String {
    printable(&format!("/{}", path.display()))
}

#[cfg(test)]
mod tests;
