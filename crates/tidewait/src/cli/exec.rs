//! What can be typed after `tidewait exec`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use tidewait_model::steer::ports::Choice;

use super::interval;
use super::reap::age;
use super::steer::{address, choice};

pub const EXAMPLES: &str = "Examples:\n  \
  tidewait exec --steer -- ./client                    a port at once, however full the range is\n  \
  tidewait exec --spread 10.0.0.5,10.0.0.6 -- nginx    source addresses in turn\n  \
  tidewait exec --steer --reap 10s -- ./client         no TIME_WAIT longer than 10 s, in this network namespace\n  \
  tidewait exec --no-port -- squid -N                  ports left to connect() though squid binds its source address\n  \
  tidewait exec --steer --report /tmp/run.json -- ./client    what became of it, as JSON\n\n\
Exit code: that of the command; 127 if it is not found, 126 if it cannot be executed. 2 wrong usage, 77 not permitted: \
then nothing was started.";

/// Options of `exec`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("how").required(true).multiple(true))]
pub struct Exec {
    /// Choose the local ports of connect(), at once however full the range is. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON
    #[arg(long, group = "how")]
    pub steer: bool,
    /// Ports to give: LOW-HIGH, several parted by commas; 'kernel' for ip_local_port_range, which neighbours need too.
    /// Default: half of the free ones from 10000 on beside that range
    #[arg(long, value_name = "RANGES", requires = "steer", value_parser = choice)]
    pub range: Option<Choice>,
    /// Give also the port of a TIME_WAIT that is older than so many whole seconds, if the peer's timestamps protect it. Default:
    /// never
    #[arg(long, value_name = "SECONDS", requires = "steer", value_parser = interval, allow_negative_numbers = true)]
    pub reuse_after: Option<f64>,
    /// Take these source addresses in turn, where the program does not choose one. Needs the same capabilities
    #[arg(long, group = "how", value_name = "ADDR,ADDR", value_delimiter = ',', value_parser = address)]
    pub spread: Vec<IpAddr>,
    /// End outgoing sockets that have been in TIME_WAIT for this time, all of the network namespace: they have no owner. Needs
    /// CAP_NET_ADMIN
    #[arg(long, group = "how", value_name = "TIME", value_parser = reaped)]
    pub reap: Option<Duration>,
    /// Let connect() choose the port where the program binds an address without one: sets IP_BIND_ADDRESS_NO_PORT by a
    /// library that is loaded before it (LD_PRELOAD). Needs no privilege
    #[arg(long, group = "how")]
    pub no_port: bool,
    /// When the command has ended, write to this file what became of it and of its connections, as JSON; /dev/fd/3 for a
    /// descriptor. Standard output is the command's
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Say on standard error what was done in the end, and not only what went wrong
    #[arg(short, long)]
    pub verbose: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// An age for `--reap`; not below the floor that `tidewait reap` has if none is given.
fn reaped(text: &str) -> Result<Duration, String> {
    let age = age(text)?;
    if age < Duration::from_secs(1) {
        return Err("give a time from 1s on: late segments of a connection come within its first second, if they come".to_owned());
    }
    Ok(age)
}

#[cfg(feature = "act")]
impl Exec {
    /// Whether something is to be done for as long as the command runs.
    pub fn goes_on(&self) -> bool {
        self.steer || !self.spread.is_empty() || self.reap.is_some()
    }
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

#[cfg(test)]
mod tests {
    use crate::cli::tests::refuses;

    #[test]
    fn what_will_not_do_is_refused_by_its_own_option() {
        refuses(&[
            ("exec -- true", "--steer"),
            ("exec --steer", "<COMMAND>"),
            ("exec --steer true", "'true'"),
            ("exec --no-port --range 1-2 -- true", "--steer"),
            ("exec --no-port --reuse-after 5 -- true", "--steer"),
            ("exec --spread db -- true", "names are not looked up"),
            ("exec --reap soon -- true", "give a time"),
            ("exec --reap 100ms -- true", "from 1s on"),
        ]);
    }
}
