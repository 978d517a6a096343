//! What can be typed after `tidewait study`.

use clap::{Args, ValueEnum};
use tidewait_model::study::Method;

use super::tune::StateDir;
use super::values::{rows, whole};
use super::{Format, OneNetns, Until, Which};

pub const EXAMPLES: &str = "Examples:\n  \
  tidewait study --for 600                 what TIME_WAIT absorbs in ten minutes, by age and kind\n  \
  tidewait study --to 10.0.2.9:3306        of connections to one destination\n  \
  tidewait study --sample 16 --for 3600    of one connection in 16, where traffic is heavy\n  \
  tidewait study --json --for 60           one object at the end";

/// Options of `study`. Filters combine.
#[derive(Clone, Debug, Args)]
pub struct Study {
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
    /// For how long.
    #[command(flatten)]
    pub until: Until,
    /// Which connections.
    #[command(flatten)]
    pub which: Which,
    /// Where.
    #[command(flatten)]
    pub netns: OneNetns,
    /// Watch one connection in N, chosen by its addresses and ports
    #[arg(long, value_name = "N", default_value = "1", value_parser = share, allow_negative_numbers = true)]
    pub sample: u32,
    /// How segments are seen: in the kernel's function that answers them, or as they come in at the interfaces, before the
    /// firewall
    #[arg(long, value_enum, default_value_t = How::Auto)]
    pub method: How,
    /// List so many destinations; 0 lists all. Default: 10; in JSON all
    #[arg(long, value_name = "N", value_parser = rows, allow_negative_numbers = true)]
    pub top: Option<usize>,
    /// Do not keep what was seen for `tidewait reap`
    #[arg(long)]
    pub no_memory: bool,
    /// Where it is kept.
    #[command(flatten)]
    pub state: StateDir,
}

/// How segments are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// By fentry where the kernel allows it, else by tc
    Auto,
    /// In the kernel's function that answers them
    Fentry,
    /// As they come in at the interfaces
    Tc,
}

impl How {
    /// The way; `None` for whichever works.
    pub fn method(self) -> Option<Method> {
        match self {
            How::Auto => None,
            How::Fentry => Some(Method::Fentry),
            How::Tc => Some(Method::Tc),
        }
    }
}

fn share(text: &str) -> Result<u32, String> {
    whole(text, 1..=65_536, "give a number from 1 (all) to 65536")
}
