//! ARCHITECTURE.md against the tree, both ways: every crate is in the drawing, every path it names exists, and its
//! list of rooms is made from the signs on the doors.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// The file that holds the map.
pub const MAP: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- rooms: written by `cargo xtask generate` from the first line of every module -->\n";
const END: &str = "<!-- end of rooms -->\n";

/// What the hand-written part of the map has wrong. The list of rooms is compared by [`crate::generate`].
pub fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let text = workspace.read(MAP)?;
    let (before, _, after) = split(&text)?;
    let by_hand = format!("{before}{after}");
    let mut complaints = Vec::new();
    for member in workspace.members() {
        let name = directory(member);
        if !by_hand.split(|c: char| !c.is_alphanumeric()).any(|word| word == name) {
            complaints.push(format!("{MAP}: says nothing about the crate {name}"));
        }
    }
    for path in paths(&by_hand) {
        if !workspace.root.join(path).exists() {
            complaints.push(format!("{MAP}: names {path}, which does not exist"));
        }
    }
    Ok(complaints)
}

/// The map with its list of rooms written anew.
pub fn rendered(workspace: &Workspace) -> Result<String> {
    let text = workspace.read(MAP)?;
    let (before, _, after) = split(&text)?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", rooms(workspace)?))
}

/// One line a room, by crate: what the first line of each module says it is for.
fn rooms(workspace: &Workspace) -> Result<String> {
    let texts = workspace.texts()?;
    let mut list = String::new();
    for member in workspace.members() {
        let crate_path = format!("crates/{}", directory(member));
        let about = member.description.as_deref().unwrap_or_default();
        writeln!(list, "- **`{crate_path}`**: {about}")?;
        for (path, text) in &texts {
            let source = path.strip_prefix(&format!("{crate_path}/src/"));
            let Some(room) = source.filter(|room| is_room(room)) else { continue };
            writeln!(list, "  - `{room}`: {}", sign(text))?;
        }
    }
    Ok(list)
}

/// A crate's front door is described by its Cargo.toml, and tests are no rooms.
fn is_room(path: &str) -> bool {
    path.ends_with(".rs") && !["lib.rs", "main.rs"].contains(&path) && !path.ends_with("tests.rs")
}

/// The first sentence of a module's documentation.
fn sign(text: &str) -> String {
    let paragraph: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    match paragraph.find(". ") {
        Some(end) => paragraph[..=end].to_owned(),
        None => paragraph,
    }
}

/// What is in backticks and begins like a path of this project.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|quoted| {
        ["crates/", "docs/", "fuzz/", ".ci/", ".cargo/"].iter().any(|top| quoted.starts_with(top))
    })
}

fn split(text: &str) -> Result<(&str, &str, &str)> {
    let missing = || format!("{MAP} has lost the marks around its list of rooms");
    let (before, rest) = text.split_once(BEGIN).with_context(missing)?;
    let (rooms, after) = rest.split_once(END).with_context(missing)?;
    Ok((before, rooms, after))
}

/// The directory name of a crate, which is what people call it.
fn directory(member: &cargo_metadata::Package) -> &str {
    member.manifest_path.parent().and_then(|directory| directory.file_name()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_the_first_sentence() {
        assert_eq!(sign("//! Reads /proc.\n//!\n//! More.\nfn f() {}\n"), "Reads /proc.");
        assert_eq!(sign("//! Reads /proc and\n//! /sys. Writes nothing.\n"), "Reads /proc and /sys.");
        assert_eq!(sign("fn f() {}\n"), "");
    }

    #[test]
    fn only_paths_of_the_project_are_looked_up() {
        let text = "see `crates/model`, `/proc/net/tcp`, `tidewait report` and `docs/decisions/`";
        assert_eq!(paths(text).collect::<Vec<_>>(), ["crates/model", "docs/decisions/"]);
    }

    #[test]
    fn tests_and_front_doors_are_no_rooms() {
        assert!(is_room("places.rs") && is_room("vm/kernel.rs"));
        assert!(!is_room("lib.rs") && !is_room("census/tests.rs") && !is_room("x.bpf.c"));
    }
}
