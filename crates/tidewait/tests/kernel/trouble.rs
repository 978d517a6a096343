//! Bad input and trouble: clear words, the right exit code, and whatever can still be told.
use std::process::{Command, Stdio};

use crate::common::{TIDEWAIT, failure, is_root, json, only, report, run};
use tidewait_lab::{Lab, NetNs, Path, isolated, skip};

fn tidewait(args: &[&str]) -> Command {
    let mut command = Command::new(TIDEWAIT);
    command.args(args);
    command
}

#[test]
fn wrong_usage_ends_with_2_and_names_the_input_and_the_remedy() {
    for (args, words) in [
        (&["--to", "db.example:3306"][..], &["db.example", "host names are not looked up"][..]),
        (&["--to", "10.0.2.9:70000"], &["70000", "1 to 65535"]),
        (&["--netns", "no-such-namespace"], &["no-such-namespace", "/run/netns"]),
        (&["--netns", "4194303999"], &["4194303999"]),
        (&["--top", "many"], &["many"]),
        (&["--watch=0"], &["0.1"]),
        (&["report", "extra"], &["extra"]),
        (&["capacity", "--ports", "70000"], &["70000"]),
        (&["capacity", "--time-wait", "0"], &["TIME_WAIT", "0"]),
        (&["capacity", "--rate", "NaN"], &["NaN"]),
        (&["capacity", "--preset", "mainframe"], &["mainframe", "linux"]),
        (&["man", "nothing"], &["nothing", "report"]),
        (&["man", "lab", "nothing"], &["lab nothing", "run"]),
        (&["man", "doctor", "nothing"], &["doctor nothing", "has none"]),
    ] {
        let said = failure(tidewait(args), 2);
        for word in words {
            assert!(said.contains(word), "{args:?}: no '{word}' in {said}");
        }
    }
}

#[test]
fn every_command_has_a_man_page_also_those_below_others() {
    for (args, title) in [
        (&["man"][..], "tidewait(1)"),
        (&["man", "check"], "tidewait-check"),
        (&["man", "lab", "run"], "tidewait-lab-run"),
    ] {
        let output = tidewait(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        let page = String::from_utf8(output.stdout).unwrap().replace("\\-", "-");
        assert!(page.contains(title.trim_end_matches("(1)")), "{args:?}: {page}");
    }
}

#[test]
fn a_full_disk_is_told_with_what_could_not_be_written() {
    for args in [&["man"][..], &["capacity", "--presets", "--json"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = tidewait(args).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("tidewait: cannot write to standard output: No space left"), "{said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = tidewait(&["man"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn capacity_prints_the_seeds_figures() {
    for (args, figure) in [
        (&["--ports", "32768", "--time-wait", "60"][..], "546 connections a second"),
        (&["--ports", "32768", "--time-wait", "30"], "1,092 connections a second"),
        (&["--ports", "32768", "--time-wait", "15"], "2,184 connections a second"),
        (&["--ports", "32768", "--time-wait", "10"], "3,276 connections a second"),
        (&["--ports", "28232", "--time-wait", "60"], "470 connections a second"),
    ] {
        let output = tidewait(&[&["capacity"], args].concat()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(figure), "{args:?}: {text}");
    }
}

#[test]
fn every_width_gives_a_page_within_it() {
    isolated("trouble::every_width_gives_a_page_within_it", || {
        let (client, server) = Lab::new().pair().unwrap();
        Path::between(&client, &server).to("10.77.0.2:80".parse().unwrap()).fill_time_wait(2_000).unwrap();
        for width in ["1", "20", "80", "200"] {
            let output = client.command(TIDEWAIT).env("COLUMNS", width).output().unwrap();
            let page = String::from_utf8(output.stdout).unwrap();
            let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(output.status.success() && page.contains("10.77"), "{page}");
            assert!(widest <= width.parse::<usize>().unwrap().max(20), "{width}: {page}");
            assert!(!page.contains('\x1b'), "colour is for terminals only");
        }
    });
}

#[test]
fn without_privilege_it_tells_what_it_can_and_what_is_missing() {
    const NAME: &str = "trouble::without_privilege_it_tells_what_it_can_and_what_is_missing";
    if !is_root() {
        return skip(NAME, "only root can give up being root");
    }
    isolated(NAME, || {
        let (client, server) = Lab::new().pair().unwrap();
        Path::between(&client, &server).to("10.77.0.2:80".parse().unwrap()).fill_time_wait(300).unwrap();
        let output = client
            .command("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
            ])
            .args([TIDEWAIT, "report", "--json", "--owners=always", "--netns=all"])
            .output()
            .unwrap();
        if String::from_utf8_lossy(&output.stderr).contains("ermission denied") && output.stdout.is_empty() {
            return skip(NAME, "the binary lies where only root may run it");
        }
        let report = json(&output);
        let own = &report["namespaces"].as_array().unwrap().iter();
        assert!(own.clone().any(|namespace| namespace["states"]["time_wait"] == 300), "{report:#}");
        let limits = report["limits"].to_string();
        assert!(limits.contains("CAP_SYS_PTRACE"), "{limits}");
    });
}

#[test]
fn without_proc_the_sockets_are_still_counted() {
    const NAME: &str = "trouble::without_proc_the_sockets_are_still_counted";
    isolated(NAME, || {
        let (client, server) = Lab::new().pair().unwrap();
        Path::between(&client, &server).to("10.77.0.2:80".parse().unwrap()).fill_time_wait(300).unwrap();
        let output = client
            .command("unshare")
            .args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" report --json", TIDEWAIT])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("unshare") || said.contains("mount:") {
            return skip(NAME, said.trim());
        }
        let report = json(&output);
        // Without /proc it cannot know which namespace is its own, so it looks into the named ones too.
        let namespaces = report["namespaces"].as_array().unwrap();
        let namespace = namespaces.iter().find(|seen| seen["states"]["time_wait"] == 300).unwrap();
        assert!(namespace["ports"].is_null() && namespace["destinations"][0]["fill"].is_null());
        assert!(report["limits"].to_string().contains("mount /proc"));
    });
}

#[test]
fn two_hundred_namespaces_are_each_told_once() {
    const NAME: &str = "trouble::two_hundred_namespaces_are_each_told_once";
    if !is_root() {
        return skip(NAME, "names under /run/netns need root");
    }
    isolated(NAME, || {
        let prefix = format!("tidewait-{}", std::process::id());
        let namespaces: Vec<NetNs> =
            (0..200).map(|number| NetNs::named(&format!("{prefix}-{number}")).unwrap()).collect();
        let report = report(&namespaces[0], &["--netns", "all"]);
        let told = report["namespaces"].as_array().unwrap();
        for (number, namespace) in namespaces.iter().enumerate() {
            let name = format!("{prefix}-{number}");
            let rows: Vec<_> = told.iter().filter(|told| told["name"] == name.as_str()).collect();
            assert_eq!(rows.len(), 1, "{name}");
            assert_eq!(rows[0]["inode"], namespace.inode());
        }
        let one = run(&namespaces[0], &["--json", "--netns", &format!("{prefix}-7")]);
        assert_eq!(only(&json(&one))["name"], format!("{prefix}-7").as_str());
    });
}
