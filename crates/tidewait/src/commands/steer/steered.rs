//! Steering that keeps up with what changes around it: reserved ports, the kernel's range, listeners, local addresses.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use tidewait_act::steer::{Offer, SteerError, Steering, Wish};
use tidewait_model::PortSet;
use tidewait_model::steer::Counts;
use tidewait_model::steer::ports::Choice;
use tidewait_observe::attached::{self, Hook};
use tidewait_observe::places::{self, Place, PlaceError, Scope};
use tidewait_surfaces::text::count;

use crate::exit;

use super::ports::{self, Claimed};
use super::session::stands_beside;
use super::target::refused;
use super::{sources, warnings};

/// How often it is looked what has changed.
pub const EVERY: Duration = Duration::from_secs(1);

/// Ports and addresses that were checked and claimed; nothing is attached yet.
pub struct Plan {
    /// Their network namespace.
    pub place: Place,
    /// The ports; `None`: they are left to the kernel.
    pub claimed: Option<Claimed>,
    sources: Vec<IpAddr>,
    reuse_after: Option<Duration>,
    offer: Offer,
    /// What is worth knowing before.
    warnings: Vec<String>,
}

impl Plan {
    /// Checks `sources`, and claims ports where there is a `choice`.
    ///
    /// # Errors
    /// [`Usage`](crate::exit::Usage) where they do not make sense in `place`, or what went wrong.
    pub fn make(
        place: Place,
        choice: Option<&Choice>,
        reuse_after: Option<f64>,
        sources: &[IpAddr],
    ) -> anyhow::Result<Plan> {
        let locals = place.enter(sources::locals)??;
        sources::check(&place, sources, &locals)?;
        let claimed = choice.map(|choice| ports::claim(&place, choice)).transpose()?;
        let ports = claimed.as_ref().map_or_else(PortSet::default, |claimed| claimed.chosen.ports.clone());
        let offer = Offer { ports, sources: sources.to_vec(), locals };
        let mut warnings = warnings::of(claimed.as_ref(), sources);
        let mut reuse_after = reuse_after.map(whole);
        if reuse_after.is_some() && warnings::are_timestamps_off(&place) {
            reuse_after = None;
            warnings.push(warnings::NO_TIMESTAMPS.to_owned());
        }
        Ok(Plan { place, claimed, sources: sources.to_vec(), reuse_after, offer, warnings })
    }

    /// How old a TIME_WAIT must be for its port to be taken, in seconds; `None`: never.
    pub fn reuse_after_seconds(&self) -> Option<f64> {
        self.reuse_after.map(|age| age.as_secs_f64())
    }

    /// What is worth knowing before; what the control group has to do with it is known when it is attached.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Begins with it for the processes of `cgroup`, or that one alone.
    ///
    /// # Errors
    /// In words that name what is missing.
    pub fn attach(&mut self, cgroup: BorrowedFd<'_>, process: Option<u32>) -> anyhow::Result<Steering> {
        stands_beside(cgroup)?;
        let connects = [Hook::Connect4, Hook::Connect6];
        if connects.into_iter().any(|hook| attached::runs_before(cgroup, hook)) {
            self.warnings.push(warnings::OTHERS_BEFORE.to_owned());
        }
        let careful =
            self.claimed.is_some() && connects.into_iter().any(|hook| attached::runs_above(cgroup, hook));
        if careful {
            self.warnings.push(warnings::OTHERS_ABOVE.to_owned());
        }
        let wish = Wish {
            cgroup,
            netns: self.place.inode,
            process,
            offer: self.offer.clone(),
            reuse_after: self.reuse_after,
            careful,
        };
        Steering::start(&wish).map_err(refused)
    }

    /// What may be given now.
    fn look(&mut self) -> anyhow::Result<Offer> {
        let looked = self.place.enter(|| self.offer_here());
        if !matches!(looked, Err(PlaceError::Vanished { .. })) {
            return looked?;
        }
        // The process by which it was found has ended. There may be others; that there are none is seen elsewhere.
        let scope = Scope::One(format!("net:[{}]", self.place.inode));
        match places::find(Path::new("/"), &scope).ok().and_then(|found| found.places.into_iter().next()) {
            Some(place) => self.place = place,
            None => return Ok(self.offer.clone()),
        }
        self.place.enter(|| self.offer_here())?
    }

    /// What may be given now in the network namespace that the calling thread must be in.
    fn offer_here(&self) -> anyhow::Result<Offer> {
        Ok(Offer {
            ports: self.claimed.as_ref().map_or_else(|| Ok(PortSet::default()), Claimed::given)?,
            sources: self.sources.iter().copied().filter(|source| sources::is_there(*source)).collect(),
            locals: sources::locals()?,
        })
    }
}

/// The kernel notes in whole seconds when a peer was heard last: so many, or one more where it is a fraction.
fn whole(seconds: f64) -> Duration {
    Duration::from_secs(seconds.ceil().max(1.0) as u64)
}

/// Steering that goes on until it is dropped.
pub struct Steered {
    steering: Steering,
    /// What it was begun with, and what of that may be given at present.
    pub plan: Plan,
    looked: Instant,
    /// That it cannot be looked was said.
    is_blind: bool,
}

impl Steered {
    /// Keeps `plan` up to date for `steering`, which was begun with it.
    pub fn new(plan: Plan, steering: Steering) -> Steered {
        Steered { steering, plan, looked: Instant::now(), is_blind: false }
    }

    /// Looks what has changed, where that was a second ago or more, and has it hold at once; what is to be said of it.
    pub fn keep_up(&mut self) -> Vec<String> {
        if self.looked.elapsed() < EVERY {
            return Vec::new();
        }
        self.looked = Instant::now();
        let now = match self.plan.look() {
            Ok(now) if now == self.plan.offer => return Vec::new(),
            Ok(now) => now,
            Err(error) => return self.blind(&error),
        };
        if let Err(error) = self.steering.offer(&now) {
            return self.blind(&error.into());
        }
        self.is_blind = false;
        let words = changed(&self.plan.offer, &now);
        self.plan.offer = now;
        words
    }

    /// It goes on with what was seen last.
    fn blind(&mut self, error: &anyhow::Error) -> Vec<String> {
        if std::mem::replace(&mut self.is_blind, true) {
            return Vec::new();
        }
        vec![format!(
            "what changes in the network namespace cannot be followed, and it goes on as before: {}",
            exit::words(error)
        )]
    }

    /// Ports that are given at present.
    pub fn ports(&self) -> u32 {
        self.plan.offer.ports.len()
    }

    /// Sources that were asked for and are not there at present.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.plan.sources.iter().filter(|source| !self.plan.offer.sources.contains(source));
        missing.map(ToString::to_string).collect()
    }

    /// What was counted until now.
    ///
    /// # Errors
    /// If the kernel does not let it be read any more.
    pub fn counts(&self) -> Result<Counts, SteerError> {
        self.steering.counts()
    }
}

/// What is to be said of a change. That one listens or ends is of every day.
fn changed(before: &Offer, now: &Offer) -> Vec<String> {
    let mut words = Vec::new();
    let gone: Vec<_> = before.sources.iter().filter(|source| !now.sources.contains(source)).collect();
    for source in gone {
        let instead = match now.sources.iter().any(|other| other.is_ipv4() == source.is_ipv4()) {
            true => "the others take its turns",
            false => "none is left of its family, and routing chooses",
        };
        words.push(format!("source address {source} is not there any more: {instead} until it is back"));
    }
    for source in now.sources.iter().filter(|source| !before.sources.contains(source)) {
        words.push(format!("source address {source} is there again, and takes its turns"));
    }
    let (were, are) = (before.ports.len(), now.ports.len());
    if are == 0 && were > 0 {
        words.push(
            "none of the ports is left that may be given: they are reserved, listened on, or in the kernel's range by now; the kernel \
             chooses until that changes"
                .to_owned(),
        );
    } else if were.abs_diff(are) > FEW {
        words.push(format!(
            "{} ports may be given now, and {} could be before",
            count(are.into()),
            count(were.into())
        ));
    }
    words
}

/// So many ports more or less are none to speak of: somebody listens, or ends.
const FEW: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_as_it_is_kept() {
        for (asked, kept) in [(0.0, 1), (0.5, 1), (1.0, 1), (1.2, 2), (60.0, 60)] {
            assert_eq!(whole(asked), Duration::from_secs(kept), "{asked}");
        }
    }

    #[test]
    fn what_has_changed_is_said_and_what_is_of_every_day_is_not() {
        let offer = |ports: u16, sources: &[&str]| Offer {
            ports: (20_000..20_000 + ports).collect(),
            sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
            locals: Vec::new(),
        };
        let both = offer(2_000, &["10.0.0.5", "10.0.0.6"]);
        assert_eq!(changed(&both, &Offer { ports: (20_000..21_999).collect(), ..both.clone() }), [""; 0]);
        let one = offer(1_000, &["10.0.0.6"]);
        assert_eq!(
            changed(&both, &one),
            [
                "source address 10.0.0.5 is not there any more: the others take its turns until it is back",
                "1,000 ports may be given now, and 2,000 could be before"
            ]
        );
        assert_eq!(changed(&one, &both)[0], "source address 10.0.0.5 is there again, and takes its turns");
        let none = changed(&one, &offer(0, &[])).join("\n");
        assert!(none.contains("routing chooses") && none.contains("none of the ports is left"), "{none}");
    }
}
