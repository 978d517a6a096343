//! `tidewait tune apply`: checks first, then the journal, then the settings: all of them or none.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidewait_act::change::{self, ChangeError, Order};
use tidewait_act::journal::Journal;
use tidewait_act::kernel::Sysctl;
use tidewait_diagnose::tune::{Asked, Manner};
use tidewait_model::tune::{
    Applied, Assignment, CHANGE_SCHEMA, Change, Entry, NamespaceId, PLAN_SCHEMA, Plan, Reason, Was, spaced,
};
use tidewait_observe::procfs::{self, Users};
use tidewait_surfaces::text;

use super::scene::Scene;
use super::{guard, plan, proof, trial};
use crate::cli;
use crate::exit::{NotPermitted, Usage};
use crate::{interrupt, output};

/// How long to wait for another tidewait that is at work.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command.
pub fn run(options: &cli::Apply) -> Result<()> {
    // From here on a signal ends the command between two steps and not in one; a second one does as ever.
    let over = interrupt::catch()?;
    let given = options.plan.as_deref().map(read_plan).transpose()?;
    let (scene, plan) = match &given {
        Some(given) => replan(given, options)?,
        None => {
            let scene = Scene::look(options.wanted.netns.name.as_deref())?;
            let plan = plan::of(&scene, &options.wanted)?;
            (scene, plan)
        }
    };
    let page = output::page(options.format, usize::MAX);
    let json = options.format.json;
    if !json {
        output::text(&text::plan(&plan, None, &page))?;
    }
    if !plan.blockers.is_empty() && !options.force {
        bail!(refusal(&plan));
    }
    let mut applied =
        Applied { schema: CHANGE_SCHEMA.to_owned(), plan, not_tried: None, proof: None, change: None };
    let plan = &applied.plan;
    if plan.changes.is_empty() {
        anstream::eprintln!("tidewait: nothing is to be changed");
        return if json { output::json(&applied, false) } else { Ok(()) };
    }
    let was = |change: &Change| Was {
        setting: change.setting.clone(),
        before: change.now.clone(),
        wanted: change.wanted.clone(),
    };
    let mut changes: Vec<Was> = plan.changes.iter().map(was).collect();
    let not_tried = trial::attempt(&scene, &mut changes)?;
    if let Some(word) = &not_tried {
        anstream::eprintln!("tidewait: {word}");
    }
    stop_if(&over)?;
    let proof = options.prove.then(|| proof::of(&scene, plan)).transpose()?;
    if let Some(proof) = &proof {
        if !json {
            output::text(&text::proof(proof, scene.time_wait_seconds(), &page))?;
        }
        if !options.force {
            proof::bears_out(proof, plan)?;
        }
        stop_if(&over)?;
    }
    let change = if options.dry_run {
        anstream::eprintln!("tidewait: all checks passed, nothing was changed (--dry-run)");
        None
    } else {
        Some(make(&scene, plan, changes, options, &over)?)
    };
    let number = change.as_ref().map(|entry| entry.number);
    let told = if json {
        (applied.not_tried, applied.proof, applied.change) = (not_tried, proof, change);
        output::json(&applied, false)
    } else {
        change.map_or(Ok(()), |entry| output::text(&text::applied(&entry, &page)))
    };
    match number {
        Some(number) => told.with_context(|| format!("change {number} is in force all the same")),
        None => told,
    }
}

/// Makes the change, in the namespace of the scene.
fn make(
    scene: &Scene,
    plan: &Plan,
    changes: Vec<Was>,
    options: &cli::Apply,
    over: &AtomicBool,
) -> Result<Entry> {
    let state = options.state.path();
    let order = Order {
        plan: plan.id.clone(),
        from: plan.from.clone(),
        namespace: NamespaceId { name: scene.name(), ..scene.place.identity()? },
        configured: scene.is_configured(),
        boot: procfs::boot_id(Path::new("/")),
        by: by(),
        changes,
        confirm_within: options.confirm_within,
    };
    let made = scene.place.enter(|| -> Result<Entry, ChangeError> {
        let mut journal = Journal::open(&state, PATIENCE)?;
        change::apply(&Sysctl, &mut journal, &order, |entry| guard::start(entry, &state), &|| {
            over.load(Ordering::Relaxed)
        })
    })?;
    made.map_err(explained)
}

/// A plan that was made before, made again as things are now; the settings have to be what they were then.
fn replan(given: &Plan, options: &cli::Apply) -> Result<(Scene, Plan)> {
    let scene = match options.wanted.netns.name.as_deref() {
        Some(netns) => Scene::look(Some(netns))?,
        None => {
            let own = Scene::look(None)?;
            if own.name() == given.namespace {
                own
            } else if own.is_host() {
                Scene::look(Some(&given.namespace)).with_context(|| {
                    format!(
                        "the plan is for network namespace {}, which is not found here; --netns names another",
                        given.namespace
                    )
                })?
            } else {
                return Err(Usage(format!(
                    "the plan is for network namespace {}, and this is {}: say with --netns NAME, PID or host which is meant",
                    given.namespace,
                    own.name()
                ))
                .into());
            }
        }
    };
    let mut moved = Vec::new();
    for change in &given.changes {
        let Some(now) = scene.setting(&change.setting) else { continue };
        let now = spaced(now);
        if now != change.now && now != change.wanted {
            moved.push(format!(
                "{} was {:?} when the plan was made and is {now:?} now",
                change.setting, change.now
            ));
        }
    }
    if !moved.is_empty() && !options.rebase {
        bail!(
            "{}; nothing was changed: make a new plan, or take its values all the same with --rebase",
            moved.join("; ")
        );
    }
    let wanted: Vec<Assignment> = given.assignments();
    let manner = Manner { reserve: options.wanted.reserve, without: &options.wanted.without };
    let again = scene.plan(Asked::Settings(&wanted), manner)?;
    let mut plan = Plan { id: given.id.clone(), from: given.from.clone(), ..again };
    for change in &mut plan.changes {
        if let Some(before) = given.changes.iter().find(|before| before.setting == change.setting) {
            change.why.clone_from(&before.why);
        }
    }
    if plan.left_out.iter().any(|left| left.reason == Reason::NoEffect) && plan.changes.is_empty() {
        anstream::eprintln!("tidewait: what made these settings worth changing is not so any more");
    }
    Ok((scene, plan))
}

/// Reads a plan from a file, or from standard input where that is `-`.
pub fn read_plan(path: &Path) -> Result<Plan> {
    /// More than any plan has.
    const LONGEST: u64 = 4 << 20;
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let mut text = String::new();
    let reader: Box<dyn io::Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(fs::File::open(path).with_context(|| format!("cannot read the plan {name}"))?)
    };
    reader.take(LONGEST).read_to_string(&mut text).with_context(|| format!("cannot read the plan {name}"))?;
    let wrong = |why: &dyn std::fmt::Display| {
        Usage(format!("{name} is no plan of `tidewait tune plan --out`: {why}"))
    };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    match value.get("schema").and_then(serde_json::Value::as_str) {
        Some(PLAN_SCHEMA) => {}
        Some(schema) if schema.starts_with("tidewait.plan/") => {
            return Err(Usage(format!(
                "{name} is a {schema}, made by another version of tidewait; this one reads {PLAN_SCHEMA}: make it again"
            ))
            .into());
        }
        _ => return Err(wrong(&format!("its schema is not {PLAN_SCHEMA}")).into()),
    }
    let plan: Plan = serde_json::from_value(value).map_err(|error| wrong(&error))?;
    plan.verify().map_err(|error| {
        Usage(format!("{name}: {error}: make it again, with --setting for what it should say and --without for what it should not"))
    })?;
    Ok(plan)
}

fn refusal(plan: &Plan) -> String {
    let one = |blocker: &tidewait_model::tune::Blocker| {
        let offer = blocker
            .offer
            .as_ref()
            .map_or_else(String::new, |offer| format!(" --setting '{}={}'", offer.setting, offer.value));
        format!("{}: {}; {}{offer}", blocker.setting, blocker.why, blocker.remedy)
    };
    let all: Vec<String> = plan.blockers.iter().map(one).collect();
    format!("refused, nothing was changed: {}", all.join("; "))
}

fn stop_if(over: &AtomicBool) -> Result<()> {
    if over.load(Ordering::Relaxed) {
        bail!("interrupted; nothing was changed");
    }
    Ok(())
}

/// Who it is for: whoever became root by sudo, else the user.
fn by() -> String {
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    sudo.unwrap_or_else(|| Users::read(Path::new("/")).name(rustix::process::getuid().as_raw()))
}

/// An error as this program ends with it: 77 where privileges are missing.
pub fn explained(error: ChangeError) -> anyhow::Error {
    let denied = match &error {
        ChangeError::Failed(cause) | ChangeError::NotUndone { cause, .. } => cause.is_permission(),
        ChangeError::Journal(tidewait_act::journal::JournalError::Io { error, .. }) => {
            error.kind() == io::ErrorKind::PermissionDenied
        }
        _ => false,
    };
    if denied {
        NotPermitted(error.to_string()).into()
    } else if matches!(error, ChangeError::Unknown(_)) {
        Usage(error.to_string()).into()
    } else {
        error.into()
    }
}
