//! `setting-obsolete`: a file sets something that this kernel does not have (any more).

use tidewait_model::catalogue::{self, Expected};
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

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    if !view.facts.configured {
        return Vec::new();
    }
    let machine = &view.observation.machine;
    let lines = machine.configured.iter().chain(&machine.not_applied);
    lines
        .filter(|line| view.facts.settings.text(&line.setting).is_none())
        .filter_map(|line| {
            let (why, instead) = gone(view, &line.setting)?;
            let place = format!("{} line {}", line.file, line.line);
            let summary = format!("{place} sets {}, which this kernel does not have: {why}", line.setting);
            let instead = instead.map(|name| format!("; it is called {name} now")).unwrap_or_default();
            let remove = Step::new(
                "remove-line",
                format!("remove {place}{instead}"),
                "nothing changes but the error in the log at boot",
            );
            Some(
                view.found(&KIND, Severity::Notice, line.setting.clone(), summary)
                    .evidence([format!("{place}: {} = {}", line.setting, line.value)])
                    .remedies([Some(remove.risk("none"))])
                    .no_help([advice(
                        &line.setting,
                        "the kernel has no such setting, whatever value it is given",
                    )]),
            )
        })
        .collect()
}

/// Why this kernel does not have the setting, and what it is called now. `None` where the kernel ought to have it: then a
/// module is not loaded, or it could not be read.
fn gone(view: &View<'_>, name: &str) -> Option<(String, Option<String>)> {
    if let Some(obsolete) = catalogue::obsolete(name) {
        return Some((obsolete.why.to_owned(), obsolete.now));
    }
    let row = catalogue::setting(name)?;
    let why = match row.expected_on(view.kernel()?) {
        Expected::Present => return None,
        Expected::NotYet => format!("it came with Linux {}", row.since?),
        Expected::Gone => format!("it was removed in Linux {}", row.removed_in?),
        Expected::VendorOnly => format!("mainline has none, it is of {}", row.vendor?),
    };
    Some((why, None))
}
