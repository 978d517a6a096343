//! A plan: what is to be set, what it is worth in this case, and what was left out and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Assignment;
use crate::report::Host;

/// The name of the JSON contract.
pub const PLAN_SCHEMA: &str = "tidewait.plan/1";

/// Characters of a plan's id.
const ID_LENGTH: usize = 12;

/// A change of settings that can be reviewed, kept as a file, and applied, also elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.plan/1")]
pub struct Plan {
    /// Always `tidewait.plan/1`.
    pub schema: String,
    /// Made from all the rest (the first digits of its SHA-256), so that a plan that was edited is noticed.
    pub id: String,
    /// When it was made, RFC 3339 in UTC.
    pub made_at: String,
    /// The machine it was made on.
    pub host: Host,
    /// The network namespace that it is for, by the name it has in the report.
    pub namespace: String,
    /// Where it comes from: `findings`, `settings`, `profile proxy`.
    pub from: String,
    /// What the figures are about; null where nothing connects.
    pub subject: Option<String>,
    /// Connects a second to it now; null where nothing connects.
    pub rate_per_second: Option<f64>,
    /// Connects a second to one destination that the ports allow, before and after all changes; null where that could
    /// not be told.
    pub capacity: Option<Capacity>,
    /// What is to be set, in the order in which it is written.
    pub changes: Vec<Change>,
    /// What was asked for or is often advised, and is left out.
    pub left_out: Vec<LeftOut>,
    /// What keeps it from being applied.
    pub blockers: Vec<Blocker>,
    /// What else should be known.
    pub notes: Vec<String>,
}

/// One setting that is to be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Full name of the setting.
    pub setting: String,
    /// Its value when the plan was made, one space between its parts. It is only changed where it is still this.
    pub now: String,
    /// The value that is wanted.
    pub wanted: String,
    /// What that does in this case.
    pub effect: String,
    /// Connects a second to one destination before this change and after it, the changes before it made; null where it
    /// is not about that, or that could not be told.
    pub capacity: Option<Capacity>,
    /// What it may cost.
    pub risk: String,
    /// What an undo restores, and what it cannot.
    pub reversible: String,
    /// Whose value it is: `namespace` or `host`.
    pub scope: String,
    /// Why it is in the plan: what a profile says of it, or which finding asks for it.
    pub why: String,
}

/// Connects a second that the ports allow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// Before.
    pub before_per_second: f64,
    /// After.
    pub after_per_second: f64,
}

/// A setting that is not changed, and why not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Name of the setting, or several as they are advised together.
    pub setting: String,
    /// Its value; null where this kernel does not have it.
    pub now: Option<String>,
    /// The value that was asked for; null where only the setting was named.
    pub wanted: Option<String>,
    /// In a word.
    pub reason: Reason,
    /// In a sentence.
    pub why: String,
}

/// Why a setting is left out of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It would do nothing in this case.
    NoEffect,
    /// It has that value already.
    AlreadySo,
    /// This kernel does not have it.
    NotHere,
    /// The kernel would refuse the value, or take another.
    Refused,
    /// It would make things worse.
    Harmful,
    /// Whoever asked for the plan left it out.
    Unwanted,
}

impl Reason {
    /// In the words of the page.
    pub fn words(self) -> &'static str {
        match self {
            Reason::NoEffect => "does nothing here",
            Reason::AlreadySo => "is so already",
            Reason::NotHere => "not on this kernel",
            Reason::Refused => "would be refused",
            Reason::Harmful => "would harm",
            Reason::Unwanted => "left out as asked",
        }
    }
}

/// Something that has to be settled before a plan is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blocker {
    /// The setting that is blocked.
    pub setting: String,
    /// What is in the way.
    pub why: String,
    /// How to get it out of the way.
    pub remedy: String,
    /// A setting that would settle it, where there is one.
    pub offer: Option<Assignment>,
}

/// A plan whose id is not that of its contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plan says it is {said}, but what it contains makes it {is}: it was edited since `tidewait tune plan` made it"
)]
pub struct Edited {
    said: String,
    is: String,
}

impl Plan {
    /// The same plan under the id that its contents give it.
    #[must_use]
    pub fn sealed(mut self) -> Plan {
        self.id = self.seal();
        self
    }

    /// Whether the id is that of the contents.
    ///
    /// # Errors
    /// [`Edited`] if it is not.
    pub fn verify(&self) -> Result<(), Edited> {
        let is = self.seal();
        if self.id == is { Ok(()) } else { Err(Edited { said: self.id.clone(), is }) }
    }

    /// What it writes.
    pub fn assignments(&self) -> Vec<Assignment> {
        self.changes.iter().map(|change| Assignment::new(&change.setting, &change.wanted)).collect()
    }

    fn seal(&self) -> String {
        let nameless = Plan { id: String::new(), ..self.clone() };
        // Numbers, texts and lists only: nothing that JSON could not hold.
        let text = serde_json::to_string(&nameless).unwrap_or_default();
        hex(&text, ID_LENGTH)
    }
}

/// The first `length` hexadecimal digits of the SHA-256 of a text.
pub(super) fn hex(text: &str, length: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            schema: PLAN_SCHEMA.to_owned(),
            id: String::new(),
            made_at: "2026-11-26T03:12:45Z".to_owned(),
            host: Host { hostname: "proxy".to_owned(), kernel: "6.12".to_owned() },
            namespace: "host".to_owned(),
            from: "settings".to_owned(),
            subject: None,
            rate_per_second: None,
            capacity: Some(Capacity { before_per_second: 470.533_333, after_per_second: 845.95 }),
            changes: Vec::new(),
            left_out: Vec::new(),
            blockers: Vec::new(),
            notes: Vec::new(),
        }
        .sealed()
    }

    #[test]
    fn a_plan_is_the_same_after_it_was_a_file_and_another_when_it_was_edited() {
        let plan = plan();
        assert_eq!(plan.id.len(), ID_LENGTH);
        let read: Plan = serde_json::from_str(&serde_json::to_string_pretty(&plan).unwrap()).unwrap();
        assert_eq!(read.verify(), Ok(()));
        let edited = Plan { namespace: "blue".to_owned(), ..plan.clone() };
        let said = edited.verify().unwrap_err().to_string();
        assert!(said.contains(&plan.id) && said.contains("edited"), "{said}");
    }

    #[test]
    fn the_digits_are_those_of_sha256() {
        assert_eq!(hex("abc", 12), "ba7816bf8f01");
    }
}
