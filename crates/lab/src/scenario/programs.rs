//! Real programs that use local ports up: squid with a bound source address, proxies without keep-alive, a database client.

use std::io;
use std::process::{Command, Stdio};

use tidewait_model::report::Severity::Critical;

use super::leaks::connected;
use super::ports::steady;
use super::stage::{SEVERAL, ours, theirs};
use super::{Expectation, Need, Scenario, Stage};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::privilege;
use crate::repeat::{Repeat, Repeated};
use crate::server::Policy;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bind-pool-squid",
        about: "squid forwards with tcp_outgoing_address, a connection a request, and is out of ports",
        expects: &[Expectation::of("bind-pool-exhausted", Critical).says(&[
            "squid",
            "bind-address-no-port",
            "net.ipv4.tcp_tw_reuse",
            "net.ipv4.tcp_fin_timeout",
        ])],
        tolerates: &[],
        needs: &[Need::Program("squid")],
        prepare: squid,
    },
    Scenario {
        name: "mysql-without-pool",
        about: "a MariaDB client connects anew for each query, faster than its ports carry",
        expects: &[Expectation::of("ports-running-out", Critical)],
        tolerates: &[],
        needs: &[Need::Program("mariadbd"), Need::Program("mariadb")],
        prepare: mariadb,
    },
    Scenario {
        name: "http-proxy-nginx",
        about: "nginx opens a connection to its upstream for each request, faster than its ports carry",
        expects: &[Expectation::of("ports-running-out", Critical).says(&["nginx"])],
        tolerates: &[],
        needs: &[Need::Program("nginx")],
        prepare: nginx,
    },
    Scenario {
        name: "tcp-proxy-haproxy",
        about: "HAProxy passes connections on one by one, faster than its ports carry",
        expects: &[Expectation::of("ports-running-out", Critical).says(&["haproxy"])],
        tolerates: &[],
        needs: &[Need::Program("haproxy")],
        prepare: haproxy,
    },
];

/// Requests that are not answered while the scenario lasts: a proxy always has some under way.
const SLOWLY: Repeat = Repeat { rate: 1, threads: 5 };

/// A request on a connection of its own.
fn request(address: &str) -> String {
    format!("GET {address} HTTP/1.1\r\nHost: 10.77.0.2\r\nConnection: close\r\n\r\n")
}

fn squid(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    let ports = stage.ports(1_000)?;
    stage.out_to_several(&peer, Policy::Http)?;
    let scratch = stage.scratch().display().to_string();
    let config = stage.file(
        "squid.conf",
        &format!(
            "http_port 10.77.0.1:3128\n\
             tcp_outgoing_address 10.77.0.1\n\
             http_access allow all\n\
             server_persistent_connections off\n\
             cache deny all\n\
             access_log none\n\
             cache_log {scratch}/cache.log\n\
             coredump_dir {scratch}\n\
             pid_filename none\n\
             netdb_filename none\n\
             pinger_enable off\n\
             visible_hostname lab\n"
        ),
    )?;
    let config = config.display().to_string();
    let host = stage.host().netns().clone();
    stage.serve(&host, "squid", &["-N", "-f", &config], ours(3128))?;
    stage.keep(peer.request(SLOWLY, ours(3128), &request("http://10.77.0.2/slow"))?);
    stage.say(format!("clients ask for more than {ports} pages"));
    // Half of them of one host, as people are.
    let pages = SEVERAL.map(|port| {
        let how = Repeat { rate: if port == SEVERAL[0] { 360 } else { 120 }, threads: 1 };
        peer.request(how, ours(3128), &request(&format!("http://10.77.0.2:{port}/")))
    });
    let loads = pages.into_iter().collect::<Result<Vec<Repeated>>>()?;
    stage.until("until it has no port for them", 30, |_| Ok(loads.iter().all(|load| load.failed() >= 10)))?;
    for load in loads {
        keep_answered(stage, load, "squid")?;
    }
    Ok(())
}

fn nginx(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.answer(&peer, 80, Policy::Http)?;
    start_nginx(stage, "proxy_pass http://10.77.0.2:80;")?;
    proxy_load(stage, &peer, "nginx")
}

/// nginx at port 8080 of this machine, which does what `location` says.
pub(super) fn start_nginx(stage: &mut Stage, location: &str) -> Result<()> {
    let scratch = stage.scratch().display().to_string();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {scratch}/{kind};\n"))
        .collect();
    let config = stage.file(
        "nginx.conf",
        &format!(
            "daemon off;\nworker_processes 1;\npid {scratch}/nginx.pid;\nerror_log stderr;\n\
             events {{ worker_connections 2048; }}\n\
             http {{\n    access_log off;\n{places}    server {{\n        listen 10.77.0.1:8080;\n        \
             location / {{ {location} }}\n    }}\n}}\n"
        ),
    )?;
    let config = config.display().to_string();
    let host = stage.host().netns().clone();
    stage.serve(&host, "nginx", &["-p", &scratch, "-c", &config, "-e", "stderr"], ours(8080))
}

/// Clients of a TCP service close first, and so HAProxy does towards the service.
fn haproxy(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.answer(&peer, 5432, Policy::CloseAfterPeer)?;
    start_haproxy(stage, "mode tcp", "10.77.0.2:5432")?;
    stage.ports(2_000)?;
    let open = connected(stage, &peer, 8080, 20)?;
    stage.keep(open);
    let clients = stage.inward(&peer, 8080).churn(steady(130))?;
    stage.keep(clients);
    stage.wait(7, "130 connections a second come and go");
    Ok(())
}

/// HAProxy at port 8080 of this machine, in front of `server`.
pub(super) fn start_haproxy(stage: &mut Stage, mode: &str, server: &str) -> Result<()> {
    let config = stage.file(
        "haproxy.cfg",
        &format!(
            "global\n    maxconn 1000\n    nbthread 1\n\
             defaults\n    {mode}\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\
             listen proxy\n    bind 10.77.0.1:8080\n    server origin {server}\n"
        ),
    )?;
    let config = config.display().to_string();
    let host = stage.host().netns().clone();
    stage.serve(&host, "haproxy", &["-db", "-f", &config], ours(8080))
}

fn mariadb(stage: &mut Stage) -> Result<()> {
    let peer = stage.peer()?;
    stage.ports(600)?;
    let data = stage.scratch().join("data");
    std::fs::create_dir(&data).map_err(|error| Error::Refused(format!("{}: {error}", data.display())))?;
    let option = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
    let arguments = [
        "--no-defaults".to_owned(),
        option("datadir", &data.display()),
        option("tmpdir", &data.display()),
        option("socket", &data.join("socket").display()),
        option("pid-file", &data.join("pid").display()),
        option("bind-address", &"10.77.0.2"),
        option("innodb-log-file-size", &"4M"),
        option("innodb-buffer-pool-size", &"8M"),
        option("skip-grant-tables", &"on"),
        option("skip-name-resolve", &"on"),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let netns = peer.netns().clone();
    stage.serve(&netns, "mariadbd", &arguments, theirs(3306))?;
    let host = stage.host().netns().clone();
    let client = stage.host().netns().clone();
    let program = stage.find("mariadb")?;
    let load = host.repeat(Repeat { rate: 40, threads: 2 }, move || {
        let mut command: Command = client.command(&program);
        command.args(["--no-defaults", "--host=10.77.0.2", "--execute=select 1"]);
        privilege::on_first_processor(&mut command, false).map_err(io::Error::other)?;
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("the query failed")) }
    })?;
    stage.wait(7, "a connection for each query");
    keep_answered(stage, load, "mariadbd")
}

/// Requests to a proxy of this machine at port 8080, twice as fast as its ports carry.
pub(super) fn proxy_load(stage: &mut Stage, peer: &Host, program: &str) -> Result<()> {
    stage.ports(2_000)?;
    stage.keep(peer.request(SLOWLY, ours(8080), &request("/slow"))?);
    let load = peer.request(Repeat { rate: 130, threads: 3 }, ours(8080), &request("/"))?;
    stage.wait(7, "a connection for each request");
    keep_answered(stage, load, program)
}

/// Keeps a load that has been answered; one that never was means that the program does not work.
fn keep_answered(stage: &mut Stage, load: Repeated, program: &str) -> Result<()> {
    if load.done() == 0 {
        return Err(Error::Refused(format!(
            "{program} answered nothing ({} failures): {}",
            load.failed(),
            stage.last_words(program)
        )));
    }
    stage.keep(load);
    Ok(())
}
