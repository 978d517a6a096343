//! Safety: what a TIME_WAIT that was cut short lets happen, made to happen on purpose.

mod duplicate;
mod last_ack;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use tidewait_model::State;
use tidewait_model::table::{Cell, Size, Table};

use super::Setup;
use super::bench::last_word;
use crate::error::{Context, Error, Result};
use crate::host::{Host, Lab};
use crate::wire::Wire;

/// The one port that connect() has: each connection is on the same tuple.
const PORT: u16 = 40_000;

/// How long the pair may take for what it does within microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The age at which the reaper ends a TIME_WAIT here; it goes no lower without being asked to.
const REAP: &str = "1s";

/// How old a TIME_WAIT is when it is reaped, or taken over under tcp_tw_reuse.
const OLD: Duration = Duration::from_millis(1_250);

/// What becomes of the client's TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It stays.
    Kept,
    /// It stays, and connect() may take it over after a second: tcp_tw_reuse=1.
    Reused,
    /// It is destroyed at once, as `ss -K` does.
    Destroyed,
    /// `tidewait reap` ends it when it is a second old.
    Reaped,
}

/// A client and a server on a wire, with settings.
struct Pair<'a> {
    client: Host,
    server: Host,
    wire: Wire,
    setup: &'a Setup,
}

/// Both tables.
pub(super) fn run(setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
    let fates: &[Fate] = match setup.size {
        Size::Tiny => &[Fate::Kept, Fate::Destroyed],
        Size::Full | Size::Quick => &[Fate::Kept, Fate::Reused, Fate::Reaped, Fate::Destroyed],
    };
    Ok(vec![duplicate::table(setup, fates, tell)?, last_ack::table(setup, fates, tell)?])
}

impl Fate {
    fn words(self) -> &'static str {
        match self {
            Fate::Kept => "kept",
            Fate::Reused => "tcp_tw_reuse=1",
            Fate::Destroyed => "ended at once",
            Fate::Reaped => "reaped at 1 s",
        }
    }
}

impl<'a> Pair<'a> {
    fn new(setup: &'a Setup, fate: Fate, timestamps: bool) -> Result<Pair<'a>> {
        let (client, server, wire) = Lab::new().wired_pair()?;
        client.set("net.ipv4.ip_local_port_range", &format!("{PORT} {PORT}"))?;
        client.set("net.ipv4.tcp_tw_reuse", if fate == Fate::Reused { "1" } else { "0" })?;
        for host in [&client, &server] {
            host.set("net.ipv4.tcp_timestamps", if timestamps { "1" } else { "0" })?;
        }
        Ok(Pair { client, server, wire, setup })
    }

    fn destination() -> SocketAddr {
        SocketAddr::from(([10, 77, 0, 2], 443))
    }

    fn listen(&self) -> Result<TcpListener> {
        self.server.run(|| TcpListener::bind(Pair::destination()))?.context("listen at", Pair::destination())
    }

    /// Connects on the one tuple that there is; how long it took.
    fn connect(&self) -> Result<io::Result<(TcpStream, Duration)>> {
        self.client.run(|| {
            let begin = Instant::now();
            let stream = TcpStream::connect_timeout(&Pair::destination(), PATIENCE)?;
            let took = begin.elapsed();
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok((stream, took))
        })
    }

    /// Does to the client's TIME_WAIT what its fate is, once there is one.
    fn fulfil(&self, fate: Fate) -> Result<()> {
        self.until(|| Ok(self.client.states()?[State::TimeWait] == 1))?;
        if matches!(fate, Fate::Reused | Fate::Reaped) {
            thread::sleep(OLD);
        }
        match fate {
            Fate::Kept | Fate::Reused => Ok(()),
            Fate::Destroyed => {
                self.client.destroy(SocketAddr::from(([10, 77, 0, 1], PORT)), Pair::destination())
            }
            Fate::Reaped => self.reap(),
        }
    }

    fn reap(&self) -> Result<()> {
        let words = ["reap", "--older-than", REAP, "--once"];
        let mut command = self.client.command(&self.setup.program);
        let output = command.args(words).stdin(Stdio::null()).output().context("run", "tidewait reap")?;
        if !output.status.success() {
            let why = last_word(&String::from_utf8_lossy(&output.stderr));
            return Err(Error::Unavailable(format!("tidewait {}: {why}", words[..3].join(" "))));
        }
        Ok(())
    }

    /// Waits until it holds.
    fn until(&self, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !holds()? {
            if begin.elapsed() > PATIENCE {
                let states: Vec<String> = self
                    .client
                    .states()?
                    .iter()
                    .filter(|(_, count)| *count > 0)
                    .map(|(state, count)| format!("{count} {state:?}"))
                    .collect();
                return Err(Error::Unavailable(format!(
                    "it did not come about; the client had {}",
                    if states.is_empty() { "no socket".to_owned() } else { states.join(", ") }
                )));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// How a second connection on the same tuple came about, in words.
fn again(outcome: &io::Result<(TcpStream, Duration)>) -> Cell {
    match outcome {
        Ok((_, took)) if took.as_millis() < 100 => Cell::text("at once"),
        Ok((_, took)) => Cell::text(format!("after {:.1} s", took.as_secs_f64())),
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Cell::text("refused"),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Cell::text("timed out"),
        Err(error) => Cell::text(error.to_string()),
    }
}

fn on_or_off(timestamps: bool) -> Cell {
    Cell::text(if timestamps { "on" } else { "off" })
}
