//! Where a table's figures are measured: two namespaces and a wire, a client process, and a remedy around or beside it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidewait_model::PortRange;
use tidewait_model::table::Cell;

use super::Setup;
use crate::client::{Client, ClientReport};
use crate::error::{Context, Error, Result};
use crate::host::{Host, Lab};
use crate::path::Path;
use crate::privilege::end_with_parent;

/// Where the server listens: below every range that is used here.
const PORT: u16 = 443;

/// The first port of the stock range.
pub(super) const FIRST_PORT: u16 = 32_768;

/// Ports of the stock range.
pub(super) const STOCK: u32 = 28_232;

/// How long a command beside the client has to say that it is at work, or that it cannot be.
const START: Duration = Duration::from_secs(15);

/// How long it has to end when it is asked to.
const END: Duration = Duration::from_secs(3);

/// A client's host and a server's, on one wire.
pub(super) struct Bench {
    pub(super) client: Host,
    pub(super) server: Host,
    setup: Setup,
}

/// What is done about the ports of a client that knows nothing of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Remedy {
    /// Settings of the client's namespace.
    pub(super) settings: Vec<(&'static str, String)>,
    /// `tidewait exec` with these options is put before the client's command.
    pub(super) around: Vec<String>,
    /// `tidewait` with these words runs beside it.
    pub(super) beside: Vec<String>,
    /// The same for the client's process alone: its number is put behind `--pid`.
    pub(super) attached: Vec<String>,
}

/// A command that runs beside a client; ended when dropped.
pub(super) struct Beside {
    child: Child,
    /// Reads what it prints, for nobody.
    output: Option<thread::JoinHandle<()>>,
}

impl Remedy {
    /// A setting.
    pub(super) fn setting(name: &'static str, value: &str) -> Remedy {
        Remedy { settings: vec![(name, value.to_owned())], ..Remedy::default() }
    }

    /// `tidewait exec OPTIONS -- CLIENT`.
    pub(super) fn around(options: &[&str]) -> Remedy {
        Remedy { around: owned(options), ..Remedy::default() }
    }

    /// `tidewait WORDS` beside the client.
    pub(super) fn beside(words: &[&str]) -> Remedy {
        Remedy { beside: owned(words), ..Remedy::default() }
    }

    /// `tidewait WORDS --pid CLIENT`.
    pub(super) fn attached(words: &[&str]) -> Remedy {
        Remedy { attached: owned(words), ..Remedy::default() }
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Bench {
    /// Makes the hosts: a client with so many source addresses (10.77.0.101 and on beside 10.77.0.1), a server with so many
    /// addresses (10.77.0.2 and on), and a range of so many ports.
    pub(super) fn new(setup: &Setup, sources: u8, destinations: u8, ports: u32) -> Result<Bench> {
        let lab = Lab::new();
        let (client, server) = (lab.host("client")?, lab.host("server")?);
        lab.link(&client, "10.77.0.1/24", &server, "10.77.0.2/24")?;
        for number in 1..sources {
            client.add_address(&format!("10.77.0.{}/24", 100 + number))?;
        }
        for number in 1..destinations {
            server.add_address(&format!("10.77.0.{}/24", 2 + number))?;
        }
        for host in [&client, &server] {
            // A stray reset would free a port (RFC 1337): the counts are to be exact.
            host.set("net.ipv4.tcp_rfc1337", "1")?;
        }
        let bench = Bench { client, server, setup: setup.clone() };
        let range = range(ports);
        bench.client.set("net.ipv4.ip_local_port_range", &format!("{} {}", range.low, range.high))?;
        Ok(bench)
    }

    /// Address of the client, the first being 0.
    pub(super) fn source(&self, number: u8) -> IpAddr {
        IpAddr::from([10, 77, 0, if number == 0 { 1 } else { 100 + number }])
    }

    /// Address of the server, the first being 0.
    pub(super) fn destination(&self, number: u8) -> SocketAddr {
        SocketAddr::from(([10, 77, 0, 2 + number], PORT))
    }

    /// From the client to the first destination.
    pub(super) fn path(&self) -> Path {
        Path::between(&self.client, &self.server).to(self.destination(0))
    }

    /// Connections to the first destination, as many as go; to be made more special.
    pub(super) fn work(&self) -> Client {
        Client::new(&self.server, self.destination(0))
    }

    /// Starts a remedy's command, if it has one, and writes its settings.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if this kernel or this build does not have it.
    pub(super) fn apply(&self, remedy: &Remedy) -> Result<Option<Beside>> {
        for (name, value) in &remedy.settings {
            self.client
                .set(name, value)
                .map_err(|error| Error::Unavailable(format!("no {name} here: {error}")))?;
        }
        if remedy.beside.is_empty() { Ok(None) } else { self.beside(&remedy.beside, None).map(Some) }
    }

    /// Starts a command beside a client and waits until it is at work: then it prints its first line of JSON.
    fn beside(&self, words: &[String], client: Option<u32>) -> Result<Beside> {
        let mut command = self.client.command(&self.setup.program);
        command.args(words).args(client.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]));
        command.arg("--json").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut beside = Beside { child: start(command)?, output: None };
        let (tell, hear) = mpsc::channel();
        if let Some(stdout) = beside.child.stdout.take() {
            let read = move || {
                for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                    // Only the first is waited for.
                    let _ = tell.send(line);
                }
            };
            let thread = thread::Builder::new().name("lab-beside".into()).spawn(read);
            beside.output = Some(thread.context("start", "a thread")?);
        }
        match hear.recv_timeout(START) {
            Ok(_) => Ok(beside),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let why = complaint(&mut beside.child);
                Err(Error::Unavailable(format!(
                    "tidewait {}: {why}",
                    words.first().map_or("", String::as_str)
                )))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Error::Unavailable(format!(
                "tidewait {}: not at work after {} s",
                words.first().map_or("", String::as_str),
                START.as_secs()
            ))),
        }
    }

    /// Runs a client to its end, under what the remedy puts around it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if this kernel or this build does not have the remedy.
    pub(super) fn run(&self, client: &Client, remedy: &Remedy) -> Result<ClientReport> {
        self.start(client, remedy)?.wait()
    }

    /// Starts a client.
    pub(super) fn start(&self, client: &Client, remedy: &Remedy) -> Result<Running> {
        let program = &self.setup.program;
        let mut command = self.client.command(program);
        if !remedy.around.is_empty() {
            command.arg("exec").args(&remedy.around).arg("--").arg(program);
        }
        let client = Client { on_command: !remedy.attached.is_empty(), ..client.clone() };
        command.args(["lab", "client"]).args(client.words()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running { child: start(command)?, around: remedy.around.join(" "), attached: None };
        if client.on_command {
            running.attached = Some(self.beside(&remedy.attached, Some(running.child.id()))?);
        }
        // Its command to begin, if it waits for one.
        drop(running.child.stdin.take());
        Ok(running)
    }
}

/// A client at work; killed when dropped.
pub(super) struct Running {
    child: Child,
    around: String,
    /// Ends after the client.
    attached: Option<Beside>,
}

impl Running {
    /// Waits for its end and its word.
    pub(super) fn wait(mut self) -> Result<ClientReport> {
        let mut said = String::new();
        if let Some(stdout) = self.child.stdout.as_mut() {
            stdout.read_to_string(&mut said).context("read from", "a client")?;
        }
        if let Some(report) = said.lines().find_map(ClientReport::parse) {
            return Ok(report);
        }
        let why = complaint(&mut self.child);
        if self.around.is_empty() {
            return Err(Error::Refused(format!("a client of the lab: {why}")));
        }
        Err(Error::Unavailable(format!("tidewait exec {}: {why}", self.around)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.attached.take());
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.end();
        if let Some(output) = self.output.take() {
            // It ends with the pipe; a panic in it was reported when it happened.
            let _ = output.join();
        }
    }
}

impl Beside {
    fn end(&mut self) {
        // The usual way, so that it takes away what it has set up.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let begin = Instant::now();
        while begin.elapsed() < END {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(mut command: Command) -> Result<Child> {
    command.stderr(Stdio::piped());
    end_with_parent(&mut command);
    command.spawn().context("start", "tidewait")
}

/// The range of so many ports.
pub(super) fn range(ports: u32) -> PortRange {
    PortRange { low: FIRST_PORT, high: (u32::from(FIRST_PORT) + ports - 1) as u16 }
}

/// What a program said last before it ended, in a line.
fn complaint(child: &mut Child) -> String {
    let mut said = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        // What could be read counts.
        let _ = stderr.read_to_string(&mut said);
    }
    last_word(&said)
}

/// Why a command of tidewait ended, of all that it said on standard error: notes and warnings come before.
pub(super) fn last_word(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    // A command line that is not understood is followed by the usage.
    let line = lines.clone().find(|line| line.starts_with("error: ")).or_else(|| lines.next_back());
    let bare = |line: &str| line.trim_start_matches("tidewait: ").trim_start_matches("error: ").to_owned();
    line.map_or("ended without a word".to_owned(), bare)
}

/// A figure, or why there is none; any other error ends the table.
pub(super) fn or_gap<T>(outcome: Result<T>) -> Result<std::result::Result<T, Cell>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Unavailable(why)) => Ok(Err(Cell::Missing(why))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_gap_is_what_was_said_last() {
        let said = "tidewait: safer where connect() chooses the ports: net.ipv4.tcp_tw_reuse=1\n\ntidewait: sockets cannot be ended: no\n\n";
        assert_eq!(last_word(said), "sockets cannot be ended: no");
        assert_eq!(
            last_word("error: unrecognized subcommand 'reap'\n\nUsage: tidewait\n"),
            "unrecognized subcommand 'reap'"
        );
        assert_eq!(last_word("\n"), "ended without a word");
    }
}
