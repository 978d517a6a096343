//! Programs that do not close, and programs near their limit of descriptors.

use std::time::Duration;

use tidewait_model::State;
use tidewait_model::report::Severity::Warning;

use super::ports::steady;
use super::stage::ours;
use super::{Expectation, Scenario, Stage};
use crate::actor::Actor;
use crate::churn::ChurnOptions;
use crate::error::Result;
use crate::held::Held;
use crate::host::Host;
use crate::server::Policy;

/// Seconds after which nobody takes sockets for being on their way through a state.
pub(super) const SETTLED: u64 = 7;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "close-wait-leak",
        about: "a server forgets to close what its clients have closed: 400 sockets in CLOSE_WAIT, and ever more",
        expects: &[Expectation::of("close-wait-leak", Warning).says(&["leaky-app"])],
        tolerates: &[],
        needs: &[],
        prepare: leak,
    },
    Scenario {
        name: "close-wait-leak-hidden",
        about: "the same leak after keepalive found the peers gone: 400 descriptors, no socket to be seen",
        expects: &[Expectation::of("close-wait-leak", Warning).says(&["leaky-app"])],
        tolerates: &[],
        needs: &[],
        prepare: hidden,
    },
    Scenario {
        name: "close-wait-leak-to-fd-limit",
        about: "the leak has brought its program near its limit of descriptors",
        expects: &[Expectation::of("close-wait-leak", Warning)
            .says(&["leaky-app"])
            .leads(&["fd-limit-near"])],
        tolerates: &[],
        needs: &[],
        prepare: leak_to_limit,
    },
    Scenario {
        name: "fd-limit-near",
        about: "a server holds 280 open connections and may have 300 descriptors",
        expects: &[Expectation::of("fd-limit-near", Warning).says(&["app-server"])],
        tolerates: &[],
        needs: &[],
        prepare: near_limit,
    },
    Scenario {
        name: "fd-limit-accept-queue",
        about: "a server has no descriptor left, so that its accept queue fills: up and working, but nobody gets in",
        expects: &[Expectation::of("fd-limit-near", Warning)
            .says(&["app-server"])
            .leads(&["accept-queue-overflow"])],
        tolerates: &[],
        needs: &[],
        prepare: limit_and_queue,
    },
];

fn leak(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.act(&Actor::new("leaky-app", ours(6379), Policy::Forget))?;
    connect_and_close(stage, &peer, 400)?;
    let more = stage.inward(&peer, 6379).churn(steady(10))?;
    stage.keep(more);
    stage.wait(SETTLED, "and ten more a second");
    Ok(())
}

fn hidden(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    // The peer forgets its side, so that the first probe is answered by a reset.
    peer.set("net.ipv4.tcp_fin_timeout", "1")?;
    let actor = Actor { keepalive: Some(2), ..Actor::new("leaky-app", ours(6379), Policy::NeverClose) };
    stage.act(&actor)?;
    connect_and_close(stage, &peer, 400)?;
    stage.until("keepalive finds the peers gone", 20, |host| Ok(host.states()?[State::CloseWait] == 0))?;
    stage.wait(SETTLED, "leaving them be");
    Ok(())
}

fn leak_to_limit(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let actor = Actor { descriptors: Some(400), ..Actor::new("leaky-app", ours(6379), Policy::NeverClose) };
    stage.act(&actor)?;
    connect_and_close(stage, &peer, 380)?;
    stage.wait(SETTLED, "leaving them be");
    Ok(())
}

fn near_limit(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let actor = Actor { descriptors: Some(300), ..Actor::new("app-server", ours(8080), Policy::Echo) };
    stage.act(&actor)?;
    let clients = connected(stage, &peer, 8080, 280)?;
    stage.keep(clients);
    Ok(())
}

fn limit_and_queue(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let actor =
        Actor { descriptors: Some(200), backlog: 32, ..Actor::new("app-server", ours(8080), Policy::Echo) };
    stage.act(&actor)?;
    // A few at a time: the queue is short.
    for number in 1..=19 {
        let clients = stage.inward(&peer, 8080).syn_sent(10)?;
        stage.keep(clients);
        stage
            .until("190 clients connect", 10, |host| Ok(host.states()?[State::Established] >= number * 10))?;
    }
    // These find the queue with room, then full.
    let waiting = stage.inward(&peer, 8080).syn_sent(100)?;
    stage.keep(waiting);
    let more = stage.inward(&peer, 8080).churn(steady(20))?;
    stage.keep(more);
    stage.wait(3, "clients knock");
    Ok(())
}

/// `count` connections from the peer, each closed by it at once; waits until they are all in CLOSE_WAIT.
fn connect_and_close(stage: &Stage, peer: &Host, count: u64) -> Result<()> {
    let options = ChurnOptions {
        rate: Some(2_000),
        count: Some(count),
        duration: Duration::from_secs(20),
        ..Default::default()
    };
    stage.inward(peer, 6379).churn(options)?.wait();
    stage.until(&format!("{count} clients connect and close"), 10, |host| {
        Ok(host.states()?[State::CloseWait] >= count)
    })
}

/// `count` connections from the peer that stay open, and that the service has accepted: only then they are descriptors.
pub(super) fn connected(stage: &Stage, peer: &Host, port: u16, count: u64) -> Result<Held> {
    let clients = stage.inward(peer, port).syn_sent(count)?;
    stage.until(&format!("{count} clients connect"), 10, |host| {
        Ok(host.states()?[State::Established] >= count && host.unaccepted()? == 0)
    })?;
    Ok(clients)
}
