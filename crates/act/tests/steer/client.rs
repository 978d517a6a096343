//! A client or server in a process of its own: the test program again, which does what it is told on its standard input and
//! answers with a line. It knows nothing of being steered.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Barrier, Mutex};
use std::thread;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use tidewait_act::steer::Claim;
use tidewait_model::PortRange;

/// Set for the process that is to be one.
pub const CLIENT: &str = "TIDEWAIT_TEST_CLIENT";
/// What each answer begins with: the test harness prints as well.
pub const ANSWER: &str = "answer: ";

/// What becomes of a socket before connect().
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    /// bind() to a port.
    Port(u16),
    /// IP_BIND_ADDRESS_NO_PORT and bind() to an address.
    Address(IpAddr),
    /// IP_LOCAL_PORT_RANGE of one port.
    OnlyPort(u16),
    /// SO_REUSEADDR.
    Reuse,
}

#[test]
fn process() {
    if std::env::var_os(CLIENT).is_none() {
        return;
    }
    let mut kept: HashMap<String, Vec<TcpStream>> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match obey(&words, &mut kept) {
            Ok(answer) => answer,
            Err(error) => format!("error {error}"),
        };
        println!("\n{ANSWER}{answer}");
    }
    // No test harness any more: nobody reads what it would say.
    std::process::exit(0);
}

fn obey(words: &[&str], kept: &mut HashMap<String, Vec<TcpStream>>) -> std::io::Result<String> {
    let to = |host: &str, port: &str| SocketAddr::new(host.parse().unwrap(), port.parse().unwrap());
    let number = |word: &str| word.parse::<usize>().unwrap();
    let mut answer = String::new();
    match words {
        ["serve", host, port] => {
            let listener = listen(to(host, port))?;
            answer = listener.local_addr()?.port().to_string();
            thread::spawn(move || serve(&listener));
        }
        ["keep", name, host, port, count, rest @ ..] => {
            for _ in 0..number(count) {
                let stream = open(to(host, port), before(rest))?;
                write!(answer, "{} ", stream.local_addr()?.port()).unwrap();
                kept.entry((*name).to_owned()).or_default().push(stream);
            }
        }
        // Closed here first, so that the TIME_WAIT is here.
        ["churn", host, port, count, rest @ ..] => {
            for _ in 0..number(count) {
                let mut stream = open(to(host, port), before(rest))?;
                write!(answer, "{} ", stream.local_addr()?.port()).unwrap();
                stream.shutdown(std::net::Shutdown::Write)?;
                stream.read_to_end(&mut Vec::new())?;
            }
        }
        // Errors of connect() by number; what connects is kept.
        ["attempts", host, port, count] => {
            for _ in 0..number(count) {
                match open(to(host, port), Before::Nothing) {
                    Ok(stream) => kept.entry("attempts".to_owned()).or_default().push(stream),
                    Err(error) => write!(answer, "{} ", error.raw_os_error().unwrap()).unwrap(),
                }
            }
        }
        ["nonblocking", name, host, port, count] => {
            for _ in 0..number(count) {
                let stream = open_without_waiting(to(host, port))?;
                write!(answer, "{} ", stream.local_addr()?.port()).unwrap();
                kept.entry((*name).to_owned()).or_default().push(stream);
            }
        }
        ["race", host, port, threads, count] => answer = race(to(host, port), number(threads), number(count)),
        ["claim", low, high] => {
            let range = PortRange { low: low.parse().unwrap(), high: high.parse().unwrap() };
            // Held until the process ends.
            std::mem::forget(Claim::take(&[range]).map_err(std::io::Error::other)?);
        }
        ["udp", host, port] => {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to(host, port))?;
            answer = socket.local_addr()?.to_string();
        }
        // Bound for good, and neither shared nor listened on.
        ["hold", host, port] => {
            let at = to(host, port);
            let socket = socket(family(at), SocketType::STREAM, None)?;
            bind(&socket, &at)?;
            std::mem::forget(socket);
        }
        ["reuseaddr", name] => {
            for stream in &kept[*name] {
                write!(answer, "{} ", u8::from(sockopt::socket_reuseaddr(stream)?)).unwrap();
            }
        }
        ["sources", name] => {
            for stream in &kept[*name] {
                write!(answer, "{} ", stream.local_addr()?.ip().to_canonical()).unwrap();
            }
        }
        ["echoes", name] => {
            for (number, stream) in (0_u32..).zip(kept.get_mut(*name).unwrap()) {
                let data: Vec<u8> = (0..600_u32).map(|at| (at.wrapping_mul(number | 1) >> 3) as u8).collect();
                let mut back = vec![0; data.len()];
                stream.write_all(&data)?;
                stream.read_exact(&mut back)?;
                if back != data {
                    return Ok("other bytes".to_owned());
                }
            }
            answer = "all".to_owned();
        }
        ["drop", name] => drop(kept.remove(*name)),
        _ => panic!("{words:?} is no command"),
    }
    Ok(answer.trim_end().to_owned())
}

fn before(rest: &[&str]) -> Before {
    match rest {
        [] => Before::Nothing,
        ["port", port] => Before::Port(port.parse().unwrap()),
        ["address", address] => Before::Address(address.parse().unwrap()),
        ["only", port] => Before::OnlyPort(port.parse().unwrap()),
        ["reuse"] => Before::Reuse,
        _ => panic!("{rest:?}"),
    }
}

fn family(to: SocketAddr) -> AddressFamily {
    if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn any(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket(family(at), SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &at)?;
    rustix::net::listen(&socket, 4_096)?;
    Ok(socket.into())
}

/// Sends back what comes, and closes when the peer has.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let work = move || {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().stack_size(64 << 10).spawn(work).unwrap();
    }
}

fn fresh(to: SocketAddr, before: Before) -> std::io::Result<OwnedFd> {
    let socket = socket(family(to), SocketType::STREAM, None)?;
    match before {
        Before::Nothing => {}
        Before::Port(port) => bind(&socket, &SocketAddr::new(any(to), port))?,
        Before::Reuse => sockopt::set_socket_reuseaddr(&socket, true)?,
        Before::Address(address) => tidewait_lab::set_source(&socket, address)?,
        Before::OnlyPort(port) => tidewait_lab::set_only_port(&socket, port)?,
    }
    Ok(socket)
}

fn open(to: SocketAddr, before: Before) -> std::io::Result<TcpStream> {
    let socket = fresh(to, before)?;
    connect(&socket, &to)?;
    Ok(socket.into())
}

fn open_without_waiting(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::from(fresh(to, Before::Nothing)?);
    stream.set_nonblocking(true)?;
    match connect(&stream, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Threads that connect at once and close by RST: connections made, refused for want of a port, failed otherwise.
fn race(to: SocketAddr, threads: usize, count: usize) -> String {
    let gate = Barrier::new(threads);
    let sums = Mutex::new([0_u32; 3]);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                gate.wait();
                for _ in 0..count {
                    let place = match open(to, Before::Nothing) {
                        Ok(stream) => {
                            sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
                            0
                        }
                        Err(error) if error.raw_os_error() == Some(Errno::ADDRNOTAVAIL.raw_os_error()) => 1,
                        Err(_) => 2,
                    };
                    sums.lock().unwrap()[place] += 1;
                }
            });
        }
    });
    let [made, refused, failed] = *sums.lock().unwrap();
    format!("{made} {refused} {failed}")
}
