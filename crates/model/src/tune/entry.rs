//! What became of a change: an entry of the journal, and how things stand with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::experiment::Proof;

/// The name of the JSON contract of `tune apply`.
pub const CHANGE_SCHEMA: &str = "tidewait.change/1";

/// The name of the JSON contract of `tune persist`.
pub const KEPT_SCHEMA: &str = "tidewait.kept/1";

/// The name of the JSON contract of `tune status` and `tune history`.
pub const STATUS_SCHEMA: &str = "tidewait.tune/1";

/// A network namespace, told from any that had its number before or will have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceId {
    /// The name it had.
    pub name: String,
    /// Inode number, which the kernel gives to another namespace once this one has ended.
    pub inode: u64,
    /// What the kernel never gives again while it runs (SO_NETNS_COOKIE, since 5.14); null before.
    pub cookie: Option<u64>,
}

impl NamespaceId {
    /// Whether both are the same namespace, whatever they are called.
    pub fn is(&self, other: &NamespaceId) -> bool {
        match (self.cookie, other.cookie) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.inode == other.inode,
        }
    }
}

/// A setting before and after a change, as the kernel spells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Was {
    /// Full name of the setting.
    pub setting: String,
    /// What it was, byte for byte but for the line end.
    pub before: String,
    /// What it is to be, as the kernel spells it.
    pub wanted: String,
}

/// Until when a change has to be confirmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deadline {
    /// Time since the machine was started (CLOCK_BOOTTIME), in milliseconds: it does not jump when the clock is set.
    pub uptime_ms: u64,
    /// The same on the wall when the change was made, RFC 3339 in UTC.
    pub at: String,
    /// How long there was, in seconds.
    pub seconds: f64,
}

/// One change of settings, as the journal tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its number in the journal, from 1 on.
    pub number: u64,
    /// The plan it came from.
    pub plan: String,
    /// Where that came from: `findings`, `settings`, `profile proxy`.
    pub from: String,
    /// When it was begun, RFC 3339 in UTC.
    pub begun_at: String,
    /// Who did it: user, or the one who became root by sudo.
    pub by: String,
    /// The process that made it.
    pub pid: u32,
    /// Where.
    pub namespace: NamespaceId,
    /// Whether that is the namespace that the files of /etc/sysctl.d are applied to at boot.
    pub configured: bool,
    /// The boot (/proc/sys/kernel/random/boot_id): values do not outlive it.
    pub boot: String,
    /// The settings, in the order in which they are written.
    pub changes: Vec<Was>,
    /// Until when it had to be confirmed; null where it had not.
    pub deadline: Option<Deadline>,
    /// What the journal says became of it.
    pub state: State,
}

impl Entry {
    /// Whether what it changed may still be in force.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Undone { .. })
    }

    /// Whether it is in force and waits for its confirmation.
    pub fn is_unconfirmed(&self) -> bool {
        self.deadline.is_some() && matches!(self.state, State::Begun | State::Applied { .. })
    }
}

/// What the journal says became of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// It was begun, and nothing says that it was finished.
    Begun,
    /// All of it was written.
    Applied {
        /// When, RFC 3339 in UTC.
        at: String,
    },
    /// It was written, and confirmed.
    Confirmed {
        /// When, RFC 3339 in UTC.
        at: String,
    },
    /// It was undone.
    Undone {
        /// When, RFC 3339 in UTC.
        at: String,
        /// Why.
        why: Undoing,
        /// Settings that somebody else had changed meanwhile, and that were left as they are.
        left: Vec<String>,
    },
}

/// Why a change was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Undoing {
    /// Somebody wanted it.
    Rollback,
    /// Nobody confirmed it in time.
    NotConfirmed,
    /// Whoever made it ended in the middle of it.
    Interrupted,
    /// One of its settings could not be written.
    Failed,
    /// Its values were found to be what they were before, and nobody had taken down why.
    Found,
}

impl Undoing {
    /// How, after `undone at ..`.
    pub fn words(self) -> &'static str {
        match self {
            Undoing::Rollback => "by a rollback",
            Undoing::NotConfirmed => "because nobody confirmed it in time",
            Undoing::Interrupted => "because it was interrupted",
            Undoing::Failed => "because it failed",
            Undoing::Found => "or before that: its values were found as they were before it",
        }
    }
}

/// What `tune status` and `tune history` print.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.tune/1")]
pub struct Status {
    /// Always `tidewait.tune/1`.
    pub schema: String,
    /// The journal's file.
    pub journal: String,
    /// The changes, oldest first.
    pub changes: Vec<Told>,
    /// What /etc/sysctl.d/80-tidewait.conf keeps across a restart.
    pub persisted: Vec<Held>,
    /// What is wrong with the journal, or could not be seen.
    pub limits: Vec<crate::Limit>,
}

/// A change and how things stand with it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// The entry of the journal.
    #[serde(flatten)]
    pub entry: Entry,
    /// How things stand.
    pub situation: Situation,
    /// Seconds left to confirm it; null where it need not be, or the time is over.
    pub seconds_left: Option<f64>,
    /// The settings now; empty where the change is over.
    pub now: Vec<Now>,
}

/// A setting of a change now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Now {
    /// Full name of the setting.
    pub setting: String,
    /// Its value; null where it could not be read.
    pub value: Option<String>,
    /// Whether that is what the change wanted, what was before, or neither.
    pub held: Holding,
    /// The later change that set it again, where it was one.
    pub changed_by: Option<u64>,
}

/// Whose value a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Holding {
    /// What the change wanted.
    Wanted,
    /// What was before it.
    Before,
    /// Neither: somebody else has changed it since.
    Other,
    /// Could not be read.
    Unknown,
}

/// How things stand with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Situation {
    /// Another tidewait is at work on it.
    AtWork,
    /// All its values are in force.
    InForce,
    /// All its values are in force until the time to confirm it is over.
    Unconfirmed,
    /// It was interrupted, or should have been undone by now and was not.
    Stranded,
    /// Some of its values were changed by somebody else.
    Drifted,
    /// Some of its values were changed again by a later change, the others are in force.
    ChangedAgain,
    /// It was undone.
    Undone,
    /// The machine was started anew since: its values are gone.
    Restarted,
    /// The network namespace it was made in is gone, or cannot be found.
    NamespaceGone,
}

/// A setting that a file keeps across a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// Full name of the setting.
    pub setting: String,
    /// The value in the file.
    pub value: String,
    /// The plan it came from.
    pub plan: String,
    /// Its value now; null where it could not be read.
    pub now: Option<String>,
}

/// What `tune apply` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.change/1")]
pub struct Applied {
    /// Always `tidewait.change/1`.
    pub schema: String,
    /// What was to be changed, as things were just before.
    pub plan: Plan,
    /// Why the values were not tried in a namespace of their own beforehand; null where they were.
    pub not_tried: Option<String>,
    /// What was measured beforehand; null where that was not asked for.
    pub proof: Option<Proof>,
    /// The change; null where nothing was changed.
    pub change: Option<Entry>,
}

/// What `tune persist` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.kept/1")]
pub struct KeptReport {
    /// Always `tidewait.kept/1`.
    pub schema: String,
    /// The file that was written.
    pub file: String,
    /// All that it keeps now.
    pub kept: Vec<Held>,
    /// Lines of a file that was edited by hand, which were not taken over.
    pub dropped: Vec<String>,
    /// What will be at boot.
    pub outlook: crate::persist::Outlook,
}
