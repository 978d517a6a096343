//! The process that `--pid` names: whether it is one, and when it has ended.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;

use crate::exit::Usage;

/// The inode of the first process namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h): the kernel tells its numbers.
const FIRST_PROCESS_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A process, even after its number is another's.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// `None` where it cannot be had, in a sandbox; the end is not noticed then.
    handle: Option<OwnedFd>,
}

impl Process {
    /// The process with this number.
    ///
    /// # Errors
    /// [`Usage`] where there is none, where it is a thread, and where numbers are not those that the kernel tells.
    pub fn open(pid: u32) -> Result<Process, Usage> {
        if std::fs::metadata("/proc/self/ns/pid").is_ok_and(|found| found.ino() != FIRST_PROCESS_NAMESPACE) {
            return Err(Usage(format!(
                "--pid {pid}: the kernel tells processes by their numbers on the host, and tidewait runs in a process namespace of its own; run \
                 it on the host, or choose otherwise"
            )));
        }
        let absent =
            || Usage(format!("--pid {pid}: there is no such process; `ps` shows those that there are"));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(|_| absent())?;
        let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:")).map(str::trim);
        match leader.and_then(|leader| leader.parse::<u32>().ok()) {
            Some(leader) if leader != pid => {
                return Err(Usage(format!(
                    "--pid {pid} is a thread of process {leader}: give --pid {leader}"
                )));
            }
            _ => {}
        }
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let handle = match number.map(|number| pidfd_open(number, PidfdFlags::empty())) {
            Some(Err(Errno::SRCH)) => return Err(absent()),
            Some(handle) => handle.ok(),
            None => None,
        };
        Ok(Process { pid, handle })
    }

    /// Whether it has ended, all threads of it.
    pub fn has_ended(&self) -> bool {
        self.handle.as_ref().is_some_and(|handle| {
            let mut fds = [PollFd::new(handle, PollFlags::IN)];
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().contains(PollFlags::IN)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_to_have_ended_before_anybody_waits_for_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id());
        // In a process namespace of its own the number is refused.
        if let Ok(process) = &process {
            assert!(!process.has_ended());
        }
        child.kill().unwrap();
        if let Ok(process) = &process {
            for _ in 0..500 {
                if process.has_ended() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            assert!(process.has_ended());
        }
        child.wait().unwrap();
        assert!(Process::open(child.id()).is_err());
    }
}
