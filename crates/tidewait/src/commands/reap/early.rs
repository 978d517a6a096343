//! Ends what is old enough while it is being looked at.
//!
//! What a dump has just passed is in the processor's cache, and not any more when it has passed all: it takes the kernel twice as
//! long to find a socket then.

use std::sync::atomic::{AtomicBool, Ordering};

use tidewait_diagnose::reap::{Due, Floors as _};
use tidewait_model::reap::{Group, Waiting};
use tidewait_observe::sock_diag::Handle;

use super::floors::Known;
use super::hand::{Fates, Hand};

/// Sockets that are ended together.
const HANDFUL: usize = 128;

/// See the module; for one look.
pub struct Early<'a> {
    older_than_ms: u32,
    floors: &'a Known,
    hand: &'a mut Hand,
    stop: &'a AtomicBool,
    batch: Vec<Due<Handle>>,
    /// The groups, by their places.
    groups: Vec<Grouped>,
    result: anyhow::Result<()>,
}

#[derive(Clone, Copy)]
struct Grouped {
    /// From which age on its sockets end, in milliseconds; `None` until one is seen.
    limit: Option<u32>,
    fates: Fates,
}

impl<'a> Early<'a> {
    /// What ends sockets that have waited for so long, or for their floor where that is more, until `stop`.
    pub fn new(older_than_ms: u32, floors: &'a Known, hand: &'a mut Hand, stop: &'a AtomicBool) -> Early<'a> {
        Early {
            older_than_ms,
            floors,
            hand,
            stop,
            batch: Vec::with_capacity(HANDFUL),
            groups: Vec::new(),
            result: Ok(()),
        }
    }

    /// Takes a socket that is old enough.
    pub fn take(&mut self, group: &Group, socket: &Waiting<Handle>) -> bool {
        let place = socket.group as usize;
        if self.groups.len() <= place {
            self.groups.resize(place + 1, Grouped { limit: None, fates: Fates::default() });
        }
        let (floors, older_than_ms) = (self.floors, self.older_than_ms);
        let limit = self
            .groups
            .get_mut(place)
            .map(|grouped| *grouped.limit.get_or_insert_with(|| floors.of(group).max(older_than_ms)));
        let is_due = limit.is_some_and(|limit| socket.age_ms >= limit);
        if !is_due || self.result.is_err() || self.stop.load(Ordering::Relaxed) {
            return false;
        }
        self.batch.push(Due { at_ms: 0, group: socket.group, key: socket.key });
        if self.batch.len() == HANDFUL {
            self.end();
        }
        true
    }

    fn end(&mut self) {
        let groups = &mut self.groups;
        self.result = self.hand.end(&self.batch, &mut |due, fate| {
            if let Some(grouped) = groups.get_mut(due.group as usize) {
                grouped.fates.count(fate);
            }
        });
        self.batch.clear();
    }

    /// Ends the last ones; what became of all, of each group by its place.
    ///
    /// # Errors
    /// If orders could not be given.
    pub fn finish(mut self) -> anyhow::Result<Vec<Fates>> {
        if self.result.is_ok() {
            self.end();
        }
        self.result?;
        Ok(self.groups.into_iter().map(|grouped| grouped.fates).collect())
    }
}
