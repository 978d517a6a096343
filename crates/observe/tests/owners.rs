//! Owners of live sockets on a running kernel.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidewait_model::OwnerBasis;
use tidewait_observe::owners::{Holders, Search, holders, summarise};

/// Held by each test: a child has all descriptors of this process between fork() and exec().
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn inode(socket: impl AsFd) -> u32 {
    u32::try_from(rustix::fs::fstat(socket).unwrap().st_ino).unwrap()
}

fn look_for(sockets: &[u32]) -> Holders {
    let wanted = sockets.iter().copied().collect::<HashSet<_>>();
    holders(Path::new("/"), &Search { wanted, ..Search::default() })
}

/// A process that has `socket` as its standard input; ended on drop.
struct Heir(Child);

impl Heir {
    fn of(socket: impl AsFd) -> Heir {
        let socket = socket.as_fd().try_clone_to_owned().unwrap();
        Heir(Command::new("sleep").arg("60").stdin(Stdio::from(socket)).spawn().unwrap())
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn both_ends_of_a_connection_in_one_process_are_its_own() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let sockets = [inode(&listener), inode(&client), inode(&server)];
    let found = look_for(&sockets);
    assert_eq!(found.found(), 3);
    for socket in sockets {
        let (process, held) = found.holder(socket).unwrap();
        assert_eq!((process.pid, held.sharers), (std::process::id(), 1));
    }
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    let owners = summarise(&found, sockets, OwnerBasis::LiveSockets);
    assert_eq!(owners.len(), 1);
    assert_eq!((owners[0].pid, owners[0].share), (Some(std::process::id()), 1.0));
    assert_eq!(owners[0].command, comm.trim_end());
    assert!(owners[0].user.is_some());
    assert!(found.descriptors >= 3 && found.seconds > 0.0);

    drop((client, server));
    assert_eq!(look_for(&sockets[1..]).found(), 0, "closed sockets have no holder");
}

#[test]
fn a_socket_that_a_child_inherited_stays_the_parents() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = inode(&listener);
    let heirs = [Heir::of(&listener), Heir::of(&listener)];
    let lower = heirs.iter().map(|heir| heir.0.id()).min().unwrap();
    let found = look_for(&[socket]);
    assert_eq!(found.processes.len(), 3);
    let (process, held) = found.holder(socket).unwrap();
    if std::process::id() < lower {
        assert_eq!((process.pid, held.sharers), (std::process::id(), 1));
    }

    drop(listener);
    let found = look_for(&[socket]);
    let (process, held) = found.holder(socket).unwrap();
    assert_eq!((process.pid, process.command.as_str(), held.sharers), (lower, "sleep", 2));
    let owners = summarise(&found, [socket], OwnerBasis::ListeningSocket);
    assert_eq!((owners[0].pid, owners[0].command.as_str()), (None, "sleep"));
}

#[test]
fn hundreds_of_sockets_are_found_in_one_pass() {
    let _alone = alone();
    let sockets: Vec<TcpListener> = (0..400).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let inodes: Vec<u32> = sockets.iter().map(inode).collect();
    let found = look_for(&inodes);
    assert_eq!(found.found(), inodes.len());
    eprintln!("{} descriptors in {:.1} ms", found.descriptors, found.seconds * 1e3);
}
