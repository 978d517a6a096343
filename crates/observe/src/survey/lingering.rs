//! Looks closely at sockets in states that ought to pass, and groups them by state and holder.
//!
//! A dump of its own, with `struct tcp_info`, of those states only that have many sockets. Memory is bounded: past
//! `CLOSELY` sockets the rest is counted.

use std::cmp::Reverse;
use std::collections::HashMap;

use tidewait_model::lingering::{Lingering, Peer, Silence};
use tidewait_model::steer::Holder;
use tidewait_model::{Endpoint, NamespaceFacts, OwnerBasis, State};

use super::Question;
use super::plan::Inuse;
use crate::census::Repeats;
use crate::census::direction::{Direction, Listeners, Ports};
use crate::owners::{Holders, owner, share};
use crate::procfs::Process;
use crate::sock_diag::{DumpError, Family, Netlink, ProcNet, Request, Row, Sockets, Timer};

/// The states that ought to pass.
const PASSING: [State; 6] =
    [State::CloseWait, State::FinWait1, State::FinWait2, State::LastAck, State::Closing, State::SynSent];
/// So many sockets in one of them make somebody ask. Fewer are what a machine that opens and closes a few hundred
/// connections a second over a slow network has at any moment, and the look at them costs a walk through the table.
const ENOUGH: u64 = 20;
/// Sockets of a namespace that are looked at closely: 32 bytes each. The dump goes by hash bucket, so these are a
/// fair sample of all.
const CLOSELY: usize = 65_536;
/// How often the look is begun again when messages were lost.
const ATTEMPTS: usize = 3;
/// Owners of the sockets in one state that are told apart; those with fewer sockets are one group without owner.
const GROUPS: usize = 16;
/// So many held sockets in one state are worth a search for their holder, however young they are.
const WORTH_A_SEARCH: u64 = 100;
/// And so are fewer where half of them have heard nothing for so many milliseconds: what is on its way through a state in
/// five seconds is not, and of the rest somebody will ask who holds it.
const OLD: u32 = 2_500;

/// One socket, as far as it is kept until its holder is known.
struct Sample {
    inode: u32,
    /// Index of its peer.
    peer: u32,
    /// Milliseconds since the peer was heard.
    silence: Option<u32>,
    unread: u32,
    retransmits: u8,
    timer: Timer,
}

/// Sockets in one state, held or not.
struct Bucket {
    state: State,
    held: bool,
    sockets: u64,
    samples: Vec<Sample>,
}

/// The sockets of one namespace that were looked at closely.
#[derive(Default)]
pub(super) struct Close {
    buckets: Vec<Bucket>,
    looked_at: usize,
    peers: HashMap<(Endpoint, Option<Endpoint>), u32>,
    repeats: Repeats,
}

/// Looks at the sockets of the calling thread's namespace whose census is in `facts`.
///
/// # Errors
/// Where the sockets cannot be dumped a second time.
pub(super) fn look(question: &Question, facts: &NamespaceFacts) -> Result<Close, DumpError> {
    let mut attempt = 1;
    let mut netlink = Netlink::open();
    let mut proc_net = ProcNet::new(&question.root);
    let source: &mut dyn Sockets = match &mut netlink {
        Ok(netlink) => netlink,
        Err(_) => &mut proc_net,
    };
    loop {
        match look_at(source, question, facts) {
            Err(DumpError::Overrun) if attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

/// The states that ought to pass and do not, by the look of it.
fn states(facts: &NamespaceFacts) -> impl Iterator<Item = State> + Clone {
    PASSING.into_iter().filter(|state| facts.census.states[*state] >= ENOUGH)
}

/// Whether a namespace has so many sockets in a state that ought to pass that they are looked at.
pub(super) fn is_worth_a_look(facts: &NamespaceFacts) -> bool {
    states(facts).next().is_some()
}

fn look_at(
    source: &mut dyn Sockets,
    question: &Question,
    facts: &NamespaceFacts,
) -> Result<Close, DumpError> {
    let mut listeners = Listeners::default();
    facts.census.listeners.iter().for_each(|listener| listeners.add(listener.local));
    let states: Vec<State> = states(facts).collect();
    let ports = Ports { range: facts.settings.port_range(), steered: Holder::ports(&facts.steered) };
    // Small sockets in FIN_WAIT2 are not among those in use.
    let no_ipv6 = Inuse::from(&facts.counters).v6 == Some(0) && !states.contains(&State::FinWait2);
    let mut close = Close::default();
    for family in Family::BOTH.into_iter().filter(|family| *family == Family::V4 || !no_ipv6) {
        let request = Request::all(family).states(states.iter().copied()).to(question.to).with_tcp_info();
        source.dump(&request, &mut |row| {
            if let Some(state) = row.state().filter(|state| states.contains(state)) {
                close.add(state, row, &listeners, &ports);
            }
        })?;
    }
    Ok(close)
}

impl Close {
    fn add(&mut self, state: State, row: &Row<'_>, listeners: &Listeners, ports: &Ports) {
        if self.repeats.is_repeated(row.cookie()) {
            return;
        }
        let held = row.inode().is_some();
        let at = self.buckets.iter().position(|bucket| (bucket.state, bucket.held) == (state, held));
        let at = at.unwrap_or_else(|| {
            self.buckets.push(Bucket { state, held, sockets: 0, samples: Vec::new() });
            self.buckets.len() - 1
        });
        self.buckets[at].sockets += 1;
        if self.looked_at >= CLOSELY {
            return;
        }
        self.looked_at += 1;
        let (local, mut remote) = (row.local(), row.remote());
        let service = match listeners.direction(state, local, remote, ports) {
            Direction::Outgoing => None,
            Direction::Incoming(service) => {
                remote.port = 0;
                Some(service)
            }
        };
        let next = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        let peer = *self.peers.entry((remote, service)).or_insert(next);
        self.buckets[at].samples.push(Sample {
            inode: row.inode().unwrap_or(0),
            peer,
            silence: row.tcp_info().and_then(|info| info.last_ack_ms),
            unread: row.receive_queue(),
            retransmits: row.retransmits(),
            timer: row.timer(),
        });
    }

    /// How many sockets were looked at.
    pub(super) fn looked_at(&self) -> u64 {
        self.looked_at as u64
    }

    /// The inodes of the held sockets that were looked at.
    pub(super) fn inodes(&self) -> impl Iterator<Item = u32> {
        let held = self.buckets.iter().filter(|bucket| bucket.held);
        held.flat_map(|bucket| &bucket.samples).map(|sample| sample.inode)
    }

    /// Whether there are held sockets that somebody will ask about.
    pub(super) fn is_worth_a_search(&self) -> bool {
        self.buckets.iter().any(|bucket| {
            let old = |sample: &&Sample| {
                sample.silence.is_some_and(|ms| ms >= OLD)
                    || (bucket.state == State::SynSent && sample.retransmits > 1)
            };
            let mostly = bucket.samples.iter().filter(old).count() * 2 > bucket.samples.len();
            bucket.held && (bucket.sockets >= WORTH_A_SEARCH || mostly)
        })
    }

    /// The groups, those with most sockets first.
    pub(super) fn group(self, holders: &Holders) -> Vec<Lingering> {
        let mut peers: Vec<_> = self.peers.into_iter().map(|(peer, at)| (at, peer)).collect();
        peers.sort_unstable_by_key(|(at, _)| *at);
        let mut groups: Vec<Lingering> =
            self.buckets.into_iter().flat_map(|bucket| bucket.group(holders, &peers)).collect();
        groups.sort_by_key(|group| (Reverse(group.sockets), group.state.number(), group.held));
        groups
    }
}

type Peers = [(u32, (Endpoint, Option<Endpoint>))];

/// The samples of one owner, or of none.
#[derive(Default)]
struct Share<'h> {
    process: Option<&'h Process>,
    one: bool,
    samples: Vec<Sample>,
}

impl Bucket {
    fn group(self, holders: &Holders, peers: &Peers) -> Vec<Lingering> {
        let looked_at = self.samples.len() as u64;
        let (mut known, mut unknown) = (HashMap::<_, Share<'_>>::new(), Share::default());
        for sample in self.samples {
            match holders.holder(sample.inode).filter(|_| self.held) {
                Some((process, held)) => {
                    let Process { pid, command, user, unit, container } = process;
                    let share = known.entry((command, user, unit, container)).or_insert_with(|| Share {
                        process: Some(process),
                        one: true,
                        samples: Vec::new(),
                    });
                    share.one &= share.process.is_some_and(|first| first.pid == *pid) && held.sharers == 1;
                    share.samples.push(sample);
                }
                None => unknown.samples.push(sample),
            }
        }
        let mut shares: Vec<Share<'_>> = known.into_values().collect();
        shares.sort_by_key(|share| (Reverse(share.samples.len()), share.process.map(|process| process.pid)));
        for mut small in shares.drain(shares.len().min(GROUPS)..) {
            unknown.samples.append(&mut small.samples);
        }
        if !unknown.samples.is_empty() {
            shares.push(unknown);
        }
        // What was not looked at: the one owner's where there is only one, else nobody's that is known.
        let rest = self.sockets - looked_at;
        if rest > 0 && shares.len() != 1 {
            shares.push(Share::default());
        }
        let last = shares.len().saturating_sub(1);
        let described = shares.into_iter().enumerate().map(|(at, found)| {
            let mut group = describe(self.state, self.held, &found.samples, peers);
            group.sockets += if at == last { rest } else { 0 };
            let part = share(group.looked_at, looked_at);
            group.owner = found.process.map(|process| owner(process, found.one, part, OwnerBasis::OpenFiles));
            group
        });
        described.collect()
    }
}

/// A group of these samples, its owner left open.
fn describe(state: State, held: bool, samples: &[Sample], peers: &Peers) -> Lingering {
    // The end of file takes a place in the receive queue once it has come (tcp_input.c `tcp_fin`, `rcv_nxt`).
    let ended = matches!(state, State::CloseWait | State::LastAck | State::Closing);
    let data = |sample: &Sample| sample.unread.saturating_sub(u32::from(ended));
    let count = |is: &dyn Fn(&Sample) -> bool| samples.iter().filter(|sample| is(sample)).count() as u64;
    let retransmits = |sample: &Sample| match sample.timer {
        Timer::Retransmit(_) => sample.retransmits,
        _ => 0,
    };
    let (most, peers_total) = most_peers(samples, peers);
    Lingering {
        state,
        held,
        owner: None,
        sockets: samples.len() as u64,
        looked_at: samples.len() as u64,
        peers: most,
        peers_total,
        silence: silence(samples),
        unread_end: count(&|sample| ended && sample.unread == 1),
        unread_data: count(&|sample| data(sample) > 0),
        unread_bytes: samples.iter().map(|sample| u64::from(data(sample))).sum(),
        // The same timer ends an orphan in FIN_WAIT2 whose tcp_fin_timeout is above 60 s.
        keepalive: count(&|sample| held && matches!(sample.timer, Timer::Keepalive(_))),
        retransmitting: count(&|sample| retransmits(sample) > 0),
        zero_window: count(&|sample| matches!(sample.timer, Timer::Probe(_))),
        retransmits_max: samples.iter().map(|sample| u32::from(retransmits(sample))).max().unwrap_or(0),
    }
}

/// The peers of most of the samples, and how many peers there are.
fn most_peers(samples: &[Sample], peers: &Peers) -> (Vec<Peer>, u64) {
    let mut counts = HashMap::<u32, u64>::new();
    for sample in samples {
        *counts.entry(sample.peer).or_default() += 1;
    }
    let total = counts.len() as u64;
    let mut counts: Vec<_> = counts
        .into_iter()
        .filter_map(|(at, sockets)| Some((peers.get(usize::try_from(at).ok()?)?.1, sockets)))
        .collect();
    counts.sort_unstable_by_key(|(peer, sockets)| (Reverse(*sockets), *peer));
    counts.truncate(Lingering::PEERS);
    let told = |((remote, service), sockets): ((Endpoint, Option<Endpoint>), u64)| Peer {
        peer: if service.is_some() { remote.address.to_string() } else { remote.to_string() },
        service: service.map(|service| service.to_string()),
        sockets,
    };
    (counts.into_iter().map(told).collect(), total)
}

/// For how long the peers were silent; none unless that is known of every sample.
fn silence(samples: &[Sample]) -> Option<Silence> {
    let mut all: Vec<u32> = samples.iter().map(|sample| sample.silence).collect::<Option<_>>()?;
    all.sort_unstable();
    let seconds = |ms: u32| f64::from(ms) / 1e3;
    Some(Silence {
        shortest: seconds(*all.first()?),
        median: seconds(*all.get(all.len() / 2)?),
        longest: seconds(*all.last()?),
        last_minute: all.partition_point(|ms| *ms < 60_000) as u64,
    })
}

#[cfg(test)]
mod tests;
