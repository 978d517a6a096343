//! The file on real file systems: as it should be, edited, in other hands, on full and read-only disks, in hostile images.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;
use tidewait_model::catalogue::SETTINGS;

use super::directory::{Resolver, open_with};
use super::*;

const RANGE: &str = "net.ipv4.ip_local_port_range";
const REUSE: &str = "net.ipv4.tcp_tw_reuse";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

fn kept(plan: &str, settings: &[(&str, &str)]) -> Kept {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Kept { plan: plan.to_owned(), at: "2026-01-31T12:00:00Z".to_owned(), settings }
}

/// A root with an empty /etc.
fn root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    root
}

fn file(root: &Path) -> PathBuf {
    root.join("etc/sysctl.d/80-tidewait.conf")
}

/// The names in /etc/sysctl.d.
fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("etc/sysctl.d")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn write(root: &Path, kept: &Kept) -> Result<Written, PersistError> {
    persist(root, kept, Edited::Refuse)
}

#[test]
fn what_is_kept_is_read_again_and_taken_out_again() {
    let root = root();
    let root = root.path();
    assert_eq!(read(root).unwrap(), None);
    let first = kept("p1", &[(RANGE, "10240\t 65535"), (REUSE, "1"), (RESERVED, "")]);
    let written = write(root, &first).unwrap();
    assert!(written.directory_made && written.replaced.is_empty() && written.path == file(root));
    let text = fs::read_to_string(file(root)).unwrap();
    let body = "\n# plan p1 of 2026-01-31T12:00:00Z\nnet.ipv4.ip_local_port_range = 10240 65535\nnet.ipv4.tcp_tw_reuse = 1\n\
                net.ipv4.ip_local_reserved_ports = \n";
    assert!(text.ends_with(body), "{text}");
    assert_eq!(fs::metadata(file(root)).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::metadata(root.join("etc/sysctl.d")).unwrap().permissions().mode() & 0o7777, 0o755);

    let written = write(root, &kept("p2", &[(REUSE, "2")])).unwrap();
    assert_eq!(written.replaced, [(REUSE.to_owned(), kept("p1", &[(REUSE, "1")]))]);
    let now = read(root).unwrap().unwrap();
    let blocks = [kept("p1", &[(RANGE, "10240 65535"), (RESERVED, "")]), kept("p2", &[(REUSE, "2")])];
    assert_eq!((now.blocks.as_slice(), now.edited), (blocks.as_slice(), false));

    let removed =
        unpersist(root, Which::Settings(&[RESERVED, "net.core.somaxconn"]), Edited::Refuse).unwrap();
    assert_eq!(removed.removed, [kept("p1", &[(RESERVED, "")])]);
    let removed = unpersist(root, Which::Plan("p1"), Edited::Refuse).unwrap();
    assert!(!removed.file_removed);
    assert_eq!(read(root).unwrap().unwrap().settings(), [(REUSE.to_owned(), "2".to_owned())]);
    assert_eq!(unpersist(root, Which::Plan("p1"), Edited::Refuse).unwrap().removed, []);
    let removed = unpersist(root, Which::All, Edited::Refuse).unwrap();
    assert!(removed.file_removed && removed.removed == [kept("p2", &[(REUSE, "2")])]);
    assert_eq!(names(root), Vec::<String>::new());
    let removed = unpersist(root, Which::All, Edited::Refuse).unwrap();
    assert!(!removed.file_removed && removed.removed.is_empty());
}

#[test]
fn a_block_of_the_same_plan_is_extended_and_one_without_settings_goes() {
    let root = root();
    let root = root.path();
    write(root, &kept("p1", &[(REUSE, "1")])).unwrap();
    write(root, &kept("p2", &[(REUSE, "2")])).unwrap();
    let written = write(root, &kept("p2", &[(RANGE, "10240 65535"), (REUSE, "0"), (REUSE, "1")])).unwrap();
    assert_eq!(written.replaced, [(REUSE.to_owned(), kept("p2", &[(REUSE, "2")]))]);
    let now = read(root).unwrap().unwrap();
    assert_eq!(now.blocks, [kept("p2", &[(RANGE, "10240 65535"), (REUSE, "1")])]);
}

#[test]
fn an_edited_file_is_left_alone_until_it_is_taken_over() {
    let root = root();
    let root = root.path();
    write(root, &kept("p1", &[(REUSE, "1")])).unwrap();
    let mut text = fs::read_to_string(file(root)).unwrap();
    text.push_str("# my own\nvm.swappiness=10\nnet.ipv4.tcp_tw_reuse = 2\nnet.ipv4.tcp_fin_timeout = 30\n");
    fs::write(file(root), &text).unwrap();
    let error = write(root, &kept("p2", &[(RANGE, "10240 65535")])).unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(error, PersistError::Edited { .. }) && told.contains("80-tidewait.conf was edited by hand"),
        "{told}"
    );
    let error = unpersist(root, Which::All, Edited::Refuse).unwrap_err();
    assert!(matches!(error, PersistError::Edited { .. }));
    assert_eq!(fs::read_to_string(file(root)).unwrap(), text);
    let seen = read(root).unwrap().unwrap();
    assert!(seen.edited && seen.not_understood == ["# my own", "vm.swappiness=10"]);

    let written = persist(root, &kept("p2", &[(RANGE, "10240 65535")]), Edited::Take).unwrap();
    assert_eq!(written.dropped, ["# my own", "vm.swappiness=10"]);
    let now = read(root).unwrap().unwrap();
    let taken = kept("p1", &[(REUSE, "2"), ("net.ipv4.tcp_fin_timeout", "30")]);
    assert_eq!(now.blocks, [taken, kept("p2", &[(RANGE, "10240 65535")])]);
    assert!(!now.edited);

    // Where nothing can be taken over, the file goes.
    let header = fs::read_to_string(file(root)).unwrap();
    fs::write(file(root), format!("{}\nnonsense\n", header.lines().next().unwrap())).unwrap();
    let removed = unpersist(root, Which::Plan("x"), Edited::Take).unwrap();
    assert!(removed.file_removed && removed.dropped == ["nonsense"]);
}

#[test]
fn the_header_of_another_version_is_no_edit() {
    let text = render(&[kept("p1", &[(REUSE, "1")])]);
    let (first, rest) = text.split_once('\n').unwrap();
    let (header, sum_and_rest) = rest.split_once("# sha256").unwrap();
    let rest = sum_and_rest.split_once('\n').unwrap().1;
    assert!(header.starts_with('#'));
    let before = format!("{first}\n# Other words.\n");
    let sum = file::checksum(&before, rest);
    let parsed =
        PersistedFile::parse(&format!("{before}# sha256 of the other lines: {sum}\n{rest}")).unwrap();
    assert_eq!((parsed.blocks.len(), parsed.edited, parsed.not_understood.len()), (1, false, 0));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let root = root();
    let root = root.path();
    fs::create_dir(root.join("etc/sysctl.d")).unwrap();
    let new = kept("p1", &[(REUSE, "1")]);
    for text in ["", "net.ipv4.tcp_tw_reuse = 0\n", "# Kept\n"] {
        fs::write(file(root), text).unwrap();
        for force in [Edited::Refuse, Edited::Take] {
            assert!(matches!(persist(root, &new, force), Err(PersistError::Foreign { .. })));
            assert!(matches!(unpersist(root, Which::All, force), Err(PersistError::Foreign { .. })));
        }
        assert!(matches!(read(root), Err(PersistError::Foreign { .. })));
        assert_eq!(fs::read_to_string(file(root)).unwrap(), text);
    }
    fs::remove_file(file(root)).unwrap();
    fs::write(root.join("outside"), render(&[])).unwrap();
    symlink("../../outside", file(root)).unwrap();
    let refused = |kind: &str| {
        for error in [write(root, &new).unwrap_err(), unpersist(root, Which::All, Edited::Take).unwrap_err()]
        {
            let told = error.to_string();
            assert!(matches!(error, PersistError::NotAFile { .. }) && told.contains(kind), "{told}");
        }
    };
    refused("a symbolic link");
    fs::remove_file(file(root)).unwrap();
    fs::create_dir(file(root)).unwrap();
    refused("a directory");
    fs::remove_dir(file(root)).unwrap();
    let pipe = Command::new("mkfifo").arg(file(root)).status();
    if pipe.is_ok_and(|status| status.success()) {
        refused("a pipe");
    }
}

#[test]
fn what_should_not_be_kept_is_refused_before_anything_is_touched() {
    let root = root();
    let root = root.path();
    let refusal = |kept: &Kept| write(root, kept).unwrap_err().to_string();
    let reuse = [(REUSE, "1")];
    assert!(refusal(&kept("a b", &reuse)).contains("\"a b\""));
    assert!(refusal(&kept("", &reuse)).contains("plan id"));
    assert!(refusal(&Kept { at: "yesterday".to_owned(), ..kept("p", &reuse) }).contains("RFC 3339"));
    assert!(refusal(&kept("p", &[])).contains("no settings"));
    assert!(refusal(&kept("p", &[("vm.swappiness", "1")])).contains("vm.swappiness"));
    assert!(refusal(&kept("p", &[(REUSE, "1\nkernel.sysrq = 1")])).contains("tcp_tw_reuse"));
    assert!(refusal(&kept("p", &[(RANGE, "5 4")])).contains("ip_local_port_range"));
    assert!(!root.join("etc/sysctl.d").exists());
    fs::remove_dir(root.join("etc")).unwrap();
    let told = refusal(&kept("p", &reuse));
    assert!(told.contains("is no directory: is") && told.contains("the root of a system?"), "{told}");
    assert_eq!(unpersist(root, Which::All, Edited::Refuse).unwrap().removed, []);
    let nowhere = root.join("nowhere");
    assert!(matches!(write(&nowhere, &kept("p", &reuse)), Err(PersistError::NoDirectory { .. })));
}

#[test]
fn a_temporary_file_of_a_killed_run_goes_and_others_stay() {
    let root = root();
    let root = root.path();
    let directory = root.join("etc/sysctl.d");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join(".80-tidewait.conf.4711"), "half").unwrap();
    fs::write(directory.join("80-tidewait.conf.dpkg-old"), "x").unwrap();
    fs::create_dir(directory.join(".80-tidewait.conf.d")).unwrap();
    write(root, &kept("p1", &[(REUSE, "1")])).unwrap();
    assert_eq!(names(root), [".80-tidewait.conf.d", "80-tidewait.conf", "80-tidewait.conf.dpkg-old"]);
}

#[test]
fn links_of_an_image_stay_in_the_image() {
    let outside = root();
    let image = root();
    let (outside, image) = (outside.path(), image.path());
    fs::create_dir(outside.join("etc/sysctl.d")).unwrap();
    // An absolute link means a place of the image, as it does once the image runs.
    symlink(outside.join("etc/sysctl.d"), image.join("etc/sysctl.d")).unwrap();
    let new = kept("p1", &[(REUSE, "1")]);
    assert!(matches!(write(image, &new), Err(PersistError::NoDirectory { .. })));
    assert_eq!(read(image).unwrap(), None);
    fs::remove_file(image.join("etc/sysctl.d")).unwrap();
    symlink("../../../../../../../../../../data", image.join("etc/sysctl.d")).unwrap();
    fs::create_dir(image.join("data")).unwrap();
    write(image, &new).unwrap();
    assert!(image.join("data/80-tidewait.conf").exists());
    assert_eq!(names(outside), Vec::<String>::new());

    // Without openat2 a link is refused, and a directory is found.
    let error = open_with(image, &["etc", "sysctl.d"], Resolver::NoLinks).unwrap_err();
    assert!(matches!(error, PersistError::LinkInImage { .. }), "{error}");
    assert!(open_with(image, &["etc"], Resolver::NoLinks).unwrap().0.is_some());
    assert!(open_with(image, &["data", "x"], Resolver::NoLinks).unwrap().0.is_none());
    assert!(open_with(image, &["data"], Resolver::Plain).unwrap().0.is_some());
    let error = open_with(image, &["data", "80-tidewait.conf"], Resolver::NoLinks).unwrap_err();
    assert!(matches!(error, PersistError::NoDirectory { .. }), "{error}");
}

#[test]
fn two_runs_at_once_lose_nothing() {
    let root = root();
    let root = root.path();
    let settings =
        [REUSE, "net.ipv4.tcp_syncookies", "net.ipv4.tcp_rfc1337", "net.ipv4.tcp_abort_on_overflow"];
    std::thread::scope(|scope| {
        for name in settings {
            scope.spawn(move || write(root, &kept(name, &[(name, "1")])).unwrap());
        }
    });
    assert_eq!(read(root).unwrap().unwrap().blocks.len(), settings.len());
    let directory = File::open(root.join("etc/sysctl.d")).unwrap();
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = write(root, &kept("p", &[(REUSE, "2")])).unwrap_err();
    assert!(matches!(error, PersistError::Busy { .. }), "{error}");
}

/// The directory of the test, if this is the test in the mount and network namespace made for it; else runs it there. `setup` is for a shell, with the
/// directory in `$D`.
fn inside(test: &str, setup: &str) -> Option<PathBuf> {
    const INSIDE: &str = "TIDEWAIT_ACT_TEST_DIRECTORY";
    if let Some(directory) = std::env::var_os(INSIDE) {
        return Some(PathBuf::from(directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let script =
        format!("set -e; D=$1; {setup}; shift; exec \"$0\" --exact \"$@\" --nocapture --test-threads 1");
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--map-root-user", "--propagation", "private", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(directory.path())
        .arg(format!("persist::tests::{test}"))
        .env(INSIDE, directory.path())
        .output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output) => skip(test, &String::from_utf8_lossy(&output.stderr)),
        Err(error) => skip(test, &format!("unshare: {error}")),
    }
    None
}

fn skip(test: &str, reason: &str) {
    // Not eprintln: the harness would hide it in a test that passes.
    let _ =
        writeln!(std::io::stderr(), "SKIPPED {test}: {}", reason.trim().lines().next().unwrap_or_default());
}

/// Before and after a failure: the file's text and the names beside it.
fn unchanged(root: &Path, attempt: impl Fn() -> PersistError) -> PersistError {
    let before = (fs::read_to_string(file(root)).unwrap(), names(root));
    let error = attempt();
    assert_eq!((fs::read_to_string(file(root)).unwrap(), names(root)), before);
    error
}

#[test]
fn a_full_disk_changes_nothing() {
    let setup = "mount -t tmpfs -o size=64k none \"$D\"; mkdir \"$D/etc\"";
    let Some(root) = inside("a_full_disk_changes_nothing", setup) else { return };
    write(&root, &kept("p1", &[(REUSE, "1")])).unwrap();
    let mut filler = File::create(root.join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    let error = unchanged(&root, || write(&root, &kept("p2", &[(RANGE, "10240 65535")])).unwrap_err());
    let told = error.to_string();
    assert!(told.contains("write") && told.contains("Free some space"), "{told}");
    // Taking the only block out needs no space.
    assert!(unpersist(&root, Which::All, Edited::Refuse).unwrap().file_removed);
}

#[test]
fn a_disk_without_inodes_changes_nothing() {
    let setup = "mount -t tmpfs -o nr_inodes=6 none \"$D\"; mkdir \"$D/etc\"";
    let Some(root) = inside("a_disk_without_inodes_changes_nothing", setup) else { return };
    write(&root, &kept("p1", &[(REUSE, "1")])).unwrap();
    for number in 0..10 {
        let _ = File::create(root.join(number.to_string()));
    }
    let error = unchanged(&root, || write(&root, &kept("p2", &[(RANGE, "10240 65535")])).unwrap_err());
    assert!(error.to_string().contains("create"), "{error}");
}

#[test]
fn a_read_only_disk_changes_nothing() {
    let setup = "mount -t tmpfs none \"$D\"; mkdir \"$D/etc\"";
    let Some(root) = inside("a_read_only_disk_changes_nothing", setup) else { return };
    write(&root, &kept("p1", &[(REUSE, "1")])).unwrap();
    let remounted = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&root).status().unwrap();
    assert!(remounted.success());
    for error in [
        unchanged(&root, || write(&root, &kept("p2", &[(RANGE, "10240 65535")])).unwrap_err()),
        unchanged(&root, || unpersist(&root, Which::All, Edited::Refuse).unwrap_err()),
    ] {
        assert!(error.to_string().contains("mounted read-only"), "{error}");
    }
    assert!(read(&root).unwrap().is_some());
}

#[test]
fn programs_read_what_is_kept_as_it_is_meant() {
    const TEST: &str = "programs_read_what_is_kept_as_it_is_meant";
    // Nothing of the machine's own files is left.
    let setup = "mkdir \"$D/etc\"; for f in ld.so.cache passwd nsswitch.conf; do
        if [ -e \"/etc/$f\" ]; then cp \"/etc/$f\" \"$D/etc/\"; fi; done
        mount --bind \"$D/etc\" /etc; mount -t tmpfs none /run
        for d in /usr/local/lib /usr/lib/sysctl.d /lib/sysctl.d; do
        if [ -d \"$d\" ]; then mount -t tmpfs none \"$d\"; fi; done";
    if inside(TEST, setup).is_none() {
        return;
    }
    let settings = [
        (RANGE, "10240 65535"),
        (REUSE, "0"),
        (RESERVED, "8080,9000-9009"),
        ("net.ipv4.tcp_syncookies", "1"),
    ];
    write(Path::new("/"), &kept("p1", &settings)).unwrap();
    write(Path::new("/"), &kept("p2", &[(REUSE, "1"), (RESERVED, "")])).unwrap();
    let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let programs: [(&[&str], &str); 4] = [
        (&["/usr/lib/systemd/systemd-sysctl"], ""),
        (&["/lib/systemd/systemd-sysctl"], ""),
        (&["sysctl", "--system"], ""),
        // busybox leaves an empty value as it was.
        (&["busybox", "sysctl", "-p", FILE], "7777"),
    ];
    let mut ran = 0;
    for (program, reserved) in programs {
        for (name, before) in [(RANGE, "32768 60999"), (REUSE, "2"), (RESERVED, "7777")] {
            fs::write(path(name), format!("{before}\n")).unwrap();
        }
        match Command::new(program[0]).args(&program[1..]).output() {
            Ok(output) if output.status.success() => {}
            _ => continue,
        }
        ran += 1;
        let now =
            [RANGE, REUSE, RESERVED].map(|name| fs::read_to_string(path(name)).unwrap().trim().to_owned());
        assert_eq!(now, ["10240\t65535", "1", reserved], "{program:?}");
    }
    if ran == 0 {
        skip(TEST, "neither systemd-sysctl nor a sysctl is installed");
    }
}

#[test]
fn without_the_right_to_write_nothing_changes() {
    const TEST: &str = "without_the_right_to_write_nothing_changes";
    const DIRECTORY: &str = "TIDEWAIT_ACT_TEST_AS_NOBODY";
    if let Some(root) = std::env::var_os(DIRECTORY) {
        let root = Path::new(&root);
        for error in [
            unchanged(root, || write(root, &kept("p2", &[(REUSE, "2")])).unwrap_err()),
            unchanged(root, || unpersist(root, Which::All, Edited::Refuse).unwrap_err()),
        ] {
            assert!(error.to_string().contains("Run it as root"), "{error}");
        }
        return;
    }
    let root = root();
    let root = root.path();
    write(root, &kept("p1", &[(REUSE, "1")])).unwrap();
    fs::set_permissions(root, PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("etc/sysctl.d"), PermissionsExt::from_mode(0o555)).unwrap();
    let probe = root.join("etc/sysctl.d/probe");
    let privileged = File::create(&probe).is_ok() && fs::remove_file(&probe).is_ok();
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(if privileged { "setpriv".into() } else { program.clone() });
    if privileged {
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    }
    command.args(["--exact", &format!("persist::tests::{TEST}"), "--nocapture"]).env(DIRECTORY, root);
    match command.output() {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output) => skip(TEST, &String::from_utf8_lossy(&output.stderr)),
        Err(error) => skip(TEST, &format!("setpriv: {error}")),
    }
    fs::set_permissions(root.join("etc/sysctl.d"), PermissionsExt::from_mode(0o755)).unwrap();
}

fn any_blocks() -> impl Strategy<Value = Vec<Kept>> {
    let setting = (0..SETTINGS.len(), "[0-9]{1,5}( [0-9]{1,5}){0,2}|");
    let block = ("[!-~]{1,20}", prop::collection::vec(setting, 1..5)).prop_map(|(plan, settings)| {
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(row, value)| (SETTINGS[*row].name, value.as_str())).collect();
        kept(&plan, &settings)
    });
    prop::collection::vec(block, 0..4)
}

proptest! {
    #[test]
    fn the_text_holds_what_was_put_in_and_tells_an_edit(blocks in any_blocks(), at in any::<prop::sample::Index>()) {
        let text = render(&blocks);
        let parsed = PersistedFile::parse(&text).unwrap();
        prop_assert_eq!(&parsed.blocks, &blocks);
        prop_assert!(!parsed.edited && parsed.not_understood.is_empty());
        let mut edited = text.into_bytes();
        let at = at.index(edited.len());
        edited[at] ^= 1;
        if let Ok(edited) = String::from_utf8(edited) {
            prop_assert!(PersistedFile::parse(&edited).is_none_or(|file| file.edited));
        }
    }

    #[test]
    fn any_text_is_no_trouble(text in "\\PC{0,60}", lines in prop::collection::vec("\\PC{0,40}", 0..6)) {
        let _ = PersistedFile::parse(&text);
        let whole = format!("{}\n{}", render(&[kept("p", &[(REUSE, "1")])]), lines.join("\n"));
        prop_assert!(PersistedFile::parse(&whole).unwrap().edited);
    }
}
