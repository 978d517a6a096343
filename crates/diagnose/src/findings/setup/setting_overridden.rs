//! `setting-overridden`: files set different values for one setting, or another value is in force than the files say.

use std::collections::BTreeMap;

use tidewait_model::PortSet;
use tidewait_model::machine::Configured;
use tidewait_model::report::Severity;

use crate::Kind;
use crate::findings::remedy::{Step, advice};
use crate::findings::view::{Found, View};
use crate::findings::words::listed;

pub(in crate::findings) const KIND: Kind = Kind {
    id: "setting-overridden",
    title: "a setting in a file is not what is in force",
    means: "Of several files that set one thing the last one wins, by the name of the file and not by its directory. A value that \
            was set by hand or by a program lasts until the next boot, and then the files' value comes back.",
    told_by: "The files of sysctl.d in the order in which they are applied, against each other and against the value in force, in \
              the namespace of process 1. Other namespaces begin with the kernel's defaults, whatever the files say.",
    causes: &[
        "a file of a package or of the distribution that comes later in the order",
        "a setting that was changed with sysctl -w and not written down",
        "a file that was written and not yet applied",
        "/etc/sysctl.conf on a system whose boot reads sysctl.d only",
    ],
    severity: "a notice: what is in force is what counts, until the next boot.",
    scenario: "setting-overridden",
    see_also: &["setting-obsolete"],
    sources: &["sysctl.d(5)", "sysctl.conf(5)", "Documentation/networking/ip-sysctl.rst"],
};

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    if !view.facts.configured {
        return Vec::new();
    }
    let mut by_name: BTreeMap<&str, Vec<&Configured>> = BTreeMap::new();
    for line in &view.observation.machine.configured {
        by_name.entry(line.setting.as_str()).or_default().push(line);
    }
    let mut found: Vec<Found> = by_name.iter().filter_map(|(name, lines)| one(view, name, lines)).collect();
    let unread = view.observation.machine.not_applied.iter();
    found.extend(
        unread
            .filter(|line| !by_name.contains_key(line.setting.as_str()))
            .filter_map(|line| unread_line(view, line)),
    );
    found
}

/// The finding about a line of a file that nothing reads at boot, where it would make a difference.
fn unread_line(view: &View<'_>, line: &Configured) -> Option<Found> {
    let (name, in_force) = (line.setting.as_str(), view.facts.settings.text(&line.setting)?);
    if same(name, in_force, &line.value) {
        return None;
    }
    let by = view.observation.machine.applied_by.as_deref().unwrap_or("what applies settings at boot");
    let place = format!("{} line {}", line.file, line.line);
    let summary = format!(
        "{place} sets {name} = {}, but nothing reads that file at boot; {} is in force",
        plain(&line.value),
        plain(in_force)
    );
    let step = Step::new(
        "move-the-line",
        format!(
            "if the value is wanted, move the line into a file of /etc/sysctl.d, which {by} reads, and set it now"
        ),
        format!("{} to {}, now and after the next boot", plain(in_force), plain(&line.value)),
    );
    Some(
        view.found(&KIND, Severity::Notice, name.to_owned(), summary)
            .evidence([format!("{by} reads the files of sysctl.d and not {}", line.file)])
            .remedies([Some(
                step.command(view.sysctl(name, quoted(&line.value)))
                    .risk("find out first who relies on the value in force"),
            )])
            .no_help([advice(&format!("editing {}", line.file), "nothing reads it at boot")]),
    )
}

/// The finding about one setting; `lines` are in the order in which they are applied.
fn one(view: &View<'_>, name: &str, lines: &[&Configured]) -> Option<Found> {
    let last = lines.last()?;
    let in_force = view.facts.settings.text(name);
    let losers: Vec<&&Configured> =
        lines.iter().filter(|line| !same(name, &line.value, &last.value)).collect();
    // Without a value in force the kernel has no such setting: setting-obsolete has a word for that.
    let differs = in_force.filter(|value| !same(name, value, &last.value));
    if losers.is_empty() && differs.is_none() || in_force.is_none() {
        return None;
    }
    let place = |line: &Configured| format!("{} line {}", line.file, line.line);
    let summary = match differs {
        Some(value) => format!(
            "{name} is {}, the files say {} ({}): after the next boot it will be that",
            plain(value),
            plain(&last.value),
            place(last)
        ),
        None => format!(
            "{name} is set differently in several places; {} wins with {}, because it is applied last",
            place(last),
            plain(&last.value)
        ),
    };
    let each: Vec<String> =
        lines.iter().map(|line| format!("{} says {}", place(line), plain(&line.value))).collect();
    let mut evidence = vec![format!("in the order of application: {}", listed(&each, 8, each.len()))];
    evidence.push(match &view.observation.machine.applied_by {
        Some(program) => format!("applied at boot by {program}"),
        None => {
            "which program applies the files at boot is not known, so that their order is inferred".to_owned()
        }
    });
    let decide = losers.first().map(|loser| {
        Step::new(
            "one-place",
            format!("decide on one value and remove the other line: {} has no effect", place(loser)),
            format!("{name} says in the files what it will be"),
        )
        .risk("none")
    });
    let apply = differs.map(|value| {
        Step::new(
            "apply-or-write-down",
            format!(
                "if the value of the file is wanted, set it; if the one in force is wanted, write {name} = {} into a file \
                 that is applied after {}",
                plain(value),
                last.file
            ),
            format!("{} to {} now, or {} to stay over the next boot", plain(value), plain(&last.value), plain(value)),
        )
        .command(view.sysctl(name, quoted(&last.value)))
        .risk("somebody set the value that is in force: find out who and why first")
    });
    let useless = losers.first().and_then(|loser| {
        advice(
            &format!("editing {} line {}", loser.file, loser.line),
            format!("{} is applied later and overrides it", place(last)),
        )
    });
    Some(
        view.found(&KIND, Severity::Notice, name.to_owned(), summary)
            .evidence(evidence)
            .remedies([decide, apply])
            .no_help([useless]),
    )
}

/// Whether two texts mean the same value: white space, and the order of port lists, do not matter.
fn same(name: &str, one: &str, other: &str) -> bool {
    if name == "net.ipv4.ip_local_reserved_ports" {
        return PortSet::parse_list(one).0 == PortSet::parse_list(other).0;
    }
    plain(one) == plain(other)
}

fn plain(value: &str) -> String {
    let text = value.split_whitespace().collect::<Vec<_>>().join(" ");
    // 010 is 8 for the kernel; anything but plain decimals is left as it is.
    if text.is_empty() { "(empty)".to_owned() } else { text }
}

fn quoted(value: &str) -> String {
    let text = value.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.contains(' ') || text.is_empty() { format!("\"{text}\"") } else { text }
}
