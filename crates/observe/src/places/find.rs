//! Finding the namespaces: one pass over the processes, one over the names, then a choice.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use tidewait_model::Limit;

use super::named::{Names, names};
use super::processes::{ON_THE_HOST, Processes};
use super::{Kind, Place, PlaceError, Places, Scope};
use crate::procfs::{Proc, holds, link_inode, why_denied};

/// What it takes to look into the namespace of somebody else's process.
const ASK_AND_ENTER: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::SYS_ADMIN);

/// How many names a limit lists.
const NAMES_SHOWN: usize = 8;

/// Finds the network namespaces that `scope` asks for, each once. `root` is `/`, or a directory that holds
/// another `proc` and `run`.
///
/// Takes no privilege by itself. Without CAP_SYS_ADMIN only tidewait's own namespace is among the places; without
/// CAP_SYS_PTRACE the namespaces of other users' processes are known by those processes alone, so that one may also
/// be among the named ones. Both are in the limits then.
/// Cost: a few system calls a process and a name; no namespace is opened.
///
/// # Errors
/// Only [`Scope::One`] fails: there is no such namespace, or it cannot be looked into.
pub fn find(root: &Path, scope: &Scope) -> Result<Places, PlaceError> {
    find_with(root, scope, holds(CapabilitySet::SYS_ADMIN))
}

fn find_with(root: &Path, scope: &Scope, may_enter: bool) -> Result<Places, PlaceError> {
    let mut survey = Survey::of(root);
    let found = match scope {
        Scope::One(name) => survey.one(name, may_enter)?,
        Scope::Auto if survey.initial == Some(false) => survey.own_only(),
        Scope::Auto | Scope::All => survey.all(may_enter),
    };
    let Processes { busy, uncounted, .. } = survey.processes;
    Ok(Places { busy, uncounted, ..found })
}

/// What /proc and /run/netns say.
struct Survey {
    root: PathBuf,
    proc: Result<Proc, Errno>,
    processes: Processes,
    /// Whether the calling thread is in the initial network namespace, if that can be told.
    initial: Option<bool>,
    /// Inode of the initial network namespace.
    host: Option<u64>,
    names: Names,
}

impl Survey {
    fn of(root: &Path) -> Survey {
        let mut proc = Proc::open(root);
        let processes = proc.as_mut().map(Processes::look).unwrap_or_default();
        let initial = initial(root).or_else(|| Some(processes.own? == processes.of_init?));
        let host = if initial == Some(true) { processes.own } else { processes.of_init };
        Survey { root: root.to_owned(), proc, processes, initial, host, names: names(root) }
    }

    /// Every namespace that is known of, named.
    fn known(&mut self) -> Vec<Place> {
        let mut places = Vec::new();
        let mut taken = BTreeSet::new();
        let own_file =
            self.processes.own_thread.as_ref().map(|thread| self.root.join(format!("proc/{thread}/ns/net")));
        let process_file = |pid: u32| self.root.join(format!("proc/{pid}/ns/net"));
        if let Some(inode) = self.host {
            let leader = self.processes.leaders.get(&inode).copied();
            let own = self.processes.own == Some(inode);
            let file = own_file.clone().filter(|_| own).or(leader.map(process_file)).unwrap_or_default();
            places.push(Place { name: "host".to_owned(), inode, kind: Kind::Host, own, leader, file });
            taken.insert(inode);
        }
        for named in &self.names.named {
            if taken.insert(named.inode) {
                places.push(Place {
                    name: named.name.clone(),
                    inode: named.inode,
                    kind: Kind::Named,
                    own: self.processes.own == Some(named.inode),
                    leader: self.processes.leaders.get(&named.inode).copied(),
                    file: named.file.clone(),
                });
            }
        }
        // The calling thread may be where its process's first thread is not.
        let own_process =
            self.processes.own_thread.as_deref().and_then(|thread| thread.split('/').next()?.parse().ok());
        if let (Some(own), Some(pid)) = (self.processes.own, own_process) {
            self.processes.leaders.entry(own).or_insert(pid);
        }
        for (&inode, &pid) in self.processes.leaders.iter().filter(|(inode, _)| !taken.contains(inode)) {
            let own = self.processes.own == Some(inode);
            let file = own_file.clone().filter(|_| own).unwrap_or_else(|| process_file(pid));
            // A process that has gone by now has no name; entering the place will tell.
            let Ok(proc) = &mut self.proc else { break };
            let (name, kind) = called_after(proc, pid);
            places.push(Place { name, inode, kind, own, leader: Some(pid), file });
        }
        if !places.iter().any(|place| place.own) {
            places.push(Place {
                name: "own".to_owned(),
                inode: self.processes.own.unwrap_or(0),
                kind: Kind::Own,
                own: true,
                leader: None,
                file: own_file.unwrap_or_default(),
            });
        }
        self.tell_apart(&mut places);
        places.sort_by(|a, b| (a.kind, &a.name, a.inode).cmp(&(b.kind, &b.name, b.inode)));
        places
    }

    /// Adds the leading process to the names of groups that have several namespaces, or another's name.
    fn tell_apart(&mut self, places: &mut [Place]) {
        let mut uses: HashMap<String, u32> = HashMap::new();
        for place in &*places {
            *uses.entry(place.name.clone()).or_default() += 1;
        }
        for place in places.iter_mut().filter(|place| place.kind == Kind::Group && uses[&place.name] > 1) {
            if let (Some(pid), Ok(proc)) = (place.leader, &mut self.proc) {
                let command = proc.command(pid).unwrap_or_default();
                place.name = format!("{}/{command}[{pid}]", place.name);
            }
        }
    }

    /// The calling thread's own namespace alone.
    fn own_only(&mut self) -> Places {
        let places = self.known().into_iter().filter(|place| place.own).collect();
        Places { places, ..Places::default() }
    }

    /// All of them, as far as privileges go.
    fn all(&mut self, may_enter: bool) -> Places {
        let (places, closed): (Vec<Place>, Vec<Place>) =
            self.known().into_iter().partition(|place| place.own || may_enter);
        let mut limits: Vec<Limit> = self.names.broken.iter().map(PlaceError::limit).collect();
        limits.append(&mut self.names.limits);
        if let Some(limit) = cannot_enter(&closed) {
            limits.push(limit);
        }
        match &self.proc {
            Ok(_) if self.processes.own.is_some() => {}
            Ok(_) => limits.push(no_proc("it does not show this process")),
            Err(error) => limits.push(no_proc(&error.to_string())),
        }
        limits.extend(self.closed());
        if self.processes.denied > 0 {
            let (why, remedy) = why_denied(ASK_AND_ENTER);
            let what = match self.processes.denied {
                1 => "the network namespace of 1 process".to_owned(),
                many => format!("the network namespaces of {many} processes"),
            };
            limits.push(Limit::new(what, why).remedy(remedy));
        }
        if self.processes.hidden {
            let what = "the network namespaces of other users' processes";
            let why = "/proc is mounted with hidepid, which hides them without CAP_SYS_PTRACE";
            limits.push(Limit::new(what, why).remedy("run it as root, or with CAP_SYS_PTRACE"));
        }
        if self.processes.machines_own == Some(false) {
            let what = "the network namespaces of processes outside this container";
            let why = "tidewait runs in a process namespace of its own";
            limits.push(
                Limit::new(what, why).remedy("run it on the host, or share the host's process namespace"),
            );
        }
        Places { places, limits, ..Places::default() }
    }

    /// The namespaces that processes are seen to live in without telling which.
    fn closed(&mut self) -> Option<Limit> {
        let Ok(proc) = &mut self.proc else { return None };
        let machines_own = self.processes.machines_own == Some(true);
        let name = |pid: &u32| {
            if machines_own && ON_THE_HOST.contains(pid) {
                "host".to_owned()
            } else {
                called_after(proc, *pid).0
            }
        };
        let names: Vec<String> = self.processes.closed.values().map(name).collect();
        let (why, remedy) = why_denied(ASK_AND_ENTER);
        let what = match names.len() {
            0 => return None,
            1 => format!("the network namespace of {}", listed(&names)),
            many => format!("{many} network namespaces, those of {}", listed(&names)),
        };
        Some(Limit::new(what, why).remedy(remedy))
    }

    /// The one called `wanted`.
    fn one(&mut self, wanted: &str, may_enter: bool) -> Result<Places, PlaceError> {
        let inode = self.inode_of(wanted)?;
        let known = self.known();
        let place = known.iter().find(|place| match inode {
            Some(inode) => place.inode == inode,
            None => place.name == wanted,
        });
        match place {
            Some(place) if place.own || may_enter => {
                Ok(Places { places: vec![place.clone()], ..Places::default() })
            }
            Some(place) => Err(PlaceError::denied(&place.name, CapabilitySet::SYS_ADMIN)),
            None => {
                let known = known.into_iter().map(|place| place.name).collect();
                Err(PlaceError::Unknown { name: wanted.to_owned(), known })
            }
        }
    }

    /// The inode that `wanted` stands for; `None` if it is none of the fixed forms and may be a place's name.
    fn inode_of(&mut self, wanted: &str) -> Result<Option<u64>, PlaceError> {
        if let Some(named) = self.names.named.iter().find(|named| named.name == wanted) {
            return Ok(Some(named.inode));
        }
        let same = |error: &&PlaceError| matches!(error, PlaceError::NotANamespace { name, .. } | PlaceError::Failed { name, .. } if name == wanted);
        if let Some(error) = self.names.broken.iter().find(same) {
            return Err(error.clone());
        }
        if wanted == "host" {
            return match (self.host, self.processes.machines_own) {
                (Some(inode), _) => Ok(Some(inode)),
                (None, Some(true)) => Err(PlaceError::denied(wanted, ASK_AND_ENTER)),
                (None, _) => Err(PlaceError::HostHidden),
            };
        }
        if let Some(inode) = link_inode(wanted.as_bytes(), "net") {
            return Ok(Some(inode));
        }
        let Ok(pid) = wanted.parse::<u32>() else { return Ok(None) };
        let failed = |source| PlaceError::Failed { name: wanted.to_owned(), action: "find", source };
        let proc = self.proc.as_mut().map_err(|error| failed(*error))?;
        match self.processes.namespace_of(proc, pid) {
            Ok(Some(inode)) => {
                self.processes.leaders.entry(inode).or_insert(pid);
                Ok(Some(inode))
            }
            Ok(None) => Err(PlaceError::NoProcess { pid }),
            Err(_) => Err(PlaceError::denied(wanted, ASK_AND_ENTER)),
        }
    }
}

/// Whether the calling thread is in the initial network namespace. `tcp_max_orphans` is one of the settings
/// that the kernel shows there only (`ipv4_table`, net/ipv4/sysctl_net_ipv4.c), to everybody.
fn initial(root: &Path) -> Option<bool> {
    let settings = root.join("proc/sys/net/ipv4");
    if settings.join("tcp_max_orphans").exists() {
        Some(true)
    } else if settings.join("tcp_fin_timeout").exists() {
        Some(false)
    } else {
        None
    }
}

/// What to call the namespace that process `pid` leads.
fn called_after(proc: &mut Proc, pid: u32) -> (String, Kind) {
    match proc.membership(pid).name() {
        Some(group) => (group, Kind::Group),
        None => (format!("{}[{pid}]", proc.command(pid).unwrap_or_default()), Kind::Leader),
    }
}

fn cannot_enter(closed: &[Place]) -> Option<Limit> {
    let names: Vec<String> = closed.iter().map(|place| place.name.clone()).collect();
    let (why, remedy) = why_denied(CapabilitySet::SYS_ADMIN);
    let what = match names.len() {
        0 => return None,
        1 => format!("network namespace {}", listed(&names)),
        many => format!("{many} network namespaces: {}", listed(&names)),
    };
    Some(Limit::new(what, why).remedy(remedy))
}

/// The first few names, and how many more there are.
fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn no_proc(why: &str) -> Limit {
    Limit::new("network namespaces that have no name, and which one this is", format!("/proc: {why}"))
        .remedy("mount /proc")
}

#[cfg(test)]
mod tests;
