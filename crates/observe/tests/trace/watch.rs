//! A tracer that looks at one namespace made for the test, and the comparison with what a case says of itself.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tidewait_lab::{NetNs, scaled, skip};
use tidewait_model::trace::{Counts, Direction, Flow, Program};
use tidewait_observe::trace::{Event, Kinds, Losses, Picture, Telling, Tracer, Wish};

use super::elsewhere::Elsewhere;

/// How long something may take that the kernel does by itself, on a busy or emulated machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Where [`places`] are.
const CASES: RangeInclusive<u16> = 20_000..=22_999;

/// Held by each test: a child of one has all descriptors of another between fork() and exec().
static ALONE: Mutex<()> = Mutex::new(());

/// A namespace, and a tracer that began after it was made.
pub struct Watch {
    pub netns: NetNs,
    pub events: Vec<Event>,
    tracer: Tracer,
    /// What the programs may not have seen.
    elsewhere: Option<Elsewhere>,
    _alone: MutexGuard<'static, ()>,
}

/// What is in the way of tracing here; `None` if it ought to work, and then whatever fails is a failure.
pub fn obstacle() -> Option<&'static str> {
    if !cfg!(feature = "bpf") {
        return Some("built without BPF");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let capable = status.lines().any(|line| {
        let digits = line.strip_prefix("CapEff:").map(str::trim);
        // CAP_NET_ADMIN, CAP_SYS_ADMIN
        digits
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .is_some_and(|set| set >> 12 & set >> 21 & 1 == 1)
    });
    if !capable || own.split_whitespace().ne(["0", "0", "4294967295"]) {
        return Some("needs root outside of user namespaces");
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no type information");
    }
    None
}

/// Waits for its turn; `None`, and the test is counted as skipped, where nothing can be traced.
pub fn turn(name: &str) -> Option<MutexGuard<'static, ()>> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match obstacle() {
        None => Some(alone),
        Some(why) => {
            skip(name, why);
            None
        }
    }
}

/// Everything is told, of one namespace.
pub fn wish(netns: &NetNs) -> Wish {
    let telling = Telling { kinds: Kinds(0xff), buffer: 1 << 21, ..Telling::default() };
    let netns = u32::try_from(netns.inode()).ok();
    Wish { netns, waiting: 262_144, events: Some(telling), ..Wish::default() }
}

impl Watch {
    /// A new namespace, traced from here on.
    pub fn start(name: &str) -> Option<Watch> {
        let alone = turn(name)?;
        let netns = NetNs::new().unwrap();
        let tracer = Tracer::start(&wish(&netns)).unwrap();
        let elsewhere = Elsewhere::begin(CASES, &["lab"]);
        Some(Watch { netns, events: Vec::new(), tracer, elsewhere, _alone: alone })
    }

    /// The same without events, where there would be too many to read.
    pub fn counting(name: &str) -> Option<Watch> {
        let alone = turn(name)?;
        let netns = NetNs::new().unwrap();
        let tracer = Tracer::start(&Wish { netns: None, events: None, ..wish(&netns) }).unwrap();
        Some(Watch { netns, events: Vec::new(), tracer, elsewhere: None, _alone: alone })
    }

    /// A tracer that begins when the namespace has seen something already.
    pub fn start_after<T: Send>(name: &str, before: impl FnOnce() -> T + Send) -> Option<(Watch, T)> {
        let alone = turn(name)?;
        let netns = NetNs::new().unwrap();
        let made = netns.run(before).unwrap();
        let tracer = Tracer::start(&wish(&netns)).unwrap();
        Some((Watch { netns, events: Vec::new(), tracer, elsewhere: None, _alone: alone }, made))
    }

    /// Reads the events that are there.
    pub fn listen(&mut self) {
        let events = &mut self.events;
        self.tracer.poll(Duration::ZERO, &mut |event| events.push(*event)).unwrap();
    }

    /// What was counted until now; nothing may be lost.
    pub fn picture(&mut self) -> Picture {
        self.listen();
        let picture = self.tracer.picture().unwrap();
        // TIME_WAIT of the whole machine is noted; who else fills it is not this test's affair.
        assert_eq!(Losses { waiting: 0, ..picture.losses }, Losses::default());
        picture
    }

    pub fn program(&mut self, number: u32) -> Option<Program> {
        self.tracer.program(number).cloned()
    }

    /// The rows of this namespace, of a remote port (outgoing) or local port (incoming, bind).
    pub fn rows(&mut self, direction: Direction, port: u16) -> Vec<Flow> {
        let mut flows = self.flows();
        flows.retain(|flow| is_of(flow, direction, port));
        flows
    }

    /// The sum of these rows, without how long the connections lived.
    pub fn counts(&mut self, direction: Direction, port: u16) -> Counts {
        sum(&self.flows(), direction, port)
    }

    /// Every row of this namespace.
    fn flows(&mut self) -> Vec<Flow> {
        let inode = u32::try_from(self.netns.inode()).unwrap();
        let flows = self.picture().flows.into_iter();
        flows.filter(|(netns, _)| *netns == inode).map(|(_, flow)| flow).collect()
    }

    /// Waits until the counts are as expected, and then a while whether they stay so. Returns the ports that were changed
    /// elsewhere and whose counts are not right: they are not held against the tracer.
    pub fn expect(&mut self, expected: &[Expected]) -> Vec<u16> {
        let end = Instant::now() + PATIENCE;
        let mut differences = self.differences(expected);
        while !differences.is_empty() && Instant::now() < end {
            sleep(Duration::from_millis(20));
            differences = self.differences(expected);
        }
        if differences.is_empty() {
            sleep(Duration::from_millis(30));
            differences = self.differences(expected);
        }
        let unseen = |port| self.elsewhere.as_ref().is_some_and(|trace| trace.changes(port) > 0);
        let (excused, wrong): (Vec<_>, Vec<_>) = differences.into_iter().partition(|(port, _)| unseen(*port));
        assert!(wrong.is_empty(), "{wrong:#?}");
        for (_, difference) in &excused {
            skip("a case changed elsewhere", difference);
        }
        excused.into_iter().map(|(port, _)| port).collect()
    }

    /// The ports whose counts are not as expected, each with what is wrong.
    fn differences(&mut self, expected: &[Expected]) -> Vec<(u16, String)> {
        let flows = self.flows();
        let mut all = Vec::new();
        for Expected { name, port, outgoing, incoming } in expected {
            for (direction, right) in [(Direction::Outgoing, outgoing), (Direction::Incoming, incoming)] {
                let Some(right) = right else { continue };
                let found = sum(&flows, direction, *port);
                if found != *right {
                    let text = format!("{name}, {direction:?}: counted {found:?}, it was {right:?}");
                    all.push((*port, text));
                }
            }
        }
        all
    }
}

fn is_of(flow: &Flow, direction: Direction, port: u16) -> bool {
    let of = if direction == Direction::Outgoing { flow.remote.map(|to| to.port) } else { Some(flow.port) };
    flow.direction == direction && of == Some(port)
}

/// The sum of the rows of a port, without how long the connections lived.
fn sum(flows: &[Flow], direction: Direction, port: u16) -> Counts {
    let mut sum = Counts::default();
    for row in flows.iter().filter(|flow| is_of(flow, direction, port)) {
        sum.merge(&row.counts);
    }
    Counts { lived_ns: 0, ..sum }
}

/// What a case did: `None` for a side that is not looked at.
pub struct Expected {
    pub name: String,
    pub port: u16,
    pub outgoing: Option<Counts>,
    pub incoming: Option<Counts>,
}

/// Where a case listens and how it is reached.
#[derive(Clone, Copy)]
pub struct Place {
    pub listen: SocketAddr,
    pub connect: SocketAddr,
}

/// The families to run the case with this number in: all of them, or where tests are made smaller, one after the other.
pub fn families(case: usize) -> impl Iterator<Item = (&'static str, Place)> {
    let few = scaled(100) < 100;
    let all = places(20_000 + u16::try_from(case).unwrap()).into_iter().enumerate();
    all.filter(move |(family, _)| !few || *family == case % 3).map(|(_, place)| place)
}

/// IPv4, IPv6, and IPv6 sockets that speak IPv4; each with ports of its own.
pub fn places(port: u16) -> [(&'static str, Place); 3] {
    let place = |listen: &str, connect: &str, port: u16| Place {
        listen: SocketAddr::new(listen.parse().unwrap(), port),
        connect: SocketAddr::new(connect.parse().unwrap(), port),
    };
    [
        ("IPv4", place("127.0.0.1", "127.0.0.1", port)),
        ("IPv6", place("::1", "::1", port + 1_000)),
        ("mapped", place("127.0.0.1", "::ffff:127.0.0.1", port + 2_000)),
    ]
}
