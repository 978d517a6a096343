//! The lab's scenarios, and what came of them: the wire form of `tidewait lab list` and `lab run`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Host, Severity};

/// The value of [`LabRun::schema`].
pub const SCHEMA: &str = "tidewait.lab/1";

/// The value of [`LabList::schema`].
pub const LIST_SCHEMA: &str = "tidewait.lab-list/1";

/// What `tidewait lab list --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.lab-list/1")]
pub struct LabList {
    /// Always `tidewait.lab-list/1`.
    pub schema: String,
    /// Every scenario.
    pub scenarios: Vec<ListedScenario>,
    /// Every experiment of `tidewait lab run settings`.
    pub experiments: Vec<ListedExperiment>,
    /// Every headline table.
    #[serde(default)]
    pub tables: Vec<ListedTable>,
}

/// A headline table that can be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedTable {
    /// Its name.
    pub table: String,
    /// What is measured for it.
    pub about: String,
    /// Seconds that it takes about.
    pub seconds: u32,
    /// The same with `--quick`.
    pub quick_seconds: u32,
}

/// An experiment that can be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedExperiment {
    /// Its name.
    pub experiment: String,
    /// What is measured in it.
    pub about: String,
}

/// A scenario that can be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedScenario {
    /// Its name.
    pub scenario: String,
    /// What goes on in it.
    pub about: String,
    /// The findings that must be told; empty for a healthy machine.
    pub expected: Vec<Expected>,
}

/// What `tidewait lab run --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.lab/1")]
pub struct LabRun {
    /// Always `tidewait.lab/1`.
    pub schema: String,
    /// The machine that the scenarios ran on.
    pub host: Host,
    /// One entry a scenario, in the order of `tidewait lab list`.
    pub results: Vec<ScenarioResult>,
}

/// What came of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioResult {
    /// Its name.
    pub scenario: String,
    /// What goes on in it.
    pub about: String,
    /// The findings that had to be told; empty for a healthy machine.
    pub expected: Vec<Expected>,
    /// The findings that were told, the worst first.
    pub given: Vec<Given>,
    /// What the comparison says.
    pub verdict: ScenarioVerdict,
    /// What was missed, or told in error, or in the way; null where all is as expected.
    pub reason: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// A finding that had to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expected {
    /// The kind of finding.
    pub id: String,
    /// The least severity.
    pub severity: Severity,
    /// Words that it had to say.
    pub says: Vec<String>,
    /// Findings that it had to tell as its consequences.
    pub leads: Vec<String>,
}

/// A finding that was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Given {
    /// The kind of finding.
    pub id: String,
    /// How bad it was said to be.
    pub severity: Severity,
    /// Its sentence.
    pub summary: String,
}

/// What comes of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScenarioVerdict {
    /// Everything that had to be told was, and nothing else.
    AsExpected,
    /// A cause was not told, or not as it is.
    Missed,
    /// Something was told that is not so.
    FalseAlarm,
    /// It cannot be made on this machine; the reason says why.
    Skipped,
    /// It could not be made although it should; the reason says why.
    Failed,
}

impl ScenarioVerdict {
    /// Whether something is wrong: with what tidewait says, or with the scenario.
    pub fn is_wrong(self) -> bool {
        matches!(self, ScenarioVerdict::Missed | ScenarioVerdict::FalseAlarm | ScenarioVerdict::Failed)
    }

    /// The words on the page.
    pub fn words(self) -> &'static str {
        match self {
            ScenarioVerdict::AsExpected => "as expected",
            ScenarioVerdict::Missed => "MISSED",
            ScenarioVerdict::FalseAlarm => "FALSE ALARM",
            ScenarioVerdict::Skipped => "skipped",
            ScenarioVerdict::Failed => "FAILED",
        }
    }
}

impl LabRun {
    /// How many are as expected, wrong, and skipped.
    pub fn tally(&self) -> (usize, usize, usize) {
        let count = |which: fn(ScenarioVerdict) -> bool| {
            self.results.iter().filter(|result| which(result.verdict)).count()
        };
        (
            count(|verdict| verdict == ScenarioVerdict::AsExpected),
            count(ScenarioVerdict::is_wrong),
            count(|verdict| verdict == ScenarioVerdict::Skipped),
        )
    }
}
