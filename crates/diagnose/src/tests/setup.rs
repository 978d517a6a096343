//! Listeners in the port range, files of settings, limits of descriptors; and commands that act in the right place.

use tidewait_model::machine::Process;
use tidewait_model::report::Severity::{Critical, Notice, Warning};

use super::*;

fn in_range(facts: &mut NamespaceFacts, ports: &[u16]) {
    facts.census.listeners = ports.iter().map(|port| listener(&format!("10.0.0.1:{port}"), 0, 128)).collect();
}

#[test]
fn a_service_in_the_port_range_is_to_be_reserved_beside_what_is_reserved_already() {
    let mut facts = host();
    in_range(&mut facts, &[443, 40_000, 40_001, 50_000]);
    set(&mut facts, &[("net.ipv4.ip_local_reserved_ports", "33000-33009,50000")]);
    let found = findings_of(facts);
    let finding = only(&found);
    assert_eq!((finding.id.as_str(), finding.severity), ("listener-in-port-range", Notice));
    assert!(finding.summary.contains("2 services"), "{}", finding.summary);
    assert_eq!(
        remedy(finding, "reserve-ports").command.as_deref(),
        Some("sysctl -w net.ipv4.ip_local_reserved_ports=33000-33009,40000-40001,50000")
    );
    let mut outside = host();
    in_range(&mut outside, &[443, 8_080, 61_000]);
    assert!(findings_of(outside).is_empty());
}

fn boot(lines: &[(&str, u32, &str, &str)], applies: bool) -> Vec<Finding> {
    let configured =
        lines.iter().map(|(file, line, setting, value)| configured(file, *line, setting, value)).collect();
    let machine = Machine { configured, applied_by: Some("systemd-sysctl".to_owned()), ..Machine::default() };
    findings(&seen(vec![NamespaceFacts { configured: applies, ..host() }], machine))
}

const RANGE: &str = "net.ipv4.ip_local_port_range";

#[test]
fn of_two_files_the_later_one_wins_and_the_other_is_said_to_do_nothing() {
    let files = [
        ("/etc/sysctl.d/50-ports.conf", 2, RANGE, "10240 65535"),
        ("/usr/lib/sysctl.d/99-vendor.conf", 7, RANGE, "32768\t60999"),
    ];
    let found = boot(&files, true);
    let finding = only(&found);
    assert_eq!(
        (finding.id.as_str(), finding.severity, finding.subject.as_str()),
        ("setting-overridden", Notice, RANGE)
    );
    assert!(finding.summary.contains("99-vendor.conf line 7 wins"), "{}", finding.summary);
    assert!(is_no_help(finding, "editing /etc/sysctl.d/50-ports.conf line 2"));
    assert!(!has_remedy(finding, "apply-or-write-down"));
    // Containers do not get the host's files.
    assert!(boot(&files, false).is_empty());
}

#[test]
fn a_value_in_force_that_no_file_says_goes_at_the_next_boot() {
    let found = boot(&[("/etc/sysctl.d/50-ports.conf", 2, RANGE, "10240 65535")], true);
    let finding = only(&found);
    assert!(finding.summary.contains("is 32768 60999, the files say 10240 65535"), "{}", finding.summary);
    let apply = remedy(finding, "apply-or-write-down");
    assert_eq!(apply.command.as_deref(), Some("sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\""));
    // The same, however it is spaced; and twice the same is no contradiction.
    assert!(boot(&[("/a", 1, RANGE, " 32768   60999 "), ("/b", 1, RANGE, "32768 60999")], true).is_empty());
}

#[test]
fn a_file_that_nothing_reads_is_told() {
    let machine = Machine {
        not_applied: vec![
            configured("/etc/sysctl.conf", 3, RANGE, "10240 65535"),
            configured("/etc/sysctl.conf", 4, "net.ipv4.tcp_fin_timeout", "60"),
        ],
        applied_by: Some("systemd-sysctl".to_owned()),
        ..Machine::default()
    };
    let found = findings(&seen(vec![NamespaceFacts { configured: true, ..host() }], machine));
    let finding = only(&found);
    assert_eq!(finding.id, "setting-overridden");
    assert!(
        finding.summary.contains("/etc/sysctl.conf line 3") && finding.summary.contains("nothing reads"),
        "{}",
        finding.summary
    );
}

#[test]
fn settings_that_are_gone_are_told_where_the_kernel_does_not_have_them() {
    for (name, words) in [
        ("net.ipv4.tcp_tw_recycle", "NAT"),
        ("net.ipv4.tcp_tw_timeout", "mainline has none"),
        (
            "net.ipv4.netfilter.ip_conntrack_tcp_timeout_time_wait",
            "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
        ),
        ("net.ipv4.ip_conntrack_max", "net.netfilter.nf_conntrack_max"),
    ] {
        let found = boot(&[("/etc/sysctl.d/60-old.conf", 3, name, "1")], true);
        let finding = only(&found);
        assert_eq!((finding.id.as_str(), finding.severity), ("setting-obsolete", Notice));
        assert!(finding.summary.contains(name) && finding.summary.contains("60-old.conf line 3"));
        let said = format!("{} {}", finding.summary, remedy(finding, "remove-line").summary);
        assert!(said.contains(words), "{said}");
    }
    // Known and not here (the module is not loaded) is not obsolete.
    assert!(boot(&[("/a", 1, "net.netfilter.nf_conntrack_max", "1")], true).is_empty());
    assert!(boot(&[("/a", 1, "net.ipv4.tcp_tw_reuse", "2")], true).is_empty());
}

#[test]
fn few_descriptors_left_are_as_bad_as_they_are_few() {
    for (used, limit, expected) in [
        (819, 1_024, None),
        (820, 1_024, Some(Notice)),
        (972, 1_024, Some(Notice)),
        (973, 1_024, Some(Warning)),
        (1_018, 1_024, Some(Warning)),
        (1_019, 1_024, Some(Critical)),
        (1_030, 1_024, Some(Critical)),
        (5, 0, None),
    ] {
        let machine = Machine { processes: vec![process("app", 7, used, limit)], ..Machine::default() };
        let found = findings(&seen(vec![host()], machine));
        let expected: Vec<_> = expected.into_iter().map(|severity| ("fd-limit-near", severity)).collect();
        assert_eq!(told(&found), expected, "{used} of {limit}");
    }
    let machine = Machine {
        processes: vec![process("app", 7, 1_024, 1_024)],
        open_files: Some(9_000),
        ..Machine::default()
    };
    let found = findings(&seen(vec![host()], machine));
    for setting in ["fs.file-max", "fs.nr_open", "/etc/security/limits.conf", "ulimit -n in a shell"] {
        assert!(is_no_help(&found[0], setting), "{setting}: {:?}", found[0].no_help);
    }
    // At the hard limit a running process cannot be helped.
    let hard = Process { descriptor_limit_hard: Some(1_024), ..process("app", 7, 1_024, 1_024) };
    let found = findings(&seen(vec![host()], Machine { processes: vec![hard], ..Machine::default() }));
    assert_eq!(remedy(&found[0], "more-descriptors").command, None);
}

#[test]
fn the_machines_own_limit_of_files_is_another() {
    let mut facts = host();
    set(&mut facts, &[("fs.file-max", "100000")]);
    let machine = Machine { open_files: Some(99_900), ..Machine::default() };
    let found = findings(&seen(vec![facts], machine));
    let finding = only(&found);
    assert_eq!((finding.id.as_str(), finding.severity), ("fd-limit-near", Critical));
    assert_eq!(remedy(finding, "more-files").command.as_deref(), Some("sysctl -w fs.file-max=200000"));
}

#[test]
fn commands_act_in_the_namespace_that_they_are_about() {
    for (name, inside, command) in [
        ("host", None, Some("sysctl -w ")),
        ("own", None, Some("sysctl -w ")),
        ("tenant-3", None, Some("ip netns exec tenant-3 sysctl -w ")),
        ("haproxy[812]", None, Some("nsenter -t 812 -n sysctl -w ")),
        ("web.service/worker[9]", None, Some("nsenter -t 9 -n sysctl -w ")),
        ("web.service", None, None),
        ("pod-17", None, None),
        ("web.service", Some(55), Some("nsenter -t 55 -n sysctl -w ")),
    ] {
        let mut facts = namespace(name, 2);
        in_range(&mut facts, &[40_000]);
        let processes: Vec<Process> = inside
            .map(|pid| Process { namespace: Some(name.to_owned()), ..process("app", pid, 10, 1_024) })
            .into_iter()
            .collect();
        let found = findings(&seen(vec![facts], Machine { processes, ..Machine::default() }));
        let given = remedy(only(&found), "reserve-ports").command.clone();
        assert_eq!(given.is_some(), command.is_some(), "{name}: {given:?}");
        assert!(given.unwrap_or_default().starts_with(command.unwrap_or_default()), "{name}");
    }
}
