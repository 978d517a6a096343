//! The forms against their readers' rules, and the sorting of settings against the catalogue.

use proptest::prelude::*;

use super::*;
use crate::catalogue::SETTINGS;

const RANGE: (&str, &str) = ("net.ipv4.ip_local_port_range", "10240 65535");
const REUSE: (&str, &str) = ("net.ipv4.tcp_tw_reuse", "1");
const EMPTY: (&str, &str) = ("net.ipv4.ip_local_reserved_ports", "");
const FILES: (&str, &str) = ("fs.file-max", "1000000");
const CONNTRACK: (&str, &str) = ("net.netfilter.nf_conntrack_max", "262144");

fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_catalogue_says_what_a_container_has_for_itself() {
    let of = |name| reach(setting(name).unwrap());
    assert_eq!(of(RANGE.0), Reach::OwnValue);
    assert_eq!(of(FILES.0), Reach::Host);
    assert_eq!(of(CONNTRACK.0), Reach::Host);
    assert_eq!(of("net.netfilter.nf_conntrack_count"), Reach::ReadOnly);
    let hints = hints(&pairs(&[RANGE, EMPTY, FILES, ("net.ipv4.nothing", "1")]));
    let reaches: Vec<Reach> = hints.iter().map(|hint| hint.reach).collect();
    assert_eq!(reaches, [Reach::OwnValue, Reach::OwnValue, Reach::Host, Reach::Unknown]);
    assert_eq!(hints[1].kubernetes_safe_since.as_deref(), Some("1.27"));
    assert_eq!(hints[2].kubernetes_safe_since, None);
    assert!(hints[1].text.contains("empty already"));
}

#[test]
fn kubernetes_tells_safe_from_unsafe_and_from_impossible() {
    let text = render(Form::Kubernetes, &pairs(&[REUSE, RANGE, FILES, ("net.ipv4.tcp_fin_timeout", "30")]));
    let expected = "\
# fs.file-max: the machine has one value, set on the host only, and it is in force in containers too
# Kubernetes calls net.ipv4.tcp_tw_reuse unsafe: the kubelet of every node that may run the pod needs
#   --allowed-unsafe-sysctls='net.ipv4.tcp_tw_reuse'
# or allowedUnsafeSysctls in its configuration; without it the pod is scheduled and does not start.
# Not for a pod with hostNetwork: true, which has the host's values.
spec:
  securityContext:
    sysctls:
      - name: net.ipv4.ip_local_port_range
        value: \"10240 65535\"
      - name: net.ipv4.tcp_fin_timeout # safe since Kubernetes 1.29
        value: \"30\"
      - name: net.ipv4.tcp_tw_reuse # unsafe, see above
        value: \"1\"
";
    assert_eq!(text, expected);
    assert!(render(Form::Kubernetes, &pairs(&[FILES])).ends_with("# nothing here can be set in a pod\n"));
}

#[test]
fn runtimes_get_each_value_as_one_word() {
    let settings = pairs(&[RANGE, REUSE, EMPTY]);
    let docker = render(Form::Docker, &settings);
    let arguments =
        "--sysctl 'net.ipv4.ip_local_port_range=10240 65535' \\\n--sysctl net.ipv4.tcp_tw_reuse=1\n";
    assert!(docker.ends_with(arguments), "{docker}");
    assert!(docker.contains("# net.ipv4.ip_local_reserved_ports: "), "{docker}");
    let compose = render(Form::Compose, &settings);
    let service = "services:\n  SERVICE:\n    sysctls:\n      net.ipv4.ip_local_port_range: \"10240 65535\"\n      \
                   net.ipv4.tcp_tw_reuse: \"1\"\n";
    assert!(compose.ends_with(service), "{compose}");
    let podman = render(Form::Podman, &settings);
    let container = "[Container]\nSysctl=\"net.ipv4.ip_local_port_range=10240 65535\"\nSysctl=\"net.ipv4.tcp_tw_reuse=1\"\n";
    assert!(podman.ends_with(container), "{podman}");
}

#[test]
fn hosts_get_everything() {
    let settings = pairs(&[RANGE, FILES, EMPTY]);
    let expected = "net.ipv4.ip_local_port_range = 10240 65535\nfs.file-max = 1000000\nnet.ipv4.ip_local_reserved_ports = \n";
    assert_eq!(render(Form::SysctlConf, &settings), expected);
    let ansible = render(Form::Ansible, &settings);
    let task = r#"- name: Settings of TCP connections
  ansible.posix.sysctl:
    name: "{{ item.name }}"
    value: "{{ item.value }}"
    sysctl_file: /etc/sysctl.d/80-tidewait.conf
    state: present
    reload: true
  loop:
    - { name: "net.ipv4.ip_local_port_range", value: "10240 65535" }
    - { name: "fs.file-max", value: "1000000" }
- name: net.ipv4.ip_local_reserved_ports empty after boot
  ansible.builtin.lineinfile:
    path: /etc/sysctl.d/80-tidewait.conf
    regexp: "^net\\.ipv4\\.ip_local_reserved_ports\\s*="
    line: "net.ipv4.ip_local_reserved_ports = "
    create: true
    mode: "0644"
- name: net.ipv4.ip_local_reserved_ports empty now
  ansible.builtin.command:
    argv: [sysctl, -w, "net.ipv4.ip_local_reserved_ports="]
  changed_when: true
"#;
    assert!(ansible.ends_with(task), "{ansible}");
}

#[test]
fn every_setting_is_in_every_form_once_or_told_of() {
    for form in Form::ALL {
        for row in SETTINGS {
            let text = render(form, &pairs(&[(row.name, "1")]));
            assert!(text.contains(row.name) && text.ends_with('\n'), "{form:?} {}: {text}", row.name);
        }
        assert_eq!(serde_json::to_value(form).unwrap(), form.name());
    }
}

proptest! {
    #[test]
    fn a_value_stays_one_string(value in "\\PC{1,20}") {
        let settings = pairs(&[(REUSE.0, &value)]);
        for form in [Form::Kubernetes, Form::Compose] {
            let text = render(form, &settings);
            let scalar = text.lines().last().unwrap().split_once(": ").unwrap().1;
            prop_assert_eq!(serde_json::from_str::<String>(scalar).unwrap(), value.clone());
        }
    }
}
