//! The dependencies against deny.toml: licences, banned crates, crates in two versions, sources.
//!
//! A part of what cargo-deny does with the same file, without the minutes that building cargo-deny takes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::semver::VersionReq;
use cargo_metadata::{Node, Package};
use serde::Deserialize;

use crate::workspace::Workspace;

const FILE: &str = "deny.toml";

/// The keys of deny.toml that are judged here. What cargo-deny alone understands passes by.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Entry>,
    deny: Vec<Entry>,
}

/// One crate, `name` or `name@range`, and why it is listed.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
    /// Dependents that may have a banned crate all the same.
    #[serde(default)]
    wrappers: Vec<String>,
}

/// Every dependency that the policy refuses.
pub fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let policy: Policy =
        toml::from_str(&workspace.read(FILE)?).with_context(|| format!("{FILE} is not as expected"))?;
    let Some(graph) = &workspace.metadata.resolve else {
        bail!("cargo metadata came without a dependency graph")
    };
    // The list of packages names everything in Cargo.lock; the graph, what Linux builds.
    let packages: Vec<&Package> = graph.nodes.iter().map(|node| &workspace.metadata[&node.id]).collect();
    let foreign: Vec<&Package> = packages.into_iter().filter(|package| package.source.is_some()).collect();

    let mut complaints = Vec::new();
    for package in &foreign {
        complaints.extend(licence(&policy, package));
        let is_dependent = |node: &&Node| node.deps.iter().any(|dependency| dependency.pkg == package.id);
        let dependents =
            graph.nodes.iter().filter(is_dependent).map(|node| workspace.metadata[&node.id].name.as_str());
        complaints.extend(ban(&policy, package, dependents));
        if !package.source.as_ref().is_some_and(cargo_metadata::Source::is_crates_io) {
            complaints.push(format!("{} comes from elsewhere than the crate registry", named(package)));
        }
    }
    complaints.extend(duplicates(&policy, &foreign));
    Ok(complaints)
}

fn named(package: &Package) -> String {
    format!("{} {}", package.name, package.version)
}

fn licence(policy: &Policy, package: &Package) -> Option<String> {
    let name = named(package);
    match &package.license {
        None => Some(format!("{name} states no licence")),
        Some(licence) => match spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX) {
            Err(_) => Some(format!("{name}: its licence `{licence}` is no SPDX expression")),
            Ok(expression) => (!expression.evaluate(|one| policy.licenses.allow.contains(&one.to_string())))
                .then(|| format!("{name}: its licence `{licence}` is not among those that {FILE} allows")),
        },
    }
}

/// Refuses a banned crate to each of its dependents that is no wrapper.
fn ban<'a>(
    policy: &Policy,
    package: &Package,
    mut dependents: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let entry = policy.bans.deny.iter().find(|entry| entry.covers(package))?;
    let dependent = dependents.find(|name| !entry.wrappers.iter().any(|wrapper| wrapper == name))?;
    Some(format!("{dependent} uses {}, which is banned: {}", named(package), entry.reason))
}

/// Crates that are built in more than one version, and entries of the skip list that nothing needs any more.
fn duplicates(policy: &Policy, packages: &[&Package]) -> Vec<String> {
    let mut by_name: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in packages {
        by_name.entry(package.name.as_str()).or_default().push(package);
    }
    let mut complaints = Vec::new();
    for (name, mut versions) in by_name {
        versions.retain(|package| !policy.bans.skip.iter().any(|entry| entry.covers(package)));
        if versions.len() > 1 {
            let versions: Vec<String> = versions.iter().map(|package| package.version.to_string()).collect();
            complaints.push(format!(
                "{name} is built in versions {}: bring the dependents together, or list the older one under \
                 bans.skip in {FILE} with the reason",
                versions.join(" and ")
            ));
        }
    }
    for entry in &policy.bans.skip {
        if !packages.iter().any(|package| entry.covers(package)) {
            complaints.push(format!("{FILE}: bans.skip lists {}, which is no longer built", entry.spec));
        }
    }
    complaints
}

impl Entry {
    fn covers(&self, package: &Package) -> bool {
        match self.spec.split_once('@') {
            Some((name, version)) => {
                let range = VersionReq::parse(version);
                package.name.as_str() == name && range.is_ok_and(|range| range.matches(&package.version))
            }
            None => package.name.as_str() == self.spec,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0 WITH LLVM-exception"]
        [bans]
        skip = [{ crate = "old@1", reason = "waits for somebody" }]
        deny = [{ crate = "bad", reason = "it is bad", wrappers = ["tame"] }]
    "#;

    fn policy() -> Policy {
        toml::from_str(POLICY).unwrap()
    }

    fn package(name: &str, version: &str, licence: &str) -> Package {
        let json = format!(
            r#"{{"name": "{name}", "version": "{version}", "id": "{name}@{version}", "license": "{licence}",
                "dependencies": [], "targets": [], "features": {{}}, "manifest_path": "/x/Cargo.toml"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_licence_is_an_expression() {
        let judged = |licence| super::licence(&policy(), &package("a", "1.0.0", licence));
        assert_eq!(judged("MIT"), None);
        assert_eq!(judged("MIT/GPL-3.0"), None);
        assert_eq!(judged("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only"), None);
        assert!(judged("MIT AND GPL-3.0-only").is_some());
        assert!(judged("Apache-2.0").is_some());
        assert!(judged("do what you like").is_some());
    }

    #[test]
    fn two_versions_are_refused_unless_listed() {
        let (old, new, newer) =
            (package("old", "1.0.0", "MIT"), package("old", "2.0.0", "MIT"), package("old", "3.0.0", "MIT"));
        assert!(duplicates(&policy(), &[&old, &new]).is_empty());
        assert_eq!(duplicates(&policy(), &[&old, &new, &newer]).len(), 1);
    }

    #[test]
    fn a_skip_that_nothing_needs_is_named() {
        assert_eq!(duplicates(&policy(), &[]).len(), 1);
    }

    #[test]
    fn a_banned_crate_is_refused_to_all_but_its_wrappers() {
        let judged = |name, dependents: &[&str]| {
            ban(&policy(), &package(name, "1.0.0", "MIT"), dependents.iter().copied())
        };
        let complaint = "wild uses bad 1.0.0, which is banned: it is bad";
        assert_eq!(judged("bad", &["tame", "wild"]).as_deref(), Some(complaint));
        assert_eq!(judged("bad", &["tame"]), None);
        assert_eq!(judged("badger", &["wild"]), None);
    }
}
