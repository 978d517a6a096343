//! Who it was: processes, heirs of descriptors, threads, processes that are gone, control groups, other namespaces.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tidewait_lab::{NetNs, scaled, skip};
use tidewait_model::trace::{Counts, Direction, Flow};
use tidewait_observe::trace::Kind;

use super::elsewhere::Elsewhere;
use super::sockets::{
    Fork, close, connect_and_close, drain, pair, pass, pause, queued, raw, set, socket, state, take, until,
};
use super::watch::{Place, Watch, places};

/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

fn place(port: u16) -> Place {
    places(port)[0].1
}

fn me() -> String {
    fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

/// The row of the owner with this command.
fn row(rows: &[Flow], command: &str, pid: u32) -> Counts {
    let of =
        |row: &&Flow| row.program.as_ref().is_some_and(|who| who.command == command && who.pid == Some(pid));
    let mut mine = rows.iter().filter(of);
    let row = mine.next().unwrap_or_else(|| panic!("no {command} {pid} in {rows:#?}"));
    assert!(mine.next().is_none(), "{rows:#?}");
    Counts { lived_ns: 0, ..row.counts }
}

/// Owner and closer, by command and process, of the one socket in TIME_WAIT.
fn waiting(watch: &mut Watch) -> [(String, Option<u32>); 2] {
    until("TIME_WAIT", || {
        watch.listen();
        watch.events.iter().any(|event| event.kind == Kind::TimeWait)
    });
    let cookie = watch.events.iter().find(|event| event.kind == Kind::TimeWait).unwrap().cookie;
    let note = watch.picture().waiting[&cookie];
    [note.owner, note.closer].map(|number| {
        let who = watch.program(number).unwrap();
        (who.command, who.pid)
    })
}

#[test]
fn an_heir_that_closes_last_is_the_closer_and_not_the_owner() {
    let Some(mut watch) = Watch::start("who::an_heir_that_closes_last_is_the_closer_and_not_the_owner")
    else {
        return;
    };
    let heir = watch
        .netns
        .run(|| {
            let pair = pair(place(20_000));
            let descriptor = pair.client.as_raw_fd();
            let others = [pair.server.as_raw_fd(), pair.listener.as_raw_fd()];
            let (mine, theirs) = UnixStream::pair().unwrap();
            let (mine_raw, go) = (mine.as_raw_fd(), theirs.as_raw_fd());
            let heir = Fork::of("heir", || {
                others.into_iter().for_each(close);
                close(mine_raw);
                // Until the parent has closed.
                take(go);
                close(descriptor);
                pause();
            });
            drop((pair.client, theirs));
            drop(mine);
            assert_eq!(drain(&pair.server), 0);
            heir
        })
        .unwrap();
    let pid = heir.pid();
    let rows = {
        until("FIN", || watch.counts(Direction::Outgoing, 20_000).time_wait == 1);
        watch.rows(Direction::Outgoing, 20_000)
    };
    assert_eq!(
        row(&rows, &me(), std::process::id()),
        Counts { connects: 1, time_wait: 1, ..Counts::default() }
    );
    assert_eq!(row(&rows, "heir", pid), Counts { closed_here: 1, aged: 1, ..Counts::default() });
    let own = (me(), Some(std::process::id()));
    assert_eq!(waiting(&mut watch), [own, ("heir".to_owned(), Some(pid))]);
    drop(heir);
}

#[test]
fn who_is_killed_or_ends_has_closed() {
    let Some(mut watch) = Watch::start("who::who_is_killed_or_ends_has_closed") else { return };
    // (port, killed)
    let mut pids = Vec::new();
    for (port, killed) in [(20_000, true), (20_001, false)] {
        let pid = watch
            .netns
            .run(|| {
                let pair = pair(place(port));
                let others = [pair.server.as_raw_fd(), pair.listener.as_raw_fd()];
                let child = Fork::of("holder", || {
                    others.into_iter().for_each(close);
                    if killed {
                        pause();
                    }
                });
                let pid = child.pid();
                drop(pair.client);
                if killed {
                    child.kill();
                } else {
                    child.wait();
                }
                assert_eq!(drain(&pair.server), 0);
                pid
            })
            .unwrap();
        pids.push((port, pid));
    }
    for (port, pid) in pids {
        until("TIME_WAIT", || watch.counts(Direction::Outgoing, port).time_wait == 1);
        let rows = watch.rows(Direction::Outgoing, port);
        // Of the one that ends by itself the parent may close last; then it is the closer.
        let closer = rows.iter().find(|row| row.counts.closed_here == 1).unwrap().program.clone().unwrap();
        if port == 20_000 {
            assert_eq!((closer.command.as_str(), closer.pid), ("holder", Some(pid)));
        } else {
            assert!(closer.pid == Some(pid) || closer.pid == Some(std::process::id()));
        }
        assert_eq!(watch.counts(Direction::Outgoing, port).closed(), 1);
    }
}

#[test]
fn a_descriptor_that_was_passed_is_closed_by_who_got_it() {
    let Some(mut watch) = Watch::start("who::a_descriptor_that_was_passed_is_closed_by_who_got_it") else {
        return;
    };
    let (mine, theirs) = UnixStream::pair().unwrap();
    let (from, unused) = (theirs.as_raw_fd(), mine.as_raw_fd());
    let child = Fork::of("getter", || {
        close(unused);
        let descriptor = take(from);
        // Until the parent has closed.
        take(from);
        close(descriptor);
    });
    let pid = child.pid();
    let netns = watch.netns.clone();
    netns
        .run(move || {
            let pair = pair(place(20_000));
            pass(&mine, pair.client.as_raw_fd());
            drop((pair.client, mine));
            assert_eq!(drain(&pair.server), 0);
        })
        .unwrap();
    child.wait();
    let own = (me(), Some(std::process::id()));
    let [owner, closer] = waiting(&mut watch);
    assert_eq!(owner, own);
    assert_eq!(closer, ("getter".to_owned(), Some(pid)));
}

#[test]
fn processes_that_are_gone_at_once_are_all_known() {
    let Some(mut watch) = Watch::counting("who::processes_that_are_gone_at_once_are_all_known") else {
        return;
    };
    let elsewhere = Elsewhere::begin(20_000..=20_000, &["lab", "brief"]);
    let unseen = || elsewhere.as_ref().map_or(0, |trace| trace.changes(20_000));
    let count = scaled(200);
    let pids = watch
        .netns
        .run(|| {
            let listener = TcpListener::bind(place(20_000).listen).unwrap();
            let descriptor = listener.as_raw_fd();
            let address = raw(place(20_000).connect);
            let mut pids = Vec::new();
            for _ in 0..count {
                let child = Fork::of("brief", || {
                    close(descriptor);
                    connect_and_close(&address);
                });
                pids.push(child.pid());
                let (server, _) = listener.accept().unwrap();
                child.wait();
                assert_eq!(drain(&server), 0);
            }
            pids
        })
        .unwrap();
    let one = Counts { connects: 1, closed_here: 1, time_wait: 1, aged: 1, ..Counts::default() };
    let mut rows = Vec::new();
    until("each to be known by its whole connection", || {
        rows = watch.rows(Direction::Outgoing, 20_000);
        let whole = rows.iter().filter(|row| Counts { lived_ns: 0, ..row.counts } == one).count() as u64;
        whole + unseen() >= count
    });
    // The begin is within their own system call: no one of them is missing.
    for pid in &pids {
        assert_eq!(row(&rows, "brief", *pid).connects, 1);
    }
    assert_eq!(rows.len() as u64, count);
    // Not a name for this process, which accepted all.
    let served = watch.rows(Direction::Incoming, 20_000);
    let accepts = row(&served, &me(), std::process::id()).accepts;
    assert!(accepts <= count && accepts + unseen() >= count, "{accepts}, {} elsewhere", unseen());
}

#[test]
fn programs_that_are_started_and_gone_are_called_by_their_own_name() {
    let name = "who::programs_that_are_started_and_gone_are_called_by_their_own_name";
    let Some(mut watch) = Watch::start(name) else { return };
    let Some(busybox) = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists())
    else {
        return skip(name, "no busybox");
    };
    let count = scaled(30);
    let listener = watch.netns.run(|| TcpListener::bind(place(20_000).listen)).unwrap().unwrap();
    let mut pids = Vec::new();
    for _ in 0..count {
        let mut command = watch.netns.command(busybox);
        command.args(["nc", "127.0.0.1", "20000"]).stdin(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let (server, _) = listener.accept().unwrap();
        drop(server);
        pids.push(child.id());
        child.wait().unwrap();
    }
    until("the ends", || watch.counts(Direction::Outgoing, 20_000).closed() == count);
    let rows = watch.rows(Direction::Outgoing, 20_000);
    for pid in pids {
        // The name that the process had when it connected: that of the file, as it was started.
        let who = rows.iter().find(|row| row.program.as_ref().unwrap().pid == Some(pid)).unwrap();
        assert_eq!(who.program.as_ref().unwrap().command, "busybox");
        assert_eq!(who.counts.connects, 1);
    }
}

#[test]
fn what_was_there_before_is_told_by_direction_and_closer() {
    let name = "who::what_was_there_before_is_told_by_direction_and_closer";
    let before = || (0..4).map(|port| pair(place(20_000 + port))).collect::<Vec<_>>();
    let Some((mut watch, pairs)) = Watch::start_after(name, before) else { return };
    watch
        .netns
        .run(|| {
            let mut all = pairs.into_iter();
            // Client first, server first, RST, and a new connection to the listener that was there.
            let one = all.next().unwrap();
            super::sockets::send(&one.client, 5);
            drop(one.client);
            assert_eq!(drain(&one.server), 5);
            let two = all.next().unwrap();
            drop(two.server);
            assert_eq!(drain(&two.client), 0);
            let three = all.next().unwrap();
            super::sockets::linger_zero(&three.server);
            drop(three.server);
            super::sockets::until_state(&three.client, 7);
            let four = all.next().unwrap();
            let client = TcpStream::connect(place(20_003).connect).unwrap();
            let (server, _) = four.listener.accept().unwrap();
            drop(server);
            assert_eq!(drain(&client), 0);
            // The one from before ends too, its client first.
            drop(four.client);
            assert_eq!(drain(&four.server), 0);
        })
        .unwrap();
    let of = |watch: &mut Watch, direction, port| {
        let counts = watch.counts(direction, port);
        (counts.accepts, counts.closed_here, counts.closed_there, counts.aborted_here, counts.aborted_there)
    };
    use Direction::{Incoming, Outgoing};
    let right = [
        (Outgoing, 20_000, (0, 1, 0, 0, 0)),
        (Incoming, 20_000, (0, 0, 1, 0, 0)),
        (Outgoing, 20_001, (0, 0, 1, 0, 0)),
        (Incoming, 20_001, (0, 1, 0, 0, 0)),
        (Outgoing, 20_002, (0, 0, 0, 0, 1)),
        (Incoming, 20_002, (0, 0, 0, 1, 0)),
        (Incoming, 20_003, (1, 1, 1, 0, 0)),
        (Outgoing, 20_003, (0, 1, 1, 0, 0)),
    ];
    // The last of all was a FIN; nothing comes after it.
    until("the last", || of(&mut watch, Incoming, 20_003).1 == 1);
    for (direction, port, counts) in right {
        assert_eq!(of(&mut watch, direction, port), counts, "{direction:?} {port}");
    }
    let bytes = (watch.counts(Outgoing, 20_000).sent, watch.counts(Incoming, 20_000).received);
    assert_eq!(bytes, (5, 5));
}

#[test]
fn namespaces_are_kept_apart() {
    let Some(mut watch) = Watch::counting("who::namespaces_are_kept_apart") else { return };
    let other = NetNs::new().unwrap();
    for (netns, times) in [(&watch.netns, 2), (&other, 3)] {
        netns
            .run(|| {
                for _ in 0..times {
                    let pair = pair(place(20_000));
                    drop(pair.client);
                    drain(&pair.server);
                }
            })
            .unwrap();
    }
    for (netns, times) in [(watch.netns.inode(), 2), (other.inode(), 3)] {
        until("TIME_WAIT", || {
            let flows = watch.picture().flows;
            let here = flows.iter().filter(|(inode, _)| u64::from(*inode) == netns);
            here.map(|(_, flow)| flow.counts.time_wait).sum::<u64>() == times
        });
    }
}

/// Where the unified control groups are mounted, if they may be written.
fn unified() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = fields.find(|fields| fields.get(2) == Some(&"cgroup2"))?[1].to_owned();
    Some(PathBuf::from(mount))
}

/// Removed when dropped.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_control_group_is_known_by_name_when_it_is_gone() {
    let name = "who::a_control_group_is_known_by_name_when_it_is_gone";
    let Some(mut watch) = Watch::start(name) else { return };
    let Some(root) = unified() else { return skip(name, "no unified control groups") };
    let group = Group(root.join(format!("tidewait-{}.service", std::process::id())));
    if let Err(error) = fs::create_dir(&group.0) {
        return skip(name, format!("{}: {error}", group.0.display()));
    }
    let pid = watch
        .netns
        .run(|| {
            let listener = TcpListener::bind(place(20_000).listen).unwrap();
            let descriptor = listener.as_raw_fd();
            let address = raw(place(20_000).connect);
            let (mine, theirs) = UnixStream::pair().unwrap();
            let (mine_raw, go) = (mine.as_raw_fd(), theirs.as_raw_fd());
            let child = Fork::of("member", || {
                close(descriptor);
                close(mine_raw);
                take(go);
                connect_and_close(&address);
            });
            fs::write(group.0.join("cgroup.procs"), child.pid().to_string()).unwrap();
            drop((mine, theirs));
            let (server, _) = listener.accept().unwrap();
            assert_eq!(drain(&server), 0);
            let pid = child.pid();
            child.wait();
            pid
        })
        .unwrap();
    let unit = group.0.file_name().unwrap().to_string_lossy().into_owned();
    let path = group.0.clone();
    drop(group);
    until("the group to go", || {
        fs::remove_dir(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    });
    let rows = watch.rows(Direction::Outgoing, 20_000);
    assert_eq!(row(&rows, "member", pid).connects, 1);
    assert_eq!(rows[0].program.as_ref().unwrap().unit.as_deref(), Some(unit.as_str()));
}

#[test]
fn of_those_that_share_a_port_each_has_its_own_connections() {
    let Some(mut watch) = Watch::start("who::of_those_that_share_a_port_each_has_its_own_connections") else {
        return;
    };
    let (listeners, queued, _clients) = watch
        .netns
        .run(|| {
            let place = place(20_000);
            let listeners = ["first", "second", "third"].map(|name| {
                let listener = socket(place.listen);
                set(&listener, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).unwrap();
                rustix::net::bind(&listener, &place.listen).unwrap();
                let fork = Fork::of(name, || {
                    rustix::net::listen(&listener, 64).unwrap();
                    pause();
                });
                until("listening", || state(&listener) == LISTEN);
                (name, fork, listener)
            });
            let clients: Vec<TcpStream> =
                (0..60).map(|_| TcpStream::connect(place.connect).unwrap()).collect();
            // The last packet of a handshake may still be on its way.
            until("accepted", || {
                listeners.iter().map(|(_, _, listener)| queued(listener)).sum::<u32>() == 60
            });
            let queued = listeners.each_ref().map(|(_, _, listener)| queued(listener));
            (listeners, queued, clients)
        })
        .unwrap();
    let rows = watch.rows(Direction::Incoming, 20_000);
    // The kernel spreads them by a hash of their addresses.
    assert!(queued.iter().filter(|count| **count > 0).count() >= 2, "{queued:?}");
    for ((name, fork, _), queued) in listeners.iter().zip(queued).filter(|(_, queued)| *queued > 0) {
        let expected = Counts { accepts: u64::from(queued), ..Counts::default() };
        assert_eq!(row(&rows, name, fork.pid()), expected, "{name}");
    }
}
