//! The workspace as cargo and the file system know it: root, target directory, members, text files.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result};
use cargo_metadata::{Metadata, MetadataCommand, Package};

/// The target for which the dependencies are judged: what is built only elsewhere does not concern us.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What cargo says about the workspace, with the whole dependency graph.
pub struct Workspace {
    /// The directory of the top Cargo.toml.
    pub root: PathBuf,
    /// `cargo metadata`, resolved for Linux on x86-64.
    pub metadata: Metadata,
}

impl Workspace {
    /// Asks cargo. Fails when Cargo.lock does not fit the manifests.
    pub fn open() -> Result<Self> {
        // crates/xtask/Cargo.toml is two floors below the root, wherever the chore was started.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), TARGET.to_owned()])
            .exec()
            .context("cargo metadata")?;
        Ok(Self { root: metadata.workspace_root.clone().into_std_path_buf(), metadata })
    }

    /// Cargo's target directory; CARGO_TARGET_DIR is honoured.
    pub fn target(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    /// The workspace's own packages, by name.
    pub fn members(&self) -> Vec<&Package> {
        let mut members = self.metadata.workspace_packages();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// A path below the root, as it is written in documents: relative, with slashes.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// A text file below the root.
    pub fn read(&self, relative: &str) -> Result<String> {
        fs::read_to_string(self.root.join(relative)).with_context(|| format!("cannot read {relative}"))
    }

    /// Every text file of the project with its relative path, sorted. Build output, the repository's own data
    /// and everything that is not UTF-8 is left out.
    pub fn texts(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for path in files(&self.root)? {
            if let Ok(text) = fs::read_to_string(&path) {
                found.push((self.relative(&path), text));
            }
        }
        Ok(found)
    }
}

/// Every file below a directory, sorted; skips `.git` and every `target`.
fn files(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && entry.file_name() != ".git" && entry.file_name() != "target" {
                open.push(entry.path());
            } else if kind.is_file() && entry.file_name() != ".git" {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The cargo that started this chore.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
