//! Probes of where one may look and go: other processes, other namespaces, devices in a namespace of one's own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};

use super::netlink::{self, Netlink};
use super::sandbox::Namespace;
use super::{Answer, Bench, Doing, Failure, Spec};

/// As many processes as settle the question.
const SAMPLE: usize = 64;

pub(super) const OUTSIDE: &[Spec] = &[
    Spec {
        id: "lockdown",
        title: "lockdown leaves kernel memory readable",
        enables: "trace, study: BPF programs may read kernel memory",
        needs: CapabilitySet::empty(),
        remedy: "lockdown= on the kernel command line sets the mode; mount -t securityfs none /sys/kernel/security shows it",
        run: |_| lockdown(),
    },
    Spec {
        id: "conntrack",
        title: "connection tracking",
        enables: "report: whether its table is full",
        needs: CapabilitySet::empty(),
        remedy: "none needed where no firewall or NAT uses it; else modprobe nf_conntrack",
        run: |_| conntrack(),
    },
    Spec {
        id: "see-namespaces",
        title: "see which namespace a process lives in",
        enables: "report: all namespaces, each once",
        needs: CapabilitySet::SYS_PTRACE,
        remedy: "CAP_SYS_PTRACE, in the PID namespace of the machine, on a /proc without hidepid",
        run: |bench| {
            each_process(bench, "its network namespace", |process| {
                fs::read_link(process.join("ns/net")).map(|_| true)
            })
        },
    },
    Spec {
        id: "see-descriptors",
        title: "see which sockets a process holds",
        enables: "report: who owns a socket",
        needs: CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH),
        remedy: "CAP_SYS_PTRACE, in the PID namespace of the machine, on a /proc without hidepid",
        run: |bench| {
            each_process(bench, "its descriptors", |process| {
                let mut any = false;
                for entry in fs::read_dir(process.join("fd"))? {
                    fs::read_link(entry?.path())?;
                    any = true;
                }
                Ok(any)
            })
        },
    },
    // Last in its room: it moves the worker about.
    Spec {
        id: "enter-namespace",
        title: "enter the namespace of another process",
        enables: "report --netns: containers and /run/netns",
        needs: CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE),
        remedy: "the machine's user namespace (not a rootless container)",
        run: enter_namespace,
    },
];

pub(super) const USER_NAMESPACE: &[Spec] = &[Spec {
    id: "user-namespace",
    title: "make a network namespace without privileges",
    enables: "lab and doctor without root",
    needs: CapabilitySet::empty(),
    remedy: "user.max_user_namespaces above 0; kernel.unprivileged_userns_clone=1 (Debian), \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)",
    run: namespace_made,
}];

pub(super) const NAMESPACE: &[Spec] = &[Spec {
    id: "new-namespace",
    title: "make a network namespace",
    enables: "lab, and most of these probes",
    needs: CapabilitySet::empty(),
    remedy: "CAP_SYS_ADMIN, or user namespaces for everyone",
    run: namespace_made,
}];

pub(super) const SANDBOX: &[Spec] = &[
    Spec {
        id: "device-veth",
        title: "join namespaces by veth",
        enables: "lab: hosts with a wire between them",
        needs: CapabilitySet::empty(),
        remedy: "CONFIG_VETH (modprobe veth)",
        run: |_| device("veth"),
    },
    Spec {
        id: "device-dummy",
        title: "dummy devices",
        enables: "lab: more source addresses",
        needs: CapabilitySet::empty(),
        remedy: "CONFIG_DUMMY (modprobe dummy); addresses on lo serve as well",
        run: |_| device("dummy"),
    },
    Spec {
        id: "netem",
        title: "delay and loss by netem",
        enables: "lab: late and lost segments",
        needs: CapabilitySet::empty(),
        remedy: "CONFIG_NET_SCH_NETEM (modprobe sch_netem)",
        run: |_| netem(),
    },
];

fn namespace_made(bench: &Bench) -> Answer {
    match &bench.namespace {
        Namespace::Own => Ok("made one, loopback is up".to_owned()),
        Namespace::UserOwned => Ok("made one inside a user namespace, loopback is up".to_owned()),
        Namespace::Refused(why) => Err(Failure::NotPermitted(why.clone())),
        Namespace::Callers => Err(Failure::Unknown("not tried".to_owned())),
    }
}

fn lockdown() -> Answer {
    let path = "/sys/kernel/security/lockdown";
    let modes = lockdown_modes().map_err(|error| match error {
        Errno::NOENT => Failure::Unsupported("the kernel has no lockdown built in".to_owned()),
        Errno::PERM | Errno::ACCESS => {
            Failure::Unknown(format!("{path} cannot be read, or no securityfs is mounted"))
        }
        other => Failure::Unknown(format!("securityfs: {other}")),
    })?;
    match in_effect(&modes) {
        "none" => Ok("mode none".to_owned()),
        "integrity" => Ok("mode integrity: reading is still allowed".to_owned()),
        _ => Err(Failure::Unsupported(format!("{path}: {}", modes.trim()))),
    }
}

/// The lockdown that is in effect: `none`, `integrity` or `confidentiality`, if it can be found out.
#[cfg(feature = "bpf")]
pub(crate) fn lockdown_mode() -> Option<String> {
    lockdown_modes().ok().map(|modes| in_effect(&modes).to_owned())
}

/// "none [integrity] confidentiality": the brackets mark the mode in effect.
fn in_effect(modes: &str) -> &str {
    modes.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(mode, _)| mode)
}

fn lockdown_modes() -> rustix::io::Result<String> {
    match fs::read_to_string("/sys/kernel/security/lockdown") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => lockdown_unmounted(),
        other => other.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// Reads the file from a securityfs that is mounted nowhere and ends with the descriptor.
fn lockdown_unmounted() -> rustix::io::Result<String> {
    let context = fsopen("securityfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let root = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let file = rustix::fs::openat(&root, "lockdown", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut modes = [0; 128];
    let length = rustix::io::read(&file, &mut modes)?;
    Ok(String::from_utf8_lossy(modes.get(..length).unwrap_or_default()).into_owned())
}

fn conntrack() -> Answer {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/netfilter/{name}"));
    match read("nf_conntrack_max") {
        Ok(max) => {
            let count = read("nf_conntrack_count").doing("nf_conntrack_count")?;
            Ok(format!("{} of {} entries in this namespace", count.trim(), max.trim()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::Unsupported("not built in, or its module is not loaded".to_owned()))
        }
        Err(error) => Err(Failure::of("nf_conntrack_max", &error)),
    }
}

/// The directories of other people's processes; for root, whose own most of them are, of any but this.
fn others(bench: &Bench) -> Result<impl Iterator<Item = PathBuf>, Failure> {
    let (me, uid) = (std::process::id(), bench.privileges.uid);
    let entries = fs::read_dir("/proc").doing("/proc")?;
    Ok(entries
        .flatten()
        .filter(move |entry| {
            entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).is_some_and(|pid| pid != me)
        })
        .filter(move |entry| uid == 0 || entry.metadata().is_ok_and(|meta| meta.uid() != uid))
        .map(|entry| entry.path()))
}

/// Looks at some processes; `look` says whether there was something to see. A few refusals are normal even for root: a process with a capability that this one
/// lacks is out of its reach (ptrace(2), access mode checking).
fn each_process(bench: &Bench, what: &str, look: fn(&Path) -> io::Result<bool>) -> Answer {
    let (mut seen, mut refused) = (0, 0);
    for process in others(bench)? {
        match look(&process) {
            Ok(true) => seen += 1,
            // There was nothing to be refused: kernel threads have no descriptors.
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused += 1,
            // Processes and descriptors come and go while one looks.
            Err(_) => {}
        }
        if seen + refused == SAMPLE {
            break;
        }
    }
    match (seen, refused) {
        (0, 0) => Err(Failure::Unknown("no process of another user in sight".to_owned())),
        (seen, refused) if refused > seen => Err(Failure::NotPermitted(format!(
            "{what}: {refused} of {} processes tried refused",
            seen + refused
        ))),
        (_, 0) => Ok(format!("{what}: {seen} processes tried, none refused")),
        _ => Ok(format!(
            "{what}: {seen} of {} processes tried; {refused} refused, having more privileges than this",
            seen + refused
        )),
    }
}

fn enter_namespace(bench: &Bench) -> Answer {
    let home = File::open("/proc/self/ns/net").doing("/proc/self/ns/net")?;
    let here = home.metadata().doing("/proc/self/ns/net")?.ino();
    let mut last = None;
    let mut found = None;
    for path in others(bench)?.map(|process| process.join("ns/net")).take(SAMPLE) {
        match File::open(&path).and_then(|there| Ok((there.metadata()?.ino(), there))) {
            // One that is not this namespace proves most; one that is goes through the same checks.
            Ok((inode, there)) => {
                found = Some((path, there));
                if inode != here {
                    break;
                }
            }
            Err(error) => last = Some(Failure::of(&path.display().to_string(), &error)),
        }
    }
    let Some((path, there)) = found else {
        return Err(
            last.unwrap_or_else(|| Failure::Unknown("no process of another user in sight".to_owned()))
        );
    };
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(there.as_fd(), kind).doing(&format!("setns to {}", path.display()))?;
    move_into_link_name_space(home.as_fd(), kind).doing("setns back")?;
    Ok(format!("into {} and back", path.display()))
}

fn device(kind: &str) -> Answer {
    would_load_no_module(kind)?;
    let route = Netlink::open(netlink::ROUTE).doing("netlink")?;
    match route.add_device(kind) {
        // What rtnetlink answers to a kind it does not know, and found no module for.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Err(Failure::Unsupported(format!("the kernel knows no {kind} device")))
        }
        other => other.doing(&format!("adding a {kind} device")).map(|()| "made one".to_owned()),
    }
}

fn netem() -> Answer {
    would_load_no_module("sch_netem")?;
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter. Delays nothing.
    let options: Vec<u8> = [0_u32, 1000, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let route = Netlink::open(netlink::ROUTE).doing("netlink")?;
    match route.add_discipline(netlink::LOOPBACK, "netem", &options) {
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
            Err(Failure::Unsupported("the kernel knows no netem discipline".to_owned()))
        }
        other => other.doing("adding netem to lo").map(|()| "put on lo of a new namespace".to_owned()),
    }
}

/// Asking for a device or discipline makes the kernel load its module, which would outlast the namespace (and
/// `dummy` would even make a device outside it). So a module that lies ready but is not loaded is left alone.
pub(super) fn would_load_no_module(name: &str) -> Result<(), Failure> {
    if Path::new("/sys/module").join(name).exists() {
        return Ok(());
    }
    let release = crate::procfs::kernel_release();
    let modules = fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).unwrap_or_default();
    if lists_module(&modules, name) {
        return Err(Failure::Unknown(format!(
            "not tried: module {name} is there but not loaded, and trying would load it"
        )));
    }
    Ok(())
}

/// Whether modules.dep ("kernel/net/sched/sch_netem.ko.xz: …") has the module.
fn lists_module(modules: &str, name: &str) -> bool {
    modules.lines().filter_map(|line| line.split(':').next()).any(|path| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split_once(".ko").is_some_and(|(stem, _)| stem == name)
    })
}

#[cfg(test)]
mod tests {
    use super::lists_module;

    #[test]
    fn a_module_is_found_by_its_whole_name() {
        let modules = "kernel/drivers/net/dummy.ko:\nkernel/net/sched/sch_netem.ko.xz: kernel/x.ko\n";
        assert!(lists_module(modules, "dummy") && lists_module(modules, "sch_netem"));
        assert!(!lists_module(modules, "netem") && !lists_module(modules, "x"));
    }
}
