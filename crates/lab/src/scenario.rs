//! Scenarios: one cause of trouble each, made for real in a little machine, with the findings that have to come of it.
//!
//! A scenario knows nothing of how trouble is found: it names the findings that must be told, by their ids, and makes the
//! cause. Whoever runs it looks at the machine as an operator would, from inside, and compares.

mod closing;
mod handshake;
mod healthy;
mod leaks;
mod ports;
mod programs;
mod settings;
mod stage;
mod tables;

use tidewait_model::report::{Finding, Severity};

pub use stage::{Lens, Stage};

use crate::error::Result;
use crate::machine::Machine;
use crate::privilege::scaled;

/// One cause of trouble, or a busy machine without any.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called by: that of the finding it proves, with a suffix where there are several.
    pub name: &'static str,
    /// What goes on, in a sentence.
    pub about: &'static str,
    /// The findings that have to be told. None: nothing worse than a notice may be.
    pub expects: &'static [Expectation],
    /// Findings that may be told besides, by id. Notices may always be.
    pub tolerates: &'static [&'static str],
    /// What it takes to make it here.
    needs: &'static [Need],
    /// Makes the trouble and keeps it going as long as the stage lives.
    prepare: fn(&mut Stage) -> Result<()>,
}

/// A finding that has to be told.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// Its id.
    pub id: &'static str,
    /// The least severity.
    pub severity: Severity,
    /// The least severity where tests are made smaller (see [`scaled`](crate::scaled)): what follows from the pace of a load does not
    /// where the machine cannot keep it up.
    pub slow: Severity,
    /// Words that must stand in it: a program's name, a remedy's id.
    pub says: &'static [&'static str],
    /// Findings that must be told in it as consequences, and not on their own.
    pub leads: &'static [&'static str],
}

impl Expectation {
    const fn of(id: &'static str, severity: Severity) -> Expectation {
        Expectation { id, severity, slow: severity, says: &[], leads: &[] }
    }

    const fn slow(self, slow: Severity) -> Expectation {
        Expectation { slow, ..self }
    }

    const fn says(self, says: &'static [&'static str]) -> Expectation {
        Expectation { says, ..self }
    }

    const fn leads(self, leads: &'static [&'static str]) -> Expectation {
        Expectation { leads, ..self }
    }

    /// What `finding` lacks of this expectation; `None` where it is met, and also where it is another finding.
    fn lacking(&self, finding: &Finding) -> Option<String> {
        let least = if scaled(100) < 100 { self.slow } else { self.severity };
        if finding.severity > least {
            return Some(format!("{} is told as a {} only", self.id, word(finding.severity)));
        }
        let text = words(finding);
        if let Some(missing) = self.says.iter().find(|says| !text.contains(*says)) {
            return Some(format!("{} does not name {missing:?}", self.id));
        }
        let missing = self.leads.iter().find(|id| !finding.consequences.iter().any(|told| told.id == **id));
        missing.map(|id| format!("{} does not tell {id} as its consequence", self.id))
    }
}

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// A program that is installed.
    Program(&'static str),
    /// A machine whose host-wide limits may be changed and filled.
    Disposable,
}

/// What comes of comparing the findings told with those expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Everything that had to be told was, and nothing else.
    AsExpected,
    /// A cause was not told, or not as it is.
    Missed(String),
    /// Something was told that is not so.
    FalseAlarm(String),
}

impl Scenario {
    /// Every scenario: those of trouble in the order of the findings, then the healthy ones.
    pub fn all() -> Vec<Scenario> {
        [
            ports::SCENARIOS,
            programs::SCENARIOS,
            leaks::SCENARIOS,
            closing::SCENARIOS,
            handshake::SCENARIOS,
            tables::SCENARIOS,
            settings::SCENARIOS,
            healthy::SCENARIOS,
        ]
        .concat()
    }

    /// Whether it changes limits of the whole machine, which every other that runs meanwhile would meet.
    pub fn changes_the_machine(&self) -> bool {
        self.needs.contains(&Need::Disposable)
    }

    /// Moves this process into a machine of its own and makes the trouble there. `tell` hears what is being done.
    ///
    /// To be called in a process of its own, before it has threads; that process ends by leaving the machine.
    ///
    /// # Errors
    /// [`crate::Error::NotPermitted`] and [`crate::Error::Unavailable`] say why it cannot be made here; any other error is a
    /// failure of the scenario.
    pub fn stage(&self, tell: impl Fn(&str) + 'static) -> Result<Stage> {
        for need in self.needs {
            need.check()?;
        }
        let mut stage = Stage::new(Machine::enter()?, Box::new(tell))?;
        (self.prepare)(&mut stage)?;
        Ok(stage)
    }

    /// Compares what was told with what had to be.
    pub fn judge(&self, told: &[Finding]) -> Judgement {
        let missed = self.expects.iter().find_map(|expected| {
            let lacks: Vec<Option<String>> = told
                .iter()
                .filter(|finding| finding.id == expected.id)
                .map(|finding| expected.lacking(finding))
                .collect();
            if lacks.iter().any(Option::is_none) {
                return None;
            }
            Some(lacks.into_iter().flatten().next().unwrap_or_else(|| format!("{} is not told", expected.id)))
        });
        let known =
            |id: &str| self.expects.iter().any(|expected| expected.id == id) || self.tolerates.contains(&id);
        let false_alarm = told
            .iter()
            .find(|finding| finding.severity < Severity::Notice && !known(&finding.id))
            .map(|finding| format!("{} is told: {}", finding.id, finding.summary));
        match (missed, false_alarm) {
            (None, None) => Judgement::AsExpected,
            (Some(missed), None) => Judgement::Missed(missed),
            (Some(missed), Some(alarm)) => Judgement::Missed(format!("{missed}; {alarm}")),
            (None, Some(alarm)) => Judgement::FalseAlarm(alarm),
        }
    }
}

/// Everything that a finding says, for looking words up.
fn words(finding: &Finding) -> String {
    let mut words = vec![finding.subject.as_str(), &finding.summary];
    words.extend(finding.evidence.iter().map(String::as_str));
    if let Some(owner) = &finding.owner {
        words.push(&owner.command);
    }
    for remedy in &finding.remedies {
        words.extend([remedy.id.as_str(), &remedy.summary]);
        words.extend(remedy.configuration.iter().map(|lines| lines.program.as_str()));
    }
    words.extend(finding.no_help.iter().map(|advice| advice.setting.as_str()));
    words.join("\n")
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
    }
}

#[cfg(test)]
mod tests;
