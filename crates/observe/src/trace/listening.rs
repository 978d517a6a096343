//! Ports that are listened on though no open file shows by whom.
//!
//! By the kernel itself (NFS), by processes that are not seen from this PID namespace, by a descriptor on its way from one
//! process to another.

use std::collections::BTreeSet;
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use tidewait_model::State;
use zerocopy::IntoBytes;

use super::layout::ListeningKey;
use crate::places::{Scope, find};
use crate::sock_diag::{Family, Netlink, Request, Sockets};

/// Adds them to the map, with nobody as their owner, and tells how many found no room.
///
/// Only the direction of connections from before the tracing hangs on it: a namespace that cannot be looked into is left
/// out.
pub(super) fn complete(root: &Path, map: &MapHandle) -> u64 {
    let Ok(found) = find(root, &Scope::All) else { return 0 };
    let mut without_room = 0;
    for place in found.places {
        let Ok(netns) = u32::try_from(place.inode) else { continue };
        for port in place.enter(ports).unwrap_or_default() {
            let key = ListeningKey { netns, port: u32::from(port) };
            // What is there already has its owner.
            match map.update(key.as_bytes(), 0_u32.as_bytes(), MapFlags::NO_EXIST) {
                Err(error) if error.kind() != libbpf_rs::ErrorKind::AlreadyExists => without_room += 1,
                _ => {}
            }
        }
    }
    without_room
}

/// The ports that are listened on in the calling thread's namespace.
fn ports() -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    let Ok(mut netlink) = Netlink::open() else { return ports };
    for family in Family::BOTH {
        let request = Request::all(family).states([State::Listen]);
        // What a dump that ends early has given is good.
        let _ = netlink.dump(&request, &mut |row| {
            ports.insert(row.local().port);
        });
    }
    ports
}
