//! Who is asking: the user, the capabilities in effect, and whether they count on the machine itself.

use std::fs;
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
pub(super) struct Privileges {
    /// Name, or number where /etc/passwd has none.
    pub(super) user: String,
    /// Effective user id.
    pub(super) uid: u32,
    /// Effective group id.
    pub(super) gid: u32,
    /// Whether the capabilities are those of the machine and not of a user namespace (rootless container).
    pub(super) initial_user_namespace: bool,
    effective: CapabilitySet,
}

impl Privileges {
    /// Reads the calling thread's standing; what cannot be read counts as not held.
    pub(super) fn read() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let map = fs::read_to_string("/proc/thread-self/uid_map").unwrap_or_default();
        Self {
            user: Users::read(Path::new("/")).name(uid),
            uid,
            gid: rustix::process::getegid().as_raw(),
            // The initial namespace maps all 2^32 - 1 ids onto themselves; a kernel without user namespaces has no map.
            initial_user_namespace: map.is_empty()
                || map.split_ascii_whitespace().eq(["0", "0", "4294967295"]),
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

    /// The relevant capabilities in effect, by name.
    pub(super) fn names(&self) -> Vec<String> {
        names(self.effective & RELEVANT)
    }
}

/// `CAP_NET_ADMIN` and the like.
pub(super) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_the_capabilities_split_off_it() {
        let needed = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
        let admin = Privileges { effective: CapabilitySet::SYS_ADMIN, ..Privileges::read() };
        assert_eq!(names(admin.missing(needed)), ["CAP_NET_ADMIN"]);
        let none = Privileges { effective: CapabilitySet::empty(), ..admin };
        assert_eq!(none.missing(needed), needed);
        assert!(none.names().is_empty());
    }
}
