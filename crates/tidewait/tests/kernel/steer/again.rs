//! Steering that was in the way of nothing and now is: it waits until that is gone, or its target.

use std::fs;

use serde_json::json;
use tidewait_lab::{NetNs, skip};

use super::{Group, Running, Sleeper, can_steer};
use crate::common::TIDEWAIT;

#[test]
fn what_cannot_be_steered_again_is_waited_for_until_its_process_ends() {
    const NAME: &str = "again";
    let Ok(net) = NetNs::new() else { return skip(NAME, "no network namespace") };
    let Some(group) = can_steer(NAME, &net) else { return };
    let Some(other) = Group::new("again-elsewhere") else { return skip(NAME, "no group") };
    let address = |what: &[&str]| {
        assert!(net.command("ip").arg("address").args(what).args(["dev", "lo"]).status().unwrap().success());
    };
    address(&["flush"]);
    address(&["add", "127.0.0.1/32"]);
    address(&["add", "127.0.0.2/32"]);
    let sleeper = Sleeper::new(&net, &group.0);
    let number = sleeper.0.id().to_string();
    let arguments = ["spread", "--pid", &number, "--sources", "127.0.0.2"];
    let tried = net.command(TIDEWAIT).args(arguments).args(["--for", "0.1"]).output().unwrap();
    if !tried.status.success() {
        // In a process namespace of its own numbers are not those of the kernel.
        return skip(NAME, String::from_utf8_lossy(&tried.stderr));
    }
    let mut running = Running::start(&net, &arguments);
    let refused = |running: &mut Running, to: &Group| {
        address(&["del", "127.0.0.2/32"]);
        running.until(|line| line["sources_missing"] == json!(["127.0.0.2"]));
        // Moved, it is attached anew, and its only source is not there: nothing is, and so nothing is missing.
        fs::write(to.0.join("cgroup.procs"), &number).unwrap();
        running.until(|line| line["event"] == "progress" && line["sources_missing"] == json!([]));
    };
    refused(&mut running, &other);
    address(&["add", "127.0.0.2/32"]);
    running.until(|line| line["event"] == "begin");
    refused(&mut running, &group);
    drop(sleeper);
    assert_eq!(running.end()["reason"], "target_gone");
}
