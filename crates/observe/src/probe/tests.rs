//! The checkup against other witnesses: iproute2, the kernel's type information, the settings that exist.
#![expect(
    unsafe_code,
    reason = "one thread of the test gives up its privileges, which only system calls can do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, UnshareFlags};
use tidewait_model::doctor::{Checkup, Probe, Verdict};

use super::privileges::Privileges;
use super::sandbox::Namespace;
use super::{Answer, Bench, Failure, Spec, checkup};

static HERE: LazyLock<Checkup> = LazyLock::new(checkup);

fn verdict(of: &Checkup, id: &str) -> Verdict {
    let probe = of.probes.iter().find(|probe| probe.id == id);
    probe.unwrap_or_else(|| panic!("no probe {id}")).verdict
}

/// Works or not, as the witness has it; with the whole row in the message.
fn agrees(id: &str, witness: bool) {
    let probe = HERE.probes.iter().find(|probe| probe.id == id).unwrap_or_else(|| panic!("no probe {id}"));
    if out_of_time(probe) {
        eprintln!("skipped: {id}: {}", probe.detail);
        return;
    }
    assert_eq!(probe.verdict == Verdict::Works, witness, "{probe:?}");
}

/// Whether the machine was too slow for an answer: one that is emulated and busy takes longer than a probe may.
fn out_of_time(probe: &Probe) -> bool {
    let told = probe.detail.starts_with("gave up after") || probe.detail.contains("used up the time");
    told && probe.verdict == Verdict::Unknown
}

/// Whether the witness is there to be asked.
fn installed(tool: &str) -> bool {
    let found = !ran(&format!("command -v {tool}")).starts_with("failed");
    if !found {
        eprintln!("skipped: no {tool} (package iproute2)");
    }
    found
}

fn root() -> bool {
    let root = HERE.capabilities.iter().any(|name| name == "CAP_SYS_ADMIN");
    if !root {
        eprintln!("skipped: needs CAP_SYS_ADMIN for a network namespace without a user namespace");
    }
    root
}

fn ran(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { text } else { format!("failed: {text}") }
}

/// Runs it in a thread with a network namespace of its own, which commands that it starts inherit.
fn in_new_namespace<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(|| {
        // SAFETY: CLONE_NEWNET changes no file descriptor table and no memory.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace");
        assert_eq!(ran("ip link set lo up"), "");
        body()
    })
    .join()
    .expect("the thread ends well")
}

#[test]
fn every_probe_is_named_once_and_explains_itself() {
    let mut ids: Vec<_> = HERE.probes.iter().map(|probe| probe.id.as_str()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    for probe in &HERE.probes {
        assert!(
            !probe.title.is_empty() && !probe.detail.is_empty() && !probe.enables.is_empty(),
            "{probe:?}"
        );
        assert_eq!(probe.remedy.is_some(), probe.verdict != Verdict::Works, "{probe:?}");
        assert!(
            probe.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{probe:?}"
        );
    }
}

/// What becomes of an answer, by the standing of who asks and where it was found out.
#[test]
fn success_in_a_namespace_of_ones_own_is_no_permission_elsewhere() {
    let spec = |needs| Spec {
        id: "",
        title: "",
        enables: "",
        needs,
        remedy: "build it",
        run: |_| Ok(String::new()),
    };
    let needing = spec(CapabilitySet::NET_ADMIN);
    let nobody = Privileges::with(CapabilitySet::empty());
    let admin = Privileges::with(CapabilitySet::NET_ADMIN);
    let guest = Privileges { initial_user_namespace: false, rule_here: false, ..admin.clone() };
    let host = Privileges { initial_user_namespace: false, rule_here: true, ..admin.clone() };
    let verdict = |spec: &Spec, privileges: &Privileges, namespace: Namespace, answer: Answer| {
        let bench = Bench { privileges: privileges.clone(), namespace };
        let probe = spec.probe(answer, &bench);
        (probe.verdict, probe.remedy.unwrap_or_default())
    };
    let works = || Ok("seen".to_owned());
    let refused = || Err(Failure::NotPermitted("EPERM".to_owned()));
    let own = Namespace::Own;
    assert_eq!(verdict(&needing, &admin, own.clone(), works()).0, Verdict::Works);
    assert_eq!(verdict(&needing, &host, own.clone(), works()).0, Verdict::Works);
    assert_eq!(verdict(&needing, &guest, own.clone(), works()).0, Verdict::NotPermitted);
    let (seen, remedy) = verdict(&needing, &nobody, Namespace::UserOwned, works());
    assert_eq!((seen, remedy.as_str()), (Verdict::NotPermitted, "run as root, or with CAP_NET_ADMIN"));
    let anybody = spec(CapabilitySet::empty());
    assert_eq!(verdict(&anybody, &nobody, Namespace::UserOwned, works()).0, Verdict::Works);
    // A refusal: the capability is missing, counts elsewhere only, or was not enough.
    assert_eq!(verdict(&needing, &nobody, own.clone(), refused()).0, Verdict::NotPermitted);
    assert_eq!(verdict(&needing, &guest, own.clone(), refused()).0, Verdict::NotPermitted);
    let (seen, remedy) = verdict(&needing, &admin, own, refused());
    assert_eq!((seen, remedy.as_str()), (Verdict::Unsupported, "build it"));
}

#[test]
fn destroying_time_wait_agrees_with_ss() {
    if !root() || !installed("ss") || !installed("ip") {
        return;
    }
    let (before, after) = in_new_namespace(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (mut server, _) = listener.accept().expect("accept");
        drop(client);
        server.read_to_end(&mut Vec::new()).expect("end of stream");
        drop(server);
        let count = || ran("ss -Htan state time-wait").lines().count();
        // The last FIN may be on its way yet.
        let end = Instant::now() + Duration::from_secs(15);
        while count() == 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let before = count();
        ran("ss -K -Htan state time-wait");
        (before, count())
    });
    assert_eq!(before, 1);
    agrees("destroy-time-wait", after == 0);
}

#[test]
fn devices_and_disciplines_agree_with_ip_and_tc() {
    if !root() || !installed("tc") || !installed("ip") {
        return;
    }
    for (id, command) in [
        ("device-veth", "ip link add type veth 2>&1"),
        ("device-dummy", "ip link add type dummy 2>&1"),
        ("netem", "tc qdisc add dev lo root netem 2>&1"),
    ] {
        // Where a module would have to be loaded the probe declines to try, and so does this.
        if verdict(&HERE, id) != Verdict::Unknown {
            agrees(id, in_new_namespace(move || !ran(command).starts_with("failed")));
        }
    }
}

#[test]
fn what_exists_agrees_with_the_settings_and_the_type_information() {
    for (id, name) in [("tcp-tw-reuse-delay", "tcp_tw_reuse_delay"), ("tcp-tw-timeout", "tcp_tw_timeout")] {
        agrees(id, fs::exists(format!("/proc/sys/net/ipv4/{name}")).expect("/proc"));
    }
    let Ok(btf) = fs::read("/sys/kernel/btf/vmlinux") else {
        eprintln!("skipped: no type information to compare with");
        return;
    };
    let names = |name: &str| {
        let whole = [&[0], name.as_bytes(), &[0]].concat();
        btf.windows(whole.len()).any(|window| window == whole)
    };
    agrees("btf", true);
    agrees("diag-bound-inactive", names("TCP_BOUND_INACTIVE"));
    agrees("local-port-range-option", names("local_port_range"));
    if root() && cfg!(feature = "bpf") {
        agrees("bpf-tp-btf", names("btf_trace_inet_sock_set_state"));
        agrees("bpf-sk-storage", names("bpf_sk_storage_get_tracing"));
        agrees("bpf-bind-failures", names("btf_trace_sys_exit"));
        agrees("bpf-iter-tcp", names("bpf_iter__tcp"));
        agrees("bpf-sock-ops", names("bpf_sock_ops_kern"));
        agrees("bpf-ring-buffer", names("bpf_ringbuf"));
    }
}

#[cfg(not(feature = "bpf"))]
#[test]
fn without_the_loader_the_bpf_probes_say_so() {
    let probe = HERE.probes.iter().find(|probe| probe.id == "bpf-tp-btf").expect("the probe is listed");
    assert_eq!((probe.verdict, probe.detail.as_str()), (Verdict::Unknown, "not tried: built without BPF"));
}

/// Some kernels refuse fentry to everybody; then no privilege may be named as missing. Where it works, ftrace is there,
/// which shows itself by its switch.
#[cfg(feature = "bpf")]
#[test]
fn a_refusal_in_spite_of_privileges_is_laid_at_the_kernels_door() {
    let fentry = HERE.probes.iter().find(|probe| probe.id == "bpf-fentry").expect("the probe is listed");
    if fentry.verdict == Verdict::Works {
        assert!(fs::exists("/proc/sys/kernel/ftrace_enabled").expect("/proc"));
    } else if root() && !out_of_time(fentry) {
        assert_eq!(fentry.verdict, Verdict::Unsupported, "{fentry:?}");
        assert!(
            fentry.detail.contains("into_time_wait") || fentry.detail.contains("tcp_time_wait"),
            "{fentry:?}"
        );
    }
}

/// A thread without any privilege: what the kernel can do is still found out, what this user may not is named.
#[test]
fn an_unprivileged_user_gets_an_answer_to_everything() {
    if !root() {
        return;
    }
    let checkup = thread::spawn(|| {
        let nobody: libc::c_long = 65534;
        // SAFETY: the bare system calls change the credentials of this thread alone, and touch no memory.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setresgid, nobody, nobody, nobody), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, nobody, nobody, nobody), 0);
            // Changing user made /proc/self root's; a program that was started by this user owns its own.
            assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
        }
        checkup()
    })
    .join()
    .expect("the thread ends well");
    assert!(checkup.capabilities.is_empty(), "{:?}", checkup.capabilities);
    assert_eq!(checkup.probes.len(), HERE.probes.len());
    for id in ["enter-namespace", "see-descriptors", "cgroup-create"] {
        assert_eq!(verdict(&checkup, id), Verdict::NotPermitted, "{id}");
    }
    assert_eq!(verdict(&checkup, "diag-dump-ipv4"), Verdict::Works);
    let destroy =
        checkup.probes.iter().find(|probe| probe.id == "destroy-time-wait").expect("the probe is listed");
    assert_ne!(destroy.verdict, Verdict::Works);
    if verdict(&checkup, "new-namespace") == Verdict::Works
        && verdict(&HERE, "destroy-time-wait") == Verdict::Works
    {
        assert_eq!(destroy.verdict, Verdict::NotPermitted);
        assert!(destroy.detail.ends_with("missing: CAP_NET_ADMIN"), "{destroy:?}");
    }
    if cfg!(feature = "bpf") {
        assert_eq!(verdict(&checkup, "bpf-tp-btf"), Verdict::NotPermitted);
    }
}

/// Everything about the caller's surroundings that a probe could have changed.
fn surroundings() -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for file in fs::read_dir("/proc/sys/net/ipv4").expect("settings").flatten() {
        let value = fs::read_to_string(file.path()).unwrap_or_default();
        seen.insert(file.path().display().to_string(), value);
    }
    for name in ["ns/net", "ns/user", "ns/mnt"] {
        let link = fs::read_link(format!("/proc/thread-self/{name}")).expect("namespace");
        seen.insert(name.to_owned(), link.display().to_string());
    }
    for name in ["mountinfo", "cgroup", "net/dev_mcast"] {
        let text = fs::read_to_string(format!("/proc/thread-self/{name}")).unwrap_or_default();
        // Other tests keep network namespaces by mounting them.
        let text: Vec<&str> = text.lines().filter(|line| !line.contains("netns")).collect();
        seen.insert(name.to_owned(), text.join("\n"));
    }
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    let modules: BTreeSet<&str> = modules
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.ends_with("_diag"))
        .collect();
    // sock_diag itself comes with the first question to it, as it does for ss.
    seen.insert("modules".to_owned(), format!("{modules:?}"));
    seen
}

#[test]
fn nothing_is_changed_and_nothing_is_left_behind() {
    let before = surroundings();
    assert_eq!(checkup().probes.len(), HERE.probes.len());
    assert_eq!(before, surroundings());
    // Programs end some time after their last user, and other tests may be at it: wait until none is left.
    let patience = Instant::now();
    loop {
        let left = leftovers();
        if left.is_empty() {
            return;
        }
        assert!(patience.elapsed() < Duration::from_secs(20), "left behind: {left:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Cgroups and BPF programs that bear a probe's name.
fn leftovers() -> Vec<String> {
    let mut left = Vec::new();
    let cgroups = ran("find /sys/fs/cgroup -type d -name 'tidewait-probe-*' 2>/dev/null");
    left.extend(cgroups.lines().filter(|line| !line.starts_with("failed")).map(str::to_owned));
    #[cfg(feature = "bpf")]
    left.extend(
        libbpf_rs::query::ProgInfoIter::default()
            .map(|program| program.name.to_string_lossy().into_owned())
            .filter(|name| {
                [
                    "state_changes",
                    "into_ring",
                    "into_hash",
                    "every_socket",
                    "into_time_wait",
                    "choose_port4",
                    "choose_port6",
                    "socket_events",
                    "segments",
                ]
                .contains(&name.as_str())
            }),
    );
    left
}
