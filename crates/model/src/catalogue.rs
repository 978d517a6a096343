//! The settings and socket options that bear on connections, one row each: what is read, explained, changed, printed.
//!
//! A row says what the kernel takes, where the value lives, what it was before anybody touched it, what it does and
//! what it does not. Nothing about a setting is written down elsewhere. `crates/observe/tests/settings.rs` holds the
//! rows against the running kernel; docs/settings.md is made from them.

use schemars::JsonSchema;
use serde::Serialize;

use crate::kernel::Version;
use crate::observation::Settings;

pub mod accepts;
mod closing;
mod conntrack;
mod counters;
mod files;
mod keepalive;
mod listen;
mod memory;
mod obsolete;
pub mod options;
mod ports;
mod time_wait;
mod words;

pub use accepts::{Accepts, Choice, Gap, Objection, Refusal, SECONDS, Span};
pub use counters::COUNTERS;
pub use keepalive::seconds_until_dropped;
pub use obsolete::{Obsolete, obsolete};
pub use options::{OPTIONS, SocketOption, socket_option};

/// Where a setting's value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every network namespace has its own; a new one starts from the compiled default, not the host's value.
    Namespace,
    /// The machine has one.
    Host,
}

/// What there is of a setting in a network namespace other than the initial one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InNamespace {
    /// A value of its own, which can be written.
    Own,
    /// A value of its own, which cannot be written.
    OwnReadOnly,
    /// The machine's value, which can be written from there too.
    Shared,
    /// The machine's value, which cannot be written from there.
    SharedReadOnly,
    /// No such file.
    Absent,
}

/// A value that a setting has before anybody writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// This text, with one space between numbers.
    Text(&'static str),
    /// Worked out by the kernel when it boots or when the namespace is made: how.
    Computed(&'static str),
}

/// The default from one kernel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DefaultValue {
    /// The first kernel that has it; `None`: the setting had it from its beginning.
    pub since: Option<Version>,
    /// What it is.
    pub value: Value,
}

/// What is believed about a setting, and what is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Belief {
    /// What is often said.
    pub claim: &'static str,
    /// What is so.
    pub truth: &'static str,
}

/// How the value of a setting is put into words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meaning {
    /// By the words of the choices it has.
    Choice,
    /// By a function of the number.
    Number(fn(i64, Version) -> String),
    /// By a function of the text; `None` where it is not of the setting's form.
    Text(fn(&str, Version) -> Option<String>),
}

/// What may be expected of a setting on a kernel, going by its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is there, once the module that has it is loaded.
    Present,
    /// It came later.
    NotYet,
    /// It was removed.
    Gone,
    /// Only kernels of some vendors have it.
    VendorOnly,
}

/// One sysctl.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Setting {
    /// Full name, dots between the parts: `net.ipv4.tcp_tw_reuse`.
    pub name: &'static str,
    /// What the number means: `s`, `ms`, `ports`, `sockets`, `0/1`, ...
    pub unit: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where its value lives.
    pub scope: Scope,
    /// What there is of it in other network namespaces than the initial one.
    pub in_namespace: InNamespace,
    /// The kernel from which on every namespace has its own; before, the machine had one. `None`: always so, or never.
    pub namespaced_since: Option<Version>,
    /// The module that has it, where that is not part of every kernel.
    pub module: Option<&'static str>,
    /// The first kernel that has it; `None`: older than 4.4, the oldest whose source was looked at.
    pub since: Option<Version>,
    /// The first kernel that does not have it any more.
    pub removed_in: Option<Version>,
    /// Whose kernels have it, where mainline does not.
    pub vendor: Option<&'static str>,
    /// What the kernel takes when it is written.
    pub accepts: Accepts,
    /// What it is before anybody writes it, oldest kernel first.
    pub defaults: &'static [DefaultValue],
    /// What changes with it.
    pub affects: &'static [&'static str],
    /// What is believed of it and is not so.
    pub does_not: &'static [Belief],
    /// Where it does something else than its name says.
    pub trap: Option<&'static str>,
    /// What can go wrong when it is changed.
    pub risk: &'static str,
    /// Where to look it up: kernel file and version, RFC section, commit.
    pub sources: &'static [&'static str],
    /// Rows that go with it: names of settings and of socket options.
    pub see_also: &'static [&'static str],
    #[serde(skip)]
    pub(crate) meaning: Meaning,
}

/// What most rows have in common: a value of its own in every namespace of every kernel, and no trap.
pub(crate) const COMMON: Setting = Setting {
    name: "",
    unit: "",
    summary: "",
    scope: Scope::Namespace,
    in_namespace: InNamespace::Own,
    namespaced_since: None,
    module: None,
    since: None,
    removed_in: None,
    vendor: None,
    accepts: Accepts::Nothing,
    defaults: &[],
    affects: &[],
    does_not: &[],
    trap: None,
    risk: "",
    sources: &[],
    see_also: &[],
    meaning: Meaning::Choice,
};

/// A default that never changed.
pub(crate) const fn always(text: &'static str) -> DefaultValue {
    DefaultValue { since: None, value: Value::Text(text) }
}

/// A default since a kernel.
pub(crate) const fn since(major: u16, minor: u16, text: &'static str) -> DefaultValue {
    DefaultValue { since: Some(Version::new(major, minor)), value: Value::Text(text) }
}

/// A default that the kernel works out.
pub(crate) const fn computed(how: &'static str) -> DefaultValue {
    DefaultValue { since: None, value: Value::Computed(how) }
}

pub(crate) const fn belief(claim: &'static str, truth: &'static str) -> Belief {
    Belief { claim, truth }
}

impl Setting {
    /// The file under /proc/sys that holds the value, without the leading slash.
    pub fn path(&self) -> String {
        format!("proc/sys/{}", self.name.replace('.', "/"))
    }

    /// The last part of the name: `tcp_tw_reuse`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, short)| short)
    }

    /// What to expect on `kernel`. Only a look at /proc/sys tells: distributions port back.
    pub fn expected_on(&self, kernel: Version) -> Expected {
        if self.vendor.is_some() {
            Expected::VendorOnly
        } else if self.removed_in.is_some_and(|removed| kernel >= removed) {
            Expected::Gone
        } else if self.since.is_some_and(|since| kernel < since) {
            Expected::NotYet
        } else {
            Expected::Present
        }
    }

    /// What the setting is on `kernel` before anybody writes it; `None` where that kernel does not have it.
    pub fn default_for(&self, kernel: Version) -> Option<Value> {
        if matches!(self.expected_on(kernel), Expected::NotYet | Expected::Gone) {
            return None;
        }
        let reached = |default: &&DefaultValue| default.since.is_none_or(|since| kernel >= since);
        self.defaults.iter().rev().find(reached).map(|default| default.value)
    }

    /// Whether `text` may be written into the setting, with a line end after it as sysctl(8) writes: the kernel is
    /// not even asked when nothing at all is written.
    ///
    /// # Errors
    /// What the kernel refuses, what it would turn into something else, and what does not do what it seems to; see
    /// [`Objection`].
    pub fn check(&self, text: &str) -> Result<(), Refusal> {
        accepts::check(self, text)
    }

    /// As [`Setting::check`], with the other settings as they are in the same namespace: some bounds depend on each
    /// other.
    ///
    /// # Errors
    /// As [`Setting::check`].
    pub fn check_beside(&self, text: &str, others: &Settings) -> Result<(), Refusal> {
        accepts::check(self, text)?;
        accepts::check_beside(self, text, others)
    }

    /// What `value` means on `kernel`, in one sentence. A value that the setting cannot have is said to be that.
    pub fn meaning(&self, value: &str, kernel: Version) -> String {
        let value = value.trim();
        let said = match self.meaning {
            Meaning::Text(say) => say(value, kernel),
            Meaning::Number(say) => {
                let number = value.parse().ok().filter(|number| self.accepts.can_hold(*number));
                number.map(|number| say(number, kernel))
            }
            Meaning::Choice => {
                value.parse().ok().and_then(|number| self.accepts.word(number)).map(str::to_owned)
            }
        };
        said.unwrap_or_else(|| format!("{value:?} is no value that {} is known to have", self.name))
    }
}

/// Every setting that is read.
pub const SETTINGS: &[Setting] = &[
    ports::LOCAL_PORT_RANGE,
    ports::LOCAL_RESERVED_PORTS,
    ports::UNPRIVILEGED_PORT_START,
    ports::AUTOBIND_REUSE,
    ports::LOCAL_PORT_STEP_WIDTH,
    time_wait::REUSE,
    time_wait::REUSE_DELAY,
    time_wait::MAX_BUCKETS,
    time_wait::TIMESTAMPS,
    time_wait::RFC1337,
    time_wait::TIMEOUT,
    time_wait::RECYCLE,
    closing::FIN_TIMEOUT,
    closing::MAX_ORPHANS,
    closing::ORPHAN_RETRIES,
    closing::RETRIES2,
    keepalive::TIME,
    keepalive::INTVL,
    keepalive::PROBES,
    listen::SYN_RETRIES,
    listen::SYNACK_RETRIES,
    listen::SYNCOOKIES,
    listen::MAX_SYN_BACKLOG,
    listen::SOMAXCONN,
    listen::ABORT_ON_OVERFLOW,
    memory::TCP_MEM,
    memory::CHILD_EHASH_ENTRIES,
    conntrack::MAX,
    conntrack::COUNT,
    conntrack::BUCKETS,
    conntrack::TIMEOUT_TIME_WAIT,
    conntrack::TIMEOUT_CLOSE_WAIT,
    conntrack::TIMEOUT_ESTABLISHED,
    files::FILE_MAX,
    files::NR_OPEN,
];

/// The row of the setting called `name`.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

#[cfg(test)]
mod tests;
