//! The reader's side of `bpf/layout.h`: the same structures under the same names; a test compares them member by member.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Control groups from the innermost outwards that are kept by name.
pub(super) const LEVELS: usize = 8;
/// Bytes of such a name.
pub(super) const NAME: usize = 160;

/// `struct owner`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Owner {
    pub(super) cgroup: u64,
    pub(super) since: u64,
    pub(super) tgid: u32,
    pub(super) uid: u32,
    pub(super) command: [u8; 16],
    pub(super) merged: u32,
    pub(super) unused: u32,
}

/// `struct cgroup_path`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct CgroupPath {
    pub(super) levels: u32,
    pub(super) unused: u32,
    pub(super) names: [[u8; NAME]; LEVELS],
}

/// `struct flow_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct FlowKey {
    pub(super) owner: u32,
    pub(super) netns: u32,
    pub(super) scope: u32,
    pub(super) port: u16,
    pub(super) family: u8,
    pub(super) direction: u8,
    pub(super) local: [u8; 16],
    pub(super) remote: [u8; 16],
}

/// `struct tally`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Tally {
    pub(super) connects: u64,
    pub(super) bound: u64,
    pub(super) fixed: u64,
    pub(super) accepts: u64,
    pub(super) closed_here: u64,
    pub(super) closed_there: u64,
    pub(super) aborted_here: u64,
    pub(super) aborted_there: u64,
    pub(super) time_wait: u64,
    pub(super) lived: u64,
    pub(super) aged: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) no_port: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    pub(super) failed: u64,
}

/// `struct flow`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) tally: Tally,
}

/// `struct waiting`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Waiting {
    pub(super) cookie: u64,
    pub(super) owner: u32,
    pub(super) closer: u32,
    pub(super) since: u32,
    pub(super) direction: u8,
    pub(super) pool: u8,
    pub(super) unused: [u8; 2],
}

/// `struct listening_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct ListeningKey {
    pub(super) netns: u32,
    pub(super) port: u32,
}

/// `struct event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) cookie: u64,
    pub(super) lived: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) owner: u32,
    pub(super) thread: u32,
    pub(super) netns: u32,
    pub(super) scope: u32,
    pub(super) error: u32,
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) kind: u8,
    pub(super) family: u8,
    pub(super) direction: u8,
    pub(super) pool: u8,
    pub(super) closed: u8,
    pub(super) reset: u8,
    pub(super) unused: [u8; 2],
    pub(super) local: [u8; 16],
    pub(super) remote: [u8; 16],
}

/// `struct losses`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Losses {
    pub(super) owners: u64,
    pub(super) flows: u64,
    pub(super) counts: u64,
    pub(super) sockets: u64,
    pub(super) events: u64,
    pub(super) waiting: u64,
    pub(super) groups: u64,
    pub(super) listening: u64,
}

/// `struct ledger`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Ledger {
    pub(super) owners: u32,
    pub(super) flows: u32,
    pub(super) recovered: u64,
    pub(super) losses: Losses,
}

/// `struct settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Settings {
    pub(super) events: u32,
    pub(super) tgid: u32,
    pub(super) netns: u32,
    pub(super) wakeup: u32,
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) remote_family: u8,
    pub(super) pids_tree: u8,
    pub(super) unused: [u8; 2],
    pub(super) remote: [u8; 16],
    pub(super) owner_limit: u32,
    pub(super) flow_limit: u32,
    pub(super) waiting: u32,
}

#[cfg(test)]
mod tests;
