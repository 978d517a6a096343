//! Programs are struck at the call that was meant, and at no other; what they leave behind is left alone.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tidewait_lab::faults::{Call, Plan, Walked, run};
use tidewait_lab::{Error, skip};

/// Where the programs at the end of this file are to work.
const HELPER_WORKS_IN: &str = "TIDEWAIT_LAB_TEST_WORKS_IN";

/// A directory of the test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("tidewait-faults-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }

    /// Counts what is done in the directory, and nothing else.
    fn here(&self, plan: Plan) -> Plan {
        let within = format!("{}/", self.0.display());
        plan.only(move |call| call.about.starts_with(&within))
    }

    /// The calls in short: `open f`.
    fn told(&self, calls: &[Call]) -> Vec<String> {
        calls.iter().map(|call| self.short(call)).collect()
    }

    fn short(&self, call: &Call) -> String {
        let kind = ["open", "write", "rename"]
            .into_iter()
            .find(|kind| call.name.starts_with(kind))
            .unwrap_or(call.name);
        format!("{kind} {}", call.about.replace(&format!("{}/", self.0.display()), ""))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `None`, and a line that says so, where ptrace is refused.
fn walk(test: &str, command: &mut Command, plan: &Plan) -> Option<Walked> {
    match run(command, plan) {
        Err(error @ (Error::NotPermitted(_) | Error::Unavailable(_))) => {
            skip(test, error);
            None
        }
        walked => Some(walked.unwrap()),
    }
}

fn eventually(what: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if what() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn changes_are_told_and_the_same_each_time() {
    let test = "changes_are_told_and_the_same_each_time";
    let scratch = Scratch::new("told");
    let script = "echo out; echo err >&2; read line < /proc/version; echo a > f; echo b >> f; exec mv f g";
    let mut command = scratch.shell(script);
    let Some(first) = walk(test, &mut command, &scratch.here(Plan::watch())) else { return };
    assert_eq!(
        scratch.told(&first.calls),
        ["open f", "write f", "open f", "write f", "rename f -> g"].map(String::from),
    );
    assert!(first.status.success());
    assert_eq!((first.stdout.as_slice(), first.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(first.struck, None);
    assert_eq!(scratch.read("g").unwrap(), "a\nb\n");

    // The same command once more, and all of its calls.
    let all = walk(test, &mut command, &Plan::watch()).unwrap();
    let again = walk(test, &mut command, &Plan::watch()).unwrap();
    assert_eq!(all.calls, again.calls);
    assert_eq!(all.stdout, b"out\n");
    assert!(all.calls.len() >= first.calls.len());
    assert!(all.calls.iter().all(|call| !call.about.contains("memfd")), "{:?}", all.calls);
}

#[test]
fn killed_at_each_step_what_was_done_before_is_there() {
    let test = "killed_at_each_step_what_was_done_before_is_there";
    let scratch = Scratch::new("killed");
    let mut command = scratch.shell("echo a > f; echo b >> f; exec mv f g");
    let expected: [(Option<&str>, Option<&str>, &str); 5] = [
        (None, None, "open f"),
        (Some(""), None, "write f"),
        (Some("a\n"), None, "open f"),
        (Some("a\n"), None, "write f"),
        (Some("a\nb\n"), None, "rename f -> g"),
    ];
    for (at, (f, g, before)) in expected.into_iter().enumerate() {
        let Some(walked) = walk(test, &mut command, &scratch.here(Plan::kill(at))) else { return };
        assert_eq!(walked.status.signal(), Some(libc::SIGKILL));
        assert_eq!(scratch.short(&walked.struck.unwrap()), before);
        assert_eq!(walked.calls.len(), at + 1);
        assert_eq!((scratch.read("f").as_deref(), scratch.read("g").as_deref()), (f, g), "before {before}");
        let _ = fs::remove_file(scratch.0.join("f"));
    }
    let beyond = walk(test, &mut command, &scratch.here(Plan::kill(5))).unwrap();
    assert!(beyond.status.success() && beyond.struck.is_none());
    assert_eq!(scratch.read("g").unwrap(), "a\nb\n");
}

#[test]
fn a_call_fails_as_it_is_told_to() {
    let test = "a_call_fails_as_it_is_told_to";
    let scratch = Scratch::new("errno");
    let mut command = scratch.shell("LC_ALL=C; export LC_ALL; echo a > f; exec mv f g");
    for (errno, words) in [(libc::EIO, "Input/output error"), (libc::EACCES, "Permission denied")] {
        let Some(walked) = walk(test, &mut command, &scratch.here(Plan::errno(2, errno))) else { return };
        let stderr = String::from_utf8_lossy(&walked.stderr).into_owned();
        assert!(stderr.contains(words) && walked.status.code() == Some(1), "{} {stderr}", walked.status);
        assert_eq!(scratch.short(&walked.struck.unwrap()), "rename f -> g");
        assert_eq!((scratch.read("f").as_deref(), scratch.read("g")), (Some("a\n"), None));
    }
    // A program that goes on after it: the shell tells that a write failed, and writes the next.
    let mut command = scratch.shell("echo a > f; echo b > g");
    let walked = walk(test, &mut command, &scratch.here(Plan::errno(1, libc::ENOSPC))).unwrap();
    assert!(!walked.stderr.is_empty() && walked.calls.len() >= 4, "{walked:?}");
    assert_eq!((scratch.read("f").unwrap().as_str(), scratch.read("g").unwrap().as_str()), ("", "b\n"));
}

#[test]
fn a_new_program_can_be_refused() {
    let test = "a_new_program_can_be_refused";
    let scratch = Scratch::new("exec");
    // By its path: a shell such as busybox need not execute what it can do itself.
    let program = std::env::current_exe().unwrap();
    let mut command = scratch.shell("exec \"$PROGRAM\" --list");
    command.env("PROGRAM", &program);
    let all = Plan::watch().only(|call| call.name == "execve");
    let Some(walked) = walk(test, &mut command, &all) else { return };
    assert!(walked.status.success() && String::from_utf8_lossy(&walked.stdout).contains(test));
    assert_eq!(
        walked.calls.iter().map(|call| call.about.as_str()).collect::<Vec<_>>(),
        [program.to_str().unwrap()]
    );

    let walked =
        walk(test, &mut command, &Plan::errno(0, libc::EIO).only(|call| call.name == "execve")).unwrap();
    assert!(!walked.status.success() && walked.struck.is_some() && walked.stdout.is_empty());
}

#[test]
fn a_signal_comes_at_the_step() {
    let test = "a_signal_comes_at_the_step";
    let scratch = Scratch::new("signal");
    // dash and busybox run the trap between commands.
    let mut command = scratch.shell("trap 'echo caught >> h' INT; echo a > f; echo b > g");
    let Some(walked) = walk(test, &mut command, &scratch.here(Plan::signal(0, libc::SIGINT))) else { return };
    assert!(walked.status.success(), "{walked:?}");
    let told = scratch.told(&walked.calls);
    assert_eq!(told, ["open f", "write f", "open h", "write h", "open g", "write g"].map(String::from));

    // Without a trap it is the end, and the call has been made.
    let mut command = scratch.shell("echo a > k; echo b > l");
    let walked = walk(test, &mut command, &scratch.here(Plan::signal(1, libc::SIGINT))).unwrap();
    assert_eq!(walked.status.signal(), Some(libc::SIGINT));
    assert_eq!((scratch.read("k").as_deref(), scratch.read("l")), (Some("a\n"), None));
}

#[test]
fn what_is_left_behind_runs_on() {
    let test = "what_is_left_behind_runs_on";
    let scratch = Scratch::new("left");
    let mut command = scratch.shell("setsid sh -c 'sleep 0.3; echo late > h' & echo a > f; echo b > g");
    let begun = Instant::now();
    let Some(walked) = walk(test, &mut command, &scratch.here(Plan::kill(2))) else { return };
    assert_eq!(walked.status.signal(), Some(libc::SIGKILL));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!((scratch.read("f").as_deref(), scratch.read("g")), (Some("a\n"), None));
    assert!(eventually(|| scratch.read("h").as_deref() == Some("late\n")));
}

#[test]
fn a_child_of_the_standard_library_runs_on() {
    let test = "a_child_of_the_standard_library_runs_on";
    let scratch = Scratch::new("spawned");
    let plan = scratch.here(Plan::kill(0));
    let mut command = helper("starts_a_child_and_writes", &scratch.0);
    let Some(walked) = walk(test, &mut command, &plan) else { return };
    assert_eq!(walked.status.signal(), Some(libc::SIGKILL));
    assert!(eventually(|| scratch.read("late").as_deref() == Some("late\n")));
    assert_eq!(scratch.read("after"), None);
}

#[test]
fn children_are_followed_when_asked_for() {
    let test = "children_are_followed_when_asked_for";
    let scratch = Scratch::new("children");
    let script = "echo a > f; sh -c 'echo b > g; echo c > h'; echo d > k";
    let plan = |plan: Plan| scratch.here(plan).with_children();
    let Some(walked) = walk(test, &mut scratch.shell(script), &plan(Plan::watch())) else { return };
    let told = scratch.told(&walked.calls);
    let files = ["f", "g", "h", "k"];
    let expected: Vec<String> =
        files.iter().flat_map(|file| [format!("open {file}"), format!("write {file}")]).collect();
    assert_eq!(told, expected);
    for file in files {
        fs::remove_file(scratch.0.join(file)).unwrap();
    }

    // The one that makes the call is killed, and its parent goes on.
    let walked = walk(test, &mut scratch.shell(script), &plan(Plan::kill(4))).unwrap();
    assert!(walked.status.success(), "{walked:?}");
    let left = files.map(|file| scratch.read(file));
    assert_eq!(left.each_ref().map(Option::as_deref), [Some("a\n"), Some("b\n"), None, Some("d\n")]);

    // Untold, they are not counted.
    let walked = walk(test, &mut scratch.shell(script), &scratch.here(Plan::watch())).unwrap();
    assert_eq!(walked.calls.len(), 4);
    let everything = walk(test, &mut scratch.shell(script), &Plan::watch()).unwrap();
    assert!(everything.calls.iter().any(|call| call.about == "a process"), "{:?}", everything.calls);
}

#[test]
fn all_threads_are_followed() {
    let test = "all_threads_are_followed";
    let scratch = Scratch::new("threads");
    let mut command = helper("many_threads", &scratch.0);
    let Some(walked) = walk(test, &mut command, &scratch.here(Plan::watch())) else { return };
    assert!(walked.status.success(), "{}", String::from_utf8_lossy(&walked.stdout));
    let mut told = scratch.told(&walked.calls);
    told.sort();
    let mut expected: Vec<String> =
        (0..4).flat_map(|thread| [format!("open t{thread}"), format!("write t{thread}")]).collect();
    expected.sort();
    assert_eq!(told, expected);

    let threads = Plan::watch().only(|call| call.about == "a thread");
    assert!(walk(test, &mut command, &threads).unwrap().calls.len() >= 4);
    for at in 0..8 {
        fs::remove_dir_all(&scratch.0).unwrap();
        fs::create_dir(&scratch.0).unwrap();
        let walked = walk(test, &mut command, &scratch.here(Plan::kill(at))).unwrap();
        assert_eq!(walked.status.signal(), Some(libc::SIGKILL));
        // What another thread was about at that moment may have been done or not.
        let struck = walked.struck.unwrap();
        if struck.name == "write" {
            assert_eq!(fs::read_to_string(&struck.about).unwrap(), "", "before {struck}");
        } else {
            let path = struck.about.clone();
            assert!(!Path::new(&path).exists(), "before {struck}");
        }
    }
}

#[test]
fn a_thread_that_becomes_a_program_is_followed() {
    let test = "a_thread_that_becomes_a_program_is_followed";
    let scratch = Scratch::new("execs");
    let mut command = helper("execs_beside_other_threads", &scratch.0);
    let Some(walked) = walk(test, &mut command, &scratch.here(Plan::watch())) else { return };
    assert_eq!(scratch.told(&walked.calls), ["open e", "write e"].map(String::from));
    assert_eq!(walked.status.code(), Some(5));
    let walked = walk(test, &mut command, &scratch.here(Plan::kill(1))).unwrap();
    assert_eq!((walked.status.signal(), scratch.read("e").as_deref()), (Some(libc::SIGKILL), Some("")));
}

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    let test = "runs_at_the_same_time_do_not_disturb_each_other";
    if walk(test, &mut Command::new("true"), &Plan::watch()).is_none() {
        return;
    }
    thread::scope(|scope| {
        for runner in 0..4 {
            scope.spawn(move || {
                let scratch = Scratch::new(&format!("parallel{runner}"));
                for turn in 0..10 {
                    let mut command = scratch.shell("echo a > f; sleep 0.01; echo b > g; exit 7");
                    let at = (runner + turn) % 5;
                    let Some(walked) = walk(test, &mut command, &scratch.here(Plan::kill(at))) else {
                        return;
                    };
                    let (code, signal) = (walked.status.code(), walked.status.signal());
                    assert_eq!(walked.calls.len(), (at + 1).min(4));
                    assert_eq!((code, signal), if at < 4 { (None, Some(9)) } else { (Some(7), None) });
                    // A child of the test itself, that is none of a tracer's business.
                    assert!(Command::new("true").status().unwrap().success());
                    for file in ["f", "g"] {
                        let _ = fs::remove_file(scratch.0.join(file));
                    }
                }
            });
        }
    });
}

#[test]
fn time_is_limited() {
    let test = "time_is_limited";
    let scratch = Scratch::new("limit");
    for script in ["echo $$ > f; exec sleep 100", "echo $$ > f; while :; do :; done"] {
        let begun = Instant::now();
        let plan = scratch.here(Plan::watch()).within(Duration::from_secs(3));
        match run(&mut scratch.shell(script), &plan) {
            Err(error @ (Error::NotPermitted(_) | Error::Unavailable(_))) => return skip(test, error),
            Err(error @ Error::TooLong { .. }) => {
                let words = error.to_string();
                assert!(
                    words.contains("sh had not ended after 3.0 s") && words.contains("write /"),
                    "{words}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        let process = scratch.read("f").unwrap();
        assert!(!Path::new("/proc").join(process.trim()).exists(), "{process} is gone");
    }
    let plan = Plan::watch().with_children().within(Duration::from_millis(500));
    let error = run(&mut scratch.shell("sh -c 'sleep 100' & sleep 100 & wait"), &plan).unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
}

#[test]
fn what_cannot_be_is_refused() {
    let internal = run(&mut Command::new("true"), &Plan::errno(0, 512)).unwrap_err();
    assert!(matches!(internal, Error::Refused(_)), "{internal}");
    let unknown = run(&mut Command::new("true"), &Plan::signal(0, 999)).unwrap_err();
    assert!(matches!(unknown, Error::Refused(_)), "{unknown}");
    if walk("what_cannot_be_is_refused", &mut Command::new("true"), &Plan::watch()).is_some() {
        let missing = run(&mut Command::new("/no/such/program"), &Plan::watch()).unwrap_err();
        assert!(missing.to_string().contains("/no/such/program"), "{missing}");
    }
}

#[test]
fn the_program_ends_with_its_tracer() {
    let test = "the_program_ends_with_its_tracer";
    let scratch = Scratch::new("tracer");
    if walk(test, &mut Command::new("true"), &Plan::watch()).is_none() {
        return;
    }
    let mut tracer = helper("traces_a_sleeper", &scratch.0).stdout(Stdio::null()).spawn().unwrap();
    let number = || scratch.read("f").and_then(|number| number.trim().parse::<u32>().ok());
    assert!(eventually(|| number().is_some()));
    let process = PathBuf::from(format!("/proc/{}", number().unwrap()));
    assert!(process.exists());
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    // Whoever collects orphans may take its time: a dead process has no working directory.
    assert!(eventually(|| fs::read_link(process.join("cwd")).is_err()));
}

#[test]
fn a_crash_is_seen_as_one() {
    let scratch = Scratch::new("crash");
    let test = "a_crash_is_seen_as_one";
    let Some(walked) = walk(test, &mut scratch.shell("kill -SEGV $$"), &Plan::watch()) else { return };
    assert_eq!(walked.status.signal(), Some(libc::SIGSEGV));
    assert_eq!(walked.calls.last().unwrap().to_string(), "kill signal 11");
    // A program that stops itself is not held up.
    let stopping = walk(test, &mut scratch.shell("kill -STOP $$; exit 3"), &Plan::watch()).unwrap();
    assert_eq!(stopping.status.code(), Some(3));
}

/// This test binary, to run one of the programs below.
fn helper(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--include-ignored", "--nocapture"]);
    command.env(HELPER_WORKS_IN, directory).stdin(Stdio::null());
    command
}

/// No test: a program with four threads, each of which writes a file.
#[test]
fn many_threads() {
    let Some(directory) = std::env::var_os(HELPER_WORKS_IN).map(PathBuf::from) else { return };
    thread::scope(|scope| {
        for number in 0..4 {
            let directory = &directory;
            scope.spawn(move || fs::write(directory.join(format!("t{number}")), "x").unwrap());
        }
    });
}

/// No test: a program with several threads, of which one, not the first, makes it another program.
#[test]
fn execs_beside_other_threads() {
    let Some(directory) = std::env::var_os(HELPER_WORKS_IN).map(PathBuf::from) else { return };
    thread::spawn(|| thread::sleep(Duration::from_secs(100)));
    let failed = Command::new("sh").args(["-c", "echo x > e; exit 5"]).current_dir(directory).exec();
    panic!("{failed}");
}

/// No test: a program that starts another as the standard library does, and writes a file.
#[test]
fn starts_a_child_and_writes() {
    let Some(directory) = std::env::var_os(HELPER_WORKS_IN).map(PathBuf::from) else { return };
    let script = "sleep 0.3; echo late > late";
    let mut command = Command::new("setsid");
    let mut child = command.args(["sh", "-c", script]).current_dir(&directory).spawn().unwrap();
    fs::write(directory.join("after"), "x").unwrap();
    child.wait().unwrap();
}

/// No test: a tracer that has a program which takes long.
#[test]
fn traces_a_sleeper() {
    let Some(directory) = std::env::var_os(HELPER_WORKS_IN).map(PathBuf::from) else { return };
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > f; exec sleep 100"]);
    let _ = run(command.current_dir(directory).stdin(Stdio::null()), &Plan::watch());
}
