//! A machine of one's own: a network namespace, a cgroup that is removed, clients that know nothing of being steered.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::client;
use tidewait_act::steer::{Counts, Offer, SteerError, Steering, Wish};
use tidewait_lab::NetNs;
use tidewait_model::PortSet;

/// A cgroup of the test's own, removed in the end.
pub struct Group {
    pub path: PathBuf,
    pub file: File,
}

impl Group {
    /// `None` where there is no cgroup v2 tree to be written to.
    pub fn new(parent: Option<&Path>) -> Option<Group> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?.to_owned();
        let parent = parent.map_or_else(|| PathBuf::from(mount), Path::to_owned);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("tidewait-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let file = File::open(&path).unwrap();
        Some(Group { path, file })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..200 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(std::thread::panicking(), "{} stays", self.path.display());
    }
}

/// A namespace with addresses to connect from and to, and a group.
pub struct Scene {
    pub net: NetNs,
    pub group: Group,
    pub locals: Vec<IpAddr>,
}

/// Addresses that the loopback gets; all of them are the machine's own.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub const OTHER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);

impl Scene {
    /// `None`, said so, where the test cannot run.
    pub fn new(name: &str) -> Option<Scene> {
        let Some(group) = Group::new(None) else {
            tidewait_lab::skip(name, "no cgroup v2 tree that can be written to");
            return None;
        };
        let net = match NetNs::new() {
            Ok(net) => net,
            Err(error) => {
                tidewait_lab::skip(name, error);
                return None;
            }
        };
        // A stray reset would end a TIME_WAIT (RFC 1337): what is counted on is to stay.
        net.set("net.ipv4.tcp_rfc1337", "1").unwrap();
        if let Err(error) = add_addresses(&net) {
            tidewait_lab::skip(name, error);
            return None;
        }
        let locals = vec![
            Ipv4Addr::LOCALHOST.into(),
            SERVER.into(),
            OTHER.into(),
            Ipv6Addr::LOCALHOST.into(),
            SERVER6.into(),
            "fd99::2".parse().unwrap(),
        ];
        Some(Scene { net, group, locals })
    }

    pub fn wish(&self, ports: PortSet) -> Wish<'_> {
        Wish {
            cgroup: self.group.file.as_fd(),
            netns: self.net.inode(),
            process: None,
            offer: self.offer(ports),
            reuse_after: None,
            careful: false,
        }
    }

    pub fn offer(&self, ports: PortSet) -> Offer {
        Offer { ports, sources: Vec::new(), locals: self.locals.clone() }
    }

    pub fn steer(&self, name: &str, wish: &Wish<'_>) -> Option<Steering> {
        started(name, wish)
    }

    pub fn client_in(&self, group: &Group) -> Client {
        Client::new(&self.net, Some(&group.path))
    }

    pub fn client(&self, steered: bool) -> Client {
        Client::new(&self.net, steered.then_some(self.group.path.as_path()))
    }
}

/// What was counted; each connect() once by its port, where `ports` are given, and once by its source, where `sources` are.
pub fn counted(steering: &Steering, ports: bool, sources: bool) -> Counts {
    let counts = steering.counts().unwrap();
    let alone = counts.left_with_port + counts.left_apart;
    if ports {
        let by_port = counts.steered + counts.fell_back + counts.unknown_source;
        assert_eq!(counts.connects, by_port + alone, "{counts:?}");
    }
    if sources {
        let by_source = counts.spread + counts.left_with_source + counts.left_to_routing;
        assert_eq!(counts.connects, by_source + alone, "{counts:?}");
    }
    counts
}

/// Starts, or says why the test is skipped. That the kernel refuses the programs is no reason.
pub fn started(name: &str, wish: &Wish<'_>) -> Option<Steering> {
    match Steering::start(wish) {
        Ok(steering) => Some(steering),
        Err(error @ SteerError::NotPermitted(_)) => {
            tidewait_lab::skip(name, error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn add_addresses(net: &NetNs) -> std::io::Result<()> {
    for address in ["10.99.0.1/32", "10.99.0.2/32", "fd99::1/128", "fd99::2/128"] {
        let status = net.command("ip").args(["addr", "add", address, "dev", "lo"]).status()?;
        if !status.success() {
            return Err(std::io::Error::other(format!("ip addr add {address} fails")));
        }
    }
    // An IPv6 address is there a moment before it can be bound.
    let begin = Instant::now();
    while let Err(error) = net.run(|| TcpListener::bind((SERVER6, 0))).map_err(std::io::Error::other)? {
        if begin.elapsed() > Duration::from_secs(30) {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A process that does what it is told and answers with a line (client.rs).
pub struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    pub fn new(net: &NetNs, group: Option<&Path>) -> Client {
        let mut child = net
            .command(std::env::current_exe().unwrap())
            .args(["--exact", "client::process", "--nocapture"])
            .env(client::CLIENT, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        if let Some(group) = group {
            fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Client { child, input, output }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The answer, whatever it is.
    pub fn try_ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "{command}: the client has ended");
            if let Some(answer) = line.strip_prefix(client::ANSWER) {
                return answer.trim_end().to_owned();
            }
        }
    }

    /// The answer, which is no error.
    pub fn ask(&mut self, command: &str) -> String {
        let answer = self.try_ask(command);
        assert!(!answer.starts_with("error"), "{command}: {answer}");
        answer
    }

    /// The numbers that are the answer.
    pub fn numbers(&mut self, command: &str) -> Vec<u64> {
        self.ask(command).split_whitespace().map(|word| word.parse().unwrap()).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
