//! Too few local ports: the range of a destination full or filling up, half full, or full by bind().

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tidewait_model::report::Severity::{Critical, Notice, Warning};

use super::{Expectation, Scenario, Stage};
use crate::churn::ChurnOptions;
use crate::error::Result;
use crate::privilege::scaled;
use crate::server::Policy;

/// Ports of the stock range, 32768 to 60999.
const STOCK: u64 = 28_232;

/// Longer than any scenario: a churn that goes on while the machine is looked at.
const LONG: Duration = Duration::from_secs(600);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ports-exhausted",
        about: "every local port for one destination is in TIME_WAIT, and the program goes on connecting",
        expects: &[Expectation::of("ports-exhausted", Critical)],
        tolerates: &[],
        needs: &[],
        prepare: exhausted,
    },
    Scenario {
        name: "ports-running-out",
        about: "600 connections a second to one destination, which the stock range carries for 47 seconds",
        expects: &[Expectation::of("ports-running-out", Critical)],
        tolerates: &[],
        needs: &[],
        prepare: running_out,
    },
    Scenario {
        name: "port-search-cliff",
        about: "just over half of the ports for one destination are in use, at a rate that they carry",
        // Emulated, the search takes the whole processor, and then there are fewer connections than make a warning of it.
        expects: &[Expectation::of("port-search-cliff", Warning).slow(Notice)],
        tolerates: &[],
        needs: &[],
        prepare: cliff,
    },
    Scenario {
        name: "bind-pool-exhausted",
        about: "a client of four services binds its source address before connect(), until bind() finds no port",
        expects: &[Expectation::of("bind-pool-exhausted", Critical).says(&["bind-address-no-port"])],
        tolerates: &[],
        needs: &[],
        prepare: bind_pool,
    },
];

fn exhausted(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let ports = stage.ports(STOCK)?;
    stage.say(format!("filling {ports} ports"));
    stage.out(&peer, 3306).fill_time_wait(ports)?;
    stage.answer(&peer, 3306, Policy::CloseAfterPeer)?;
    let churn = stage.out(&peer, 3306).churn(steady(200))?;
    stage.keep(churn);
    stage.wait(1, "connecting on");
    Ok(())
}

fn running_out(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.ports(STOCK)?;
    stage.answer(&peer, 3306, Policy::CloseAfterPeer)?;
    let churn = stage.out(&peer, 3306).churn(steady(scaled(600) as u32))?;
    stage.keep(churn);
    stage.wait(7, "600 connections a second");
    Ok(())
}

/// Not made smaller on a slow machine: with fewer ports to search nobody feels it. Not more than that either: the fill must be over
/// long before the machine is looked at.
fn cliff(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let range = "32768 46767";
    stage.host().set("net.ipv4.ip_local_port_range", range)?;
    let ports = 14_000 * 52 / 100;
    stage.say(format!("filling {ports} ports"));
    let begun = Instant::now();
    stage.out(&peer, 8080).fill_time_wait(ports)?;
    // The present rate goes by three blocks of ten seconds: where the fill takes up two of them, as in an emulated machine, it would be
    // taken for traffic, until two others have passed.
    let rest = if begun.elapsed() < Duration::from_secs(2) { 10 } else { 21 };
    stage.answer(&peer, 8080, Policy::CloseAfterPeer)?;
    let churn = stage.out(&peer, 8080).churn(steady(110))?;
    stage.keep(churn);
    stage.wait(rest, "110 connections a second");
    Ok(())
}

fn bind_pool(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let ports = stage.ports(4_000)?;
    let path = stage.out_to_several(&peer, Policy::CloseAfterPeer)?;
    let bind_first = Some(IpAddr::from([10, 77, 0, 1]));
    stage.say(format!("using {ports} ports up"));
    path.churn(ChurnOptions {
        rate: None,
        count: Some(ports),
        bind_first,
        duration: LONG,
        ..Default::default()
    })?
    .wait();
    let churn = path.churn(ChurnOptions { bind_first, ..steady(100) })?;
    stage.keep(churn);
    stage.wait(1, "connecting on");
    Ok(())
}

/// Connects, closes at once, for as long as the stage lives.
pub(super) fn steady(rate: u32) -> ChurnOptions {
    ChurnOptions { rate: Some(rate.max(1)), duration: LONG, ..ChurnOptions::default() }
}
