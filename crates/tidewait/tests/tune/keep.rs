//! What is kept across a restart, in a little machine with an /etc/sysctl.d of its own.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::bench::{Bench, TIDEWAIT, said};

/// Runs a script in a machine whose process 1 is its shell: so that its settings are those that files are for.
fn in_machine(bench: &Bench, script: &str) -> Output {
    let own = "mount -t tmpfs none /etc/sysctl.d && mount -t tmpfs none /run && mkdir -p /run/systemd/system && \
               alias tidewait=\"$0\" && eval \"$1\"";
    let mut command = bench.netns.command("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", own, TIDEWAIT, script]);
    command.env("TIDEWAIT_STATE", bench.state.path()).env_remove("container").output().unwrap()
}

/// Says why a test cannot be, where it cannot.
fn skipped(test: &str) -> bool {
    let lacks = !std::path::Path::new("/etc/sysctl.d").is_dir();
    if lacks {
        println!("SKIPPED {test}: there is no /etc/sysctl.d here");
    }
    lacks
}

fn page(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const APPLY: &str =
    "tidewait tune apply -s net.ipv4.tcp_tw_reuse=1 -s 'net.ipv4.ip_local_port_range=10240 60999' >/dev/null";

#[test]
fn what_is_in_force_is_kept_and_who_would_overrule_it_is_named() {
    if skipped("what_is_in_force_is_kept_and_who_would_overrule_it_is_named") {
        return;
    }
    let bench = Bench::new();
    let script = format!(
        "{APPLY} && tidewait tune persist && \
         echo net.ipv4.tcp_tw_reuse = 0 >/etc/sysctl.d/90-other.conf && \
         {{ tidewait tune persist; echo ended with $?; }} && \
         stat -c %a /etc/sysctl.d/80-tidewait.conf && cat /etc/sysctl.d/80-tidewait.conf && ls -A /etc/sysctl.d && \
         tidewait tune unpersist 1 && ls -A /etc/sysctl.d && sysctl -n net.ipv4.tcp_tw_reuse"
    );
    let output = in_machine(&bench, &script);
    let page = page(&output);
    assert!(output.status.success(), "{page}{}", said(&output));
    for words in [
        "nothing that was found overrules it",
        "net.ipv4.tcp_tw_reuse will be 0 after boot",
        "/etc/sysctl.d/90-other.conf:1",
        "ended with 1",
        "\n644\n",
        "\nnet.ipv4.ip_local_port_range = 10240 60999\n",
        "80-tidewait.conf\n90-other.conf\n",
        "80-tidewait.conf is gone",
    ] {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
    assert!(page.ends_with("90-other.conf\n1\n"), "what is in force stays: {page}");
}

#[test]
fn what_waits_drifted_or_belongs_to_a_container_is_not_kept() {
    if skipped("what_waits_drifted_or_belongs_to_a_container_is_not_kept") {
        return;
    }
    let bench = Bench::new();
    for (script, words) in [
        (
            "tidewait tune apply -s net.ipv4.tcp_syn_retries=3 --confirm-within 60s >/dev/null; tidewait tune persist; \
             tidewait tune rollback >/dev/null",
            "waits to be confirmed",
        ),
        (&format!("{APPLY}; sysctl -qw net.ipv4.tcp_tw_reuse=0; tidewait tune persist 2"), "is \"0\" now"),
    ] {
        let output = in_machine(&bench, &format!("{script}; ls -A /etc/sysctl.d"));
        assert!(said(&output).contains(words), "{script}: {}", said(&output));
        assert_eq!(page(&output), "", "{script}");
    }
    bench.reset();
    // A namespace that no file of this machine is for.
    assert!(bench.apply(&[]).output().unwrap().status.success());
    let refused = bench.tune(&["persist", "1"]);
    assert!(said(&refused).contains("which no file of this machine reaches"), "{}", said(&refused));
    let lines = bench.tune(&["persist", "1", "--as", "kubernetes"]);
    assert!(page(&lines).contains("value: \"10240 60999\""), "{}", page(&lines));
}

#[test]
fn an_image_gets_a_plan_without_its_being_applied() {
    let bench = Bench::new();
    let (root, plan) = (bench.state.path().join("image"), bench.state.path().join("plan.json"));
    fs::create_dir_all(root.join("etc/sysctl.d")).unwrap();
    fs::write(root.join("etc/sysctl.d/99-last.conf"), "net.ipv4.tcp_tw_reuse=2\n").unwrap();
    let (root, plan) = (root.to_str().unwrap(), plan.to_str().unwrap());
    assert!(bench.tune(&["plan", "--profile", "proxy", "--out", plan]).status.success());
    let kept = bench.tune(&["persist", plan, "--root", root, "--json"]);
    assert_eq!(kept.status.code(), Some(1), "{}", said(&kept));
    let report: Value = serde_json::from_slice(&kept.stdout).unwrap();
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/schema/tidewait.kept-1.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &report), "{report:#}");
    assert_eq!(report["outlook"]["conflicts"][0]["setting"], "net.ipv4.tcp_tw_reuse");
    let text = fs::read_to_string(format!("{root}/etc/sysctl.d/80-tidewait.conf")).unwrap();
    assert!(text.contains("net.ipv4.ip_local_port_range = 10240 65535"), "{text}");
    assert!(bench.is_before());
    // Edited by hand, it is left alone.
    fs::write(format!("{root}/etc/sysctl.d/80-tidewait.conf"), text + "net.ipv4.tcp_rfc1337 = 1\n").unwrap();
    let edited = bench.tune(&["persist", plan, "--root", root]);
    assert!(said(&edited).contains("was edited by hand"), "{}", said(&edited));
    let edited = bench.tune(&["unpersist", "--root", root, "--force"]);
    assert!(edited.status.success(), "{}", said(&edited));
    let nothing = bench.tune(&["persist", "--root", root]);
    assert_eq!(nothing.status.code(), Some(2), "{}", said(&nothing));
}

#[test]
fn what_the_kernel_would_refuse_at_boot_is_not_kept() {
    let bench = Bench::new();
    let root = bench.state.path().join("image");
    fs::create_dir_all(root.join("etc/sysctl.d")).unwrap();
    let keep = |setting: &str| bench.tune(&["persist", "--root", root.to_str().unwrap(), "-s", setting]);
    let start = "net.ipv4.ip_unprivileged_port_start";
    let refused = keep("net.ipv4.ip_local_port_range=600 65535");
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("would not be taken at boot"), "{}", said(&refused));
    // With what the file has already it is another matter, either way.
    assert!(keep(&format!("{start}=500")).status.success());
    assert!(keep("net.ipv4.ip_local_port_range=600 65535").status.success());
    assert_eq!(keep(&format!("{start}=20000")).status.code(), Some(2));
}
