//! The sockets that may be ended early, one by one, with what is needed to decide on them: their age, and the ports that
//! their destinations use.
//!
//! Unlike the census this keeps sockets, 60 bytes each, for as long as one look is worked off.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use tidewait_model::reap::{Found, Group, Look, Reapable, Waiting};
use tidewait_model::{PortRange, PortSet, Settings, State};

use crate::census::direction::{Direction, Listeners, Ports};
use crate::procfs;
use crate::sock_diag::{DumpError, Family, Filter, Handle, Netlink, Request, Row, Sockets, Timer};
use crate::survey::Inuse;

/// How long settings and bound ports are taken to be as they were.
const FRESH: Duration = Duration::from_secs(10);
/// How often a look whose messages were lost is begun again.
const ATTEMPTS: usize = 3;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Where `proc` is.
    pub root: PathBuf,
    /// The states that may be ended.
    pub states: Vec<Reapable>,
    /// Only these sockets.
    pub only: Filter,
    /// Also those of connections that the peers opened.
    pub incoming: bool,
    /// The ports that destinations use whatever the state, and the bound ones: every socket is looked at then. Without it, ports
    /// are those of the states that may be ended, and told by the first look only.
    pub every_port: bool,
}

/// Who is offered sockets during a look: the group and the socket; `true` for one that was taken.
pub type Take<'a> = dyn FnMut(&Group, &Waiting<Handle>) -> bool + 'a;

/// Looks at the network namespace that the thread was in when it was opened; to be used there.
#[derive(Debug)]
pub struct Watcher {
    wish: Wish,
    netlink: Netlink,
    settings: Settings,
    ports: Ports,
    bound: PortSet,
    fresh_until: Option<Instant>,
}

impl Watcher {
    /// Opens a socket in the calling thread's network namespace. Needs no privilege.
    ///
    /// # Errors
    /// If there is no sock_diag.
    pub fn open(wish: Wish) -> Result<Watcher, DumpError> {
        let netlink = Netlink::open()?;
        let (settings, _) = procfs::settings(&wish.root);
        let ports = Ports::in_this_namespace(&wish.root, &settings);
        Ok(Watcher { wish, netlink, settings, ports, bound: PortSet::default(), fresh_until: None })
    }

    /// The namespace's settings, as of the last look or 10 s before it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many sockets there are, live or in TIME_WAIT, by the kernel's own count: a look that costs next to nothing. `None`
    /// where /proc does not tell.
    pub fn count(&self) -> Option<u64> {
        let text = std::fs::read_to_string(self.wish.root.join("proc/thread-self/net/sockstat")).ok()?;
        // "TCP: inuse 3 orphan 0 tw 2 alloc 5 mem 1"
        let mut words = text.lines().find_map(|line| line.strip_prefix("TCP: "))?.split_whitespace();
        let mut sum = 0;
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if matches!(name, "inuse" | "tw") {
                sum += value.parse::<u64>().ok()?;
            }
        }
        Some(sum)
    }

    /// Looks at the sockets.
    ///
    /// Each one that certainly is of its group is offered to `take` while the kernel still has it in its cache; what that takes is
    /// not in the look, though its port is. The kernel is ahead of what is offered by a whole message, so that a socket which ends
    /// meanwhile does not shift what the dump has yet to tell.
    ///
    /// # Errors
    /// If they cannot be dumped; lost messages are tried again, without what was taken.
    pub fn look(&mut self, take: &mut Take<'_>) -> Result<Look<Handle>, DumpError> {
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            match self.look_once(begun, take) {
                Err(DumpError::Overrun) if attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    fn look_once(&mut self, begun: Instant, take: &mut Take<'_>) -> Result<Look<Handle>, DumpError> {
        let stale = self.fresh_until.is_none_or(|until| until <= Instant::now());
        if stale {
            self.settings = procfs::settings(&self.wish.root).0;
            self.ports = Ports::in_this_namespace(&self.wish.root, &self.settings);
        }
        let tell_ports = self.wish.every_port || self.fresh_until.is_none();
        let mut fold = Fold::new(&self.wish, &self.settings, &self.ports, tell_ports, begun, take);
        let netlink = &mut self.netlink;
        // Listeners first and without the filter: they say which connections came in. The walk over bound sockets passes
        // every socket in TIME_WAIT, so it is taken more rarely.
        let bound = self.wish.every_port && stale;
        let idle = [State::Listen].into_iter().chain(bound.then_some(State::BoundInactive));
        for family in Family::BOTH {
            let request = Request::all(family).states(idle.clone());
            netlink.dump(&request, &mut |row| fold.idle(row))?;
        }
        let (plain, full) = self.wish.dumps();
        for family in Family::BOTH {
            // The kernel does not count them apart: sockets that end by themselves meanwhile hide as many. So they are looked for now and
            // then all the same, and at first.
            if family == Family::V6
                && !stale
                && Inuse::from(&procfs::counters(&self.wish.root).0).no_ipv6(fold.small)
            {
                break;
            }
            for (states, tcp_info) in [(&plain, false), (&full, true)] {
                if states.is_empty() {
                    continue;
                }
                let mut request = Request::all(family).states(states.iter().copied()).only(self.wish.only);
                request.tcp_info = tcp_info;
                netlink.dump(&request, &mut |row| fold.connection(row))?;
            }
        }
        let mut look = fold.finish();
        if stale {
            self.fresh_until = Some(Instant::now() + FRESH);
            self.bound = look.bound.clone();
        }
        look.bound.union(&self.bound);
        Ok(look)
    }
}

impl Wish {
    /// The states that are dumped as they are, and those that need `struct tcp_info` for their age, which is 3 times as dear.
    fn dumps(&self) -> (Vec<State>, Vec<State>) {
        let wanted = || self.states.iter().map(|state| state.state());
        let full: Vec<State> = wanted().filter(|state| *state != State::TimeWait).collect();
        let plain = if self.every_port {
            let all = State::ALL.into_iter();
            all.filter(|state| {
                !matches!(state, State::Listen | State::BoundInactive) && !full.contains(state)
            })
            .collect()
        } else {
            wanted().filter(|state| *state == State::TimeWait).collect()
        };
        (plain, full)
    }
}

struct Fold<'a> {
    wish: &'a Wish,
    ports: &'a Ports,
    lengths: Lengths,
    /// Whether ports are told.
    tell_ports: bool,
    take: &'a mut Take<'a>,
    listeners: Listeners,
    bound: PortSet,
    places: HashMap<Group, u32>,
    groups: Vec<Grouped>,
    waiting: Vec<Waiting<Handle>>,
    /// Small sockets, those that sockstat counts as `tw`, without those that were taken.
    small: u64,
    /// When the look began; how long ago that was when the clock was read last, in milliseconds; and rows until it is read again.
    begun: Instant,
    elapsed_ms: u32,
    unread: u32,
}

/// Rows between two readings of the clock: some tens of microseconds.
const READ: u32 = 64;

/// A group while it is gathered.
struct Grouped {
    group: Group,
    /// Its first port, and whether it has others.
    port: u16,
    several: bool,
    /// All of them, where they are told.
    ports: Vec<u16>,
}

/// A local port that so many destinations share as their only one is no client's: its listener has closed.
const NO_CLIENT: u32 = 64;

impl Fold<'_> {
    fn new<'a>(
        wish: &'a Wish,
        settings: &Settings,
        ports: &'a Ports,
        tell_ports: bool,
        begun: Instant,
        take: &'a mut Take<'a>,
    ) -> Fold<'a> {
        Fold {
            wish,
            ports,
            lengths: Lengths::of(settings),
            tell_ports,
            take,
            listeners: Listeners::default(),
            bound: PortSet::bitmap(),
            places: HashMap::new(),
            groups: Vec::new(),
            waiting: Vec::new(),
            small: 0,
            begun,
            elapsed_ms: 0,
            unread: 0,
        }
    }

    fn idle(&mut self, row: &Row<'_>) {
        self.bound.insert(row.local().port);
        if row.state() == Some(State::Listen) {
            self.listeners.add(row.local());
        }
    }

    fn connection(&mut self, row: &Row<'_>) {
        let Some(state) = row.state() else { return };
        self.small += u64::from(matches!(row.timer(), Timer::TimeWait(_)));
        let (local, remote) = (row.local(), row.remote());
        let group = match self.listeners.direction(state, local, remote, self.ports) {
            Direction::Incoming(service) => {
                self.bound.insert(service.port);
                if !self.wish.incoming {
                    return;
                }
                Group::Incoming { service }
            }
            Direction::Outgoing => Group::Outgoing { source: local.address, peer: remote },
        };
        let groups = &mut self.groups;
        let place = *self.places.entry(group).or_insert_with(|| {
            groups.push(Grouped { group, port: local.port, several: false, ports: Vec::new() });
            // The kernel has less than 4 billion sockets.
            (groups.len() - 1) as u32
        });
        // What `leave_closed_services` never leaves.
        let mut settled = self.wish.incoming;
        if let Some(grouped) = self.groups.get_mut(place as usize) {
            grouped.several |= grouped.port != local.port;
            settled |= grouped.several;
            if self.tell_ports {
                grouped.ports.push(local.port);
            }
        }
        if let Some(reapable) = self.wish.states.iter().find(|wanted| wanted.state() == state) {
            let age_ms = self.lengths.age_ms(*reapable, row);
            let socket = Waiting { group: place, port: local.port, age_ms, key: row.handle() };
            if settled && (self.take)(&group, &socket) {
                self.small = self.small.saturating_sub(1);
            } else {
                let elapsed_ms = self.elapsed_ms();
                self.waiting.push(Waiting { age_ms: age_ms.saturating_sub(elapsed_ms), ..socket });
            }
        }
    }

    /// How long ago the look began.
    fn elapsed_ms(&mut self) -> u32 {
        if self.unread == 0 {
            self.unread = READ;
            self.elapsed_ms = u32::try_from(self.begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        }
        self.unread -= 1;
        self.elapsed_ms
    }

    /// A listener that has just closed leaves its connections behind, which look outgoing where its port is in the automatic range:
    /// many remote ends, one local port. They are left unless those that came in are wanted.
    fn leave_closed_services(&mut self) {
        let mut by_port: HashMap<u16, u32> = HashMap::new();
        for grouped in self.groups.iter().filter(|grouped| !grouped.several) {
            *by_port.entry(grouped.port).or_default() += 1;
        }
        // A client's ports are spread over the range: one that stands 16 times above the mean is no client's.
        let singles: u32 = by_port.values().sum();
        let usual = singles / self.ports.range.map_or(u32::MAX, PortRange::size).max(1);
        by_port.retain(|_, count| *count >= usual.saturating_mul(16).max(NO_CLIENT));
        if by_port.is_empty() || self.wish.incoming {
            return;
        }
        let groups = &self.groups;
        self.waiting.retain(|socket| {
            groups
                .get(socket.group as usize)
                .is_some_and(|grouped| grouped.several || !by_port.contains_key(&grouped.port))
        });
        self.bound.extend(by_port.into_keys());
    }

    fn finish(mut self) -> Look<Handle> {
        self.leave_closed_services();
        let found =
            |grouped: Grouped| Found { group: grouped.group, ports: grouped.ports.into_iter().collect() };
        Look {
            groups: self.groups.into_iter().map(found).collect(),
            waiting: self.waiting,
            bound: self.bound,
        }
    }
}

/// How old the small sockets are when their timer runs out, in milliseconds.
struct Lengths {
    time_wait: u32,
    fin_wait2: u32,
}

/// The longest time in FIN_WAIT2, in seconds, that an orphan is a small socket for.
const SMALL_SECONDS: i64 = 60;

impl Lengths {
    fn of(settings: &Settings) -> Lengths {
        let fin_timeout = settings.number("net.ipv4.tcp_fin_timeout").unwrap_or(SMALL_SECONDS);
        // Beyond, it stays a full socket for what is more than that, and is then a small one for as long (net/ipv4/tcp_timer.c
        // `tcp_keepalive_timer`).
        let fin_timeout = match fin_timeout - SMALL_SECONDS {
            more @ 1.. => more.saturating_mul(2),
            _ => fin_timeout,
        };
        Lengths {
            time_wait: settings.time_wait_seconds().saturating_mul(1_000),
            fin_wait2: u32::try_from(fin_timeout.saturating_mul(1_000)).unwrap_or(0),
        }
    }

    /// For how long a socket has been waiting, in milliseconds; 0 where that is not known.
    fn age_ms(&self, state: Reapable, row: &Row<'_>) -> u32 {
        match (state, row.timer()) {
            (Reapable::TimeWait, Timer::TimeWait(left)) => self.time_wait.saturating_sub(left),
            // An orphan, kept as a small socket.
            (Reapable::FinWait2, Timer::TimeWait(left)) => self.fin_wait2.saturating_sub(left),
            _ => row.tcp_info().and_then(|info| info.last_ack_ms).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests;
