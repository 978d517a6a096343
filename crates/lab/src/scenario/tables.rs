//! Tables that fill up: TIME_WAIT sockets, orphans, connection tracking; and many incoming TIME_WAIT, which is no trouble.

use std::fs;

use tidewait_model::report::Severity::{Critical, Notice, Warning};

use super::ports::steady;
use super::stage::{DISPOSABLE, their_address};
use super::{Expectation, Need, Scenario, Stage};
use crate::conntrack;
use crate::error::{Error, Result};
use crate::held::Side;
use crate::netns::NetNs;
use crate::privilege::scaled;
use crate::server::Policy;

/// Entries in a connection tracking table that a scenario fills at most: 100 MB of the kernel's memory.
const MOST_TRACKED: u64 = 300_000;

/// Where the kernel keeps the limit of orphans, seen in the initial namespace only.
const MAX_ORPHANS: &str = "/proc/sys/net/ipv4/tcp_max_orphans";

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "time-wait-overflow",
        about: "tcp_max_tw_buckets is 500, and 300 connections a second close here",
        expects: &[Expectation::of("time-wait-overflow", Notice)],
        tolerates: &[],
        needs: &[],
        prepare: overflow,
    },
    Scenario {
        name: "time-wait-incoming",
        about: "a server closes first and keeps 30,000 sockets in TIME_WAIT",
        expects: &[Expectation::of("time-wait-incoming", Notice)],
        tolerates: &[],
        needs: &[],
        prepare: incoming,
    },
    Scenario {
        name: "orphans-near-limit",
        about: "900 connections are closed towards a silent peer, and the machine may have 1,000 orphans",
        expects: &[Expectation::of("orphans-near-limit", Warning)],
        tolerates: &["fin-wait1-stuck"],
        needs: &[Need::Disposable],
        prepare: orphans,
    },
    Scenario {
        name: "conntrack-full",
        about: "the connection tracking table is full",
        expects: &[Expectation::of("conntrack-full", Critical)],
        tolerates: &[],
        needs: &[Need::Program("nft")],
        prepare: tracking_full,
    },
    Scenario {
        name: "conntrack-full-syn-sent",
        about: "the connection tracking table is full, so that new connections hang in SYN_SENT",
        expects: &[Expectation::of("conntrack-full", Critical).leads(&["syn-sent-pileup"])],
        tolerates: &[],
        needs: &[Need::Program("nft")],
        prepare: tracking_full_and_connecting,
    },
];

fn overflow(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.host().set("net.ipv4.tcp_max_tw_buckets", "500")?;
    stage.answer(&peer, 80, Policy::CloseAfterPeer)?;
    let churn = stage.out(&peer, 80).churn(steady(300))?;
    stage.keep(churn);
    stage.wait(4, "300 connections a second");
    Ok(())
}

fn incoming(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    // A slow machine still has so many that they are worth a word.
    stage.fill_incoming(&peer, scaled(30_000).max(6_000))
}

/// The limit of orphans as it was, written back in the end: what runs next has orphans too.
struct Orphans {
    outside: NetNs,
    before: String,
}

impl Orphans {
    fn limit(outside: &NetNs, limit: &str) -> Result<Orphans> {
        let set = || {
            fs::read_to_string(MAX_ORPHANS).and_then(|before| fs::write(MAX_ORPHANS, limit).map(|()| before))
        };
        let before = outside.run(set)?.map_err(|error| {
            Error::Unavailable(format!(
                "{MAX_ORPHANS}: {error}: {DISPOSABLE} is for the initial network namespace"
            ))
        })?;
        Ok(Orphans { outside: outside.clone(), before })
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        // It was written before, so it can be written now.
        let _ = self.outside.run(|| fs::write(MAX_ORPHANS, &self.before));
    }
}

fn orphans(stage: &mut Stage) -> Result<()> {
    let limit = Orphans::limit(stage.outside(), "1000")?;
    stage.changed(limit);
    let peer = stage.peer()?;
    let mut held = stage.out(&peer, 8080).hold_established(900)?;
    stage.host().blackhole(their_address())?;
    held.close(Side::Client);
    stage.keep(held);
    let outside = stage.outside().clone();
    stage.lens_mut().from_outside = Some(outside);
    stage.wait(2, "the peer is silent");
    Ok(())
}

fn tracking_full(stage: &mut Stage) -> Result<()> {
    stage.peer()?;
    fill_tracking(stage)
}

fn tracking_full_and_connecting(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    fill_tracking(stage)?;
    stage.answer(&peer, 443, Policy::Echo)?;
    let held = stage.out(&peer, 443).syn_sent(200)?;
    stage.keep(held);
    stage.wait(4, "no connection gets through");
    Ok(())
}

fn fill_tracking(stage: &Stage) -> Result<()> {
    stage.nft(
        "chain in { type filter hook input priority 0; ct state new accept; }\n\
         chain out { type filter hook output priority 0; ct state new accept; }",
    )?;
    let setting = "net.netfilter.nf_conntrack_max";
    let limit = number(stage, setting)?;
    if limit > MOST_TRACKED {
        return Err(Error::Unavailable(format!(
            "{setting} is {limit}, and it belongs to the whole machine: filling more than {MOST_TRACKED} entries is too \
             much for a try"
        )));
    }
    stage.say(format!("tracking {limit} connections"));
    conntrack::fill(stage.host(), limit)?;
    let count = number(stage, "net.netfilter.nf_conntrack_count")?;
    if count < limit {
        return Err(Error::Unfinished {
            what: "tracked connections",
            made: count,
            wanted: limit,
            seconds: 0.0,
        });
    }
    Ok(())
}

/// A whole number of the machine's settings.
fn number(stage: &Stage, setting: &str) -> Result<u64> {
    let text = stage.host().get(setting)?;
    text.parse().map_err(|_| Error::Refused(format!("{setting} {text:?}: not a number")))
}
