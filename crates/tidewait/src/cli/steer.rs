//! What can be typed after `tidewait steer` and `tidewait spread`.

use std::net::IpAddr;

use clap::{ArgGroup, Args};
use tidewait_model::PortRange;
use tidewait_model::steer::ports::Choice;

use super::values::{interval, named, process};
use super::{Format, Until};

pub const STEER_EXAMPLES: &str = "Examples:\n  \
  tidewait steer --unit nginx                        for a systemd unit, until Ctrl-C\n  \
  tidewait steer --pid 4711 --reuse-after 5          for one process; ports of TIME_WAIT older than 5 s again\n  \
  tidewait steer --all --range 61000-65535           for the whole network namespace, from these ports\n  \
  tidewait steer --unit squid --sources 10.0.0.5,10.0.0.6   ports and source addresses";

pub const SPREAD_EXAMPLES: &str = "Examples:\n  \
  tidewait spread --unit nginx --sources 10.0.0.5,10.0.0.6,10.0.0.7\n  \
  tidewait spread --pid 4711 --sources 2001:db8::5,2001:db8::6 --for 600";

/// For whom.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub struct Target {
    /// For the processes of this control group and of those below it: a directory of the cgroup v2 tree, or its path there
    #[arg(long, value_name = "PATH", group = "target", value_parser = named)]
    pub cgroup: Option<String>,
    /// For this systemd unit; .service may be left out
    #[arg(long, value_name = "NAME", group = "target", value_parser = named)]
    pub unit: Option<String>,
    /// For this process, without those that it starts; ends with it
    #[arg(long, value_name = "PID", group = "target", value_parser = process, allow_negative_numbers = true)]
    pub pid: Option<u32>,
    /// For every process of the network namespace
    #[arg(long, group = "target")]
    pub all: bool,
    /// The network namespace: a name under /run/netns, a process number or 'host'. Default: that of the processes, else the one
    /// tidewait runs in
    #[arg(long, value_name = "NAME|PID")]
    pub netns: Option<String>,
}

/// Which ports are given.
#[derive(Clone, Debug, Args)]
pub struct Choosing {
    /// Ports to give: LOW-HIGH, several parted by commas; 'kernel' for ip_local_port_range, which neighbours need too.
    /// Default: half of the free ones from 10000 on beside that range
    #[arg(long, value_name = "RANGES", default_value = "own", hide_default_value = true, value_parser = choice)]
    pub range: Choice,
    /// Give also the port of a TIME_WAIT that is older than so many whole seconds, if the peer's timestamps protect it. Default:
    /// never
    #[arg(long, value_name = "SECONDS", value_parser = interval, allow_negative_numbers = true)]
    pub reuse_after: Option<f64>,
}

/// Options of `steer`.
#[derive(Clone, Debug, Args)]
pub struct Steer {
    /// How to print it; JSON is one object a line.
    #[command(flatten)]
    pub format: Format,
    /// For whom.
    #[command(flatten)]
    pub target: Target,
    /// Which ports.
    #[command(flatten)]
    pub choosing: Choosing,
    /// Take these source addresses in turn as well
    #[arg(long, value_name = "ADDR,ADDR", value_delimiter = ',', value_parser = address)]
    pub sources: Vec<IpAddr>,
    /// For how long.
    #[command(flatten)]
    pub until: Until,
}

/// Options of `spread`.
#[derive(Clone, Debug, Args)]
pub struct Spread {
    /// How to print it; JSON is one object a line.
    #[command(flatten)]
    pub format: Format,
    /// For whom.
    #[command(flatten)]
    pub target: Target,
    /// The source addresses, which must be addresses of the network namespace
    #[arg(long, value_name = "ADDR,ADDR", value_delimiter = ',', required = true, value_parser = address)]
    pub sources: Vec<IpAddr>,
    /// For how long.
    #[command(flatten)]
    pub until: Until,
}

/// `61000-65535,20000-29999`, `kernel` or `own`.
pub fn choice(text: &str) -> Result<Choice, String> {
    match text {
        "own" => return Ok(Choice::Own),
        "kernel" => return Ok(Choice::Kernel),
        _ => {}
    }
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        match (port(low), port(high)) {
            (Some(low), Some(high)) if low <= high => ranges.push(PortRange { low, high }),
            _ => {
                return Err(format!(
                    "'{part}' is no range of ports: write 61000-65535, 20000-24999,61000-65535 or kernel"
                ));
            }
        }
    }
    Ok(Choice::Ranges(ranges))
}

/// An IP address, unmapped.
pub fn address(text: &str) -> Result<IpAddr, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => Err(format!("{ip} is no source address")),
        Ok(ip) => Ok(ip.to_canonical()),
        Err(_) => {
            Err(format!("'{text}' is no IP address; names are not looked up: write 10.0.0.5 or 2001:db8::5"))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::refuses;

    #[test]
    fn what_will_not_do_is_refused_by_its_own_option() {
        refuses(&[
            ("steer", "required"),
            ("steer --all --pid 1", "cannot be used with"),
            ("steer --all --range 5-4", "'5-4' is no range of ports"),
            ("steer --all --range 0-9", "'0-9' is no range of ports"),
            ("steer --all --range 61000-65535,x", "'x' is no range"),
            ("steer --all --reuse-after 0", "give seconds from 0.1"),
            ("spread --all", "--sources"),
            ("spread --all --sources 0.0.0.0", "0.0.0.0 is no source address"),
            ("spread --all --sources db.example", "names are not looked up"),
        ]);
    }
}
