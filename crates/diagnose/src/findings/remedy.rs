//! One thing to do, built step by step; and popular advice that does nothing.

use std::fmt::Display;

use tidewait_model::Owner;
use tidewait_model::report::{Configuration, NoHelp, Remedy};
use tidewait_model::tune::Assignment;

use super::view::View;
use super::words::who;
use crate::programs::{self, Need};

/// A remedy that has no place in the order yet.
#[derive(Clone, Debug)]
pub(crate) struct Step(Remedy);

impl Step {
    /// What to do, and what that brings in this case.
    pub(crate) fn new(id: &str, summary: impl Into<String>, effect: impl Into<String>) -> Step {
        Step(Remedy {
            rank: 0,
            id: id.to_owned(),
            summary: summary.into(),
            command: None,
            changes: Vec::new(),
            effect: effect.into(),
            risk: String::new(),
            configuration: Vec::new(),
        })
    }

    pub(crate) fn command(mut self, command: Option<String>) -> Step {
        self.0.command = command;
        self
    }

    /// Settings that it sets in the namespace, in this order.
    pub(crate) fn sets<V: Display>(
        mut self,
        view: &View<'_>,
        changes: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Step {
        self = self.changes(changes);
        let command = self.writes();
        self.command(view.inside(&command))
    }

    /// Settings that it sets on the host, in this order: the machine has one value of each.
    pub(crate) fn sets_on_host<V: Display>(
        mut self,
        changes: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Step {
        self = self.changes(changes);
        let command = self.writes();
        self.command(Some(command))
    }

    fn changes<V: Display>(mut self, changes: impl IntoIterator<Item = (&'static str, V)>) -> Step {
        self.0.changes = changes.into_iter().map(|(name, value)| Assignment::new(name, value)).collect();
        self
    }

    fn writes(&self) -> String {
        let all: Vec<String> = self.0.changes.iter().map(Assignment::to_string).collect();
        format!("sysctl -w {}", all.join(" "))
    }

    pub(crate) fn risk(mut self, risk: impl Into<String>) -> Step {
        self.0.risk = risk.into();
        self
    }

    /// The lines for the program that `owner` is, where it is known.
    pub(crate) fn configuration(mut self, owner: Option<&Owner>, need: Need) -> Step {
        self.0.configuration.extend(lines(owner, need));
        self
    }

    /// The same; where the program is not known, a word on where to look.
    pub(crate) fn configuration_or_hint(self, owner: Option<&Owner>, need: Need) -> Step {
        let mut step = self.configuration(owner, need);
        if step.0.configuration.is_empty() {
            step.0.summary.push_str("; `tidewait explain programs` lists those with lines to copy");
        }
        step
    }
}

impl From<Step> for Remedy {
    fn from(step: Step) -> Remedy {
        step.0
    }
}

fn lines(owner: Option<&Owner>, need: Need) -> Option<Configuration> {
    programs::of(&owner?.command)?.configuration(need)
}

/// Advice that does nothing in this case.
pub(crate) fn advice(setting: &str, why: impl Into<String>) -> Option<NoHelp> {
    Some(NoHelp { setting: setting.to_owned(), why: why.into() })
}

/// A setting that does nothing in this case; what it is set to here goes before the reason.
pub(crate) fn setting(view: &View<'_>, name: &str, why: &str) -> Option<NoHelp> {
    let why = match view.facts.settings.text(name) {
        Some(value) => {
            format!("here it is {}: {why}", value.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        None => why.to_owned(),
    };
    advice(name, why)
}

/// `net.ipv4.tcp_tw_recycle`, which many pages still praise, where the kernel has it no more.
pub(crate) fn recycle(view: &View<'_>) -> Option<NoHelp> {
    let name = "net.ipv4.tcp_tw_recycle";
    if view.facts.settings.text(name).is_some() {
        return None;
    }
    advice(name, "gone since Linux 4.12; before, it refused peers behind NAT")
}

/// Starting the program anew: what it frees at once, and for how long.
pub(crate) fn restart(owner: Option<&Owner>, effect: String) -> Option<Step> {
    let owner = owner?;
    let unit = owner.unit.as_deref().filter(|unit| unit.ends_with(".service"));
    let step = Step::new(
        "restart",
        format!("as a stopgap, restart {}", unit.map_or(who(owner), str::to_owned)),
        effect,
    )
    .command(unit.map(|unit| format!("systemctl restart {unit}")))
    .risk("its open connections end; the fault stays");
    Some(step)
}
