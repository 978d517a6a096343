//! BPF programs of others at the hooks of a control group: whether they would go on beside one that comes, or be replaced.
#![expect(unsafe_code, reason = "bpf(2), for a question that libbpf-rs does not ask")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fstat, fstatfs, openat};

/// `BPF_PROG_QUERY` (enum bpf_cmd, include/uapi/linux/bpf.h).
const PROG_QUERY: libc::c_int = 16;
/// `BPF_F_ALLOW_MULTI`.
const ALLOW_MULTI: u32 = 2;
/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2: i64 = 0x6367_7270;

/// A hook of a control group, by its number in enum `bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Operations of TCP sockets.
    SockOps = 3,
    /// connect() to an IPv4 address.
    Connect4 = 10,
    /// connect() to an IPv6 address.
    Connect6 = 11,
}

impl Hook {
    /// The hook, as `bpftool cgroup` names it.
    pub fn name(self) -> &'static str {
        match self {
            Hook::SockOps => "sock_ops",
            Hook::Connect4 => "connect4",
            Hook::Connect6 => "connect6",
        }
    }
}

/// Whether a program at `hook` of `group`, or of the nearest group above that has one, suffers no other: it was attached
/// without BPF_F_ALLOW_MULTI. Then the kernel refuses another one, or, below a group whose program may be overridden, runs it
/// in that one's place (`compute_effective_progs`, kernel/bpf/cgroup.c). `false` where the kernel does not tell.
pub fn is_alone(group: BorrowedFd<'_>, hook: Hook) -> bool {
    let mut above: Option<OwnedFd> = None;
    loop {
        let at = above.as_ref().map_or(group, AsFd::as_fd);
        match query(at, hook) {
            Some((0, _)) => {}
            Some((_, flags)) => return flags & ALLOW_MULTI == 0,
            None => return false,
        }
        match parent(at) {
            Some(next) => above = Some(next),
            None => return false,
        }
    }
}

/// Whether a program at `hook` of a group above `group` runs after those of `group`: the kernel begins with the innermost
/// (`compute_effective_progs`, kernel/bpf/cgroup.c). `false` where the kernel does not tell.
pub fn runs_above(group: BorrowedFd<'_>, hook: Hook) -> bool {
    let mut next = parent(group);
    while let Some(above) = next {
        match query(above.as_fd(), hook) {
            Some((0, _)) => next = parent(above.as_fd()),
            Some(_) => return true,
            None => return false,
        }
    }
    false
}

/// Whether a program at `hook` of `group` itself is there already: those of one group run in the order they were attached in.
/// `false` where the kernel does not tell.
pub fn runs_before(group: BorrowedFd<'_>, hook: Hook) -> bool {
    query(group, hook).is_some_and(|(programs, _)| programs > 0)
}

/// The group above; `None` at the root of what can be seen.
fn parent(group: BorrowedFd<'_>) -> Option<OwnedFd> {
    let above =
        openat(group, "..", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let is_group = fstatfs(&above).ok()?.f_type as i64 == CGROUP2;
    (is_group && fstat(&above).ok()?.st_ino != fstat(group).ok()?.st_ino).then_some(above)
}

/// How many programs are at a hook, and with which flags.
fn query(group: BorrowedFd<'_>, hook: Hook) -> Option<(u32, u32)> {
    /// The member `query` of union `bpf_attr`.
    #[repr(C)]
    struct Query {
        target: libc::c_int,
        kind: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        pad: u32,
    }
    let mut attributes = Query {
        target: group.as_raw_fd(),
        kind: hook as u32,
        query_flags: 0,
        attach_flags: 0,
        ids: 0,
        count: 0,
        pad: 0,
    };
    // SAFETY: the kernel reads and writes `attributes` for its size, and there is no list of numbers to fill.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut attributes, size_of::<Query>()) };
    (result == 0).then_some((attributes.count, attributes.attach_flags))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::FromRawFd as _;
    use std::path::PathBuf;

    use super::*;

    /// A control group that is removed in the end.
    struct Group(PathBuf);

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    impl Group {
        fn open(&self) -> File {
            File::open(&self.0).unwrap()
        }
    }

    /// bpf(2) with the words of the part of union `bpf_attr` that it reads.
    fn bpf(command: libc::c_int, words: &[u32]) -> std::io::Result<i32> {
        // SAFETY: the kernel reads the words, and what they point to outlives the call.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of_val(words)) };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap()) }
    }

    /// A program for connect() that lets everything pass.
    fn program() -> std::io::Result<OwnedFd> {
        let steps: [u64; 2] = [0x1_0000_00b7, 0x95]; // r0 = 1; exit
        let license = c"GPL";
        let halves = |pointer: usize| [pointer as u32, (pointer as u64 >> 32) as u32];
        let ([at, above], [says, so]) = (halves(steps.as_ptr() as usize), halves(license.as_ptr() as usize));
        let mut words = vec![18, 2, at, above, says, so];
        words.resize(17, 0);
        words.push(Hook::Connect4 as u32); // expected_attach_type
        let descriptor = bpf(5, &words)?;
        // SAFETY: the kernel has just given it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }

    #[test]
    fn a_program_that_suffers_no_other_is_seen_from_below() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount =
            mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|l| l.split(' ').nth(4));
        let (Some(mount), Ok(program)) = (mount, program()) else {
            println!(
                "SKIPPED a_program_that_suffers_no_other_is_seen_from_below: no cgroup v2, or no BPF for this user"
            );
            return;
        };
        let above = Group(PathBuf::from(mount).join(format!("tidewait-attached-{}", std::process::id())));
        let below = Group(above.0.join("below"));
        if fs::create_dir_all(&below.0).is_err() {
            println!(
                "SKIPPED a_program_that_suffers_no_other_is_seen_from_below: the cgroup v2 tree cannot be written to"
            );
            return;
        }
        let alone = |group: &Group, hook| is_alone(group.open().as_fd(), hook);
        // Exclusive, overridable, and beside others; each with whether it is alone.
        for (flags, expected) in [(0, true), (1, true), (ALLOW_MULTI, false)] {
            let at = above.open();
            let words = [at.as_raw_fd() as u32, program.as_raw_fd() as u32, Hook::Connect4 as u32, flags];
            bpf(8, &words).unwrap();
            assert_eq!(
                [alone(&above, Hook::Connect4), alone(&below, Hook::Connect4)],
                [expected; 2],
                "{flags}"
            );
            assert!(!alone(&below, Hook::Connect6));
            bpf(9, &words[..3]).unwrap();
            assert!(!alone(&below, Hook::Connect4));
        }
        drop(below);
    }
}
