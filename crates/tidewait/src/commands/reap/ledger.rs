//! Who lost how many sockets: the present look by place, all looks by destination.

use std::collections::HashMap;

use tidewait_diagnose::accounting::Account;
use tidewait_diagnose::reap::Schedule;
use tidewait_model::reap::{Busiest, Found, Group, Row};

use super::early::Taken;
use super::hand::Fates;

/// Destinations kept one by one.
const MOST: usize = 65_536;

/// Counts of one destination.
#[derive(Clone, Copy, Default)]
struct Counts {
    killed: u64,
    not_killed: u64,
}

/// A destination in the present look.
struct Present {
    group: Group,
    counts: Counts,
    waiting: u64,
    held: u64,
}

/// See the module.
#[derive(Default)]
pub struct Ledger {
    present: Vec<Present>,
    past: HashMap<Group, Counts>,
    /// Of destinations beyond the bound.
    others: Counts,
    /// Sockets that the last look found.
    found: u64,
    oldest_ms: Option<u32>,
    busiest: Option<Busiest>,
}

impl Ledger {
    /// A new look. `waiting`: how many sockets of each group it found.
    pub fn turn<K>(&mut self, groups: &[Found], waiting: &[u64], schedule: &Schedule<K>) {
        for present in std::mem::take(&mut self.present).into_iter().filter(|present| present.counts.any()) {
            self.keep(present.group, present.counts);
        }
        self.present.extend(groups.iter().enumerate().map(|(place, found)| Present {
            group: found.group,
            counts: Counts::default(),
            waiting: waiting.get(place).copied().unwrap_or(0),
            held: schedule.held.get(place).copied().unwrap_or(0).into(),
        }));
        self.found = waiting.iter().sum();
        self.oldest_ms = schedule.oldest_ms;
        let account = |place: usize| schedule.accounts.get(place).copied().flatten();
        let used = |place: usize| match account(place) {
            Some(account) => u64::from(account.used),
            None => waiting.get(place).copied().unwrap_or(0),
        };
        let fullest = (0..groups.len()).max_by(|a, b| {
            let fill = |place: usize| account(place).map_or(0.0, Account::fill);
            fill(*a).total_cmp(&fill(*b)).then_with(|| used(*a).cmp(&used(*b)))
        });
        self.busiest = fullest.map(|place| Busiest {
            destination: groups[place].group.to_string(),
            ports_used: used(place),
            share: account(place).map(Account::fill),
        });
    }

    /// What became of sockets of the present look.
    pub fn count(&mut self, group: usize, fates: Fates) {
        let Some(present) = self.present.get_mut(group) else { return };
        let counts = Counts { killed: fates.ended, not_killed: fates.not_ended() };
        present.waiting = present.waiting.saturating_sub(counts.killed + counts.not_killed);
        present.counts.add(counts);
    }

    /// What became of sockets that ended while they were looked at: those of the group at this place, or of one that the look, begun
    /// anew, has at another or not at all.
    pub fn count_early(&mut self, taken: &Taken) {
        let Taken { place, group, fates } = *taken;
        if let Some(place) = place.filter(|place| self.is_at(*place, group)) {
            return self.count(place, fates);
        }
        let counts = Counts { killed: fates.ended, not_killed: fates.not_ended() };
        match self.present.iter_mut().find(|present| present.group == group) {
            Some(present) => present.counts.add(counts),
            None => self.keep(group, counts),
        }
    }

    /// Whether the present look has the group at this place.
    pub fn is_at(&self, place: usize, group: Group) -> bool {
        self.present.get(place).is_some_and(|present| present.group == group)
    }

    /// Adds to what was before.
    fn keep(&mut self, group: Group, counts: Counts) {
        let full = self.past.len() >= MOST && !self.past.contains_key(&group);
        let kept = if full { &mut self.others } else { self.past.entry(group).or_default() };
        kept.add(counts);
    }

    /// Sockets that waited at the last look, and those of them that a floor alone keeps.
    pub fn waiting(&self) -> (u64, u64) {
        (self.found, self.present.iter().map(|present| present.held).sum())
    }

    /// How long the oldest that was left has waited, in seconds.
    pub fn oldest_seconds(&self) -> Option<f64> {
        Some(f64::from(self.oldest_ms?) / 1_000.0)
    }

    /// The fullest destination.
    pub fn busiest(&self) -> Option<&Busiest> {
        self.busiest.as_ref()
    }

    /// The destinations, most ended first, `most` at most; and the rest together.
    pub fn rows(&self, most: usize) -> (Vec<Row>, Option<Row>) {
        let mut all: HashMap<Group, Row> = HashMap::new();
        let mut row = |group: Group, counts: Counts, waiting, held| {
            let row =
                all.entry(group).or_insert_with(|| Row { destination: group.to_string(), ..Row::default() });
            row.killed += counts.killed;
            row.not_killed += counts.not_killed;
            row.waiting += waiting;
            row.held += held;
        };
        self.past.iter().for_each(|(group, counts)| row(*group, *counts, 0, 0));
        for present in &self.present {
            row(present.group, present.counts, present.waiting, present.held);
        }
        let mut rows: Vec<(Group, Row)> = all.into_iter().collect();
        rows.sort_by(|(a_group, a), (b_group, b)| {
            (b.killed, b.waiting).cmp(&(a.killed, a.waiting)).then_with(|| a_group.cmp(b_group))
        });
        let rest = rows.split_off(most.min(rows.len()));
        let mut others = Row {
            destination: "others".to_owned(),
            killed: self.others.killed,
            not_killed: self.others.not_killed,
            ..Row::default()
        };
        for (_, row) in &rest {
            others.killed += row.killed;
            others.not_killed += row.not_killed;
            others.waiting += row.waiting;
            others.held += row.held;
        }
        let some = !rest.is_empty() || self.others.any();
        (rows.into_iter().map(|(_, row)| row).collect(), some.then_some(others))
    }
}

impl Counts {
    fn any(self) -> bool {
        self.killed > 0 || self.not_killed > 0
    }

    fn add(&mut self, other: Counts) {
        self.killed += other.killed;
        self.not_killed += other.not_killed;
    }
}
