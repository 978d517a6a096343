//! Settings of open files: a socket that a program holds is one.

use super::accepts::span;
use super::{Accepts, COMMON, InNamespace, Meaning, Scope, Setting, always, belief, computed};
use crate::kernel::Version;

pub const FILE_MAX: Setting = Setting {
    name: "fs.file-max",
    unit: "files",
    summary: "open files on the machine",
    scope: Scope::Host,
    in_namespace: InNamespace::Shared,
    accepts: Accepts::Number { kernel: span(0, i64::MAX), sensible: span(8192, i64::MAX), gap: None },
    defaults: &[computed(
        "one for every 10 KiB of memory free at boot, 8192 at least; systemd from 240 on sets the highest value",
    )],
    affects: &[
        "How many files all processes together can have open. Beyond it open(), socket() and accept() fail with ENFILE.",
    ],
    does_not: &[belief(
        "It lifts \"Too many open files\" (EMFILE).",
        "That is the limit of the process, RLIMIT_NOFILE (ulimit -n, LimitNOFILE=). ENFILE, \"Too many open files in system\", is \
         this one.",
    )],
    risk: "Low: nothing on the machine can open a file, the shell of the rescuer included. Root is not bound by it.",
    sources: &[
        "fs/file_table.c alloc_empty_file, files_maxfiles_init (7.1)",
        "Documentation/admin-guide/sysctl/fs.rst",
        "systemd NEWS 240",
    ],
    see_also: &["fs.nr_open"],
    meaning: Meaning::Number(file_max),
    ..COMMON
};

pub const NR_OPEN: Setting = Setting {
    name: "fs.nr_open",
    unit: "files",
    summary: "open files a process may be allowed",
    scope: Scope::Host,
    in_namespace: InNamespace::Shared,
    accepts: Accepts::Number {
        kernel: span(64, 2_147_483_584),
        sensible: span(1024, 2_147_483_584),
        gap: None,
    },
    defaults: &[always("1048576")],
    affects: &[
        "How high RLIMIT_NOFILE of a process can be set; above it setrlimit() fails with EPERM, root or not.",
    ],
    does_not: &[belief(
        "Raising it lets programs open more files.",
        "It is the ceiling of the limit, not the limit. Raise LimitNOFILE= or ulimit -n of the program; most stay at 1024 or 524288.",
    )],
    trap: Some("systemd from 240 on raises it at boot, so that the compiled default is rarely seen."),
    risk: "A very high limit makes programs slow that close or clear every possible descriptor at their start.",
    sources: &[
        "fs/file.c sysctl_nr_open (7.1)",
        "Documentation/admin-guide/sysctl/fs.rst",
        "systemd NEWS 240",
    ],
    see_also: &["fs.file-max"],
    meaning: Meaning::Number(nr_open),
    ..COMMON
};

fn file_max(files: i64, _: Version) -> String {
    match files {
        i64::MAX => {
            "open files of the whole machine are not limited, each process by its own limit alone".to_owned()
        }
        files => format!("all processes together can have {files} files open"),
    }
}

fn nr_open(files: i64, _: Version) -> String {
    format!(
        "no process can be allowed more than {files} open files; its own limit (ulimit -n) is mostly far lower"
    )
}
