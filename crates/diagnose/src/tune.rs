//! Wishes into a plan: which settings are worth changing in this case, what each brings, what is in the way.

mod fixed;
mod judge;
mod wishes;

use std::collections::BTreeMap;

use tidewait_model::catalogue::{Accepts, InNamespace, Scope, Setting, obsolete, setting};
use tidewait_model::report::{Finding, Host, Namespace};
use tidewait_model::tune::{
    Assignment, Blocker, Capacity, Change, LeftOut, PLAN_SCHEMA, Plan, Profile, Reason, spaced,
};
use tidewait_model::{NamespaceFacts, Observation, PortSet, Settings};

use crate::findings::words::figure;
use judge::Judgement;
use wishes::Wish;

const RANGE: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
const START: &str = "net.ipv4.ip_unprivileged_port_start";
const REUSE: &str = "net.ipv4.tcp_tw_reuse";
const TIMESTAMPS: &str = "net.ipv4.tcp_timestamps";

/// The namespace that is to be changed, and what was seen of it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// All that was seen.
    pub observation: &'a Observation,
    /// What the namespace is called in the plan.
    pub name: &'a str,
    /// The namespace.
    pub facts: &'a NamespaceFacts,
    /// The same as the report has it.
    pub namespace: &'a Namespace,
    /// What was found, in all namespaces.
    pub findings: &'a [Finding],
    /// UDP ports that programs have asked for: the automatic choice of UDP is from the same range.
    pub udp: &'a PortSet,
    /// Whether it is the initial namespace, where the machine's own settings are.
    pub initial: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// What the findings advise.
    Findings,
    /// What a profile has.
    Profile(&'static Profile),
    /// These.
    Settings(&'a [Assignment]),
}

/// How it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner<'a> {
    /// Reserve the ports of services that a wider range would take in, rather than to refuse it.
    pub reserve: bool,
    /// Settings that are to be left out.
    pub without: &'a [String],
}

/// A setting that was asked for by name and cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplannable {
    /// Not one that tidewait knows.
    #[error("{name} is no setting that tidewait knows{}; `tidewait explain --list` shows those it does: it changes nothing that it cannot judge", near.as_deref().map(|near| format!(" (near is {near})")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// A name like it.
        near: Option<String>,
    },
    /// The kernel does not have it.
    #[error("{name} is not on this kernel: {why}")]
    NotHere {
        /// What was asked for.
        name: String,
        /// What became of it, or what it takes.
        why: String,
    },
    /// The value will not do.
    #[error("{0}")]
    Refused(String),
    /// It belongs to the machine and not to the namespace.
    #[error(
        "{name} is one for the whole machine and cannot be set for namespace {namespace} alone: plan it for the host"
    )]
    OfTheHost {
        /// What was asked for.
        name: String,
        /// Where.
        namespace: String,
    },
    /// A setting is to be left out that nobody asked for.
    #[error("--without {name}: nothing of that name was asked for; in question are {}", asked.join(", "))]
    NotAsked {
        /// What was to be left out.
        name: String,
        /// What was asked for.
        asked: Vec<String>,
    },
    /// The same setting with two values.
    #[error("{name} is asked for twice, as {one:?} and as {other:?}: give it once")]
    Twice {
        /// What was asked for.
        name: String,
        /// One value.
        one: String,
        /// Another.
        other: String,
    },
}

/// The plan for a namespace.
///
/// # Errors
/// Only settings that were asked for by name are refused; a line of a profile, or a remedy, that will not do is left out of
/// the plan, with the reason.
pub fn plan(place: &Place<'_>, asked: Asked<'_>, manner: Manner<'_>) -> Result<Plan, Unplannable> {
    let explicit = matches!(asked, Asked::Settings(_));
    let wishes = wishes::of(place, asked)?;
    let is_asked = |name: &&String| wishes.iter().any(|wish| is_called(&wish.setting, name));
    if let Some(name) = manner.without.iter().find(|name| !is_asked(name)) {
        let asked = wishes.into_iter().map(|wish| wish.setting).collect();
        return Err(Unplannable::NotAsked { name: name.clone(), asked });
    }
    let mut draft = Draft {
        place,
        settings: place.facts.settings.clone(),
        changes: Vec::new(),
        left_out: Vec::new(),
        blockers: Vec::new(),
        notes: Vec::new(),
    };
    let before = judge::capacity(place, &draft.settings);
    for wish in in_order(wishes, &draft.settings) {
        draft.take(&wish, explicit, manner)?;
    }
    if matches!(asked, Asked::Findings) {
        draft.notes.extend(before_settings(place));
        draft.advice();
    }
    if let Asked::Profile(profile) = asked {
        draft.notes.extend(profile.without.iter().map(|without| format!("not in it: {without}")));
    }
    let after = judge::capacity(place, &draft.settings);
    let subject = judge::subject(place);
    let rate = subject.map(|row| row.rate_now_per_second).filter(|rate| *rate > 0.0);
    draft.notes.extend(rate.and_then(|rate| enough(&draft.changes, rate)));
    let from = match asked {
        Asked::Findings => "findings".to_owned(),
        Asked::Profile(profile) => format!("profile {}", profile.name),
        Asked::Settings(_) => "settings".to_owned(),
    };
    Ok(Plan {
        schema: PLAN_SCHEMA.to_owned(),
        id: String::new(),
        made_at: place.observation.generated_at.clone(),
        host: Host { hostname: place.observation.hostname.clone(), kernel: place.observation.kernel.clone() },
        namespace: place.name.to_owned(),
        from,
        subject: subject.map(|row| format!("{} -> {}", row.source, row.destination)),
        rate_per_second: rate,
        capacity: before.zip(after).map(|(before, after)| rounded(before, after)),
        changes: draft.changes,
        left_out: draft.left_out,
        blockers: draft.blockers,
        notes: draft.notes,
    }
    .sealed())
}

/// What the findings advise before any setting: a plan has settings alone.
fn before_settings(place: &Place<'_>) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for finding in here(place) {
        let mut remedies: Vec<_> = finding.remedies.iter().collect();
        remedies.sort_by_key(|remedy| remedy.rank);
        for remedy in remedies.into_iter().take_while(|remedy| remedy.changes.is_empty()) {
            let note = format!("before any setting: {}", remedy.summary);
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    notes
}

/// Whether a setting is meant by a name, which may be its last part alone.
fn is_called(setting: &str, name: &str) -> bool {
    setting == name || setting.rsplit_once('.').is_some_and(|(_, last)| last == name)
}

/// Which of the changes about ports carry the present rate already, where not all of them are needed for that.
fn enough(changes: &[Change], rate: f64) -> Option<String> {
    let about_ports: Vec<(usize, &Change)> =
        changes.iter().enumerate().filter(|(_, change)| change.capacity.is_some()).collect();
    // With more than half the ports in use connect() gets slow.
    let carries =
        |(_, change): &&(usize, &Change)| change.capacity.is_some_and(|it| it.after_per_second >= 2.0 * rate);
    let (at, change) = about_ports.iter().find(carries)?;
    let needed = changes[*at].capacity.is_some_and(|it| it.before_per_second < 2.0 * rate);
    let others = about_ports.iter().any(|(other, _)| other > at);
    (needed && others).then(|| {
        format!(
            "{} connections a second come now: up to and with {} the changes carry that in less than half of the ports; --without leaves \
             others out",
            figure(rate),
            change.setting
        )
    })
}

/// Bounds depend on each other: what makes room is written before what needs it.
fn in_order(mut wishes: Vec<Wish>, settings: &Settings) -> Vec<Wish> {
    let start = settings.number(START).unwrap_or(1_024);
    wishes.sort_by_key(|wish| match wish.setting.as_str() {
        START if wish.wanted.parse().is_ok_and(|wanted: i64| wanted < start) => 0,
        RESERVED => 0,
        RANGE => 1,
        // Each counts only with the one before it.
        TIMESTAMPS => 2,
        REUSE => 3,
        START => 5,
        _ => 4,
    });
    wishes
}

struct Draft<'a> {
    place: &'a Place<'a>,
    /// The settings as they will be after the changes so far.
    settings: Settings,
    changes: Vec<Change>,
    left_out: Vec<LeftOut>,
    blockers: Vec<Blocker>,
    notes: Vec<String>,
}

impl Draft<'_> {
    /// Puts a wish where it belongs.
    fn take(&mut self, wish: &Wish, explicit: bool, manner: Manner<'_>) -> Result<(), Unplannable> {
        let name = &wish.setting;
        let now = self.settings.text(name).map(spaced);
        if manner.without.iter().any(|without| is_called(name, without)) {
            self.leave(wish, now, Reason::Unwanted, "it was left out with --without".to_owned());
            return Ok(());
        }
        let known = setting(name);
        let elsewhere = |row: &Setting| !self.place.initial && row.in_namespace != InNamespace::Own;
        if known.is_some_and(|row| elsewhere(row) && row.accepts != Accepts::Nothing) {
            let refused =
                Unplannable::OfTheHost { name: name.clone(), namespace: self.place.name.to_owned() };
            return self.refuse(wish, explicit, now, refused);
        }
        let (Some(row), Some(now)) = (known, now) else {
            let why = self.why_not_here(name, known);
            return if !explicit {
                self.leave(wish, None, Reason::NotHere, why);
                Ok(())
            } else if known.is_none() && obsolete(name).is_none() {
                Err(Unplannable::Unknown { name: name.clone(), near: wishes::near(name) })
            } else {
                Err(Unplannable::NotHere { name: name.clone(), why })
            };
        };
        if spaced(&wish.wanted) == now {
            self.leave(wish, Some(now), Reason::AlreadySo, "it has that value already".to_owned());
            return Ok(());
        }
        if let Err(refusal) = row.check_beside(&wish.wanted, &self.settings) {
            return self.refuse(wish, explicit, Some(now), Unplannable::Refused(refusal.to_string()));
        }
        if name == RANGE {
            self.keep_services(wish, explicit && !manner.reserve);
        }
        let before = judge::capacity(self.place, &self.settings);
        let mut settings = self.settings.clone();
        settings.0.insert(name.clone(), spaced(&wish.wanted));
        let after = judge::capacity(self.place, &settings);
        match judge::judge(self.place, row, &self.settings, &settings, wish.claimed) {
            Judgement::Nothing(why) => self.leave(wish, Some(now), Reason::NoEffect, why),
            Judgement::Harm(why) if !explicit => self.leave(wish, Some(now), Reason::Harmful, why),
            judgement => {
                let (effect, harm) = match judgement {
                    Judgement::Does(effect) | Judgement::Nothing(effect) => (effect, None),
                    Judgement::Harm(why) => (why.clone(), Some(why)),
                };
                self.blockers.extend(harm.map(|why| Blocker {
                    setting: name.clone(),
                    why,
                    remedy: "leave it as it is; --force sets it all the same".to_owned(),
                    offer: None,
                }));
                let capacity = before.zip(after).map(|(before, after)| rounded(before, after));
                self.changes.push(Change {
                    setting: name.clone(),
                    now,
                    wanted: spaced(&wish.wanted),
                    effect,
                    capacity: capacity
                        .filter(|capacity| capacity.before_per_second != capacity.after_per_second),
                    risk: row.risk.to_owned(),
                    reversible: judge::reversible(row.name).to_owned(),
                    scope: match row.scope {
                        Scope::Namespace => "namespace".to_owned(),
                        Scope::Host => "host".to_owned(),
                    },
                    why: wish.why.clone(),
                });
                self.settings = settings;
            }
        }
        Ok(())
    }

    /// Ports of services that a wider range takes in: reserved beside it, or in the way.
    fn keep_services(&mut self, wish: &Wish, refuse: bool) {
        let Some(taken) = fixed::taken(self.place, &self.settings, &wish.wanted) else { return };
        let mut merged = self.settings.reserved();
        merged.union(&taken.ports);
        let list = merged.to_string();
        if refuse {
            self.blockers.push(Blocker {
                setting: RANGE.to_owned(),
                why: format!(
                    "{} inside the new range: while the program that has {} is down, connect() would give {} away, and it could \
                     not start again",
                    taken.words,
                    if taken.ports.len() == 1 { "the port" } else { "the ports" },
                    if taken.ports.len() == 1 { "it" } else { "them" },
                ),
                remedy: format!("reserve {}: --reserve does, or", if taken.ports.len() == 1 { "it" } else { "them" }),
                offer: Some(Assignment::new(RESERVED, list)),
            });
            return;
        }
        let now = self.settings.text(RESERVED).map(spaced).unwrap_or_default();
        self.changes.retain(|change| change.setting != RESERVED);
        self.changes.push(Change {
            setting: RESERVED.to_owned(),
            now: self.place.facts.settings.text(RESERVED).map(spaced).unwrap_or(now),
            wanted: list.clone(),
            effect: format!(
                "{}: the automatic choice leaves out what the wider range would take in",
                taken.words
            ),
            capacity: None,
            risk: setting(RESERVED).map(|row| row.risk.to_owned()).unwrap_or_default(),
            reversible: judge::reversible(RESERVED).to_owned(),
            scope: "namespace".to_owned(),
            why: format!("goes with {RANGE}"),
        });
        self.settings.0.insert(RESERVED.to_owned(), list);
    }

    fn refuse(
        &mut self,
        wish: &Wish,
        explicit: bool,
        now: Option<String>,
        why: Unplannable,
    ) -> Result<(), Unplannable> {
        if explicit {
            return Err(why);
        }
        self.leave(wish, now, Reason::Refused, why.to_string());
        Ok(())
    }

    fn leave(&mut self, wish: &Wish, now: Option<String>, reason: Reason, why: String) {
        let wanted = Some(spaced(&wish.wanted));
        self.left_out.push(LeftOut { setting: wish.setting.clone(), now, wanted, reason, why });
    }

    /// What the findings say will not help, unless another finding asks for it.
    fn advice(&mut self) {
        let mut said: BTreeMap<String, String> = BTreeMap::new();
        for advice in here(self.place).flat_map(|finding| &finding.no_help) {
            if !self.changes.iter().any(|change| advice.setting.contains(&change.setting)) {
                said.entry(advice.setting.clone()).or_insert_with(|| advice.why.clone());
            }
        }
        for (setting, why) in said {
            let now = self.settings.text(&setting).map(spaced);
            self.left_out.push(LeftOut { setting, now, wanted: None, reason: Reason::NoEffect, why });
        }
    }

    /// Why a setting is not among those that were read.
    fn why_not_here(&self, name: &str, row: Option<&'static Setting>) -> String {
        if let Some(gone) = obsolete(name) {
            return match gone.now {
                Some(now) => format!("it is called {now} now; {}", gone.why),
                None => format!("gone since Linux {}: {}", gone.gone_in, gone.why),
            };
        }
        let Some(row) = row else { return "tidewait does not know it".to_owned() };
        if let Some(vendor) = row.vendor {
            format!("not in mainline, only in {vendor}")
        } else if let Some(module) = row.module {
            format!("its module {module} is not loaded")
        } else if let Some(since) = row.since {
            format!("Linux {since} and later have it")
        } else {
            "it is not among the settings of this namespace".to_owned()
        }
    }
}

/// The findings of the namespace, worst first.
fn here<'a>(place: &'a Place<'_>) -> impl Iterator<Item = &'a Finding> {
    let mut findings: Vec<&Finding> =
        place.findings.iter().filter(|finding| finding.namespace == place.facts.name).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings.into_iter()
}

/// What ports carry is never said to be more than it is: down to a tenth.
fn rounded(before: f64, after: f64) -> Capacity {
    let tenth = |value: f64| (value * 10.0).floor() / 10.0;
    Capacity { before_per_second: tenth(before), after_per_second: tenth(after) }
}

#[cfg(test)]
mod tests;
