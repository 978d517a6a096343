//! Settings for containers: which of them a container has for itself, and the lines that set them there.
//!
//! A container has a network namespace of its own, which begins with the kernel's defaults: what the files of the host
//! set at boot does not reach it, neither when it is made nor later. What is rendered here is for pasting, into the
//! definition of the containers or of many hosts.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::{InNamespace, Setting, setting};
use crate::persist;

mod forms;

/// For what the settings are rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `securityContext.sysctls` of a pod.
    Kubernetes,
    /// Arguments of `docker run` and `podman run`.
    Docker,
    /// `sysctls` of a service in a compose file.
    Compose,
    /// `Sysctl=` lines of a quadlet, `NAME.container` (podman-systemd.unit(5)).
    Podman,
    /// A task for hosts, not for containers.
    Ansible,
    /// Lines of a file of /etc/sysctl.d: for hosts, and for a system that boots in a container with its own network.
    SysctlConf,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 6] =
        [Form::Kubernetes, Form::Docker, Form::Compose, Form::Podman, Form::Ansible, Form::SysctlConf];

    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Form::Kubernetes => "kubernetes",
            Form::Docker => "docker",
            Form::Compose => "compose",
            Form::Podman => "podman",
            Form::Ansible => "ansible",
            Form::SysctlConf => "sysctl-conf",
        }
    }
}

/// What becomes of a host's value of a setting in its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Each container has a value of its own, which can be set when it is made; the host's does not reach it.
    OwnValue,
    /// Each container has a value of its own, which cannot be set.
    ReadOnly,
    /// The machine has one value, in force for the containers too; it can be set on the host only.
    Host,
    /// It is no setting of the catalogue.
    Unknown,
}

/// How `setting` is between a host and its containers.
pub fn reach(setting: &Setting) -> Reach {
    match setting.in_namespace {
        InNamespace::Own => Reach::OwnValue,
        InNamespace::OwnReadOnly => Reach::ReadOnly,
        InNamespace::Shared | InNamespace::SharedReadOnly | InNamespace::Absent => Reach::Host,
    }
}

/// What to know of a setting before it is set for containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hint {
    /// The setting.
    pub setting: String,
    /// What becomes of the host's value.
    pub reach: Reach,
    /// Kubernetes: the version from which on every pod may set it without more ado, `any` for all that are in use; null where a node's administrator
    /// has to allow it, or where a pod cannot set it at all.
    pub kubernetes_safe_since: Option<String>,
    /// The same in a sentence.
    pub text: String,
}

/// The sysctls that the kubelet lets every pod set, with the first minor version of Kubernetes 1 that does
/// (kubernetes.io, tasks/administer-cluster/sysctl-cluster; pkg/kubelet/sysctl/safe_sysctls.go). 0: since before 1.18.
const KUBERNETES_SAFE: &[(&str, u16)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 18),
    ("net.ipv4.ip_unprivileged_port_start", 22),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// The first minor version of Kubernetes 1 in which every pod may set `name`; 0: all that matter. `None`: the
/// administrator of the node has to allow it.
pub fn kubernetes_safe_since(name: &str) -> Option<u16> {
    KUBERNETES_SAFE.iter().find(|(safe, _)| *safe == name).map(|(_, since)| *since)
}

/// What to know of each of `settings`, names and values, before they are set for containers.
pub fn hints(settings: &[(String, String)]) -> Vec<Hint> {
    settings.iter().map(|(name, value)| hint(name, value)).collect()
}

fn hint(name: &str, value: &str) -> Hint {
    let row = setting(name);
    let reach = row.map_or(Reach::Unknown, reach);
    let safe = kubernetes_safe_since(name).filter(|_| reach == Reach::OwnValue);
    let mut text = match reach {
        Reach::OwnValue => format!(
            "{name}: every container has its own; the host's value does not reach it, and a running container keeps what it has"
        ),
        Reach::ReadOnly => format!("{name}: a container can read it and not set it"),
        Reach::Host => {
            format!(
                "{name}: the machine has one value, set on the host only, and it is in force in containers too"
            )
        }
        Reach::Unknown => {
            format!("{name}: no setting that is known here; whether containers have their own is not known")
        }
    };
    if reach == Reach::OwnValue && value.is_empty() {
        text.push_str("; a new container has it empty already");
    }
    if let Some(since) = row.and_then(|row| row.namespaced_since).filter(|_| reach == Reach::OwnValue) {
        let _ = write!(text, "; of its own since Linux {since}");
    }
    Hint {
        setting: name.to_owned(),
        reach,
        kubernetes_safe_since: safe
            .map(|minor| if minor == 0 { "any".to_owned() } else { format!("1.{minor}") }),
        text,
    }
}

/// The text that sets `settings`, names and values, in the form asked for; it ends with a line end. What cannot be set
/// in that form is told in comments.
pub fn render(form: Form, settings: &[(String, String)]) -> String {
    forms::render(form, settings)
}

/// The file of a host that the settings are kept in.
pub(crate) const FILE: &str = persist::FILE;

#[cfg(test)]
mod tests;
