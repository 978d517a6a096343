//! Who is asking: the user, the capabilities in effect, and whether they count on the machine itself.

use std::fs;

/// The capabilities that decide about anything tidewait does, with their bits (include/uapi/linux/capability.h).
const RELEVANT: &[(u32, &str)] = &[
    (1, "CAP_DAC_OVERRIDE"),
    (2, "CAP_DAC_READ_SEARCH"),
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (24, "CAP_SYS_RESOURCE"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

/// What the kernel knew as CAP_SYS_ADMIN before 5.8 split CAP_BPF and CAP_PERFMON off; it still implies both.
const IMPLIED_BY_SYS_ADMIN: &[&str] = &["CAP_BPF", "CAP_PERFMON"];

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
    effective: u64,
}

impl Privileges {
    /// Reads the calling thread's standing; what cannot be read counts as not held.
    pub(super) fn read() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let effective = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self {
            user: user_name(&passwd, uid).map_or_else(|| uid.to_string(), str::to_owned),
            uid,
            gid: rustix::process::getegid().as_raw(),
            // The initial namespace maps all 2^32 - 1 ids onto themselves; a kernel without user namespaces has no map.
            initial_user_namespace: map.is_empty()
                || map.split_ascii_whitespace().eq(["0", "0", "4294967295"]),
            effective,
        }
    }

    /// Whether the capability of this name is in effect.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names().contains(&name)
            || (IMPLIED_BY_SYS_ADMIN.contains(&name) && self.names().contains(&"CAP_SYS_ADMIN"))
    }

    /// The relevant capabilities in effect.
    pub(super) fn names(&self) -> Vec<&'static str> {
        RELEVANT.iter().filter(|(bit, _)| self.effective >> bit & 1 == 1).map(|(_, name)| *name).collect()
    }
}

/// The name of a user in the text of /etc/passwd.
fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_user_by_number_and_skips_broken_lines() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nnobody:x:65534:65534::/:/bin/false\n";
        assert_eq!(user_name(passwd, 65534), Some("nobody"));
        assert_eq!(user_name(passwd, 7), None);
    }

    #[test]
    fn sys_admin_stands_for_the_capabilities_split_off_it() {
        let admin = Privileges { effective: 1 << 21, ..Privileges::read() };
        assert!(admin.has("CAP_BPF") && admin.has("CAP_PERFMON") && !admin.has("CAP_NET_ADMIN"));
        let none = Privileges { effective: 0, ..admin };
        assert!(!none.has("CAP_BPF") && none.names().is_empty());
    }
}
