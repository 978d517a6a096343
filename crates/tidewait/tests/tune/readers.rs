//! Commands that only read are watched at every call that could change something.

use tidewait_lab::faults::{self, Plan};

use crate::bench::{Bench, said};

#[test]
fn what_only_reads_changes_nothing() {
    let bench = Bench::new();
    assert!(bench.apply(&[]).output().unwrap().status.success());
    let journal = bench.journal();
    for args in [
        "report",
        "report --json",
        "check --timeout 10",
        "explain TIME_WAIT",
        "capacity",
        "tune plan",
        "tune plan --profile hosting --json",
        "tune status",
        "tune history --json",
        "tune persist 1 --as kubernetes",
    ] {
        let mut command = bench.command(&args.split(' ').collect::<Vec<_>>());
        let walked = faults::run(&mut command, &Plan::watch().with_children()).unwrap();
        // Threads and processes of its own, in namespaces that are there, a look at a lock: no file, no setting, no name.
        let harmless = [
            "clone",
            "clone3",
            "setns",
            "flock",
            "fork",
            "vfork",
            "execve",
            "setsid",
            "kill",
            "pidfd_send_signal",
        ];
        let changes: Vec<String> = walked
            .calls
            .iter()
            .filter(|call| !harmless.contains(&call.name) && !is_pipe(&call.about))
            .map(ToString::to_string)
            .collect();
        assert_eq!(changes, Vec::<String>::new(), "{args}");
    }
    assert!(bench.is_wanted());
    assert_eq!(bench.journal(), journal);
    let plan = bench.tune(&["plan", "--out", "/nowhere/plan.json"]);
    assert!(said(&plan).contains("cannot write the plan to /nowhere/plan.json"), "{}", said(&plan));
}

/// Whether a call is about a pipe or the like between processes, or nothing at all.
fn is_pipe(about: &str) -> bool {
    ["pipe:", "socket:", "anon_inode:", "/dev/null"].iter().any(|start| about.contains(start))
}
