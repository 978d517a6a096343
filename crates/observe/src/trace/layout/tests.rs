//! The mirror against the original: every size, offset and number, from the type information of the compiled object.

use std::mem::{offset_of, size_of};

use libbpf_rs::btf::types::{Array, Enum, Int, MemberAttr, Struct};
use libbpf_rs::btf::{Btf, BtfType, HasSize};

use super::*;
use crate::trace::Kind;
use crate::trace::load::CONNECTIONS;

/// A member: name, offset, size.
type Member = (String, usize, usize);

/// Size and members of a structure as the reader has them. The pattern without `..` makes sure that none is forgotten.
macro_rules! mirror {
    ($kind:ident, $name:literal, $($member:ident),+) => {{
        fn size_of_member<T>(_: impl Fn(&$kind) -> &T) -> usize {
            size_of::<T>()
        }
        let _ = |whole: &$kind| { let $kind { $($member: _),+ } = whole; };
        let members: Vec<Member> = vec![$((
            stringify!($member).to_owned(),
            offset_of!($kind, $member),
            size_of_member(|whole| &whole.$member),
        )),+];
        ($name, size_of::<$kind>(), members)
    }};
}

fn size(kind: BtfType<'_>) -> usize {
    let plain = kind.skip_mods_and_typedefs();
    if let Ok(array) = Array::try_from(plain) {
        return array.capacity() * size(array.contained_type());
    }
    Int::try_from(plain)
        .map(|int| int.size())
        .or_else(|_| Struct::try_from(plain).map(|structure| structure.size()))
        .or_else(|_| Enum::try_from(plain).map(|numbers| numbers.size()))
        .unwrap()
}

fn compiled(btf: &Btf<'_>, name: &str) -> (usize, Vec<Member>) {
    let structure: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no struct {name}"));
    let member = |member: libbpf_rs::btf::types::StructMember<'_>| {
        let MemberAttr::Normal { offset } = member.attr else { panic!("a bit field in {name}") };
        let kind: BtfType<'_> = btf.type_by_id(member.ty).unwrap();
        (member.name.unwrap().to_string_lossy().into_owned(), offset as usize / 8, size(kind))
    };
    (structure.size(), structure.iter().map(member).collect())
}

#[test]
fn the_reader_and_the_programs_mean_the_same_bytes() {
    let mirrors = [
        mirror!(Owner, "owner", cgroup, since, tgid, uid, command, merged, unused),
        mirror!(CgroupPath, "cgroup_path", levels, unused, names),
        mirror!(FlowKey, "flow_key", owner, netns, scope, port, family, direction, local, remote),
        mirror!(
            Tally,
            "tally",
            connects,
            bound,
            fixed,
            accepts,
            closed_here,
            closed_there,
            aborted_here,
            aborted_there,
            time_wait,
            lived,
            aged,
            sent,
            received,
            no_port,
            refused,
            unanswered,
            failed
        ),
        mirror!(Flow, "flow", key, tally),
        mirror!(Waiting, "waiting", cookie, owner, closer, since, direction, pool, unused),
        mirror!(
            Event,
            "event",
            at,
            cookie,
            lived,
            sent,
            received,
            owner,
            thread,
            netns,
            scope,
            error,
            local_port,
            remote_port,
            kind,
            family,
            direction,
            pool,
            closed,
            reset,
            unused,
            local,
            remote
        ),
        mirror!(Losses, "losses", owners, flows, counts, sockets, events, waiting, groups, listening),
        mirror!(ListeningKey, "listening_key", netns, port),
        mirror!(Ledger, "ledger", owners, flows, recovered, losses),
        mirror!(
            Settings,
            "settings",
            events,
            tgid,
            netns,
            wakeup,
            local_port,
            remote_port,
            remote_family,
            pids_tree,
            unused,
            remote,
            owner_limit,
            flow_limit,
            waiting
        ),
    ];
    let btf = Btf::from_raw("connections", CONNECTIONS).unwrap().unwrap();
    for (name, size, members) in mirrors {
        assert_eq!((size, members), compiled(&btf, name), "struct {name}");
    }
}

#[test]
fn kinds_of_events_have_the_same_numbers() {
    let btf = Btf::from_raw("connections", CONNECTIONS).unwrap().unwrap();
    let kinds: Enum<'_> = btf.type_by_name("kind").unwrap();
    let compiled: Vec<(String, i64)> =
        kinds.iter().map(|kind| (kind.name.unwrap().to_string_lossy().into_owned(), kind.value)).collect();
    let snake = |kind: &Kind| {
        let mut name = String::new();
        for letter in format!("{kind:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(letter.to_uppercase());
        }
        name
    };
    let ours: Vec<(String, i64)> = Kind::ALL.iter().map(|kind| (snake(kind), *kind as i64)).collect();
    assert_eq!(ours, compiled);
}
