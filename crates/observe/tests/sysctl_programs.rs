//! Who wins among sysctl files, against the programs themselves: systemd-sysctl, `sysctl --system`, and busybox as the
//! service of Alpine calls it. They run in a mount and a network namespace of their own, where they find no other files
//! than those of the test and set nobody else's values.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidewait_lab::{scaled, skip};
use tidewait_model::persist::{Reader, same_value};
use tidewait_observe::sysctl_files::boot::{at_boot_by, of_setting};

/// Set where the test runs in namespaces of its own.
const INSIDE: &str = "TIDEWAIT_SYSCTL_PROGRAMS_INSIDE";

/// Settings that a network namespace has for itself, with values that they take.
const SETTINGS: [(&str, [&str; 4]); 3] = [
    ("net.ipv4.tcp_fin_timeout", ["11", "12", "13", "14"]),
    ("net.ipv4.tcp_keepalive_time", ["21", "22", "23", "24"]),
    ("net.ipv4.ip_local_port_range", ["10240 65535", "1024\t60000", "20000 30000", "2000 \t 3001"]),
];
/// A setting that may be empty.
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
/// What they are before a program runs.
const BEFORE: [(&str, &str); 4] = [
    ("net.ipv4.tcp_fin_timeout", "60"),
    ("net.ipv4.tcp_keepalive_time", "7200"),
    ("net.ipv4.ip_local_port_range", "32768 60999"),
    (RESERVED, "7777"),
];

/// What the shell does before the test: nothing of the machine's own files is left, and the directories are there.
const SETUP: &str = r#"
set -e
mkdir -p "$D/etc" "$D/lib"
for file in ld.so.cache ld.so.conf passwd group nsswitch.conf; do
    if [ -e "/etc/$file" ]; then cp "/etc/$file" "$D/etc/"; fi
done
mount --bind "$D/etc" /etc
mount -t tmpfs none /run
mount -t tmpfs none /usr/local/lib
mount -t tmpfs none /usr/lib/sysctl.d
if [ -d /lib/sysctl.d ]; then mount -t tmpfs none /lib/sysctl.d; fi
mkdir /etc/sysctl.d /run/sysctl.d /usr/local/lib/sysctl.d
touch /run/of-the-test
"#;

/// A service like that of Alpine (aports main/openrc/sysctl.initd), in short, with busybox.
const ALPINE: &str = r#"
for f in /usr/lib/sysctl.d/*.conf; do
    if [ -f "$f" ] && ! [ -f "/etc/sysctl.d/${f##*/}" ] && ! [ -f "/run/sysctl.d/${f##*/}" ]; then busybox sysctl -p "$f"; fi
done
for f in /etc/sysctl.d/*.conf; do
    if [ -f "$f" ] && ! [ -f "/run/sysctl.d/${f##*/}" ]; then busybox sysctl -p "$f"; fi
done
if [ -f /etc/sysctl.conf ]; then busybox sysctl -p /etc/sysctl.conf; fi
for f in /run/sysctl.d/*.conf; do if [ -f "$f" ]; then busybox sysctl -p "$f"; fi; done
true
"#;
/// OpenRC's own service where sysctl is that of busybox (openrc init.d/sysctl.in), in short.
const OPENRC: &str = r##"
[ -e /etc/sysctl.conf ] || exit 0
for f in /etc/sysctl.conf /etc/sysctl.d/*.conf; do
    if [ -r "$f" ]; then
        sed 's/ = /=/' "$f" | while read var comments; do
            case "$var" in ""|"#"*) continue;; esac
            busybox sysctl -w "$var" >/dev/null
        done
    fi
done
true
"##;

/// Whether this is the test in namespaces of its own; else runs it there, or says why that cannot be.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        assert!(Path::new("/run/of-the-test").exists(), "{INSIDE} is not for the machine itself");
        return true;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = format!("D=$1; {SETUP} shift; exec \"$0\" --exact \"$@\" --nocapture --test-threads 1");
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--map-root-user", "--propagation", "private", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(directory.path())
        .arg(test)
        .env(INSIDE, "1")
        .output();
    match output {
        Ok(Output { status, stdout, stderr })
            if String::from_utf8_lossy(&stdout).contains("running 1 test") =>
        {
            let told = String::from_utf8_lossy(&stderr);
            told.lines().filter(|line| line.starts_with("SKIPPED")).for_each(|line| {
                let (name, why) =
                    line.trim_start_matches("SKIPPED ").split_once(": ").unwrap_or((test, line));
                skip(name, why);
            });
            assert!(status.success(), "{}{told}", String::from_utf8_lossy(&stdout));
        }
        Ok(output) => {
            skip(test, String::from_utf8_lossy(&output.stderr).trim().lines().next().unwrap_or_default());
        }
        Err(error) => skip(test, format_args!("unshare: {error}")),
    }
    false
}

/// The programs of this machine: the reader, and how it is called.
fn programs(test: &str) -> Vec<(Reader, Command)> {
    let mut programs = Vec::new();
    let systemd = ["/usr/lib/systemd/systemd-sysctl", "/lib/systemd/systemd-sysctl"];
    match systemd.into_iter().find(|path| Path::new(path).exists()) {
        Some(path) => programs.push((Reader::SystemdSysctl, Command::new(path))),
        None => skip(test, "systemd-sysctl is not installed"),
    }
    let version = Command::new("sysctl").arg("--version").output();
    let version =
        version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut system = Command::new("sysctl");
    system.arg("--system");
    if version.contains("procps-ng 4.") {
        programs.push((Reader::Procps, system));
    } else if version.contains("procps-ng 3.3.17") {
        programs.push((Reader::Procps3, system));
    } else {
        skip(test, "sysctl of procps is not installed");
    }
    let busybox = Command::new("busybox").args(["sysctl", "-n", "net.ipv4.tcp_fin_timeout"]).output();
    if busybox.is_ok_and(|output| output.status.success()) {
        for (reader, script) in [(Reader::OpenrcAlpine, ALPINE), (Reader::OpenrcBusybox, OPENRC)] {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]);
            programs.push((reader, shell));
        }
    } else {
        skip(test, "busybox is not installed, or has no sysctl");
    }
    programs
}

fn path(setting: &str) -> String {
    format!("/proc/sys/{}", setting.replace('.', "/"))
}

/// An entry of a directory of files.
#[derive(Clone, Debug)]
enum Entry {
    Text(String),
    Link(&'static str),
    Directory,
}

const DIRECTORIES: [&str; 4] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

fn put(file: &str, entry: &Entry) {
    match entry {
        Entry::Text(text) => fs::write(file, text).unwrap(),
        Entry::Link(to) => symlink(to, file).unwrap(),
        Entry::Directory => fs::create_dir(file).unwrap(),
    }
}

fn clear() {
    for directory in DIRECTORIES {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                fs::remove_dir(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
    }
    let _ = fs::remove_file("/etc/sysctl.conf");
}

/// Holds what each program does against what is foretold for it.
fn compare(test: &str, files: &[(String, Entry)]) {
    clear();
    files.iter().for_each(|(file, entry)| put(file, entry));
    for (reader, mut program) in programs(test) {
        for (setting, value) in BEFORE {
            fs::write(path(setting), format!("{value}\n")).unwrap();
        }
        let (boot, _) = at_boot_by(Path::new("/"), reader);
        let output = program.output().unwrap();
        for (setting, before) in BEFORE {
            let boot = of_setting(&boot, setting);
            let foretold = boot.winner().map_or(before, |winner| winner.at.value.as_str());
            let foretold = if reader == Reader::OpenrcBusybox && setting.ends_with("port_range") {
                // One number sets the lower end: what the upper one is depends on what it was.
                foretold.split_whitespace().next().unwrap()
            } else {
                foretold
            };
            let is = fs::read_to_string(path(setting)).unwrap();
            let is = if reader == Reader::OpenrcBusybox && setting.ends_with("port_range") {
                is.split_whitespace().next().unwrap()
            } else {
                is.trim_end()
            };
            assert!(
                same_value(setting, is, foretold),
                "{reader}: {setting} is {is:?}, foretold {foretold:?}\n{files:?}\n{boot:?}\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

/// Lines of files: assignments in all their forms, and what keeps wildcards off.
fn line() -> impl Strategy<Value = String> {
    let setting = (0..SETTINGS.len(), 0..4_usize);
    let form = prop_oneof![
        6 => Just("NAME = VALUE"),
        2 => Just("NAME=VALUE"),
        1 => Just("  SLASHED\t=  VALUE  "),
        1 => Just("-NAME = VALUE"),
        1 => Just("-NAME"),
        1 => Just("NAME VALUE"),
        1 => Just("# NAME = VALUE"),
        1 => Just("; NAME = VALUE"),
    ];
    let assignment = (setting, form, any::<bool>()).prop_map(|((row, value), form, wildcard)| {
        let (name, values) = SETTINGS[row];
        let name = if wildcard { format!("{}*", &name[..name.len() - 2]) } else { name.to_owned() };
        form.replace("SLASHED", &name.replace('.', "/"))
            .replace("NAME", &name)
            .replace("VALUE", values[value])
    });
    let reserved = prop_oneof![Just(""), Just(" "), Just(" 8080"), Just(" 9000-9002")];
    prop_oneof![
        6 => assignment,
        1 => reserved.prop_map(|value| format!("{RESERVED} ={value}")),
        1 => Just(String::new()),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let text = prop::collection::vec(line(), 0..4).prop_map(|lines| Entry::Text(lines.join("\n")));
    let ended = prop::collection::vec(line(), 0..4).prop_map(|lines| Entry::Text(lines.join("\n") + "\n"));
    prop_oneof![
        4 => text,
        6 => ended,
        1 => Just(Entry::Link("/dev/null")),
        1 => Just(Entry::Link("nothing-there")),
        1 => Just(Entry::Link("/etc/sysctl.conf")),
        1 => Just(Entry::Directory),
    ]
}

fn files() -> impl Strategy<Value = Vec<(String, Entry)>> {
    let names = ["10-a.conf", "50-b.conf", ".60-c.conf", "80-tidewait.conf", "99-z.conf", "a", "notes.txt"];
    let file = (0..DIRECTORIES.len(), 0..names.len())
        .prop_map(move |(directory, name)| format!("{}/{}", DIRECTORIES[directory], names[name]));
    let last = prop::option::of(prop::collection::vec(line(), 0..3));
    (prop::collection::btree_map(file, entry(), 0..7), last).prop_map(|(files, last)| {
        let last = last.map(|lines| ("/etc/sysctl.conf".to_owned(), Entry::Text(lines.join("\n") + "\n")));
        files.into_iter().chain(last).collect()
    })
}

#[test]
fn any_files_end_as_foretold() {
    const TEST: &str = "any_files_end_as_foretold";
    if !inside(TEST) {
        return;
    }
    let config = Config { cases: scaled(128) as u32, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&files(), |files| {
        compare(TEST, &files);
        Ok(())
    });
    result.unwrap();
}

/// The file that settings are kept in, as every program reads it.
#[test]
fn kept_values_are_read_as_they_are_meant() {
    const TEST: &str = "kept_values_are_read_as_they_are_meant";
    if !inside(TEST) {
        return;
    }
    let text = "# Kept\n\n# plan p of now\nnet.ipv4.ip_local_port_range = 10240 65535\nnet.ipv4.tcp_fin_timeout = 30\n\
                net.ipv4.ip_local_reserved_ports = \n";
    let file = |name: &str| (format!("/etc/sysctl.d/{name}"), Entry::Text(text.to_owned()));
    compare(TEST, &[file("80-tidewait.conf")]);
    for (reader, mut program) in programs(TEST) {
        program.output().unwrap();
        let fin = fs::read_to_string(path("net.ipv4.tcp_fin_timeout")).unwrap();
        let range = fs::read_to_string(path("net.ipv4.ip_local_port_range")).unwrap();
        if reader != Reader::OpenrcBusybox {
            assert_eq!((fin.trim(), range.trim()), ("30", "10240\t65535"), "{reader}");
        }
    }
    // What a killed run leaves is read by none.
    clear();
    compare(TEST, &[file(".80-tidewait.conf.4711")]);
    for (setting, before) in BEFORE {
        assert!(same_value(setting, fs::read_to_string(path(setting)).unwrap().trim_end(), before));
    }
}
