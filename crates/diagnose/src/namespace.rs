//! One namespace of the report from its facts: every destination with its ports, rates and forecast.

use tidewait_model::report::{Destination, Incoming, Listener, Namespace, Pool, Ports, Steered, TracedSum};
use tidewait_model::steer::Holder;
use tidewait_model::trace::{Births, Counts};
use tidewait_model::{
    Destination as Seen, Limit, NamespaceFacts, Occupancy, Owner, PortRange, PortSet, Settings, Source, State,
};

use crate::accounting::{self, Account, Inferred, Range};
use crate::forecast::{self, Situation};
use crate::traced::{self, Flows};

/// The namespace as the report shows it, all destinations that were observed, most ports first.
pub(crate) fn describe(facts: &NamespaceFacts, kernel: &str) -> Namespace {
    let view = View::of(facts, kernel);
    let mut destinations: Vec<Destination> =
        facts.census.destinations.iter().map(|seen| view.destination(seen)).collect();
    destinations.extend(facts.census.sources.iter().filter_map(|source| view.bind_pool(source)));
    destinations.sort_by(|a, b| {
        (b.ports_used, &a.destination, &a.source).cmp(&(a.ports_used, &b.destination, &b.source))
    });
    Namespace {
        name: facts.name.clone(),
        inode: facts.inode,
        settings: facts.settings.0.clone(),
        ports: view.ranges.as_ref().map(|(_, connect)| Ports {
            low: connect.range.low,
            high: connect.range.high,
            reserved: connect.reserved.len(),
            bound: connect.bound.len(),
            usable: connect.usable(),
        }),
        steered: facts
            .steered
            .iter()
            .map(|holder| Steered { low: holder.range.low, high: holder.range.high, pid: holder.pid })
            .collect(),
        time_wait_seconds: facts.settings.time_wait_seconds(),
        states: facts.census.states,
        destinations,
        destinations_total: facts.census.destinations.len() as u64
            + facts.census.unlisted
            + facts.census.folded.entries,
        incoming: facts.census.incoming.iter().map(|service| view.incoming(service)).collect(),
        listeners: facts.census.listeners.iter().map(listener).collect(),
        lingering: facts.lingering.clone(),
        closed_here: facts.traced.as_ref().map(traced::closed_here).unwrap_or_default(),
        counters: facts.counters.clone(),
        growth: facts.growth.clone(),
        traced: facts.traced.as_ref().map(traced::describe),
    }
}

/// A rate is told by what was traced if that was for so many seconds at least.
const RATE_FROM: f64 = 2.0;

/// Local addresses whose ports bind() looks at together, as one row for all destinations.
pub(crate) struct Addresses {
    /// The addresses, as the report has them, those with most ports first.
    pub(crate) sources: Vec<String>,
    /// What they hold together, whoever chose the ports.
    pub(crate) row: Destination,
}

/// What bind() to `address` has to keep clear of: the address itself; for 0.0.0.0 all of IPv4; for :: all of IPv6, and then
/// with IPv4 besides, because it is not known whether the socket is for IPv6 alone.
pub(crate) fn addresses(facts: &NamespaceFacts, kernel: &str, address: &str) -> Vec<Addresses> {
    let (v4, v6) =
        (|source: &Source| source.address.ip.is_ipv4(), |source: &Source| source.address.ip.is_ipv6());
    let view = View::of(facts, kernel);
    let scopes = match address {
        "0.0.0.0" => vec![view.addresses(address, v4)],
        "::" => vec![view.addresses(address, v6), view.addresses(address, |_| true)],
        one => vec![view.addresses(one, |source| source.address.to_string() == one)],
    };
    scopes.into_iter().flatten().collect()
}

/// Which way of choosing filled what: as traced, else as inferred.
struct Pools<'a> {
    flows: Option<Flows<'a>>,
    kernel: &'a str,
    /// Ports that are steered: they tell of neither.
    steered: PortSet,
}

impl Pools<'_> {
    /// Of all connections of a source.
    fn of_source(&self, source: &Source, range: PortRange) -> Inferred {
        let inferred = accounting::infer_source(source, range, &self.steered, self.kernel);
        let Some(flows) = &self.flows else { return inferred };
        let address = source.address.to_string();
        let failed = traced::sum(flows.binds(&address)).no_port;
        accounting::settle(inferred, &flows.from(&address), failed)
    }

    /// Of one destination, by its own connections.
    fn of_destination(&self, seen: &Seen, range: PortRange) -> Inferred {
        let steered = self.steered.count_common(&seen.occupancy.ports);
        let inferred = if steered > 0 && steered >= seen.occupancy.ports.len() / 2 {
            Inferred { pool: Pool::Unknown, how: "tidewait steer chooses its ports".to_owned() }
        } else {
            accounting::infer(&seen.occupancy, range, self.kernel)
        };
        accounting::settle(inferred, &self.seen(seen), 0)
    }

    /// Whether what was traced is enough to tell a rate by.
    fn traced_long_enough(&self) -> bool {
        self.flows.as_ref().is_some_and(|flows| flows.seconds >= RATE_FROM)
    }

    /// What was traced of one destination.
    fn seen(&self, seen: &Seen) -> Counts {
        let Some(flows) = &self.flows else { return Counts::default() };
        traced::sum(flows.to(&seen.source.to_string(), &seen.peer.to_string()))
    }
}

struct View<'a> {
    facts: &'a NamespaceFacts,
    pools: Pools<'a>,
    /// The range as bind() sees it, and as connect() does.
    ranges: Option<(Range, Range)>,
}

impl<'a> View<'a> {
    fn of(facts: &'a NamespaceFacts, kernel: &'a str) -> View<'a> {
        let base = Range::of(facts);
        let pools =
            Pools { flows: Flows::of(facts.traced.as_ref()), kernel, steered: Holder::ports(&facts.steered) };
        let connect = base.clone().map(|mut range| {
            let all = range.range;
            accounting::add_bind_chosen(
                &mut range,
                &facts.census,
                |source| pools.of_source(source, all).pool,
                |seen| pools.of_destination(seen, all).pool,
            );
            range
        });
        View { facts, pools, ranges: base.zip(connect) }
    }
}

impl View<'_> {
    fn destination(&self, seen: &Seen) -> Destination {
        let inferred = match &self.ranges {
            Some((base, _)) => self.infer(seen, base.range),
            None => unknown_range(),
        };
        let account = self.ranges.as_ref().map(|(base, connect)| match inferred.pool {
            Pool::Bind => self.bind_account(base, seen),
            Pool::Connect | Pool::Unknown => connect.account(&seen.occupancy.ports),
        });
        let loopback = seen.source.is_loopback() || seen.peer.address.is_loopback();
        let reuse_after = reuse_after(&self.facts.settings, inferred.pool, loopback, seen.peer_timestamps);
        self.row(&Subject {
            source: seen.source.to_string(),
            destination: seen.peer.to_string(),
            occupancy: &seen.occupancy,
            account,
            inferred,
            reuse_after,
            owners: &seen.owners,
            births: seen.births,
        })
    }

    /// Which way of choosing filled a destination: by its own ports, or else by those of its whole source.
    fn infer(&self, seen: &Seen, range: PortRange) -> Inferred {
        let own = self.pools.of_destination(seen, range);
        if own.pool != Pool::Unknown || self.pools.seen(seen).connects > 0 {
            return own;
        }
        let source = self.facts.census.sources.iter().find(|source| source.address == seen.source);
        source
            .map(|source| self.pools.of_source(source, range))
            .filter(|inferred| inferred.pool == Pool::Bind)
            .or_else(|| self.carries_on(seen))
            .unwrap_or(own)
    }

    /// A full range on which connections go on faster than TIME_WAIT ends: they take over sockets in TIME_WAIT, and that is
    /// for connect() to do. TWRecycled counts it (net/ipv4/inet_hashtables.c `__inet_check_established`).
    fn carries_on(&self, seen: &Seen) -> Option<Inferred> {
        let (base, _) = self.ranges.as_ref()?;
        let settings = &self.facts.settings;
        let loopback = seen.source.is_loopback() || seen.peer.address.is_loopback();
        reuse_after(settings, Pool::Connect, loopback, seen.peer_timestamps)?;
        let account = base.account(&seen.occupancy.ports);
        let now = forecast::history(&seen.occupancy.expiring, settings.time_wait_seconds(), None).now;
        let ends = f64::from(account.usable) / f64::from(settings.time_wait_seconds().max(1));
        let recycled = self.facts.counters.get("TcpExt.TWRecycled").map_or(0.0, |count| *count as f64);
        let taken_over = now > 1.2 * ends && recycled >= now && account.fill() >= 0.98;
        taken_over.then(|| Inferred {
            pool: Pool::Connect,
            how: "inferred: the range is full, and connections go on by taking over TIME_WAIT (TWRecycled)"
                .to_owned(),
        })
    }

    /// Who opens the connections of a source: the owners of its destinations, by their share of its live sockets.
    fn owners_of(&self, source: &Source) -> Vec<Owner> {
        let destinations =
            || self.facts.census.destinations.iter().filter(|seen| seen.source == source.address);
        let all: u64 = destinations().map(|seen| seen.occupancy.states.live()).sum();
        let mut owners: Vec<Owner> = Vec::new();
        for seen in destinations() {
            let weight = seen.occupancy.states.live() as f64 / all.max(1) as f64;
            for owner in &seen.owners {
                let share = owner.share * weight;
                match owners
                    .iter_mut()
                    .find(|known| (known.pid, &known.command) == (owner.pid, &owner.command))
                {
                    Some(known) => known.share += share,
                    None => owners.push(Owner { share, ..owner.clone() }),
                }
            }
        }
        owners.iter_mut().for_each(|owner| owner.share = round(owner.share, 4));
        owners.sort_by(|a, b| b.share.total_cmp(&a.share));
        owners
    }

    /// Those of all destinations of a source.
    fn births_of(&self, source: &Source) -> Births {
        let mut sum = Births::default();
        for seen in self.facts.census.destinations.iter().filter(|seen| seen.source == source.address) {
            sum.born += seen.births.born;
            sum.attributed += seen.births.attributed;
        }
        sum
    }

    /// The row of a source whose ports bind() chose: they are short for all its destinations together.
    fn bind_pool(&self, source: &Source) -> Option<Destination> {
        let (base, _) = self.ranges.as_ref()?;
        let inferred = self.pools.of_source(source, base.range);
        if inferred.pool != Pool::Bind || source.destinations < 2 {
            return None;
        }
        Some(self.row(&Subject {
            source: source.address.to_string(),
            destination: "*".to_owned(),
            occupancy: &source.occupancy,
            account: Some(base.account(&source.occupancy.ports)),
            inferred,
            reuse_after: None,
            owners: &self.owners_of(source),
            births: self.births_of(source),
        }))
    }

    /// All that the sources in `scope` hold, as bind() to `address` sees it: TIME_WAIT is in its way, whoever chose the port.
    fn addresses(&self, address: &str, scope: impl Fn(&Source) -> bool) -> Option<Addresses> {
        let (base, _) = self.ranges.as_ref()?;
        let sources: Vec<&Source> = self.facts.census.sources.iter().filter(|source| scope(source)).collect();
        let first = sources.first()?;
        let mut occupancy = Occupancy::default();
        sources.iter().for_each(|source| occupancy.merge(&source.occupancy));
        let account = base.account(&occupancy.ports);
        // What bind() tried in vain chose none of these.
        let inferred = match sources.as_slice() {
            [source] => {
                let inferred =
                    accounting::infer_source(source, base.range, &self.pools.steered, self.pools.kernel);
                let seen = self.pools.flows.as_ref().map(|flows| flows.from(&source.address.to_string()));
                accounting::settle(inferred, &seen.unwrap_or_default(), 0)
            }
            _ => Inferred { pool: Pool::Unknown, how: "several local addresses".to_owned() },
        };
        let row = self.row(&Subject {
            source: address.to_owned(),
            destination: "*".to_owned(),
            occupancy: &occupancy,
            account: Some(account),
            inferred,
            reuse_after: None,
            owners: &self.owners_of(first),
            births: self.births_of(first),
        });
        Some(Addresses { sources: sources.iter().map(|source| source.address.to_string()).collect(), row })
    }

    /// A port that bind() chooses has to be free of every other connection of the source.
    fn bind_account(&self, base: &Range, seen: &Seen) -> Account {
        let own = base.account(&seen.occupancy.ports);
        let source = self.facts.census.sources.iter().find(|source| source.address == seen.source);
        let mut others = source.map(|source| source.occupancy.ports.clone()).unwrap_or_default();
        others.subtract(&seen.occupancy.ports);
        let others: PortSet = others.iter().filter(|port| !base.bound.contains(*port)).collect();
        Account { usable: own.usable.saturating_sub(base.taken(&others)).max(own.used), used: own.used }
    }

    fn row(&self, subject: &Subject<'_>) -> Destination {
        let settings = &self.facts.settings;
        let occupancy = subject.occupancy;
        let time_wait = settings.time_wait_seconds();
        let mut history = forecast::history(&occupancy.expiring, time_wait, subject.reuse_after);
        let traced = self.traced(subject);
        let counted = traced.filter(|_| self.pools.traced_long_enough());
        if let Some(traced) = counted {
            history.now = if subject.reuse_after.is_some() {
                // Sockets that were taken over are missing among the timers; tracing saw them come.
                history.now.max(traced.closed_here_per_second)
            } else {
                // The timers tell the mean of a while, in which there may have been another rate.
                traced.closed_here_per_second
            };
        }
        let account = subject.account;
        let used = account.map_or_else(|| occupancy.ports.len(), |account| account.used);
        // Ports outside the range, which a program chose for itself, take none of it.
        let inside = f64::from(used) / f64::from(occupancy.ports.len().max(1));
        let expiring: Vec<u32> =
            occupancy.expiring.iter().map(|count| (f64::from(*count) * inside).round() as u32).collect();
        let closed = (occupancy.states[State::TimeWait] as f64 * inside).round() as u32;
        let forecast = account.map(|account| {
            Situation {
                usable: account.usable,
                live: used.saturating_sub(closed),
                expiring: &expiring,
                time_wait,
                reuse_after: subject.reuse_after,
                rate: history.now * inside,
            }
            .forecast()
        });
        // The timers of a full range may leave a moment's doubt; that no port is free leaves none.
        let full = subject.reuse_after.is_none() && account.is_some_and(|account| account.free() == 0);
        let ahead = |seconds: Option<f64>| if full { Some(0.0) } else { seconds.map(|s| round(s, 1)) };
        Destination {
            source: subject.source.clone(),
            destination: subject.destination.clone(),
            ports_usable: account.map(|account| account.usable),
            ports_used: used,
            ports_free: account.map(Account::free),
            fill: account.map(|account| round(account.fill(), 4)),
            ports_steered: self.pools.steered.count_common(&occupancy.ports),
            ports_outside_range: occupancy.ports.len().saturating_sub(used),
            states: occupancy.states,
            rate_per_second: round(history.mean, 1),
            rate_now_per_second: round(history.now, 1),
            rate_how: rate_how(subject.reuse_after.is_some(), counted.is_some()),
            trend: history.trend,
            closed_per_second: history.closed_per_second,
            limit_per_second: forecast.map(|forecast| round(forecast.limit, 1)),
            seconds_to_half: ahead(forecast.and_then(|forecast| forecast.to_half)),
            seconds_to_exhaustion: ahead(forecast.and_then(|forecast| forecast.to_exhaustion)),
            reusable: forecast.map_or(0, |forecast| forecast.reusable),
            pool: subject.inferred.pool,
            pool_how: subject.inferred.how.clone(),
            owners: subject.owners.to_vec(),
            traced,
        }
    }

    /// What tracing showed of a row; of one that stands for all destinations, with the bind() calls that found no port.
    fn traced(&self, subject: &Subject<'_>) -> Option<TracedSum> {
        let flows = self.pools.flows.as_ref()?;
        let mut own = flows.to(&subject.source, &subject.destination).to_vec();
        if subject.destination == "*" {
            own.extend(flows.binds(&subject.source));
        }
        traced::figures(&own, subject.births, flows.seconds)
    }

    fn incoming(&self, service: &tidewait_model::Incoming) -> Incoming {
        let history = forecast::history(&service.expiring, self.facts.settings.time_wait_seconds(), None);
        let flows = self.pools.flows.as_ref();
        Incoming {
            local: service.local.to_string(),
            listening: service.listening,
            states: service.states,
            closed_here_per_second: round(history.mean, 1),
            owners: service.owners.clone(),
            traced: flows
                .and_then(|flows| traced::figures(&flows.into(service.local), service.births, flows.seconds)),
        }
    }
}

struct Subject<'a> {
    source: String,
    destination: String,
    occupancy: &'a Occupancy,
    account: Option<Account>,
    inferred: Inferred,
    reuse_after: Option<f64>,
    owners: &'a [Owner],
    births: Births,
}

fn unknown_range() -> Inferred {
    Inferred { pool: Pool::Unknown, how: "the port range could not be read".to_owned() }
}

fn rate_how(reused: bool, traced: bool) -> String {
    let how = match (traced, reused) {
        (true, true) => "traced; of connections that closed here first, the ones that keep a port",
        (true, false) => {
            "traced now, TIME_WAIT timers over a minute; of connections that closed here first, the ones that keep a port"
        }
        (false, true) => {
            "TIME_WAIT timers; a lower bound, because tcp_tw_reuse takes sockets out of TIME_WAIT"
        }
        (false, false) => "TIME_WAIT timers; connections that the peer closed first are not in it",
    };
    how.to_owned()
}

/// The age in seconds at which connect() may take over a socket in TIME_WAIT, if it may at all
/// (`tcp_twsk_unique`, net/ipv4/tcp_ipv4.c): by setting, both ends sending timestamps, and the port being
/// connect()'s to choose. A peer not known to lack timestamps is taken to send them.
fn reuse_after(settings: &Settings, pool: Pool, loopback: bool, timestamps: Option<bool>) -> Option<f64> {
    let allowed = match settings.number("net.ipv4.tcp_tw_reuse")? {
        1 => true,
        2 => loopback,
        _ => false,
    };
    let stamped = settings.number("net.ipv4.tcp_timestamps") != Some(0) && timestamps != Some(false);
    (allowed && stamped && pool == Pool::Connect).then(|| {
        let delay = settings.number("net.ipv4.tcp_tw_reuse_delay").unwrap_or(1_000);
        delay as f64 / 1_000.0
    })
}

fn listener(seen: &tidewait_model::Listener) -> Listener {
    Listener {
        local: seen.local.to_string(),
        sockets: seen.sockets,
        full: seen.full,
        queue: seen.queue,
        limit: seen.limit,
        still_full: seen.still_full,
        owners: seen.owners.clone(),
    }
}

/// What the census of a namespace could not hold.
pub(crate) fn limits(facts: &NamespaceFacts) -> Vec<Limit> {
    let name = &facts.name;
    let census = &facts.census;
    let mut limits = Vec::new();
    if census.folded.entries > 0 {
        limits.push(Limit::new(
            format!("{name}: {} destinations one by one", census.folded.entries),
            format!(
                "there are too many; the smallest, with {} sockets, were counted together, and no listed one can \
                 have lost more than {} sockets to that",
                census.folded.states.total(),
                census.folded.missing_at_most
            ),
        ));
    }
    if census.sources_folded > 0 {
        limits.push(Limit::new(
            format!("{name}: the bind() pool of some local addresses"),
            format!(
                "there are too many local addresses; {} sockets of the rest were not looked at for it",
                census.sources_folded
            ),
        ));
    }
    let kept = facts.settings.number("net.ipv4.tcp_max_tw_buckets").and_then(|most| u64::try_from(most).ok());
    if let Some(most) =
        kept.filter(|most| census.states[State::TimeWait] > 0 && census.states[State::TimeWait] >= *most)
    {
        limits.push(Limit::new(
            format!("{name}: the true rate of connections"),
            format!(
                "TIME_WAIT is at its limit (net.ipv4.tcp_max_tw_buckets = {most}); connections closed beyond it leave no trace"
            ),
        ));
    }
    if census.unknown_states > 0 {
        limits.push(Limit::new(
            format!("{name}: {} sockets", census.unknown_states),
            "the kernel gives them a state that this version does not know",
        ));
    }
    limits
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
