//! Places where nothing can be changed, or nothing written down: read-only /proc/sys, a full disk, no privileges.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use crate::bench::{Bench, TIDEWAIT, said};

/// Runs a script in mounts of its own, with the binary as $0 and the state directory as $1.
fn in_own_mounts(bench: &Bench, script: &str) -> Output {
    let mut command = bench.netns.command("unshare");
    command.args(["--mount", "sh", "-c", script, TIDEWAIT]).arg(bench.state.path());
    command.env("TIDEWAIT_STATE", bench.state.path()).output().unwrap()
}

const APPLY: &str =
    "\"$0\" tune apply -s 'net.ipv4.ip_local_port_range=10240 60999' -s net.ipv4.tcp_tw_reuse=1";

#[test]
fn a_read_only_proc_sys_is_named_with_its_remedy() {
    let bench = Bench::new();
    let read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys";
    let refused = in_own_mounts(&bench, &format!("{read_only} && {APPLY}"));
    let words = said(&refused);
    assert_eq!(refused.status.code(), Some(77), "{words}");
    assert!(words.contains("/proc/sys is read-only here") && words.contains("--netns"), "{words}");
    assert!(bench.is_before());
    // And on the way back.
    assert!(bench.apply(&[]).output().unwrap().status.success());
    let refused = in_own_mounts(&bench, &format!("{read_only} && \"$0\" tune rollback"));
    assert_eq!(refused.status.code(), Some(77), "{}", said(&refused));
    assert!(bench.is_wanted());
}

#[test]
fn a_single_setting_that_is_read_only_keeps_all_from_being_changed() {
    let bench = Bench::new();
    let path = "/proc/sys/net/ipv4/tcp_tw_reuse";
    let script = format!("mount --bind {path} {path} && mount -o remount,bind,ro {path} && {APPLY}");
    let refused = in_own_mounts(&bench, &script);
    assert_eq!(refused.status.code(), Some(77), "{}", said(&refused));
    assert!(said(&refused).contains("net.ipv4.tcp_tw_reuse"), "{}", said(&refused));
    assert!(bench.is_before() && !bench.journal().contains("begin"));
}

#[test]
fn a_full_disk_keeps_the_change_from_being_made_and_not_from_being_undone() {
    let bench = Bench::new();
    // One page is enough for the head of the journal and for nothing after it.
    let full = "mount -t tmpfs -o size=8k none \"$1\" && head -c 4096 /dev/zero >\"$1\"/fill";
    let refused = in_own_mounts(&bench, &format!("{full} && {APPLY}"));
    let words = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("cannot be given room on the disk") && words.contains("make room"), "{words}");
    assert!(bench.is_before());
    // Room for the change, and none afterwards.
    let later = "mount -t tmpfs -o size=32k none \"$1\"";
    let fill = "head -c 99999 /dev/zero >\"$1\"/fill 2>/dev/null || :";
    let undone = in_own_mounts(&bench, &format!("{later} && {APPLY} && {{ {fill}; \"$0\" tune rollback; }}"));
    assert!(undone.status.success(), "{}", said(&undone));
    assert!(bench.is_before());
}

#[test]
fn without_privileges_it_says_which_are_missing() {
    let bench = Bench::new();
    // Not the journal shall be what it fails at.
    fs::set_permissions(bench.state.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for (args, words) in [
        ("tune apply -s net.ipv4.tcp_syn_retries=3", "CAP_NET_ADMIN"),
        ("tune plan --netns 1", "CAP_SYS_ADMIN"),
    ] {
        let mut command = bench.netns.command("setpriv");
        command.env("TIDEWAIT_STATE", bench.state.path());
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", TIDEWAIT]).args(args.split(' '));
        let refused = command.output().unwrap();
        let said = said(&refused);
        if said.contains("Permission denied") && !said.contains("tidewait:") {
            println!(
                "SKIPPED without_privileges_it_says_which_are_missing: the binary is out of nobody's reach"
            );
            return;
        }
        assert_eq!(refused.status.code(), Some(77), "{args}: {said}");
        assert!(said.contains(words), "{args}: {said}");
    }
}

#[test]
fn where_nobody_could_wait_for_a_confirmation_nothing_is_changed() {
    let bench = Bench::new();
    // The first process of a container: whatever it starts ends with it.
    let mut command = bench.netns.command("unshare");
    command.args([
        "--pid",
        "--fork",
        "--mount-proc",
        TIDEWAIT,
        "tune",
        "apply",
        "-s",
        "net.ipv4.tcp_tw_reuse=1",
    ]);
    command.args(["--confirm-within", "2s"]).env("TIDEWAIT_STATE", bench.state.path());
    let refused = command.output().unwrap();
    let words = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(
        words.contains("first process of its container") && words.contains("nothing was changed"),
        "{words}"
    );
    assert!(bench.is_before());
}
