//! A program that knows nothing of tidewait: this test binary, started by itself, does what an environment variable says.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, listen, socket_with};
use signal_hook::consts::SIGINT;
use tidewait_lab::c_library::{bind, local};
use tidewait_lab::set_no_port;

/// The variable: an errand and its words.
pub const ERRAND: &str = "TIDEWAIT_TEST_ERRAND";

/// What its answer begins with.
pub const ANSWER: &str = "answer: ";

#[test]
fn errand() {
    let Ok(errand) = std::env::var(ERRAND) else { return };
    let words: Vec<&str> = errand.split(' ').collect();
    let answer = match words[..] {
        ["bound", source, count, ref peers @ ..] => {
            bound(source.parse().unwrap(), count.parse().unwrap(), peers)
        }
        ["plain", count, peer] => plain(count.parse().unwrap(), peer.parse().unwrap()),
        ["vain", count, peer] => vain(count.parse().unwrap(), peer.parse().unwrap()),
        ["asks", source] => asks(source.parse().unwrap()),
        ["twice", source] => twice(source.parse().unwrap()),
        ["full", peer, live, tries] => {
            full(peer.parse().unwrap(), live.parse().unwrap(), tries.parse().unwrap())
        }
        ["hears", file] => hears(file),
        ["ends-at", signal] => ends_at(signal.parse().unwrap()),
        ["datagram-without-port", source] => datagram_without_port(source.parse().unwrap()),
        ["datagram", source] => datagram(source.parse().unwrap()),
        _ => panic!("{errand}?"),
    };
    println!("{ANSWER}{answer}");
}

fn socket(address: IpAddr, kind: SocketType) -> OwnedFd {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap()
}

fn port(socket: &OwnedFd) -> u16 {
    local(socket.as_fd()).unwrap().port()
}

/// Connects `count` times to each peer, from a source address that it binds without a port, and closes first. How many came
/// about, and the first error.
fn bound(source: IpAddr, count: u32, peers: &[&str]) -> String {
    let (mut made, mut refused) = (0, None);
    for _ in 0..count {
        for peer in peers {
            let peer: SocketAddr = peer.parse().unwrap();
            let socket = socket(source, SocketType::STREAM);
            match bind(socket.as_fd(), SocketAddr::new(source, 0)).and_then(|()| Ok(connect(&socket, &peer)?))
            {
                Ok(()) => {
                    let from = local(socket.as_fd()).unwrap();
                    assert_eq!(from.ip(), source);
                    assert_ne!(from.port(), 0);
                    made += 1;
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
    }
    format!("{made} {refused:?}")
}

/// Connects `count` times without a word about where from, and closes first. The lowest and the highest port that it got, and
/// its addresses.
fn plain(count: u32, peer: SocketAddr) -> String {
    let from: Vec<SocketAddr> =
        (0..count).map(|_| TcpStream::connect(peer).unwrap().local_addr().unwrap()).collect();
    let ports = || from.iter().map(SocketAddr::port);
    let addresses: BTreeSet<String> = from.iter().map(|from| from.ip().to_string()).collect();
    let addresses: Vec<String> = addresses.into_iter().collect();
    format!("{} {} {}", ports().min().unwrap(), ports().max().unwrap(), addresses.join(","))
}

/// Tries `count` times where nobody listens; how many connections came about all the same.
fn vain(count: u32, peer: SocketAddr) -> String {
    (0..count).filter(|_| TcpStream::connect(peer).is_ok()).count().to_string()
}

/// Holds `live` connections and says so; at a line on standard input makes `tries` others, one after the other, and sends bytes to and fro on
/// all that it holds meanwhile. How many others came about, how many of those on the ports beside the held ones', and how often all were
/// gone through; waits for the end of its input.
#[expect(clippy::print_stdout, reason = "the test waits for these lines")]
fn full(peer: SocketAddr, live: usize, tries: u64) -> String {
    let mut held: Vec<TcpStream> = (0..live).map(|_| TcpStream::connect(peer).unwrap()).collect();
    let port = |stream: &TcpStream| stream.local_addr().unwrap().port();
    let ports: BTreeSet<u16> = held.iter().map(port).collect();
    assert_eq!(ports.len(), live);
    assert!(ports.iter().all(|port| (20_000..20_200).contains(port)));
    println!("{ANSWER}held");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let over = AtomicBool::new(false);
    let (made, beside, rounds) = std::thread::scope(|scope| {
        let echoes = scope.spawn(|| {
            let mut rounds = 0_u64;
            loop {
                for (place, stream) in held.iter_mut().enumerate() {
                    let sent: Vec<u8> =
                        (0..64).map(|byte| (place as u64 + rounds * 7 + byte) as u8).collect();
                    let mut read = [0; 64];
                    stream.write_all(&sent).and_then(|()| stream.read_exact(&mut read)).unwrap();
                    assert_eq!(read[..], sent, "connection {place}, round {rounds}");
                }
                rounds += 1;
                if over.load(Ordering::Relaxed) {
                    return rounds;
                }
            }
        });
        let (mut made, mut beside) = (0_u64, 0_u64);
        for _ in 0..tries {
            let Ok(stream) = TcpStream::connect(peer) else { continue };
            made += 1;
            let port = port(&stream);
            beside += u64::from((20_000..20_200).contains(&port) && !ports.contains(&port));
            // Reset, so that its port is free again.
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        (made, beside, echoes.join().unwrap())
    });
    println!("{ANSWER}{made} {beside} {rounds}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    "let go".to_owned()
}

/// Asks for its port after bind(), as test servers and proxies of the active FTP mode do, and gives it to others.
fn asks(source: IpAddr) -> String {
    let service = TcpListener::bind((source, 0)).unwrap();
    let there = service.local_addr().unwrap();
    assert_ne!(there.port(), 0);
    // Before connect().
    let client = socket(source, SocketType::STREAM);
    bind(client.as_fd(), SocketAddr::new(source, 0)).unwrap();
    let told = port(&client);
    assert_ne!(told, 0);
    connect(&client, &there).unwrap();
    assert_eq!(port(&client), told);
    // Before listen().
    let server = socket(source, SocketType::STREAM);
    bind(server.as_fd(), SocketAddr::new(source, 0)).unwrap();
    let told = port(&server);
    assert_ne!(told, 0);
    listen(&server, 1).unwrap();
    assert_eq!(port(&server), told);
    // Only after it.
    let server = socket(source, SocketType::STREAM);
    bind(server.as_fd(), SocketAddr::new(source, 0)).unwrap();
    listen(&server, 1).unwrap();
    assert_ne!(port(&server), 0);
    "the ports it was told".to_owned()
}

/// Binds a port that is taken, and an address that is not there.
fn twice(source: IpAddr) -> String {
    let service = TcpListener::bind((source, 0)).unwrap();
    let taken = bind(socket(source, SocketType::STREAM).as_fd(), service.local_addr().unwrap());
    let elsewhere: SocketAddr = "203.0.113.9:0".parse().unwrap();
    let missing = bind(socket(elsewhere.ip(), SocketType::STREAM).as_fd(), elsewhere);
    format!("{taken:?} {missing:?}")
}

/// Says so each time that it gets SIGINT, for as long as there is the file.
#[expect(clippy::print_stdout, reason = "the test waits for these lines")]
fn hears(file: &str) -> String {
    let (mut read, write) = UnixStream::pair().unwrap();
    read.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    signal_hook::low_level::pipe::register(SIGINT, write).unwrap();
    println!("ready");
    while std::path::Path::new(file).exists() {
        // A byte a signal.
        if read.read(&mut [0]).is_ok_and(|count| count > 0) {
            println!("heard");
        }
    }
    "over".to_owned()
}

/// Ends with 9 at a signal, as a shell does with a trap; but dash now and then misses one that comes while it starts a program.
#[expect(clippy::print_stdout, reason = "the test waits for this line")]
fn ends_at(signal: i32) -> ! {
    signal_hook::flag::register_conditional_shutdown(signal, 9, Arc::new(true.into())).unwrap();
    println!("ready");
    loop {
        std::thread::park();
    }
}

/// Asks for the port of a socket of UDP that is to have none until it is connected.
fn datagram_without_port(source: IpAddr) -> String {
    let socket = socket(source, SocketType::DGRAM);
    set_no_port(&socket).unwrap();
    bind(socket.as_fd(), SocketAddr::new(source, 0)).unwrap();
    port(&socket).to_string()
}

fn datagram(source: IpAddr) -> String {
    let socket = socket(source, SocketType::DGRAM);
    bind(socket.as_fd(), SocketAddr::new(source, 0)).unwrap();
    assert_ne!(port(&socket), 0);
    "a port".to_owned()
}
