//! The two ends of the load, each a process of its own.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use rustix::time::{ClockId, clock_gettime};

/// Below the ranges that are measured.
const PORT: u16 = 1_100;

/// Accepts, waits until the peer closes, closes.
pub fn server() -> Result<()> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?;
    rustix::net::listen(&socket, 4_096)?;
    println!("ready");
    // A connection that was cut off before it was accepted is no trouble.
    for mut stream in TcpListener::from(socket).incoming().flatten() {
        let _ = stream.read(&mut [0; 16]);
    }
    Ok(())
}

/// Does what its standard input says.
pub fn client() -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["fill", low, high, percent, destinations, binds] => {
                let binds = binds == "1";
                let ports = drawn(low.parse()?, high.parse()?, percent.parse()?, !binds);
                fill(&ports, destinations.parse()?, binds)?
            }
            ["run", milliseconds, destinations] => {
                format!("{}", run(Duration::from_millis(milliseconds.parse()?), destinations.parse()?)?)
            }
            _ => bail!("{line} is no command"),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The destination with this number: all of 127/8 is this machine.
fn destination(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x7f01_0001 + number), PORT))
}

/// A share of the ports of a range, by a lot that always falls alike. `halves`: as connect() takes them, all even ones first.
fn drawn(low: u16, high: u16, percent: usize, halves: bool) -> Vec<u16> {
    let mut ports: Vec<u16> = (low..=high).collect();
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for place in (1..ports.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ports.swap(place, (state >> 33) as usize % (place + 1));
    }
    if halves {
        ports.sort_by_key(|port| (port ^ low) & 1);
    }
    ports.truncate(ports.len() * percent / 100);
    ports
}

/// Puts each port into TIME_WAIT for each destination: as connect() would have chosen it, or as a bound one.
fn fill(ports: &[u16], destinations: u32, binds: bool) -> Result<String> {
    for number in 0..destinations {
        for port in ports {
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            if binds {
                sockopt::set_socket_reuseaddr(&socket, true)?;
                bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)))?;
            } else {
                tidewait_lab::set_only_port(&socket, *port)?;
            }
            connect(&socket, &destination(number)).with_context(|| format!("port {port}"))?;
            let mut stream = TcpStream::from(socket);
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new())?;
        }
    }
    Ok("filled".to_owned())
}

/// Opens and closes by RST for `time`; microseconds of this process's CPU time for each. Nearly all of the handshake over the
/// loopback is done in it, the peer's part too.
fn run(time: Duration, destinations: u32) -> Result<f64> {
    let (begin, used) = (Instant::now(), cpu());
    let mut count = 0_u32;
    while begin.elapsed() < time {
        let socket: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        connect(&socket, &destination(count % destinations)).context("connect")?;
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        count += 1;
    }
    Ok((cpu() - used) / f64::from(count.max(1)))
}

/// CPU time of this process, in microseconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
