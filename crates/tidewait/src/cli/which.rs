//! Options that several commands have: which connections, where, and for how long.

use clap::Args;
use tidewait_model::AddressFilter;
use tidewait_observe::sock_diag::Filter;

use super::values::{end, interval, port};

/// Which connections are meant: those that pass all of it.
#[derive(Clone, Copy, Debug, Args)]
pub struct Which {
    /// Only connections with this peer
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = end)]
    pub to: Option<AddressFilter>,
    /// Only connections with this local end
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = end)]
    pub from: Option<AddressFilter>,
    /// Only connections with this port at either end
    #[arg(long, value_name = "PORT", value_parser = port, allow_negative_numbers = true)]
    pub port: Option<u16>,
}

impl Which {
    /// As sockets are sorted out by it.
    pub fn filter(self) -> Filter {
        Filter { to: self.to, from: self.from, port: self.port }
    }
}

/// One network namespace.
#[derive(Clone, Debug, Args)]
pub struct OneNetns {
    /// In this network namespace: a name under /run/netns, a process number, or 'host'. Default: the one tidewait runs in
    #[arg(id = "netns", long, value_name = "NAME|PID")]
    pub name: Option<String>,
}

/// How long it goes on.
#[derive(Clone, Copy, Debug, Args)]
pub struct Until {
    /// End after so many seconds; default: on Ctrl-C
    #[arg(id = "for", long, value_name = "SECONDS", value_parser = interval, allow_negative_numbers = true)]
    pub seconds: Option<f64>,
}
