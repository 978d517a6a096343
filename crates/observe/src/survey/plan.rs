//! Which socket tables need not be dumped, because counters prove that nothing is in them.
//!
//! A dump walks the machine's whole table even for a namespace with three sockets, and the walk for bound but
//! inactive sockets visits every owner of a port, those in TIME_WAIT too: with 100,000 of them it costs as much as
//! the dump itself. So the cheap counters of /proc/net/sockstat are read first. Nothing is left out on a guess.

use std::collections::BTreeMap;

/// What sockstat says of a namespace. A missing number proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inuse {
    /// Full IPv4 sockets in the hash tables (`sock_prot_inuse_get`): connections and listeners.
    pub(super) v4: Option<i64>,
    /// Full IPv6 sockets, those with a v4-mapped address among them.
    pub(super) v6: Option<i64>,
    /// Sockets in TIME_WAIT and orphaned FIN_WAIT2, of both families.
    pub(super) time_wait: Option<i64>,
    /// Full TCP sockets of the whole machine, hashed or not.
    pub(super) machine: Option<i64>,
    /// Orphans of the whole machine, among those.
    pub(super) orphans: Option<i64>,
}

impl From<&BTreeMap<String, i64>> for Inuse {
    fn from(counters: &BTreeMap<String, i64>) -> Inuse {
        let get = |name: &str| counters.get(name).copied();
        Inuse {
            v4: get("sockstat.TCP.inuse"),
            // A kernel without IPv6 has no such line.
            v6: get("sockstat6.TCP6.inuse").or_else(|| get("sockstat.TCP.inuse").map(|_| 0)),
            time_wait: get("sockstat.TCP.tw"),
            machine: get("sockstat.TCP.alloc"),
            orphans: get("sockstat.TCP.orphan"),
        }
    }
}

impl Inuse {
    /// Whether there is no listener, no connection and no TIME_WAIT. Half-open connections need a listener.
    pub(super) fn is_idle(&self) -> bool {
        (self.v4, self.v6, self.time_wait) == (Some(0), Some(0), Some(0))
    }

    /// Whether no IPv6 socket can be in the table beside the `time_wait_seen` that the IPv4 dump gave: no full
    /// one, so no listener and nothing half-open, and no TIME_WAIT unaccounted for.
    pub(crate) fn no_ipv6(&self, time_wait_seen: u64) -> bool {
        let accounted =
            self.time_wait.is_some_and(|all| i64::try_from(time_wait_seen).is_ok_and(|seen| seen >= all));
        self.v6 == Some(0) && accounted
    }
}

/// Full TCP sockets of the machine that are in use in no namespace: bound ones that do nothing, new ones, those whose
/// connection is gone while a program still holds them, and orphans of namespaces that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unaccounted {
    /// How many there are.
    pub(super) sockets: u64,
    /// How many of them a program may hold. The orphans that the namespaces have are among their sockets in use, so that
    /// all orphans beyond those are none of theirs.
    pub(super) held: u64,
}

/// What no namespace accounts for; `None` if that cannot be told. `elsewhere` tells of the namespaces that were not asked
/// for, or `None` if one of them cannot be seen; it is called only when needed.
pub(super) fn unaccounted(
    asked: &[Inuse],
    elsewhere: impl FnOnce() -> Option<Vec<Inuse>>,
) -> Option<Unaccounted> {
    let sum = |inuse: &[Inuse]| inuse.iter().map(|inuse| Some(inuse.v4? + inuse.v6?)).sum::<Option<i64>>();
    let (first, here) = (asked.first()?, sum(asked)?);
    let machine = first.machine?;
    let others = if here < machine { sum(&elsewhere()?)? } else { 0 };
    let left = machine - here - others;
    let orphans = (first.orphans.unwrap_or(0) - here - others).max(0);
    let count = |sockets: i64| u64::try_from(sockets).unwrap_or(0);
    Some(Unaccounted { sockets: count(left), held: count(left - orphans) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inuse(v4: i64, v6: i64, time_wait: i64, machine: i64) -> Inuse {
        Inuse {
            v4: Some(v4),
            v6: Some(v6),
            time_wait: Some(time_wait),
            machine: Some(machine),
            orphans: Some(2),
        }
    }

    #[test]
    fn a_table_is_left_out_only_when_the_counters_prove_it_empty() {
        assert!(inuse(9, 0, 100, 9).no_ipv6(100));
        assert!(!inuse(9, 0, 100, 9).no_ipv6(99));
        assert!(!inuse(9, 1, 100, 10).no_ipv6(100));
        assert!(!Inuse::default().no_ipv6(100));
        assert!(inuse(0, 0, 0, 7).is_idle());
        assert!(!Inuse::default().is_idle());
    }

    #[test]
    fn sockets_without_a_connection_are_what_no_namespace_has_in_use() {
        let count = |asked: &[Inuse], others| unaccounted(asked, || others).map(|found| found.sockets);
        assert_eq!(unaccounted(&[inuse(3, 2, 0, 5)], || panic!("not needed")).unwrap().sockets, 0);
        assert_eq!(count(&[inuse(3, 2, 0, 6)], Some(vec![])), Some(1));
        assert_eq!(count(&[inuse(3, 2, 0, 6)], Some(vec![inuse(1, 0, 0, 6)])), Some(0));
        assert_eq!(count(&[inuse(3, 2, 0, 6)], Some(vec![inuse(9, 0, 0, 6)])), Some(0));
        assert_eq!(count(&[inuse(3, 2, 0, 6)], None), None);
        assert_eq!(count(&[Inuse::default()], Some(vec![])), None);
        assert_eq!(count(&[], Some(vec![])), None);
    }

    #[test]
    fn orphans_of_namespaces_that_have_ended_are_nobodys() {
        let held = |orphans, machine| {
            let asked = Inuse { orphans: Some(orphans), ..inuse(10, 0, 0, machine) };
            unaccounted(&[asked], || Some(vec![inuse(5, 0, 0, 0)])).unwrap()
        };
        assert_eq!(held(0, 100), Unaccounted { sockets: 85, held: 85 });
        // As many may be among the fifteen in use.
        assert_eq!(held(15, 100), Unaccounted { sockets: 85, held: 85 });
        assert_eq!(held(90, 100), Unaccounted { sockets: 85, held: 10 });
        assert_eq!(held(100, 100), Unaccounted { sockets: 85, held: 0 });
    }

    #[test]
    fn a_kernel_without_ipv6_has_none_in_use() {
        let counters = BTreeMap::from([("sockstat.TCP.inuse".to_owned(), 1)]);
        assert_eq!(Inuse::from(&counters).v6, Some(0));
        assert_eq!(Inuse::from(&BTreeMap::new()).v6, None);
    }
}
