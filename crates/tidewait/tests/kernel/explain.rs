//! `tidewait explain` on the running kernel: errors that really happened are pasted, and the page tells how it is here.
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;
use tidewait_lab::{Lab, NetNs, Path, isolated, skip};

use crate::common::{TIDEWAIT, failure};

/// Runs `explain --json` in a namespace; the page, valid by the committed schema.
fn explain(netns: &NetNs, words: &[&str]) -> Value {
    let output = netns.command(TIDEWAIT).args(["explain", "--json"]).args(words).output().unwrap();
    page(&output.stdout, &output.stderr)
}

fn page(stdout: &[u8], stderr: &[u8]) -> Value {
    let page: Value =
        serde_json::from_slice(stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(stderr)));
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/schema/tidewait.explain-1.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&page).map(|error| error.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    page
}

/// Value and meaning of a fact of this machine.
fn here<'a>(page: &'a Value, name: &str) -> (&'a str, &'a str) {
    let facts = page["here"].as_array().unwrap();
    let fact =
        facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("no {name} in {facts:#?}"));
    (fact["value"].as_str().unwrap(), fact["meaning"].as_str().unwrap())
}

#[test]
fn the_error_of_a_full_range_is_read_and_the_destination_shown() {
    isolated("explain::the_error_of_a_full_range_is_read_and_the_destination_shown", || {
        let (client, server) = Lab::new().pair().unwrap();
        client.set("net.ipv4.ip_local_port_range", "20000 20099").unwrap();
        let destination: SocketAddr = "10.77.0.2:3306".parse().unwrap();
        Path::between(&client, &server).to(destination).fill_time_wait(100).unwrap();
        let error = client.netns().run(|| TcpStream::connect(destination).unwrap_err()).unwrap();
        let said = format!("cannot connect to {destination}: {error}");
        let page = explain(client.netns(), &[&said]);
        assert_eq!(page["topic"], "EADDRNOTAVAIL-connect", "{said}");
        assert_eq!(here(&page, "local ports").0, "20000 to 20099");
        assert_eq!(here(&page, "sockets in TIME_WAIT").0, "100");
        assert_eq!(here(&page, "that destination").0, "100 of 100 ports, 100 %");
        assert_eq!(here(&page, "ports-exhausted").0, "critical");
    });
}

#[test]
fn without_ipv6_the_same_errno_is_no_lack_of_ports() {
    isolated("explain::without_ipv6_the_same_errno_is_no_lack_of_ports", || {
        let netns = NetNs::new().unwrap();
        netns.set("net.ipv6.conf.all.disable_ipv6", "1").unwrap();
        let destination = SocketAddr::from((Ipv6Addr::LOCALHOST, 6379));
        let error = netns.run(|| TcpStream::connect(destination).unwrap_err()).unwrap();
        assert_eq!(error.raw_os_error(), Some(99));
        let page = explain(&netns, &[&format!("connect to {destination}: {error}")]);
        assert_eq!(page["topic"], "EADDRNOTAVAIL-ipv6");
        assert_eq!(here(&page, "findings that fit").0, "none now");
    });
}

#[test]
fn a_setting_means_what_the_kernel_makes_of_it() {
    isolated("explain::a_setting_means_what_the_kernel_makes_of_it", || {
        let (client, server) = Lab::new().pair().unwrap();
        client.set("net.ipv4.tcp_fin_timeout", "90").unwrap();
        let _held =
            Path::between(&client, &server).to("10.77.0.2:80".parse().unwrap()).hold_fin_wait2(7).unwrap();
        let page = explain(client.netns(), &["tcp_fin_timeout"]);
        let (value, meaning) = here(&page, "net.ipv4.tcp_fin_timeout");
        assert_eq!(value, "90");
        assert!(meaning.contains("lives 1 min, not 90"), "{meaning}");
        assert_eq!(here(&explain(client.netns(), &["FIN-WAIT-2"]), "sockets in FIN_WAIT2").0, "7");
        // Removed settings are not there, and that is said.
        let page = explain(client.netns(), &["sysctl", "-w", "net.ipv4.tcp_tw_recycle=1"]);
        assert_eq!(here(&page, "net.ipv4.tcp_tw_recycle").0, "none");
    });
}

#[test]
fn words_standard_input_and_the_list() {
    isolated("explain::words_standard_input_and_the_list", || {
        let netns = NetNs::new().unwrap();
        assert_eq!(explain(&netns, &["why", "60", "seconds"])["topic"], "why-60-seconds");
        assert_eq!(explain(&netns, &["Cannot", "assign", "requested", "address"])["topic"], "EADDRNOTAVAIL");
        let mut command = netns.command(TIDEWAIT);
        command
            .args(["explain", "--json", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut message =
            b"2014/07/02 11:15:20| commBind: \"Cannot bind\"\xff socket FD 98 to *:0: (98)\n".to_vec();
        message.extend_from_slice(b"Address already in use\n");
        child.stdin.take().unwrap().write_all(&message).unwrap();
        let output = child.wait_with_output().unwrap();
        let page = page(&output.stdout, &output.stderr);
        assert_eq!(page["topic"], "EADDRINUSE-bind-pool");
        assert_eq!(page["configuration"][0]["program"], "Squid");

        let output = netns.command(TIDEWAIT).args(["explain", "--list", "--json"]).output().unwrap();
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(list["topics"].as_array().unwrap().len() > 80);
        let output = netns.command(TIDEWAIT).args(["explain", "--list"]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("TIME_WAIT"));
    });
}

#[test]
fn what_is_not_known_ends_with_2_and_names_what_is_alike() {
    for (words, said) in [
        (&["TIME_WIAT"][..], &["TIME_WIAT", "TIME_WAIT", "--list"][..]),
        (&["the", "printer", "is", "on", "fire"], &["printer", "--list"]),
        (&[], &["TOPIC"]),
        (&["--list", "TIME_WAIT"], &["--list"]),
        (&["TIME_WAIT", "--netns", "no-such-namespace"], &["no-such-namespace"]),
    ] {
        let mut command = Command::new(TIDEWAIT);
        command.arg("explain").args(words);
        let told = failure(command, 2);
        for word in said {
            assert!(told.contains(word), "{words:?}: no '{word}' in {told}");
        }
    }
}

#[test]
fn without_privilege_every_page_is_there() {
    const NAME: &str = "explain::without_privilege_every_page_is_there";
    isolated(NAME, || {
        let netns = NetNs::new().unwrap();
        let mut command = netns.command("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]);
        let output = command.args([TIDEWAIT, "explain", "--json", "TIME_WAIT"]).output().unwrap();
        if output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("setpriv") {
            return skip(NAME, String::from_utf8_lossy(&output.stderr).trim());
        }
        let page = page(&output.stdout, &output.stderr);
        assert_eq!(here(&page, "sockets in TIME_WAIT").0, "0");
        assert_eq!(here(&page, "TIME_WAIT lasts").0, "60 s");
    });
}
