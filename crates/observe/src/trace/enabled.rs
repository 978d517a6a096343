//! A running tracer: reads what the programs counted and told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

use libbpf_rs::{Link, MapCore, MapFdInfo, MapFlags, MapHandle, Object, RingBuffer, RingBufferBuilder};
use tidewait_model::address::Address;
use tidewait_model::report::Pool;
use tidewait_model::trace::{Counts, Direction, Flow, Program};
use tidewait_model::{Endpoint, Limit};
use zerocopy::{FromBytes, IntoBytes};

use super::load::{Loaded, load};
use super::people::Names;
use super::{Closed, Event, Kind, Losses, Picture, Waiting, Wish, layout};
use crate::refusal::{self, Refusal};
use tidewait_kernel::bpf;

/// `AF_INET`, in the bytes of the layout.
const V4: u8 = 2;

/// The program that sees changes of state first.
const FIRST: &str = "first";

/// A running tracer. When it is dropped the program is gone, and with it all that it kept.
pub struct Tracer {
    // Dropped first, so that nothing is told any more when the ring goes.
    _links: Vec<Link>,
    ring: Option<(RingBuffer<'static>, Rc<RefCell<Vec<layout::Event>>>)>,
    object: Object,
    maps: HashMap<String, MapHandle>,
    /// Listening ports that found no room when the tracing began.
    unlisted: u64,
    /// Those among them that were counted twice.
    repeated: u64,
    names: Names,
    people: HashMap<u32, Program>,
    limits: Vec<Limit>,
}

impl Tracer {
    /// Loads the program and begins to trace.
    ///
    /// # Errors
    /// What is missing: a capability, the kernel's type information, a kind of program or map.
    pub fn start(wish: &Wish) -> Result<Tracer, Refusal> {
        let Loaded { links, object, maps, unlisted, repeated, mut limits } = load(wish)?;
        let ring = match wish.events.as_ref().and_then(|_| maps.get("ring")) {
            Some(map) => Some(ring(map).map_err(|error| {
                refusal::refusal(&wish.root, "traced events", &bpf::trouble("ring buffer", &error))
            })?),
            None => None,
        };
        let names = Names::read(&wish.root);
        limits.extend(names.limit());
        let people = HashMap::new();
        Ok(Tracer { _links: links, ring, object, maps, unlisted, repeated, names, people, limits })
    }

    /// What could not be followed from the start.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Waits for events, at most for `patience`, and tells each.
    ///
    /// # Errors
    /// A limit, if the kernel does not let the events be read any more.
    pub fn poll(&mut self, patience: Duration, tell: &mut dyn FnMut(&Event)) -> Result<(), Limit> {
        let Some((ring, waiting)) = &self.ring else { return Ok(()) };
        let unread = |error: &libbpf_rs::Error| Limit::new("traced events", format!("{error:#}"));
        // Fewer than wake the reader are there to be read all the same.
        match ring.poll(patience) {
            // A signal, or the process was stopped and goes on.
            Err(error) if error.kind() == libbpf_rs::ErrorKind::Interrupted => {}
            outcome => outcome.map_err(|error| unread(&error))?,
        }
        ring.consume().map_err(|error| unread(&error))?;
        for event in waiting.borrow_mut().drain(..) {
            if let Some(event) = told(&event) {
                tell(&event);
            }
        }
        Ok(())
    }

    /// The owner with this number; `None` for 0 and for one that is not known.
    pub fn program(&mut self, number: u32) -> Option<&Program> {
        match self.people.entry(number) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(place) => {
                let owner: layout::Owner = read(self.maps.get("owners")?, number.as_bytes())?;
                if number == 0 || owner.since == 0 {
                    return None;
                }
                let path = self.maps.get("cgroups").and_then(|map| read(map, owner.cgroup.as_bytes()));
                Some(place.insert(self.names.program(&owner, path.as_ref())))
            }
        }
    }

    /// What could not be counted or told until now.
    pub fn losses(&self) -> Losses {
        // Before what was recovered is read: what comes between is then not taken for lost.
        let left_out = self.left_out();
        let layout::Ledger { losses, recovered, .. } = self.ledger();
        Losses {
            processes: losses.owners,
            destinations: losses.flows,
            counts: losses.counts,
            sockets: losses.sockets,
            events: losses.events,
            waiting: losses.waiting,
            groups: losses.groups,
            listening: (losses.listening + self.unlisted).saturating_sub(self.repeated),
            missed: left_out.saturating_sub(recovered),
        }
    }

    /// How often the kernel left the first program out, because it ran already on the same processor.
    fn left_out(&self) -> u64 {
        let counts = self.object.progs().filter(|program| program.name() == FIRST).filter_map(|program| {
            let about = format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd());
            let text = std::fs::read_to_string(about).ok()?;
            let count = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            count.trim().parse::<u64>().ok()
        });
        counts.sum()
    }

    /// Kernel memory of the tracer's maps, in bytes. A connection beyond those that have a slot, and a socket that shares its
    /// port with others that listen, takes some 320 bytes more, until it ends.
    pub fn memory_bytes(&self) -> u64 {
        let held = |map: &MapHandle| MapFdInfo::from_fd(map.as_fd()).ok()?.memlock;
        self.maps.values().filter_map(held).sum()
    }

    fn ledger(&self) -> layout::Ledger {
        ledger(&self.maps)
    }

    /// What was counted until now.
    ///
    /// # Errors
    /// A limit, if the kernel does not let it be read any more.
    pub fn picture(&mut self) -> Result<Picture, Limit> {
        let mut picture = Picture { losses: self.losses(), ..Picture::default() };
        let mut rows: Vec<layout::Flow> = Vec::new();
        self.all("flows", &mut |_: u32, row| rows.push(row))?;
        let mut waiting = foldhash::HashMap::default();
        self.all("waiting", &mut |_: u32, note: layout::Waiting| {
            let direction = direction(note.direction).unwrap_or_default();
            if note.cookie != 0 {
                waiting.insert(note.cookie, Waiting { owner: note.owner, closer: note.closer, direction });
            }
        })?;
        picture.waiting = waiting;
        for layout::Flow { key, tally } in rows {
            let Some(direction) = direction(key.direction) else { continue };
            let program = self.program(key.owner).cloned();
            picture.flows.push((key.netns, flow(program, direction, &key, &tally)));
        }
        for number in 1..self.ledger().owners {
            if let Some(program) = self.program(number) {
                picture.people.insert(number, program.clone());
            }
        }
        Ok(picture)
    }

    /// Reads a whole map.
    fn all<K: FromBytes, V: FromBytes>(&self, name: &str, take: &mut dyn FnMut(K, V)) -> Result<(), Limit> {
        let unread = |why: String| Limit::new(format!("traced: {name}"), why);
        let Some(map) = self.maps.get(name) else { return Err(unread("the map is missing".to_owned())) };
        // All at once: the kernel ends a batch early where the next bucket does not fit, and the iterator takes a batch that
        // is not full for the last one.
        let batch = map
            .lookup_batch(map.max_entries(), MapFlags::ANY, MapFlags::ANY)
            .map_err(|error| unread(format!("{error:#}")))?;
        for (key, value) in batch {
            if let (Ok(key), Ok(value)) = (K::read_from_bytes(&key), V::read_from_bytes(&value)) {
                take(key, value);
            }
        }
        Ok(())
    }
}

type Waited = Rc<RefCell<Vec<layout::Event>>>;

fn ring(map: &MapHandle) -> libbpf_rs::Result<(RingBuffer<'static>, Waited)> {
    let waiting = Waited::default();
    let writer = Rc::clone(&waiting);
    let mut builder = RingBufferBuilder::new();
    builder.add(map, move |data| {
        if let Ok((event, _)) = layout::Event::read_from_prefix(data) {
            writer.borrow_mut().push(event);
        }
        0
    })?;
    Ok((builder.build()?, waiting))
}

/// How much is in use, and what was lost.
pub(super) fn ledger(maps: &HashMap<String, MapHandle>) -> layout::Ledger {
    maps.get(".data.ledger").and_then(|map| read(map, 0_u32.as_bytes())).unwrap_or_default()
}

/// One entry of a map.
fn read<V: FromBytes>(map: &MapHandle, key: &[u8]) -> Option<V> {
    let value = map.lookup(key, MapFlags::ANY).ok()??;
    V::read_from_bytes(&value).ok()
}

/// Family and bytes of an address, as the layout has them.
pub(super) fn bytes(address: IpAddr) -> (u8, [u8; 16]) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&v4.octets());
            (V4, all)
        }
        IpAddr::V6(v6) => (10, v6.octets()),
    }
}

fn address(family: u8, bytes: [u8; 16], scope: u32) -> Address {
    let ip = if family == V4 {
        let [a, b, c, d, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Address::new(ip, scope)
}

/// `enum direction`.
fn direction(number: u8) -> Option<Direction> {
    match number {
        1 => Some(Direction::Outgoing),
        2 => Some(Direction::Incoming),
        4 => Some(Direction::Bind),
        _ => None,
    }
}

fn flow(
    program: Option<Program>,
    direction: Direction,
    key: &layout::FlowKey,
    tally: &layout::Tally,
) -> Flow {
    // A row that stands for many destinations has no family.
    let told = key.family != 0;
    let local = told.then(|| address(key.family, key.local, key.scope));
    let remote = (told && direction == Direction::Outgoing)
        .then(|| Endpoint { address: address(key.family, key.remote, key.scope), port: key.port });
    let port = if direction == Direction::Outgoing { 0 } else { key.port };
    let counts = Counts {
        connects: tally.connects,
        port_by_bind: tally.bound,
        port_by_program: tally.fixed,
        accepts: tally.accepts,
        closed_here: tally.closed_here,
        closed_there: tally.closed_there,
        aborted_here: tally.aborted_here,
        aborted_there: tally.aborted_there,
        time_wait: tally.time_wait,
        lived_ns: tally.lived,
        aged: tally.aged,
        sent: tally.sent,
        received: tally.received,
        no_port: tally.no_port,
        refused: tally.refused,
        unanswered: tally.unanswered,
        failed: tally.failed,
    };
    Flow { program, direction, local, port, remote, counts }
}

/// An event in the words of the model; `None` if it makes no sense.
fn told(event: &layout::Event) -> Option<Event> {
    let direction = direction(event.direction)?;
    let endpoint = |bytes, port| Endpoint { address: address(event.family, bytes, event.scope), port };
    let closed = match (event.reset, event.closed) {
        (1, _) => Some(Closed::AbortedHere),
        (2, _) => Some(Closed::AbortedThere),
        (_, 1) => Some(Closed::Here),
        (_, 2) => Some(Closed::There),
        _ => None,
    };
    Some(Event {
        at_ns: event.at,
        kind: *Kind::ALL.get(usize::from(event.kind))?,
        cookie: event.cookie,
        owner: event.owner,
        thread: event.thread,
        netns: event.netns,
        direction,
        local: endpoint(event.local, event.local_port),
        remote: (direction != Direction::Bind).then(|| endpoint(event.remote, event.remote_port)),
        pool: match event.pool {
            1 => Some(Pool::Connect),
            2 => Some(Pool::Bind),
            3 => None,
            _ => Some(Pool::Unknown),
        },
        closed,
        error: (event.error != 0).then_some(event.error),
        lived_ns: (event.lived != 0).then_some(event.lived),
        sent: event.sent,
        received: event.received,
    })
}
