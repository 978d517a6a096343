//! The pass over recorded trees, and the choice of a leader.

use std::collections::HashSet;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc")).unwrap();
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/passwd"), "web:x:33:33::/:\n").unwrap();
    root
}

fn sockets<const N: usize>(inodes: [u32; N]) -> Search {
    Search { wanted: inodes.into(), ..Search::default() }
}

fn add(root: &Path, pid: u32, command: &str, descriptors: &[&str]) {
    let process = root.join(format!("proc/{pid}"));
    std::fs::create_dir_all(process.join("fd")).unwrap();
    std::fs::write(process.join("comm"), format!("{command}\n")).unwrap();
    std::fs::write(process.join("status"), "Name:\tx\nUid:\t0\t33\t0\t0\n").unwrap();
    std::fs::write(process.join("cgroup"), "0::/system.slice/web.service\n").unwrap();
    for (number, target) in descriptors.iter().enumerate() {
        symlink(target, process.join(format!("fd/{number}"))).unwrap();
    }
}

fn told(holders: &Holders, inode: u32) -> Option<(u32, u32)> {
    holders.holder(inode).map(|(process, held)| (process.pid, held.sharers))
}

#[test]
fn each_socket_finds_the_process_that_leads_it() {
    let root = root();
    add(root.path(), 1, "systemd", &["socket:[70]", "socket:[80]"]);
    add(root.path(), 20, "nginx", &["/dev/null", "socket:[80]", "socket:[80]", "pipe:[81]"]);
    add(root.path(), 9, "nginx", &["socket:[80]", "socket:[90]", "anon_inode:[eventpoll]"]);
    add(root.path(), 21, "helper", &["socket:[90]"]);
    add(root.path(), 22, "helper", &["socket:[90]"]);
    let found = holders(root.path(), &sockets([70, 80, 90, 99]));
    assert_eq!(told(&found, 70), Some((1, 1)), "its only holder");
    assert_eq!(
        told(&found, 80),
        Some((9, 2)),
        "two of nginx, the lower number, a descriptor twice counts once"
    );
    assert_eq!(told(&found, 90), Some((9, 1)), "the parent of the helpers");
    assert_eq!(told(&found, 99), None);
    assert_eq!((found.found(), found.descriptors, found.limits.len()), (3, 11, 0));
    let expected = Process {
        pid: 9,
        command: "nginx".to_owned(),
        user: Some("web".to_owned()),
        unit: Some("web.service".to_owned()),
        container: None,
    };
    assert_eq!(found.processes[1], expected);
    assert_eq!(found.timing().items, 11);
}

#[test]
fn process_one_keeps_what_it_hands_to_a_service_and_does_not_own_it() {
    let root = root();
    add(root.path(), 1, "systemd", &["socket:[80]"]);
    add(root.path(), 300, "sshd", &["socket:[80]"]);
    assert_eq!(told(&holders(root.path(), &sockets([80])), 80), Some((300, 1)));
}

#[test]
fn a_process_that_ends_during_the_pass_is_no_error() {
    let root = root();
    add(root.path(), 5, "gone", &["socket:[80]"]);
    std::fs::remove_file(root.path().join("proc/5/comm")).unwrap();
    std::fs::create_dir_all(root.path().join("proc/6")).unwrap();
    add(root.path(), 7, "here", &["socket:[80]"]);
    let found = holders(root.path(), &sockets([80]));
    assert_eq!(told(&found, 80), Some((7, 1)));
    assert_eq!((found.processes.len(), found.limits.len()), (1, 0));
}

#[test]
fn no_proc_is_a_limit_and_no_question_costs_nothing() {
    let empty = tempfile::tempdir().unwrap();
    let found = holders(empty.path(), &sockets([80]));
    assert_eq!(found.limits[0].remedy.as_deref(), Some("mount /proc"));
    let found = holders(empty.path(), &Search::default());
    assert_eq!((found.limits.len(), found.descriptors), (0, 0));
}

proptest! {
    #[test]
    fn every_socket_that_is_held_gets_one_of_its_holders(pairs in prop::collection::vec((0_u32..20, 0_u32..6), 0..60)) {
        let command = |index: u32| if index < 3 { "a" } else { "b" };
        let processes: Vec<Process> = (0..6)
            .map(|index| Process { pid: index + 1, command: command(index).to_owned(), ..Process::default() })
            .collect();
        let held = by_inode(pairs.clone(), &processes);
        let sockets: HashSet<u32> = pairs.iter().map(|pair| pair.0).collect();
        prop_assert_eq!(held.keys().copied().collect::<HashSet<_>>(), sockets);
        for (socket, held) in held {
            prop_assert!(pairs.contains(&(socket, held.leader)));
            let same: HashSet<_> = pairs
                .iter()
                .filter(|pair| pair.0 == socket && command(pair.1) == command(held.leader))
                .collect();
            prop_assert_eq!(usize::try_from(held.sharers).unwrap(), same.len());
        }
    }
}
