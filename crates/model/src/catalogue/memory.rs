//! Settings of memory: what all TCP sockets may take, and the hash that they are found by.

use super::accepts::span;
use super::{Accepts, COMMON, InNamespace, Meaning, Scope, Setting, always, belief, computed};
use crate::kernel::Version;

pub const TCP_MEM: Setting = Setting {
    name: "net.ipv4.tcp_mem",
    unit: "pages",
    summary: "memory that the queues of all TCP sockets may take: no concern, pressure, limit",
    scope: Scope::Host,
    in_namespace: InNamespace::Absent,
    accepts: Accepts::Pages,
    defaults: &[computed("4.7 %, 6.25 % and 9.4 % of the memory free at boot")],
    affects: &[
        "From the second number on, the kernel keeps buffers small. At the third, segments are dropped and an orphan with unsent \
         data is reset; it logs \"out of memory -- consider tuning tcp_mem\".",
    ],
    does_not: &[
        belief("The numbers are bytes.", "They are pages, mostly of 4096 bytes."),
        belief(
            "TIME_WAIT takes from it.",
            "A socket in TIME_WAIT has no queues; it counts neither here nor in sockstat mem.",
        ),
    ],
    risk: "Too high: the machine runs out of memory that cannot be swapped. Too low: every connection slows down.",
    sources: &[
        "net/ipv4/tcp.c tcp_init_mem, tcp_check_oom (7.1)",
        "net/ipv4/sysctl_net_ipv4.c (host-wide, 4.14 and 7.1)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_max_orphans"],
    meaning: Meaning::Text(tcp_mem),
    ..COMMON
};

pub const CHILD_EHASH_ENTRIES: Setting = Setting {
    name: "net.ipv4.tcp_child_ehash_entries",
    unit: "buckets",
    summary: "size of the hash of connections that a new network namespace gets for itself; 0: it shares the machine's",
    since: Some(Version::new(6, 1)),
    accepts: Accepts::Number { kernel: span(0, 16_777_216), sensible: span(0, 16_777_216), gap: None },
    defaults: &[always("0")],
    affects: &[
        "Namespaces made from now on by a process of this one: a hash of their own, and with it tcp_max_tw_buckets of half and \
         tcp_max_syn_backlog of a 128th of its buckets.",
        "What a look at all sockets of the namespace costs: a shared hash is walked in full for every namespace.",
    ],
    does_not: &[belief(
        "It changes the namespace in which it is set.",
        "Only namespaces made after it. tcp_ehash_entries shows what this one has, below zero where it shares.",
    )],
    trap: Some(
        "The number is rounded up to a power of two. A small one makes for a small tcp_max_tw_buckets.",
    ),
    risk: "Memory for every new namespace, 8 bytes a bucket. If there is none, the namespace shares the machine's without a word.",
    sources: &[
        "net/ipv4/tcp_ipv4.c tcp_set_hashinfo (6.18; 1000 seen to give 1024 buckets, 512 TIME_WAIT, a SYN backlog of 128)",
        "net/ipv4/sysctl_net_ipv4.c (absent in 6.0, there in 6.1)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.tcp_max_tw_buckets", "net.ipv4.tcp_max_syn_backlog"],
    meaning: Meaning::Number(child_ehash_entries),
    ..COMMON
};

fn tcp_mem(text: &str, _: Version) -> Option<String> {
    let pages: Vec<i64> =
        text.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [_, pressure, limit] = pages[..] else { return None };
    Some(format!(
        "buffers are kept small from {} MiB of queued data on, and {} MiB are the limit for the whole machine (pages of 4096 bytes)",
        pressure / 256,
        limit / 256
    ))
}

fn child_ehash_entries(buckets: i64, _: Version) -> String {
    match u64::try_from(buckets) {
        Ok(0) | Err(_) => "namespaces made from here share the machine's hash of connections".to_owned(),
        Ok(buckets) => {
            let buckets = buckets.checked_next_power_of_two().unwrap_or(buckets);
            format!(
                "namespaces made from here get a hash of {buckets} buckets and keep {} sockets in TIME_WAIT",
                buckets / 2
            )
        }
    }
}
