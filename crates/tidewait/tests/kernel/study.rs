//! `tidewait study` on a namespace of its own: one object at the end, a memory beside it, nothing left when it is killed.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidewait_lab::{NetNs, isolated, skip};

const PATIENCE: Duration = Duration::from_secs(20);

fn study(netns: &NetNs, state: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = netns.command(env!("CARGO_BIN_EXE_tidewait"));
    command.arg("study").args(arguments).arg("--state").arg(state);
    command.stdin(Stdio::null());
    command
}

/// What keeps it from working here, as it says itself.
fn obstacle(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr).into_owned();
    text.contains("cannot be seen").then_some(text)
}

#[test]
fn a_quiet_namespace_is_studied_and_remembered() {
    let name = "study::a_quiet_namespace_is_studied_and_remembered";
    isolated(name, || {
        let netns = NetNs::new().unwrap();
        let state = tempfile::tempdir().unwrap();
        let out = study(&netns, state.path(), &["--json", "--for", "0.3"]).output().unwrap();
        if let Some(why) = obstacle(&out.stderr) {
            return skip(name, why);
        }
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let told: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(told["schema"], "tidewait.study/1");
        assert_eq!(
            (&told["total"]["segments"], &told["total"]["sockets"]),
            (&0.into(), &0.into()),
            "{told:#}"
        );
        let text = std::fs::read_to_string(state.path().join("study.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["schema"], "tidewait.study-memory/1");
        // What is no memory is named before anything is watched, and left alone.
        std::fs::write(state.path().join("study.json"), "[]").unwrap();
        let out = study(&netns, state.path(), &["--for", "3600"]).output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains("study.json is damaged"), "{out:?}");
        let out = study(&netns, state.path(), &["--for", "0.1", "--no-memory"]).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        assert_eq!(std::fs::read_to_string(state.path().join("study.json")).unwrap(), "[]");
    });
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    let name = "study::nothing_is_left_when_it_is_killed";
    isolated(name, || {
        let netns = NetNs::new().unwrap();
        let state = tempfile::tempdir().unwrap();
        let out = study(&netns, state.path(), &["--for", "0.1"]).output().unwrap();
        if let Some(why) = obstacle(&out.stderr) {
            return skip(name, why);
        }
        let mut child = study(&netns, state.path(), &[]).stdout(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        let programs = loop {
            // A link keeps its program: `prog_id` of every link that the process holds.
            let programs = programs_of(child.id());
            if !programs.is_empty() {
                break programs;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing is attached");
            sleep(Duration::from_millis(20));
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(programs_of(std::process::id()).is_empty());
        // The numbers of programs are given once; an open one would still be told by its number.
        let begun = Instant::now();
        for program in programs {
            while Command::new("bpftool")
                .args(["prog", "show", "id", &program])
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
            {
                assert!(begun.elapsed() < PATIENCE, "program {program} is still there");
                sleep(Duration::from_millis(20));
            }
        }
    });
}

fn programs_of(pid: u32) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Vec::new() };
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts
        .filter(|text| text.contains("link_type:"))
        .filter_map(|text| {
            let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"))?;
            Some(id.trim().to_owned())
        })
        .collect()
}
