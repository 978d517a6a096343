//! Files that are written by a machine and committed: the list below is all of them.

use std::fs;

use anyhow::{Context as _, Result};

use crate::check::map;
use crate::workspace::Workspace;

/// Every generated file: its path below the root, and what must be in it.
fn outputs(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let mut outputs = vec![(map::MAP.to_owned(), map::rendered(workspace)?)];
    let schemas = tidewait_surfaces::schema::all();
    outputs.extend(schemas.into_iter().map(|(name, schema)| (format!("docs/schema/{name}"), schema)));
    outputs.push(("docs/settings.md".to_owned(), tidewait_surfaces::settings_page::page()));
    Ok(outputs)
}

/// Writes every generated file that is not what it should be, and says which.
pub fn write(workspace: &Workspace) -> Result<()> {
    for (path, _, wanted) in differing(workspace)? {
        let target = workspace.root.join(&path);
        if let Some(directory) = target.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        fs::write(&target, wanted).with_context(|| format!("cannot write {path}"))?;
        println!("written: {path}");
    }
    Ok(())
}

/// Every generated file that is not what it should be, with the first line that differs.
pub fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let differing = differing(workspace)?;
    Ok(differing
        .into_iter()
        .map(|(path, found, wanted)| {
            let line =
                1 + found.lines().zip(wanted.lines()).take_while(|(found, wanted)| found == wanted).count();
            format!("{path}:{line}: not as generated; run `cargo xtask generate` and commit the result")
        })
        .collect())
}

/// Path, present content and wanted content of what differs.
fn differing(workspace: &Workspace) -> Result<Vec<(String, String, String)>> {
    let with_present = outputs(workspace)?.into_iter().map(|(path, wanted)| {
        let found = fs::read_to_string(workspace.root.join(&path)).unwrap_or_default();
        (path, found, wanted)
    });
    Ok(with_present.filter(|(_, found, wanted)| found != wanted).collect())
}
