//! Connections that do not come about: silent peers, NAT without ports, full accept queues.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tidewait_model::report::Severity::Warning;

use super::ports::steady;
use super::stage::{nobody, ours};
use super::{Expectation, Need, Scenario, Stage};
use crate::actor::Actor;
use crate::error::Result;
use crate::path::Path;
use crate::repeat::Repeat;
use crate::server::Policy;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "syn-sent-pileup",
        about: "300 connections to an address that never answers",
        expects: &[Expectation::of("syn-sent-pileup", Warning)],
        tolerates: &[],
        needs: &[],
        prepare: silent_peer,
    },
    Scenario {
        name: "syn-sent-snat",
        about: "masquerading has two ports, and a hundred connections want out: SYNs vanish in this machine",
        expects: &[Expectation::of("syn-sent-pileup", Warning).says(&["NAT"])],
        tolerates: &[],
        needs: &[Need::Program("nft")],
        prepare: nat_without_ports,
    },
    Scenario {
        name: "accept-queue-overflow",
        about: "a server does not accept, its queue of 16 is full, clients knock in vain",
        expects: &[Expectation::of("accept-queue-overflow", Warning).says(&["app-server"])],
        tolerates: &[],
        needs: &[],
        prepare: full_queue,
    },
];

fn silent_peer(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.host().blackhole(nobody())?;
    let path = Path::between(stage.host(), &peer).to(SocketAddr::new(nobody(), 443));
    let held = path.syn_sent(300)?;
    stage.keep(held);
    stage.wait(4, "nobody answers");
    Ok(())
}

fn nat_without_ports(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.nft(
        "chain out { type nat hook postrouting priority srcnat; ip protocol tcp masquerade to :40000-40001; }",
    )?;
    stage.answer(&peer, 443, Policy::Echo)?;
    let path = stage.out(&peer, 443);
    stage.keep(path.syn_sent(100)?);
    // Clients do not stop asking because others wait.
    let more = Mutex::new(Vec::new());
    let client = stage.host().netns().clone();
    let asking = client.repeat(Repeat { rate: 20, threads: 1 }, move || {
        let held = path.syn_sent(1).map_err(io::Error::other)?;
        more.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        Ok(())
    })?;
    stage.keep(asking);
    stage.wait(4, "no port for most of them");
    Ok(())
}

fn full_queue(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let actor = Actor { backlog: 16, ..Actor::new("app-server", ours(8080), Policy::NeverAccept) };
    stage.act(&actor)?;
    let held = stage.inward(&peer, 8080).syn_sent(60)?;
    stage.keep(held);
    let churn = stage.inward(&peer, 8080).churn(steady(20))?;
    stage.keep(churn);
    stage.wait(3, "clients knock");
    Ok(())
}
