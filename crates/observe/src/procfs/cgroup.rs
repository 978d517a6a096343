//! What a process's control group tells: its systemd unit, its container, its pod.
//!
//! Only names are read, so this works without asking systemd or a container runtime. The forms known are those of
//! docker, containerd, CRI-O, podman, ECS, LXC, systemd-machined and kubelet, under both cgroup drivers.

use std::path::Path;

use super::file::{Directory, SHORT};
use super::process::printable;

/// Where a process belongs, as far as the names of its control groups tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// The systemd unit nearest to the process, unless that is the scope of the container itself.
    pub unit: Option<String>,
    /// The container: the first 12 digits of its id, as `docker ps` shows it, or its name.
    pub container: Option<String>,
    /// The Kubernetes pod's uid, with dashes.
    pub pod: Option<String>,
}

/// The text of `root`/proc/`pid`/cgroup, if the process is there and may be read.
pub fn cgroup_of(root: &Path, pid: u32) -> Option<String> {
    let mut text = Vec::new();
    Directory::open(&root.join("proc")).ok()?.read(&format!("{pid}/cgroup"), SHORT, &mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

impl Membership {
    /// Reads the text of a /proc/PID/cgroup: lines of `hierarchy:controllers:path`.
    ///
    /// The unified hierarchy (`0::`) is asked first, then systemd's own of cgroup v1 and hybrid machines, then the
    /// rest. The first line that tells a container decides; if none does, the first that has a path. With docker's
    /// cgroupfs driver on a hybrid machine `0::` still names the unit of the runtime's daemon, and only the others
    /// tell the container.
    pub fn parse(text: &str) -> Membership {
        let mut lines: Vec<(u8, &str)> = text
            .lines()
            .filter_map(|line| {
                let mut fields = line.splitn(3, ':');
                let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
                let rank = match (hierarchy, controllers) {
                    ("0", "") => 0,
                    (_, "name=systemd") => 1,
                    _ => 2,
                };
                Some((rank, path.strip_suffix(" (deleted)").unwrap_or(path)))
            })
            .filter(|(_, path)| *path != "/")
            .collect();
        lines.sort_by_key(|(rank, _)| *rank);
        let mut told = lines.iter().map(|(_, path)| Membership::of_path(path));
        let Some(first) = told.next() else { return Membership::default() };
        if first.container.is_some() {
            return first;
        }
        told.find(|other| other.container.is_some()).unwrap_or(first)
    }

    /// Reads one control group path, from the outermost group to the innermost; the innermost that tells
    /// something wins.
    fn of_path(path: &str) -> Membership {
        let mut found = Membership::default();
        let mut parents = ("", "");
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if let Some(container) = container(part, parents) {
                found.container = Some(container);
                found.unit = None;
            } else if [".service", ".scope", ".socket", ".mount", ".swap"]
                .iter()
                .any(|kind| part.ends_with(kind))
            {
                found.unit = Some(printable(&unescape(part)));
            }
            if let Some(pod) = pod(part) {
                found.pod = Some(pod);
            }
            parents = (parents.1, part);
        }
        found
    }

    /// What to call a group of processes that share this membership, if it tells enough for a name: the pod, the
    /// container or the unit. Login sessions and user managers are no name: many things run in one.
    pub(crate) fn name(&self) -> Option<String> {
        let unit = self.unit.as_ref().filter(|unit| {
            !unit.starts_with("session-") && !unit.starts_with("user@") && *unit != "init.scope"
        });
        self.pod.as_ref().map(|pod| format!("pod-{pod}")).or_else(|| self.container.clone()).or(unit.cloned())
    }
}

/// The container that the group `part` stands for. `parents` are the two groups above it, the nearest last.
fn container(part: &str, parents: (&str, &str)) -> Option<String> {
    if let Some(scope) = part.strip_suffix(".scope") {
        if let Some(machine) = scope.strip_prefix("machine-") {
            return Some(printable(&unescape(machine)));
        }
        // docker-ID, cri-containerd-ID, crio-ID, libpod-ID; libpod-conmon-ID is the container's monitor outside.
        let (runtime, id) = scope.rsplit_once('-')?;
        return if runtime.ends_with("conmon") { None } else { short_id(id) };
    }
    if let Some(machine) = part.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service"))
    {
        return Some(printable(&unescape(machine)));
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(printable(name));
    }
    match parents {
        (_, "lxc" | "lxc.payload") => return Some(printable(part)),
        // Fargate's ids are shorter than others: 32 digits, a dash, a number.
        ("ecs", _) => return Some(short_id(part).unwrap_or_else(|| printable(part))),
        _ => {}
    }
    // containerd without systemd's driver: kubepods-burstable-podUID.slice:cri-containerd:ID
    short_id(part.rsplit(':').next()?)
}

/// The short form of a container id of 64 hexadecimal digits.
fn short_id(id: &str) -> Option<String> {
    let hexadecimal = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hexadecimal { id.get(..12).map(str::to_owned) } else { None }
}

/// The uid of a pod in `kubepods-burstable-podUID.slice` (systemd driver: `_` for `-`) or `podUID` (cgroupfs).
/// Static pods have a uid of 32 digits without dashes.
fn pod(part: &str) -> Option<String> {
    let part = part.split(".slice").next()?;
    let uid =
        if part.starts_with("kubepods") { part.rsplit_once("-pod")?.1 } else { part.strip_prefix("pod")? };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|byte| *byte == b'-').count();
    (digits == 32 && matches!(dashes, 0 | 4) && digits + dashes == uid.len()).then_some(uid)
}

/// Undoes systemd's `\x2d` escapes (systemd.unit(5)). What is no escape stays as it is.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = match rest {
            [b'\\', b'x', high, low, ..] => char::from(*high).to_digit(16).zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        match code.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests;
