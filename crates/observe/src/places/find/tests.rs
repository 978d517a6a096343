//! Finding namespaces in recorded trees.

use std::os::unix::fs::symlink;

use super::super::Busy;
use super::super::processes::INITIAL_PID_NAMESPACE;
use super::*;

/// A made-up root directory.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        Tree(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn file(self, path: &str, text: &str) -> Tree {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn link(self, path: &str, target: &str) -> Tree {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    fn process(self, pid: u32, namespace: u64, command: &str, cgroup: &str) -> Tree {
        self.link(&format!("proc/{pid}/ns/net"), &format!("net:[{namespace}]"))
            .file(&format!("proc/{pid}/comm"), &format!("{command}\n"))
            .file(&format!("proc/{pid}/cgroup"), cgroup)
    }

    /// tidewait itself, as process `pid`.
    fn tidewait(self, pid: u32, namespace: u64) -> Tree {
        self.process(pid, namespace, "tidewait", "0::/\n")
            .link(&format!("proc/{pid}/task/{pid}/ns/net"), &format!("net:[{namespace}]"))
            .link("proc/thread-self", &format!("{pid}/task/{pid}"))
            .link("proc/self", &pid.to_string())
            .link(&format!("proc/{pid}/ns/pid"), &format!("pid:[{INITIAL_PID_NAMESPACE}]"))
    }

    fn in_the_initial_namespace(self) -> Tree {
        self.file("proc/sys/net/ipv4/tcp_fin_timeout", "60").file("proc/sys/net/ipv4/tcp_max_orphans", "9")
    }

    fn in_another_namespace(self) -> Tree {
        self.file("proc/sys/net/ipv4/tcp_fin_timeout", "60")
    }
}

const ID: &str = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2";

/// A machine with a container, a unit, two processes of one login session, and one that belongs nowhere.
fn machine() -> Tree {
    Tree::new()
        .process(1, 1000, "systemd", "0::/init.scope\n")
        .process(30, 2000, "pause", &format!("0::/system.slice/docker-{ID}.scope\n"))
        .process(31, 2000, "nginx", &format!("0::/system.slice/docker-{ID}.scope\n"))
        .process(40, 3000, "resolver", "0::/system.slice/resolver.service\n")
        .process(51, 4000, "sleep", "0::/user.slice/user-0.slice/session-2.scope\n")
        .process(50, 4001, "cat", "0::/user.slice/user-0.slice/session-2.scope\n")
        .process(60, 5000, "a", "0::/system.slice/twice.service\n")
        .process(61, 5001, "b", "0::/system.slice/twice.service\n")
        .tidewait(99, 1000)
}

fn listed(found: &Places) -> Vec<(&str, u64)> {
    found.places.iter().map(|place| (place.name.as_str(), place.inode)).collect()
}

#[test]
fn on_the_host_every_namespace_is_found_once_the_host_first() {
    let tree = machine().in_the_initial_namespace();
    let found = find_with(tree.root(), &Scope::Auto, true).unwrap();
    let expected = [
        ("host", 1000),
        ("4fa6e0f0c678", 2000),
        ("resolver.service", 3000),
        ("twice.service/a[60]", 5000),
        ("twice.service/b[61]", 5001),
        ("cat[50]", 4001),
        ("sleep[51]", 4000),
    ];
    assert_eq!(listed(&found), expected);
    assert_eq!(found.limits, []);
    assert_eq!(found.places.iter().filter(|place| place.own).count(), 1);
    assert_eq!(found.places[1].leader, Some(30));
}

#[test]
fn inside_another_namespace_only_that_one_is_meant_unless_all_are_asked_for() {
    let tree = machine().in_another_namespace().process(98, 7000, "sh", "0::/\n");
    std::fs::remove_file(tree.root().join("proc/99/ns/net")).unwrap();
    std::fs::remove_file(tree.root().join("proc/99/task/99/ns/net")).unwrap();
    let tree = tree.link("proc/99/ns/net", "net:[7000]").link("proc/99/task/99/ns/net", "net:[7000]");
    let own = find_with(tree.root(), &Scope::Auto, true).unwrap();
    assert_eq!((listed(&own), own.limits.len()), (vec![("sh[98]", 7000)], 0));
    let all = find_with(tree.root(), &Scope::All, true).unwrap();
    assert_eq!((all.places.len(), listed(&all)[0]), (8, ("host", 1000)));
    let host = find_with(tree.root(), &Scope::One("host".into()), true).unwrap();
    assert_eq!((host.places[0].inode, host.places[0].own), (1000, false));
}

#[test]
fn one_is_found_by_every_form_of_name() {
    let tree = machine().in_the_initial_namespace();
    for (wanted, inode) in [
        ("host", 1000),
        ("1", 1000),
        ("31", 2000),
        ("4fa6e0f0c678", 2000),
        ("net:[3000]", 3000),
        ("resolver.service", 3000),
        ("sleep[51]", 4000),
        ("twice.service/b[61]", 5001),
    ] {
        let found = find_with(tree.root(), &Scope::One(wanted.to_owned()), true).unwrap();
        assert_eq!(found.places.iter().map(|place| place.inode).collect::<Vec<_>>(), [inode], "{wanted}");
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let tree = machine().in_the_initial_namespace().file("run/netns/stale", "");
    let refused = |wanted: &str| find_with(tree.root(), &Scope::One(wanted.to_owned()), true).unwrap_err();
    assert_eq!(refused("12345"), PlaceError::NoProcess { pid: 12345 });
    assert!(matches!(refused("stale"), PlaceError::NotANamespace { .. }));
    for wanted in ["blau", "net:[77]", "", "../etc", "99999999999"] {
        let PlaceError::Unknown { name, known } = refused(wanted) else { panic!("{wanted}") };
        assert_eq!((name.as_str(), known.len(), known[0].as_str()), (wanted, 7, "host"));
    }
    let all = find_with(tree.root(), &Scope::All, true).unwrap();
    assert_eq!(all.limits.len(), 1);
    assert!(
        all.limits[0].what.contains("stale") && all.limits[0].why.contains("ordinary"),
        "{:?}",
        all.limits
    );
}

#[test]
fn without_the_right_to_enter_the_others_are_one_limit() {
    let tree = machine().in_the_initial_namespace();
    let found = find_with(tree.root(), &Scope::All, false).unwrap();
    assert_eq!(listed(&found), [("host", 1000)]);
    assert_eq!(found.limits.len(), 1);
    assert!(found.limits[0].what.starts_with("6 network namespaces: 4fa6e0f0c678, "), "{:?}", found.limits);
    assert!(
        find_with(tree.root(), &Scope::One("resolver.service".into()), false).unwrap_err().is_permission()
    );
    assert_eq!(find_with(tree.root(), &Scope::One("99".into()), false).unwrap().places[0].name, "host");
}

#[test]
fn in_a_container_the_host_cannot_be_named() {
    let tree = machine().in_another_namespace();
    std::fs::remove_file(tree.root().join("proc/99/ns/pid")).unwrap();
    let tree = tree.link("proc/99/ns/pid", "pid:[4026532900]");
    assert_eq!(find_with(tree.root(), &Scope::One("host".into()), true), Err(PlaceError::HostHidden));
    let own = find_with(tree.root(), &Scope::Auto, true).unwrap();
    assert_eq!((listed(&own), own.limits.len()), (vec![("systemd[1]", 1000)], 0));
    let all = find_with(tree.root(), &Scope::All, true).unwrap();
    assert!(all.limits[0].why.contains("process namespace of its own"), "{:?}", all.limits);
}

#[test]
fn without_proc_the_own_namespace_is_still_a_place() {
    let tree = Tree::new().file("run/netns/stale", "");
    let found = find_with(tree.root(), &Scope::Auto, true).unwrap();
    assert_eq!(listed(&found), [("own", 0)]);
    assert!(found.places[0].own);
    assert_eq!(found.limits.len(), 2);
    assert_eq!(found.limits[1].remedy.as_deref(), Some("mount /proc"));
    assert_eq!(found.places[0].enter(|| 7), Ok(7));
}

#[test]
fn processes_with_many_open_files_are_counted_where_the_kernel_does_not_tell() {
    let status = |room: u32| format!("Name:\tx\nFDSize:\t{room}\n");
    let mut tree = machine().file("proc/30/status", &status(256)).file("proc/31/status", &status(64));
    // Process 40 has as many, but no room for them: a table that is small is not looked through.
    tree = tree.file("proc/40/status", &status(128));
    for number in 0..250 {
        tree = tree.link(&format!("proc/30/fd/{number}"), "/dev/null");
        tree = tree.link(&format!("proc/40/fd/{number}"), "/dev/null");
    }
    let found = find_with(tree.root(), &Scope::All, true).unwrap();
    assert_eq!(found.busy, [Busy { pid: 30, namespace: Some(2000), descriptors: 250 }]);
    assert_eq!(found.uncounted, 0);
}

#[test]
fn a_proc_that_hides_processes_is_a_limit() {
    let tree = Tree::new().tidewait(99, 1000).in_the_initial_namespace();
    let found = find_with(tree.root(), &Scope::All, true).unwrap();
    assert_eq!(listed(&found), [("host", 1000)]);
    assert!(found.limits[0].why.contains("hidepid"), "{:?}", found.limits);
}
