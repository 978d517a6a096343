//! Probes of BPF: what the kernel tells about itself, and a tiny real program of every kind that tidewait uses.

#[cfg_attr(feature = "bpf", path = "bpf/enabled.rs")]
#[cfg_attr(not(feature = "bpf"), path = "bpf/disabled.rs")]
mod programs;

use std::fs;
use std::io;

use rustix::thread::CapabilitySet;

use super::{Answer, Doing, Failure, Spec};

const TRACING: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
const NETWORK: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN);
const TRACING_REMEDY: &str = "Linux 5.12 with CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_EVENTS";
/// steer and spread also look into the socket.
const STEERING: CapabilitySet = NETWORK.union(CapabilitySet::PERFMON);
const STEERING_REMEDY: &str =
    "Linux 6.1 with CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF, and a cgroup v2 tree";

pub(super) const SPECS: &[Spec] = &[
    Spec {
        id: "btf",
        title: "the kernel's type information",
        enables: "trace, steer, study: BPF programs that fit any kernel",
        needs: CapabilitySet::empty(),
        remedy: "a kernel built with CONFIG_DEBUG_INFO_BTF",
        run: |_| btf(),
    },
    Spec {
        id: "bpf-unprivileged",
        title: "BPF without privileges is off",
        enables: "nothing: tidewait asks for capabilities; on is a risk to the machine",
        needs: CapabilitySet::empty(),
        remedy: "sysctl kernel.unprivileged_bpf_disabled=2",
        run: |_| unprivileged(),
    },
    Spec {
        id: "bpf-tp-btf",
        title: "BPF: state changes (tp_btf/inet_sock_set_state)",
        enables: "trace: who connects, who closes first",
        needs: TRACING,
        remedy: TRACING_REMEDY,
        run: programs::tp_btf,
    },
    Spec {
        id: "bpf-sk-storage",
        title: "BPF: notes kept with a socket (sk_storage)",
        enables: "trace: who opened a connection, whoever closes it",
        needs: TRACING,
        remedy: TRACING_REMEDY,
        run: programs::sk_storage,
    },
    Spec {
        id: "bpf-bind-failures",
        title: "BPF: system calls that fail (tp_btf/sys_exit)",
        enables: "trace: which bind() found no port",
        needs: TRACING,
        remedy: "a kernel with CONFIG_HAVE_SYSCALL_TRACEPOINTS and CONFIG_DEBUG_INFO_BTF",
        run: programs::bind_failures,
    },
    Spec {
        id: "bpf-ring-buffer",
        title: "BPF: ring buffer",
        enables: "trace: events in order, cheaply",
        needs: NETWORK,
        remedy: "Linux 5.8",
        run: programs::ring_buffer,
    },
    Spec {
        id: "bpf-lru-hash",
        title: "BPF: LRU hash map",
        enables: "trace: remembers owners in bounded memory",
        needs: NETWORK,
        remedy: "Linux 4.10",
        run: programs::lru_hash,
    },
    Spec {
        id: "bpf-iter-tcp",
        title: "BPF: iterate over sockets (iter/tcp)",
        enables: "report: a dump with fields sock_diag lacks",
        needs: TRACING,
        remedy: "Linux 5.9 with CONFIG_DEBUG_INFO_BTF",
        run: programs::iter_tcp,
    },
    Spec {
        id: "bpf-connect4",
        title: "BPF: choose the local port (cgroup/connect4)",
        enables: "steer, spread over IPv4",
        needs: STEERING,
        remedy: STEERING_REMEDY,
        run: programs::connect4,
    },
    Spec {
        id: "bpf-connect6",
        title: "BPF: choose the local port (cgroup/connect6)",
        enables: "steer, spread over IPv6",
        needs: STEERING,
        remedy: STEERING_REMEDY,
        run: programs::connect6,
    },
    Spec {
        id: "bpf-sock-ops",
        title: "BPF: socket events of a cgroup (sock_ops)",
        enables: "steer: the source address that routing chooses",
        needs: STEERING,
        remedy: STEERING_REMEDY,
        run: programs::sock_ops,
    },
    Spec {
        id: "bpf-tc",
        title: "BPF: segments of a device, held by a link (tcx)",
        enables: "study: segments for sockets in TIME_WAIT, where fentry is refused",
        needs: NETWORK,
        remedy: "Linux 6.6 with CONFIG_NET_XGRESS",
        run: programs::tc,
    },
    Spec {
        id: "bpf-fentry",
        title: "BPF: entry of a kernel function (fentry/tcp_time_wait)",
        enables: "study: segments for sockets in TIME_WAIT, at no cost to others",
        needs: TRACING,
        remedy: "a kernel with CONFIG_FUNCTION_TRACER that is not locked down; study does with tc",
        run: programs::fentry,
    },
];

fn btf() -> Answer {
    let path = "/sys/kernel/btf/vmlinux";
    match fs::metadata(path) {
        Ok(file) => Ok(format!("{path}, {} KiB", file.len() / 1024)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::Unsupported(format!("{path} does not exist")))
        }
        Err(error) => Err(Failure::of(path, &error)),
    }
}

fn unprivileged() -> Answer {
    let path = "/proc/sys/kernel/unprivileged_bpf_disabled";
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::Unknown(format!("{path} does not exist: the kernel may have no bpf(2)")))
        }
        other => match other.doing(path)?.trim() {
            "0" => Err(Failure::Unknown(
                "unprivileged_bpf_disabled is 0: every user may load simple programs".to_owned(),
            )),
            value => Ok(format!("unprivileged_bpf_disabled is {value}")),
        },
    }
}
