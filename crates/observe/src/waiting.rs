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
        let mut attempt = 1;
        loop {
            match self.look_once(take) {
                Err(DumpError::Overrun) if attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    fn look_once(&mut self, take: &mut Take<'_>) -> Result<Look<Handle>, DumpError> {
        let stale = self.fresh_until.is_none_or(|until| until <= Instant::now());
        if stale {
            self.settings = procfs::settings(&self.wish.root).0;
            self.ports = Ports::in_this_namespace(&self.wish.root, &self.settings);
        }
        let tell_ports = self.wish.every_port || self.fresh_until.is_none();
        let mut fold = Fold::new(&self.wish, &self.settings, &self.ports, tell_ports, take);
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
            if family == Family::V6 && Inuse::from(&procfs::counters(&self.wish.root).0).no_ipv6(fold.small) {
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
    /// Small sockets, those that sockstat counts as `tw`.
    small: u64,
}

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
            if !(settled && (self.take)(&group, &socket)) {
                self.waiting.push(socket);
            }
        }
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
mod tests {
    use super::*;
    use crate::sock_diag::encode::Socket;

    fn folded(wish: &Wish, sockets: &[Socket]) -> Look<Handle> {
        folded_where(wish, PortSet::default(), sockets)
    }

    fn folded_where(wish: &Wish, steered: PortSet, sockets: &[Socket]) -> Look<Handle> {
        folded_with(wish, steered, sockets, &mut |_, _| false)
    }

    fn folded_with<'a>(
        wish: &'a Wish,
        steered: PortSet,
        sockets: &[Socket],
        take: &'a mut Take<'a>,
    ) -> Look<Handle> {
        let mut settings = Settings::default();
        settings.0.insert("net.ipv4.ip_local_port_range".to_owned(), "32768 60999".to_owned());
        settings.0.insert("net.ipv4.tcp_fin_timeout".to_owned(), "30".to_owned());
        let ports = Ports { range: settings.port_range(), steered };
        let mut fold = Fold::new(wish, &settings, &ports, true, take);
        for socket in sockets {
            let payload = socket.payload();
            let row = Row::read(&payload).unwrap();
            if socket.state == State::Listen { fold.idle(&row) } else { fold.connection(&row) }
        }
        fold.finish()
    }

    fn wish(states: &[Reapable]) -> Wish {
        Wish {
            root: "/".into(),
            states: states.to_vec(),
            only: Filter::default(),
            incoming: false,
            every_port: true,
        }
    }

    #[test]
    fn a_steered_port_waits_as_an_outgoing_one() {
        let sockets = [Socket::time_wait("10.0.0.1:22268", "10.0.0.2:40000", 55_000)];
        assert_eq!(folded(&wish(&[Reapable::TimeWait]), &sockets).waiting.len(), 0);
        let steered = (22_268..=29_999).collect();
        assert_eq!(folded_where(&wish(&[Reapable::TimeWait]), steered, &sockets).waiting.len(), 1);
    }

    #[test]
    fn only_the_states_that_are_named_wait_and_every_one_holds_its_port() {
        let sockets = [
            Socket::time_wait("10.0.0.1:40000", "10.0.0.2:80", 55_000),
            Socket { timer: (3, 20_000), ..Socket::new(State::FinWait2, "10.0.0.1:40002", "10.0.0.2:80") },
            Socket::new(State::Established, "10.0.0.1:40004", "10.0.0.2:80"),
            Socket::new(State::CloseWait, "10.0.0.1:40006", "10.0.0.2:80"),
        ];
        let look = folded(&wish(&[Reapable::TimeWait]), &sockets);
        let ages: Vec<u32> = look.waiting.iter().map(|socket| socket.age_ms).collect();
        assert_eq!(ages, [5_000]);
        assert_eq!(look.groups.len(), 1);
        assert_eq!(look.groups[0].ports.len(), 4);
        let look = folded(&wish(&[Reapable::FinWait2, Reapable::CloseWait]), &sockets);
        let ages: Vec<u32> = look.waiting.iter().map(|socket| socket.age_ms).collect();
        // The orphan by its timer; without tcp_info nothing is known of the other.
        assert_eq!(ages, [10_000, 0]);
    }

    #[test]
    fn an_orphan_is_as_old_as_the_kernel_lets_it_get_less_what_is_left() {
        for (seconds, left, age_ms) in
            [("30", 20_000, 10_000), ("60", 60_000, 0), ("90", 30_000, 30_000), ("120", 10_000, 110_000)]
        {
            let mut settings = Settings::default();
            settings.0.insert("net.ipv4.tcp_fin_timeout".to_owned(), seconds.to_owned());
            let socket =
                Socket { timer: (3, left), ..Socket::new(State::FinWait2, "10.0.0.1:40002", "10.0.0.2:80") };
            let payload = socket.payload();
            let row = Row::read(&payload).unwrap();
            assert_eq!(Lengths::of(&settings).age_ms(Reapable::FinWait2, &row), age_ms, "{seconds}");
        }
    }

    #[test]
    fn connections_that_came_in_are_left_unless_they_are_wanted() {
        let sockets = [
            Socket::new(State::Listen, "0.0.0.0:40000", "0.0.0.0:0"),
            Socket::time_wait("10.0.0.1:40000", "10.0.0.2:50000", 1_000),
            Socket::time_wait("10.0.0.1:80", "10.0.0.2:50001", 1_000),
            Socket::time_wait("10.0.0.1:50002", "10.0.0.2:80", 1_000),
        ];
        let look = folded(&wish(&[Reapable::TimeWait]), &sockets);
        assert_eq!(look.waiting.len(), 1);
        assert_eq!(look.groups[0].group.to_string(), "10.0.0.1 -> 10.0.0.2:80");
        assert_eq!(look.bound.iter().collect::<Vec<_>>(), [80, 40_000]);
        let look = folded(&Wish { incoming: true, ..wish(&[Reapable::TimeWait]) }, &sockets);
        let names: Vec<String> = look.groups.iter().map(|found| found.group.to_string()).collect();
        assert_eq!(
            names,
            ["incoming to 0.0.0.0:40000", "incoming to 10.0.0.1:80", "10.0.0.1 -> 10.0.0.2:80"]
        );
    }

    #[test]
    fn what_a_closed_listener_left_is_left() {
        // The service was on 40000; a client has connections to one destination and to many.
        let mut sockets: Vec<Socket> = (0..200)
            .map(|peer| Socket::time_wait("10.0.0.1:40000", &format!("10.0.0.2:{}", 50_000 + peer), 1_000))
            .collect();
        let services = sockets.len();
        sockets.extend((0..300).map(|port| {
            Socket::time_wait(
                &format!("10.0.0.1:{}", 41_000 + port),
                &format!("10.1.0.2:{}", 80 + port % 150),
                1_000,
            )
        }));
        let look = folded(&wish(&[Reapable::TimeWait]), &sockets);
        assert_eq!(look.waiting.len(), 300);
        let wanted = Wish { incoming: true, ..wish(&[Reapable::TimeWait]) };
        assert_eq!(folded(&wanted, &sockets).waiting.len(), 300 + services);
    }

    #[test]
    fn what_is_taken_is_not_in_the_look_and_what_may_be_a_closed_listeners_is_not_offered() {
        let mut sockets: Vec<Socket> = (0..200)
            .map(|peer| Socket::time_wait("10.0.0.1:40000", &format!("10.0.0.2:{}", 50_000 + peer), 1_000))
            .collect();
        sockets.extend(
            (0..300)
                .map(|port| Socket::time_wait(&format!("10.0.0.1:{}", 41_000 + port), "10.1.0.2:80", 1_000)),
        );
        let mut offered = 0;
        let wish = wish(&[Reapable::TimeWait]);
        let mut take = |group: &Group, socket: &Waiting<Handle>| {
            assert_eq!(group.to_string(), "10.0.0.1 -> 10.1.0.2:80");
            offered += 1;
            socket.port.is_multiple_of(2)
        };
        let look = folded_with(&wish, PortSet::default(), &sockets, &mut take);
        // Of the first of a group it is not known yet.
        assert_eq!((offered, look.waiting.len()), (299, 151));
        assert_eq!(look.groups.iter().map(|found| found.ports.len()).max(), Some(300));
        let mut all = 0;
        let wanted = Wish { incoming: true, ..wish };
        let mut take = |_: &Group, _: &Waiting<Handle>| {
            all += 1;
            true
        };
        assert!(folded_with(&wanted, PortSet::default(), &sockets, &mut take).waiting.is_empty());
        assert_eq!(all, 500);
    }

    #[test]
    fn a_dump_takes_no_more_than_it_needs() {
        let only = Wish { every_port: false, ..wish(&[Reapable::TimeWait]) };
        assert_eq!(only.dumps(), (vec![State::TimeWait], vec![]));
        let (plain, full) = wish(&[Reapable::TimeWait, Reapable::CloseWait]).dumps();
        assert_eq!(full, [State::CloseWait]);
        assert!(plain.contains(&State::TimeWait) && plain.contains(&State::FinWait2));
        assert!(!plain.contains(&State::CloseWait) && !plain.contains(&State::Listen));
    }
}
