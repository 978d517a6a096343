//! Owners as the kernel noted them, made into names.

use std::path::Path;

use tidewait_model::trace::Program;

use super::layout::{CgroupPath, LEVELS, Owner};
use crate::procfs::Membership;
use crate::procfs::Users;
use crate::procfs::printable;

/// What is needed to name owners.
pub(super) struct Names {
    users: Users,
}

impl Names {
    pub(super) fn read(root: &Path) -> Names {
        Names { users: Users::read(root) }
    }

    /// The owner in words.
    pub(super) fn program(&self, owner: &Owner, path: Option<&CgroupPath>) -> Program {
        let membership =
            path.map(|path| Membership::parse(&format!("0::{}", text(path)))).unwrap_or_default();
        Program {
            command: printable(&lossy(&owner.command)),
            pid: (owner.tgid != 0).then_some(owner.tgid),
            processes: (owner.tgid != 0).then_some(1),
            unit: membership.unit,
            container: membership.container,
            user: Some(self.users.name(owner.uid)),
        }
    }
}

/// The path of a control group from the outermost name that was kept.
fn text(path: &CgroupPath) -> String {
    let levels = usize::try_from(path.levels).unwrap_or(LEVELS).min(LEVELS);
    let mut text = String::new();
    for name in path.names.iter().take(levels).rev() {
        text.push('/');
        text.push_str(&lossy(name));
    }
    text
}

/// Bytes up to the first zero.
fn lossy(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
