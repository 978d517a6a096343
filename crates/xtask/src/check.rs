//! The rules of the house that a machine can check; each returns its complaints, none stops the others.

use anyhow::Result;

use crate::workspace::Workspace;

mod edges;
pub mod map;
pub mod pages;
mod readme;
mod sources;

/// Everything that breaks a rule, one sentence each, with the file and the remedy. Warnings go to stderr.
pub fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let texts = workspace.texts()?;
    let mut complaints = edges::complaints(workspace);
    for (path, text) in &texts {
        complaints.extend(sources::complaints(path, text));
        if let Some(warning) = sources::warning(path, text) {
            eprintln!("warning: {warning}");
        }
    }
    complaints.extend(pages::complaints(workspace)?);
    complaints.extend(map::complaints(workspace)?);
    complaints.extend(readme::complaints(&workspace.read("README.md")?));
    Ok(complaints)
}
