//! The programs that apply sysctl files at boot: which one a system has, which files it takes in which order, and what it
//! makes of their lines.
//!
//! | | systemd-sysctl | procps 4 | procps 3 | Alpine's service | OpenRC with busybox |
//! |---|---|---|---|---|---|
//! | /etc/sysctl.conf | through a link | last | last | before /run | first; without it nothing is read |
//! | of one name counts | /etc, /run, /usr | the same | the same; before 3.3.17 /run first | /run, /etc, /usr | /etc only |
//! | `.name.conf` | no | yes | yes | no | no |
//! | wildcards | yes | yes | no | no | no |
//! | `-name` takes back | earlier values too | wildcards only | nothing | nothing | nothing |
//! | `name =`, nothing after it | empties | empties | passed over | as it was | as it was |
//!
//! Sources: systemd 252 src/sysctl/sysctl.c and sysctl.d(5); procps 3.3.17 sysctl.c and its NEWS (order of directories,
//! Debian bug 950788), procps 4.0.4 src/sysctl.c; busybox 1.35 procps/sysctl.c; OpenRC init.d/sysctl.in; Alpine aports
//! main/openrc/sysctl.initd. The first three columns are held against the programs in `tests/sysctl_programs.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tidewait_model::Limit;
use tidewait_model::persist::Reader;

use super::tree::{Tree, is_absent};
use super::{LAST, unreadable};

/// Directories of files, those that count most first (sysctl.d(5)). The last is the one before it where /usr is merged.
const DIRECTORIES: [&str; 5] =
    ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
/// The same for procps before 3.3.17.
const RUN_FIRST: [&str; 5] =
    ["run/sysctl.d", "etc/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
/// The directories that tuned reads again (tuned/plugins/plugin_sysctl.py `SYSCTL_CONFIG_DIRS`).
const REAPPLIED: [&str; 2] = ["run/sysctl.d", "etc/sysctl.d"];

/// What a reader makes of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manners {
    /// Whether names may have wildcards, and be kept from them.
    pub(super) wildcards: bool,
    /// Whether a dash before a name means that failure is no error. Elsewhere there is no such name.
    pub(super) dash: bool,
    /// Whether an empty value is set.
    pub(super) empty: bool,
    /// Whether only the first word of a value is taken.
    pub(super) first_word: bool,
    /// Whether the lines are kept by name, so that `-name` takes an earlier value back, and a pattern that comes again
    /// with the same value stays where it was first.
    pub(super) by_name: bool,
}

pub(super) fn manners(reader: Reader) -> Manners {
    let (wildcards, dash, empty, first_word) = match reader {
        Reader::SystemdSysctl | Reader::Procps => (true, true, true, false),
        Reader::Procps3 | Reader::Procps3Old => (false, true, false, false),
        Reader::OpenrcAlpine => (false, false, false, false),
        Reader::OpenrcBusybox => (false, false, false, true),
    };
    Manners { wildcards, dash, empty, first_word, by_name: reader == Reader::SystemdSysctl }
}

/// What tuned makes of lines when it applies files again.
pub(super) const OF_TUNED: Manners =
    Manners { wildcards: false, dash: false, empty: false, first_word: false, by_name: false };

/// The files that a reader takes, in order.
pub(super) fn files(tree: &Tree<'_>, reader: Reader, limits: &mut Vec<Limit>) -> Vec<PathBuf> {
    let last = || tree.is_file(Path::new(LAST)).then(|| PathBuf::from(LAST));
    match reader {
        Reader::SystemdSysctl => by_name(tree, &DIRECTORIES, false, limits),
        Reader::Procps | Reader::Procps3 => {
            by_name(tree, &DIRECTORIES, true, limits).into_iter().chain(last()).collect()
        }
        Reader::Procps3Old => by_name(tree, &RUN_FIRST, true, limits).into_iter().chain(last()).collect(),
        Reader::OpenrcAlpine => {
            let mut files = Vec::new();
            for directory in ["lib/sysctl.d", "usr/lib/sysctl.d"] {
                files.extend(plain(tree, directory, &["etc/sysctl.d", "run/sysctl.d"], limits));
            }
            files.extend(plain(tree, "etc/sysctl.d", &["run/sysctl.d"], limits));
            files.extend(last());
            files.extend(plain(tree, "run/sysctl.d", &[], limits));
            files
        }
        Reader::OpenrcBusybox => last()
            .into_iter()
            .flat_map(|last| [last].into_iter().chain(plain(tree, "etc/sysctl.d", &[], limits)))
            .collect(),
    }
}

/// The files that tuned applies once more, over its profile.
pub(super) fn reapplied(tree: &Tree<'_>, limits: &mut Vec<Limit>) -> Vec<PathBuf> {
    let mut files = by_name(tree, &REAPPLIED, true, limits);
    files.push(PathBuf::from(LAST));
    files
}

/// The files of several directories in the order of their names. Whatever has a name in a directory, be it empty, a link to
/// nothing or to /dev/null, hides what has it in those that count less.
fn by_name(tree: &Tree<'_>, directories: &[&str], hidden: bool, limits: &mut Vec<Limit>) -> Vec<PathBuf> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for directory in directories {
        let repeated = tree.identity(Path::new(directory)).is_some_and(|identity| !seen.insert(identity));
        if repeated {
            continue;
        }
        for name in listed(tree, directory, hidden, limits) {
            files.entry(name).or_insert_with_key(|name| Path::new(directory).join(name));
        }
    }
    files.into_values().collect()
}

/// The files of one directory in the order of their names, without those of which one of `hiding` has a regular file.
fn plain(tree: &Tree<'_>, directory: &str, hiding: &[&str], limits: &mut Vec<Limit>) -> Vec<PathBuf> {
    let mut names = listed(tree, directory, false, limits);
    names.sort();
    let hidden = |name: &String| hiding.iter().any(|other| tree.is_file(&Path::new(other).join(name)));
    names
        .into_iter()
        .filter(|name| !hidden(name))
        .map(|name| Path::new(directory).join(name))
        .filter(|path| tree.is_file(path))
        .collect()
}

/// The names in a directory that are of sysctl files.
fn listed(tree: &Tree<'_>, directory: &str, hidden: bool, limits: &mut Vec<Limit>) -> Vec<String> {
    match tree.names(directory) {
        Ok(mut names) => {
            names.retain(|name| name.ends_with(".conf") && (hidden || !name.starts_with('.')));
            names
        }
        Err(error) => {
            if !is_absent(&error) {
                limits.push(unreadable(&format!("/{directory}"), &error));
            }
            Vec::new()
        }
    }
}

/// Which program applies the files at boot, and how that is known; `None` if it is not.
pub(super) fn at_boot(tree: &Tree<'_>) -> Option<(Reader, String)> {
    let systemd = ["usr/lib/systemd/systemd-sysctl", "lib/systemd/systemd-sysctl"]
        .into_iter()
        .find(|path| tree.there(path));
    if let Some(program) = systemd {
        // sd_booted(3): the directory is there if and only if systemd is process 1. An image does not run.
        let how = if tree.there("run/systemd/system") {
            Some("systemd runs")
        } else if !tree.there("proc/self") && init_is_systemd(tree) {
            Some("/sbin/init is systemd")
        } else {
            None
        };
        if let Some(how) = how {
            let last = if reads_last_by_link(tree) {
                "reads /etc/sysctl.conf through a link in /etc/sysctl.d"
            } else {
                "does not read /etc/sysctl.conf"
            };
            let told = format!("systemd-sysctl: /{program} is there, {how}; it {last}");
            return Some((Reader::SystemdSysctl, told));
        }
    }
    ["etc/init.d/procps", "etc/init.d/sysctl"].into_iter().find(|script| tree.there(script)).map(|script| {
        let text = tree.text(Path::new(script)).unwrap_or_default();
        if text.contains("/lib/sysctl.d/*.conf") {
            return (
                Reader::OpenrcAlpine,
                format!(
                    "sysctl -p: /{script} applies /usr/lib, /etc, /etc/sysctl.conf and /run in this order"
                ),
            );
        }
        if text.contains("BSD_sysctl") && is_busybox(tree) {
            return (
                Reader::OpenrcBusybox,
                format!("sysctl -w: /{script} applies /etc/sysctl.conf and then /etc/sysctl.d with busybox"),
            );
        }
        (
            procps(tree),
            format!(
                "sysctl --system: /{script} is there, systemd does not run; it reads /etc/sysctl.conf last"
            ),
        )
    })
}

/// Whether a file of /etc/sysctl.d is /etc/sysctl.conf.
fn reads_last_by_link(tree: &Tree<'_>) -> bool {
    let last = tree.identity(Path::new(LAST));
    last.is_some()
        && tree.names("etc/sysctl.d").into_iter().flatten().any(|name| {
            name.ends_with(".conf") && tree.identity(&Path::new("etc/sysctl.d").join(name)) == last
        })
}

fn init_is_systemd(tree: &Tree<'_>) -> bool {
    ["sbin/init", "usr/sbin/init"]
        .into_iter()
        .filter_map(|init| tree.link(init))
        .any(|to| to.file_name().is_some_and(|name| name == "systemd"))
}

/// Whether sysctl is busybox: a link to it, or not there besides it.
fn is_busybox(tree: &Tree<'_>) -> bool {
    let places = ["sbin/sysctl", "usr/sbin/sysctl", "bin/sysctl", "usr/bin/sysctl"];
    let busybox = ["bin/busybox", "usr/bin/busybox"].into_iter().any(|path| tree.there(path));
    let link =
        |place: &str| tree.link(place).is_some_and(|to| to.file_name().is_some_and(|name| name == "busybox"));
    let mut there = places.into_iter().filter(|place| tree.entry(place)).peekable();
    busybox && (there.peek().is_none() || there.any(link))
}

/// Which procps it is, by the library that came with it; the present one where that does not show.
fn procps(tree: &Tree<'_>) -> Reader {
    let mut places = vec!["usr/lib".to_owned(), "usr/lib64".to_owned(), "lib".to_owned(), "lib64".to_owned()];
    for above in ["usr/lib", "lib"] {
        let names = tree.names(above).unwrap_or_default();
        places.extend(
            names.into_iter().filter(|name| name.contains("-linux-")).map(|name| format!("{above}/{name}")),
        );
    }
    let libraries: Vec<String> =
        places.iter().flat_map(|place| tree.names(place).unwrap_or_default()).collect();
    let has = |name: &str| libraries.iter().any(|library| library.starts_with(name));
    if !has("libproc2.so") && has("libprocps.so.8") {
        Reader::Procps3
    } else if !has("libproc2.so")
        && ["3", "4", "5", "6", "7"].iter().any(|so| has(&format!("libprocps.so.{so}")))
    {
        Reader::Procps3Old
    } else {
        Reader::Procps
    }
}
