//! `fd-limit-near`: a process, or the machine, has few descriptors left.

use tidewait_model::State;
use tidewait_model::machine::Process;
use tidewait_model::report::{NoHelp, Severity};

use super::leak::{at_limit, raise_limit};
use super::remedy::{Step, advice};
use super::view::{Found, Ties, View};
use super::words::{count, percent, who};
use crate::Kind;

pub(super) const KIND: Kind = Kind {
    id: "fd-limit-near",
    title: "a process or the machine has few file descriptors left",
    means: "At the limit of a process accept(), socket() and open() fail with EMFILE (24, \"Too many open files\"); at that of the \
            machine with ENFILE (23). A server then stops accepting while its port stays open.",
    told_by: "Open descriptors of a process against its soft RLIMIT_NOFILE; open files of the machine against fs.file-max.",
    causes: &[
        "connections that are not closed (close-wait-leak)",
        "more clients than the limit was set for",
        "a limit of 1,024 that nobody raised",
    ],
    severity: "critical: none is left (one in two hundred, as they come and go). A warning from 95 % on, a notice from 80 % on.",
    scenario: "fd-limit-near",
    see_also: &["close-wait-leak", "accept-queue-overflow", "fs.file-max", "fs.nr_open"],
    sources: &["fs/file.c alloc_fd (6.18)", "fs/file_table.c alloc_empty_file (6.18)", "getrlimit(2)"],
};

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let processes = view.observation.machine.processes.iter();
    let mut found: Vec<Found> = processes.filter_map(|process| of_process(view, process)).collect();
    found.extend(of_machine(view));
    found
}

/// How near is near: by how soon it can fail. Without a second look, growth is not known.
fn severity(used: u64, limit: u64) -> Option<Severity> {
    let at_least = |percent: u64| u128::from(used) * 100 >= u128::from(limit) * u128::from(percent);
    match () {
        () if limit == 0 => None,
        () if at_limit(used, limit) => Some(Severity::Critical),
        () if at_least(95) => Some(Severity::Warning),
        () if at_least(80) => Some(Severity::Notice),
        () => None,
    }
}

fn of_process(view: &View<'_>, process: &Process) -> Option<Found> {
    let limit = process.descriptor_limit?;
    let severity = severity(process.descriptors, limit)?;
    let name = who(&process.owner);
    let consequence = match severity {
        Severity::Critical => "accept(), socket() and open() fail with EMFILE (\"Too many open files\")",
        _ => "at the limit, accept(), socket() and open() fail with EMFILE",
    };
    let summary = format!(
        "{name} has {} of {} file descriptors open ({}): {consequence}",
        count(process.descriptors),
        count(limit),
        percent(process.descriptors, limit)
    );
    let mut evidence = Vec::new();
    evidence.extend(
        process
            .descriptor_limit_hard
            .filter(|hard| *hard != limit)
            .map(|hard| format!("the soft limit binds; the hard one is {}", count(hard))),
    );
    let held = held_sockets(view, process);
    if !held.is_empty() {
        evidence.push(format!("among them, as far as was looked: {}", held.join(", ")));
    }
    let look = Step::new(
        "find-the-descriptors",
        format!("see what {name} has open, and close what is idle: connections without a time limit, files that were forgotten"),
        format!("{} are open; what is closed can be used again at once", count(process.descriptors)),
    )
    .command(process.owner.pid.map(|pid| format!("ls -l /proc/{pid}/fd")))
    .risk("none");
    let raise = raise_limit(process, |to| format!("{} to {} descriptors", count(limit), count(to)));
    let namespace = process.namespace.clone().unwrap_or_else(|| view.facts.name.clone());
    let mut found = view
        .found(&KIND, severity, name, summary)
        .evidence(evidence)
        .owner(Some(&process.owner))
        .remedies([Some(look), raise])
        .no_help(no_help(view, process))
        .ties(Ties { used: process.descriptors, ..Ties::default() });
    found.finding.namespace = namespace;
    Some(found)
}

/// What of the process stays in states that ought to pass.
fn held_sockets(view: &View<'_>, process: &Process) -> Vec<String> {
    let groups = view.observation.namespaces.iter().flat_map(|facts| &facts.lingering);
    let mut held: Vec<String> = groups
        .filter(|group| group.held && process.owner.pid.is_some())
        .filter(|group| group.owner.as_ref().is_some_and(|owner| owner.pid == process.owner.pid))
        .map(|group| format!("{} sockets in {}", count(group.sockets), State::title(group.state)))
        .collect();
    let lost = process.sockets_without_connection.filter(|lost| *lost > 0);
    held.extend(lost.map(|lost| format!("{} TCP sockets without a connection", count(lost))));
    held
}

fn no_help(view: &View<'_>, process: &Process) -> Vec<Option<NoHelp>> {
    let number = |name: &str| view.quantity(name);
    let machine_is_fine = number("fs.file-max")
        .zip(view.observation.machine.open_files)
        .filter(|(most, open)| open.saturating_mul(2) < *most);
    let ceiling = number("fs.nr_open").zip(process.descriptor_limit_hard).filter(|(most, hard)| hard < most);
    vec![
        machine_is_fine.and_then(|(most, open)| {
            advice(
                "fs.file-max",
                format!(
                    "the limit of the whole machine: {} of {} are open; the process has one of its own",
                    count(open),
                    count(most)
                ),
            )
        }),
        ceiling.and_then(|(most, hard)| {
            advice(
                "fs.nr_open",
                format!(
                    "how far a limit may be raised ({}); the hard limit of the process is {}",
                    count(most),
                    count(hard)
                ),
            )
        }),
        advice(
            "ulimit -n in a shell",
            "it counts for what that shell starts from then on, not for a process that runs",
        ),
        process.owner.unit.as_ref().filter(|unit| unit.ends_with(".service")).and_then(|unit| {
            advice(
                "/etc/security/limits.conf",
                format!("it counts for logins (PAM); {unit} is started by systemd, with LimitNOFILE="),
            )
        }),
    ]
}

fn of_machine(view: &View<'_>) -> Option<Found> {
    let open = view.observation.machine.open_files?;
    let namespaces = view.observation.namespaces.iter();
    let most = namespaces
        .filter_map(|facts| facts.settings.number("fs.file-max"))
        .find_map(|most| u64::try_from(most).ok())?;
    let severity = severity(open, most)?;
    let summary = format!(
        "the machine has {} of {} files open ({}): at the limit, every process but root's fails with ENFILE",
        count(open),
        count(most),
        percent(open, most)
    );
    let wanted = most.saturating_mul(2);
    let raise = Step::new(
        "more-files",
        format!("raise fs.file-max to {wanted}"),
        format!("{} to {} open files", count(most), count(wanted)),
    )
    .command(Some(format!("sysctl -w fs.file-max={wanted}")))
    .risk("about 1 KiB of memory for each open file");
    let biggest = view.observation.machine.processes.iter().max_by_key(|process| process.descriptors);
    let mut evidence =
        vec!["fs.file-nr counts the open files of all processes, sockets and pipes included".to_owned()];
    evidence.extend(biggest.map(|process| {
        format!("{} has most of those looked into: {}", who(&process.owner), count(process.descriptors))
    }));
    let look = Step::new(
        "find-the-descriptors",
        "find the process that has most files open, and what it forgot to close",
        "what is closed can be used again at once",
    )
    .risk("none");
    Some(
        view.found(&KIND, severity, "open files of the machine".to_owned(), summary)
            .evidence(evidence)
            .remedies([Some(look), Some(raise)])
            .no_help([advice(
                "ulimit -n, LimitNOFILE=",
                "they limit one process; here the machine's own limit is reached",
            )]),
    )
}
