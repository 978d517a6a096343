//! `tidewait tune plan`: what would be changed, what that is worth, and what is better left alone.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use tidewait_diagnose::tune::{Asked, Manner};
use tidewait_model::containers::render;
use tidewait_model::tune::Plan;
use tidewait_surfaces::text;

use super::scene::Scene;
use crate::cli;
use crate::output;

/// Runs the command.
pub fn run(options: &cli::Plan) -> anyhow::Result<()> {
    let scene = Scene::look(options.wanted.netns.name.as_deref())?;
    let plan = of(&scene, &options.wanted)?;
    let file = options.out.as_deref().filter(|path| *path != Path::new("-"));
    if let Some(path) = file {
        write(path, &plan)?;
    }
    if let Some(form) = options.form {
        let settings: Vec<(String, String)> =
            plan.changes.iter().map(|change| (change.setting.clone(), change.wanted.clone())).collect();
        return output::text(&render(form, &settings));
    }
    if options.format.json || options.out.is_some() && file.is_none() {
        output::json(&plan, false)
    } else {
        output::text(&text::plan(&plan, file, &output::page(options.format, usize::MAX)))
    }
}

/// The plan for what was asked; nothing in particular: for what the findings advise.
pub fn of(scene: &Scene, wanted: &cli::Wanted) -> anyhow::Result<Plan> {
    let asked = match wanted.profile {
        Some(profile) => Asked::Profile(profile),
        None if wanted.settings.is_empty() => Asked::Findings,
        None => Asked::Settings(&wanted.settings),
    };
    scene.plan(asked, Manner { reserve: wanted.reserve, without: &wanted.without })
}

fn write(path: &Path, plan: &Plan) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(plan)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write the plan to {}", path.display()))
}
