//! What is wanted of which setting, and who wants it: remedies of findings, lines of a profile, or somebody by name.

use tidewait_model::catalogue::SETTINGS;
use tidewait_model::tune::{Assignment, Wanted, spaced};
use tidewait_model::{PortRange, PortSet};

use super::{Asked, Place, RANGE, RESERVED, START, Unplannable, here};

/// A wider range that keeps clear of the ports where services usually listen.
const WIDER: PortRange = PortRange { low: 10_240, high: 65_535 };

/// How alike names have to be for one to be meant by the other, 0 to 1.
const LIKE: f64 = 0.7;

/// A setting and what is wanted of it.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) setting: String,
    pub(super) wanted: String,
    /// Why it is wanted.
    pub(super) why: String,
    /// Whether it is wanted because it is said to help against TIME_WAIT or a lack of ports, and is to be judged by that.
    pub(super) claimed: bool,
}

pub(super) fn of(place: &Place<'_>, asked: Asked<'_>) -> Result<Vec<Wish>, Unplannable> {
    let mut wishes: Vec<Wish> = Vec::new();
    match asked {
        Asked::Findings => {
            for finding in here(place) {
                let mut remedies: Vec<_> = finding.remedies.iter().collect();
                remedies.sort_by_key(|remedy| remedy.rank);
                for change in remedies.into_iter().flat_map(|remedy| &remedy.changes) {
                    if !wishes.iter().any(|wish| wish.setting == change.setting) {
                        wishes.push(Wish {
                            setting: change.setting.clone(),
                            wanted: change.value.clone(),
                            why: format!("{}: {}", finding.id, finding.subject),
                            claimed: false,
                        });
                    }
                }
            }
        }
        Asked::Profile(profile) => wishes.extend(profile.lines.iter().map(|line| Wish {
            setting: line.setting.to_owned(),
            wanted: resolve(place, line.setting, line.wanted),
            why: line.why.to_owned(),
            claimed: profile.is_verbatim(),
        })),
        Asked::Settings(settings) => {
            for asked in settings {
                if let Some(before) = wishes.iter().find(|wish| wish.setting == asked.setting) {
                    if spaced(&before.wanted) == spaced(&asked.value) {
                        continue;
                    }
                    return Err(Unplannable::Twice {
                        name: asked.setting.clone(),
                        one: before.wanted.clone(),
                        other: asked.value.clone(),
                    });
                }
                wishes.push(Wish {
                    setting: asked.setting.clone(),
                    wanted: as_listed(asked),
                    why: "asked for".to_owned(),
                    claimed: false,
                });
            }
        }
    }
    Ok(wishes)
}

/// The value, a list of ports as the kernel spells it: in order, neighbours as a range. One that is no list is left for the check.
fn as_listed(asked: &Assignment) -> String {
    match PortSet::parse_list(&asked.value) {
        (ports, 0) if asked.setting == RESERVED && !asked.value.contains(char::is_whitespace) => {
            ports.to_string()
        }
        _ => asked.value.clone(),
    }
}

/// The value that a line of a profile comes to here. What is better already stays.
fn resolve(place: &Place<'_>, name: &str, wanted: Wanted) -> String {
    let settings = &place.facts.settings;
    let now = settings.number(name);
    match wanted {
        Wanted::Exactly(value) => value.to_owned(),
        Wanted::AtLeast(least) => now.map_or(least, |now| now.max(least)).to_string(),
        Wanted::AtMost(most) => now.map_or(most, |now| now.min(most)).to_string(),
        Wanted::WiderRange => {
            let present = settings.port_range().unwrap_or(WIDER);
            let start = settings.number(START).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
            let low = WIDER.low.max(start).min(present.low);
            debug_assert_eq!(name, RANGE);
            format!("{low} {}", WIDER.high)
        }
    }
}

/// The name of a setting that is most like `name`, as a whole or by its last part.
pub(super) fn near(name: &str) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |known: &str| {
        strsim::normalized_damerau_levenshtein(known, name)
            .max(strsim::normalized_damerau_levenshtein(&last(known), &last(name)))
    };
    let best = SETTINGS.iter().max_by(|a, b| likeness(a.name).total_cmp(&likeness(b.name)))?;
    (likeness(best.name) >= LIKE).then(|| best.name.to_owned())
}
