//! Probes of sock_diag: what a dump shows, which sockets can be destroyed.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::diag::{self, Row};
use super::sandbox::Namespace;
use super::settings::{Option32, connect, set};
use super::{Answer, Bench, Doing, Failure, Spec};

const INET_DIAG: &str = "CONFIG_INET_DIAG and CONFIG_INET_TCP_DIAG (modprobe tcp_diag)";
const DESTROY: &str = "a kernel built with CONFIG_INET_DIAG_DESTROY";
const ADMIN: &[&str] = &["CAP_NET_ADMIN"];
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) const DUMPS: &[Spec] = &[
    Spec {
        id: "diag-dump-ipv4",
        title: "list TCP sockets over IPv4 by sock_diag",
        enables: "report, reap, agent: the count of everything",
        needs: &[],
        remedy: INET_DIAG,
        run: |bench| dump_finds_a_pair(bench, LOOPBACK),
    },
    Spec {
        id: "diag-dump-ipv6",
        title: "list TCP sockets over IPv6 by sock_diag",
        enables: "report: IPv6, and IPv4 spoken through IPv6 sockets",
        needs: &[],
        remedy: "a kernel with IPv6 that is not switched off (ipv6.disable, net.ipv6.conf.*.disable_ipv6)",
        run: |bench| dump_finds_a_pair(bench, IpAddr::V6(Ipv6Addr::LOCALHOST)),
    },
];

pub(super) const SPECS: &[Spec] = &[
    Spec {
        id: "diag-bound-inactive",
        title: "see sockets that hold a port without a connection",
        enables: "report: ports taken by bind() alone",
        needs: &[],
        remedy: "Linux 6.8",
        run: |_| bound_inactive(),
    },
    Spec {
        id: "diag-cgroup-id",
        title: "the cgroup of a socket in the dump",
        enables: "report: whose sockets, without a walk through /proc",
        needs: &[],
        remedy: "Linux 5.8 with CONFIG_SOCK_CGROUP_DATA",
        run: |_| attribute_present(diag::INET_DIAG_CGROUP_ID, "cgroup id"),
    },
    Spec {
        id: "diag-sockopt",
        title: "the options of a socket in the dump",
        enables: "report: whether bind() or connect() chose the port",
        needs: &[],
        remedy: "Linux 5.11",
        run: |_| attribute_present(diag::INET_DIAG_SOCKOPT, "option bits"),
    },
    Spec {
        id: "diag-filter",
        title: "the kernel filters the dump",
        enables: "report --to, reap: only the rows asked for cross over",
        needs: &[],
        remedy: INET_DIAG,
        run: |_| filter_honoured(),
    },
    Spec {
        id: "cookie-into-time-wait",
        title: "a socket keeps its cookie when it goes into TIME_WAIT",
        enables: "trace, report: the owner of a TIME_WAIT socket",
        needs: &[],
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
    fn into_time_wait(self) -> Result<Row, Failure> {
        drop(self.client);
        let mut server = self.server;
        server.read_to_end(&mut Vec::new()).doing("waiting for the peer's FIN")?;
        drop(server);
        wait_for(&[diag::TIME_WAIT], self.ports)
    }
}

/// The socket with these ports in one of these states.
fn find(states: &[u8], ports: (u16, u16)) -> io::Result<Option<Row>> {
    let rows = diag::dump(libc::AF_INET, states, None)?;
    Ok(rows.into_iter().find(|row| (row.source_port(), row.destination_port()) == ports))
}

/// A change of state crosses loopback at once, but in softirq: it may be a moment late.
fn wait_for(states: &[u8], ports: (u16, u16)) -> Result<Row, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) {
        if let Some(row) = find(states, ports).doing("sock_diag dump")? {
            return Ok(row);
        }
        sleep(Duration::from_millis(1));
    }
    Err(Failure::Unknown(format!("no socket {} -> {} came into the state wanted", ports.0, ports.1)))
}

fn dump_finds_a_pair(bench: &Bench, address: IpAddr) -> Answer {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    if let Namespace::Refused(_) = bench.namespace {
        // Looking changes nothing, so it can be done where the caller stands; making a connection cannot.
        let rows = dump(family, diag::LISTEN)?;
        return Ok(format!("answered with {} listeners, in this namespace", rows.len()));
    }
    let pair = match Pair::new(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            return Err(Failure::Unsupported(format!("no address {address} on a new loopback device")));
        }
        other => other.doing("a connection over loopback")?,
    };
    let rows = dump(family, diag::ESTABLISHED)?;
    let (client, server) = pair.ports;
    let both = [(client, server), (server, client)];
    let seen = rows.iter().filter(|row| both.contains(&(row.source_port(), row.destination_port()))).count();
    if seen == 2 {
        Ok("both ends of a connection found".to_owned())
    } else {
        Err(Failure::Unknown(format!("{seen} of 2 ends of a connection found in {} rows", rows.len())))
    }
}

fn dump(family: i32, state: u8) -> Result<Vec<Row>, Failure> {
    match diag::dump(family, &[state], None) {
        // What the kernel answers when no handler for TCP is built in or can be loaded.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Err(Failure::Unsupported("the kernel has no sock_diag for TCP (ENOENT)".to_owned()))
        }
        other => other.doing("sock_diag dump"),
    }
}

fn bound_inactive() -> Answer {
    // std listens as soon as it binds; a socket that only binds is made by hand.
    let (socket, port) = super::settings::bound().doing("bind")?;
    let rows = diag::dump(libc::AF_INET, &[diag::BOUND_INACTIVE], None).doing("sock_diag dump")?;
    drop(socket);
    if rows.iter().any(|row| row.source_port() == port) {
        Ok("a socket after bind() is listed".to_owned())
    } else {
        Err(Failure::Unsupported("a socket after bind() is not listed".to_owned()))
    }
}

fn attribute_present(kind: u16, name: &str) -> Answer {
    let pair = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    let row = wait_for(&[diag::ESTABLISHED], pair.ports)?;
    match row.attribute(kind) {
        Some(payload) => Ok(format!("{name} in {} bytes", payload.len())),
        None => Err(Failure::Unsupported(format!("the row of an ESTABLISHED socket has no {name}"))),
    }
}

fn filter_honoured() -> Answer {
    let listeners = [(); 2].map(|()| TcpListener::bind((LOOPBACK, 0)));
    let mut ports = Vec::new();
    for listener in &listeners {
        let address = listener.as_ref().map_err(|error| Failure::of("listen", error))?.local_addr();
        ports.push(address.doing("getsockname")?.port());
    }
    let (low, high) = ports.iter().fold((u16::MAX, 0), |(low, high), &port| (low.min(port), high.max(port)));
    let rows = diag::dump(libc::AF_INET, &[diag::LISTEN], Some(&diag::source_port_at_least(high)))
        .doing("filtered dump")?;
    let found: Vec<u16> = rows.iter().map(Row::source_port).collect();
    if found.contains(&high) && !found.contains(&low) {
        Ok("of two listeners, the one asked for came back".to_owned())
    } else {
        Err(Failure::Unsupported(format!("asked for ports from {high}, got {found:?}")))
    }
}

fn cookie_kept() -> Answer {
    let pair = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    let before = wait_for(&[diag::ESTABLISHED], pair.ports)?.cookie();
    let after = pair.into_time_wait()?.cookie();
    if before == after {
        Ok(format!("cookie {before:#x} in ESTABLISHED and in TIME_WAIT"))
    } else {
        Err(Failure::Unsupported(format!("cookie {before:#x} in ESTABLISHED, {after:#x} in TIME_WAIT")))
    }
}

/// Destroys the socket and looks that no socket of that cookie is left in any of the states.
fn destroyed(row: &Row, states: &[u8]) -> Result<(), Failure> {
    diag::destroy(row).doing("SOCK_DESTROY")?;
    let left = diag::dump(libc::AF_INET, states, None).doing("sock_diag dump")?;
    if left.iter().any(|other| other.cookie() == row.cookie()) {
        return Err(Failure::Unsupported(
            "SOCK_DESTROY reported success, but the socket is still there".to_owned(),
        ));
    }
    Ok(())
}

fn destroy_established() -> Answer {
    let mut pair = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    destroyed(&wait_for(&[diag::ESTABLISHED], pair.ports)?, &[diag::ESTABLISHED])?;
    match pair.client.read_exact(&mut [0]) {
        Err(error) => Ok(format!("gone; its program sees \"{error}\"")),
        Ok(()) => Ok("gone".to_owned()),
    }
}

fn destroy_time_wait() -> Answer {
    let row = Pair::new(LOOPBACK).doing("a connection over loopback")?.into_time_wait()?;
    destroyed(&row, &[diag::TIME_WAIT])?;
    Ok("made one, destroyed it by cookie, it is gone".to_owned())
}

fn destroy_fin_wait2() -> Answer {
    let Pair { client, server, ports } = Pair::new(LOOPBACK).doing("a connection over loopback")?;
    drop(client);
    let row = wait_for(&[diag::FIN_WAIT2], ports)?;
    destroyed(&row, &[diag::FIN_WAIT2])?;
    drop(server);
    Ok(if row.timer == diag::TIMER_TIME_WAIT {
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
    let states = [diag::SYN_RECV, diag::NEW_SYN_RECV];
    destroyed(&wait_for(&states, ports)?, &states)?;
    Ok("made one, destroyed it by cookie, it is gone".to_owned())
}
