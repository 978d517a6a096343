//! The loader's side of `bpf/layout.h`: the same structures under the same names. One of another size is refused
//! when the programs are loaded, or when it is read.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{LOCALS, SOURCES};

/// `PORTS`.
pub(super) const PORTS: usize = 65_536;

/// `struct address`.
pub(super) type Address = [u8; 16];

/// `struct here_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Here {
    pub(super) address: Address,
    pub(super) v4: u32,
}

/// `struct settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Settings {
    pub(super) netns: u32,
    pub(super) tgid: u32,
    pub(super) ports: u32,
    pub(super) sources: u32,
    pub(super) tries: u32,
    pub(super) reuse_after: u32,
    pub(super) careful: u32,
}

/// `struct offer`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Offered {
    pub(super) ports: u32,
    pub(super) sources4: u32,
    pub(super) sources6: u32,
    pub(super) locals4: u32,
    pub(super) locals6: u32,
    pub(super) loopback: u32,
    pub(super) source4: [Address; SOURCES],
    pub(super) source6: [Address; SOURCES],
    pub(super) local4: [Address; LOCALS],
    pub(super) local6: [Address; LOCALS],
    pub(super) port: [u16; PORTS],
}

/// `struct counts`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Counted {
    pub(super) connects: u64,
    pub(super) steered: u64,
    pub(super) learning: u64,
    pub(super) reused: u64,
    pub(super) spread: u64,
    pub(super) fell_back: u64,
    pub(super) unknown: u64,
    pub(super) bound: u64,
    pub(super) sourced: u64,
    pub(super) routed: u64,
    pub(super) apart: u64,
    pub(super) tries: u64,
    pub(super) taken: u64,
    pub(super) gone: u64,
}
