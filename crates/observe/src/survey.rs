//! Puts an observation together: finds the namespaces, reads each one's settings and counters, counts its sockets.
//!
//! Two rounds through the namespaces. The first reads what is cheap; from its counters follows which socket tables
//! can be left out because they are proven empty (see `plan`). The second dumps the rest. What the census then shows
//! decides on the dearer looks: at sockets that linger, and through all open files, once for all who ask.

mod lingering;
mod plan;
mod processes;
mod queues;
mod sockets;
mod traced;
mod unconnected;
mod watch;
mod whose;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidewait_model::{AddressFilter, Limit, NamespaceFacts, Observation, Timing};

use crate::census::direction::Ports;
use crate::owners::{Holders, Search};
use crate::places::{self, Kind, Place, PlaceError, Scope};
use crate::procfs;
use crate::sysctl_files::sysctl_files;
use lingering::Close;
pub(crate) use plan::Inuse;
use sockets::Extent;
use tidewait_model::steer::Holder;
use tidewait_model::trace::Traced;
use traced::Seen;
pub use traced::Tracing;

/// When the owners of live sockets are looked for. It takes a look at every open file of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// Never.
    Never,
    /// Where a destination uses so much of its ports that somebody will ask, and where sockets linger, an accept queue
    /// is full, or sockets without a connection are likely.
    #[default]
    NearLimit,
    /// For everything that is listed.
    Always,
}

/// What is asked of the machine.
#[derive(Clone, Debug)]
pub struct Question {
    /// Root of the file system: `/`.
    pub root: PathBuf,
    /// Which namespaces.
    pub scope: Scope,
    /// Only sockets with this peer; checked in the kernel.
    pub to: Option<AddressFilter>,
    /// How many destinations of a namespace are kept one by one, beside those near a limit.
    pub keep: usize,
    /// When owners are looked for.
    pub owners: Owners,
    /// For how long at least the counters are watched; `None` to read them once only.
    pub watch_for: Option<Duration>,
}

/// A destination that uses this share of the automatic range is near a limit: connect() becomes slow at half.
const NEAR: f64 = 0.4;

/// Looks at the machine.
///
/// # Errors
/// Only where the question itself cannot be met: a namespace that was asked for by name and is not there or
/// may not be entered. Everything else that could not be seen is in the observation's limits.
pub fn survey(question: &Question) -> Result<Observation, PlaceError> {
    look(question, None)
}

/// Looks at the machine while it is traced: whose the sockets in TIME_WAIT were, and what connections there have been.
///
/// # Errors
/// As for [`survey`]. If the trace cannot be read, that is in the observation's limits.
pub fn survey_traced(question: &Question, tracing: &mut Tracing) -> Result<Observation, PlaceError> {
    look(question, Some(tracing))
}

fn look(question: &Question, tracing: Option<&mut Tracing>) -> Result<Observation, PlaceError> {
    let begin = Instant::now();
    let mut observation = Observation {
        generated_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        hostname: procfs::hostname(),
        kernel: procfs::kernel_release(),
        ..Observation::default()
    };
    let found = places::find(&question.root, &question.scope)?;
    let mut limits = Limits::default();
    limits.extend(found.limits);
    limits.extend(processes::uncounted(found.uncounted));
    observation.timings.push(timing("namespaces", begin, found.places.len() as u64));

    let settings_begin = Instant::now();
    let mut namespaces = Vec::new();
    let mut first_read = Vec::new();
    for place in &found.places {
        match read(place, &question.root) {
            Ok((facts, unread)) => {
                limits.extend(unread);
                namespaces.push((place, facts));
                first_read.push(Instant::now());
            }
            Err(error) if matches!(question.scope, Scope::One(_)) => return Err(error),
            Err(error) => limits.extend([error.limit()]),
        }
    }
    observation.timings.push(timing("settings", settings_begin, namespaces.len() as u64));

    // Before the sockets, so that all that were born until now are in it.
    let traced = match tracing.map(Tracing::look).transpose() {
        Ok(traced) => traced,
        Err(limit) => {
            limits.extend([limit]);
            None
        }
    };
    observation.timings.extend(traced.iter().flat_map(|traced| traced.timings.iter().cloned()));
    let (seen, connected) = count(question, &mut namespaces, traced.as_ref(), &mut observation.timings);
    let counted = Instant::now();
    limits.extend(seen);
    if let Some(traced) = traced {
        namespaces.iter_mut().for_each(|(_, facts)| traced.tell(facts, question.to));
        limits.extend(traced.limits(namespaces.iter().map(|(_, facts)| facts)));
    }
    let (close, seen) = look_closely(question, &namespaces, &mut observation.timings);
    limits.extend(seen);
    let (unconnected, seen) =
        attribute(question, &mut namespaces, close, connected, &mut observation.timings);
    limits.extend(seen);

    let processes_begin = Instant::now();
    let everywhere = match question.scope {
        Scope::All => true,
        Scope::Auto => found.places.iter().any(|place| place.kind == Kind::Host),
        Scope::One(_) => false,
    };
    let machine = &mut observation.machine;
    machine.processes =
        processes::processes(&question.root, &found.busy, &namespaces, unconnected.as_ref(), everywhere);
    let told = machine.processes.len() as u64;
    observation.timings.push(timing("processes", processes_begin, told));
    machine.open_files = procfs::open_files(&question.root);
    let files_begin = Instant::now();
    let files = sysctl_files(&question.root);
    limits.extend(files.limits);
    machine.configured = files.applied;
    machine.not_applied = files.not_applied;
    machine.applied_by = files.applied_by;
    observation.timings.push(timing("sysctl files", files_begin, machine.configured.len() as u64));
    match processes::configured_namespace(&question.root) {
        Ok(home) => namespaces.iter_mut().for_each(|(_, facts)| facts.configured = Some(facts.inode) == home),
        Err(limit) if !machine.configured.is_empty() => limits.extend([limit]),
        Err(_) => {}
    }
    if let Some(least) = question.watch_for {
        let watch_begin = Instant::now();
        limits.extend(watch::watch(&question.root, &mut namespaces, &first_read, least));
        observation.timings.push(timing("watching", watch_begin, namespaces.len() as u64));
    }
    let queues_begin = Instant::now();
    limits.extend(queues::look_again(&mut namespaces, counted));
    observation.timings.push(timing("full accept queues", queues_begin, 0));
    observation.namespaces = namespaces.into_iter().map(|(_, facts)| facts).collect();
    observation.limits = limits.0;
    observation.duration_seconds = begin.elapsed().as_secs_f64();
    Ok(observation)
}

/// The inodes of all sockets of the namespaces that were looked into, ascending.
type Connected = Vec<u32>;

/// Counts the sockets of every namespace. The inodes are given only where a search for sockets without a connection is
/// worth its cost and can be complete.
fn count(
    question: &Question,
    namespaces: &mut [(&Place, NamespaceFacts)],
    traced: Option<&Seen>,
    timings: &mut Vec<Timing>,
) -> (Vec<Limit>, Option<Connected>) {
    let begin = Instant::now();
    let mut limits = Vec::new();
    let mut rows = 0;
    let inuse: Vec<Inuse> = namespaces.iter().map(|(_, facts)| Inuse::from(&facts.counters)).collect();
    let unaccounted = plan::unaccounted(&inuse, || elsewhere(question, namespaces));
    // From inside a container, or without privileges, the rest of the machine does not show; each namespace does.
    let here = || {
        let each =
            |(place, _): &(&Place, _)| place.enter(|| procfs::unaccounted(&question.root)).ok().flatten();
        namespaces.iter().filter_map(each).sum()
    };
    let suspicious = question.owners != Owners::Never
        && question.to.is_none()
        && unaccounted.map_or_else(here, |found| found.held) >= unconnected::SUSPICIOUS;
    let bound = unaccounted.is_none_or(|found| found.sockets > 0);
    let mut connected = suspicious.then(Vec::new);
    for ((place, facts), inuse) in namespaces.iter_mut().zip(&inuse) {
        if inuse.is_idle() && !bound {
            continue;
        }
        let traced = traced.map(|traced| traced.window(facts));
        let extent = Extent { bound, inodes: suspicious, traced };
        let ports = Ports { range: facts.settings.port_range(), steered: Holder::ports(&facts.steered) };
        match place.enter(|| sockets::take(question, &facts.name, &ports, extent)) {
            Ok(taken) => {
                facts.census = taken.census;
                facts.traced = traced.map(|_| Traced { births: taken.births, ..Traced::default() });
                rows += taken.rows;
                limits.extend(taken.limits);
                connected = connected.zip(taken.inodes).map(|(mut all, more)| {
                    all.extend(more);
                    all
                });
            }
            Err(error) => {
                limits.push(error.limit());
                connected = None;
            }
        }
    }
    if let Some(connected) = &mut connected {
        connected.sort_unstable();
    }
    timings.push(timing("sockets", begin, rows));
    (limits, connected)
}

/// Looks closely at what lingers in each namespace.
fn look_closely(
    question: &Question,
    namespaces: &[(&Place, NamespaceFacts)],
    timings: &mut Vec<Timing>,
) -> (Vec<Close>, Vec<Limit>) {
    let begin = Instant::now();
    let mut limits = Vec::new();
    let mut close = Vec::new();
    for (place, facts) in namespaces {
        let looked = if lingering::is_worth_a_look(facts) {
            place.enter(|| lingering::look(question, facts))
        } else {
            Ok(Ok(Close::default()))
        };
        close.push(match looked {
            Ok(Ok(close)) => close,
            Ok(Err(error)) => {
                limits.push(Limit::new(format!("{}: sockets that linger", facts.name), error.to_string()));
                Close::default()
            }
            Err(error) => {
                limits.push(error.limit());
                Close::default()
            }
        });
    }
    let looked_at = close.iter().map(Close::looked_at).sum();
    if looked_at > 0 {
        timings.push(timing("lingering", begin, looked_at));
    }
    (close, limits)
}

/// Finds the owners as far as the question and what was seen ask for it, and groups what lingers. Returns how many
/// sockets without a connection each process has, where they were looked for.
fn attribute(
    question: &Question,
    namespaces: &mut [(&Place, NamespaceFacts)],
    close: Vec<Close>,
    connected: Option<Connected>,
    timings: &mut Vec<Timing>,
) -> (Option<unconnected::Counts>, Vec<Limit>) {
    let always = question.owners == Owners::Always;
    let destinations = always || namespaces.iter().any(|(_, facts)| near_limit(facts));
    let stuck = || {
        let full = |facts: &NamespaceFacts| facts.census.listeners.iter().any(|listener| listener.full > 0);
        close.iter().any(Close::is_worth_a_search) || namespaces.iter().any(|(_, facts)| full(facts))
    };
    let mut limits = Vec::new();
    let mut holders = Holders::default();
    let mut unconnected = None;
    if question.owners != Owners::Never && (destinations || connected.is_some() || stuck()) {
        let looking = connected.is_some();
        let search = Search { wanted: close.iter().flat_map(Close::inodes).collect(), connected };
        let wanted = whose::Wanted { destinations, listeners: always, search };
        let (found, seen, cost) = whose::attribute(question, namespaces, wanted);
        holders = found;
        limits.extend(seen);
        timings.extend(cost);
        if looking {
            let begin = Instant::now();
            let candidates = std::mem::take(&mut holders.unconnected);
            let count = candidates.len() as u64;
            let (counts, refused) = unconnected::confirm(candidates);
            unconnected = Some(counts);
            limits.extend(refused);
            timings.push(timing("sockets without a connection", begin, count));
        }
    }
    for ((_, facts), close) in namespaces.iter_mut().zip(close) {
        facts.lingering = close.group(&holders);
    }
    (unconnected, limits)
}

/// Settings and counters of a namespace.
fn read(place: &Place, root: &Path) -> Result<(NamespaceFacts, Vec<Limit>), PlaceError> {
    let (settings, counters, (steered, unread)) =
        place.enter(|| (procfs::settings(root), procfs::counters(root), procfs::steered(root)))?;
    let facts = NamespaceFacts {
        name: place.name.clone(),
        inode: place.inode,
        settings: settings.0,
        steered,
        counters: counters.0,
        ..NamespaceFacts::default()
    };
    Ok((facts, settings.1.into_iter().chain(counters.1).chain(unread).collect()))
}

/// What the namespaces that were not asked for have in use; `None` if one of them cannot be seen.
fn elsewhere(question: &Question, asked: &[(&Place, NamespaceFacts)]) -> Option<Vec<Inuse>> {
    if question.scope == Scope::All {
        return Some(Vec::new());
    }
    let all = places::find(&question.root, &Scope::All).ok().filter(|all| all.limits.is_empty())?;
    let asked: HashSet<u64> = asked.iter().map(|(place, _)| place.inode).collect();
    all.places
        .iter()
        .filter(|place| !asked.contains(&place.inode))
        .map(|place| {
            place.enter(|| procfs::counters(&question.root)).ok().map(|(counters, _)| Inuse::from(&counters))
        })
        .collect()
}

/// Whether some destination or source uses so much of the range that its owners matter.
fn near_limit(facts: &NamespaceFacts) -> bool {
    let Some(range) = facts.settings.port_range() else { return false };
    let near = |ports: u32| f64::from(ports) >= f64::from(range.size()) * NEAR;
    facts.census.destinations.iter().any(|destination| near(destination.occupancy.ports.len()))
        || facts.census.sources.iter().any(|source| {
            // The ports of a source are short only where bind() chose them.
            source.parity[1] > source.parity[0] && near(source.occupancy.ports.len())
        })
}

/// Limits, each said once however many namespaces have it.
#[derive(Default)]
struct Limits(Vec<Limit>);

impl Limits {
    fn extend(&mut self, more: impl IntoIterator<Item = Limit>) {
        for limit in more {
            if !self.0.contains(&limit) {
                self.0.push(limit);
            }
        }
    }
}

fn timing(step: &str, begin: Instant, items: u64) -> Timing {
    Timing { step: step.to_owned(), seconds: begin.elapsed().as_secs_f64(), items }
}
