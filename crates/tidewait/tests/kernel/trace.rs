//! `tidewait trace` on the running kernel: what it tells against what was done.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidewait_lab::{
    ChurnOptions, ChurnReport, Closer, Host, Lab, NetNs, Path, Policy, Server, isolated, skip,
};

use crate::common::{TIDEWAIT, failure, is_root};

/// Until what happened is written.
const SOON: Duration = Duration::from_millis(300);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Runs a test where BPF programs can be loaded: as root, and outside of user namespaces.
fn traced(name: &str, test: impl FnOnce()) {
    if !cfg!(feature = "bpf") {
        return skip(name, "built without BPF");
    }
    if !is_root() {
        return skip(name, "only root may load BPF programs");
    }
    isolated(name, test);
}

/// `tidewait trace --json` at work.
struct Trace {
    child: Child,
    lines: BufReader<ChildStdout>,
    schema: jsonschema::Validator,
}

impl Trace {
    /// Starts it in a namespace, and waits until it traces.
    fn start(netns: &NetNs, args: &[&str]) -> Trace {
        let mut command = netns.command(TIDEWAIT);
        command.args(["trace", "--json"]).args(args).stdout(Stdio::piped());
        let mut trace = Trace::of(command.spawn().unwrap());
        let begin = trace.line().unwrap_or_else(|| panic!("{args:?}: it ended at once"));
        assert_eq!((&begin["event"], &begin["schema"]), (&"begin".into(), &"tidewait.trace/1".into()));
        trace
    }

    /// One that was started.
    fn of(mut child: Child) -> Trace {
        let lines = BufReader::new(child.stdout.take().unwrap());
        let schema: Value =
            serde_json::from_str(include_str!("../../../../docs/schema/tidewait.trace-1.json")).unwrap();
        Trace { child, lines, schema: jsonschema::validator_for(&schema).unwrap() }
    }

    /// The next line, valid by the committed schema.
    fn line(&mut self) -> Option<Value> {
        let mut text = String::new();
        self.lines.read_line(&mut text).unwrap();
        if text.is_empty() {
            return None;
        }
        let line: Value = serde_json::from_str(&text).unwrap();
        let errors: Vec<String> = self.schema.iter_errors(&line).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {text}");
        Some(line)
    }

    /// Ends it as Ctrl-C does: the events, and the last line.
    fn end(self) -> (Vec<Value>, Value) {
        sleep(SOON);
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.wait()
    }

    fn wait(mut self) -> (Vec<Value>, Value) {
        let mut events = Vec::new();
        while let Some(line) = self.line() {
            events.push(line);
        }
        assert!(self.child.wait().unwrap().success());
        let end = events.pop().unwrap();
        assert_eq!(end["event"], "end");
        (events, end)
    }
}

fn count(events: &[Value], word: &str) -> u64 {
    events.iter().filter(|event| event["event"] == word).count() as u64
}

/// So many connections to 10.77.0.2, closed first by the client.
fn connect(client: &Host, server: &Host, port: u16, options: &ChurnOptions) -> ChurnReport {
    let path = Path::between(client, server).to(SocketAddr::new([10, 77, 0, 2].into(), port));
    path.churn(ChurnOptions { duration: Duration::from_secs(20), ..options.clone() }).unwrap().wait()
}

fn times(count: u64) -> ChurnOptions {
    ChurnOptions { count: Some(count), rate: Some(1_000), bytes: 10, ..ChurnOptions::default() }
}

#[test]
fn every_connection_is_told_once_and_counted_once() {
    traced("trace::every_connection_is_told_once_and_counted_once", || {
        let (client, server) = Lab::new().pair().unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseAfterPeer).unwrap();
        let trace = Trace::start(client.netns(), &["--with-summary", "--all"]);
        let begun = jiff::Timestamp::now();
        assert_eq!(connect(&client, &server, 80, &times(200)).made, 200);
        let (events, end) = trace.end();
        for word in ["connect", "established", "close", "time_wait"] {
            assert_eq!(count(&events, word), 200, "{word}");
        }
        assert_eq!(events.len(), 800);
        let pid = std::process::id();
        for event in &events {
            assert_eq!(event["program"]["pid"], pid, "{event}");
            assert_eq!(event["remote"], "10.77.0.2:80");
            assert_eq!(event["direction"], "outgoing");
            assert_eq!(event["pool"], "connect");
            let at: jiff::Timestamp = event["at"].as_str().unwrap().parse().unwrap();
            assert!(at >= begun && at <= jiff::Timestamp::now(), "{event}");
            assert!(event["namespace"].is_string());
            if event["event"] == "close" {
                assert_eq!(event["closed_first"], "here");
                assert_eq!((&event["bytes_sent"], &event["bytes_received"]), (&10.into(), &0.into()));
                assert!(event["lifetime_seconds"].as_f64().unwrap() < 5.0);
                let same = |word: &str| {
                    events
                        .iter()
                        .filter(|other| other["cookie"] == event["cookie"] && other["event"] == word)
                        .count()
                };
                assert_eq!((same("connect"), same("close"), same("time_wait")), (1, 1, 1));
            }
        }
        assert_eq!((&end["events"], &end["lost"]), (&800.into(), &0.into()));
        let rows = end["connections"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!((&rows[0]["connects"], &rows[0]["closed_here"]), (&200.into(), &200.into()));
        assert_eq!(rows[0]["destination"], "10.77.0.2:80");
    });
}

#[test]
fn the_serving_side_sees_who_came_and_who_closed() {
    traced("trace::the_serving_side_sees_who_came_and_who_closed", || {
        let (client, server) = Lab::new().pair().unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseFirst).unwrap();
        let trace = Trace::start(server.netns(), &["--with-summary"]);
        let made = connect(&client, &server, 80, &ChurnOptions { closer: Closer::Server, ..times(50) }).made;
        let (events, end) = trace.end();
        assert_eq!((count(&events, "accept"), count(&events, "close")), (made, made));
        assert!(events.iter().all(|event| event["direction"] == "incoming" && event["pool"].is_null()));
        assert!(events.iter().all(|event| event["local"] == "10.77.0.2:80"), "{events:#?}");
        let closes: Vec<&Value> = events.iter().filter(|event| event["event"] == "close").collect();
        assert!(closes.iter().all(|event| event["closed_first"] == "here" && event["state"] == "fin_wait1"));
        assert_eq!(end["connections"][0]["accepts"], made);
        assert_eq!(end["connections"][0]["local"], "10.77.0.2:80");
    });
}

#[test]
fn a_connect_without_a_port_is_told_with_its_process() {
    traced("trace::a_connect_without_a_port_is_told_with_its_process", || {
        let (client, server) = Lab::new().pair().unwrap();
        client.set("net.ipv4.ip_local_port_range", "40000 40019").unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseAfterPeer).unwrap();
        let trace = Trace::start(client.netns(), &["--refused", "--with-summary"]);
        let churned = connect(&client, &server, 80, &times(30));
        assert_eq!((churned.made, churned.failed.get(&("connect", 99))), (20, Some(&10)));
        // Nobody listens there.
        let refused = connect(&client, &server, 81, &times(5));
        assert_eq!(refused.failed.get(&("connect", 111)), Some(&5));
        let (events, end) = trace.end();
        assert_eq!((count(&events, "refused"), count(&events, "failed"), events.len()), (10, 5, 15));
        for event in &events {
            let refused = event["event"] == "refused";
            assert_eq!(event["errno"], if refused { "EADDRNOTAVAIL" } else { "ECONNREFUSED" });
            assert_eq!(event["remote"], if refused { "10.77.0.2:80" } else { "10.77.0.2:81" });
            assert_eq!(event["program"]["pid"], std::process::id());
            assert_eq!((&event["pool"], &event["state"]), (&"connect".into(), &"close".into()));
        }
        let row = |port: &str| {
            let rows = end["connections"].as_array().unwrap();
            rows.iter().find(|row| row["destination"] == format!("10.77.0.2:{port}")).unwrap().clone()
        };
        assert_eq!((&row("80")["no_port"], &row("80")["refused"]), (&10.into(), &0.into()));
        assert_eq!((&row("81")["no_port"], &row("81")["refused"]), (&0.into(), &5.into()));
    });
}

#[test]
fn a_bind_without_a_port_is_told_with_its_process_and_its_pool() {
    traced("trace::a_bind_without_a_port_is_told_with_its_process_and_its_pool", || {
        let (client, server) = Lab::new().pair().unwrap();
        client.set("net.ipv4.ip_local_port_range", "40000 40019").unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseAfterPeer).unwrap();
        let trace = Trace::start(client.netns(), &["--refused", "--with-summary", "--from", "10.77.0.1"]);
        let bind_first = Some([10, 77, 0, 1].into());
        let churned = connect(&client, &server, 80, &ChurnOptions { bind_first, ..times(27) });
        assert_eq!((churned.made, churned.failed.get(&("bind", 98))), (20, Some(&7)));
        let (events, end) = trace.end();
        assert_eq!((count(&events, "refused"), events.len()), (7, 7), "{events:#?}");
        for event in &events {
            assert_eq!((&event["errno"], &event["pool"]), (&"EADDRINUSE".into(), &"bind".into()), "{event}");
            assert_eq!(event["program"]["pid"], std::process::id());
            assert_eq!((&event["direction"], &event["local"]), (&"bind".into(), &"10.77.0.1:0".into()));
            assert!(event["remote"].is_null() && event["state"].is_null());
        }
        let rows = end["connections"].as_array().unwrap();
        let row = rows.iter().find(|row| row["direction"] == "bind").unwrap();
        assert_eq!((&row["no_port"], &row["source"]), (&7.into(), &"10.77.0.1".into()));
    });
}

#[test]
fn a_filter_leaves_what_it_says() {
    traced("trace::a_filter_leaves_what_it_says", || {
        let (client, server) = Lab::new().pair().unwrap();
        let ports = [address("10.77.0.2:80"), address("10.77.0.2:81")];
        let _server = Server::start(&server, &ports, Policy::CloseAfterPeer).unwrap();
        let netns = format!("{}", std::process::id());
        let pid = netns.as_str();
        let one = "1";
        // 10 connections to each port: what is told of them, and how many rows the summary has.
        let cases: &[(&[&str], u64, u64, usize)] = &[
            (&[], 20, 20, 2),
            (&["--pid", pid], 20, 20, 2),
            (&["--pid", one], 0, 0, 0),
            (&["--to", "10.77.0.2"], 20, 20, 2),
            (&["--to", "10.77.0.2:81"], 10, 10, 1),
            (&["--to", "10.77.0.3"], 0, 0, 0),
            (&["--to", "2001:db8::1"], 0, 0, 0),
            (&["--from", "10.77.0.1"], 20, 20, 2),
            (&["--from", "10.77.0.9"], 0, 0, 0),
            (&["--port", "80"], 10, 10, 1),
            (&["--port", "80", "--to", "10.77.0.2:81"], 0, 0, 0),
            (&["--user", "root"], 20, 20, 2),
            (&["--user", "0"], 20, 20, 2),
            (&["--user", "nobody"], 0, 0, 0),
            (&["--unit", "no-such-unit"], 0, 0, 0),
            (&["--container", "no-such-container"], 0, 0, 0),
            (&["--state", "syn_sent"], 20, 0, 2),
            (&["--state", "FIN-WAIT-1"], 0, 20, 2),
            (&["--state", "last_ack"], 0, 0, 0),
            (&["--state", "syn_sent,fin_wait1", "--pid", pid], 20, 20, 2),
            (&["--state", "close_wait", "--state", "close"], 0, 0, 0),
            (&["--refused"], 0, 0, 0),
        ];
        let traces: Vec<Trace> = cases
            .iter()
            .map(|(args, ..)| Trace::start(client.netns(), &[&["--with-summary"], *args].concat()))
            .collect();
        for port in [80, 81] {
            assert_eq!(connect(&client, &server, port, &times(10)).made, 10);
        }
        for ((args, connects, closes, rows), trace) in cases.iter().zip(traces) {
            let (events, end) = trace.end();
            assert_eq!(
                (count(&events, "connect"), count(&events, "close")),
                (*connects, *closes),
                "{args:?}: {events:#?}"
            );
            assert_eq!(events.len() as u64, connects + closes, "{args:?}");
            assert_eq!(end["connections"].as_array().unwrap().len(), *rows, "{args:?}: {end:#}");
        }
    });
}

#[test]
fn a_namespace_is_told_by_name_and_may_be_asked_for() {
    traced("trace::a_namespace_is_told_by_name_and_may_be_asked_for", || {
        let (client, server) = Lab::new().pair().unwrap();
        // All namespaces are those of other tests too: one's own port tells them apart.
        let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        let to = format!("10.77.0.2:{port}");
        let _server = Server::start(&server, &[address(&to)], Policy::CloseAfterPeer).unwrap();
        let name = format!("tidewait-trace-{}", std::process::id());
        let named = NetNs::named(&name).unwrap();
        let here = NetNs::current().unwrap();
        let asked = Trace::start(&here, &["--netns", &name]);
        let all = Trace::start(&named, &["--netns", "all", "--to", &to]);
        assert_eq!(connect(&client, &server, port, &times(5)).made, 5);
        let (events, _) = all.end();
        assert_eq!(count(&events, "connect"), 5);
        let inode = format!("net:[{}]", client.netns().inode());
        assert!(events.iter().all(|event| event["namespace"] == inode), "{events:#?}");
        let refused = Path::within(&named).to(address("127.0.0.1:80"));
        refused.churn(ChurnOptions { duration: Duration::from_secs(20), ..times(3) }).unwrap().wait();
        let (events, _) = asked.end();
        assert_eq!((count(&events, "connect"), count(&events, "failed"), events.len()), (3, 3, 6));
        assert!(events.iter().all(|event| event["namespace"] == name.as_str()), "{events:#?}");
    });
}

#[test]
fn it_ends_after_its_time_after_its_count_and_when_nobody_reads() {
    traced("trace::it_ends_after_its_time_after_its_count_and_when_nobody_reads", || {
        let (client, server) = Lab::new().pair().unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseAfterPeer).unwrap();
        let counted = Trace::start(client.netns(), &["--count", "7"]);
        let mut unread = Trace::start(client.netns(), &[]);
        // Ctrl-Z and `fg` are not the end.
        for signal in [Signal::STOP, Signal::CONT] {
            kill_process(Pid::from_child(&unread.child), signal).unwrap();
        }
        assert_eq!(connect(&client, &server, 80, &times(5)).made, 5);
        let (events, end) = counted.wait();
        assert_eq!((events.len(), &end["events"]), (7, &7.into()));
        let (_, end) = Trace::start(client.netns(), &["--for", "1.5"]).wait();
        assert!((1.5..6.0).contains(&end["seconds"].as_f64().unwrap()), "{end}");
        assert!(end["connections"].is_null());
        // Nothing happens any more that it could fail to write.
        assert!(unread.line().is_some());
        drop(unread.lines);
        let since = Instant::now();
        assert!(unread.child.wait().unwrap().success());
        assert!(since.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn what_a_slow_reader_misses_is_said_and_counted_all_the_same() {
    traced("trace::what_a_slow_reader_misses_is_said_and_counted_all_the_same", || {
        let netns = NetNs::new().unwrap();
        let _server = Server::start(&netns, &[address("127.0.0.1:80")], Policy::CloseAfterPeer).unwrap();
        let trace = Trace::start(&netns, &["--all", "--with-summary"]);
        // More events than the 8 MiB between the kernel and the tracer hold, which nobody reads meanwhile: four for each connection
        // at least.
        let options = ChurnOptions {
            rate: None,
            count: Some(22_000),
            duration: Duration::from_secs(150),
            ..ChurnOptions::default()
        };
        let made = Path::within(&netns).to(address("127.0.0.1:80")).churn(options).unwrap().wait().made;
        let (events, end) = trace.end();
        let lost: Vec<&Value> = events.iter().filter(|event| event["event"] == "lost").collect();
        let told = (events.len() - lost.len()) as u64;
        let dropped =
            lost.last().unwrap_or_else(|| panic!("nothing lost of {told}"))["total"].as_u64().unwrap();
        assert_eq!(lost.iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>(), dropped);
        assert_eq!((&end["events"], &end["lost"]), (&told.into(), &dropped.into()));
        assert!(end["limits"].to_string().contains("events"), "{end}");
        let rows = end["connections"].as_array().unwrap();
        let sum = |key: &str| rows.iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("connects"), sum("accepts"), sum("closed_here")), (made, made, made));
    });
}

#[test]
fn people_get_a_line_an_event_and_a_table() {
    traced("trace::people_get_a_line_an_event_and_a_table", || {
        let (client, server) = Lab::new().pair().unwrap();
        let ports = [address("10.77.0.2:80"), address("10.77.0.2:81")];
        let _server = Server::start(&server, &ports, Policy::CloseAfterPeer).unwrap();
        let mut command = client.command(TIDEWAIT);
        command.args(["trace", "--with-summary"]).env("COLUMNS", "200");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // For people it does not say when it has begun: something happens until it is seen.
        let mut page = std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                line
            });
            while !first.is_finished() {
                connect(&client, &server, 81, &times(1));
                sleep(Duration::from_millis(20));
            }
            first.join().unwrap()
        });
        assert_eq!(connect(&client, &server, 80, &times(3)).made, 3);
        sleep(SOON);
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        lines.read_to_string(&mut page).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let (events, table) = page.split_once("\n\n").unwrap();
        let pid = std::process::id();
        for line in events.lines() {
            assert!(line.contains(&format!("[{pid}]")) && line.contains(" -> 10.77.0.2:8"), "{page}");
        }
        let count = |part: &str| events.lines().filter(|line| line.contains(part)).count();
        assert_eq!(count(" -> 10.77.0.2:80"), 6, "{page}");
        // Of the one that was seen first perhaps the end alone.
        assert!(count(" connect ") >= 3 && count("10.77.0.1:* -> ") >= 3, "{page}");
        assert!(count("first here, ") >= 4 && count(", 10 B/0 B") >= 4, "{page}");
        let row: Vec<&str> = table
            .lines()
            .find(|line| line.contains(" -> 10.77.0.2:80 "))
            .unwrap()
            .split("10.77.0.2:80")
            .nth(1)
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!((row[0], row[2]), ("3", "3"), "{table}");
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(words.contains(&format!(" {} events in ", events.lines().count())), "{words}");
    });
}

#[test]
fn a_summary_alone_prints_no_events() {
    traced("trace::a_summary_alone_prints_no_events", || {
        let (client, server) = Lab::new().pair().unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseAfterPeer).unwrap();
        let trace = Trace::start(client.netns(), &["--summary"]);
        assert_eq!(connect(&client, &server, 80, &times(5)).made, 5);
        let (events, end) = trace.end();
        assert!(events.is_empty() && end["events"] == 0, "{events:#?}");
        assert_eq!(end["connections"][0]["closed_here"], 5, "{end:#}");
    });
}

#[test]
fn without_privilege_it_says_what_is_missing_and_what_works() {
    const NAME: &str = "trace::without_privilege_it_says_what_is_missing_and_what_works";
    traced(NAME, || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
        command.args(["--bounding-set=-all", TIDEWAIT, "trace", "--for", "1"]);
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if words.contains("ermission denied") {
            return skip(NAME, "the binary lies where only root may run it");
        }
        assert_eq!(output.status.code(), Some(77), "{words}");
        assert!(output.stdout.is_empty());
        for part in ["CAP_PERFMON and CAP_BPF missing", "run it as root", "`tidewait report` works without"] {
            assert!(words.contains(part), "{words}");
        }
        // Root of a user namespace has all capabilities, and none that count.
        let output = Command::new("unshare").args(["-Ur", TIDEWAIT, "trace", "--for", "1"]).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if words.contains("unshare") {
            return skip(NAME, words);
        }
        assert_eq!(output.status.code(), Some(77), "{words}");
        assert!(words.contains("user namespace"), "{words}");
    });
}

#[test]
fn wrong_options_are_named_with_what_would_do() {
    let refuse = |args: &[&str], parts: &[&str]| {
        let mut command = Command::new(TIDEWAIT);
        command.arg("trace").args(args);
        let words = failure(command, 2);
        for part in parts {
            assert!(words.contains(part), "{args:?}: {words}");
        }
    };
    refuse(&["--state", "waiting"], &["'waiting'", "known states are syn_sent", "time_wait"]);
    refuse(&["--state", "fin_wait2"], &["no event is told when a socket enters fin_wait2", "told are"]);
    refuse(&["--state", "close", "--refused"], &["--refused", "cannot be used with"]);
    refuse(&["--for", "0"], &["'0'", "0.1 to 86400"]);
    refuse(&["--for", "soon"], &["'soon'"]);
    refuse(&["--count", "0"], &["'0'"]);
    refuse(&["--pid", "0"], &["'0'"]);
    refuse(&["--port", "70000"], &["'70000'", "65535"]);
    refuse(&["--to", "db.example"], &["host names are not looked up"]);
    refuse(&["--to", "10.0.0.0/8"], &["networks are not matched"]);
    refuse(&["--from", "10.0.0.1:0"], &["ports are 1 to 65535"]);
    refuse(&["--state", "timewait,ESTAB,listening"], &["'listening'", "known states are"]);
    refuse(&["--unit", ""], &["give a name"]);
    refuse(&["--summary", "--count", "3"], &["cannot be used with"]);
}

#[test]
fn what_is_not_there_is_named() {
    traced("trace::what_is_not_there_is_named", || {
        let refuse = |args: &[&str], parts: &[&str]| {
            let mut command = Command::new(TIDEWAIT);
            command.args(["trace", "--for", "1"]).args(args);
            let words = failure(command, 2);
            for part in parts {
                assert!(words.contains(part), "{args:?}: {words}");
            }
        };
        refuse(&["--pid", "4194304"], &["--pid 4194304: there is no such process"]);
        refuse(&["--netns", "no-such-namespace"], &["no network namespace is called 'no-such-namespace'"]);
        refuse(&["--user", "no-such-user"], &["no such user", "by number"]);
        refuse(&["--from", "0.0.0.0:80"], &["no connection has the address 0.0.0.0", "give --port 80"]);
        refuse(&["--to", "::"], &["no connection has the address ::", "leave --to out"]);
        let mut inside = Command::new("unshare");
        inside.args(["--pid", "--fork", "--mount-proc", TIDEWAIT, "trace", "--for", "1", "--pid", "1"]);
        assert!(failure(inside, 2).contains("numbers on the host"));
        let thread = std::thread::spawn(|| {
            let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
            let mut command = Command::new(TIDEWAIT);
            command.args(["trace", "--for", "1", "--pid", &thread]);
            failure(command, 2)
        });
        let words = thread.join().unwrap();
        assert!(words.contains(&format!("is a thread of process {}", std::process::id())), "{words}");
    });
}

#[test]
fn it_ends_with_the_process_that_it_follows() {
    traced("trace::it_ends_with_the_process_that_it_follows", || {
        let (client, server) = Lab::new().pair().unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseAfterPeer).unwrap();
        // It connects, is ended by a signal, and so closes.
        let script = "read go; exec busybox nc 10.77.0.2 80";
        let mut shell = client.command("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let mut trace = Trace::start(client.netns(), &["--all", "--pid", &shell.id().to_string()]);
        shell.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let begun = [trace.line().unwrap(), trace.line().unwrap()];
        shell.kill().unwrap();
        shell.wait().unwrap();
        let (ended, _) = trace.wait();
        let words = begun.iter().chain(&ended).map(|event| event["event"].as_str().unwrap());
        assert_eq!(words.collect::<Vec<_>>(), ["connect", "established", "close", "time_wait"]);
    });
}

#[test]
fn under_nohup_it_goes_on_when_the_terminal_goes() {
    traced("trace::under_nohup_it_goes_on_when_the_terminal_goes", || {
        let netns = NetNs::new().unwrap();
        // What nohup does, which is not everywhere.
        let script = format!("trap '' HUP; exec {TIDEWAIT} trace --json");
        let mut command = netns.command("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut trace = Trace::of(child);
        assert!(trace.line().is_some());
        kill_process(Pid::from_child(&trace.child), Signal::HUP).unwrap();
        sleep(SOON);
        assert!(trace.child.try_wait().unwrap().is_none());
        let (_, end) = trace.end();
        assert_eq!(end["event"], "end");
    });
}

#[test]
fn head_ends_it_quietly() {
    traced("trace::head_ends_it_quietly", || {
        let (client, server) = Lab::new().pair().unwrap();
        let _server = Server::start(&server, &[address("10.77.0.2:80")], Policy::CloseAfterPeer).unwrap();
        let script = format!("{TIDEWAIT} trace --json; echo code $? >&2");
        let mut child = client
            .command("sh")
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        drop(lines);
        connect(&client, &server, 80, &times(5));
        let mut words = String::new();
        child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        child.wait().unwrap();
        assert_eq!(words, "code 0\n");
    });
}
