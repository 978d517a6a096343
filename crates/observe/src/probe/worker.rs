//! A forked child that runs probes, and the parent's watch over it.
//!
//! The child sends one line of JSON for every probe done. When it dies or takes too long, the probe it was at is
//! reported as unknown and a fresh child goes on with the next, so no probe can hide another.
#![expect(unsafe_code, reason = "fork(2) and _exit(2)")]

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};
use tidewait_model::doctor::Probe;

use super::privileges::Privileges;
use super::sandbox::{self, Namespace};
use super::{Answer, Bench, Failure, Room, Spec, cgroup};

/// Time for one probe. The slowest takes some hundredths of a second, ten times that on an emulated machine.
const EACH: Duration = Duration::from_secs(1);

/// Runs the probes in the room and returns one row for each, in their order.
pub(super) fn run(room: Room, specs: &[Spec], privileges: &Privileges, deadline: Instant) -> Vec<Probe> {
    let outside = Bench { privileges: privileges.clone(), namespace: Namespace::Callers };
    let mut done = Vec::new();
    while let Some(rest @ [current, ..]) = specs.get(done.len()..) {
        let before = done.len();
        let trouble = attempt(room, rest, privileges, deadline, &mut done);
        if let (Some(trouble), Some(stuck)) = (trouble, rest.get(done.len() - before)) {
            done.push(stuck.probe(Err(Failure::Unknown(trouble)), &outside));
        } else if done.len() == before {
            // A child that ended well and said nothing: would loop for ever.
            done.push(current.probe(Err(Failure::Unknown("no answer".to_owned())), &outside));
        }
    }
    done
}

/// One child: collects what it has to say; `Some` is why it stopped before the end.
fn attempt(
    room: Room,
    specs: &[Spec],
    privileges: &Privileges,
    deadline: Instant,
    done: &mut Vec<Probe>,
) -> Option<String> {
    if deadline <= Instant::now() {
        return Some("not tried: the probes before it used up the time".to_owned());
    }
    let (ours, theirs) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(error) => return Some(format!("not tried: socket pair: {error}")),
    };
    // SAFETY: the child has one thread. What it calls beyond async-signal-safe functions is the allocator, which glibc
    // makes usable after fork, and code that takes no lock of this process's other threads.
    let child = match unsafe { libc::fork() } {
        0 => {
            drop(ours);
            let ended = catch_unwind(AssertUnwindSafe(|| serve(room, specs, privileges, theirs)));
            // SAFETY: ends the child at once: no destructor or exit handler of the parent's may run here.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        pid => match Pid::from_raw(pid) {
            Some(child) if pid > 0 => child,
            _ => return Some(format!("not tried: fork: {}", std::io::Error::last_os_error())),
        },
    };
    drop(theirs);
    let trouble = listen(ours, specs.len(), deadline, done);
    if trouble.is_some() {
        // It may have ended by itself; then there is nothing to kill.
        let _ = rustix::process::kill_process(child, Signal::KILL);
    }
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitpid(Some(child), WaitOptions::empty()) {}
    cgroup::clean_up_after(child);
    trouble
}

fn listen(from: UnixStream, expected: usize, deadline: Instant, done: &mut Vec<Probe>) -> Option<String> {
    let mut lines = BufReader::new(from);
    for _ in 0..expected {
        let patience =
            EACH.min(deadline.saturating_duration_since(Instant::now())).max(Duration::from_millis(1));
        if let Err(error) = lines.get_ref().set_read_timeout(Some(patience)) {
            return Some(format!("setting a time limit: {error}"));
        }
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => return Some("the probe ended its process".to_owned()),
            Ok(_) => match serde_json::from_str(&line) {
                Ok(probe) => done.push(probe),
                Err(error) => return Some(format!("the probe's answer does not parse: {error}")),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Some(format!("gave up after {} ms", patience.as_millis()));
            }
            Err(error) => return Some(format!("reading the probe's answer: {error}")),
        }
    }
    None
}

/// The child's whole life.
fn serve(room: Room, specs: &[Spec], privileges: &Privileges, mut to: UnixStream) {
    // If the parent is killed, so is this; where that cannot be had, the broken pipe ends it at the next probe.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let namespace = sandbox::enter(room, privileges);
    let bench = Bench { privileges: privileges.clone(), namespace };
    for spec in specs {
        let Ok(mut line) = serde_json::to_vec(&spec.probe(answer(room, spec, &bench), &bench)) else {
            return;
        };
        line.push(b'\n');
        if to.write_all(&line).is_err() {
            return;
        }
    }
}

fn answer(room: Room, spec: &Spec, bench: &Bench) -> Answer {
    match &bench.namespace {
        Namespace::Refused(_) if room == Room::Sandbox => Err(Failure::Unknown(
            "not tried: no network namespace could be made to try it in (see new-namespace)".to_owned(),
        )),
        _ => (spec.run)(bench),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::CapabilitySet;
    use tidewait_model::doctor::Verdict;

    fn spec(id: &'static str, run: fn(&Bench) -> Answer) -> Spec {
        Spec { id, title: "", enables: "", needs: CapabilitySet::empty(), remedy: "", run }
    }

    #[test]
    fn a_probe_that_dies_or_hangs_hides_no_other() {
        let specs = [
            spec("first", |_| Ok("1".to_owned())),
            spec("dies", |_| {
                // Not by abort(): to write its core may take longer than a probe has.
                rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
                Ok("it goes on".to_owned())
            }),
            spec("between", |_| Ok("2".to_owned())),
            spec("hangs", |_| {
                std::thread::sleep(Duration::from_secs(60));
                Ok(String::new())
            }),
            spec("last", |_| Ok("3".to_owned())),
        ];
        let begun = Instant::now();
        let probes = run(Room::Outside, &specs, &Privileges::read(), begun + Duration::from_secs(5));
        let seen: Vec<_> = probes.iter().map(|p| (p.id.as_str(), p.verdict, p.detail.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("first", Verdict::Works, "1"),
                ("dies", Verdict::Unknown, "the probe ended its process"),
                ("between", Verdict::Works, "2"),
                ("hangs", Verdict::Unknown, "gave up after 1000 ms"),
                ("last", Verdict::Works, "3"),
            ]
        );
    }

    #[test]
    fn past_the_deadline_everything_is_named_as_not_tried() {
        let specs = [spec("a", |_| Ok(String::new())), spec("b", |_| Ok(String::new()))];
        let probes = run(Room::Outside, &specs, &Privileges::read(), Instant::now());
        assert_eq!(probes.len(), 2);
        assert!(probes.iter().all(|p| p.verdict == Verdict::Unknown && p.detail.starts_with("not tried")));
    }
}
