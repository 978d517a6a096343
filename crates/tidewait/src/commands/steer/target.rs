//! Whose connect() it is about: a control group, the network namespace of its processes, and when it is gone.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use tidewait_act::steer::{Group, SteerError, Tree};
use tidewait_observe::places::{self, Place, Scope};

use crate::cli;
use crate::commands::trace::process::Process;
use crate::exit::{NotPermitted, Usage};

/// Whose connect() it is about.
pub struct Target {
    /// What it is called.
    pub name: String,
    /// The group that the programs are attached to.
    pub group: Group,
    /// The only process that is meant.
    pub process: Option<Process>,
    /// The network namespace that ports and addresses are of.
    pub place: Place,
    /// Whether nobody is in the group by whom the namespace could be told: then it is the own one.
    pub is_empty: bool,
    /// Whether its control group comes back under the same name, as that of a unit does.
    returns: bool,
    /// The namespace that the processes of the group were taken to be in, where they tell it.
    told_by: Option<u64>,
}

impl Target {
    /// What was asked for.
    ///
    /// # Errors
    /// [`Usage`] where there is no such thing, [`NotPermitted`], or what went wrong.
    pub fn find(asked: &cli::Target) -> anyhow::Result<Target> {
        let tree = Tree::find().map_err(refused)?;
        let (name, path, process) = if let Some(pid) = asked.pid {
            let process = Process::open(pid)?;
            (format!("process {pid}"), membership(pid)?, Some(process))
        } else if let Some(unit) = &asked.unit {
            let (unit, path) = unit_path(&tree, unit)?;
            (unit, path, None)
        } else if let Some(path) = &asked.cgroup {
            let path = in_tree(&tree, path);
            (format!("control group {path}"), path, None)
        } else {
            ("every process".to_owned(), "/".to_owned(), None)
        };
        let group = tree.group(&path).map_err(|error| no_group(&tree, &path, &error))?;
        let mut is_empty = false;
        let scope = match (&asked.netns, asked.pid) {
            (Some(name), _) => Scope::One(name.clone()),
            (None, Some(pid)) => Scope::One(pid.to_string()),
            (None, None) if asked.all => Scope::One(std::process::id().to_string()),
            (None, None) => {
                let process = inside(&group)?;
                is_empty = process.is_none();
                Scope::One(process.unwrap_or_else(std::process::id).to_string())
            }
        };
        let found = places::find(Path::new("/"), &scope)?.places;
        let place = found.into_iter().next().ok_or_else(|| anyhow!("no network namespace was found"))?;
        let told_by = (asked.netns.is_none() && !asked.all).then_some(place.inode);
        Ok(Target { name, group, process, place, is_empty, returns: asked.unit.is_some(), told_by })
    }

    /// Where it is now.
    pub fn whereabouts(&self) -> Whereabouts {
        if self.process.as_ref().is_some_and(Process::has_ended) {
            return Whereabouts::Gone;
        }
        if self.group.is_gone() {
            // A process that goes on is in another one.
            return if self.returns || self.process.is_some() {
                Whereabouts::Away
            } else {
                Whereabouts::Gone
            };
        }
        Whereabouts::Here
    }

    /// Whether it is here, but no longer as it was found: the process was moved to another control group, or those of the group are
    /// in another network namespace, which they enter after they were put into the group. That takes a look at every process.
    pub fn has_moved(&self) -> bool {
        if let Some(process) = &self.process {
            return membership(process.pid).is_ok_and(|path| path != self.group.path);
        }
        let Some(known) = self.told_by else { return false };
        let there = inside(&self.group).ok().flatten();
        there.is_some_and(|pid| namespace(pid).is_some_and(|inode| inode != known))
    }

    /// What was asked for, once it is there again with a process by which the namespace is known; `None` until then. `thorough`:
    /// also elsewhere in the tree, which takes longer.
    ///
    /// # Errors
    /// Those of [`Target::find`].
    pub fn again(&self, asked: &cli::Target, thorough: bool) -> anyhow::Result<Option<Target>> {
        if !thorough && self.process.is_none() && !self.is_back() {
            return Ok(None);
        }
        let found = Target::find(asked)?;
        // Its number may be another's by now.
        if self.process.as_ref().is_some_and(Process::has_ended) {
            return Ok(None);
        }
        Ok(Some(found).filter(|target| !target.is_empty || asked.netns.is_some()))
    }

    /// Whether its control group is where it was, with a process in it.
    fn is_back(&self) -> bool {
        let group = Tree::find().ok().and_then(|tree| tree.group(&self.group.path).ok());
        group.is_some_and(|group| !group.processes().is_empty())
    }
}

/// Where those are who are to be steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// There.
    Here,
    /// Not there, and may come back.
    Away,
    /// Not there for good.
    Gone,
}

fn namespace(pid: u32) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|file| file.ino())
}

/// A process of the network namespace that all processes of the group are in; `None` where there is none.
fn inside(group: &Group) -> Result<Option<u32>, Usage> {
    let mut namespaces: BTreeMap<PathBuf, u32> = BTreeMap::new();
    for pid in group.processes() {
        // One that has ended meanwhile, or that may not be looked at, is passed over.
        if let Ok(namespace) = std::fs::read_link(format!("/proc/{pid}/ns/net")) {
            namespaces.entry(namespace).or_insert(pid);
        }
    }
    let pids: Vec<u32> = namespaces.into_values().collect();
    match pids[..] {
        [] => Ok(None),
        [pid] => Ok(Some(pid)),
        [first, second, ..] => Err(Usage(format!(
            "the processes of control group {} are in {} network namespaces: choose one by --netns ({first}, or {second}, say)",
            group.path,
            pids.len()
        ))),
    }
}

/// The error with its exit code.
pub fn refused(error: SteerError) -> anyhow::Error {
    match error {
        SteerError::NotPermitted(why) => NotPermitted(why).into(),
        SteerError::Impossible(why) => Usage(why).into(),
        other => other.into(),
    }
}

/// The control group of a process in the v2 tree.
fn membership(pid: u32) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .map_err(|error| Usage(format!("--pid {pid}: its control group cannot be read: {error}")))?;
    // The kernel leaves the line out for as long as nobody has mounted the tree: then everybody is in its root.
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    if path.starts_with("/..") {
        return Err(Usage(format!(
            "--pid {pid}: its control group {path} is outside of those that can be seen from here; run tidewait on the host"
        ))
        .into());
    }
    Ok(path.to_owned())
}

/// The control group of a systemd unit: its name is that of the directory.
fn unit_path(tree: &Tree, unit: &str) -> anyhow::Result<(String, String)> {
    let known = [".service", ".scope", ".slice", ".socket", ".mount"];
    let name = if known.iter().any(|kind| unit.ends_with(kind)) {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    };
    match tree.named(&name).as_slice() {
        [path] => Ok((name, path.clone())),
        [] => Err(Usage(format!(
            "--unit {unit}: there is no control group {name} {}; is it running (`systemctl status {name}`)? On a machine where systemd \
             uses cgroup v1 its units have none: choose by --pid",
            whereabouts(tree)
        ))
        .into()),
        several => Err(Usage(format!(
            "--unit {unit}: there are {} control groups {name}: give one by --cgroup: {}",
            several.len(),
            several.join(", ")
        ))
        .into()),
    }
}

fn whereabouts(tree: &Tree) -> String {
    tree.mounted().map_or_else(
        || "in the cgroup v2 tree, which is mounted nowhere".to_owned(),
        |point| format!("below {}", point.display()),
    )
}

/// A path from the root of the tree: as /proc/PID/cgroup has it, or with the mount point before it.
fn in_tree(tree: &Tree, path: &str) -> String {
    let below = tree.mounted().and_then(|point| Path::new(path).strip_prefix(point).ok());
    let below = below.unwrap_or_else(|| Path::new(path.trim_start_matches('/')));
    format!("/{}", below.display())
}

fn no_group(tree: &Tree, path: &str, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Usage(format!(
            "there is no control group {path} {}; processes have theirs in /proc/PID/cgroup, behind '0::'",
            whereabouts(tree)
        ))
        .into(),
        std::io::ErrorKind::PermissionDenied => {
            NotPermitted(format!("control group {path} cannot be opened: run it as root")).into()
        }
        _ => anyhow!("control group {path} cannot be opened: {error}"),
    }
}
