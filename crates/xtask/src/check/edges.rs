//! Which crate may import which: a table, compared with what cargo says.

use cargo_metadata::DependencyKind;

use crate::workspace::Workspace;

/// A crate and what it may import of the workspace: always, and in its tests besides.
///
/// The arrows of ARCHITECTURE.md. Whoever wants another arrow changes the drawing first, then this row.
const ALLOWED: &[(&str, &[&str], &[&str])] = &[
    ("tidewait-model", &[], &[]),
    ("tidewait-kernel", &[], &[]),
    ("tidewait-clang", &[], &[]),
    ("tidewait-observe", &["tidewait-model", "tidewait-kernel", "tidewait-clang"], &["tidewait-lab"]),
    ("tidewait-act", &["tidewait-model", "tidewait-kernel", "tidewait-clang"], &["tidewait-lab"]),
    ("tidewait-diagnose", &["tidewait-model"], &[]),
    ("tidewait-surfaces", &["tidewait-model"], &[]),
    ("tidewait-lab", &["tidewait-model"], &[]),
    (
        "tidewait",
        &[
            "tidewait-model",
            "tidewait-observe",
            "tidewait-diagnose",
            "tidewait-surfaces",
            "tidewait-lab",
            "tidewait-act",
            "tidewait-kernel",
        ],
        &[],
    ),
    ("xtask", &["tidewait-model", "tidewait-surfaces", "tidewait-diagnose", "tidewait-lab"], &[]),
];

/// Every import that the table does not allow, and every crate that the table does not know.
pub fn complaints(workspace: &Workspace) -> Vec<String> {
    let members = workspace.members();
    let is_ours = |name: &str| members.iter().any(|member| member.name.as_str() == name);
    let mut complaints = Vec::new();
    for member in &members {
        let imports = member
            .dependencies
            .iter()
            .filter(|import| is_ours(&import.name))
            .map(|import| (import.name.as_str(), import.kind == DependencyKind::Development));
        complaints.extend(forbidden(member.name.as_str(), imports));
    }
    for (name, ..) in ALLOWED.iter().filter(|(name, ..)| !is_ours(name)) {
        complaints.push(format!("crate edges: the table names {name}, which is no crate of this workspace"));
    }
    complaints
}

/// Judges one crate's imports: name, and whether for tests only.
fn forbidden<'a>(name: &str, imports: impl Iterator<Item = (&'a str, bool)>) -> Vec<String> {
    let Some((_, always, in_tests)) = ALLOWED.iter().find(|(known, ..)| *known == name) else {
        return vec![format!(
            "crate edges: {name} has no row in the table of crates/xtask/src/check/edges.rs"
        )];
    };
    imports
        .filter(|(import, for_tests)| !(always.contains(import) || *for_tests && in_tests.contains(import)))
        .map(|(import, _)| format!("crate edges: {name} must not import {import} (see ARCHITECTURE.md)"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_never_import_each_other() {
        let found = forbidden(
            "tidewait-diagnose",
            [("tidewait-model", false), ("tidewait-observe", false)].into_iter(),
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("tidewait-diagnose must not import tidewait-observe"));
    }

    #[test]
    fn an_import_for_tests_is_none_for_the_program() {
        assert!(forbidden("tidewait-observe", [("tidewait-lab", true)].into_iter()).is_empty());
        assert_eq!(forbidden("tidewait-observe", [("tidewait-lab", false)].into_iter()).len(), 1);
    }

    #[test]
    fn the_lab_knows_nothing_of_how_trouble_is_found() {
        for import in ["tidewait-observe", "tidewait-diagnose", "tidewait-surfaces"] {
            assert_eq!(forbidden("tidewait-lab", [(import, true)].into_iter()).len(), 1, "{import}");
        }
    }

    #[test]
    fn an_unknown_crate_needs_a_row() {
        assert_eq!(forbidden("tidewait-newcomer", [].into_iter()).len(), 1);
    }
}
