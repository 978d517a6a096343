//! Connections that stay half closed: FIN_WAIT2, LAST_ACK, FIN_WAIT1.

use tidewait_model::State;
use tidewait_model::report::Severity::Notice;

use super::leaks::SETTLED;
use super::stage::{ours, their_address, theirs};
use super::{Expectation, Scenario, Stage};
use crate::error::Result;
use crate::held::Side;
use crate::path::Path;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "fin-wait2-stuck",
        about: "a program has shut down its half of 300 connections and holds them; the peer never closes its half",
        expects: &[Expectation::of("fin-wait2-stuck", Notice)],
        tolerates: &[],
        needs: &[],
        prepare: open,
    },
    Scenario {
        name: "fin-wait2-stuck-orphaned",
        about: "a program has closed 300 connections, and the peer never closes its half",
        expects: &[Expectation::of("fin-wait2-stuck", Notice)],
        tolerates: &[],
        needs: &[],
        prepare: orphaned,
    },
    Scenario {
        name: "last-ack-stuck",
        about: "300 connections are closed by both sides, and the peer has gone silent before the last ACK",
        expects: &[Expectation::of("last-ack-stuck", Notice)],
        tolerates: &[],
        needs: &[],
        prepare: last_ack,
    },
    Scenario {
        name: "fin-wait1-stuck",
        about: "a program has sent and closed, and 300 peers do not read: their windows are zero",
        expects: &[Expectation::of("fin-wait1-stuck", Notice)],
        tolerates: &[],
        needs: &[],
        prepare: zero_window,
    },
    Scenario {
        name: "fin-wait1-stuck-silent",
        about: "a program has closed 300 connections to a peer that has gone silent",
        expects: &[Expectation::of("fin-wait1-stuck", Notice)],
        tolerates: &[],
        needs: &[],
        prepare: silent,
    },
];

fn open(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let held = stage.out(&peer, 5432).hold_fin_wait2(300)?;
    stage.keep(held);
    stage.wait(SETTLED, "nothing happens");
    Ok(())
}

fn orphaned(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let held = stage.out(&peer, 5432).orphan_fin_wait2(300)?;
    stage.keep(held);
    stage.wait(SETTLED, "nothing happens");
    Ok(())
}

fn last_ack(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let mut held = Path::between(&peer, stage.host()).to(ours(8080)).hold_established(300)?;
    held.close(Side::Client);
    stage.until("the peer closes", 5, |host| Ok(host.states()?[State::CloseWait] >= 300))?;
    stage.host().blackhole(their_address())?;
    held.close(Side::Server);
    stage.keep(held);
    stage.wait(SETTLED, "the last ACK does not come");
    Ok(())
}

fn zero_window(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    // Small buffers, so that 300 of them take little memory.
    peer.set("net.ipv4.tcp_rmem", "4096 8192 16384")?;
    stage.host().set("net.ipv4.tcp_wmem", "4096 16384 65536")?;
    let mut held = Path::between(stage.host(), &peer).to(theirs(8080)).hold_established(300)?;
    held.stuff(Side::Client)?;
    held.close(Side::Client);
    stage.keep(held);
    stage.wait(SETTLED, "nobody reads");
    Ok(())
}

fn silent(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let mut held = stage.out(&peer, 8080).hold_established(300)?;
    stage.host().blackhole(their_address())?;
    held.close(Side::Client);
    stage.keep(held);
    stage.wait(SETTLED, "the peer is silent");
    Ok(())
}
