//! Probes of sock_diag: what a dump shows, which sockets can be destroyed.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;
use tidewait_model::{AddressFilter, State};

use super::diag::{self, Socket};
use super::sandbox::Namespace;
use super::settings::{Option32, bound, connect, set};
use super::{Answer, Bench, Doing, Failure, Spec};
use crate::sock_diag::Family;

const INET_DIAG: &str = "CONFIG_INET_DIAG and CONFIG_INET_TCP_DIAG (modprobe tcp_diag)";
const DESTROY: &str = "a kernel built with CONFIG_INET_DIAG_DESTROY";
const ADMIN: CapabilitySet = CapabilitySet::NET_ADMIN;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) const DUMPS: &[Spec] = &[
    Spec {
        id: "diag-dump-ipv4",
        title: "list TCP sockets over IPv4 by sock_diag",
        enables: "report, reap, agent: the count of everything",
        needs: CapabilitySet::empty(),
        remedy: INET_DIAG,
        run: |bench| dump_finds_a_pair(bench, LOOPBACK),
    },
    Spec {
        id: "diag-dump-ipv6",
        title: "list TCP sockets over IPv6 by sock_diag",
        enables: "report: IPv6, and IPv4 spoken through IPv6 sockets",
        needs: CapabilitySet::empty(),
        remedy: "a kernel with IPv6 that is not switched off (ipv6.disable, net.ipv6.conf.*.disable_ipv6)",
        run: |bench| dump_finds_a_pair(bench, IpAddr::V6(Ipv6Addr::LOCALHOST)),
    },
];

pub(super) const SPECS: &[Spec] = &[
    Spec {
        id: "diag-bound-inactive",
        title: "see sockets that hold a port without a connection",
        enables: "report: ports taken by bind() alone",
        needs: CapabilitySet::empty(),
        remedy: "Linux 6.8",
        run: |_| bound_inactive(),
    },
    Spec {
        id: "diag-cgroup-id",
        title: "the cgroup of a socket in the dump",
        enables: "report: whose sockets, without a walk through /proc",
        needs: CapabilitySet::empty(),
        remedy: "Linux 5.8 with CONFIG_SOCK_CGROUP_DATA",
        run: |_| cgroup_told(),
    },
    Spec {
        id: "diag-sockopt",
        title: "the options of a socket in the dump",
        enables: "report: whether bind() or connect() chose the port",
        needs: CapabilitySet::empty(),
        remedy: "Linux 5.11",
        run: |_| options_told(),
    },
    Spec {
        id: "diag-filter",
        title: "the kernel filters the dump",
        enables: "report --to, reap: only the sockets asked for cross over",
        needs: CapabilitySet::empty(),
        remedy: INET_DIAG,
        run: |_| filter_honoured(),
    },
    Spec {
        id: "cookie-into-time-wait",
        title: "a socket keeps its cookie when it goes into TIME_WAIT",
        enables: "trace, report: the owner of a TIME_WAIT socket",
        needs: CapabilitySet::empty(),
        remedy: "Linux 4.1",
        run: |_| cookie_kept(),
    },
    Spec {
        id: "destroy-established",
        title: "destroy an ESTABLISHED socket",
        enables: "kill connections that a leak keeps open",
        needs: ADMIN,
        remedy: DESTROY,
        run: |_| destroy_established(),
    },
    Spec {
        id: "destroy-time-wait",
        title: "destroy a TIME_WAIT socket",
        enables: "reap: a shorter TIME_WAIT",
        needs: ADMIN,
        remedy: "Linux 6.0, built with CONFIG_INET_DIAG_DESTROY",
        run: |_| destroy_time_wait(),
    },
    Spec {
        id: "destroy-fin-wait2",
        title: "destroy an orphaned FIN_WAIT2 socket",
        enables: "reap: sockets whose peer never closes",
        needs: ADMIN,
        remedy: "Linux 6.0, built with CONFIG_INET_DIAG_DESTROY",
        run: |_| destroy_fin_wait2(),
    },
    Spec {
        id: "destroy-request",
        title: "destroy a connection request (SYN_RECV)",
        enables: "clear a backlog of half-open connections",
        needs: ADMIN,
        remedy: DESTROY,
        run: |_| destroy_request(),
    },
];

/// Both ends of a connection over loopback.
struct Pair {
    /// The end that connected.
    client: TcpStream,
    /// The end that accepted.
    server: TcpStream,
    /// Port of the client, port of the server.
    ports: (u16, u16),
}

impl Pair {
    fn new(address: IpAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let (server, _) = listener.accept()?;
        let ports = (client.local_addr()?.port(), client.peer_addr()?.port());
        Ok(Self { client, server, ports })
    }

    /// The client closes first, so its end goes into TIME_WAIT.
    fn into_time_wait(self) -> Result<Socket, Failure> {
        drop(self.client);
        let mut server = self.server;
        server.read_to_end(&mut Vec::new()).doing("waiting for the peer's FIN")?;
        drop(server);
        wait_for(&[State::TimeWait], self.ports)
    }
}

/// The socket with these ports in one of these states.
fn find(states: &[State], ports: (u16, u16)) -> Result<Option<Socket>, Failure> {
    let sockets = diag::dump(Family::V4, states, None)?;
    Ok(sockets.into_iter().find(|socket| socket.ports() == ports))
}

/// A change of state crosses loopback at once, but in softirq: it may be a moment late.
fn wait_for(states: &[State], ports: (u16, u16)) -> Result<Socket, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) {
        if let Some(socket) = find(states, ports)? {
            return Ok(socket);
        }
        sleep(Duration::from_millis(1));
    }
    Err(Failure::Unknown(format!("no socket {} -> {} came into the state wanted", ports.0, ports.1)))
}

fn dump_finds_a_pair(bench: &Bench, address: IpAddr) -> Answer {
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    if let Namespace::Refused(_) = bench.namespace {
        // Looking changes nothing, so it can be done where the caller stands; making a connection cannot.
        let listeners = diag::dump(family, &[State::Listen], None)?;
        return Ok(format!("answered with {} listeners, in this namespace", listeners.len()));
    }
    let pair = match Pair::new(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            return Err(Failure::Unsupported(format!("no address {address} on a new loopback device")));
        }
        other => other.doing("a connection over loopback")?,
    };
    let sockets = diag::dump(family, &[State::Established], None)?;
    let (client, server) = pair.ports;
    let both = [(client, server), (server, client)];
    let seen = sockets.iter().filter(|socket| both.contains(&socket.ports())).count();
    if seen == 2 {
        Ok("both ends of a connection found".to_owned())
    } else {
        Err(Failure::Unknown(format!("{seen} of 2 ends of a connection found in {} rows", sockets.len())))
    }
}

fn bound_inactive() -> Answer {
    // std listens as soon as it binds; a socket that only binds is made by hand.
    let (socket, port) = bound().doing("bind")?;
    let listed = diag::dump(Family::V4, &[State::BoundInactive], None)?;
    drop(socket);
    if listed.iter().any(|socket| socket.local.port == port) {
        Ok("a socket after bind() is listed".to_owned())
    } else {
        Err(Failure::Unsupported("a socket after bind() is not listed".to_owned()))
    }
}

/// The row of a connection just made.
fn established() -> Result<Socket, Failure> {
    let pair = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    wait_for(&[State::Established], pair.ports)
}

fn cgroup_told() -> Answer {
    match established()?.cgroup_id {
        Some(id) => Ok(format!("cgroup id {id}")),
        None => Err(Failure::Unsupported("the row of an ESTABLISHED socket has none".to_owned())),
    }
}

fn options_told() -> Answer {
    if established()?.options {
        Ok("option bits are there".to_owned())
    } else {
        Err(Failure::Unsupported("the row of an ESTABLISHED socket has none".to_owned()))
    }
}

fn filter_honoured() -> Answer {
    let wanted = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    let other = Pair::new(LOOPBACK).doing("another connection over loopback")?;
    let to = AddressFilter { ip: LOOPBACK, port: Some(wanted.ports.1) };
    let found = diag::dump(Family::V4, &[State::Established], Some(to))?;
    drop(other);
    match found.as_slice() {
        [one] if one.ports() == wanted.ports => {
            Ok("of two connections, the one asked for came back".to_owned())
        }
        _ => Err(Failure::Unsupported(format!("asked for one socket of four, got {}", found.len()))),
    }
}

fn cookie_kept() -> Answer {
    let pair = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    let before = wait_for(&[State::Established], pair.ports)?.cookie;
    let after = pair.into_time_wait()?.cookie;
    if before == after {
        Ok(format!("cookie {before:#x} in ESTABLISHED and in TIME_WAIT"))
    } else {
        Err(Failure::Unsupported(format!("cookie {before:#x} in ESTABLISHED, {after:#x} in TIME_WAIT")))
    }
}

/// Destroys the socket and looks that no socket of that cookie is left in any of the states.
fn destroyed(socket: &Socket, states: &[State]) -> Result<(), Failure> {
    diag::destroy(socket).doing("SOCK_DESTROY")?;
    let left = diag::dump(Family::V4, states, None)?;
    if left.iter().any(|other| other.cookie == socket.cookie) {
        return Err(Failure::Unsupported(
            "SOCK_DESTROY reported success, but the socket is still there".to_owned(),
        ));
    }
    Ok(())
}

fn destroy_established() -> Answer {
    let mut pair = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    destroyed(&wait_for(&[State::Established], pair.ports)?, &[State::Established])?;
    match pair.client.read_exact(&mut [0]) {
        Err(error) => Ok(format!("gone; its program sees \"{error}\"")),
        Ok(()) => Ok("gone".to_owned()),
    }
}

fn destroy_time_wait() -> Answer {
    let socket = Pair::new(LOOPBACK).doing("a connection over loopback")?.into_time_wait()?;
    destroyed(&socket, &[State::TimeWait])?;
    Ok("made one, destroyed it by cookie, it is gone".to_owned())
}

fn destroy_fin_wait2() -> Answer {
    let Pair { client, server, ports } = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    drop(client);
    let socket = wait_for(&[State::FinWait2], ports)?;
    destroyed(&socket, &[State::FinWait2])?;
    drop(server);
    Ok(if socket.small {
        "made one (a mini-socket), destroyed it by cookie, it is gone".to_owned()
    } else {
        "made one, destroyed it by cookie, it is gone".to_owned()
    })
}

fn destroy_request() -> Answer {
    // With TCP_DEFER_ACCEPT the request outlives the handshake until data come.
    let listener = TcpListener::bind((LOOPBACK, 0)).doing("listen")?;
    set(listener.as_fd(), Option32::TCP_DEFER_ACCEPT, 30).doing("TCP_DEFER_ACCEPT")?;
    let address = listener.local_addr().doing("getsockname")?;
    let client = connect(address, &[]).doing("a connection over loopback")?;
    let ports = (address.port(), client.local_addr().doing("getsockname")?.port());
    let states = [State::SynRecv, State::NewSynRecv];
    destroyed(&wait_for(&states, ports)?, &states)?;
    Ok("made one, destroyed it by cookie, it is gone".to_owned())
}
