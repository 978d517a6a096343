//! Which ports a destination may use, which it uses, and which of the two ways of choosing one filled it.
//!
//! connect() with no port chosen takes a port that is free for this source, destination address and destination
//! port, and skips ports that any socket of the namespace was explicitly bound to. bind(address, port 0) takes a
//! port that no connection of the source address holds, whatever its destination.

use tidewait_model::report::Pool;
use tidewait_model::trace::Counts;
use tidewait_model::{Census, Destination, NamespaceFacts, Occupancy, PortRange, PortSet, Source};

use crate::findings::words::{count, pool_word, things};

/// Below this many ports their parity proves nothing.
const TELLING: u32 = 8;

/// Where this many connections would share a port by chance and none does, it is no chance.
const SHARED_BY_CHANCE: f64 = 16.0;

/// A pool and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inferred {
    /// The pool.
    pub pool: Pool,
    /// The evidence, in words.
    pub how: String,
}

impl Inferred {
    fn new(pool: Pool, how: impl Into<String>) -> Inferred {
        Inferred { pool, how: how.into() }
    }
}

/// The automatic range of a namespace, split by what may be used.
#[derive(Clone, Debug)]
pub struct Range {
    /// net.ipv4.ip_local_port_range.
    pub range: PortRange,
    /// Ports of the range that net.ipv4.ip_local_reserved_ports takes out.
    pub reserved: PortSet,
    /// Ports of the range, not reserved, that an explicit bind() or a listener holds.
    pub bound: PortSet,
}

impl Range {
    /// The range of a namespace; `None` where its settings could not be read.
    pub fn of(facts: &NamespaceFacts) -> Option<Range> {
        let range = facts.settings.port_range()?;
        let inside = |set: &PortSet| set.iter().filter(|port| range.contains(*port)).collect::<PortSet>();
        let reserved = inside(&facts.settings.reserved());
        let mut bound = inside(&facts.census.bound);
        bound.subtract(&reserved);
        Some(Range { range, reserved, bound })
    }

    /// Ports that remain for an automatic choice.
    pub fn usable(&self) -> u32 {
        self.range.size() - self.reserved.len() - self.bound.len()
    }

    /// The ports of `ports` that an automatic choice could have taken.
    pub fn taken(&self, ports: &PortSet) -> u32 {
        ports.iter().filter(|port| self.range.contains(*port) && !self.reserved.contains(*port)).count()
            as u32
    }

    /// Usable and used ports of something that holds `ports`. Ports that it holds although they are bound
    /// explicitly are its own, so they count as usable for it.
    pub fn account(&self, ports: &PortSet) -> Account {
        let used = self.taken(ports);
        let own_bound = ports.count_common(&self.bound);
        Account { usable: self.usable() + own_bound, used }
    }
}

/// How many ports something may use and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Ports that may be used.
    pub usable: u32,
    /// Ports of those that are used.
    pub used: u32,
}

impl Account {
    /// Ports that are free.
    pub fn free(self) -> u32 {
        self.usable.saturating_sub(self.used)
    }

    /// Used divided by usable; 1 where nothing is usable.
    pub fn fill(self) -> f64 {
        if self.usable == 0 { 1.0 } else { f64::from(self.used) / f64::from(self.usable) }
    }
}

/// Which way of choosing filled `occupancy`, by the parity of its ports.
///
/// connect() tries the ports with the parity of the range's first one before the others, bind() the others
/// first; both since Linux 4.2 to 4.9 (`__inet_hash_connect`, `inet_csk_find_open_port`). A program may also choose
/// ports itself, and IP_LOCAL_PORT_RANGE switches the parity off: then both parities occur early.
pub fn infer(occupancy: &Occupancy, range: PortRange, kernel: &str) -> Inferred {
    let first =
        occupancy.ports.iter().filter(|port| range.contains(*port) && port % 2 == range.low % 2).count()
            as u32;
    let second = occupancy.ports.count_in(range) - first;
    let class = range.size() / 2;
    infer_parity([u64::from(first), u64::from(second)], Some(class), range, kernel)
}

/// Which way of choosing filled the ports of a source: by the parity of those of its destinations that hold few,
/// and where that is mixed, by whether any port is used for two destinations.
///
/// bind() never gives out a port that the address already uses; connect(), and a program that chooses for itself,
/// do not look at other destinations, so that among many connections some share a port by chance.
pub fn infer_source(source: &Source, range: PortRange, steered: &PortSet, kernel: &str) -> Inferred {
    let by_parity = infer_parity(source.parity, None, range, kernel);
    if by_parity.pool != Pool::Unknown || source.destinations < 2 {
        return by_parity;
    }
    // Ports that a program or `tidewait steer` has chosen do not meet as by chance either.
    let held = &source.occupancy.ports;
    if held.count_in(range) * 50 < held.len() * 49 || held.count_common(steered) > 0 {
        return by_parity;
    }
    let sockets = source.occupancy.states.total() as f64;
    let ports = f64::from(source.occupancy.ports.len());
    // Pairs of sockets that would meet on a port by chance, one destination's own pairs left out.
    let others = 1.0 - 1.0 / source.destinations as f64;
    let by_chance = sockets * sockets / (2.0 * f64::from(range.size())) * others;
    let shared = sockets - ports;
    if by_chance >= SHARED_BY_CHANCE && shared <= by_chance / 50.0 {
        return Inferred::new(
            Pool::Bind,
            "inferred: no port is used for two destinations, as only bind() makes sure",
        );
    }
    by_parity
}

fn infer_parity(parity: [u64; 2], class: Option<u32>, range: PortRange, kernel: &str) -> Inferred {
    let [first, second] = parity;
    let all = first + second;
    let names = if range.low.is_multiple_of(2) { ["even", "odd"] } else { ["odd", "even"] };
    if !chooses_by_parity(kernel) {
        return Inferred::new(Pool::Unknown, format!("Linux {kernel} does not choose ports by parity"));
    }
    if all < u64::from(TELLING) {
        return Inferred::new(Pool::Unknown, "too few ports in use to tell");
    }
    let nearly_all = |part: u64| part * 50 >= all * 49;
    // 49 of 50: a class is as good as full while sockets come and go.
    let full = |part: u64| class.is_some_and(|class| part * 50 >= u64::from(class) * 49);
    if nearly_all(first) {
        return Inferred::new(
            Pool::Connect,
            format!("inferred: its ports are {}, which connect() tries first", names[0]),
        );
    }
    if nearly_all(second) {
        return Inferred::new(
            Pool::Bind,
            format!("inferred: its ports are {}, which bind() tries first", names[1]),
        );
    }
    match (full(first), full(second)) {
        (true, false) => Inferred::new(
            Pool::Connect,
            format!("inferred: the {} ports, which connect() tries first, are full", names[0]),
        ),
        (false, true) => Inferred::new(
            Pool::Bind,
            format!("inferred: the {} ports, which bind() tries first, are full", names[1]),
        ),
        (true, true) => Inferred::new(Pool::Unknown, "the range is so full that its ports do not tell"),
        (false, false) => Inferred::new(
            Pool::Unknown,
            "odd and even ports are mixed: both ways are used, or the program chooses (a fixed port, IP_LOCAL_PORT_RANGE)",
        ),
    }
}

/// Whether this kernel's connect() and bind() prefer different parities: complete from 4.9 on.
fn chooses_by_parity(kernel: &str) -> bool {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (4, 9),
        // An unreadable release is no reason to doubt a current kernel.
        _ => true,
    }
}

/// Who chose the local ports of the connections in `counts`, as tracing saw it; `bind_failed` is how many bind() calls found
/// none. `inferred` is what the ports tell; it stays where too few connections were seen to contradict it.
pub fn settle(inferred: Inferred, counts: &Counts, bind_failed: u64) -> Inferred {
    let bind = counts.port_by_bind.saturating_add(bind_failed);
    let program = counts.port_by_program;
    let connect = counts.connects.saturating_sub(counts.port_by_bind).saturating_sub(program);
    let all = connect.saturating_add(bind).saturating_add(program);
    let times = |number: u64| things(number, "time", "times");
    let nearly_all = |part: u64| u128::from(part) * 50 >= u128::from(all) * 49;
    let failed = match bind_failed {
        0 => String::new(),
        failed => format!(", {} in vain", count(failed)),
    };
    let known = match () {
        () if all == 0 => return inferred,
        () if nearly_all(connect) => {
            Inferred::new(Pool::Connect, format!("traced: connect() chose {}", times(connect)))
        }
        () if nearly_all(bind) => {
            Inferred::new(Pool::Bind, format!("traced: bind() chose {}{failed}", times(bind)))
        }
        () if nearly_all(program) => {
            let how = format!("traced: the program itself chose, {}", times(program));
            Inferred::new(Pool::Unknown, how)
        }
        () => {
            let itself = match program {
                0 => String::new(),
                program => format!(", the program itself {}", times(program)),
            };
            let (connect, bind) = (times(connect), times(bind));
            let how = format!("traced: mixed: connect() chose {connect}, bind() {bind}{failed}{itself}");
            Inferred::new(Pool::Unknown, how)
        }
    };
    match inferred.pool {
        pool if pool == known.pool || pool == Pool::Unknown => known,
        pool if all < u64::from(TELLING) => {
            let how = format!("{}; {}, which is too few to tell otherwise", inferred.how, known.how);
            Inferred::new(pool, how)
        }
        pool => {
            let how = format!("{}; the ports from before look like those of {}", known.how, pool_word(pool));
            Inferred::new(known.pool, how)
        }
    }
}

/// Adds to `range.bound` the ports that were chosen by bind(), as far as that is known or can be inferred: connect()
/// skips them too while they last (even in TIME_WAIT; `tb->fastreuse`, inet_hashtables.c).
pub fn add_bind_chosen(
    range: &mut Range,
    census: &Census,
    of_source: impl Fn(&Source) -> Pool,
    of_destination: impl Fn(&Destination) -> Pool,
) {
    let mut chosen = PortSet::bitmap();
    for source in census.sources.iter().filter(|source| of_source(source) == Pool::Bind) {
        chosen.union(&source.occupancy.ports);
    }
    for destination in census.destinations.iter().filter(|seen| of_destination(seen) == Pool::Bind) {
        chosen.union(&destination.occupancy.ports);
    }
    let usable = |port: &u16| range.range.contains(*port) && !range.reserved.contains(*port);
    let chosen: PortSet = chosen.iter().filter(usable).collect();
    range.bound.union(&chosen);
}
