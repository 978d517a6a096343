//! What can be typed after `tidewait tune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tidewait_model::containers::Form;
use tidewait_model::tune::{self, Assignment, Profile};

use super::values::{named, seconds_in};
use super::{Format, OneNetns};

pub const EXAMPLES: &str = "Examples:\n  \
  tidewait tune plan                       what the findings advise, and what it is worth\n  \
  tidewait tune plan --profile hosting     a list from a web page, line by line\n  \
  tidewait tune plan --out plan.json       as a file, to be reviewed and applied\n  \
  tidewait tune apply plan.json --confirm-within 60s\n  \
  tidewait tune confirm                    keep it; else it is undone after the 60 s\n  \
  tidewait tune rollback                   what was before, to the letter\n  \
  tidewait tune persist                    keep it across a restart";

/// Options of `tune`.
#[derive(Clone, Debug, Args)]
pub struct Tune {
    /// What to do.
    #[command(subcommand)]
    pub errand: TuneErrand,
}

/// What `tune` does.
#[derive(Clone, Debug, Subcommand)]
pub enum TuneErrand {
    /// Show what would be changed, what that is worth here, and what is better left alone. Changes nothing
    Plan(Plan),
    /// Change settings: all of them or none, with the way back written down first
    Apply(Apply),
    /// Keep a change that would be undone otherwise
    Confirm {
        /// Its number, or its plan's id; default: the one that waits.
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// Where the journal is.
        #[command(flatten)]
        state: StateDir,
    },
    /// Restore what was before a change
    Rollback {
        /// Its number, or its plan's id; default: the last one that is in force.
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// Restore also what somebody else has changed since
        #[arg(long)]
        force: bool,
        /// Where the journal is.
        #[command(flatten)]
        state: StateDir,
    },
    /// What is in force, waits to be confirmed, is kept across a restart, or was changed by somebody else since
    Status {
        /// How to print it.
        #[command(flatten)]
        format: Format,
        /// Where the journal is.
        #[command(flatten)]
        state: StateDir,
    },
    /// Every change that was made, and what became of it
    History {
        /// How to print it.
        #[command(flatten)]
        format: Format,
        /// Where the journal is.
        #[command(flatten)]
        state: StateDir,
    },
    /// Keep settings across a restart (/etc/sysctl.d/80-tidewait.conf), and say which file would overrule them
    Persist(Persist),
    /// Take settings out of that file again; what is in force stays
    Unpersist(Unpersist),
    /// Wait until a change is confirmed, and undo it if it is not.
    #[command(hide = true)]
    Guard {
        /// The number of the change.
        number: u64,
        /// The process that makes it.
        #[arg(long)]
        pid: i32,
        /// The process namespace that it is in.
        #[arg(long)]
        pid_namespace: String,
        /// The network namespace, where it is not the own one.
        #[arg(long)]
        netns: Option<String>,
        /// Where the journal is.
        #[command(flatten)]
        state: StateDir,
    },
}

/// Where the journal is.
#[derive(Clone, Debug, Args)]
pub struct StateDir {
    /// Where the journal is kept, and what studies saw; default: what TIDEWAIT_STATE says, else /var/lib/tidewait
    #[arg(long = "state", visible_alias = "state-dir", value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

impl StateDir {
    /// The directory.
    pub fn path(&self) -> PathBuf {
        let set = || std::env::var_os("TIDEWAIT_STATE").filter(|value| !value.is_empty()).map(PathBuf::from);
        self.directory.clone().or_else(set).unwrap_or_else(|| PathBuf::from("/var/lib/tidewait"))
    }
}

/// What is asked for.
#[derive(Clone, Debug, Args)]
pub struct Wanted {
    /// Ask for this setting; may be repeated
    #[arg(long = "setting", short = 's', value_name = "NAME=VALUE")]
    pub settings: Vec<Assignment>,
    /// Ask for a list: proxy, web-server, database-client; or hosting, nanog, which are lists from web pages, judged line by line
    #[arg(long, value_name = "NAME", value_parser = profile, conflicts_with = "settings")]
    pub profile: Option<&'static Profile>,
    /// Leave this setting out; may be repeated
    #[arg(long, value_name = "SETTING", value_parser = named)]
    pub without: Vec<String>,
    /// Reserve the ports of services that a wider port range would take in (ip_local_reserved_ports)
    #[arg(long)]
    pub reserve: bool,
    /// Where.
    #[command(flatten)]
    pub netns: OneNetns,
}

/// Options of `tune plan`.
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// What is asked for; nothing: what the findings advise.
    #[command(flatten)]
    pub wanted: Wanted,
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
    /// Write the plan into this file too, for `tidewait tune apply`
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the settings as they are given to something else: kubernetes, docker, compose, podman, ansible or sysctl-conf
    #[arg(long = "as", value_name = "FORM", value_parser = form, conflicts_with = "json")]
    pub form: Option<Form>,
}

/// Options of `tune apply`.
#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// A plan from `tidewait tune plan --out`, or '-' for one on standard input
    #[arg(value_name = "PLAN", conflicts_with_all = ["settings", "profile"], required_unless_present_any = ["settings", "profile"])]
    pub plan: Option<PathBuf>,
    /// What is asked for, where it is no plan.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Undo it after this time unless `tidewait tune confirm` comes: 60s, 5m; also when the terminal is gone by then
    #[arg(long, value_name = "TIME", value_parser = within)]
    pub confirm_within: Option<Duration>,
    /// Measure first, in a private network namespace, what it brings
    #[arg(long)]
    pub prove: bool,
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take the values of the plan, whatever the settings are now
    #[arg(long, requires = "plan")]
    pub rebase: bool,
    /// Apply it in spite of what is in the way; what the kernel refuses stays refused
    #[arg(long)]
    pub force: bool,
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
    /// Where the journal is.
    #[command(flatten)]
    pub state: StateDir,
}

/// Options of `tune persist`.
#[derive(Clone, Debug, Args)]
pub struct Persist {
    /// The number of a change, or its plan's id; default: all that is in force. With --root: a plan's file
    #[arg(value_name = "ID|PLAN")]
    pub what: Option<String>,
    /// This setting, whether it is in force or not; may be repeated
    #[arg(long = "setting", short = 's', value_name = "NAME=VALUE", conflicts_with = "what")]
    pub settings: Vec<Assignment>,
    /// Below this directory, which holds the image of a system, rather than on this machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Write the file though it was edited by hand
    #[arg(long)]
    pub force: bool,
    /// Only print it, as it is given to something else: kubernetes, docker, compose, podman, ansible or sysctl-conf
    #[arg(long = "as", value_name = "FORM", value_parser = form, conflicts_with = "json")]
    pub form: Option<Form>,
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
    /// Where the journal is.
    #[command(flatten)]
    pub state: StateDir,
}

/// Options of `tune unpersist`.
#[derive(Clone, Debug, Args)]
pub struct Unpersist {
    /// The number of a change, or its plan's id; default: everything
    #[arg(value_name = "ID")]
    pub what: Option<String>,
    /// This setting; may be repeated
    #[arg(long = "setting", short = 's', value_name = "NAME", value_parser = named, conflicts_with = "what")]
    pub settings: Vec<String>,
    /// Below this directory, which holds the image of a system, rather than on this machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Change the file though it was edited by hand
    #[arg(long)]
    pub force: bool,
    /// Where the journal is.
    #[command(flatten)]
    pub state: StateDir,
}

fn form(name: &str) -> Result<Form, String> {
    let name = match name {
        "k8s" => "kubernetes",
        "quadlet" => "podman",
        "sysctl" => "sysctl-conf",
        name => name,
    };
    Form::ALL.into_iter().find(|form| form.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Form::ALL.iter().map(|form| form.name()).collect();
        format!("known forms are {}", names.join(", "))
    })
}

fn profile(name: &str) -> Result<&'static Profile, String> {
    tune::profile(name).ok_or_else(|| {
        let names: Vec<&str> = tune::PROFILES.iter().map(|profile| profile.name).collect();
        format!("known profiles are {}", names.join(", "))
    })
}

/// How long a change waits to be confirmed.
fn within(text: &str) -> Result<Duration, String> {
    seconds_in(text, 1.0..=86_400.0, "give a time from 1s to 24h, such as 60s or 5m")
        .map(Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("60s", 60.0), ("60", 60.0), ("5m", 300.0), ("1.5 s", 1.5), ("24h", 86_400.0)]
        {
            assert_eq!(within(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["0", "-1s", "25h", "s", "1d", "inf", "NaN", ""] {
            assert!(within(text).is_err(), "{text}");
        }
    }
}
