//! The program without the crate that changes things: it is not linked in, and what it would have done says so.

use std::process::{Command, Output};

use anyhow::{Context as _, Result};

use crate::harness::{Outcome, watch};
use crate::workspace::{Workspace, cargo};

/// The crate that is to be left out, and one that has to be there, or nothing was looked at.
const LEFT_OUT: &str = "tidewait-act";
const THERE: &str = "tidewait-observe";

/// Builds it, and tries both what it can do and what it cannot.
pub fn outcome(workspace: &Workspace) -> Result<Outcome> {
    let mut complaints = Vec::new();
    let tree =
        ["tree", "--locked", "-p", "tidewait", "-e", "normal", "--prefix", "none", "--no-default-features"];
    let linked =
        output(Command::new(cargo()).args(tree).args(["--features", "bpf"]).current_dir(&workspace.root))?;
    let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
    let has = |name: &str| linked.lines().any(|line| line.split(' ').next() == Some(name));
    if has(LEFT_OUT) || !has(THERE) {
        complaints
            .push(format!("without the feature `act`, tidewait must not depend on {LEFT_OUT}, but does"));
    }
    // With the whole workspace, as in the other steps: another choice of packages means a new build of everything.
    let build = ["build", "--locked", "--workspace", "--no-default-features", "--features", "tidewait/bpf"];
    println!("cargo {}", build.join(" "));
    let (built, _) = watch(Command::new(cargo()).args(build).current_dir(&workspace.root))?;
    if !built {
        complaints.push("it does not build".to_owned());
        return Ok(Outcome::from(complaints));
    }
    let program = workspace.target().join("debug/tidewait");
    // A value that every kernel has already, should the program write it after all.
    let errands: [&[&str]; 6] = [
        &["apply", "--setting", "net.ipv4.tcp_timestamps=1"],
        &["rollback"],
        &["confirm"],
        &["status"],
        &["persist"],
        &["unpersist"],
    ];
    for errand in errands {
        let refused = output(Command::new(&program).arg("tune").args(errand))?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        if refused.status.success() || !said.contains("it only reads") {
            complaints.push(format!("`tune {}` does not say that the program only reads: {said}", errand[0]));
        }
    }
    let refused = output(Command::new(&program).args(["reap", "--older-than", "30s", "--once"]))?;
    if refused.status.success() || !String::from_utf8_lossy(&refused.stderr).contains("it only reads") {
        complaints.push("`reap` does not say that the program only reads".to_owned());
    }
    let refused = output(Command::new(&program).args(["exec", "--no-port", "--", "true"]))?;
    if refused.status.success() || !String::from_utf8_lossy(&refused.stderr).contains("it only reads") {
        complaints.push("`exec` does not say that the program only reads".to_owned());
    }
    let counted =
        output(Command::new(&program).args(["reap", "--older-than", "30s", "--dry-run", "--json"]))?;
    if !counted.status.success() || !String::from_utf8_lossy(&counted.stdout).contains("tidewait.reap/1") {
        complaints.push("`reap --dry-run` counts nothing".to_owned());
    }
    let plan = output(Command::new(&program).args(["tune", "plan", "--profile", "proxy", "--json"]))?;
    if !plan.status.success() || !String::from_utf8_lossy(&plan.stdout).contains("tidewait.plan/1") {
        complaints.push("`tune plan` makes no plan".to_owned());
    }
    Ok(Outcome::from(complaints))
}

fn output(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.output().with_context(|| format!("cannot start {name}"))
}
