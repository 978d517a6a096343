//! The forms that settings for containers are written in, each with the quoting of its reader.

use std::fmt::Write as _;

use super::{FILE, Form, Reach, hint, kubernetes_safe_since, reach};
use crate::catalogue::setting;

/// Settings for one form: what it can set, and the sentences about the rest.
struct Sorted<'a> {
    set: Vec<(&'a str, &'a str)>,
    rest: Vec<String>,
}

pub(super) fn render(form: Form, settings: &[(String, String)]) -> String {
    match form {
        Form::Kubernetes => kubernetes(&for_containers(settings)),
        Form::Docker => docker(&for_containers(settings)),
        Form::Compose => compose(&for_containers(settings)),
        Form::Podman => podman(&for_containers(settings)),
        Form::Ansible => ansible(settings),
        Form::SysctlConf => settings.iter().map(|(name, value)| format!("{}\n", line(name, value))).collect(),
    }
}

/// A line of a sysctl file, as every reader takes it: no quotes, no comment after the value (sysctl.conf(5)).
fn line(name: &str, value: &str) -> String {
    format!("{name} = {value}")
}

fn for_containers(settings: &[(String, String)]) -> Sorted<'_> {
    let mut sorted = Sorted { set: Vec::new(), rest: Vec::new() };
    for (name, value) in settings {
        let can_be_set = setting(name).is_some_and(|row| reach(row) == Reach::OwnValue);
        // Runtimes write the value without a line end, and so nothing at all for an empty one: the kernel is not asked.
        if can_be_set && !value.is_empty() {
            sorted.set.push((name, value));
        } else {
            sorted.rest.push(hint(name, value).text);
        }
    }
    sorted
}

fn comments(lines: &[String], mark: &str) -> String {
    lines.iter().map(|line| format!("{mark} {line}\n")).collect()
}

/// A YAML scalar that is a string whatever it holds: YAML reads the strings of JSON.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn kubernetes(sorted: &Sorted<'_>) -> String {
    let mut text = comments(&sorted.rest, "#");
    if sorted.set.is_empty() {
        return text + "# nothing here can be set in a pod\n";
    }
    let (safe, not): (Vec<_>, Vec<_>) =
        sorted.set.iter().copied().partition(|(name, _)| kubernetes_safe_since(name).is_some());
    if !not.is_empty() {
        let names: Vec<&str> = not.iter().map(|(name, _)| *name).collect();
        let _ = writeln!(
            text,
            "# Kubernetes calls {} unsafe: the kubelet of every node that may run the pod needs\n\
             #   --allowed-unsafe-sysctls='{}'\n\
             # or allowedUnsafeSysctls in its configuration; without it the pod is scheduled and does not start.",
            names.join(", "),
            names.join(",")
        );
    }
    text.push_str("# Not for a pod with hostNetwork: true, which has the host's values.\n");
    text.push_str("spec:\n  securityContext:\n    sysctls:\n");
    for (name, value) in safe {
        let since = kubernetes_safe_since(name).filter(|minor| *minor > 0);
        let since = since.map_or(String::new(), |minor| format!(" # safe since Kubernetes 1.{minor}"));
        let _ = writeln!(text, "      - name: {name}{since}\n        value: {}", yaml(value));
    }
    for (name, value) in not {
        let _ = writeln!(text, "      - name: {name} # unsafe, see above\n        value: {}", yaml(value));
    }
    text
}

/// A word for a shell.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn docker(sorted: &Sorted<'_>) -> String {
    let mut text = comments(&sorted.rest, "#");
    if sorted.set.is_empty() {
        return text + "# nothing here can be set for a container\n";
    }
    text.push_str("# Arguments of docker run or podman run; not with --network host.\n");
    let arguments: Vec<String> = sorted
        .set
        .iter()
        .map(|(name, value)| format!("--sysctl {}", shell(&format!("{name}={value}"))))
        .collect();
    text.push_str(&arguments.join(" \\\n"));
    text.push('\n');
    text
}

fn compose(sorted: &Sorted<'_>) -> String {
    let mut text = comments(&sorted.rest, "#");
    if sorted.set.is_empty() {
        return text + "# nothing here can be set for a container\n";
    }
    text.push_str("# SERVICE is the name of the service; not with network_mode: host.\n");
    text.push_str("services:\n  SERVICE:\n    sysctls:\n");
    for (name, value) in &sorted.set {
        let _ = writeln!(text, "      {name}: {}", yaml(value));
    }
    text
}

fn podman(sorted: &Sorted<'_>) -> String {
    let mut text = comments(&sorted.rest, "#");
    if sorted.set.is_empty() {
        return text + "# nothing here can be set for a container\n";
    }
    text.push_str("# In NAME.container; not with Network=host.\n[Container]\n");
    for (name, value) in &sorted.set {
        // A list of words, as systemd splits it; % begins a specifier.
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
        let _ = writeln!(text, "Sysctl=\"{name}={value}\"");
    }
    text
}

fn ansible(settings: &[(String, String)]) -> String {
    let mut text = format!(
        "# For hosts; containers have values of their own. Where tidewait itself has written {FILE},\n\
         # remove that first with: tidewait tune unpersist. It does not write into a file that is not its own.\n"
    );
    let (filled, empty): (Vec<_>, Vec<_>) = settings.iter().partition(|(_, value)| !value.is_empty());
    if !filled.is_empty() {
        let _ = writeln!(
            text,
            "- name: Settings of TCP connections\n  ansible.posix.sysctl:\n    name: \"{{{{ item.name }}}}\"\n    value: \"{{{{ \
             item.value }}}}\"\n    sysctl_file: {FILE}\n    state: present\n    reload: true\n  loop:"
        );
        for (name, value) in filled {
            let _ = writeln!(text, "    - {{ name: {}, value: {} }}", yaml(name), yaml(value));
        }
    }
    for (name, value) in empty {
        // ansible.posix.sysctl fails with "value cannot be blank".
        let line = line(name, value);
        let _ = writeln!(
            text,
            "- name: {} empty after boot\n  ansible.builtin.lineinfile:\n    path: {FILE}\n    regexp: {}\n    line: {}\n    \
             create: true\n    mode: \"0644\"\n- name: {} empty now\n  ansible.builtin.command:\n    argv: [sysctl, -w, {}]\n  \
             changed_when: true",
            name,
            yaml(&format!("^{}\\s*=", name.replace('.', "\\."))),
            yaml(&line),
            name,
            yaml(&format!("{name}="))
        );
    }
    text
}
