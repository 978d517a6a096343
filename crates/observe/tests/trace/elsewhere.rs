//! Changes of state while other programs ran, by the kernel's own trace.
//!
//! There are machines whose kernel runs no BPF program in some tasks: the agent of a sandbox is hidden so. A packet or a timer
//! that interrupts such a task changes the state of a socket unseen, and the kernel does not count that as left out either.
//! So a test whose connections are not only worked on by itself may miss as many as there were elsewhere, and not one more.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use tidewait_lab::scaled;

/// A trace of its own in the kernel, which other users of the kernel's trace do not notice.
pub struct Elsewhere {
    instances: OwnedFd,
    name: String,
}

impl Elsewhere {
    /// From now on, at these ports; `None` where the kernel does not let its trace be used, and where it is emulated, and then
    /// nothing may be missed.
    ///
    /// Threads of this process are told by their names: all of those that will change states must be running by then, or
    /// be named here.
    pub fn begin(ports: RangeInclusive<u16>, names: &[&str]) -> Option<Elsewhere> {
        if scaled(100) < 100 {
            // No task is hidden there, and a kernel that changes its own code for a trace may fall over it.
            return None;
        }
        let fs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
        fsconfig_create(&fs).ok()?;
        // Mounted nowhere: it goes with the descriptor.
        let root = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).ok()?;
        let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let instances = openat(&root, "instances", directory, Mode::empty()).ok()?;
        let (first, last) = ports.into_inner();
        let name = format!("tidewait-{}-{first}", std::process::id());
        mkdirat(&instances, &name, Mode::RWXU).ok()?;
        let trace = Elsewhere { instances, name };
        // The kernel's own tasks are not hidden.
        let mut filter = format!(
            "((sport >= {first} && sport <= {last}) || (dport >= {first} && dport <= {last})) && \
             !(comm ~ \"swapper/*\") && !(comm ~ \"ksoftirqd/*\")"
        );
        let own = fs::read_dir("/proc/self/task").unwrap();
        let own = own.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        for name in own.chain(names.iter().map(|name| (*name).to_owned())) {
            write!(filter, " && comm != \"{}\"", name.trim_end()).unwrap();
        }
        trace.write("events/sock/inet_sock_set_state/filter", &filter).unwrap();
        trace.write("events/sock/inet_sock_set_state/enable", "1").unwrap();
        Some(trace)
    }

    /// How many changes there were until now at a port, of either side.
    pub fn changes(&self, port: u16) -> u64 {
        let mut text = String::new();
        let path = format!("{}/trace", self.name);
        let file = openat(&self.instances, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        let at = [format!("sport={port} "), format!("dport={port} ")];
        text.lines().filter(|line| at.iter().any(|at| line.contains(at))).count() as u64
    }

    fn write(&self, file: &str, value: &str) -> rustix::io::Result<()> {
        let path = format!("{}/{file}", self.name);
        let file = openat(&self.instances, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, value.as_bytes()).map(drop)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.write("events/sock/inet_sock_set_state/enable", "0").ok();
        unlinkat(&self.instances, &self.name, AtFlags::REMOVEDIR).ok();
    }
}
