//! `setting-obsolete`: a file sets something that this kernel does not have (any more).

use tidewait_model::report::Severity;

use crate::Kind;
use crate::findings::remedy::{Step, advice};
use crate::findings::view::{Found, View};

pub(in crate::findings) const KIND: Kind = Kind {
    id: "setting-obsolete",
    title: "a file sets what the kernel does not have",
    means: "The line does nothing but leave an error in the log at boot. Whoever wrote it relies on something that does not happen.",
    told_by: "A line of sysctl.d with a name that is known to have been removed or renamed, or that belongs to other kernels, where \
              the running kernel has no such setting.",
    causes: &[
        "advice from before 2017 (tcp_tw_recycle)",
        "a file carried over from an older system or another vendor's",
    ],
    severity: "a notice: it does nothing.",
    scenario: "setting-obsolete",
    see_also: &["setting-overridden", "net.ipv4.tcp_tw_recycle", "net.ipv4.tcp_tw_timeout"],
    sources: &[
        "commit 4396e46187ca \"tcp: remove tcp_tw_recycle\" (4.12)",
        "Documentation/networking/nf_conntrack-sysctl.rst",
    ],
};

/// A setting that kernels of today do not have.
struct Gone {
    name: &'static str,
    /// Since when, or where it is from.
    why: &'static str,
    /// What does what was meant.
    instead: &'static str,
}

const GONE: &[Gone] = &[
    Gone {
        name: "net.ipv4.tcp_tw_recycle",
        why: "removed in Linux 4.12; before, it refused peers behind NAT",
        instead: "net.ipv4.tcp_tw_reuse = 1 does safely what was hoped for, for outgoing connections",
    },
    Gone {
        name: "net.ipv4.tcp_tw_timeout",
        why: "a setting of some vendors' kernels (Alibaba Cloud Linux 2 and 3); mainline has none, TIME_WAIT is 60 s",
        instead: "net.ipv4.tcp_tw_reuse = 1, where it applies, lets a port be used again after 1 s",
    },
    Gone {
        name: "net.ipv4.tcp_tw_reuse_delay",
        why: "new in Linux 6.14; earlier kernels take a socket over after 1 s",
        instead: "nothing is needed",
    },
    Gone {
        name: "net.ipv4.ip_conntrack_max",
        why: "renamed when ip_conntrack became nf_conntrack (2.6.20)",
        instead: "net.netfilter.nf_conntrack_max",
    },
];

/// Names that begin like this went with ip_conntrack.
const OLD_CONNTRACK: &str = "net.ipv4.netfilter.ip_conntrack_";

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    if !view.facts.configured {
        return Vec::new();
    }
    let lines = view.observation.machine.configured.iter();
    lines
        .filter(|line| view.facts.settings.text(&line.setting).is_none())
        .filter_map(|line| {
            let (why, instead) = gone(&line.setting)?;
            let place = format!("{} line {}", line.file, line.line);
            let summary = format!("{place} sets {}, which this kernel does not have: {why}", line.setting);
            let remove = Step::new(
                "remove-line",
                format!("remove {place}; {instead}"),
                "nothing changes but the error in the log at boot",
            )
            .risk("none");
            Some(
                view.found(&KIND, Severity::Notice, line.setting.clone(), summary)
                    .evidence([format!("{place}: {} = {}", line.setting, line.value)])
                    .remedies([Some(remove)])
                    .no_help([advice(
                        &line.setting,
                        "the kernel has no such setting, whatever value it is given",
                    )]),
            )
        })
        .collect()
}

fn gone(name: &str) -> Option<(String, String)> {
    if let Some(rest) = name.strip_prefix(OLD_CONNTRACK) {
        let why = "renamed when ip_conntrack became nf_conntrack (2.6.20)".to_owned();
        return Some((why, format!("net.netfilter.nf_conntrack_{rest} is its present name")));
    }
    let row = GONE.iter().find(|row| row.name == name)?;
    Some((row.why.to_owned(), row.instead.to_owned()))
}
