//! A client at full speed and its server, each a process in a namespace of its own: the load that users have.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::SocketFlags;
use rustix::net::sockopt::Timeout;
use rustix::time::{ClockId, clock_gettime};

use crate::error::{Context, Error, Result};
use crate::host::{Host, Lab};
use crate::netns::NetNs;
use crate::path::{PATIENCE, Path};
use crate::socket;
use crate::sprint::{Sprint, Use};

/// Where the server listens.
const PORT: u16 = 3_306;
/// Addresses of the server, taken in turn (10.77.0.2 and what follows), so that connect() finds a port at once.
const ADDRESSES: u8 = 16;
/// Threads that accept: enough that one is free while others wait for the client's close.
const WORKERS: usize = 8;
/// Connections that may wait for them. A full queue would cost a client a second.
const BACKLOG: i32 = 65_535;
/// Processes of a crowd.
const CROWD: u8 = 20;
/// Bytes of a request and of an answer.
const MESSAGE: usize = 100;

/// Two hosts on one wire for a race. Make new ones for each: every connection leaves a TIME_WAIT.
#[derive(Debug)]
pub struct Course {
    client: Host,
    server: Host,
}

impl Course {
    /// Makes the hosts.
    ///
    /// # Errors
    /// As [`Lab::host`] and [`Lab::link`].
    pub fn new() -> Result<Course> {
        let lab = Lab::new();
        let (client, server) = (lab.host("client")?, lab.host("server")?);
        lab.link(&client, "10.77.0.1/24", &server, "10.77.0.2/24")?;
        for number in 1..ADDRESSES {
            server.add_address(&format!("10.77.0.{}/24", 2 + number))?;
        }
        server.set("net.core.somaxconn", &BACKLOG.to_string())?;
        Ok(Course { client, server })
    }

    /// Runs a client at full speed for `duration`. The CPU time told is that of both processes.
    ///
    /// `program` makes the command that ends in [`race`] with the words that it is given.
    ///
    /// # Errors
    /// When a process does not start or ends without a word.
    pub fn run(&self, program: &dyn Fn(&NetNs) -> Command, duration: Duration, used: Use) -> Result<Sprint> {
        let mut server = Racer::start(program(&self.server), &["server".to_owned(), word(used).to_owned()])?;
        server.line()?;
        let words = ["client".to_owned(), word(used).to_owned(), duration.as_millis().to_string()];
        let told = Racer::start(program(&self.client), &words)?.line()?;
        let numbers: Vec<u64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [made, elapsed, cpu] = numbers[..] else {
            return Err(Error::Unavailable(format!("the client of a race said {told:?}")));
        };
        // Its word to end.
        drop(server.0.stdin.take());
        let of_server: u64 = server.line()?.trim().parse().unwrap_or(0);
        let (elapsed, cpu) = (Duration::from_nanos(elapsed), Duration::from_nanos(cpu + of_server));
        Ok(Sprint { made, elapsed, cpu })
    }
}

/// A process of a race; killed when it is dropped.
#[derive(Debug)]
struct Racer(Child);

impl Racer {
    fn start(mut command: Command, words: &[String]) -> Result<Racer> {
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Racer(command.spawn().context("start", "a process of a race")?))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if let Some(output) = self.0.stdout.as_mut() {
            // It says one line at a time and waits: nothing that a buffer could swallow.
            BufReader::new(output).read_line(&mut line).context("read from", "a process of a race")?;
        }
        if line.is_empty() {
            return Err(Error::Unavailable("a process of a race ended before its time".to_owned()));
        }
        Ok(line)
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process of a race does, in the namespace that it was started in.
///
/// # Errors
/// When the words are not those of [`Course::run`], or a call fails.
pub fn race(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["server", used] => serve(used_of(used)),
        ["client", used, milliseconds] => {
            let duration = Duration::from_millis(milliseconds.parse().unwrap_or(0));
            connect(duration, used_of(used))
        }
        ["hold", number, count] => match (number.parse(), count.parse()) {
            (Ok(number), Ok(count)) => hold(number, count),
            _ => Err(Error::Refused(format!("race {words:?}: two numbers are needed"))),
        },
        _ => Err(Error::Refused(format!("race {words:?}: only a benchmark starts these"))),
    }
}

fn word(used: Use) -> &'static str {
    if used == Use::Request { "request" } else { "none" }
}

fn used_of(word: &str) -> Use {
    if word == "request" { Use::Request } else { Use::None }
}

/// Accepts until the standard input ends, then says the CPU time.
fn serve(used: Use) -> Result<()> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = socket::listen(any, BACKLOG, false).context("listen on", any)?;
    for _ in 0..WORKERS {
        let listener = listener.try_clone().context("duplicate", "a listener")?;
        let worker = thread::Builder::new().name("worker".into());
        worker.spawn(move || while answer(&listener, used).is_ok() {}).context("start", "a thread")?;
    }
    let begun = clock_gettime(ClockId::ProcessCPUTime);
    say("ready")?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("read", "the standard input")?;
    say(&spent_since(begun).to_string())
}

fn answer(listener: &OwnedFd, used: Use) -> std::io::Result<()> {
    let connection = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    let mut message = [0; MESSAGE];
    // What goes wrong on a connection is seen at the client.
    if used == Use::Request && rustix::io::read(&connection, &mut message).is_ok() {
        let _ = rustix::io::write(&connection, &message);
    }
    // Until the client has closed.
    let _ = rustix::io::read(&connection, &mut message);
    Ok(())
}

/// Connects and closes for `duration`, then says how often, in how long, and the CPU time.
fn connect(duration: Duration, used: Use) -> Result<()> {
    let (begin, begun) = (Instant::now(), clock_gettime(ClockId::ProcessCPUTime));
    let mut made: u64 = 0;
    while begin.elapsed() < duration {
        for number in 0..ADDRESSES {
            let to = SocketAddr::from(([10, 77, 0, 2 + number], PORT));
            once(to, used).context("connect to", to)?;
            made += 1;
        }
    }
    let elapsed = begin.elapsed();
    say(&format!("{made} {} {}", elapsed.as_nanos(), spent_since(begun)))
}

fn once(to: SocketAddr, used: Use) -> std::io::Result<()> {
    let connection = socket::tcp(IpAddr::from([0, 0, 0, 0]), SocketFlags::empty())?;
    rustix::net::connect(&connection, &to)?;
    if used == Use::Request {
        let mut message = [b'.'; MESSAGE];
        socket::set_patience(&connection, Timeout::Recv, PATIENCE)?;
        rustix::io::write(&connection, &message)?;
        rustix::io::read(&connection, &mut message)?;
    }
    Ok(())
}

/// Holds both ends of `count` connections over the loopback until the standard input ends.
fn hold(number: u8, count: u64) -> Result<()> {
    let to = SocketAddr::from(([127, 1, number, 1], PORT));
    let _held = Path::within(&NetNs::current()?).to(to).hold_established(count)?;
    say("ready")?;
    std::io::stdin().read_to_end(&mut Vec::new()).context("read", "the standard input")?;
    Ok(())
}

/// Connections held by processes of their own, each with no more descriptors than most limits allow.
#[derive(Debug)]
pub struct Crowd(Vec<Racer>);

impl Crowd {
    /// Opens `count` connections in `netns`, over its loopback, and holds both ends until it is dropped.
    ///
    /// `program` is as for [`Course::run`].
    ///
    /// # Errors
    /// When a process does not start or cannot open its part.
    pub fn hold(netns: &NetNs, program: &dyn Fn(&NetNs) -> Command, count: u64) -> Result<Crowd> {
        let mut crowd = Crowd(Vec::new());
        for number in 0..CROWD {
            let words = ["hold".to_owned(), number.to_string(), (count / u64::from(CROWD)).to_string()];
            crowd.0.push(Racer::start(program(netns), &words)?);
        }
        for racer in &mut crowd.0 {
            racer.line()?;
        }
        Ok(crowd)
    }
}

/// Nanoseconds of CPU time of this process since `begun`.
fn spent_since(begun: rustix::time::Timespec) -> u64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime) - begun;
    spent.tv_sec.unsigned_abs() * 1_000_000_000 + spent.tv_nsec.unsigned_abs()
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("write to", "the standard output")
}
