//! Loads one program at a time, attaches it to something of the probe's own, and looks what it saw.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;

use libbpf_rs::{
    Iter, MapCore, MapFlags, MapImpl, Mut, Object, ObjectBuilder, ProgramInput, ProgramMut, RingBufferBuilder,
};

use crate::probe::cgroup::Temporary;
use crate::probe::sandbox::Namespace;
use crate::probe::{Answer, Bench, Doing, Failure, netlink};
use crate::study::interfaces::attach;
use tidewait_kernel::bpf::{self, Cause, Trouble};
use tidewait_model::State;

/// `trace.bpf.c`, compiled.
static TRACE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trace.bpf.o"));
/// `network.bpf.c`, compiled.
static NETWORK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/network.bpf.o"));

/// Places in the map `slots`, in the order of `enum slot` in slots.h.
#[derive(Clone, Copy)]
enum Slot {
    WantedNetns,
    WantedPort,
    Hits,
    Cookie,
    Cgroup,
    Clock,
    Taken,
}

/// The maps that single programs are about.
const OPTIONAL: &[&str] = &["ring", "recent", "notes"];

/// A port outside every default range, for the program to choose.
const CHOSEN_PORT: u16 = 20_999;

/// One program of the object, loaded.
struct Loaded {
    object: Object,
}

impl Loaded {
    /// Loads this program alone, with the maps that it uses.
    fn new(object: &[u8], program: &str, maps: &[&str]) -> Result<Self, Failure> {
        bpf::listen();
        let mut open =
            ObjectBuilder::default().open_memory(object).map_err(|error| failure("open", &error))?;
        for mut candidate in open.progs_mut() {
            let wanted = candidate.name() == program;
            candidate.set_autoload(wanted);
        }
        for mut map in open.maps_mut() {
            // A kernel may lack the kind of a map that this program does not use.
            let unused =
                map.name().to_str().is_some_and(|name| OPTIONAL.contains(&name) && !maps.contains(&name));
            map.set_autocreate(!unused).map_err(|error| failure("map", &error))?;
        }
        let object = open.load().map_err(|error| failure("load", &error))?;
        // What was said of a load that went well in the end explains no later failure.
        bpf::listen();
        Ok(Self { object })
    }

    fn program(&self, name: &str) -> Result<ProgramMut<'_>, Failure> {
        self.object
            .progs_mut()
            .find(|program| program.name() == name)
            .ok_or_else(|| Failure::Unknown(format!("the object has no program {name}")))
    }

    fn map(&mut self, name: &str) -> Result<MapImpl<'_, Mut>, Failure> {
        self.object
            .maps_mut()
            .find(|map| map.name() == name)
            .ok_or_else(|| Failure::Unknown(format!("the object has no map {name}")))
    }

    fn put(&mut self, slot: Slot, value: u64) -> Result<(), Failure> {
        self.map("slots")?
            .update(&(slot as u32).to_ne_bytes(), &value.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| failure("map update", &error))
    }

    fn get(&mut self, slot: Slot) -> Result<u64, Failure> {
        let value = self
            .map("slots")?
            .lookup(&(slot as u32).to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| failure("map lookup", &error))?;
        Ok(value.as_deref().and_then(<[u8]>::first_chunk).map_or(0, |value| u64::from_ne_bytes(*value)))
    }
}

/// What an error of libbpf means for a probe.
fn failure(step: &str, error: &libbpf_rs::Error) -> Failure {
    let Trouble { cause, detail } = bpf::trouble(step, error);
    match cause {
        Cause::Refused => Failure::NotPermitted(detail),
        Cause::Unsupported => Failure::Unsupported(detail),
        Cause::NoMemory | Cause::Unknown => Failure::Unknown(detail),
    }
}

/// Connects over loopback, in a namespace of the probe's own, and closes from both sides, the client first: a socket goes
/// into TIME_WAIT.
fn traffic() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listen")?;
    let client = TcpStream::connect(listener.local_addr().doing("getsockname")?).doing("connect")?;
    let (mut server, _) = listener.accept().doing("accept")?;
    drop(client);
    server.read_to_end(&mut Vec::new()).doing("waiting for the peer's FIN")?;
    Ok(())
}

/// Inode of the network namespace, as `net->ns.inum` has it.
fn namespace() -> Result<u64, Failure> {
    fs::metadata("/proc/self/ns/net").map(|meta| meta.ino()).doing("/proc/self/ns/net")
}

/// Asks for a port that is taken.
fn refused_bind() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listen")?;
    let taken = listener.local_addr().doing("getsockname")?;
    match TcpListener::bind(taken) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(()),
        Err(error) => Err(Failure::of("bind", &error)),
        Ok(_) => Err(Failure::Unknown("a port that is taken was given again".to_owned())),
    }
}

/// Loads and attaches a program that follows a tracepoint, makes `traffic` for it, and looks at the outcome.
fn traced(
    bench: &Bench,
    (program, maps): (&str, &[&str]),
    traffic: fn() -> Result<(), Failure>,
    look: impl FnOnce(&mut Loaded) -> Result<Option<String>, Failure>,
) -> Answer {
    let mut loaded = Loaded::new(TRACE, program, maps)?;
    loaded.put(Slot::WantedNetns, namespace()?)?;
    let link = loaded.program(program)?.attach().map_err(|error| failure("attach", &error))?;
    if bench.namespace != Namespace::Own {
        return Ok("loaded and attached; not tried on traffic for want of a namespace".to_owned());
    }
    traffic()?;
    drop(link);
    look(&mut loaded)?.ok_or_else(|| {
        Failure::Unknown("loaded and attached, but it saw nothing of what was done for it".to_owned())
    })
}

pub(in crate::probe) fn tp_btf(bench: &Bench) -> Answer {
    traced(bench, ("state_changes", &[]), traffic, |loaded| {
        let (hits, cookie) = (loaded.get(Slot::Hits)?, loaded.get(Slot::Cookie)?);
        let (cgroup, clock) = (loaded.get(Slot::Cgroup)?, loaded.get(Slot::Clock)?);
        Ok((hits > 0 && cookie > 0 && clock > 0)
            .then(|| format!("{hits} state changes of one connection, with cookie and cgroup id {cgroup}")))
    })
}

pub(in crate::probe) fn sk_storage(bench: &Bench) -> Answer {
    traced(bench, ("notes_on_sockets", &["notes"]), traffic, |loaded| {
        let hits = loaded.get(Slot::Hits)?;
        Ok((hits > 0).then(|| format!("a note on each socket of one connection, found again {hits} times")))
    })
}

pub(in crate::probe) fn bind_failures(bench: &Bench) -> Answer {
    traced(bench, ("failing_calls", &[]), refused_bind, |loaded| {
        let hits = loaded.get(Slot::Hits)?;
        Ok((hits > 0).then(|| "a bind() that was refused (EADDRINUSE)".to_owned()))
    })
}

/// Loads a program that only touches a map, and has the kernel run it once on a made-up packet.
fn run_once(program: &str, map: &str) -> Result<Loaded, Failure> {
    let loaded = Loaded::new(NETWORK, program, &[map])?;
    // An Ethernet header and a little more, all zero, is the least that the kernel takes.
    let packet = [0; 64];
    let input = ProgramInput { data_in: Some(&packet), ..ProgramInput::default() };
    loaded.program(program)?.test_run(input).map_err(|error| failure("run", &error))?;
    Ok(loaded)
}

pub(in crate::probe) fn ring_buffer(_: &Bench) -> Answer {
    let mut loaded = run_once("into_ring", "ring")?;
    let seen = Cell::new(0_u32);
    let ring = loaded.map("ring")?;
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&ring, |_| {
            seen.set(seen.get() + 1);
            0
        })
        .map_err(|error| failure("ring buffer", &error))?;
    let buffer = builder.build().map_err(|error| failure("ring buffer", &error))?;
    buffer.consume().map_err(|error| failure("ring buffer", &error))?;
    match seen.get() {
        1 => Ok("an event written and read".to_owned()),
        other => Err(Failure::Unknown(format!("one event written, {other} read"))),
    }
}

pub(in crate::probe) fn lru_hash(_: &Bench) -> Answer {
    let mut loaded = run_once("into_hash", "recent")?;
    match loaded.map("recent")?.keys().count() {
        1 => Ok("an entry written and read".to_owned()),
        other => Err(Failure::Unknown(format!("one entry written, {other} read"))),
    }
}

pub(in crate::probe) fn fentry(bench: &Bench) -> Answer {
    traced(bench, ("into_time_wait", &[]), traffic, |loaded| {
        let hits = loaded.get(Slot::Hits)?;
        Ok((hits > 0).then(|| format!("{hits} entries of one connection")))
    })
}

pub(in crate::probe) fn iter_tcp(bench: &Bench) -> Answer {
    let loaded = Loaded::new(TRACE, "every_socket", &[])?;
    let link = loaded.program("every_socket")?.attach().map_err(|error| failure("attach", &error))?;
    // A listener to be found; elsewhere the machine's own sockets are counted, which changes nothing.
    let listener = match bench.namespace {
        Namespace::Own => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listen")?),
        _ => None,
    };
    let mut states = Vec::new();
    Iter::new(&link)
        .map_err(|error| failure("iterator", &error))?
        .read_to_end(&mut states)
        .doing("reading the iterator")?;
    match listener {
        Some(_) if !states.contains(&State::Listen.number()) => Err(Failure::Unknown(format!(
            "{} sockets, and a listener made for it is not among them",
            states.len()
        ))),
        _ => Ok(format!("{} sockets read, by state", states.len())),
    }
}

/// Loads a program for the connections of a cgroup and runs it on one connection of this process, in a cgroup of its own.
fn in_own_cgroup(
    bench: &Bench,
    program: &str,
    address: IpAddr,
    look: impl FnOnce(&mut Loaded, &TcpStream) -> Answer,
) -> Answer {
    let mut loaded = Loaded::new(NETWORK, program, &[])?;
    loaded.put(Slot::WantedPort, u64::from(CHOSEN_PORT))?;
    let cgroup = Temporary::new().map_err(|failure| match failure {
        Failure::NotPermitted(why) => {
            Failure::Unknown(format!("loads; attaching not tried for want of a cgroup of its own ({why})"))
        }
        other => other,
    })?;
    let directory = File::open(&cgroup.path).doing("opening the cgroup")?;
    let link = loaded
        .program(program)?
        .attach_cgroup(directory.as_raw_fd())
        .map_err(|error| failure("attach", &error))?;
    if bench.namespace != Namespace::Own {
        return Ok("loaded, attached to a cgroup of its own; not tried on traffic for want of a namespace"
            .to_owned());
    }
    let listener = TcpListener::bind((address, 0)).doing("listen")?;
    cgroup.join()?;
    let client = TcpStream::connect(listener.local_addr().doing("getsockname")?).doing("connect")?;
    drop(link);
    drop(cgroup);
    look(&mut loaded, &client)
}

fn port_chosen(bench: &Bench, program: &str, address: IpAddr) -> Answer {
    in_own_cgroup(bench, program, address, |loaded, client| {
        let port = client.local_addr().doing("getsockname")?.port();
        let (taken, cookie) = (loaded.get(Slot::Taken)?, loaded.get(Slot::Cookie)?);
        if port != CHOSEN_PORT {
            return Err(Failure::Unknown(format!("asked for port {CHOSEN_PORT}, connect() took {port}")));
        }
        if taken == 0 || cookie == 0 {
            return Err(Failure::Unknown(format!(
                "port {port} chosen; socket lookup found {taken} of 1 listener, cookie {cookie}"
            )));
        }
        Ok(format!("port {port} chosen by bpf_bind, a listener found by bpf_skc_lookup_tcp"))
    })
}

pub(in crate::probe) fn connect4(bench: &Bench) -> Answer {
    port_chosen(bench, "choose_port4", IpAddr::V4(Ipv4Addr::LOCALHOST))
}

pub(in crate::probe) fn connect6(bench: &Bench) -> Answer {
    port_chosen(bench, "choose_port6", IpAddr::V6(Ipv6Addr::LOCALHOST))
}

pub(in crate::probe) fn sock_ops(bench: &Bench) -> Answer {
    in_own_cgroup(bench, "socket_events", IpAddr::V4(Ipv4Addr::LOCALHOST), |loaded, _| {
        match (loaded.get(Slot::Hits)?, loaded.get(Slot::Cookie)?) {
            (0, _) => {
                Err(Failure::Unknown("attached, but it saw nothing of a connection made for it".to_owned()))
            }
            (hits, _) => Ok(format!("{hits} events of one connection")),
        }
    })
}

pub(in crate::probe) fn tc(bench: &Bench) -> Answer {
    let mut loaded = Loaded::new(NETWORK, "segments", &[])?;
    if bench.namespace != Namespace::Own {
        return Err(Failure::Unknown("loads; attaching not tried for want of a namespace".to_owned()));
    }
    let link = attach(loaded.program("segments")?.as_fd(), netlink::LOOPBACK);
    let _link = link.map_err(|error| match error.raw_os_error() {
        // Before 6.6 there is no such place to attach to.
        Some(libc::EINVAL) => Failure::Unsupported(format!("tcx: {error}")),
        _ => Failure::of("attach to lo", &error),
    })?;
    traffic()?;
    match loaded.get(Slot::Hits)? {
        0 => Err(Failure::Unknown("attached to lo, but it saw no segment".to_owned())),
        hits => Ok(format!("{hits} segments of one connection seen on lo")),
    }
}
