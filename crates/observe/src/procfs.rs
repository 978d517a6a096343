//! Text files of /proc: settings, counters, cgroups, users.
//!
//! Every reader takes the root of the file system (`/`, or a directory with a recorded `proc` in tests). What is
//! per network namespace is answered for the namespace of the *calling thread*: /proc/sys/net and
//! /proc/thread-self/net follow the reader, so call those inside [`crate::places::Place::enter`].

mod cgroup;
mod counters;
mod file;
mod privilege;
mod process;
mod settings;
mod steered;
mod udp;
mod used;
mod users;

pub use cgroup::{Membership, cgroup_of};
pub use counters::counters;
pub use process::Process;
pub use settings::{open_files, settings, some_settings};
pub use steered::steered;
pub use udp::udp_ports;
pub use users::Users;

pub(crate) use file::link_inode;
pub(crate) use privilege::{holds, why_denied};
pub(crate) use process::{Proc, Readable, printable};
pub(crate) use used::unaccounted;

use tidewait_model::report::Host;

/// The machine.
pub fn host() -> Host {
    Host { hostname: hostname(), kernel: kernel_release() }
}

/// Its host name, as `uname -n` gives it.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The kernel's release, as `uname -r` gives it.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The boot, which the kernel calls by another random name each time it starts; empty where /proc does not tell.
pub fn boot_id(root: &std::path::Path) -> String {
    let text = std::fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    text.trim().to_owned()
}
