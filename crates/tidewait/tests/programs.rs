//! The lines of the programs table, read by the programs themselves where they are installed.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tidewait_diagnose::programs::{Need, named};
use tidewait_lab::skip;

/// The lines of a program for one need.
fn lines(program: &str, need: Need) -> String {
    let configuration = named(program).unwrap().configuration(need).unwrap();
    configuration.lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Where a program is; a skip where it is not installed.
fn installed(program: &str, test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|place| place.join(program)).find(|place| place.is_file());
    if found.is_none() {
        skip(test, format!("{program} is not installed"));
    }
    found
}

/// Runs a checker; its words where it refuses.
fn check(mut command: Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let words =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(words) }
}

fn written(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn nginx_takes_the_lines() {
    let Some(nginx) = installed("nginx", "nginx_takes_the_lines") else { return };
    let directory = tempfile::tempdir().unwrap();
    let upstream = lines("nginx", Need::ReuseConnections);
    let (upstream, location) = upstream.split_at(upstream.find("location").unwrap());
    let sources = lines("nginx", Need::MoreSources);
    let (split, sources) = sources.split_at(sources.find("location").unwrap());
    let sources = sources.replace("location /", "location /sources");
    let descriptors = lines("nginx", Need::MoreDescriptors);
    let port = lines("nginx", Need::PortAtConnect);
    let peers = lines("nginx", Need::NoticeDeadPeers).replace("listen 80", "listen 127.0.0.1:8081");
    let backlog = lines("nginx", Need::LongerBacklog).replace("listen 80", "listen 127.0.0.1:8080");
    let place = directory.path().display();
    let text = format!(
        "{descriptors}pid {place}/pid;\nerror_log {place}/error.log;\nhttp {{\naccess_log off;\n{upstream}{split}\
         server {{\n{backlog}{peers}{port}{location}{sources}}}\n}}\n"
    );
    let path = written(directory.path(), "nginx.conf", &text);
    let mut command = Command::new(nginx);
    command.arg("-t").arg("-q").arg("-p").arg(directory.path()).arg("-c").arg(&path);
    check(command).unwrap();
}

#[test]
fn haproxy_takes_the_lines() {
    let Some(haproxy) = installed("haproxy", "haproxy_takes_the_lines") else { return };
    let directory = tempfile::tempdir().unwrap();
    let of = |need| lines("haproxy", need);
    let named = |need, name: &str| of(need).replace("backend app", &format!("backend {name}\n    mode http"));
    let text = format!(
        "{}{}    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\
         frontend front\n    bind 127.0.0.1:8080\n    {}    default_backend app\n{}{}{}",
        of(Need::MoreDescriptors),
        of(Need::NoticeDeadPeers),
        of(Need::LongerBacklog),
        of(Need::ReuseConnections),
        named(Need::PortAtConnect, "bound"),
        named(Need::MoreSources, "spread"),
    );
    let path = written(directory.path(), "haproxy.cfg", &text);
    let mut command = Command::new(haproxy);
    command.arg("-c").arg("-q").arg("-f").arg(&path);
    check(command).unwrap();
}

#[test]
fn squid_takes_the_lines() {
    let Some(squid) = installed("squid", "squid_takes_the_lines") else { return };
    let directory = tempfile::tempdir().unwrap();
    let needs = named("squid").unwrap().recipes.iter().map(|recipe| lines("squid", recipe.need));
    let text = format!("{}cache_log {}/cache.log\n", needs.collect::<String>(), directory.path().display());
    let path = written(directory.path(), "squid.conf", &text);
    let mut command = Command::new(squid);
    command.arg("-k").arg("parse").arg("-f").arg(&path);
    let words = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&words.stderr);
    assert!(words.status.success() && !said.contains("ERROR") && !said.contains("unrecognized"), "{said}");
}

#[test]
fn the_interpreters_take_the_lines() {
    const TEST: &str = "the_interpreters_take_the_lines";
    let directory = tempfile::tempdir().unwrap();
    if let Some(python) = installed("python3", TEST) {
        for program in ["requests", "urllib3", "httpx", "redis"] {
            for recipe in named(program)
                .unwrap()
                .recipes
                .iter()
                .filter(|recipe| recipe.source.contains('y') || program != "redis")
            {
                // Of Redis, the client's lines alone are Python.
                if program == "redis" && recipe.need != Need::ReuseConnections {
                    continue;
                }
                let path = written(directory.path(), "lines.py", &lines(program, recipe.need));
                let mut command = Command::new(&python);
                command.arg("-c").arg("import ast, sys; ast.parse(open(sys.argv[1]).read())").arg(path);
                check(command).unwrap();
            }
        }
    }
    if let Some(node) = installed("node", TEST) {
        for program in ["node-http", "undici"] {
            let path = written(directory.path(), "lines.mjs", &lines(program, Need::ReuseConnections));
            let mut command = Command::new(&node);
            command.arg("--check").arg(path);
            check(command).unwrap();
        }
    }
    if let Some(php) = installed("php", TEST) {
        let path = written(
            directory.path(),
            "lines.php",
            &format!("<?php\n{}", lines("php-fpm", Need::ReuseConnections)),
        );
        let mut command = Command::new(php);
        command.arg("-l").arg(path);
        check(command).unwrap();
    }
}
