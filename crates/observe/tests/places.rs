//! Namespaces on a running kernel. Each test makes its own and removes them; without root they are skipped.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "helpers of tests may fail like tests"
)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidewait_observe::places::{Kind, Place, PlaceError, Places, Scope, find};
use tidewait_observe::procfs::{counters, settings};

const ROOT: &str = "/";

/// Tells whether namespaces can be made, and says so where they cannot.
fn can_make_namespaces() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: making network namespaces takes root");
    }
    root
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().expect("ip (package iproute2)");
    assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Names under /run/netns that are removed on drop.
struct Names(Vec<String>);

impl Names {
    fn add(count: u32) -> Names {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let group = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let names = Names((0..count).map(|number| format!("tw-places-{pid}-{group}-{number}")).collect());
        names.batch("add");
        names
    }

    /// Does the same to all of them by one `ip`.
    fn batch(&self, verb: &str) {
        use std::io::Write;
        let mut ip = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("ip (package iproute2)");
        let lines: String = self.0.iter().map(|name| format!("netns {verb} {name}\n")).collect();
        ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        ip.wait().unwrap();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
        }
    }
}

/// A process in a network namespace of its own that has no name; ended on drop.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Sleeper {
        let child =
            Command::new("unshare").args(["--net", "sleep", "60"]).spawn().expect("unshare (util-linux)");
        let sleeper = Sleeper(child);
        let own = link("/proc/self/ns/net");
        let end = Instant::now() + Duration::from_secs(10);
        while link(&format!("/proc/{}/ns/net", sleeper.0.id())) == own || sleeper.command() != "sleep" {
            assert!(Instant::now() < end, "unshare did not start");
            std::thread::sleep(Duration::from_millis(2));
        }
        sleeper
    }

    fn command(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/comm", self.0.id())).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn link(path: &str) -> String {
    std::fs::read_link(path).map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

fn here() -> String {
    link("/proc/thread-self/ns/net")
}

fn all() -> Places {
    find(Path::new(ROOT), &Scope::All).unwrap()
}

fn one(name: &str) -> Result<Place, PlaceError> {
    find(Path::new(ROOT), &Scope::One(name.to_owned())).map(|mut found| found.places.remove(0))
}

#[test]
fn a_named_namespace_is_found_and_entered_and_the_caller_stays_where_it_is() {
    if !can_make_namespaces() {
        return;
    }
    let names = Names::add(2);
    let before = here();
    let places = all().places;
    for name in &names.0 {
        let place = places.iter().find(|place| place.name == *name).unwrap();
        assert_eq!((place.kind, place.own, place.leader), (Kind::Named, false, None));
        assert_eq!(place.enter(here), Ok(format!("net:[{}]", place.inode)));
        assert_eq!(one(name).unwrap(), *place);
        assert_eq!(one(&format!("net:[{}]", place.inode)).unwrap(), *place);
    }
    assert_eq!(here(), before);
    let own = places.iter().find(|place| place.own).unwrap();
    let caller = std::thread::current().id();
    assert_eq!(own.enter(|| std::thread::current().id()), Ok(caller), "the own namespace needs no thread");
}

#[test]
fn two_hundred_namespaces_are_each_found_and_read() {
    if !can_make_namespaces() {
        return;
    }
    let names = Names::add(200);
    let start = Instant::now();
    let found = all();
    let finding = start.elapsed();
    let ours: Vec<&Place> = found.places.iter().filter(|place| names.0.contains(&place.name)).collect();
    assert_eq!(ours.len(), 200);
    let inodes: BTreeSet<u64> = found.places.iter().map(|place| place.inode).collect();
    assert_eq!(inodes.len(), found.places.len(), "each namespace once");

    let start = Instant::now();
    for place in &ours {
        place.enter(|| ()).unwrap();
    }
    let entering = start.elapsed() / 200;
    let start = Instant::now();
    for place in &ours {
        let (settings, limits) = place.enter(|| settings(Path::new(ROOT))).unwrap();
        assert_eq!(limits, []);
        assert!(settings.port_range().is_some() && settings.number("net.ipv4.tcp_max_orphans").is_none());
    }
    let settings = start.elapsed() / 200;
    let start = Instant::now();
    for place in &ours {
        let (counters, limits) = place.enter(|| counters(Path::new(ROOT))).unwrap();
        assert_eq!((counters["sockstat.TCP.tw"], limits.len()), (0, 0));
    }
    let counters = start.elapsed() / 200;
    eprintln!(
        "find {finding:?} for {}; a namespace: enter {entering:?}, settings {settings:?}, counters {counters:?}",
        found.places.len()
    );
}

#[test]
fn a_namespace_without_a_name_is_found_by_the_process_in_it() {
    if !can_make_namespaces() {
        return;
    }
    let sleeper = Sleeper::start();
    let pid = sleeper.0.id();
    let inode = link(&format!("/proc/{pid}/ns/net"));
    let place = one(&pid.to_string()).unwrap();
    assert_eq!(format!("net:[{}]", place.inode), inode);
    assert_eq!(place.leader, Some(pid));
    assert!(place.kind == Kind::Group || place.name == format!("sleep[{pid}]"), "{place:?}");
    assert_eq!(place.enter(here), Ok(inode));
    let leaders = |other: &Place| (other.inode, other.leader) == (place.inode, Some(pid));
    assert!(all().places.iter().any(leaders));

    drop(sleeper);
    assert_eq!(place.enter(|| ()), Err(PlaceError::Vanished { name: place.name.clone() }));
    assert_eq!(one(&pid.to_string()), Err(PlaceError::NoProcess { pid }));
}

#[test]
fn a_namespace_that_goes_between_finding_and_entering_is_gone_and_nothing_else() {
    if !can_make_namespaces() {
        return;
    }
    let names = Names::add(2);
    let places: Vec<Place> = names.0.iter().map(|name| one(name).unwrap()).collect();
    ip(&["netns", "delete", &names.0[0]]);
    assert_eq!(places[0].enter(|| ()), Err(PlaceError::Vanished { name: names.0[0].clone() }));
    assert!(places[0].enter(|| ()).unwrap_err().limit().why.contains("ended"));

    // The mount goes, the file stays: what is left after a crash, or in a mount namespace of its own.
    let file = format!("/run/netns/{}", names.0[1]);
    assert!(Command::new("umount").arg(&file).status().unwrap().success());
    assert!(matches!(places[1].enter(|| ()), Err(PlaceError::Vanished { .. })));
    assert!(matches!(one(&names.0[1]), Err(PlaceError::NotANamespace { .. })));
    let limits = all().limits;
    let limit = limits.iter().find(|limit| limit.what.contains(&names.0[1])).unwrap();
    assert_eq!(limit.remedy, Some(format!("ip netns delete {}", names.0[1])));
}

#[test]
fn a_namespace_of_another_kind_is_refused() {
    if !can_make_namespaces() {
        return;
    }
    let names = Names::add(1);
    let file = format!("/run/netns/{}", names.0[0]);
    assert!(Command::new("umount").arg(&file).status().unwrap().success());
    assert!(Command::new("mount").args(["--bind", "/proc/self/ns/uts", &file]).status().unwrap().success());
    let entered = one(&names.0[0]).and_then(|place| place.enter(|| ()));
    assert!(matches!(entered, Err(PlaceError::NotANamespace { .. })), "{entered:?}");
}

#[test]
fn inside_a_namespace_auto_means_that_one_by_its_name() {
    if !can_make_namespaces() {
        return;
    }
    let names = Names::add(1);
    let outer = find(Path::new(ROOT), &Scope::Auto).unwrap();
    let initial = Path::new("/proc/sys/net/ipv4/tcp_max_orphans").exists();
    assert_eq!(outer.places.iter().any(|place| place.name == names.0[0]), initial);
    let place = one(&names.0[0]).unwrap();
    let inner = place.enter(|| find(Path::new(ROOT), &Scope::Auto)).unwrap().unwrap();
    assert_eq!((inner.places.len(), inner.limits.len()), (1, 0), "{inner:?}");
    assert_eq!((&inner.places[0].name, inner.places[0].own), (&names.0[0], true));

    // The place that was found as its own by a thread inside is entered anew by a thread outside.
    assert_eq!(inner.places[0].enter(here), Ok(format!("net:[{}]", place.inode)));
    if initial {
        let back = place.enter(|| one("host").and_then(|host| host.enter(here))).unwrap();
        assert_eq!(back, Ok(here()));
    }
}

#[test]
fn settings_and_counters_are_those_of_the_namespace() {
    if !can_make_namespaces() {
        return;
    }
    let names = Names::add(1);
    let place = one(&names.0[0]).unwrap();
    let odd: String = (0..5_000).map(|port| format!("{},", 2 * port + 1)).collect();
    let odd = odd.trim_end_matches(',');
    let (inside, inside_counters) = place
        .enter(|| {
            let write = |name: &str, value: &str| {
                std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
            };
            write("ip_local_port_range", "20000 29999");
            write("ip_local_reserved_ports", odd);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let read = (settings(Path::new(ROOT)).0, counters(Path::new(ROOT)).0);
            drop(listener);
            read
        })
        .unwrap();
    assert_eq!(inside.text("net.ipv4.ip_local_port_range"), Some("20000 29999"));
    assert_eq!(inside.text("net.ipv4.ip_local_reserved_ports"), Some(odd));
    assert_eq!(inside_counters["sockstat.TCP.inuse"], 1);
    assert_eq!(inside_counters["Tcp.ActiveOpens"], 0);
    let (outside, _) = settings(Path::new(ROOT));
    assert_ne!(outside.text("net.ipv4.ip_local_reserved_ports"), Some(odd));
}

#[test]
fn finding_and_entering_go_on_while_namespaces_come_and_go() {
    if !can_make_namespaces() {
        return;
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..8 {
                drop((Names::add(10), Sleeper::start()));
            }
            ended.store(true, Ordering::Relaxed);
        });
        while !ended.load(Ordering::Relaxed) {
            for place in all().places {
                let ours = place.name.starts_with("tw-places-") || place.name.starts_with("sleep[");
                match place.enter(|| (here(), settings(Path::new(ROOT)))) {
                    Ok((inside, (_, limits))) => {
                        assert_eq!(inside, format!("net:[{}]", place.inode));
                        assert_eq!(limits, []);
                    }
                    Err(PlaceError::Vanished { .. } | PlaceError::NotPermitted { .. }) if !place.own => {}
                    Err(error) => assert!(!ours, "{error}"),
                }
            }
        }
    });
}

#[test]
fn a_panic_inside_goes_on_outside() {
    if !can_make_namespaces() {
        return;
    }
    let names = Names::add(1);
    let place = one(&names.0[0]).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| place.enter(|| panic!("inside"))));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "inside");
}
