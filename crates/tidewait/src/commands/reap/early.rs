//! Ends what is old enough while it is being looked at.
//!
//! What a dump has just passed is in the processor's cache, and not any more when it has passed all: it takes the kernel twice as
//! long to find a socket then.

use std::sync::atomic::{AtomicBool, Ordering};

use tidewait_diagnose::reap::{Due, Floors};
use tidewait_model::reap::{Group, Waiting};
use tidewait_observe::sock_diag::Handle;

use super::hand::{Fates, Hand};

/// Sockets that are ended together.
const HANDFUL: usize = 128;

/// See the module; for one look.
pub struct Early<'a> {
    older_than_ms: u32,
    floors: &'a dyn Floors,
    hand: &'a mut Hand,
    stop: &'a AtomicBool,
    batch: Vec<Due<Handle>>,
    /// The groups, by their places.
    groups: Vec<Option<Grouped>>,
    /// Those that had the places before: a look whose messages were lost begins anew, and may meet them in another order.
    before: Vec<(Group, Fates)>,
    result: anyhow::Result<()>,
}

/// What became of sockets of a group.
pub struct Taken {
    /// Where the look has it; `None` for what a look took that was begun anew.
    pub place: Option<usize>,
    /// The group.
    pub group: Group,
    /// What became of them.
    pub fates: Fates,
}

#[derive(Clone, Copy)]
struct Grouped {
    group: Group,
    /// From which age on its sockets end, in milliseconds.
    limit: u32,
    fates: Fates,
}

impl<'a> Early<'a> {
    /// What ends sockets that have waited for so long, or for their floor where that is more, until `stop`.
    pub fn new(
        older_than_ms: u32,
        floors: &'a dyn Floors,
        hand: &'a mut Hand,
        stop: &'a AtomicBool,
    ) -> Early<'a> {
        Early {
            older_than_ms,
            floors,
            hand,
            stop,
            batch: Vec::with_capacity(HANDFUL),
            groups: Vec::new(),
            before: Vec::new(),
            result: Ok(()),
        }
    }

    /// Takes a socket that is old enough.
    pub fn take(&mut self, group: &Group, socket: &Waiting<Handle>) -> bool {
        let is_due = self.limit(socket.group as usize, group).is_some_and(|limit| socket.age_ms >= limit);
        if !is_due || self.result.is_err() || self.stop.load(Ordering::Relaxed) {
            return false;
        }
        self.batch.push(Due { at_ms: 0, group: socket.group, key: socket.key });
        if self.batch.len() == HANDFUL {
            self.end();
        }
        true
    }

    /// From which age on the sockets of a group end.
    fn limit(&mut self, place: usize, group: &Group) -> Option<u32> {
        if let Some(Some(grouped)) = self.groups.get(place)
            && grouped.group == *group
        {
            return Some(grouped.limit);
        }
        if self.groups.len() <= place {
            self.groups.resize(place + 1, None);
        }
        // Another had its place: what is still to be ended is of that time.
        if self.groups.get(place)?.is_some() {
            self.end();
            let old = self.groups.get_mut(place)?.take();
            self.before.extend(old.map(|old| (old.group, old.fates)));
        }
        let limit = self.floors.of(group).max(self.older_than_ms);
        *self.groups.get_mut(place)? = Some(Grouped { group: *group, limit, fates: Fates::default() });
        Some(limit)
    }

    fn end(&mut self) {
        if self.batch.is_empty() || self.result.is_err() {
            return;
        }
        let groups = &mut self.groups;
        self.result = self.hand.end(&self.batch, &mut |due, fate| {
            if let Some(Some(grouped)) = groups.get_mut(due.group as usize) {
                grouped.fates.count(fate);
            }
        });
        self.batch.clear();
    }

    /// Ends the last ones; what became of all, by group, one may be there more than once; and whether orders could be given.
    pub fn finish(mut self) -> (Vec<Taken>, anyhow::Result<()>) {
        self.end();
        let before = self.before.into_iter().map(|(group, fates)| Taken { place: None, group, fates });
        let present = self.groups.into_iter().enumerate().filter_map(|(place, grouped)| {
            let Grouped { group, fates, .. } = grouped?;
            Some(Taken { place: Some(place), group, fates })
        });
        (before.chain(present).collect(), self.result)
    }
}

#[cfg(test)]
mod tests {
    use tidewait_model::Endpoint;
    use tidewait_model::address::Address;

    use super::*;

    /// 2 s for port 80, else nothing.
    struct Port80;

    impl Floors for Port80 {
        fn of(&self, group: &Group) -> u32 {
            let (_, end) = group.end();
            if end.port == 80 { 2_000 } else { 0 }
        }
    }

    fn group(port: u16) -> Group {
        let address = Address::new([10, 0, 0, 1].into(), 0);
        Group::Outgoing { source: address, peer: Endpoint { address, port } }
    }

    #[test]
    fn a_look_that_begins_anew_counts_for_the_groups_and_not_for_their_places() {
        let (mut hand, stop) = (Hand::Counts, AtomicBool::new(false));
        let mut early = Early::new(1_000, &Port80, &mut hand, &stop);
        let mut take = |place: u32, port: u16, age_ms: u32| {
            let socket = Waiting { group: place, port: 40_000, age_ms, key: Handle::of_none() };
            early.take(&group(port), &socket)
        };
        // Once in this order, and then in the other; each by its own floor.
        assert!(!take(0, 80, 1_500));
        assert!(take(0, 80, 2_500));
        assert!(take(1, 443, 1_500));
        assert!(!take(1, 443, 500));
        assert!(take(0, 443, 1_500));
        assert!(take(0, 443, 1_500));
        assert!(!take(1, 80, 1_500));
        assert!((0..300).all(|_| take(1, 80, 2_500)));
        // One whose group is never offered keeps its place.
        assert!(take(3, 8080, 5_000));
        let (taken, result) = early.finish();
        result.unwrap();
        let of = |port| {
            taken
                .iter()
                .filter(|taken| taken.group == group(port))
                .map(|taken| taken.fates.ended)
                .sum::<u64>()
        };
        assert_eq!((of(80), of(443)), (301, 3));
        let places: Vec<_> =
            taken.iter().filter_map(|taken| Some((taken.place?, taken.fates.ended))).collect();
        assert_eq!(places, [(0, 2), (1, 300), (3, 1)]);
    }

    #[test]
    fn nothing_ends_after_a_signal() {
        let (mut hand, stop) = (Hand::Counts, AtomicBool::new(true));
        let mut early = Early::new(1_000, &0, &mut hand, &stop);
        let socket = Waiting { group: 0, port: 40_000, age_ms: 9_000, key: Handle::of_none() };
        assert!(!early.take(&group(443), &socket));
        assert_eq!(early.finish().0.iter().map(|taken| taken.fates.ended).sum::<u64>(), 0);
    }
}
