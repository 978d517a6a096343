//! The reader's side of `bpf/layout.h`: the same structures under the same names; a test compares them member by member.

use tidewait_model::study::BANDS;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
pub(super) struct Settings {
    pub(super) netns: u32,
    pub(super) sample: u32,
    pub(super) remote: [u8; 16],
    pub(super) local: [u8; 16],
    pub(super) remote_port: u16,
    pub(super) local_port: u16,
    pub(super) port: u16,
    pub(super) remote_family: u8,
    pub(super) local_family: u8,
    pub(super) band_begins: [u32; BANDS],
    pub(super) seed: u64,
}

/// `struct live`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Live {
    pub(super) ticks_per_second: u32,
    pub(super) time_wait_ms: u32,
    pub(super) jiffies: u64,
    pub(super) nanoseconds: u64,
    pub(super) services: [u64; 1024],
    pub(super) chosen: [u64; 1024],
}

/// `struct late_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct LateKey {
    pub(super) end: [u8; 16],
    pub(super) scope: u32,
    pub(super) port: u16,
    pub(super) family: u8,
    pub(super) direction: u8,
    pub(super) kind: u8,
    pub(super) band: u8,
    pub(super) unused: [u8; 6],
}

/// `struct late`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Late {
    pub(super) segments: u64,
    pub(super) rejected: u64,
    pub(super) latest_ms: u64,
    pub(super) at: u64,
}

/// `struct ledger`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Ledger {
    pub(super) looked_at: u64,
    pub(super) fragments: u64,
    pub(super) unread: u64,
    pub(super) fin_wait2: u64,
    pub(super) overflow: u64,
}

/// `struct entry_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct EntryKey {
    pub(super) local: [u8; 16],
    pub(super) remote: [u8; 16],
    pub(super) local_port: u16,
    pub(super) remote_port: u16,
    pub(super) family: u32,
}

/// `struct entry`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(super) struct Entry {
    pub(super) birth_ms: u64,
    pub(super) renewed_ms: u64,
    pub(super) expires: u64,
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use libbpf_rs::btf::types::{MemberAttr, Struct};
    use libbpf_rs::btf::{Btf, HasSize};
    use tidewait_model::study::Kind;

    use super::*;
    use crate::study::load::LATE;

    /// Name and offset of every member, and the size of the whole.
    fn compiled(btf: &Btf<'_>, name: &str) -> (Vec<(String, usize)>, usize) {
        let structure: Struct<'_> = btf.type_by_name(name).unwrap();
        let members = structure.iter().map(|member| {
            let MemberAttr::Normal { offset } = member.attr else { panic!("a bit field in {name}") };
            (member.name.unwrap().to_string_lossy().into_owned(), offset as usize / 8)
        });
        (members.collect(), structure.size())
    }

    macro_rules! mirror {
        ($btf:expr, $kind:ident, $name:literal, $($member:ident),+) => {{
            // Without `..`: none is forgotten.
            let _ = |whole: $kind| { let $kind { $($member: _),+ } = whole; };
            let members = vec![$((stringify!($member).to_owned(), std::mem::offset_of!($kind, $member))),+];
            assert_eq!(compiled(&$btf, $name), (members, size_of::<$kind>()), $name);
        }};
    }

    #[test]
    fn the_reader_and_the_programs_mean_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("late.o");
        std::fs::write(&path, LATE).unwrap();
        let btf = Btf::from_path(&path).unwrap();
        mirror!(
            btf,
            Settings,
            "settings",
            netns,
            sample,
            remote,
            local,
            remote_port,
            local_port,
            port,
            remote_family,
            local_family,
            band_begins,
            seed
        );
        mirror!(btf, Live, "live", ticks_per_second, time_wait_ms, jiffies, nanoseconds, services, chosen);
        mirror!(btf, LateKey, "late_key", end, scope, port, family, direction, kind, band, unused);
        mirror!(btf, Late, "late", segments, rejected, latest_ms, at);
        mirror!(btf, Ledger, "ledger", looked_at, fragments, unread, fin_wait2, overflow);
        mirror!(btf, EntryKey, "entry_key", local, remote, local_port, remote_port, family);
        mirror!(btf, Entry, "entry", birth_ms, renewed_ms, expires);
        // Not every clang describes an enumeration that no variable is of; the source has them all.
        let (_, rest) = include_str!("bpf/judge.h").split_once("enum kind { ").unwrap();
        let names: Vec<&str> = rest.split_once(" }").unwrap().0.split(", ").collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for (name, kind) in [
            ("FIN_AGAIN", Kind::Fin),
            ("OLD_DATA", Kind::OldData),
            ("NEW_DATA", Kind::NewData),
            ("SYN_ACCEPTED", Kind::SynAccepted),
            ("SYN_REFUSED", Kind::SynRefused),
            ("RST_KILLS", Kind::RstKills),
            ("RST_IGNORED", Kind::RstIgnored),
            ("PLAIN_ACK", Kind::Ack),
            ("OTHER", Kind::Other),
        ] {
            let at = names.iter().position(|known| *known == name);
            assert_eq!(at, Kind::ALL.iter().position(|known| *known == kind), "{name}");
        }
    }
}
