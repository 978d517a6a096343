//! Processes: walking /proc in one pass, and what one process is called.

use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;

use super::cgroup::Membership;
use super::file::{Directory, SHORT};
use super::users::Users;

/// What is told of a process that holds sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its number, as this /proc counts.
    pub pid: u32,
    /// The command name, as in /proc/PID/comm: at most 15 bytes; control characters replaced.
    pub command: String,
    /// The name of the user it acts as, or the number where it has no name.
    pub user: Option<String>,
    /// The systemd unit, where there is one.
    pub unit: Option<String>,
    /// The container, by its short id or its name.
    pub container: Option<String>,
}

/// An open /proc with the buffers for walking it.
pub(crate) struct Proc {
    pub(crate) directory: Directory,
    path: String,
    text: Vec<u8>,
}

/// Whether something under /proc/PID could be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readable {
    /// It could not, though the process is there and may well have what was asked for.
    Denied,
    /// There is nothing to see: the process is gone, a zombie or a thread of the kernel.
    Nothing,
}

impl Proc {
    /// Opens `root`/proc.
    pub(crate) fn open(root: &Path) -> Result<Proc, Errno> {
        let directory = Directory::open(&root.join("proc"))?;
        Ok(Proc { directory, path: String::new(), text: Vec::new() })
    }

    /// The numbers of all processes, ascending.
    pub(crate) fn pids(&self) -> Result<Vec<u32>, Errno> {
        let mut pids = Vec::new();
        // A handle of its own: the position in a directory belongs to the handle.
        let listing = self.directory.directory(".")?;
        listing.names(&mut [MaybeUninit::uninit(); 8192], |name| pids.extend(name.parse::<u32>().ok()))?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// The path of `file` of process `pid` below /proc.
    pub(crate) fn path(&mut self, pid: u32, file: &str) -> &str {
        self.path.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.path, "{pid}/{file}");
        &self.path
    }

    /// Reads `file` of process `pid`.
    fn read(&mut self, pid: u32, file: &str) -> Result<&[u8], Errno> {
        self.path(pid, file);
        self.directory.read(&self.path, SHORT, &mut self.text)?;
        Ok(&self.text)
    }

    /// The link `file` of process `pid`.
    pub(crate) fn link<'b>(
        &mut self,
        pid: u32,
        file: &str,
        buffer: &'b mut [u8; 64],
    ) -> Result<&'b [u8], Errno> {
        self.path(pid, file);
        self.directory.link(&self.path, buffer)
    }

    /// The inode of `file` of process `pid`.
    pub(crate) fn inode(&mut self, pid: u32, file: &str) -> Result<u64, Errno> {
        self.path(pid, file);
        self.directory.inode(&self.path)
    }

    /// Whether the kernel tells how many descriptors a process has as the size of its directory of them: since 6.2
    /// (fs/proc/fd.c `proc_fd_getattr`), to everybody.
    pub(crate) fn tells_descriptors(&self) -> bool {
        // This process has at least the directory open.
        self.directory.size("self/fd").is_ok_and(|size| size > 0)
    }

    /// How many file descriptors process `pid` has, by the size of the directory.
    pub(crate) fn descriptors(&mut self, pid: u32) -> Option<u64> {
        self.path(pid, "fd");
        self.directory.size(&self.path).ok()
    }

    /// The same on kernels that do not tell: by listing them, which only those may who might trace the process, and only
    /// where the process's table has room for `least`.
    pub(crate) fn list_descriptors(&mut self, pid: u32, least: u64) -> Result<Option<u64>, Errno> {
        let room = number_after(self.read(pid, "status")?, "FDSize:");
        if room.is_none_or(|room| room < least) {
            return Ok(None);
        }
        let mut count = 0;
        self.path(pid, "fd");
        let descriptors = self.directory.directory(&self.path)?;
        descriptors.names(&mut [MaybeUninit::uninit(); 16 * 1024], |_| count += 1)?;
        Ok(Some(count))
    }

    /// Whether process `pid` shows its descriptors.
    pub(crate) fn shows_descriptors(&mut self, pid: u32) -> bool {
        self.path(pid, "fd");
        self.directory.directory(&self.path).is_ok()
    }

    /// How many descriptors process `pid` may have, and how far it may raise that by itself: RLIMIT_NOFILE, soft
    /// and hard. Everybody may read it.
    pub(crate) fn descriptor_limits(&mut self, pid: u32) -> (Option<u64>, Option<u64>) {
        self.read(pid, "limits").map_or((None, None), open_files)
    }

    /// Seconds since process `pid` was started.
    pub(crate) fn running_seconds(&mut self, pid: u32) -> Option<f64> {
        let begin = started(self.read(pid, "stat").ok()?)? as f64 / clock_ticks_per_second() as f64;
        self.directory.read("uptime", SHORT, &mut self.text).ok()?;
        let uptime: f64 =
            std::str::from_utf8(&self.text).ok()?.split_ascii_whitespace().next()?.parse().ok()?;
        Some((uptime - begin).max(0.0))
    }

    /// What `error`, met under /proc/`pid`, means. Kernel threads and zombies refuse like other people's
    /// processes, but hold no socket and live in no namespace of their own.
    pub(crate) fn meaning(&mut self, pid: u32, error: Errno) -> Readable {
        match error {
            Errno::ACCESS | Errno::PERM => match self.read(pid, "stat") {
                Ok(stat) if holds_nothing(stat) => Readable::Nothing,
                Ok(_) | Err(Errno::ACCESS | Errno::PERM) => Readable::Denied,
                Err(_) => Readable::Nothing,
            },
            _ => Readable::Nothing,
        }
    }

    /// The command name of process `pid`, if it is still there.
    pub(crate) fn command(&mut self, pid: u32) -> Option<String> {
        let text = self.read(pid, "comm").ok()?;
        Some(printable(String::from_utf8_lossy(text).trim_end_matches('\n')))
    }

    /// Where process `pid` belongs; nowhere known if its control group cannot be read.
    pub(crate) fn membership(&mut self, pid: u32) -> Membership {
        let text = self.read(pid, "cgroup").unwrap_or_default();
        Membership::parse(&String::from_utf8_lossy(text))
    }

    /// All that is told of process `pid`, if it is still there.
    pub(crate) fn process(&mut self, pid: u32, users: &Users) -> Option<Process> {
        let command = self.command(pid)?;
        let user = self.read(pid, "status").ok().and_then(effective_uid).map(|uid| users.name(uid));
        let Membership { unit, container, .. } = self.membership(pid);
        Some(Process { pid, command, user, unit, container })
    }
}

/// `PF_KTHREAD`, include/linux/sched.h: a thread of the kernel.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Whether a /proc/PID/stat is that of a kernel thread or a zombie. The command, which may contain anything,
/// stands in parentheses before the state.
fn holds_nothing(stat: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stat);
    let Some((_, after)) = text.rsplit_once(')') else { return false };
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next();
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or(0);
    matches!(state, Some("Z" | "X")) || flags & KERNEL_THREAD != 0
}

/// When a process was started, in clock ticks since boot: the 22nd field of a /proc/PID/stat.
fn started(stat: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    let (_, after) = text.rsplit_once(')')?;
    after.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The effective uid in a /proc/PID/status: the second number after `Uid:`.
fn effective_uid(status: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(status);
    let numbers = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    numbers.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The number after `name` at the beginning of a line of a /proc/PID/status.
fn number_after(status: &[u8], name: &str) -> Option<u64> {
    String::from_utf8_lossy(status).lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// The soft and the hard limit in a /proc/PID/limits: `Max open files  1024  524288  files`.
fn open_files(limits: &[u8]) -> (Option<u64>, Option<u64>) {
    let text = String::from_utf8_lossy(limits);
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("Max open files")) else {
        return (None, None);
    };
    let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
    (numbers.next().flatten(), numbers.next().flatten())
}

/// The text with control characters replaced: names come from programs, and a terminal obeys what they contain.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kernel_threads_and_zombies_are_told_from_processes_of_others() {
        assert!(holds_nothing(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0"));
        assert!(holds_nothing(b"77 (a) Z) Z 1 77 77 0 -1 4194304 0 0"));
        assert!(!holds_nothing(b"88 (evil) Z 0 0) S 1 88 88 0 -1 4194560 0 0"));
        assert!(!holds_nothing(b""));
    }

    #[test]
    fn a_process_knows_for_how_long_it_has_been_running() {
        let stat = b"88 (a) b) S 1 88 88 0 -1 4194560 0 0 0 0 1 2 3 4 20 0 1 0 4711 99";
        assert_eq!(started(stat), Some(4_711));
        assert_eq!(started(b"88 (a) S 1"), None);
        let mut proc = Proc::open(Path::new("/")).unwrap();
        let ours = proc.running_seconds(std::process::id()).unwrap();
        let first = proc.running_seconds(1).unwrap();
        assert!(ours < first && ours < 86_400.0, "{ours} {first}");
    }

    #[test]
    fn the_user_is_the_one_the_process_acts_as() {
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t1000\t33\t1000\t1000\n"), Some(33));
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t1000\n"), None);
    }

    #[test]
    fn a_command_cannot_talk_to_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn limits_and_the_room_for_descriptors_are_read() {
        let limits = b"Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), (Some(1_024), Some(524_288)));
        assert_eq!(open_files(b"Max open files  unlimited  unlimited  files\n"), (None, None));
        assert_eq!(open_files(b"Max cpu time  1  2  seconds\n"), (None, None));
        assert_eq!(number_after(b"Name:\tFDSize:\nFDSize:\t256\n", "FDSize:"), Some(256));
        assert_eq!(number_after(b"FDSize:\tmany\n", "FDSize:"), None);
    }

    proptest! {
        #[test]
        fn garbage_is_no_trouble(text in prop::collection::vec(any::<u8>(), 0..300)) {
            holds_nothing(&text);
            open_files(&text);
            number_after(&text, "FDSize:");
            effective_uid(&text);
        }
    }
}
