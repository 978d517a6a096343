//! Settings put to the test: each is changed in namespaces of its own, and what connections can do is measured before and after.

mod claims;
mod experiments;
mod measure;
mod prove;
mod site;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

use tidewait_model::catalogue::{self, InNamespace, Setting};
use tidewait_model::experiment::{Change, Effect, ExperimentResult, Figure, Metric, Verdict};

pub use claims::{Claim, claims, judge};
pub use prove::{Case, Pool, prove};

use crate::error::{Context, Error, Result};
use crate::privilege::scaled;
use measure::{Bench, Group, group};
use site::{Client, Place, Site};

/// Ports of the range that an experiment begins with, unless the machine is slow ([`scaled`]): few enough to be filled in a
/// moment.
const PORTS: u64 = 2_000;

/// The first port of the stock range.
const FIRST_PORT: u64 = 32_768;

/// The setting of the range.
const RANGE: &str = "net.ipv4.ip_local_port_range";

/// A change, and what is known of its effects.
///
/// In the values `{low}`, `{high}`, `{quarter}` and `{twice}` stand for the first and the last port of the range, the last of
/// its first quarter, and the last of a range twice as long.
#[derive(Clone, Copy, Debug)]
pub struct Experiment {
    /// What it is called by.
    pub name: &'static str,
    /// What is asked, in a sentence.
    pub about: &'static str,
    /// In force before and after.
    given: &'static [(&'static str, &'static str)],
    /// What is changed. Names without dots are socket options or no setting at all, for the reader.
    changes: &'static [(&'static str, &'static str)],
    /// Written before and after where the kernel takes it, after all else.
    attempt: &'static [(&'static str, &'static str)],
    /// What is measured, and what has to come of it.
    expects: &'static [(Metric, Verdict)],
    /// The client's program before and after.
    client: (Client, Client),
    /// Addresses of the server before and after.
    destinations: (u8, u8),
    place: Place,
    /// Why nothing is measured.
    not_measured: Option<&'static str>,
    /// Changes are made in a namespace, and the measurement in namespaces made from there.
    in_parent: bool,
    /// The client's connections are tracked.
    tracked: bool,
}

/// Before the change, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    After,
}

/// Every experiment.
pub fn all() -> &'static [Experiment] {
    experiments::EXPERIMENTS
}

/// Ports that the experiments begin with.
pub fn ports() -> u64 {
    scaled(PORTS).max(200)
}

impl Experiment {
    /// Measures, changes, measures again in fresh namespaces. `tell` hears what is being done.
    ///
    /// # Errors
    /// Where namespaces cannot be made. What goes wrong in a measurement is in the result.
    pub fn run(&self, tell: impl Fn(&str)) -> Result<ExperimentResult> {
        let begin = Instant::now();
        let outcome = match self.obstacle()? {
            Some(obstacle) => Err(obstacle),
            None => self.figures(&tell),
        };
        let named = |changes: &[(&str, &str)]| {
            changes
                .iter()
                .map(|(name, value)| Change { name: (*name).to_owned(), value: filled_in(value) })
                .collect()
        };
        let mut reason = None;
        let effects = match outcome {
            Ok(effects) => effects,
            Err((verdict, why)) => {
                reason = Some(why);
                let lost = |&(metric, expected): &(Metric, Verdict)| Effect {
                    metric,
                    before: None,
                    after: None,
                    verdict,
                    expected,
                };
                self.expects.iter().map(lost).collect()
            }
        };
        Ok(ExperimentResult {
            experiment: self.name.to_owned(),
            about: self.about.to_owned(),
            given: named(self.given),
            changes: named(self.changes),
            effects,
            reason,
            seconds: begin.elapsed().as_secs_f64(),
        })
    }

    /// Why nothing can be measured here.
    fn obstacle(&self) -> Result<Option<(Verdict, String)>> {
        if let Some(why) = self.not_measured {
            return Ok(Some((Verdict::NotMeasured, why.to_owned())));
        }
        let netns = crate::NetNs::new()?;
        let settings = self.changes.iter().chain(self.given).filter(|(name, _)| is_setting(name));
        for (name, _) in settings {
            if netns.get(name).is_err() {
                return Ok(Some(match catalogue::setting(name) {
                    Some(setting) => absent(setting),
                    None => (Verdict::NotHere, format!("there is no {name}")),
                }));
            }
        }
        Ok(None)
    }

    fn figures(&self, tell: &impl Fn(&str)) -> Result<Vec<Effect>, (Verdict, String)> {
        let mut measured = [Vec::new(), Vec::new()];
        for (phase, figures) in [Phase::Before, Phase::After].into_iter().zip(&mut measured) {
            tell(if phase == Phase::Before { "before the change" } else { "after the change" });
            *figures = self.measure(phase).map_err(|error| match error {
                Error::Unavailable(why) => (Verdict::NotMeasured, why),
                other => (Verdict::Failed, other.to_string()),
            })?;
        }
        let find = |phase: usize, metric| -> Option<Figure> {
            measured[phase].iter().find(|(found, _)| *found == metric).map(|(_, figure)| *figure)
        };
        let effect = |&(metric, expected): &(Metric, Verdict)| {
            let (before, after) = (find(0, metric), find(1, metric));
            let verdict = match (before, after) {
                (Some(before), Some(after)) => metric.verdict(before, after),
                _ => Verdict::Failed,
            };
            Effect { metric, before, after, verdict, expected }
        };
        Ok(self.expects.iter().map(effect).collect())
    }

    /// Every figure of one phase, at as many sites as it takes.
    fn measure(&self, phase: Phase) -> Result<Vec<(Metric, Figure)>> {
        let mut groups: Vec<Group> = Vec::new();
        for (metric, _) in self.expects {
            if !groups.contains(&group(*metric)) {
                groups.push(group(*metric));
            }
        }
        let mut figures = Vec::new();
        for one in groups {
            let metrics: Vec<Metric> = self
                .expects
                .iter()
                .map(|(metric, _)| *metric)
                .filter(|metric| group(*metric) == one)
                .collect();
            let mut bench = Bench { site: self.site(phase)?, client: self.client(phase), ports: ports() };
            figures.extend(bench.measure(one, &metrics)?);
            if self.tracked && bench.site.client.get("net.netfilter.nf_conntrack_count")? == "0" {
                return Err(Error::Unavailable("the connections were not tracked".to_owned()));
            }
        }
        Ok(figures)
    }

    fn client(&self, phase: Phase) -> Client {
        if phase == Phase::Before { self.client.0 } else { self.client.1 }
    }

    /// Fresh namespaces with the settings of a phase.
    fn site(&self, phase: Phase) -> Result<Site> {
        let changes = if phase == Phase::After { self.changes } else { &[] };
        let destinations = if phase == Phase::After { self.destinations.1 } else { self.destinations.0 };
        let site = if self.in_parent {
            let parent = crate::NetNs::new()?;
            for (name, value) in changes {
                parent.set(name, &filled_in(value))?;
            }
            parent.run(|| Site::new(self.place, destinations))??
        } else {
            Site::new(self.place, destinations)?
        };
        site.set(RANGE, &filled_in("{low} {high}"))?;
        let changes = if self.in_parent { &[] } else { changes };
        for (name, value) in self.given.iter().chain(changes).filter(|(name, _)| is_setting(name)) {
            site.set(name, &filled_in(value))?;
        }
        for (name, value) in self.attempt {
            // Whether it is taken is what the experiment is about; the count of connections tells.
            let _ = site.set(name, &filled_in(value));
        }
        if self.tracked {
            track(&site)?;
        }
        Ok(site)
    }
}

/// Whether a change is one of a sysctl.
fn is_setting(name: &str) -> bool {
    name.contains('.')
}

/// Why a namespace does not have a setting.
fn absent(setting: &Setting) -> (Verdict, String) {
    if setting.in_namespace == InNamespace::Absent {
        return (Verdict::NotMeasured, "the machine has one, and a namespace none".to_owned());
    }
    if let (None, Some(module)) = (setting.removed_in, setting.module) {
        return (Verdict::NotMeasured, format!("the module {module} is not loaded"));
    }
    let why = match (setting.removed_in, setting.vendor, setting.since) {
        (Some(removed), ..) => format!("removed in Linux {removed}"),
        (_, Some(_), ..) => {
            "only in kernels of some vendors; in mainline the 60 s are compiled in".to_owned()
        }
        (.., Some(since)) => format!("new in Linux {since}"),
        _ => "this kernel was built without it".to_owned(),
    };
    (Verdict::NotHere, why)
}

/// A value with the ports of the range in it.
fn filled_in(value: &str) -> String {
    let ports = ports();
    [
        ("{low}", FIRST_PORT),
        ("{high}", FIRST_PORT + ports - 1),
        ("{quarter}", FIRST_PORT + ports / 4 - 1),
        ("{twice}", FIRST_PORT + 2 * ports - 1),
        ("{below}", 1_024 - ports / 4),
        ("{above}", 1_024 + ports - 1),
    ]
    .iter()
    .fold(value.to_owned(), |value, (place, port)| value.replace(place, &port.to_string()))
}

/// Has the client's connections tracked, as a firewall does that looks at their state.
fn track(site: &Site) -> Result<()> {
    let rules = "table ip lab { chain out { type filter hook output priority 0; ct state new accept; }; }";
    let mut child = site
        .client
        .command("nft")
        .args(["-f", "-"])
        .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::Unavailable(format!("nothing is tracked without nft: {error}")))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).context("write to", "nft")?;
    }
    let output = child.wait_with_output().context("run", "nft")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Unavailable(format!("nft: {}", said.lines().next().unwrap_or_default())))
}

#[cfg(test)]
mod tests;
