//! Sysctl values as the calling thread's network namespace has them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use rustix::io::Errno;
use tidewait_model::catalogue::SETTINGS;
use tidewait_model::{Limit, Settings};

use super::file::{Directory, SHORT};

/// The settings by directory below /proc/sys, each with its file there. A directory is opened once: the kernel
/// walks /proc/sys slowly, and the more so the more namespaces there are.
static FILES: LazyLock<BTreeMap<String, Vec<(&str, &str)>>> = LazyLock::new(|| {
    let mut files = BTreeMap::<_, Vec<_>>::new();
    for setting in SETTINGS {
        let (directory, file) = setting.name.rsplit_once('.').unwrap_or((".", setting.name));
        files.entry(directory.replace('.', "/")).or_default().push((setting.name, file));
    }
    files
});

/// Reads every row of the catalogue below `root`/proc/sys, as the *calling thread's* network namespace sees it.
///
/// A setting that is not there is absent from the result: the kernel does not have it, or shows it in the
/// initial namespace only. Values are trimmed, with one space where the kernel writes tabs. Never fails; what
/// could not be read is in the limits.
pub fn settings(root: &Path) -> (Settings, Vec<Limit>) {
    read(root, &|_| true)
}

/// Like [`settings`], only those of `names`: for who asks often.
pub fn some_settings(root: &Path, names: &[&str]) -> (Settings, Vec<Limit>) {
    read(root, &|name| names.contains(&name))
}

fn read(root: &Path, wanted: &dyn Fn(&str) -> bool) -> (Settings, Vec<Limit>) {
    let mut found = Settings::default();
    let sys = match Directory::open(&root.join("proc/sys")) {
        Ok(sys) => sys,
        Err(error) => return (found, vec![all_missing(&error.to_string())]),
    };
    let mut text = Vec::new();
    let mut refused: Vec<&str> = Vec::new();
    let mut reason = Errno::NOENT;
    for (directory, files) in FILES.iter() {
        let mut files = files.iter().filter(|(name, _)| wanted(name)).peekable();
        if files.peek().is_none() {
            continue;
        }
        let directory = sys.directory(directory);
        for (name, file) in files {
            match directory.as_ref().map_err(|error| *error).and_then(|at| at.read(file, SHORT, &mut text)) {
                Ok(()) => {
                    found.0.insert((*name).to_owned(), normal(&text));
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => {
                    refused.push(name);
                    reason = error;
                }
            }
        }
    }
    let limit = match (found.0.is_empty(), refused.is_empty()) {
        (_, false) => Some(Limit::new(format!("settings {}", refused.join(", ")), reason.to_string())),
        (true, true) => Some(all_missing("/proc/sys holds none of them")),
        (false, true) => None,
    };
    (found, limit.into_iter().collect())
}

/// How many files the machine has open: the first number of fs.file-nr.
pub fn open_files(root: &Path) -> Option<u64> {
    let mut text = Vec::new();
    Directory::open(&root.join("proc/sys/fs")).ok()?.read("file-nr", SHORT, &mut text).ok()?;
    String::from_utf8_lossy(&text).split_ascii_whitespace().next()?.parse().ok()
}

fn all_missing(why: &str) -> Limit {
    Limit::new("kernel settings (sysctl)", format!("/proc/sys: {why}")).remedy("mount /proc")
}

/// The text of a value: trimmed, with single spaces.
fn normal(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut normal = String::with_capacity(text.len());
    for word in text.split_ascii_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(word);
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join("proc/sys").join(name.replace('.', "/"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn values_lose_tabs_and_newlines_and_absent_ones_are_absent() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "net.ipv4.ip_local_port_range", "32768\t60999\n");
        write(root.path(), "net.ipv4.ip_local_reserved_ports", "\n");
        write(root.path(), "fs.file-max", "9223372036854775807\n");
        let (settings, limits) = settings(root.path());
        assert_eq!(limits, []);
        assert_eq!(settings.text("net.ipv4.ip_local_port_range"), Some("32768 60999"));
        assert_eq!(settings.text("net.ipv4.ip_local_reserved_ports"), Some(""));
        assert_eq!(settings.number("fs.file-max"), Some(i64::MAX));
        assert_eq!(settings.0.len(), 3);
        let (some, limits) = some_settings(root.path(), &["fs.file-max", "net.ipv4.tcp_tw_reuse"]);
        assert_eq!((some.number("fs.file-max"), some.0.len(), limits), (Some(i64::MAX), 1, Vec::new()));
    }

    #[test]
    fn no_settings_at_all_is_a_limit_with_its_remedy() {
        let root = tempfile::tempdir().unwrap();
        let (none, limits) = settings(root.path());
        assert!(none.0.is_empty());
        assert_eq!(limits.len(), 1);
        assert_eq!(limits[0].remedy.as_deref(), Some("mount /proc"));
        std::fs::create_dir_all(root.path().join("proc/sys/net")).unwrap();
        assert!(settings(root.path()).1[0].why.contains("holds none"));
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "net.ipv4.tcp_tw_reuse", "2\n");
        std::fs::create_dir(root.path().join("proc/sys/net/ipv4/tcp_fin_timeout")).unwrap();
        let (settings, limits) = settings(root.path());
        assert_eq!(settings.number("net.ipv4.tcp_tw_reuse"), Some(2));
        assert_eq!(limits.len(), 1);
        assert!(limits[0].what.contains("net.ipv4.tcp_fin_timeout"), "{limits:?}");
    }
}
