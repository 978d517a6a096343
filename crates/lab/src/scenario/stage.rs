//! What a scenario works with: the little machine, its peers, real programs, and what has to be kept.

use std::any::Any;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tidewait_model::PortRange;

use super::Need;
use crate::actor::Actor;
use crate::churn::{ChurnOptions, Closer};
use crate::error::{Context, Error, Result};
use crate::host::{Host, Lab};
use crate::machine::Machine;
use crate::netns::NetNs;
use crate::path::Path;
use crate::privilege::{self, scaled};
use crate::server::{Policy, Server};
use crate::socket;

/// Set where the machine may be thrown away afterwards, so that host-wide limits may be changed and filled.
pub(super) const DISPOSABLE: &str = "TIDEWAIT_LAB_DISPOSABLE";

/// Descriptors that each program may have, unless the scenario is about them.
const DESCRIPTORS: u64 = 20_000;

/// How long a program may take until it listens.
const START: Duration = Duration::from_secs(30);

/// Ports of the first peer that stand for services of different hosts.
pub(super) const SEVERAL: [u16; 4] = [80, 81, 82, 83];

/// The first port of the stock range, where narrowed ranges begin too.
const FIRST_PORT: u16 = 32_768;

/// Where programs are that ordinary users do not have on their PATH.
const MORE_PATHS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// From where, and how far, the machine is to be looked at.
#[derive(Debug, Default)]
pub struct Lens {
    /// In every network namespace that can be seen, instead of the machine's own.
    pub everywhere: bool,
    /// From the network namespace outside, where what belongs to the whole host can be read.
    pub from_outside: Option<NetNs>,
}

/// A little machine with its peers.
pub struct Stage {
    machine: Machine,
    host: Host,
    lab: Lab,
    tell: Box<dyn Fn(&str)>,
    kept: Vec<Box<dyn Any>>,
    /// What was changed outside of the machine: put back when it is dropped.
    changed: Vec<Box<dyn Any>>,
    peers: u8,
    lens: Lens,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("machine", &self.machine)
            .field("lens", &self.lens)
            .finish_non_exhaustive()
    }
}

impl Stage {
    pub(super) fn new(machine: Machine, tell: Box<dyn Fn(&str)>) -> Result<Stage> {
        let lab = Lab::new();
        let host = lab.host_in("host", machine.netns.clone());
        // What a program may open shall not depend on the shell that this was started in.
        socket::allow_descriptors(DESCRIPTORS)?;
        // As on a machine with much memory: what a scenario leaves in TIME_WAIT shall be there.
        host.set("net.ipv4.tcp_max_tw_buckets", "262144")?;
        Ok(Stage {
            machine,
            host,
            lab,
            tell,
            kept: Vec::new(),
            changed: Vec::new(),
            peers: 0,
            lens: Lens::default(),
        })
    }

    /// How the machine is to be looked at.
    pub fn lens(&self) -> &Lens {
        &self.lens
    }

    pub(super) fn lens_mut(&mut self) -> &mut Lens {
        &mut self.lens
    }

    /// The machine that is looked at, on the network.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// The network namespace outside the machine.
    pub(super) fn outside(&self) -> &NetNs {
        &self.machine.outside
    }

    /// Another machine on a wire of its own to this one: 10.77.N.2, where this one is 10.77.N.1; N counts from 0.
    pub(super) fn peer(&mut self) -> Result<Host> {
        let number = self.peers;
        self.peers += 1;
        let peer = self.lab.host("peer")?;
        let (ours, theirs) = (format!("10.77.{number}.1/24"), format!("10.77.{number}.2/24"));
        self.lab.link(&self.host, &ours, &peer, &theirs)?;
        // The wire goes with either end.
        self.keep(peer.clone());
        Ok(peer)
    }

    /// Connections from this machine to `port` of the first peer.
    pub(super) fn out(&self, peer: &Host, port: u16) -> Path {
        Path::between(&self.host, peer).to(theirs(port))
    }

    /// Connections from the first peer to `port` of this machine.
    pub(super) fn inward(&self, peer: &Host, port: u16) -> Path {
        Path::between(peer, &self.host).to(ours(port))
    }

    /// A server at the first peer, for as long as the stage lives.
    pub(super) fn answer(&mut self, peer: &Host, port: u16, policy: Policy) -> Result<()> {
        let server = Server::start(peer, &[theirs(port)], policy)?;
        self.keep(server);
        Ok(())
    }

    /// Servers at [`SEVERAL`] of the first peer, and the way there from this machine.
    pub(super) fn out_to_several(&mut self, peer: &Host, policy: Policy) -> Result<Path> {
        let services = SEVERAL.map(theirs);
        let server = Server::start(peer, &services, policy)?;
        self.keep(server);
        Ok(services.into_iter().fold(Path::between(&self.host, peer), Path::to))
    }

    /// Says what is being done.
    pub(super) fn say(&self, what: impl AsRef<str>) {
        (self.tell)(what.as_ref());
    }

    /// Keeps something as long as the stage lives.
    pub(super) fn keep(&mut self, what: impl Any) {
        self.kept.push(Box::new(what));
    }

    /// Keeps something that puts back what was changed outside of the machine, when it is dropped.
    pub(super) fn changed(&mut self, what: impl Any) {
        self.changed.push(Box::new(what));
    }

    /// Puts back what was changed outside of the machine. Whoever lets the kernel take the machine down has to call it.
    pub fn put_back(&mut self) {
        self.changed.clear();
    }

    /// Lets time pass.
    pub(super) fn wait(&self, seconds: u64, why: &str) {
        self.say(format!("{why}, {seconds} s"));
        thread::sleep(Duration::from_secs(seconds));
    }

    /// Gives the machine `ports` ports to connect from, fewer on a slow machine (see [`scaled`]), and says how many.
    pub(super) fn ports(&self, ports: u64) -> Result<u64> {
        let ports = scaled(ports).max(20);
        let range = PortRange { low: FIRST_PORT, high: FIRST_PORT + (ports - 1) as u16 };
        self.host.set("net.ipv4.ip_local_port_range", &format!("{} {}", range.low, range.high))?;
        Ok(ports)
    }

    /// Writes a file of the machine's own. `path` is absolute, below /run or a directory of sysctl.d; or a name in the
    /// scratch directory.
    pub(super) fn file(&self, path: &str, text: &str) -> Result<PathBuf> {
        let path = self.machine.scratch.join(path);
        fs::write(&path, text).context("write", path.display())?;
        Ok(path)
    }

    /// Where to put what a program writes.
    pub(super) fn scratch(&self) -> &FilePath {
        &self.machine.scratch
    }

    /// A command in the machine or in a peer, its output in a file. Finds programs of the administrator too.
    fn command(&self, at: &NetNs, program: &str) -> Result<Command> {
        let log = self.log(program);
        let output = File::create(&log).context("create", log.display())?;
        let errors = output.try_clone().context("duplicate", "a descriptor")?;
        let mut command = at.command(find(program).unwrap_or_else(|| program.into()));
        command.env("PATH", search_path()).stdin(Stdio::null()).stdout(output).stderr(errors);
        Ok(command)
    }

    /// Where a program is.
    pub(super) fn find(&self, program: &str) -> Result<PathBuf> {
        find(program).ok_or_else(|| Error::Unavailable(format!("{program} is not installed")))
    }

    fn log(&self, program: &str) -> PathBuf {
        self.machine.scratch.join(format!("{}.log", program.replace('/', "-")))
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, at: &NetNs, program: &str, arguments: &[&str]) -> Result<()> {
        let status = self.command(at, program)?.args(arguments).status().context("run", program)?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Refused(format!("{program}: {status}: {}", self.last_words(program))))
    }

    /// Gives the machine chains of nftables.
    pub(super) fn nft(&self, chains: &str) -> Result<()> {
        let host = self.host.netns().clone();
        let file = self.file("rules.nft", &format!("table ip lab {{\n{chains}\n}}\n"))?.display().to_string();
        self.run(&host, "nft", &["-f", &file]).map_err(|error| Error::Unavailable(error.to_string()))
    }

    /// Leaves `count` sockets in TIME_WAIT at this machine's end of connections that came in.
    pub(super) fn fill_incoming(&mut self, peer: &Host, count: u64) -> Result<()> {
        let services: Vec<SocketAddr> = (8080..8088).map(ours).collect();
        let server = Server::start(&self.host, &services, Policy::CloseFirst)?;
        let path = services.iter().fold(Path::between(peer, &self.host), |path, &service| path.to(service));
        self.say(format!("{count} connections come in and are closed here"));
        let options = ChurnOptions {
            rate: None,
            count: Some(count),
            duration: Duration::from_secs(50),
            closer: Closer::Server,
            ..ChurnOptions::default()
        };
        path.churn(options)?.wait();
        self.keep(server);
        Ok(())
    }

    /// Starts a program that serves `address` and waits until it listens there. It ends with the machine. It runs as an
    /// ordinary user, whoever runs the lab: some programs refuse to be root.
    pub(super) fn serve(
        &mut self,
        at: &NetNs,
        program: &str,
        arguments: &[&str],
        address: SocketAddr,
    ) -> Result<()> {
        self.say(format!("starting {program}"));
        let mut command = self.command(at, program)?;
        if at.inode() != self.host.inode() {
            // A peer's answer comes later than what this machine does next, as over a real network.
            privilege::on_first_processor(&mut command, true)?;
        }
        privilege::as_nobody(&mut command);
        let child = command.args(arguments).spawn().context("start", program)?;
        self.await_listener(child, at, program, address)
    }

    /// Starts one of the lab's own servers in this machine and waits until it listens. It ends with the machine.
    pub(super) fn act(&mut self, actor: &Actor) -> Result<()> {
        self.say(format!("starting {}", actor.name));
        let host = self.host.netns().clone();
        let mut command = self.command(&host, "/proc/self/exe")?;
        let child = command.args(actor.arguments()).spawn().context("start", &actor.name)?;
        self.await_listener(child, &host, "/proc/self/exe", actor.listen)
    }

    /// Waits until `reached` says so of this machine, at most so many seconds.
    pub(super) fn until(
        &self,
        what: &str,
        seconds: u64,
        reached: impl Fn(&Host) -> Result<bool>,
    ) -> Result<()> {
        self.say(what);
        let start = Instant::now();
        while !reached(&self.host)? {
            if start.elapsed() > Duration::from_secs(seconds) {
                return Err(Error::Refused(format!("{what}: not so after {seconds} s")));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn await_listener(
        &mut self,
        mut child: Child,
        at: &NetNs,
        program: &str,
        address: SocketAddr,
    ) -> Result<()> {
        let start = Instant::now();
        while !listens(at, address)? {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::Refused(format!(
                    "{program} ended at once: {status}: {}",
                    self.last_words(program)
                )));
            }
            if start.elapsed() > START {
                return Err(Error::Refused(format!(
                    "{program} does not listen at {address} after {} s: {}",
                    START.as_secs(),
                    self.last_words(program)
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Not waited for: process 1 of the machine collects it.
        drop(child);
        Ok(())
    }

    /// The end of what a program has written.
    pub(super) fn last_words(&self, program: &str) -> String {
        let text = fs::read(self.log(program)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

/// `port` of the first peer.
pub(super) fn theirs(port: u16) -> SocketAddr {
    SocketAddr::new(their_address(), port)
}

/// `port` of this machine, on the wire to the first peer.
pub(super) fn ours(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 77, 0, 1], port))
}

/// The first peer.
pub(super) fn their_address() -> IpAddr {
    IpAddr::from([10, 77, 0, 2])
}

/// An address on the first peer's network where nobody is.
pub(super) fn nobody() -> IpAddr {
    IpAddr::from([10, 77, 0, 99])
}

/// Whether something listens at `address` in the namespace: a listener is in state 0A (/proc/net/tcp).
fn listens(at: &NetNs, address: SocketAddr) -> Result<bool> {
    let path = "/proc/thread-self/net/tcp";
    let text = at.run(|| fs::read_to_string(path))?.context("read", path)?;
    let port = format!(":{:04X}", address.port());
    Ok(text.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        local.ends_with(&port) && fields.nth(1) == Some("0A")
    }))
}

fn search_path() -> String {
    let usual = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    format!("{usual}:{MORE_PATHS}")
}

fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(program.into());
    }
    search_path()
        .split(':')
        .map(|directory| FilePath::new(directory).join(program))
        .find(|path| path.is_file())
}

impl Need {
    /// # Errors
    /// [`Error::Unavailable`] where it is not met.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Need::Program(program) if find(program).is_none() => {
                Err(Error::Unavailable(format!("{program} is not installed")))
            }
            Need::Disposable if std::env::var_os(DISPOSABLE).is_none() => Err(Error::Unavailable(format!(
                "it fills a limit of the whole machine: only where {DISPOSABLE} says that the machine may be thrown away"
            ))),
            _ => Ok(()),
        }
    }
}
