//! Busy machines without any trouble: whatever is told of them beyond a notice is a false alarm.

use super::leaks::connected;
use super::ports::steady;
use super::programs::{proxy_load, start_haproxy, start_nginx};
use super::stage::ours;
use super::{Need, Scenario, Stage};
use crate::actor::Actor;
use crate::churn::Churn;
use crate::error::{Error, Result};
use crate::netns::NetNs;
use crate::path::Path;
use crate::privilege::scaled;
use crate::repeat::Repeat;
use crate::server::Policy;

pub(super) const SCENARIOS: &[Scenario] = &[
    healthy("busy-web-server", "nginx serves 300 connections a second and 500 that stay open", web_server)
        .with(&[Need::Program("nginx")]),
    healthy(
        "http-proxy-haproxy",
        "HAProxy resets its connections to the server after each request, and so keeps no TIME_WAIT",
        http_proxy,
    )
    .with(&[Need::Program("haproxy")]),
    healthy("pool-at-90-percent", "a connection pool of 1,000 has 900 in use", pool),
    healthy("incoming-60000-time-wait", "a server keeps 60,000 sockets in TIME_WAIT", incoming),
    healthy("burst-then-calm", "10,000 connections within moments, then nothing", burst),
    healthy("many-namespaces", "200 network namespaces, a few of them with a little traffic", namespaces),
    healthy(
        "reuse-carries-on",
        "tcp_tw_reuse lets connect() take ports over, at more connections a second than they carry otherwise",
        reuse,
    ),
    healthy(
        "reuse-switched-on",
        "every port was in TIME_WAIT when tcp_tw_reuse was switched on, and connections go on",
        reuse_late,
    ),
    healthy("idle-keepalive-proxies", "3,000 open connections on which nothing happens", idle),
    healthy(
        "shutdown-in-progress",
        "hundreds of connections are being closed at any time, each within two seconds",
        shutdown,
    ),
];

const fn healthy(name: &'static str, about: &'static str, prepare: fn(&mut Stage) -> Result<()>) -> Scenario {
    Scenario { name, about, expects: &[], tolerates: &[], needs: &[], prepare }
}

impl Scenario {
    const fn with(self, needs: &'static [Need]) -> Scenario {
        Scenario { needs, ..self }
    }
}

fn web_server(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    start_nginx(stage, "return 200 \"ok\";")?;
    let kept = connected(stage, &peer, 8080, 500)?;
    stage.keep(kept);
    let request = "GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
    let load = peer.request(Repeat { rate: 300, threads: 2 }, ours(8080), request)?;
    // A server asks others in turn, now and then.
    stage.answer(&peer, 5432, Policy::CloseAfterPeer)?;
    let out = stage.out(&peer, 5432).churn(steady(20))?;
    stage.keep((load, out));
    stage.wait(6, "300 requests a second");
    Ok(())
}

/// The like of this is trouble for nginx. What HAProxy does instead costs no ports: it resets what it does not use again
/// (`option http-server-close`).
fn http_proxy(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.answer(&peer, 80, Policy::Http)?;
    start_haproxy(stage, "mode http\n    option http-server-close\n    http-reuse never", "10.77.0.2:80")?;
    proxy_load(stage, &peer, "haproxy")
}

fn pool(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.answer(&peer, 5432, Policy::Echo)?;
    let held = stage.out(&peer, 5432).syn_sent(900)?;
    stage.keep(held);
    stage.wait(2, "900 connections open");
    Ok(())
}

fn incoming(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.fill_incoming(&peer, scaled(60_000))
}

fn burst(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let ports = stage.ports(28_232)?;
    stage.say("a burst of connections");
    stage.out(&peer, 443).fill_time_wait(ports * 35 / 100)?;
    stage.wait(7, "calm");
    Ok(())
}

fn namespaces(stage: &mut Stage) -> Result<()> {
    stage.say("making 200 namespaces");
    for number in 0..200 {
        let netns = NetNs::named(&format!("tenant-{number}"))?;
        if number % 50 == 0 {
            let path = Path::within(&netns).to(([127, 0, 0, 1], 8080).into());
            path.fill_time_wait(200)?;
        }
        stage.keep(netns);
    }
    stage.lens_mut().everywhere = true;
    Ok(())
}

/// connect() takes over from the half of the range that it tries first; the other half stays empty.
fn reuse(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let ports = stage.ports(4_000)?;
    stage.host().set("net.ipv4.tcp_tw_reuse", "1")?;
    stage.answer(&peer, 3306, Policy::CloseAfterPeer)?;
    // More than the ports carry, each for a minute; less than they carry when each is taken over after a second.
    let churn = stage.out(&peer, 3306).churn(steady((ports / 6) as u32))?;
    stage.wait(6, "connecting");
    keep_going(stage, churn)
}

/// The range was full before.
fn reuse_late(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let ports = stage.ports(4_000)?;
    stage.say(format!("filling {ports} ports"));
    stage.out(&peer, 3306).fill_time_wait(ports)?;
    stage.host().set("net.ipv4.tcp_tw_reuse", "1")?;
    stage.answer(&peer, 3306, Policy::CloseAfterPeer)?;
    stage.wait(2, "until they may be taken over");
    let churn = stage.out(&peer, 3306).churn(steady((ports / 20) as u32))?;
    stage.wait(4, "connecting on");
    keep_going(stage, churn)
}

/// Keeps a churn that has not failed once.
fn keep_going(stage: &mut Stage, churn: Churn) -> Result<()> {
    let report = churn.report();
    if report.failures() > 0 {
        return Err(Error::Refused(format!("connections failed: {:?}", report.failed)));
    }
    stage.keep(churn);
    Ok(())
}

fn idle(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let count = scaled(1_500);
    stage.act(&Actor::new("proxy", ours(8080), Policy::Echo))?;
    let clients = connected(stage, &peer, 8080, count)?;
    stage.answer(&peer, 80, Policy::Echo)?;
    let upstream = stage.out(&peer, 80).syn_sent(count)?;
    stage.keep((clients, upstream));
    stage.wait(2, "nothing happens");
    Ok(())
}

fn shutdown(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    // The server of either direction follows its client after a second: FIN_WAIT2 here, CLOSE_WAIT here.
    stage.answer(&peer, 8443, Policy::CloseLater)?;
    stage.act(&Actor::new("app-server", ours(8080), Policy::CloseLater))?;
    let out = stage.out(&peer, 8443).churn(steady(100))?;
    let inward = stage.inward(&peer, 8080).churn(steady(300))?;
    stage.keep((out, inward));
    stage.wait(5, "connections come and go");
    Ok(())
}
