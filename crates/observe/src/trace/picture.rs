//! Rows of processes alike made one, so that a program that starts a process for each connection is one row.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

use tidewait_model::trace::{Counts, Flow, Program};

/// So many processes alike are told one by one; more are one row.
pub const ONE_BY_ONE: usize = 4;

/// What is counted, and can be counted together.
pub trait Tally {
    /// Adds what another counted.
    fn add(&mut self, other: &Self);
}

impl Tally for Counts {
    fn add(&mut self, other: &Counts) {
        self.merge(other);
    }
}

impl Tally for u64 {
    fn add(&mut self, other: &u64) {
        *self += other;
    }
}

/// Rows of one place and of processes alike: of one command, unit, container and user.
struct Alike<T> {
    processes: Vec<(Program, T)>,
    /// Where each process is in `processes`.
    by_pid: HashMap<Option<u32>, usize>,
}

/// Makes one row of those that have the same place and the same process, and of those of more than [`ONE_BY_ONE`]
/// processes alike at one place. Such a row has no process number, but says how many processes it was, unless some of
/// them were counted together already. Rows of nobody stay rows of nobody.
pub fn together<P: Clone + Eq + Hash, T: Tally>(
    rows: impl IntoIterator<Item = (P, Option<Program>, T)>,
) -> Vec<(P, Option<Program>, T)> {
    let mut groups: HashMap<(P, Option<Program>), Alike<T>> = HashMap::new();
    for (place, program, counts) in rows {
        // What processes alike have in common.
        let kind = program.clone().map(|program| Program { pid: None, processes: None, ..program });
        let program = program.unwrap_or_default();
        let group = groups
            .entry((place, kind))
            .or_insert_with(|| Alike { processes: Vec::new(), by_pid: HashMap::new() });
        match group.by_pid.get(&program.pid) {
            Some(at) => {
                let (known, sum) = &mut group.processes[*at];
                // Two rows without a number are not known to be of the same processes.
                if program.pid.is_none() {
                    known.processes = None;
                }
                sum.add(&counts);
            }
            None => {
                group.by_pid.insert(program.pid, group.processes.len());
                group.processes.push((program, counts));
            }
        }
    }
    let mut rows = Vec::with_capacity(groups.len());
    for ((place, kind), group) in groups {
        let many = group.processes.len() > ONE_BY_ONE
            // Whether the rest is among those counted together cannot be told.
            || (group.processes.len() > 1 && group.by_pid.contains_key(&None));
        match (kind, many) {
            (None, _) => rows.extend(group.processes.into_iter().map(|(_, sum)| (place.clone(), None, sum))),
            (Some(_), false) => {
                let each = group.processes.into_iter();
                rows.extend(each.map(|(program, sum)| (place.clone(), Some(program), sum)));
            }
            (Some(kind), true) => {
                let processes = group.processes.iter().map(|(program, _)| program.processes).sum();
                let mut sums = group.processes.into_iter().map(|(_, sum)| sum);
                if let Some(mut all) = sums.next() {
                    sums.for_each(|sum| all.add(&sum));
                    rows.push((place, Some(Program { processes, ..kind }), all));
                }
            }
        }
    }
    rows
}

/// The flows with those of processes alike made one, most connections first.
pub fn grouped(flows: impl IntoIterator<Item = Flow>) -> Vec<Flow> {
    let rows = flows.into_iter().map(|flow| {
        let Flow { program, direction, local, port, remote, counts } = flow;
        ((direction, local, port, remote), program, counts)
    });
    let mut flows: Vec<Flow> = together(rows)
        .into_iter()
        .map(|((direction, local, port, remote), program, counts)| Flow {
            program,
            direction,
            local,
            port,
            remote,
            counts,
        })
        .collect();
    flows.sort_by_cached_key(|flow| {
        let counts = &flow.counts;
        let opened = counts.connects + counts.accepts;
        let most = Reverse((opened.max(counts.closed()), counts.no_port));
        (most, flow.program.clone(), flow.direction, flow.remote, flow.local, flow.port)
    });
    flows
}

/// What was counted since `before`, an earlier reading of the same tracer. Rows that did not move are left out.
pub(crate) fn since(now: &[(u32, Flow)], before: &[(u32, Flow)]) -> Vec<(u32, Flow)> {
    // Owners that differ only in what has no name are one row.
    let sums = |rows: &[(u32, Flow)]| {
        let mut sums: HashMap<_, Counts> = HashMap::new();
        for (netns, flow) in rows {
            let key = (*netns, flow.program.clone(), flow.direction, flow.local, flow.port, flow.remote);
            sums.entry(key).or_default().merge(&flow.counts);
        }
        sums
    };
    let before = sums(before);
    let mut moved = Vec::new();
    for (key, counts) in sums(now) {
        let counts = before.get(&key).map_or(counts, |before| counts.since(before));
        let (netns, program, direction, local, port, remote) = key;
        if counts != Counts::default() {
            moved.push((netns, Flow { program, direction, local, port, remote, counts }));
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curl(pid: u32) -> Option<Program> {
        let (pid, processes) = if pid == 0 { (None, None) } else { (Some(pid), Some(1)) };
        Some(Program { command: "curl".to_owned(), pid, processes, ..Program::default() })
    }

    fn flow(program: Option<Program>, port: u16, connects: u64) -> Flow {
        let counts = Counts { connects, ..Counts::default() };
        Flow { program, port, counts, ..Flow::default() }
    }

    fn shown(flows: &[Flow]) -> Vec<(Option<u32>, Option<u32>, u16, u64)> {
        let shown = |flow: &Flow| {
            let program = flow.program.clone().unwrap_or_default();
            (program.pid, program.processes, flow.port, flow.counts.connects)
        };
        flows.iter().map(shown).collect()
    }

    #[test]
    fn up_to_four_processes_alike_are_told_one_by_one_and_more_are_one_row() {
        let four = grouped((1..=4).map(|pid| flow(curl(pid), 80, u64::from(pid))));
        let one = |pid: u32| (Some(pid), Some(1), 80, u64::from(pid));
        assert_eq!(shown(&four), [one(4), one(3), one(2), one(1)]);
        let five = grouped((1..=5).map(|pid| flow(curl(pid), 80, 2)));
        assert_eq!(shown(&five), [(None, Some(5), 80, 10)]);
    }

    #[test]
    fn each_place_is_a_row_of_its_own() {
        let flows =
            (1..=10).map(|pid| flow(curl(pid), if pid <= 5 { 80 } else { 81 }, 1 + u64::from(pid / 6)));
        assert_eq!(shown(&grouped(flows)), [(None, Some(5), 81, 10), (None, Some(5), 80, 5)]);
        let user = Program { user: Some("www".to_owned()), ..curl(5).unwrap() };
        let flows = (1..=4).map(|pid| flow(curl(pid), 80, 1)).chain([flow(Some(user), 80, 1)]);
        assert_eq!(grouped(flows).len(), 5, "another user's is another program");
    }

    #[test]
    fn rows_of_one_process_are_one_row() {
        let flows = grouped([flow(curl(1), 80, 1), flow(curl(1), 80, 2)]);
        assert_eq!(shown(&flows), [(Some(1), Some(1), 80, 3)]);
    }

    #[test]
    fn processes_that_were_counted_together_already_are_not_numbered() {
        let flows = grouped([flow(curl(1), 80, 1), flow(curl(0), 80, 100)]);
        assert_eq!(shown(&flows), [(None, None, 80, 101)]);
        assert_eq!(shown(&grouped([flow(curl(0), 80, 100)])), [(None, None, 80, 100)]);
    }

    #[test]
    fn what_belongs_to_nobody_stays_apart() {
        let flows = grouped([flow(None, 80, 1), flow(None, 80, 2), flow(curl(1), 80, 1)]);
        assert_eq!(flows.len(), 2);
        assert_eq!((&flows[0].program, flows[0].counts.connects), (&None, 3));
    }

    #[test]
    fn what_was_counted_before_the_window_is_taken_away() {
        let before = [(1, flow(curl(1), 80, 5)), (1, flow(curl(2), 80, 7)), (2, flow(curl(1), 80, 1))];
        let now = [
            (1, flow(curl(1), 80, 9)),
            (1, flow(curl(2), 80, 7)),
            (2, flow(curl(1), 80, 1)),
            (2, flow(curl(3), 80, 2)),
        ];
        let mut moved = since(&now, &before);
        moved.sort_by_key(|(netns, _)| *netns);
        let moved: Vec<_> = moved.into_iter().map(|(netns, flow)| (netns, shown(&[flow])[0])).collect();
        assert_eq!(moved, [(1, (Some(1), Some(1), 80, 4)), (2, (Some(3), Some(1), 80, 2))]);
    }
}
