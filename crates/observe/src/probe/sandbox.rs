//! A network namespace that ends with the process that entered it.
#![expect(
    unsafe_code,
    reason = "unshare(2) is unsafe in rustix because of CLONE_FILES, which is not used here"
)]

use std::fs;
use std::io;
use std::path::Path;

use rustix::thread::UnshareFlags;

use super::Room;
use super::netlink::{self, Netlink};
use super::privileges::Privileges;

/// Where a worker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// In the caller's own: nothing may be changed here.
    Callers,
    /// In a network namespace made with CAP_SYS_ADMIN.
    Own,
    /// In a network namespace inside a user namespace; privileges are those of the machine only in here.
    UserOwned,
    /// It should be in one, but none could be made.
    Refused(String),
}

/// Takes the calling process, which must have one thread only, to where the room's probes run.
pub(super) fn enter(room: Room, privileges: &Privileges) -> Namespace {
    match room {
        Room::Outside => Namespace::Callers,
        Room::Privileged => own().unwrap_or(Namespace::Callers),
        Room::UserNamespace => user_owned(privileges).unwrap_or_else(|e| Namespace::Refused(e.to_string())),
        Room::Sandbox | Room::Anywhere => match own() {
            Ok(namespace) => namespace,
            Err(first) => user_owned(privileges).unwrap_or_else(|second| {
                Namespace::Refused(format!(
                    "new network namespace: {first}; through a user namespace: {second}"
                ))
            }),
        },
    }
}

fn own() -> io::Result<Namespace> {
    // SAFETY: CLONE_NEWNET changes no file descriptor table and no memory.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    raise_loopback()?;
    Ok(Namespace::Own)
}

fn user_owned(privileges: &Privileges) -> io::Result<Namespace> {
    // SAFETY: as above; CLONE_NEWUSER concerns credentials only.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }?;
    // Without CAP_SETGID a gid map is accepted only once setgroups(2) has been given up (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    for (map, id) in [("uid_map", privileges.uid), ("gid_map", privileges.gid)] {
        // Refused for root without CAP_SETFCAP (5.12), who is not to gain it this way.
        fs::write(Path::new("/proc/self").join(map), format!("0 {id} 1"))
            .map_err(|error| io::Error::new(error.kind(), format!("writing {map}: {error}")))?;
    }
    raise_loopback()?;
    Ok(Namespace::UserOwned)
}

/// A new network namespace has its loopback device down; 127.0.0.1 and ::1 come with raising it.
fn raise_loopback() -> io::Result<()> {
    Netlink::open(netlink::ROUTE)?.raise(netlink::LOOPBACK)
}
