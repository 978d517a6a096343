//! `tidewait report --trace` on the running kernel: programs at known counts, and who is said to have done what.
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidewait_lab::{ChurnOptions, Host, Lab, NetNs, Path, Policy, Server, isolated, skip};

use crate::common::{TIDEWAIT, is_root, json, number, only, report, row};

/// Longer than what the age of a socket may be wrong by.
const PAUSE: Duration = Duration::from_millis(150);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Ends a process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A report that traces until it is interrupted.
struct Tracing(Running);

impl Tracing {
    /// Starts it, and waits until it traces. A skip where it cannot.
    fn start(test: &str, netns: &NetNs, args: &[&str]) -> Option<Tracing> {
        let mut command = netns.command(TIDEWAIT);
        command.args(["report", "--json", "--timings", "--trace", "60"]).args(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut tracing = Tracing(Running(child));
        // The kernel's look through the programs takes its time on a busy machine.
        let end = Instant::now() + Duration::from_secs(120);
        while !tracing.traces() {
            if tracing.0.0.try_wait().unwrap().is_some() {
                let report = json(&tracing.output());
                skip(test, format!("{:#}", report["limits"]));
                return None;
            }
            assert!(Instant::now() < end, "it does not begin to trace");
            sleep(Duration::from_millis(5));
        }
        sleep(PAUSE);
        Some(tracing)
    }

    /// Whether it waits: from then on it catches SIGINT, the second of the signals, and soon the others.
    fn traces(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.0.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 2 != 0)
    }

    fn interrupt(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0.0), signal).unwrap();
    }

    fn output(&mut self) -> Output {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.0.0.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        self.0.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status: self.0.0.wait().unwrap(), stdout, stderr }
    }

    /// The report of what was traced until now.
    fn end(mut self) -> Output {
        sleep(PAUSE);
        self.interrupt(Signal::INT);
        self.output()
    }
}

/// A server that is a process of its own, called `name`.
fn server(host: &Host, name: &str, listen: &str, policy: &str) -> Running {
    let mut command = host.command(TIDEWAIT);
    command.args(["lab", "actor", name, listen, policy, "4096", "-", "-"]);
    let server = Running(command.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(20);
    let listens = || host.command("ss").args(["-tlnH"]).output().unwrap().stdout;
    while !String::from_utf8_lossy(&listens()).contains(listen) {
        assert!(Instant::now() < end, "{name} does not listen");
        sleep(Duration::from_millis(10));
    }
    server
}

/// Whether a program is there; a skip where it is not.
fn has(program: &str, test: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skip(test, format!("{program} is not installed"));
    }
    found
}

/// Runs a script to its end.
fn play(host: &Host, program: &[&str]) {
    let status = host.command(program[0]).args(&program[1..]).status().unwrap();
    assert!(status.success(), "{program:?}: {status}");
}

/// The rows that were traced of a command and a destination.
fn traced<'r>(namespace: &'r Value, command: &str, destination: &str) -> Vec<&'r Value> {
    let rows = namespace["traced"]["connections"].as_array().unwrap();
    rows.iter()
        .filter(|row| row["program"]["command"] == command && row["destination"] == destination)
        .collect()
}

/// The share of an owner, with how it is known.
fn share(row: &Value, command: &str) -> f64 {
    let owners = row["owners"].as_array().unwrap();
    let owner = owners.iter().find(|owner| owner["command"] == command);
    let owner = owner.unwrap_or_else(|| panic!("no {command} in {owners:#?}"));
    assert_eq!(owner["how"], "traced");
    number(owner, "share")
}

/// What this program is called, as a process.
fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned()
}

/// Whether a count is within 2 % of what it has to be: on a busy machine some connections end otherwise than planned.
fn about(count: &Value, planned: u64) -> bool {
    count.as_u64().is_some_and(|count| count.abs_diff(planned) * 50 <= planned)
}

const POOL: &str = "
import http.client, socket, sys
pool = [http.client.HTTPConnection('10.77.0.2', 80) for _ in range(5)]
for turn in range(200):
    connection = pool[turn % 5]
    connection.request('GET', '/')
    connection.getresponse().read()
for turn in range(7):
    try:
        socket.create_connection(('10.77.0.2', 81))
        sys.exit('something listens there')
    except ConnectionRefusedError:
        pass
print('ready', flush=True)
sys.stdin.read()
";

#[test]
fn three_programs_are_told_apart() {
    const NAME: &str = "traced::three_programs_are_told_apart";
    if !has("curl", NAME) || !has("python3", NAME) {
        return;
    }
    isolated(NAME, || {
        let (client, other) = Lab::new().pair().unwrap();
        let _web = server(&other, "web", "10.77.0.2:80", "http");
        let _database = server(&other, "database", "10.77.0.2:3306", "close-after-peer");
        let Some(tracing) = Tracing::start(NAME, client.netns(), &[]) else { return };

        let mut pool = client.command("python3");
        pool.args(["-c", POOL]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut pool = Running(pool.spawn().unwrap());
        let mut ready = [0; 6];
        pool.0.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let each = "for i in $(seq 40); do curl -s -o /dev/null http://10.77.0.2/ || exit 1; done";
        play(&client, &["sh", "-c", each]);
        for (to, count) in [("10.77.0.2:80", 60), ("10.77.0.2:3306", 120)] {
            let options = ChurnOptions { count: Some(count), threads: Some(1), ..ChurnOptions::default() };
            let churn = Path::between(&client, &other).to(address(to)).churn(options).unwrap();
            assert_eq!(churn.wait().made, count);
        }
        let report = json(&tracing.end());

        let namespace = only(&report);
        let churner = own_name();
        let (web, database) = (row(namespace, "10.77.0.2:80"), row(namespace, "10.77.0.2:3306"));
        assert!((share(web, "curl") - 0.4).abs() <= 0.02, "{web:#}");
        assert!((share(web, &churner) - 0.6).abs() <= 0.02, "{web:#}");
        assert!((share(database, &churner) - 1.0).abs() <= 0.02, "{database:#}");
        assert!(about(&namespace["traced"]["time_wait_born"], 220), "{namespace:#}");
        assert!(about(&namespace["traced"]["time_wait_attributed"], 220), "{namespace:#}");

        let [curl] = traced(namespace, "curl", "10.77.0.2:80")[..] else { panic!("{namespace:#}") };
        assert_eq!((&curl["program"]["pid"], &curl["program"]["processes"]), (&Value::Null, &40.into()));
        assert_eq!((number(curl, "connects"), number(curl, "closed_here")), (40.0, 40.0));
        let [churned] = traced(namespace, &churner, "10.77.0.2:3306")[..] else { panic!("{namespace:#}") };
        assert_eq!(churned["program"]["pid"], std::process::id());
        assert!(about(&churned["connects"], 120) && about(&churned["time_wait"], 120), "{churned:#}");
        let [pooled] = traced(namespace, "python3", "10.77.0.2:80")[..] else { panic!("{namespace:#}") };
        assert_eq!((number(pooled, "connects"), number(pooled, "closed_here")), (5.0, 0.0));
        let [refused] = traced(namespace, "python3", "10.77.0.2:81")[..] else { panic!("{namespace:#}") };
        assert_eq!((number(refused, "refused"), &refused["program"]["pid"]), (7.0, &pool.0.id().into()));
        let steps = report["timings"].as_array().unwrap().iter().filter_map(|row| row["step"].as_str());
        assert_eq!(steps.filter(|step| step.contains("trac")).count(), 3);
    });
}

#[test]
fn the_program_that_closes_first_is_named_on_either_side() {
    const NAME: &str = "traced::the_program_that_closes_first_is_named_on_either_side";
    isolated(NAME, || {
        let (client, other) = Lab::new().pair().unwrap();
        let _server = server(&other, "impatient", "10.77.0.2:6379", "close-first");
        let Some(here) = Tracing::start(NAME, other.netns(), &[]) else { return };
        let Some(there) = Tracing::start(NAME, client.netns(), &[]) else { return };
        let options = ChurnOptions {
            count: Some(150),
            threads: Some(1),
            closer: tidewait_lab::Closer::Server,
            ..ChurnOptions::default()
        };
        let churn = Path::between(&client, &other).to(address("10.77.0.2:6379")).churn(options).unwrap();
        assert_eq!(churn.wait().made, 150);

        let report = json(&here.end());
        let namespace = only(&report);
        assert!(about(&namespace["traced"]["time_wait_attributed"], 150), "{namespace:#}");
        let services = namespace["incoming"].as_array().unwrap();
        let service = services.iter().find(|row| row["local"] == "10.77.0.2:6379").unwrap();
        assert!((share(service, "impatient") - 1.0).abs() <= 0.02, "{service:#}");

        let report = json(&there.end());
        let namespace = only(&report);
        let [client] = traced(namespace, &own_name(), "10.77.0.2:6379")[..] else { panic!("{namespace:#}") };
        assert!(about(&client["closed_there"], 150), "{client:#}");
    });
}

const NO_PORT: &str = "
import errno, socket, sys
failed = 0
for turn in range(9):
    try:
        socket.create_connection(('10.77.0.2', 80))
    except OSError as error:
        failed += error.errno == errno.EADDRNOTAVAIL
sys.exit(failed != 9)
";

#[test]
fn a_connect_that_finds_no_port_is_counted_with_its_program() {
    const NAME: &str = "traced::a_connect_that_finds_no_port_is_counted_with_its_program";
    if !has("python3", NAME) {
        return;
    }
    isolated(NAME, || {
        let (client, other) = Lab::new().pair().unwrap();
        client.set("net.ipv4.ip_local_port_range", "40000 40029").unwrap();
        let _held = Path::between(&client, &other).to(address("10.77.0.2:80")).hold_established(30).unwrap();
        let Some(tracing) = Tracing::start(NAME, client.netns(), &["--to", "10.77.0.2:80"]) else { return };
        play(&client, &["python3", "-c", NO_PORT]);
        let report = json(&tracing.end());
        let [row] = traced(only(&report), "python3", "10.77.0.2:80")[..] else { panic!("{report:#}") };
        assert_eq!((number(row, "no_port"), number(row, "closed_here")), (9.0, 0.0));
    });
}

#[test]
fn one_signal_ends_the_wait_and_a_second_the_program() {
    const NAME: &str = "traced::one_signal_ends_the_wait_and_a_second_the_program";
    isolated(NAME, || {
        let netns = NetNs::new().unwrap();
        // Ctrl-C, and what `timeout` sends.
        for signal in [Signal::INT, Signal::TERM] {
            let Some(mut tracing) = Tracing::start(NAME, &netns, &["--watch=60"]) else { return };
            tracing.interrupt(signal);
            let mut line = Vec::new();
            let mut byte = [0];
            while line.last() != Some(&b'\n') {
                tracing.0.0.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
                line.push(byte[0]);
            }
            let report: Value = serde_json::from_slice(&line).unwrap();
            let traced = &only(&report)["traced"];
            assert!(number(traced, "seconds") < 30.0, "{traced:#}");
            tracing.interrupt(signal);
            assert_eq!(tracing.output().status.signal(), Some(signal.as_raw()));
        }
    });
}

#[test]
fn a_short_trace_of_a_quiet_namespace_shows_nothing() {
    isolated("traced::a_short_trace_of_a_quiet_namespace_shows_nothing", || {
        let (client, other) = Lab::new().pair().unwrap();
        Path::between(&client, &other).to(address("10.77.0.2:80")).fill_time_wait(50).unwrap();
        let report = report(client.netns(), &["--trace", "0.1"]);
        let namespace = only(&report);
        assert_eq!(namespace["states"]["time_wait"], 50);
        let traced = &namespace["traced"];
        if traced.is_null() {
            return assert!(report["limits"].to_string().contains("traced connections"), "{report:#}");
        }
        assert!(number(traced, "seconds") >= 0.1, "{traced:#}");
        assert_eq!((number(traced, "time_wait_born"), number(traced, "connections_total")), (0.0, 0.0));
    });
}

#[test]
fn a_named_namespace_is_traced_and_may_go_meanwhile() {
    const NAME: &str = "traced::a_named_namespace_is_traced_and_may_go_meanwhile";
    if !is_root() {
        return skip(NAME, "names of namespaces need root");
    }
    let name = format!("tw-traced-{}", std::process::id());
    let netns = NetNs::named(&name).unwrap();
    // A late reset of the server's ends no TIME_WAIT (RFC 1337).
    netns.set("net.ipv4.tcp_rfc1337", "1").unwrap();
    let here = NetNs::current().unwrap();
    let Some(kept) = Tracing::start(NAME, &here, &["--netns", &name]) else { return };
    let Some(gone) = Tracing::start(NAME, &here, &["--netns", &name]) else { return };
    let Some(all) = Tracing::start(NAME, &here, &["--netns", "all"]) else { return };
    let service = address("127.0.0.1:8080");
    let listening = Server::start(&netns, &[service], Policy::CloseAfterPeer).unwrap();
    let options = ChurnOptions { count: Some(100), threads: Some(1), ..ChurnOptions::default() };
    assert_eq!(Path::within(&netns).to(service).churn(options).unwrap().wait().made, 100);
    let report = json(&kept.end());
    assert_eq!(only(&report)["name"], name.as_str());
    assert_eq!(only(&report)["traced"]["time_wait_born"], only(&report)["states"]["time_wait"]);
    assert!(about(&only(&report)["traced"]["time_wait_attributed"], 100), "{report:#}");
    drop(listening);
    drop(netns);
    assert!(!std::path::Path::new("/run/netns").join(&name).exists());
    let output = gone.end();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains(&name), "{words}");
    let report = json(&all.end());
    assert!(
        report["namespaces"].as_array().unwrap().iter().all(|namespace| namespace["name"] != name.as_str())
    );
}

#[test]
fn without_privilege_the_limit_names_what_is_missing_and_all_else_works() {
    const NAME: &str = "traced::without_privilege_the_limit_names_what_is_missing_and_all_else_works";
    if !is_root() {
        return skip(NAME, "only root can give up being root");
    }
    isolated(NAME, || {
        let (client, other) = Lab::new().pair().unwrap();
        Path::between(&client, &other).to(address("10.77.0.2:80")).fill_time_wait(300).unwrap();
        let begin = Instant::now();
        let nobody =
            ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
        let output = client
            .command("setpriv")
            .args(nobody)
            .args([TIDEWAIT, "report", "--json", "--trace", "60"])
            .output()
            .unwrap();
        if String::from_utf8_lossy(&output.stderr).contains("ermission denied") && output.stdout.is_empty() {
            return skip(NAME, "the binary lies where only root may run it");
        }
        let report = json(&output);
        assert!(begin.elapsed() < Duration::from_secs(30), "it waits though it does not trace");
        let namespaces = report["namespaces"].as_array().unwrap();
        assert!(namespaces.iter().any(|namespace| namespace["states"]["time_wait"] == 300), "{report:#}");
        assert!(namespaces.iter().all(|namespace| namespace["traced"].is_null()));
        let limits = report["limits"].as_array().unwrap();
        let limit = limits.iter().find(|limit| limit["what"] == "traced connections").unwrap();
        assert!(limit.to_string().contains("CAP_BPF") || limit.to_string().contains("root"), "{limit:#}");
    });
}
