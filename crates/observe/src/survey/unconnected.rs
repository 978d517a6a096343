//! TCP sockets that a program holds though their connection is gone: reset, timed out or destroyed.
//!
//! They are in no table. What is in no table may also be new, bound only, or of a namespace that was not looked into, so
//! each socket is asked itself: a copy of its descriptor (pidfd_getfd(2), since 5.6) tells its state, whether it ever
//! sent or received anything, and when it last heard of its peer: a program needs a moment to close what was reset.
#![expect(unsafe_code, reason = "TCP_INFO of a socket has no safe wrapper")]

use std::collections::{BTreeMap, HashMap};
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::thread::CapabilitySet;
use tidewait_model::{Limit, State};

use crate::owners::Unconnected;
use crate::procfs::why_denied;
use crate::sock_diag::TCP_INFO_LAST_ACK;

/// So many sockets of the machine that are in use in no namespace, over those that every program has for a moment
/// between socket() and connect(), are worth a search through all open files.
pub(super) const SUSPICIOUS: u64 = 50;
/// So many of them make a process worth telling of. A pool may keep a few until it is used again.
pub(super) const MANY: u64 = 20;
/// A connection whose peer was heard later than this ago may be on its way to be closed, as in CLOSE_WAIT. The moment of
/// the reset itself is not kept.
const SETTLED: Duration = Duration::from_secs(5);

/// How many sockets without a connection each process has: those with a few candidates are not worth a closer look, and
/// have `None`, like those that forbid it; those with none are left out.
pub(super) type Counts = HashMap<u32, Option<u64>>;

/// Counts them among the candidates. The limit says which processes forbid it.
pub(super) fn confirm(candidates: Vec<Unconnected>) -> (Counts, Option<Limit>) {
    let mut by_process: BTreeMap<u32, Vec<Unconnected>> = BTreeMap::new();
    for candidate in candidates {
        by_process.entry(candidate.pid).or_default().push(candidate);
    }
    let mut counts = Counts::new();
    let mut refused = Vec::new();
    for (pid, candidates) in by_process {
        counts.insert(pid, None);
        if (candidates.len() as u64) < MANY {
            continue;
        }
        match count(pid, &candidates) {
            Ok(lost) => {
                counts.insert(pid, Some(lost));
            }
            // It has ended, and its files with it.
            Err(Errno::SRCH) => {}
            Err(error) => refused.push(error),
        }
    }
    (counts, refusal(&refused))
}

/// How many of the candidates of process `pid` lost their connection.
fn count(pid: u32, candidates: &[Unconnected]) -> Result<u64, Errno> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut lost = 0;
    for candidate in candidates {
        match copy_of(process.as_fd(), candidate.descriptor) {
            Ok(socket) => {
                let silence = lost_connection(socket.as_fd()).filter(|_| is_the_same(&socket, candidate));
                lost += u64::from(silence.is_some_and(|silence| silence >= SETTLED));
            }
            // Closed meanwhile.
            Err(Errno::BADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lost)
}

fn copy_of(process: BorrowedFd<'_>, descriptor: u32) -> Result<OwnedFd, Errno> {
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::BADF)?;
    pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())
}

fn is_the_same(socket: &OwnedFd, candidate: &Unconnected) -> bool {
    fstat(socket).is_ok_and(|file| file.st_ino == u64::from(candidate.inode))
}

/// Of a TCP socket that has no connection, but had one or tried to: how long ago the last acknowledgement came, which is
/// since the machine started where none did. It is in CLOSE, and has sent or received segments (`tcpi_state`,
/// `tcpi_last_ack_recv`, `tcpi_segs_out` and `tcpi_segs_in` of `struct tcp_info`, the latter two since 4.2). A socket that
/// was disconnected on purpose, to be used again, has forgotten them (tcp.c `tcp_disconnect`).
fn lost_connection(socket: BorrowedFd<'_>) -> Option<Duration> {
    const SEGMENTS_OUT: usize = 136;
    const SEGMENTS_IN: usize = 140;
    let mut info = [0_u8; SEGMENTS_IN + 4];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the buffer is as long as `length` says, the kernel writes no more than that, and any bytes are valid in it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let field =
        |at: usize| info.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |n| u32::from_ne_bytes(*n));
    let lost = result == 0
        && info.first() == Some(&State::Close.number())
        && (field(SEGMENTS_OUT) > 0 || field(SEGMENTS_IN) > 0);
    lost.then(|| Duration::from_millis(field(TCP_INFO_LAST_ACK).into()))
}

/// What is said of processes that do not let their sockets be asked.
fn refusal(refused: &[Errno]) -> Option<Limit> {
    let what = match refused.len() {
        0 => return None,
        1 => "whether the sockets of 1 process lost their connection".to_owned(),
        many => format!("whether the sockets of {many} processes lost their connection"),
    };
    Some(match refused.first().copied() {
        Some(Errno::PERM | Errno::ACCESS) => {
            let (why, remedy) = why_denied(CapabilitySet::SYS_PTRACE);
            Limit::new(what, why).remedy(remedy)
        }
        Some(Errno::NOSYS) => Limit::new(what, "the kernel has no pidfd_getfd(2): it came with 5.6"),
        other => Limit::new(what, other.map(|error| error.to_string()).unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_a_socket_that_had_a_connection_can_have_lost_it() {
        use rustix::net::{AddressFamily, SocketType, socket};
        let new = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        assert_eq!(lost_connection(new.as_fd()), None);
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(lost_connection(bound.as_fd()), None);
        let mut client = TcpStream::connect(bound.local_addr().unwrap()).unwrap();
        let (server, _) = bound.accept().unwrap();
        client.write_all(b"1").unwrap();
        assert_eq!((lost_connection(client.as_fd()), lost_connection(server.as_fd())), (None, None));
        let begun = std::time::Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        // Closed with a byte unread: the peer gets a reset.
        drop(server);
        // The reset may be on its way yet.
        let silence = loop {
            if let Some(silence) = lost_connection(client.as_fd()) {
                break silence;
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "the connection is not lost");
            std::thread::sleep(Duration::from_millis(5));
        };
        // Ticks may be 10 ms long.
        assert!(silence >= Duration::from_millis(90), "{silence:?}");
        assert!(silence <= begun.elapsed() + Duration::from_millis(20), "{silence:?}");
        assert_eq!(lost_connection(std::fs::File::open("/dev/null").unwrap().as_fd()), None);
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        assert_eq!(refusal(&[]), None);
        assert!(refusal(&[Errno::NOSYS]).unwrap().why.contains("5.6"));
        let two = refusal(&[Errno::PERM, Errno::PERM]).unwrap();
        assert!(two.what.contains("2 processes") && two.remedy.is_some());
    }
}
