//! What can be typed after `tidewait exec`.

use std::ffi::OsString;
#[cfg(feature = "act")]
use std::path::PathBuf;

use clap::{ArgGroup, Args};

pub const EXAMPLES: &str = "Examples:\n  \
  tidewait exec --no-port -- squid -N      ports left to connect() though squid binds its source address\n\n\
Exit code: that of the command; 127 if it is not found, 126 if it cannot be executed. 2 wrong usage, 77 not permitted: \
then nothing was started.";

/// Options of `exec`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("how").required(true).multiple(true))]
pub struct Exec {
    /// Let connect() choose the port where the program binds an address without one: sets IP_BIND_ADDRESS_NO_PORT by a
    /// library that is loaded before it (LD_PRELOAD). Needs no privilege
    #[arg(long, group = "how")]
    pub no_port: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Options of the process that cleans up behind a command.
#[cfg(feature = "act")]
#[derive(Clone, Debug, Args)]
pub struct ExecKeeper {
    /// The process to wait for.
    #[arg(long)]
    pub pid: i32,
    /// The cgroup to remove, with what is left in it. Standard input is the directory that it is in.
    #[arg(long)]
    pub cgroup: Option<String>,
    /// The library to remove when nobody has it loaded any more.
    #[arg(long)]
    pub library: Option<PathBuf>,
    /// To start the one that stays, and end.
    #[arg(long)]
    pub apart: bool,
}
