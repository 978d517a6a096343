//! Who is asking: the user, the capabilities in effect, and where they count.
#![expect(unsafe_code, reason = "one ioctl(2) that rustix does not know")]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use crate::procfs::Users;

/// The capabilities that decide about anything tidewait does.
const RELEVANT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::BPF);

/// What CAP_SYS_ADMIN still implies after 5.8 split them off it.
const IMPLIED_BY_SYS_ADMIN: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// The caller's standing with the kernel.
#[derive(Clone, Debug)]
pub struct Privileges {
    /// Name, or number where /etc/passwd has none.
    pub(super) user: String,
    /// Effective user id.
    pub(super) uid: u32,
    /// Effective group id.
    pub(super) gid: u32,
    /// Whether the capabilities are those of the machine and not of a user namespace (rootless container).
    pub(crate) initial_user_namespace: bool,
    /// Whether they count in the network namespace that the caller is in.
    pub rule_here: bool,
    pub(super) effective: CapabilitySet,
}

impl Privileges {
    /// Reads the calling thread's standing; what cannot be read counts as not held.
    pub fn read() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let map = fs::read_to_string("/proc/thread-self/uid_map").unwrap_or_default();
        Self {
            user: Users::read(Path::new("/")).name(uid),
            uid,
            gid: rustix::process::getegid().as_raw(),
            // The initial namespace maps all 2^32 - 1 ids onto themselves; a kernel without user namespaces has no map.
            initial_user_namespace: map.is_empty()
                || map.split_ascii_whitespace().eq(["0", "0", "4294967295"]),
            rule_here: owner_in_scope(),
            effective: capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective),
        }
    }

    /// Those of `needed` that are not in effect.
    pub(super) fn missing(&self, needed: CapabilitySet) -> CapabilitySet {
        let implied = if self.effective.contains(CapabilitySet::SYS_ADMIN) {
            IMPLIED_BY_SYS_ADMIN
        } else {
            CapabilitySet::empty()
        };
        needed - self.effective - implied
    }

    /// Those of `needed` that are not in effect, by name.
    pub fn lacks(&self, needed: CapabilitySet) -> Vec<String> {
        names(self.missing(needed))
    }

    /// The relevant capabilities in effect, by name.
    pub(super) fn names(&self) -> Vec<String> {
        names(self.effective & RELEVANT)
    }
}

/// Whether the user namespace that owns this network namespace is the caller's or one below it: only then do the
/// caller's capabilities count in it. The kernel answers just that with NS_GET_USERNS (ioctl_ns(2), 4.9).
fn owner_in_scope() -> bool {
    /// `_IO(0xb7, 1)`
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // What cannot be asked is not held against the caller.
    let Ok(namespace) = fs::File::open("/proc/thread-self/ns/net") else { return true };
    // SAFETY: the call takes no argument; it returns a new descriptor or -1.
    let owner = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if owner < 0 {
        return io::Error::last_os_error().raw_os_error() != Some(libc::EPERM);
    }
    // SAFETY: the descriptor is new and belongs to nobody else.
    drop(unsafe { OwnedFd::from_raw_fd(owner) });
    true
}

/// `CAP_NET_ADMIN` and the like.
pub(super) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
impl Privileges {
    /// A user of the machine itself with just these capabilities.
    pub(super) fn with(effective: CapabilitySet) -> Self {
        Self { effective, initial_user_namespace: true, rule_here: true, ..Self::read() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_the_capabilities_split_off_it() {
        let needed = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
        let admin = Privileges::with(CapabilitySet::SYS_ADMIN);
        assert_eq!(names(admin.missing(needed)), ["CAP_NET_ADMIN"]);
        let none = Privileges::with(CapabilitySet::empty());
        assert_eq!(none.missing(needed), needed);
        assert!(none.names().is_empty());
    }
}
