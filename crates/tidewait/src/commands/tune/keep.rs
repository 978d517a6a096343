//! `tidewait tune persist` and `tidewait tune unpersist`: settings that outlive a restart, and who would overrule them.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use tidewait_act::change::note_kept;
use tidewait_act::journal::{self, Journal};
use tidewait_act::kernel::{Kernel as _, Sysctl};
use tidewait_act::persist::{self, Edited, Kept, PersistError, Which};
use tidewait_model::Settings;
use tidewait_model::catalogue::setting;
use tidewait_model::containers::render;
use tidewait_model::persist::same_value;
use tidewait_model::tune::{Entry, Held, KEPT_SCHEMA, KeptReport, Plan, State, Was, spaced};
use tidewait_observe::places::find_again;
use tidewait_observe::procfs;
use tidewait_observe::sysctl_files::boot::outlook;
use tidewait_surfaces::text;

use super::apply::{PATIENCE, read_plan};
use super::undo::number;
use crate::cli;
use crate::exit::{NotPermitted, Usage};
use crate::output;

const RANGE: &str = "net.ipv4.ip_local_port_range";
const START: &str = "net.ipv4.ip_unprivileged_port_start";

/// What settings that no plan brought are kept under.
const BY_HAND: &str = "settings";

/// Runs `persist`.
pub fn persist(options: &cli::Persist) -> Result<()> {
    let kept = chosen(options)?;
    let kept_already = persist::read(&options.root).map_err(explained)?.map(|file| file.settings());
    would_be_taken(&kept, &kept_already.unwrap_or_default())?;
    if let Some(form) = options.form {
        let all: Vec<(String, String)> = kept.iter().flat_map(|kept| kept.settings.clone()).collect();
        return output::text(&render(form, &all));
    }
    let root = &options.root;
    let edited = if options.force { Edited::Take } else { Edited::Refuse };
    let mut report = KeptReport { schema: KEPT_SCHEMA.to_owned(), ..KeptReport::default() };
    for block in &kept {
        let written = persist::persist(root, block, edited).map_err(explained)?;
        report.file = written.path.display().to_string();
        report.dropped.extend(written.dropped);
    }
    let file = persist::read(root).map_err(explained)?;
    let blocks = file.map(|file| file.blocks).unwrap_or_default();
    let settings: Vec<(String, String)> = blocks.iter().flat_map(|block| block.settings.clone()).collect();
    report.kept = held(&blocks, root);
    report.outlook = outlook(root, &settings);
    if root == Path::new("/") {
        note(&options.state.path(), &report.file, &settings);
    }
    if options.format.json {
        output::json(&report, false)?;
    } else {
        output::text(&text::kept(&report, &output::page(options.format, usize::MAX)))?;
    }
    match report.outlook.conflicts.len() {
        0 => Ok(()),
        1 => bail!("written, but 1 setting would be overruled at boot: see above how to mend it"),
        number => {
            bail!("written, but {number} settings would be overruled at boot: see above how to mend it")
        }
    }
}

/// Runs `unpersist`.
pub fn unpersist(options: &cli::Unpersist) -> Result<()> {
    let state = options.state.path();
    let root = &options.root;
    let edited = if options.force { Edited::Take } else { Edited::Refuse };
    let plan;
    let file = persist::read(root).map_err(explained)?.map(|file| file.settings()).unwrap_or_default();
    let mut names: Vec<&str> = Vec::new();
    for asked in &options.settings {
        let asked = asked.replace('/', ".");
        let last = |name: &str| name.rsplit_once('.').is_some_and(|(_, last)| last == asked);
        match file.iter().find(|(name, _)| *name == asked || last(name)) {
            Some((name, _)) => names.push(name),
            None => bail!("{asked} is not kept in {}; `tidewait tune status` shows what is", persist::FILE),
        }
    }
    let which = match &options.what {
        Some(id) => {
            plan = plan_of(id, &state, root)?;
            Which::Plan(&plan)
        }
        None if names.is_empty() => Which::All,
        None => Which::Settings(&names),
    };
    let removed = persist::unpersist(root, which, edited).map_err(explained)?;
    if removed.removed.is_empty() {
        anstream::eprintln!("tidewait: nothing of that is kept in {}", removed.path.display());
        return Ok(());
    }
    let mut text = String::new();
    for (name, value) in removed.removed.iter().flat_map(|block| &block.settings) {
        text.push_str(&format!("not kept any more: {name} = {value}\n"));
    }
    let left = persist::read(root).map_err(explained)?.map(|file| file.settings()).unwrap_or_default();
    if root == Path::new("/") {
        note(&state, &removed.path.display().to_string(), &left);
    }
    let path = removed.path.display();
    let rest = "what is in force stays until the machine is started anew";
    text.push_str(&if removed.file_removed {
        format!("{path} is gone; {rest}\n")
    } else {
        format!("{path} keeps {} more; {rest}\n", left.len())
    });
    output::text(&text)
}

/// What is kept of a machine, with the values that are in force.
pub fn held(blocks: &[Kept], root: &Path) -> Vec<Held> {
    // Values of this machine, and of the namespace that its files are for.
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    let here = root == Path::new("/") && own.is_some() && own == fs::read_link("/proc/1/ns/net").ok();
    let one = |block: &Kept, (setting, value): &(String, String)| Held {
        setting: setting.clone(),
        value: value.clone(),
        plan: block.plan.clone(),
        now: Sysctl.read(setting).ok().filter(|_| here),
    };
    blocks
        .iter()
        .flat_map(|block| block.settings.iter().map(|pair| one(block, pair)).collect::<Vec<_>>())
        .collect()
}

/// What is to be kept: of a change, of a plan for an image, by name, or all that is in force.
fn chosen(options: &cli::Persist) -> Result<Vec<Kept>> {
    let at = tidewait_act::change::now();
    if !options.settings.is_empty() {
        let mut settings: Vec<(String, String)> =
            options.settings.iter().map(|asked| (asked.setting.clone(), asked.value.clone())).collect();
        settings.sort_by_key(|(name, value)| place(name, value));
        return Ok(vec![Kept { plan: BY_HAND.to_owned(), at, settings }]);
    }
    if options.root != Path::new("/") {
        let Some(file) = options.what.as_deref().map(Path::new) else {
            return Err(Usage(
                "with --root, say what is to be kept in that image: the file of a plan, or --setting NAME=VALUE".to_owned(),
            )
            .into());
        };
        let plan: Plan = read_plan(file)?;
        let settings =
            plan.changes.iter().map(|change| (change.setting.clone(), change.wanted.clone())).collect();
        return Ok(vec![Kept { plan: plan.id, at, settings }]);
    }
    let entries = journal::read(&options.state.path())?.map(|reading| reading.entries).unwrap_or_default();
    let boot = procfs::boot_id(Path::new("/"));
    let chosen: Vec<&Entry> = match &options.what {
        Some(id) => {
            let number = number(&entries, id)?;
            entries.iter().filter(|entry| entry.number == number).collect()
        }
        None => entries
            .iter()
            .filter(|entry| {
                entry.boot == boot && entry.is_open() && !entry.is_unconfirmed() && entry.configured
            })
            .collect(),
    };
    let waits = entries.iter().find(|entry| entry.boot == boot && entry.is_unconfirmed());
    if let Some(waits) = waits.filter(|_| chosen.is_empty()) {
        bail!("change {0} waits to be confirmed: `tidewait tune confirm {0}` first", waits.number);
    }
    if chosen.is_empty() {
        bail!(
            "no change of this machine's own settings is in force: apply one first, or give --setting NAME=VALUE"
        );
    }
    let unsettled = |entry: &&Entry| {
        let waits = entry.is_unconfirmed() || entry.state == State::Begun;
        let touches =
            |was: &Was| chosen.iter().any(|one| one.changes.iter().any(|other| other.setting == was.setting));
        entry.boot == boot && waits && entry.configured && entry.changes.iter().any(touches)
    };
    if let Some(entry) = entries.iter().find(unsettled) {
        let number = entry.number;
        match entry.state {
            State::Begun => bail!("change {number} was interrupted: `tidewait tune rollback {number}` first"),
            _ => bail!("change {number} waits to be confirmed: `tidewait tune confirm {number}` first"),
        }
    }
    let print_only = options.form.is_some();
    for entry in &chosen {
        keepable(entry, &entries, &boot, options.what.is_some(), print_only)?;
    }
    let kept = |entry: &&Entry| Kept {
        plan: entry.plan.clone(),
        at: at.clone(),
        settings: entry
            .changes
            .iter()
            .filter(|was| options.what.is_some() || changed_again(&entries, entry, &was.setting).is_none())
            .map(|was| (was.setting.clone(), spaced(&was.wanted)))
            .collect(),
    };
    Ok(chosen.iter().map(kept).filter(|kept| !kept.settings.is_empty()).collect())
}

/// The later change in force that set a setting again.
fn changed_again(entries: &[Entry], entry: &Entry, setting: &str) -> Option<u64> {
    let later = entries.iter().rev().find(|later| {
        later.number > entry.number
            && later.boot == entry.boot
            && later.is_open()
            && later.namespace.is(&entry.namespace)
            && later.changes.iter().any(|was| was.setting == setting)
    });
    later.map(|later| later.number)
}

/// Where a setting goes among others: what makes room goes first (ip_unprivileged_port_start bounds ip_local_port_range).
fn place(name: &str, value: &str) -> u8 {
    match name {
        START if value.trim().parse().is_ok_and(|start: i64| start < 1_024) => 0,
        RANGE => 1,
        START => 3,
        _ => 2,
    }
}

/// Whether the kernel takes the values at boot, beside each other and what it has by itself.
fn would_be_taken(kept: &[Kept], kept_already: &[(String, String)]) -> Result<()> {
    let mut others = Settings::default();
    for (name, value) in [(START, "1024"), (RANGE, "32768 60999")] {
        others.0.insert(name.to_owned(), value.to_owned());
    }
    others.0.extend(kept_already.iter().cloned());
    for (name, value) in kept.iter().flat_map(|block| &block.settings) {
        let Some(row) = setting(name) else {
            return Err(Usage(format!(
                "{name} is no setting that tidewait knows: keep it in a file of your own in /etc/sysctl.d"
            ))
            .into());
        };
        row.check_beside(value, &others).map_err(|refusal| {
            Usage(format!("it would not be taken at boot, and nothing was written: {refusal}"))
        })?;
        others.0.insert(name.clone(), value.clone());
    }
    Ok(())
}

/// Refuses what would not keep what is in force.
fn keepable(entry: &Entry, entries: &[Entry], boot: &str, named: bool, print_only: bool) -> Result<()> {
    let number = entry.number;
    if !entry.is_open() || entry.boot != boot {
        bail!("change {number} is not in force: apply its plan again first, or give --setting NAME=VALUE");
    }
    if entry.is_unconfirmed() {
        bail!("change {number} waits to be confirmed: `tidewait tune confirm {number}` first");
    }
    if print_only {
        return Ok(());
    }
    if !entry.configured {
        bail!(
            "change {number} was made in network namespace {}, which no file of this machine reaches: a container gets its settings from \
             whoever starts it; `tidewait tune persist {number} --as kubernetes` (or docker, compose, podman) prints the lines",
            entry.namespace.name
        );
    }
    let Some(place) = find_again(Path::new("/"), &entry.namespace)? else {
        bail!(
            "network namespace {} of change {number} is gone, or out of sight from here",
            entry.namespace.name
        );
    };
    for was in &entry.changes {
        match changed_again(entries, entry, &was.setting) {
            Some(later) if named => bail!(
                "{} was changed again by change {later}: keep that one, or all that is in force by `tidewait tune persist` alone",
                was.setting
            ),
            Some(_) => continue,
            None => {}
        }
        let is = place.enter(|| Sysctl.read(&was.setting).unwrap_or_default())?;
        if !same_value(&was.setting, &is, &was.wanted) {
            bail!(
                "{} is {is:?} now and not {:?}, as change {number} made it: nothing was written; apply it again, or give --setting \
                 NAME=VALUE",
                was.setting,
                was.wanted
            );
        }
    }
    Ok(())
}

/// The plan that `id` means: that of a change, or one that is in the file.
fn plan_of(id: &str, state: &Path, root: &Path) -> Result<String> {
    let file = persist::read(root).map_err(explained)?;
    if file.is_some_and(|file| file.blocks.iter().any(|block| block.plan == id)) {
        return Ok(id.to_owned());
    }
    let entries = journal::read(state)?.map(|reading| reading.entries).unwrap_or_default();
    let number = number(&entries, id)?;
    let entry = entries.into_iter().find(|entry| entry.number == number);
    Ok(entry.map(|entry| entry.plan).unwrap_or_default())
}

/// Takes it down in the journal; the file itself says what counts, so that nothing depends on it.
fn note(state: &Path, file: &str, settings: &[(String, String)]) {
    let noted =
        Journal::open(state, PATIENCE).and_then(|mut journal| note_kept(&mut journal, file, settings));
    if let Err(error) = noted {
        anstream::eprintln!("tidewait: not taken down in the journal: {error}");
    }
}

fn explained(error: PersistError) -> anyhow::Error {
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    match &error {
        PersistError::Io { source, .. } if denied(source) => NotPermitted(error.to_string()).into(),
        PersistError::UnknownSetting { .. } | PersistError::BadValue { .. } => {
            Usage(error.to_string()).into()
        }
        _ => error.into(),
    }
}
