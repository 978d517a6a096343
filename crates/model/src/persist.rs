//! What keeps settings over a boot: who reads the sysctl files, in which order, and who wins.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::Configured;
use crate::observation::Limit;
use crate::ports::PortSet;

/// The file that settings are kept in, as it is seen from the root of the system.
pub const FILE: &str = "/etc/sysctl.d/80-tidewait.conf";

/// A program that applies sysctl files at boot, each in an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// systemd-sysctl (sysctl.d(5)): files of all directories by name, /etc/sysctl.conf only where a link in a directory
    /// leads to it. Debian, Ubuntu, Fedora, SUSE, Arch.
    SystemdSysctl,
    /// `sysctl --system` of procps 4 (sysctl(8)): files of all directories by name, hidden ones too, /etc/sysctl.conf
    /// after them.
    Procps,
    /// `sysctl --system` of procps 3.3.17: as procps 4, but neither wildcards nor empty values are known.
    Procps3,
    /// `sysctl --system` of procps 3.3.16 and older: as 3.3.17, but a file of /run/sysctl.d hides that of the same name in
    /// /etc/sysctl.d.
    Procps3Old,
    /// The service `sysctl` of Alpine: /lib and /usr/lib, then /etc/sysctl.d, then /etc/sysctl.conf, then /run.
    OpenrcAlpine,
    /// The service `sysctl` of OpenRC where sysctl is that of busybox: /etc/sysctl.conf, then /etc/sysctl.d, each line up to
    /// the first space in its value.
    OpenrcBusybox,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reader::SystemdSysctl => "systemd-sysctl",
            Reader::Procps => "sysctl --system (procps 4)",
            Reader::Procps3 => "sysctl --system (procps 3.3.17)",
            Reader::Procps3Old => "sysctl --system (procps 3.3.16 or older)",
            Reader::OpenrcAlpine => "the service sysctl of Alpine",
            Reader::OpenrcBusybox => "the service sysctl of OpenRC with busybox",
        })
    }
}

/// What of a boot sets a value; in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// `sysctl.NAME=VALUE` on the kernel's command line, before the first process (fs/proc/proc_sysctl.c
    /// `do_sysctl_args`, Linux 5.8).
    KernelCommandLine,
    /// The files of sysctl.d and /etc/sysctl.conf.
    Files,
    /// The firewall ufw, which has a file of its own (/etc/default/ufw `IPT_SYSCTL`).
    Ufw,
    /// The profile of tuned.
    Tuned,
    /// tuned again: the files of /etc and /run once more, over its profile (tuned-main.conf `reapply_sysctl`).
    TunedReapplies,
}

/// A value that is set at boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// What of the boot sets it.
    pub stage: Stage,
    /// The file and line, the setting and the value. The line is 0 where there are none, as on the kernel's command line.
    pub at: Configured,
}

/// What one reader makes of a system's files for one setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Boot {
    /// The reader.
    pub reader: Reader,
    /// How it is known that this reader is the one; null where none is known and this is one that may be.
    pub known_by: Option<String>,
    /// Everything that sets the setting, in the order of application: the last is what the boot ends with.
    pub assignments: Vec<Assignment>,
}

impl Boot {
    /// What the boot ends with.
    pub fn winner(&self) -> Option<&Assignment> {
        self.assignments.last()
    }
}

/// A setting that is kept in [`FILE`] and will be something else after the boot, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// The setting.
    pub setting: String,
    /// What is kept.
    pub ours: String,
    /// What wins; null where nothing sets it, because the line that keeps it is not read as it is meant.
    pub winner: Option<Assignment>,
    /// The reader under which it is so.
    pub reader: Reader,
    /// What will be, in a sentence.
    pub summary: String,
    /// What mends it.
    pub mend: String,
}

/// A module that has to be loaded before the files are applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModuleHint {
    /// The module.
    pub module: String,
    /// The settings that are not there without it.
    pub settings: Vec<String>,
    /// What mends it, in a sentence.
    pub mend: String,
    /// The file to write.
    pub file: String,
    /// Its only line.
    pub line: String,
}

/// What becomes of kept settings at boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outlook {
    /// What will not be as kept.
    pub conflicts: Vec<Conflict>,
    /// Other places that set the same values: no harm, and worth knowing when the value is to be changed.
    pub notes: Vec<String>,
    /// Modules that have to be loaded first.
    pub modules: Vec<ModuleHint>,
    /// What could not be read.
    pub limits: Vec<Limit>,
}

/// Whether two texts mean the same value of the setting `name`: white space, and the order of lists of ports, do not
/// matter.
pub fn same_value(name: &str, one: &str, other: &str) -> bool {
    if name == "net.ipv4.ip_local_reserved_ports" {
        return PortSet::parse_list(one).0 == PortSet::parse_list(other).0;
    }
    one.split_whitespace().eq(other.split_whitespace())
}
