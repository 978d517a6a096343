//! What bears on a refusal of BPF programs here, in words that lead to the remedy.

use std::fs;
use std::path::Path;

use rustix::thread::CapabilitySet;
use tidewait_model::Limit;

use super::Refusal;
use crate::probe::{Privileges, lockdown_mode};
use tidewait_kernel::bpf::{Cause, Trouble};

/// What tracing takes: maps and programs, and to follow tracepoints and read kernel memory. CAP_SYS_ADMIN stands for both.
const NEEDED: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// The kernel's type information.
const BTF: &str = "sys/kernel/btf/vmlinux";

const KERNEL: &str =
    "Linux 5.12 or later with CONFIG_BPF_SYSCALL, CONFIG_BPF_EVENTS and CONFIG_DEBUG_INFO_BTF";

/// What bears on a refusal.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Needed capabilities that are not in effect, by name.
    missing: Vec<String>,
    /// The capabilities count in a user namespace only.
    confined: bool,
    /// A seccomp filter is on.
    filtered: bool,
    /// `none`, `integrity` or `confidentiality`, where it is known.
    lockdown: Option<String>,
    /// The kernel shows no type information.
    untyped: bool,
}

impl Standing {
    fn read(root: &Path) -> Standing {
        let privileges = Privileges::read();
        let status = fs::read_to_string(root.join("proc/thread-self/status")).unwrap_or_default();
        let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        Standing {
            missing: privileges.lacks(NEEDED),
            confined: !privileges.initial_user_namespace,
            filtered: seccomp.is_some_and(|mode| mode.trim() != "0"),
            lockdown: lockdown_mode(),
            untyped: !root.join(BTF).exists(),
        }
    }

    fn locked(&self) -> bool {
        self.lockdown.as_deref() == Some("confidentiality")
    }

    /// Whether it is rights or a policy that stands in the way.
    fn forbids(&self, cause: Cause) -> bool {
        match cause {
            Cause::Refused => true,
            Cause::Unsupported => !self.untyped && self.locked(),
            Cause::NoMemory | Cause::Unknown => false,
        }
    }

    /// Why, and what helps.
    fn explain(&self, trouble: &Trouble) -> (String, Option<String>) {
        let (why, remedy) = match trouble.cause {
            Cause::Refused if self.confined => (
                "BPF is refused inside a user namespace, whatever the capabilities there".to_owned(),
                "run it as root outside of the user namespace (rootless container)".to_owned(),
            ),
            Cause::Refused if !self.missing.is_empty() => {
                let names = self.missing.join(" and ");
                (format!("BPF is refused: {names} missing"), format!("run it as root, or with {names}"))
            }
            Cause::Refused if self.filtered => (
                "BPF is refused by a seccomp filter, though the capabilities are there".to_owned(),
                "allow bpf(2) in the container's or the unit's seccomp profile".to_owned(),
            ),
            Cause::Refused => (
                format!("BPF is refused by a security module, though the capabilities are there: {trouble}"),
                "allow it in the policy of the security module (SELinux, AppArmor)".to_owned(),
            ),
            Cause::Unsupported if self.untyped => (
                format!("the kernel has no type information (/{BTF} does not exist)"),
                "a kernel built with CONFIG_DEBUG_INFO_BTF; in a container, mount /sys".to_owned(),
            ),
            Cause::Unsupported if self.locked() => (
                "the kernel is locked down (confidentiality): no BPF program may read its memory".to_owned(),
                "boot with lockdown=integrity or none".to_owned(),
            ),
            Cause::Unsupported => (format!("the kernel refuses the programs: {trouble}"), KERNEL.to_owned()),
            Cause::NoMemory => (
                format!("no kernel memory for the maps: {trouble}"),
                "raise the memory limit of the control group or the unit".to_owned(),
            ),
            Cause::Unknown => return (trouble.to_string(), None),
        };
        (why, Some(remedy))
    }
}

/// What cannot be seen because of `trouble`.
pub(crate) fn limit(root: &Path, what: &str, trouble: &Trouble) -> Limit {
    refusal(root, what, trouble).limit
}

/// The same where nothing at all can be seen.
pub(crate) fn refusal(root: &Path, what: &str, trouble: &Trouble) -> Refusal {
    let standing = Standing::read(root);
    let (why, remedy) = standing.explain(trouble);
    let limit = Limit::new(what, why).of_detail();
    let limit = match remedy {
        Some(remedy) => limit.remedy(remedy),
        None => limit,
    };
    Refusal { limit, not_permitted: standing.forbids(trouble.cause) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cause: Cause, standing: &Standing) -> (String, String) {
        let (why, remedy) = standing.explain(&Trouble { cause, detail: "load: it went wrong".to_owned() });
        (why, remedy.unwrap_or_default())
    }

    #[test]
    fn a_refusal_names_what_stands_in_the_way_and_what_helps() {
        let none = Standing::default();
        let poor = Standing { missing: vec!["CAP_BPF".to_owned(), "CAP_PERFMON".to_owned()], ..none.clone() };
        let (why, remedy) = told(Cause::Refused, &poor);
        assert_eq!(why, "BPF is refused: CAP_BPF and CAP_PERFMON missing");
        assert_eq!(remedy, "run it as root, or with CAP_BPF and CAP_PERFMON");
        // Capabilities of a user namespace do not help, nor would more of them.
        let (why, remedy) = told(Cause::Refused, &Standing { confined: true, ..poor });
        assert!(why.contains("user namespace") && !remedy.contains("CAP_"), "{why} {remedy}");
        let (why, _) = told(Cause::Refused, &Standing { filtered: true, ..none.clone() });
        assert!(why.contains("seccomp"), "{why}");
        let (why, _) = told(Cause::Refused, &none);
        assert!(why.contains("security module") && why.contains("it went wrong"), "{why}");
    }

    #[test]
    fn what_the_kernel_lacks_is_named() {
        let none = Standing::default();
        let (why, remedy) = told(Cause::Unsupported, &Standing { untyped: true, ..none.clone() });
        assert!(why.contains(BTF) && remedy.contains("CONFIG_DEBUG_INFO_BTF"), "{why} {remedy}");
        let locked = |mode: &str| Standing { lockdown: Some(mode.to_owned()), ..none.clone() };
        assert!(told(Cause::Unsupported, &locked("confidentiality")).0.contains("locked down"));
        assert!(locked("confidentiality").forbids(Cause::Unsupported));
        assert!(none.forbids(Cause::Refused) && !none.forbids(Cause::Unsupported));
        // In the milder mode BPF programs may read.
        assert!(!told(Cause::Unsupported, &locked("integrity")).0.contains("locked down"));
        assert!(told(Cause::NoMemory, &none).1.contains("memory limit"));
        assert_eq!(told(Cause::Unknown, &none), ("load: it went wrong".to_owned(), String::new()));
    }
}
