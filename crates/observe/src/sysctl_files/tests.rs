//! Trees of sysctl files, and what they set.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

pub(super) struct Tree(tempfile::TempDir);

impl Tree {
    pub(super) fn new(files: &[(&str, &str)]) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        for (path, text) in files {
            fs::create_dir_all(tree.path(path).parent().unwrap()).unwrap();
            fs::write(tree.path(path), text).unwrap();
        }
        tree
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(super) fn link(&self, path: &str, to: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        symlink(to, self.path(path)).unwrap();
    }

    fn read(&self) -> SysctlFiles {
        sysctl_files(self.0.path())
    }

    /// What is applied, as `file:line value`, for one setting.
    fn applied(&self, setting: &str) -> Vec<String> {
        told(&self.read().applied, setting)
    }
}

fn told(configured: &[Configured], setting: &str) -> Vec<String> {
    let told = configured.iter().filter(|row| row.setting == setting);
    told.map(|row| format!("{}:{} {}", row.file, row.line, row.value)).collect()
}

const REUSE: &str = "net.ipv4.tcp_tw_reuse";

#[test]
fn names_decide_the_order_and_not_directories() {
    let tree = Tree::new(&[
        ("etc/sysctl.d/10-a.conf", "# first\nnet.ipv4.tcp_tw_reuse = 1\n"),
        ("usr/lib/sysctl.d/50-b.conf", "net.ipv4.tcp_tw_reuse=2\n\nkernel.pid_max = 9\n"),
        ("run/sysctl.d/40-c.conf", "net/ipv4/tcp_tw_reuse = 0\n"),
        ("etc/sysctl.d/99-notes.txt", "net.ipv4.tcp_tw_reuse = 7\n"),
        ("etc/sysctl.conf", "net.ipv4.tcp_tw_reuse = 3\n"),
    ]);
    let expected = [
        "/etc/sysctl.d/10-a.conf:2 1",
        "/run/sysctl.d/40-c.conf:1 0",
        "/usr/lib/sysctl.d/50-b.conf:1 2",
        "/etc/sysctl.conf:1 3",
    ];
    assert_eq!(tree.applied(REUSE), expected);
    let files = tree.read();
    assert_eq!(files.applied.len(), 4, "kernel.pid_max is none of ours");
    assert_eq!((files.applied_by, files.limits), (None, vec![]));
}

#[test]
fn a_file_hides_those_of_its_name_be_it_empty_or_a_link_to_nothing() {
    let tree = Tree::new(&[
        ("etc/sysctl.d/10-x.conf", "net.ipv4.tcp_tw_reuse = 1\n"),
        ("usr/lib/sysctl.d/10-x.conf", "net.ipv4.tcp_tw_reuse = 2\n"),
        ("etc/sysctl.d/20-y.conf", ""),
        ("usr/lib/sysctl.d/20-y.conf", "net.ipv4.tcp_tw_reuse = 2\n"),
        ("usr/local/lib/sysctl.d/30-z.conf", "net.ipv4.tcp_tw_reuse = 2\n"),
        ("usr/lib/sysctl.d/40-w.conf", "net.ipv4.tcp_tw_reuse = 4\n"),
    ]);
    tree.link("run/sysctl.d/30-z.conf", "/dev/null");
    tree.link("etc/sysctl.d/40-w.conf", "nothing-there");
    assert_eq!(tree.applied(REUSE), ["/etc/sysctl.d/10-x.conf:1 1"]);
}

#[test]
fn a_merged_usr_is_read_once() {
    let tree = Tree::new(&[("usr/lib/sysctl.d/10-x.conf", "net.ipv4.tcp_tw_reuse = 1\n")]);
    tree.link("lib", "usr/lib");
    assert_eq!(tree.applied(REUSE), ["/usr/lib/sysctl.d/10-x.conf:1 1"]);
}

#[test]
fn wildcards_set_what_is_named_nowhere() {
    let tree = Tree::new(&[
        ("etc/sysctl.d/10-a.conf", "net.ipv4.tcp_tw_reuse = 1\n-net.ipv4.tcp_fin_timeout\n"),
        ("etc/sysctl.d/20-b.conf", "net.ipv4.tcp_* = 5\n"),
    ]);
    assert_eq!(tree.applied(REUSE), ["/etc/sysctl.d/10-a.conf:1 1"]);
    assert_eq!(tree.applied("net.ipv4.tcp_fin_timeout"), Vec::<String>::new());
    assert_eq!(tree.applied("net.ipv4.tcp_tw_recycle"), ["/etc/sysctl.d/20-b.conf:1 5"]);
    assert_eq!(tree.applied("net.core.somaxconn"), Vec::<String>::new());
}

#[test]
fn a_setting_of_two_names_and_names_of_old_kernels_are_known() {
    let text =
        "net.nf_conntrack_max = 9\nnet.ipv4.netfilter.ip_conntrack_max = 7\nnet.ipv4.tcp_tw_recycle = 1\n";
    let tree = Tree::new(&[("etc/sysctl.d/10-a.conf", text)]);
    let settings: Vec<String> = tree.read().applied.into_iter().map(|row| row.setting).collect();
    let expected =
        ["net.netfilter.nf_conntrack_max", "net.ipv4.netfilter.ip_conntrack_max", "net.ipv4.tcp_tw_recycle"];
    assert_eq!(settings, expected);
}

#[test]
fn systemd_reads_the_old_file_only_through_a_link() {
    let tree = Tree::new(&[
        ("etc/sysctl.conf", "net.ipv4.tcp_tw_recycle = 1\n"),
        ("etc/sysctl.d/README", ""),
        ("usr/lib/systemd/systemd-sysctl", "x"),
        ("run/systemd/system/x", ""),
        ("etc/init.d/procps", "x"),
    ]);
    let files = tree.read();
    assert_eq!(files.applied, []);
    assert_eq!(told(&files.not_applied, "net.ipv4.tcp_tw_recycle"), ["/etc/sysctl.conf:1 1"]);
    assert!(files.applied_by.unwrap().contains("does not read /etc/sysctl.conf"));

    tree.link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
    let files = tree.read();
    assert_eq!(told(&files.applied, "net.ipv4.tcp_tw_recycle"), ["/etc/sysctl.d/99-sysctl.conf:1 1"]);
    assert_eq!(files.not_applied, []);
    assert!(files.applied_by.unwrap().contains("through a link"));

    fs::remove_dir_all(tree.path("run/systemd")).unwrap();
    let files = tree.read();
    assert_eq!(files.applied.last().unwrap().file, "/etc/sysctl.conf");
    assert!(files.applied_by.unwrap().starts_with("sysctl --system"));
}

#[test]
fn broken_lines_and_files_are_said_where_they_may_matter() {
    let tree = Tree::new(&[
        (
            "etc/sysctl.d/10-a.conf",
            "net.ipv4.tcp_tw_reuse 1\nkernel.what 3\nsome words\nnet.core.somaxconn = 9\n",
        ),
        ("etc/sysctl.d/30-c.conf", "\u{0}\u{fffd} = \u{1b}[2J\n= \n-\n-=\n==\n"),
    ]);
    tree.link("etc/sysctl.d/20-loop.conf", "20-loop.conf");
    let files = tree.read();
    assert_eq!(told(&files.applied, "net.core.somaxconn"), ["/etc/sysctl.d/10-a.conf:4 9"]);
    let what: Vec<&str> = files.limits.iter().map(|limit| limit.what.as_str()).collect();
    assert_eq!(what.len(), 2, "{what:?}");
    assert!(what.contains(&"what /etc/sysctl.d/20-loop.conf sets at boot"), "{what:?}");
    assert!(what.contains(&"line 1 of /etc/sysctl.d/10-a.conf: net.ipv4.tcp_tw_reuse 1"), "{what:?}");
}

#[test]
fn no_files_set_nothing() {
    assert_eq!(Tree::new(&[]).read(), SysctlFiles::default());
}
