//! Sockets that a program holds and does not let go of: how many, for how long, how fast they grow, and how long the
//! descriptors last.

use tidewait_model::machine::Process;
use tidewait_model::report::Severity;
use tidewait_model::{Lingering, State};

use super::remedy::{Step, restart};
use super::view::{Ties, View};
use super::words::{count, duration, listed, percent, things, who};
use crate::programs::Need;

/// Fewer sockets than this matter to nobody.
pub(super) const SOME: u64 = 20;
/// From this many on, what grows is more than a nuisance.
const MANY: u64 = 50;
/// Seconds after which half of a group has been in its state for too long to be on its way through it: what passes in
/// five seconds has a median of half of that, as long as it comes steadily.
const SETTLED: f64 = 2.5;
/// Seconds after the start of a program within which a lack of old sockets proves nothing.
const YOUNG: f64 = 120.0;
/// Descriptors that run out within this many minutes are as good as gone.
const SOON: f64 = 10.0;
/// Descriptors that last longer than this many minutes, a week, are no worry.
const LATER: f64 = 7.0 * 24.0 * 60.0;

/// Minutes of a day: a limit that lasts for longer need not be raised.
const A_DAY: f64 = 24.0 * 60.0;

/// A group of sockets that stay, and the process that holds them.
pub(super) struct Leak<'a> {
    pub(super) group: &'a Lingering,
    pub(super) process: Option<&'a Process>,
    /// Those that have been there for more than a minute.
    pub(super) old: u64,
    /// Those that came within the last minute and are there still.
    pub(super) new: u64,
    /// Whether the new ones are taken to stay as well.
    stays: bool,
}

impl<'a> Leak<'a> {
    /// The group as a leak; `None` where it may as well be on its way through its state, or is too small to matter.
    /// `certain` says that the program knows of them. They are taken to stay where the program is young and the first of them came
    /// early in its life; elsewhere work for clients that have closed their half looks the same while it lasts.
    pub(super) fn of(view: &View<'a>, group: &'a Lingering, certain: bool) -> Option<Leak<'a>> {
        let process = view.process(group.owner.as_ref());
        let (old, new) = match &group.silence {
            Some(silence) => {
                let new = scaled(group, silence.last_minute).min(group.sockets);
                (group.sockets - new, new)
            }
            None => (0, 0),
        };
        let settled = group.silence.is_some_and(|silence| silence.median >= SETTLED);
        let by_age = old >= SOME || (group.sockets >= SOME && settled);
        // Peers that answer keepalive probes are never silent for long.
        let ages_tell = group.silence.is_some() && group.keepalive.saturating_mul(2) < group.looked_at;
        // More than there are open connections is no traffic passing through.
        let by_number = !ages_tell
            && group.sockets >= 5 * SOME
            && group.sockets > view.facts.census.states[State::Established];
        let running = process.and_then(|process| process.running_seconds);
        let since_start = running
            .zip(group.silence)
            .is_some_and(|(running, silence)| running < YOUNG && silence.longest * 2.0 >= running);
        let stays = settled && (old > 0 || (certain && since_start));
        (by_age || by_number).then_some(Leak { group, process, old, new, stays })
    }

    /// What it means for the process.
    pub(super) fn severity(&self) -> Severity {
        let (used, limit) = self.descriptors().unwrap_or((0, u64::MAX));
        let most_of_used = self.group.sockets.saturating_mul(2) >= used;
        let minutes = self.minutes_left();
        if (used > 0 && at_limit(used, limit) && most_of_used)
            || minutes.is_some_and(|minutes| minutes <= SOON)
        {
            return Severity::Critical;
        }
        let grows = self.growth().is_some() && self.group.sockets >= MANY;
        let fails = minutes.is_none_or(|minutes| minutes <= LATER);
        let half = self.group.sockets.saturating_mul(2) >= limit;
        if (grows && fails) || half { Severity::Warning } else { Severity::Notice }
    }

    /// Descriptors of the process and how many it may have.
    fn descriptors(&self) -> Option<(u64, u64)> {
        let process = self.process?;
        Some((process.descriptors, process.descriptor_limit?))
    }

    /// Minutes until the process has no descriptor left, at the growth of the last minute.
    pub(super) fn minutes_left(&self) -> Option<f64> {
        let (used, limit) = self.descriptors()?;
        Some(limit.saturating_sub(used) as f64 / self.growth()? as f64)
    }

    /// How many more there are a minute, where those of the last minute are taken to stay.
    pub(super) fn growth(&self) -> Option<u64> {
        Some(self.new).filter(|new| *new > 0 && self.stays)
    }

    /// How many, since when, how many more, from whom, and how long the descriptors last.
    pub(super) fn evidence(&self) -> Vec<String> {
        let group = self.group;
        let mut evidence = vec![self.ages(), peers(group)];
        if group.looked_at < group.sockets {
            evidence.push(format!(
                "{} of them were looked at closely; the rest is taken to be alike (inferred)",
                count(group.looked_at)
            ));
        }
        if let Some((used, limit)) = self.descriptors() {
            let mut text = format!(
                "the process has {} of {} descriptors open ({})",
                count(used),
                count(limit),
                percent(used, limit)
            );
            if let Some(minutes) = self.minutes_left() {
                text.push_str(&format!(
                    "; at the growth of the last minute none is left in {}",
                    duration(minutes * 60.0)
                ));
            }
            evidence.push(text);
        }
        evidence
    }

    fn ages(&self) -> String {
        let state = self.group.state.title();
        let sockets = things(self.group.sockets, "socket", "sockets");
        let Some(silence) = &self.group.silence else {
            return format!("{sockets} in {state}; for how long is not known: the kernel did not tell");
        };
        let mut text = format!("{sockets} in {state}");
        if self.old > 0 {
            text.push_str(&format!(", {} of them for more than a minute", count(self.old)));
        }
        text.push_str(&format!(
            ": half for at least {}, the longest for at least {}",
            duration(silence.median),
            duration(silence.longest)
        ));
        text.push_str(&match self.new {
            0 => "; none came in the last minute".to_owned(),
            new => format!("; {} came in the last minute", count(new)),
        });
        text
    }

    /// A restart as a stopgap.
    pub(super) fn restart(&self) -> Option<Step> {
        let mut effect = format!("frees {}", things(self.group.sockets, "descriptor", "descriptors"));
        if let (Some((_, limit)), Some(growth)) = (self.descriptors(), self.growth()) {
            let lasts = limit as f64 / growth as f64 * 60.0;
            effect.push_str(&format!(
                " at once; at this growth the limit is reached again after {}",
                duration(lasts)
            ));
        }
        restart(self.group.owner.as_ref(), effect)
    }

    /// A higher limit of descriptors: time, no cure.
    pub(super) fn more_descriptors(&self) -> Option<Step> {
        let (process, growth) = (self.process?, self.growth()?);
        let minutes = self.minutes_left().filter(|minutes| *minutes <= A_DAY)?;
        let limit = process.descriptor_limit?;
        let effect = |to: u64| {
            format!(
                "{} to {} descriptors: buys {} at this growth, beside the {} that are left",
                count(limit),
                count(to),
                duration(to.saturating_sub(limit) as f64 / growth as f64 * 60.0),
                duration(minutes * 60.0)
            )
        };
        raise_limit(process, effect)
    }

    pub(super) fn ties(&self, view: &View<'_>) -> Ties {
        ties(view, self.group)
    }

    /// Who holds them, in a few words.
    pub(super) fn holder(&self) -> String {
        self.group.owner.as_ref().map_or_else(|| "a process that is not known".to_owned(), who)
    }
}

/// What ties a group to others: its sockets, and the listeners of this machine at the one end or the other.
pub(super) fn ties(view: &View<'_>, group: &Lingering) -> Ties {
    let mut ties = Ties { unheld: !group.held, ..Ties::default() };
    ties.states.add(group.state, group.sockets);
    ties.endpoints =
        group.peers.iter().filter_map(|peer| peer.service.as_ref()).map(|it| view.endpoint(it)).collect();
    let outgoing = group.peers.iter().filter(|peer| peer.service.is_none());
    ties.endpoints.extend(view.listeners_behind(&outgoing.map(|peer| peer.peer.as_str())));
    ties
}

/// `part` of the sockets looked at, reckoned up to all sockets of the group.
pub(super) fn scaled(group: &Lingering, part: u64) -> u64 {
    if group.looked_at == 0 || group.looked_at >= group.sockets {
        return part.min(group.sockets);
    }
    let all = u128::from(part) * u128::from(group.sockets) / u128::from(group.looked_at);
    u64::try_from(all).unwrap_or(u64::MAX).min(group.sockets)
}

/// Whether so few of `limit` are free that the next program to ask goes away empty-handed: one in two hundred, because
/// descriptors come and go while they are counted.
pub(super) fn at_limit(used: u64, limit: u64) -> bool {
    limit > 0 && limit.saturating_sub(used).saturating_mul(200) <= limit
}

/// The peers of a group, most sockets first.
pub(super) fn peers(group: &Lingering) -> String {
    let names: Vec<String> = group
        .peers
        .iter()
        .map(|peer| match &peer.service {
            Some(service) => format!("{} at {service} ({})", peer.peer, count(peer.sockets)),
            None => format!("{} ({})", peer.peer, count(peer.sockets)),
        })
        .collect();
    let all = usize::try_from(group.peers_total).unwrap_or(usize::MAX).max(names.len());
    if names.is_empty() { String::new() } else { format!("peers: {}", listed(&names, names.len(), all)) }
}

/// Raises the soft limit of descriptors of a running process as far as its hard limit goes.
pub(super) fn raise_limit(process: &Process, effect: impl Fn(u64) -> String) -> Option<Step> {
    let (soft, hard) = (process.descriptor_limit?, process.descriptor_limit_hard?);
    let unit = process.owner.unit.as_deref().filter(|unit| unit.ends_with(".service"));
    let lasting = unit.map_or_else(
        || "for good: where the program is started".to_owned(),
        |unit| format!("for good: LimitNOFILE= of {unit}"),
    );
    if hard > soft {
        let step =
            Step::new("more-descriptors", format!("raise the limit of open files ({lasting})"), effect(hard));
        let command = process.owner.pid.map(|pid| format!("prlimit --pid {pid} --nofile={hard}:{hard}"));
        return Some(
            step.configuration(Some(&process.owner), Need::MoreDescriptors)
                .command(command)
                .risk("a program that uses select() fails with descriptors above 1,023; one that reads the limit at its start does not notice"),
        );
    }
    let to = soft.saturating_mul(4);
    let summary =
        format!("raise the limit of open files ({lasting}); its hard limit of {} is reached", count(hard));
    Some(
        Step::new("more-descriptors", summary, effect(to))
            .configuration(Some(&process.owner), Need::MoreDescriptors)
            .risk("takes effect with the next start of the program"),
    )
}
