//! The one network namespace that is to be changed, looked into, and the plan for it.

use std::path::{Path, PathBuf};

use tidewait_diagnose::tune::{self, Asked, Manner};
use tidewait_diagnose::{Options, assess};
use tidewait_model::Observation;
use tidewait_model::PortSet;
#[cfg(feature = "act")]
use tidewait_model::catalogue::{Accepts, InNamespace, setting};
#[cfg(feature = "act")]
use tidewait_model::report::Pool;
use tidewait_model::report::Report;
use tidewait_model::tune::Plan;
use tidewait_observe::places::{Kind, Place, Scope};
use tidewait_observe::procfs;
use tidewait_observe::survey::{Owners, Question, survey};

use crate::exit::Usage;
use crate::place;

/// A namespace and what was seen of it.
pub struct Scene {
    /// Where it is.
    pub place: Place,
    observation: Observation,
    report: Report,
    udp: PortSet,
}

impl Scene {
    /// Looks into the namespace that `netns` names, or the own one.
    pub fn look(netns: Option<&str>) -> anyhow::Result<Scene> {
        let place = place::one(netns)?;
        let scope = if place.own && place.inode == 0 {
            Scope::Auto
        } else {
            Scope::One(format!("net:[{}]", place.inode))
        };
        let observation = survey(&Question {
            root: PathBuf::from("/"),
            scope,
            to: None,
            keep: usize::MAX,
            owners: Owners::Always,
            watch_for: None,
        })?;
        let report = assess(&observation, &Options { top: 0, timings: false });
        let udp = place.enter(|| procfs::udp_ports(Path::new("/")))?;
        Ok(Scene { place, observation, report, udp })
    }

    /// What the namespace is called for longer than its processes live: by its name, or by its inode.
    pub fn name(&self) -> String {
        match self.place.kind {
            Kind::Host | Kind::Named => self.place.name.clone(),
            Kind::Group | Kind::Leader | Kind::Own => format!("net:[{}]", self.place.inode),
        }
    }

    /// The plan for what is asked.
    pub fn plan(&self, asked: Asked<'_>, manner: Manner<'_>) -> anyhow::Result<Plan> {
        let [facts] = &self.observation.namespaces[..] else {
            anyhow::bail!("network namespace {} could not be looked into", self.place.name);
        };
        let place = tune::Place {
            observation: &self.observation,
            name: &self.name(),
            facts,
            namespace: &self.report.namespaces[0],
            findings: &self.report.findings,
            udp: &self.udp,
            initial: self.place.kind == Kind::Host,
        };
        tune::plan(&place, asked, manner).map_err(|error| Usage(error.to_string()).into())
    }
}

/// What only changes ask.
#[cfg(feature = "act")]
impl Scene {
    /// Whether it is the initial namespace.
    pub fn is_host(&self) -> bool {
        self.place.kind == Kind::Host
    }

    /// Whether it is the namespace that the files of /etc/sysctl.d are applied to at boot.
    pub fn is_configured(&self) -> bool {
        self.observation.namespaces.first().is_some_and(|facts| facts.configured)
    }

    /// Every setting that a network namespace has for itself and that can be written, as it is there.
    pub fn own_settings(&self) -> Vec<(&str, &str)> {
        let Some(facts) = self.observation.namespaces.first() else { return Vec::new() };
        let all = facts.settings.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| is_own(name)).collect()
    }

    /// How the ports of the connections that a plan is about were chosen; `None` where nothing connects.
    pub fn pool(&self, plan: &Plan) -> Option<Pool> {
        let rows = &self.report.namespaces.first()?.destinations;
        let subject = plan.subject.as_ref()?;
        rows.iter()
            .find(|row| *subject == format!("{} -> {}", row.source, row.destination))
            .map(|row| row.pool)
    }

    /// Seconds that a socket stays in TIME_WAIT there.
    pub fn time_wait_seconds(&self) -> u32 {
        self.report.namespaces.first().map_or(60, |namespace| namespace.time_wait_seconds)
    }

    /// A setting as it is there.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.observation.namespaces.first()?.settings.text(name)
    }
}

/// Whether a network namespace has a setting for itself that can be written, whatever is loaded.
#[cfg(feature = "act")]
pub fn is_own(name: &str) -> bool {
    setting(name).is_some_and(|row| {
        row.in_namespace == InNamespace::Own && row.module.is_none() && row.accepts != Accepts::Nothing
    })
}
