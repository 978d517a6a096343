//! What a command needs that not everybody has, and the words where it is missing.

use anyhow::anyhow;
use rustix::thread::CapabilitySet;
use tidewait_observe::probe::Privileges;
use tidewait_observe::refusal::Refusal;

use crate::exit::NotPermitted;

/// What a command needs.
pub struct Needs {
    /// What is not done without: `connections cannot be traced`.
    pub else_not: &'static str,
    /// The capabilities.
    pub capabilities: CapabilitySet,
    /// What stands for all of them, where something does.
    pub instead: Option<CapabilitySet>,
    /// What works without: a sentence.
    pub without: &'static str,
}

impl Needs {
    /// Refuses where it is known beforehand that the kernel will.
    ///
    /// # Errors
    /// [`NotPermitted`], with what is missing.
    pub fn check(&self) -> Result<(), NotPermitted> {
        let privileges = Privileges::read();
        let missing = privileges.lacks(self.capabilities).join(" and ");
        if missing.is_empty() || self.instead.is_some_and(|instead| privileges.lacks(instead).is_empty()) {
            return Ok(());
        }
        Err(self.refused(&format!("{missing} missing"), Some(&format!("run it as root, or with {missing}"))))
    }

    /// The refusal, why, and what helps.
    pub fn refused(&self, why: &str, remedy: Option<&str>) -> NotPermitted {
        NotPermitted(format!("{}: {why}{}. {}", self.else_not, then(remedy), self.without))
    }

    /// The error for what the kernel refused.
    pub fn unmet(&self, Refusal { limit, not_permitted }: &Refusal) -> anyhow::Error {
        if *not_permitted {
            return self.refused(&limit.why, limit.remedy.as_deref()).into();
        }
        anyhow!("{}: {}{}", self.else_not, limit.why, then(limit.remedy.as_deref()))
    }
}

fn then(remedy: Option<&str>) -> String {
    remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default()
}
