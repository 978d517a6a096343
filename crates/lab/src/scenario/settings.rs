//! Settings that get in the way: a service inside the port range, files that set one thing twice, settings that are gone.

use tidewait_model::report::Severity::Notice;

use super::stage::ours;
use super::{Expectation, Scenario, Stage};
use crate::actor::Actor;
use crate::error::Result;
use crate::server::Policy;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "listener-in-port-range",
        about: "a service listens at a port that connect() may choose",
        expects: &[Expectation::of("listener-in-port-range", Notice).says(&["40000"])],
        tolerates: &[],
        needs: &[],
        prepare: listener,
    },
    Scenario {
        name: "setting-overridden",
        about: "a file of sysctl.d widens the port range, a later one narrows it again",
        expects: &[Expectation::of("setting-overridden", Notice).says(&["99-vendor.conf"])],
        tolerates: &[],
        needs: &[],
        prepare: overridden,
    },
    Scenario {
        name: "setting-obsolete",
        about: "a file of sysctl.d still sets tcp_tw_recycle, which is gone since Linux 4.12",
        expects: &[Expectation::of("setting-obsolete", Notice).says(&["tcp_tw_recycle"])],
        tolerates: &[],
        needs: &[],
        prepare: obsolete,
    },
];

fn listener(stage: &mut Stage) -> Result<()> {
    stage.peer()?;
    stage.act(&Actor::new("app-server", ours(40_000), Policy::Echo))
}

fn overridden(stage: &mut Stage) -> Result<()> {
    stage.file(
        "/run/sysctl.d/50-ports.conf",
        "# more ports for the proxy\nnet.ipv4.ip_local_port_range = 10240 65535\n",
    )?;
    stage.file("/run/sysctl.d/99-vendor.conf", "net.ipv4.ip_local_port_range = 32768 60999\n")?;
    Ok(())
}

fn obsolete(stage: &mut Stage) -> Result<()> {
    stage.file(
        "/run/sysctl.d/60-tuning.conf",
        "net.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_fin_timeout = 60\n",
    )?;
    Ok(())
}
