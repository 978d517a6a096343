//! A client and a server on a wire that loses and repeats what it is told, and a watch over the client's TIME_WAIT.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use tidewait_lab::wire::{Deed, Direction as Way, Segment, Trap, Wire};
use tidewait_lab::{Error, Host, Lab, skip};
use tidewait_model::study::{Kind, Method, Seen};
use tidewait_model::{State, Version};
use tidewait_observe::places::{Place, Scope, find};
use tidewait_observe::sock_diag::Filter;
use tidewait_observe::study::{Picture, Watch, Wish};

/// How long something may take that the kernel does by itself, on a busy or emulated machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One at a time: what is counted must not come from another test's machine load.
static ALONE: Mutex<()> = Mutex::new(());

pub struct Stage<'a> {
    pub client: &'a Host,
    pub server: &'a Host,
    pub wire: &'a Wire,
    pub watch: Watch,
    /// A peer that has forgotten the connection answers with a reset, which would come for TIME_WAIT too; forged ones acknowledge.
    _no_resets: [Trap; 2],
    late: Arc<AtomicU64>,
    _late: Trap,
}

/// What is in the way of watching here; `None` if it ought to work.
fn obstacle() -> Option<&'static str> {
    if !cfg!(feature = "bpf") {
        return Some("built without BPF");
    }
    let own = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    if !rustix::process::geteuid().is_root() || own.split_whitespace().ne(["0", "0", "4294967295"]) {
        return Some("needs root outside of user namespaces");
    }
    (!Path::new("/sys/kernel/btf/vmlinux").exists()).then_some("the kernel has no type information")
}

/// The namespace that the calling thread is in.
pub fn here() -> Place {
    let found = find(Path::new("/"), &Scope::Auto).unwrap();
    found.places.into_iter().find(|place| place.own).unwrap()
}

pub fn wish(method: Method) -> Wish {
    Wish {
        root: PathBuf::from("/"),
        place: here(),
        method: Some(method),
        only: Filter::default(),
        sample: 1,
        time_wait: Duration::from_secs(60),
        destinations: 64,
    }
}

/// Runs the test with each way to see segments that this kernel has, watching the client, or the server.
pub fn each_way(name: &str, watch_server: bool, test: impl Fn(&mut Stage<'_>) + Sync) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(why) = obstacle() {
        return skip(name, why);
    }
    let mut ways = 0;
    for method in [Method::Fentry, Method::Tc] {
        let (client, server, wire) = match Lab::new().wired_pair() {
            Err(Error::Unavailable(why)) => return skip(name, why),
            other => other.unwrap(),
        };
        let watched = if watch_server { &server } else { &client };
        let ran = watched
            .run(|| match Watch::start(wish(method)) {
                Err(refusal) => {
                    // Kernels may refuse fentry; tc by a link is there since 6.6.
                    assert!(
                        method == Method::Fentry
                            || tidewait_observe::procfs::kernel_release().parse::<Version>().unwrap()
                                < Version::new(6, 6),
                        "{}",
                        refusal.limit.why
                    );
                    false
                }
                Ok(watch) => {
                    let strays = |segment: &Segment| segment.rst() && !segment.ack();
                    let [forth, back] =
                        [Way::Forth, Way::Back].map(|way| wire.trap(way, u64::MAX, strays, Deed::Drop));
                    let late = Arc::new(AtomicU64::new(0));
                    let way = if watch_server { Way::Forth } else { Way::Back };
                    let trap = count_late(&wire, way, Arc::clone(&late));
                    test(&mut Stage {
                        client: &client,
                        server: &server,
                        wire: &wire,
                        watch,
                        _no_resets: [forth, back],
                        late,
                        _late: trap,
                    });
                    true
                }
            })
            .unwrap();
        ways += usize::from(ran);
    }
    if ways == 0 {
        skip(name, "this kernel has no way to see segments for TIME_WAIT");
    }
}

pub fn v4(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 77, 0, 2], port))
}

/// Counts what goes one way behind the FIN of its connection; it is not kept from any other trap.
fn count_late(wire: &Wire, way: Way, late: Arc<AtomicU64>) -> Trap {
    let mut ended = HashSet::new();
    let behind = move |segment: &Segment| {
        let ends = (segment.source, segment.destination);
        if segment.syn() {
            ended.remove(&ends);
        }
        if ended.contains(&ends) {
            late.fetch_add(1, Ordering::SeqCst);
        }
        if segment.fin() {
            ended.insert(ends);
        }
        false
    };
    wire.trap(way, u64::MAX, behind, Deed::Record)
}

impl Stage<'_> {
    /// How many segments of the peer's own came for TIME_WAIT until now, by the wire: on a busy machine it may send a FIN again
    /// though nothing was lost.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::SeqCst)
    }

    /// A connection from the client, both ends.
    pub fn connect(&self, address: SocketAddr) -> (TcpStream, TcpStream, TcpListener) {
        let listener = self.server.run(|| TcpListener::bind(address).unwrap()).unwrap();
        let near = self.client.run(|| TcpStream::connect(address).unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        (near, far, listener)
    }

    /// Closes a connection, the client first, so that the TIME_WAIT is there; gives the server's FIN.
    pub fn close(&self, near: TcpStream, far: TcpStream) -> Segment {
        let fin = self.fin_of(Way::Back);
        let before = self.waiting(self.client);
        drop(near);
        self.until("the client's FIN", || has_ended(&far));
        drop(far);
        self.until("TIME_WAIT", || self.waiting(self.client) == before + 1);
        assert!(fin.wait(1, PATIENCE));
        fin.caught().remove(0)
    }

    /// Catches the next FIN of one side.
    pub fn fin_of(&self, way: Way) -> Trap {
        self.wire.trap(way, 1, Segment::fin, Deed::Record)
    }

    /// Sockets of a host in TIME_WAIT.
    pub fn waiting(&self, host: &Host) -> u64 {
        host.states().unwrap()[State::TimeWait]
    }

    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        until(what, holds);
    }

    /// Waits until so many segments were seen, and gives the picture with all sockets of until now.
    pub fn all(&mut self, segments: u64) -> Picture {
        self.seen(segments);
        // Ages are counted in ticks: a socket that is younger than a few is no socket yet.
        sleep(Duration::from_millis(60));
        self.watch.finish();
        self.watch.picture().unwrap()
    }

    /// Waits until so many segments were seen, and gives the picture.
    pub fn seen(&mut self, segments: u64) -> Picture {
        let begin = Instant::now();
        loop {
            let picture = self.watch.picture().unwrap();
            if picture.total.segments >= segments {
                return picture;
            }
            assert!(begin.elapsed() < PATIENCE, "{segments} segments: {picture:#?}");
            sleep(Duration::from_millis(10));
        }
    }
}

/// Waits until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(5));
    }
}

/// Whether the other side has closed.
pub fn has_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let ended = stream.peek(&mut [0; 16]).is_ok_and(|count| count == 0);
    stream.set_nonblocking(false).unwrap();
    ended
}

/// How many of a kind, and how many of them were given away by their timestamps.
pub fn of(seen: &Seen, kind: Kind) -> (u64, u64) {
    let row = seen.kinds.iter().find(|row| row.kind == kind);
    row.map_or((0, 0), |row| (row.segments, row.rejected_by_timestamp))
}

/// Sends a TCP segment that nobody's socket sent, from one host to another.
pub fn forge(host: &Host, from: SocketAddr, to: SocketAddr, forged: &Forged<'_>) {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(forged.sequence.to_be_bytes());
    segment.extend(forged.acknowledgement.to_be_bytes());
    let options: Vec<u8> = forged
        .timestamp
        .map_or_else(Vec::new, |value| [&[1, 1, 8, 10][..], &value.to_be_bytes(), &[0; 4]].concat());
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    segment.extend([words << 4, forged.flags, 0x10, 0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(forged.data);
    let checksum = checksum(from.ip(), to.ip(), &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    host.run(|| {
        let protocol = rustix::net::ipproto::TCP;
        let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol)).unwrap();
        // A raw socket has no port.
        let mut to = to;
        to.set_port(0);
        sendto(&socket, &segment, SendFlags::empty(), &to).unwrap();
    })
    .unwrap();
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

#[derive(Default)]
pub struct Forged<'a> {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub timestamp: Option<u32>,
    pub data: &'a [u8],
}

fn checksum(from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let mut bytes = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend(u32::try_from(segment.len()).unwrap().to_be_bytes());
    bytes.extend([0, 0, 0, 6]);
    bytes.extend(segment);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
