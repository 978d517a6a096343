//! What the tracer does at its bounds: nothing is lost without a number that says so. And what it knows of the time before
//! it began, of bind() and of control groups.
#![cfg(feature = "bpf")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tidewait_lab::{NetNs, skip};
use tidewait_model::Limit;
use tidewait_model::observation::Hides;
use tidewait_model::report::Pool;
use tidewait_model::trace::{Counts, Direction, Flow};
use tidewait_observe::procfs::Membership;
use tidewait_observe::trace::{Bounds, Event, Kind, Kinds, Telling, Tracer, Wish};

use elsewhere::Elsewhere;

#[path = "trace/elsewhere.rs"]
mod elsewhere;

/// Held by each test: a child has all descriptors of this process between fork() and exec(), and what a test closes meanwhile
/// stays open until then.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tracer and a namespace to try it in; what else the machine does is in other namespaces.
struct Bench {
    netns: NetNs,
    tracer: Tracer,
}

impl Bench {
    /// `None` without root, where there is nothing to trace with. `before` is done before the tracing begins.
    fn start<T: Send>(wish: &Wish, before: impl FnOnce() -> T + Send) -> Option<(Bench, T)> {
        if !rustix::process::geteuid().is_root() {
            skip("trace_limits", "tracing takes root");
            return None;
        }
        let netns = NetNs::new().unwrap();
        let done = netns.run(before).unwrap();
        let wish = Wish { netns: u32::try_from(netns.inode()).ok(), ..wish.clone() };
        let tracer = Tracer::start(&wish).unwrap();
        Some((Bench { netns, tracer }, done))
    }

    /// The flows of the namespace that go this way.
    fn flows(&mut self, direction: Direction) -> Vec<Flow> {
        let inode = u32::try_from(self.netns.inode()).unwrap();
        let flows = self.tracer.picture().unwrap().flows;
        let ours = flows.into_iter().filter(|(netns, flow)| *netns == inode && flow.direction == direction);
        ours.map(|(_, flow)| flow).collect()
    }

    fn sum(&mut self, direction: Direction) -> Counts {
        let mut sum = Counts::default();
        for flow in self.flows(direction) {
            sum.merge(&flow.counts);
        }
        sum
    }
}

/// Whether processes of a test can connect by bash's /dev/tcp.
fn no_bash() -> bool {
    let there = Command::new("bash").args(["-c", ":"]).status().is_ok_and(|status| status.success());
    if !there {
        skip("trace_limits", "no bash");
    }
    !there
}

fn bounded(bounds: Bounds) -> Wish {
    Wish { waiting: 1_024, bounds, ..Wish::default() }
}

/// Waits a while for what the kernel does by itself, on a busy or emulated machine.
fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !done() && Instant::now() < end {
        sleep(Duration::from_millis(20));
    }
}

fn everywhere() -> TcpListener {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()
}

/// Connects to this many different addresses and closes, the client first.
fn connect_to(listener: &TcpListener, destinations: u16) {
    let port = listener.local_addr().unwrap().port();
    for number in 0..destinations {
        let [high, low] = number.to_be_bytes();
        drop(TcpStream::connect((Ipv4Addr::new(127, 1, high, low), port)).unwrap());
        drop(listener.accept().unwrap());
    }
}

#[test]
fn destinations_beyond_the_bound_are_counted_without_their_names() {
    let _alone = alone();
    let wish = bounded(Bounds { flows: 64, ..Bounds::default() });
    let Some((mut bench, ())) = Bench::start(&wish, || ()) else { return };
    bench.netns.run(|| connect_to(&everywhere(), 500)).unwrap();
    let losses = bench.tracer.losses();
    assert!(losses.destinations > 0, "{losses:?}");
    let outgoing = bench.sum(Direction::Outgoing);
    let missing = 500 - outgoing.connects;
    // Other namespaces may have taken the last rows.
    assert!(missing <= losses.counts, "{outgoing:?} {losses:?}");
    assert!(losses.limits().iter().any(|limit| limit.what.contains("destinations")));
}

#[test]
fn what_is_counted_without_its_name_is_told_with_it() {
    let _alone = alone();
    let kinds = Kinds::of([Kind::Connect, Kind::Accept, Kind::Close, Kind::TimeWait]);
    let telling = Telling { kinds, buffer: 1 << 21, ..Telling::default() };
    let wish = Wish { events: Some(telling), ..bounded(Bounds { flows: 16, ..Bounds::default() }) };
    let Some((mut bench, listener)) = Bench::start(&wish, everywhere) else { return };
    let port = listener.local_addr().unwrap().port();
    let elsewhere = Elsewhere::begin(port..=port, &["lab"]);
    bench.netns.run(|| connect_to(&listener, 300)).unwrap();
    let expected = [
        (Kind::Connect, Direction::Outgoing),
        (Kind::Close, Direction::Outgoing),
        (Kind::TimeWait, Direction::Outgoing),
        (Kind::Accept, Direction::Incoming),
        (Kind::Close, Direction::Incoming),
    ];
    let mut told = HashMap::new();
    let mut once = expected.map(|_| 0);
    until(|| {
        let mut tell = |event: &Event| {
            let other = if event.direction == Direction::Outgoing { event.remote } else { Some(event.local) };
            *told.entry((event.kind, event.direction, other.unwrap().address.to_string())).or_insert(0) += 1;
        };
        bench.tracer.poll(Duration::ZERO, &mut tell).unwrap();
        once = expected.map(|(kind, direction)| {
            let all = (0..300_u16).map(u16::to_be_bytes);
            all.filter(|[high, low]| told.get(&(kind, direction, format!("127.1.{high}.{low}"))) == Some(&1))
                .count()
        });
        once == [300; 5]
    });
    assert!(bench.tracer.losses().destinations > 0);
    let unseen = elsewhere.map_or(0, |trace| trace.changes(port)) as usize;
    assert!(once.iter().all(|&once| once + unseen >= 300), "{expected:?}: {once:?}, {unseen} elsewhere");
}

#[test]
fn events_without_any_room_are_lost_by_number() {
    let _alone = alone();
    let wish = bounded(Bounds { flows: 1, ..Bounds::default() });
    let Some((mut bench, ())) = Bench::start(&wish, || ()) else { return };
    bench.netns.run(|| connect_to(&everywhere(), 200)).unwrap();
    let outgoing = bench.sum(Direction::Outgoing);
    let incoming = bench.sum(Direction::Incoming);
    let losses = bench.tracer.losses();
    // One row cannot hold both directions.
    assert!(losses.counts > 0, "{losses:?}");
    let missing = (200 - outgoing.connects) + (200 - incoming.accepts);
    assert!(missing > 0 && missing <= losses.counts, "{outgoing:?} {incoming:?} {losses:?}");
}

#[test]
fn processes_beyond_the_bound_are_counted_by_command() {
    let _alone = alone();
    if no_bash() {
        return;
    }
    let wish = bounded(Bounds { owners: 8, ..Bounds::default() });
    let Some((mut bench, listener)) = Bench::start(&wish, everywhere) else { return };
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    for _ in 0..20 {
        assert!(bench.netns.command("bash").args(["-c", &script]).status().unwrap().success());
    }
    let losses = bench.tracer.losses();
    assert!(losses.processes > 0, "{losses:?}");
    assert_eq!(bench.sum(Direction::Outgoing).connects, 20);
    let one_by_one = bench.flows(Direction::Outgoing).iter().filter(|flow| pid(flow).is_some()).count();
    assert!(one_by_one < 20, "{one_by_one}");
}

fn pid(flow: &Flow) -> Option<u32> {
    flow.program.as_ref()?.pid
}

#[test]
fn listening_ports_beyond_the_bound_are_counted() {
    let _alone = alone();
    let wish = bounded(Bounds { listening: 1, ..Bounds::default() });
    let Some((bench, _listeners)) = Bench::start(&wish, || [everywhere(), everywhere(), everywhere()]) else {
        return;
    };
    let losses = bench.tracer.losses();
    assert!(losses.listening >= 2, "{losses:?}");
}

#[test]
fn time_wait_forgotten_for_younger_ones_is_counted() {
    let _alone = alone();
    let wish = Wish { waiting: 64, ..Wish::default() };
    let Some((mut bench, listener)) = Bench::start(&wish, everywhere) else { return };
    let port = listener.local_addr().unwrap().port();
    let elsewhere = Elsewhere::begin(port..=port, &["lab"]);
    let unseen = || elsewhere.as_ref().map_or(0, |trace| trace.changes(port));
    bench.netns.run(|| connect_to(&listener, 400)).unwrap();
    // The last packets may be on their way yet.
    until(|| bench.sum(Direction::Outgoing).time_wait + unseen() >= 400);
    let picture = bench.tracer.picture().unwrap();
    assert!(picture.waiting.len() <= 64, "{}", picture.waiting.len());
    assert!(picture.losses.waiting + unseen() >= 336, "{:?}, {} elsewhere", picture.losses, unseen());
    let noted = bench.sum(Direction::Outgoing).time_wait;
    assert!(noted <= 400 && noted + unseen() >= 400, "{noted}, {} elsewhere", unseen());
}

#[test]
fn events_that_nobody_reads_are_counted() {
    let _alone = alone();
    let telling = Telling { kinds: Kinds::of([Kind::Connect]), buffer: 4_096, ..Telling::default() };
    let wish = Wish { events: Some(telling), ..Wish::default() };
    let Some((mut bench, ())) = Bench::start(&wish, || ()) else { return };
    bench.netns.run(|| connect_to(&everywhere(), 200)).unwrap();
    let lost = bench.tracer.losses().events;
    let mut told = 0;
    bench.tracer.poll(Duration::ZERO, &mut |_| told += 1).unwrap();
    assert!(lost > 0 && told > 0 && told + lost >= 200, "{told} told, {lost} lost");
    assert_eq!(bench.sum(Direction::Outgoing).connects, 200);
}

#[test]
fn memory_grows_with_what_is_kept() {
    let _alone = alone();
    let Some((small, ())) = Bench::start(&bounded(Bounds { flows: 64, ..Bounds::default() }), || ()) else {
        return;
    };
    let large = Tracer::start(&bounded(Bounds::default())).unwrap();
    let (small, large) = (small.tracer.memory_bytes(), large.memory_bytes());
    assert!(small > 100_000 && large > small + 16_000 * 200, "{small} {large}");
    assert!(large < 32 << 20, "{large}");
}

#[test]
fn who_listened_before_owns_what_is_accepted_and_old_connections_keep_their_direction() {
    let _alone = alone();
    let pair = || {
        let listener = everywhere();
        let address = (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        (address, listener, client, server)
    };
    let telling = Telling { kinds: Kinds::of([Kind::Accept]), buffer: 1 << 16, ..Telling::default() };
    let wish = Wish { events: Some(telling), ..Wish::default() };
    let Some((mut bench, (address, listener, client, server))) = Bench::start(&wish, pair) else { return };
    // Both ends were there before: the listener tells which is which.
    drop(server);
    // Its FIN may be on the way yet, and would make it a close of both at once.
    assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    drop(client);
    until(|| bench.sum(Direction::Incoming).time_wait == 1);
    let (outgoing, incoming) = (bench.flows(Direction::Outgoing), bench.flows(Direction::Incoming));
    assert_eq!((outgoing.len(), incoming.len()), (1, 1), "{outgoing:?} {incoming:?}");
    let counts = |flow: &Flow| (flow.counts.closed_here, flow.counts.closed_there, flow.counts.time_wait);
    assert_eq!((counts(&outgoing[0]), counts(&incoming[0])), ((0, 1, 0), (1, 0, 1)));
    assert_eq!((incoming[0].port, outgoing[0].remote.unwrap().port), (address.1, address.1));
    // A new one belongs to the listener before anybody calls accept().
    let client = bench.netns.run(|| TcpStream::connect(address).unwrap()).unwrap();
    let mut owners = Vec::new();
    until(|| {
        bench.tracer.poll(Duration::ZERO, &mut |event| owners.push(event.owner)).unwrap();
        !owners.is_empty()
    });
    assert_eq!(owners.len(), 1);
    let program = bench.tracer.program(owners[0]).unwrap();
    assert_eq!(program.pid, Some(std::process::id()));
    drop((client, listener));
}

#[test]
fn bind_that_finds_no_port_is_counted_and_nothing_else_is() {
    let _alone = alone();
    let telling = Telling { kinds: Kinds::of([Kind::Refused]), buffer: 1 << 16, ..Telling::default() };
    let wish = Wish { events: Some(telling), binds: true, ..Wish::default() };
    let Some((mut bench, ())) = Bench::start(&wish, || ()) else { return };
    assert!(bench.tracer.limits().is_empty(), "{:?}", bench.tracer.limits());
    bench.netns.set("net.ipv4.ip_local_port_range", "40000 40001").unwrap();
    let taken = bench
        .netns
        .run(|| {
            let kind = |result: std::io::Result<TcpListener>| result.map_err(|error| error.kind()).err();
            let used = Some(ErrorKind::AddrInUse);
            let v4 = TcpListener::bind("127.0.0.1:7001").unwrap();
            let v6 = TcpListener::bind("[::1]:7002").unwrap();
            for address in ["127.0.0.1:7001", "[::ffff:127.0.0.1]:7001", "[::1]:7002"] {
                assert_eq!(kind(TcpListener::bind(address)), used, "{address}");
            }
            let _udp = UdpSocket::bind("127.0.0.1:7003").unwrap();
            assert!(UdpSocket::bind("127.0.0.1:7003").is_err());
            assert_eq!(kind(TcpListener::bind("192.0.2.1:0")), Some(ErrorKind::AddrNotAvailable));
            // The whole range of two ports.
            let all = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
            assert_eq!(kind(TcpListener::bind("127.0.0.1:0")), used);
            drop((v4, v6));
            all.len()
        })
        .unwrap();
    assert_eq!(taken, 2);
    let mut told = Vec::new();
    let mut tell = |event: &Event| {
        told.push((event.local.port, event.pool, event.error));
        assert_eq!((event.remote, event.direction), (None, Direction::Bind));
    };
    bench.tracer.poll(Duration::from_millis(10), &mut tell).unwrap();
    let in_use = Some(98);
    let expected =
        [(7_001, None, in_use), (7_001, None, in_use), (7_002, None, in_use), (0, Some(Pool::Bind), in_use)];
    assert_eq!(told, expected);
    let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
    let mut flows: Vec<_> = bench.flows(Direction::Bind);
    flows.sort_by_key(|flow| flow.port);
    let rows: Vec<_> = flows.iter().map(|flow| (flow.port, flow.counts.no_port)).collect();
    assert_eq!(rows, [(0, 1), (7_001, 2), (7_002, 1)]);
    assert_eq!(flows[1].local.unwrap().ip, loopback);
    assert!(flows.iter().all(|flow| pid(flow) == Some(std::process::id())));
}

/// Control groups made for a test, one inside the other; removed on drop.
struct Groups(Vec<PathBuf>);

impl Groups {
    fn make(tree: &Path, names: &[&str]) -> Groups {
        let mut made = Vec::new();
        let mut path = tree.to_owned();
        for name in names {
            path.push(name);
            fs::create_dir(&path).unwrap();
            made.push(path.clone());
        }
        Groups(made)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // A process that has just ended may still be in it.
            for _ in 0..100 {
                if fs::remove_dir(path).is_ok() {
                    break;
                }
                sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Where a tree of control groups is mounted: the unified one, or that of `pids`.
fn trees() -> Vec<PathBuf> {
    let candidates = [
        ("/sys/fs/cgroup/unified", "cgroup.controllers"),
        ("/sys/fs/cgroup", "cgroup.controllers"),
        ("/sys/fs/cgroup/pids", "cgroup.procs"),
    ];
    let there = candidates.into_iter().filter(|(tree, file)| Path::new(tree).join(file).exists());
    there.map(|(tree, _)| PathBuf::from(tree)).collect()
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn unit_and_container_of_the_dead_are_those_that_proc_told() {
    let _alone = alone();
    if no_bash() {
        return;
    }
    let docker = format!("docker-{ID}.scope");
    let kubelet =
        format!("kubepods-besteffort-podc0ffee00-1111-2222-3333-444455556666.slice:cri-containerd:{ID}");
    let long = "n".repeat(200);
    let first = format!("tidewait-test-{}", std::process::id());
    let deep = ["a", "b", "c", "d", "e", "f", "g", "h", docker.as_str(), "init.scope"];
    let cases: [&[&str]; 6] = [
        &["system.slice", "x.service"],
        &["kubepods", &docker],
        &[&kubelet],
        &deep,
        &[&long, "y.service"],
        &["lxc.payload.web", "system.slice", "nginx.service"],
    ];
    let Some((mut bench, listener)) = Bench::start(&Wish::default(), everywhere) else { return };
    let port = listener.local_addr().unwrap().port();
    for tree in trees() {
        for names in cases {
            let names = [&[first.as_str()], names].concat();
            let groups = Groups::make(&tree, &names);
            let procs = groups.0.last().unwrap().join("cgroup.procs");
            let script = format!(
                "echo $$ >{} && exec 3<>/dev/tcp/127.0.0.1/{port} && echo $$ && cat /proc/self/cgroup",
                procs.display()
            );
            let output = bench.netns.command("bash").args(["-c", &script]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let (number, text) = text.split_once('\n').unwrap();
            let expected = Membership::parse(text);
            drop(groups);
            let number: u32 = number.parse().unwrap();
            let flows = bench.flows(Direction::Outgoing);
            let flow = flows.iter().find(|flow| pid(flow) == Some(number)).unwrap();
            let program = flow.program.as_ref().unwrap();
            assert_eq!(
                (&program.unit, &program.container),
                (&expected.unit, &expected.container),
                "{} in {}",
                names.join("/"),
                tree.display()
            );
            assert!(expected.unit.is_some() || expected.container.is_some(), "{text}");
        }
    }
}

/// With docker's cgroupfs driver on a hybrid machine the unified hierarchy names the daemon's unit, that of pids the
/// container.
#[test]
fn a_container_that_only_cgroup_v1_shows_is_found() {
    let _alone = alone();
    if no_bash() {
        return;
    }
    let Some((mut bench, listener)) = Bench::start(&Wish::default(), everywhere) else { return };
    let port = listener.local_addr().unwrap().port();
    let [unified, pids] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"].map(Path::new);
    if !unified.exists() || !pids.exists() {
        return skip("a_container_that_only_cgroup_v1_shows_is_found", "no hybrid machine");
    }
    let first = format!("tidewait-hybrid-{}", std::process::id());
    let daemon = Groups::make(unified, &[&first, "docker.service"]);
    let container = Groups::make(pids, &[&first, ID]);
    let script = format!(
        "for tree in {} {}; do echo $$ >$tree/cgroup.procs; done; exec 3<>/dev/tcp/127.0.0.1/{port}",
        daemon.0[1].display(),
        container.0[1].display()
    );
    assert!(bench.netns.command("bash").args(["-c", &script]).status().unwrap().success());
    let flows = bench.flows(Direction::Outgoing);
    assert_eq!(flows.len(), 1);
    let program = flows[0].program.as_ref().unwrap();
    assert_eq!((program.unit.as_deref(), program.container.as_deref()), (None, ID.get(..12)));
}

#[test]
fn control_groups_beyond_the_bound_are_counted_and_the_living_are_asked() {
    let _alone = alone();
    if no_bash() {
        return;
    }
    let wish = bounded(Bounds { groups: 1, ..Bounds::default() });
    let Some((mut bench, listener)) = Bench::start(&wish, everywhere) else { return };
    let port = listener.local_addr().unwrap().port();
    let Some(tree) = trees().into_iter().next() else { return };
    let docker = format!("docker-{ID}.scope");
    let first = format!("tidewait-bound-{}", std::process::id());
    let mut living = Vec::new();
    let mut groups = Vec::new();
    for number in 0..3 {
        let outer = format!("{first}-{number}");
        let made = Groups::make(&tree, &[&outer, &docker]);
        let procs = made.0.last().unwrap().join("cgroup.procs");
        let script =
            format!("echo $$ >{} && exec 3<>/dev/tcp/127.0.0.1/{port} && exec sleep 30", procs.display());
        let mut command: Command = bench.netns.command("bash");
        living.push(command.args(["-c", &script]).spawn().unwrap());
        groups.push(made);
    }
    for _ in &living {
        listener.accept().unwrap();
    }
    let losses = bench.tracer.losses();
    let flows = bench.flows(Direction::Outgoing);
    for child in &mut living {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(losses.groups >= 2, "{losses:?}");
    assert_eq!(flows.len(), 3);
    for flow in flows {
        assert_eq!(flow.program.unwrap().container.as_deref(), ID.get(..12));
    }
}

#[test]
fn an_address_is_where_it_was_asked_for() {
    let _alone = alone();
    let wish = Wish { binds: true, ..Wish::default() };
    let Some((mut bench, ())) = Bench::start(&wish, || ()) else { return };
    let any: SocketAddr = "0.0.0.0:7010".parse().unwrap();
    bench
        .netns
        .run(|| {
            let _taken = TcpListener::bind(any).unwrap();
            assert!(TcpListener::bind("127.0.0.9:7010").is_err());
        })
        .unwrap();
    let flows = bench.flows(Direction::Bind);
    let rows: Vec<_> = flows.iter().map(|flow| (flow.local.unwrap().ip.to_string(), flow.port)).collect();
    assert_eq!(rows, [("127.0.0.9".to_owned(), 7_010)]);
}

/// Starts a tracer with no other capabilities than these, on a thread of its own: each thread has its own.
fn start_with(effective: CapabilitySet) -> Result<(), Limit> {
    let start = move || {
        let sets = capabilities(None).unwrap();
        set_capabilities(None, CapabilitySets { effective, ..sets }).unwrap();
        Tracer::start(&bounded(Bounds::default())).map(drop).map_err(|refusal| refusal.limit)
    };
    std::thread::spawn(start).join().unwrap()
}

#[test]
fn a_missing_capability_is_named_and_those_named_suffice() {
    let _alone = alone();
    if !rustix::process::geteuid().is_root() {
        return skip("a_missing_capability_is_named_and_those_named_suffice", "takes root to give up");
    }
    let (bpf, perfmon) = (CapabilitySet::BPF, CapabilitySet::PERFMON);
    let refused = |effective| {
        let limit = start_with(effective).unwrap_err();
        assert_eq!((limit.what.as_str(), limit.hides), ("traced connections", Hides::Detail));
        (limit.why, limit.remedy.unwrap())
    };
    let (why, remedy) = refused(CapabilitySet::empty());
    assert!(why.contains("CAP_BPF") && why.contains("CAP_PERFMON"), "{why}");
    assert!(remedy.contains("CAP_BPF") && remedy.contains("CAP_PERFMON"), "{remedy}");
    assert_eq!(refused(bpf).0, "BPF is refused: CAP_PERFMON missing");
    assert_eq!(refused(perfmon).0, "BPF is refused: CAP_BPF missing");
    start_with(bpf | perfmon).unwrap();
}

#[test]
fn a_service_owns_the_socket_that_systemd_keeps_for_it() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let systemd = directory.path().join("systemd");
    // By a process beside: what this one has open for writing, forks of other tests would hold open (ETXTBSY).
    assert!(Command::new("cp").arg("/bin/sleep").arg(&systemd).status().unwrap().success());
    let hold = |program: &Path, listener: &TcpListener| {
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        Command::new(program).arg("30").stdin(socket).spawn().unwrap()
    };
    let prepare = || {
        let listener = everywhere();
        let address = (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
        (address, [hold(&systemd, &listener), hold(Path::new("/bin/sleep"), &listener)])
    };
    let Some((mut bench, (address, mut holders))) = Bench::start(&Wish::default(), prepare) else { return };
    let client = bench.netns.run(|| TcpStream::connect(address).unwrap()).unwrap();
    until(|| bench.sum(Direction::Incoming).accepts == 1);
    let incoming = bench.flows(Direction::Incoming);
    for holder in &mut holders {
        holder.kill().unwrap();
        holder.wait().unwrap();
    }
    assert_eq!(incoming.len(), 1);
    assert_eq!(pid(&incoming[0]), Some(holders[1].id()), "{incoming:?}");
    drop(client);
}

#[test]
fn a_listener_in_nobodys_files_still_tells_the_direction() {
    let _alone = alone();
    let prepare = || {
        let listener = everywhere();
        let address = (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        // A descriptor on its way from one process to another belongs to neither.
        let ends = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sent = [listener.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&sent)));
        rustix::net::sendmsg(&ends.0, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        // A namespace is found by the processes that live in it.
        let sleeper = Command::new("sleep").arg("30").spawn().unwrap();
        (address.1, client, server, (ends, sleeper))
    };
    let Some((mut bench, (port, client, server, (_ends, mut sleeper)))) =
        Bench::start(&Wish::default(), prepare)
    else {
        return;
    };
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    drop(server);
    drop(client);
    let incoming = bench.flows(Direction::Incoming);
    let rows: Vec<_> = incoming.iter().map(|flow| (flow.port, flow.counts.closed_here)).collect();
    assert_eq!(rows, [(port, 1)]);
    assert_eq!(pid(&incoming[0]), Some(std::process::id()), "{incoming:?}");
    assert_eq!(bench.flows(Direction::Outgoing).len(), 1);
}
