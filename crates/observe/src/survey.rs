//! Puts an observation together: finds the namespaces, reads each one's settings and counters, counts its sockets.
//!
//! Two rounds through the namespaces. The first reads what is cheap; from its counters follows which socket tables
//! can be left out because they are proven empty (see `plan`). The second dumps the rest.

mod plan;
mod sockets;
mod whose;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tidewait_model::{AddressFilter, Limit, NamespaceFacts, Observation, Timing};

use crate::places::{self, Place, PlaceError, Scope};
use crate::procfs;
use plan::Inuse;

/// When the owners of live sockets are looked for. It takes a look at every open file of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// Never.
    Never,
    /// Where a destination uses so much of its ports that somebody will ask.
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
}

/// A destination that uses this share of the automatic range is near a limit: connect() becomes slow at half.
const NEAR: f64 = 0.4;

/// Looks at the machine.
///
/// # Errors
/// Only where the question itself cannot be met: a namespace that was asked for by name and is not there or
/// may not be entered. Everything else that could not be seen is in the observation's limits.
pub fn survey(question: &Question) -> Result<Observation, PlaceError> {
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
    observation.timings.push(timing("namespaces", begin, found.places.len() as u64));

    let settings_begin = Instant::now();
    let mut namespaces = Vec::new();
    for place in &found.places {
        match read(place, &question.root) {
            Ok((facts, unread)) => {
                limits.extend(unread);
                namespaces.push((place, facts));
            }
            Err(error) if matches!(question.scope, Scope::One(_)) => return Err(error),
            Err(error) => limits.extend([error.limit()]),
        }
    }
    observation.timings.push(timing("settings", settings_begin, namespaces.len() as u64));

    let sockets_begin = Instant::now();
    let mut rows = 0;
    let inuse: Vec<Inuse> = namespaces.iter().map(|(_, facts)| Inuse::from(&facts.counters)).collect();
    let bound = plan::bound_possible(&inuse, || elsewhere(question, &namespaces));
    for ((place, facts), inuse) in namespaces.iter_mut().zip(&inuse) {
        if inuse.is_idle() && !bound {
            continue;
        }
        match place.enter(|| sockets::take(question, &facts.name, facts.settings.port_range(), bound)) {
            Ok((census, count, unread)) => {
                facts.census = census;
                rows += count;
                limits.extend(unread);
            }
            Err(error) => limits.extend([error.limit()]),
        }
    }
    observation.timings.push(timing("sockets", sockets_begin, rows));

    let wanted = match question.owners {
        Owners::Never => false,
        Owners::Always => true,
        Owners::NearLimit => namespaces.iter().any(|(_, facts)| near_limit(facts)),
    };
    if wanted {
        let (seen, cost) = whose::attribute(question, &mut namespaces);
        limits.extend(seen);
        observation.timings.extend(cost);
    }
    observation.namespaces = namespaces.into_iter().map(|(_, facts)| facts).collect();
    observation.limits = limits.0;
    observation.duration_seconds = begin.elapsed().as_secs_f64();
    Ok(observation)
}

/// Settings and counters of a namespace.
fn read(place: &Place, root: &Path) -> Result<(NamespaceFacts, Vec<Limit>), PlaceError> {
    let (settings, counters) = place.enter(|| (procfs::settings(root), procfs::counters(root)))?;
    let facts = NamespaceFacts {
        name: place.name.clone(),
        inode: place.inode,
        settings: settings.0,
        counters: counters.0,
        ..NamespaceFacts::default()
    };
    Ok((facts, settings.1.into_iter().chain(counters.1).collect()))
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
