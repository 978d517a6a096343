//! The fault walk: `tune` killed before each of its steps, each of its steps failing once, a signal at each of them.
//!
//! The values have to end as before or as wanted, the message has to say which, and what was killed in the middle has to be
//! noticed and undone.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidewait_lab::faults::{self, Plan, Walked};

use crate::bench::{BEFORE, Bench, CHANGES, guards, said};

/// Errors that a disk, a mount or the kernel may answer with.
const ERRORS: [(i32, &str); 3] = [(libc::ENOSPC, "ENOSPC"), (libc::EIO, "EIO"), (libc::EROFS, "EROFS")];

/// How long a guard may take to notice.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a walk came to.
#[derive(Default)]
struct Tally {
    points: usize,
    /// Points after which all values were as before, as wanted, or some of each.
    before: usize,
    wanted: usize,
    between: usize,
}

impl Tally {
    fn count(&mut self, bench: &Bench) {
        self.points += 1;
        for ((value, before), (name, wanted)) in bench.values().iter().zip(BEFORE).zip(CHANGES) {
            assert!(*value == before || *value == wanted, "{name} is {value:?}");
        }
        if bench.is_before() {
            self.before += 1;
        } else if bench.is_wanted() {
            self.wanted += 1;
        } else {
            self.between += 1;
        }
    }

    fn tell(&self, what: &str, then: &str) {
        println!(
            "{what}: {} points; {} left the values as before, {} as wanted, {} in between; {then}",
            self.points, self.before, self.wanted, self.between
        );
        assert!(self.points >= if emulated() { 3 } else { 9 }, "{what}: {} points", self.points);
    }
}

/// Where to strike: everywhere, but in an emulated machine, which runs at a tenth of the speed, at every third point.
fn points() -> impl Iterator<Item = usize> {
    (0..).step_by(if emulated() { 3 } else { 1 })
}

/// All of them; in an emulated machine the first.
fn some<T>(all: [T; 3]) -> impl Iterator<Item = T> {
    all.into_iter().take(if emulated() { 1 } else { 3 })
}

fn emulated() -> bool {
    std::env::var("TIDEWAIT_TEST_SCALE").is_ok_and(|scale| scale != "1")
}

/// A plan for faults that counts what the program does to the kernel's settings and to its journal.
fn at(plan: Plan, bench: &Bench) -> Plan {
    let state = bench.state.path().to_str().unwrap().to_owned();
    plan.only(move |call| call.about.contains("/proc/sys/") || call.about.contains(&state))
}

fn struck(command: &mut Command, plan: Plan, bench: &Bench) -> Option<Walked> {
    let walked = faults::run(command, &at(plan, bench)).unwrap();
    walked.struck.is_some().then_some(walked)
}

#[test]
fn killed_before_each_step_of_apply_a_rollback_restores() {
    let bench = Bench::new();
    let mut tally = Tally::default();
    for point in points() {
        bench.reset();
        let Some(walked) = struck(&mut bench.apply(&[]), Plan::kill(point), &bench) else { break };
        let step = walked.struck.unwrap();
        tally.count(&bench);
        let notice = said(&bench.command(&["capacity", "--ports", "10"]).output().unwrap());
        if !bench.is_before() {
            assert!(
                bench.journal().contains("\"what\":\"begin\""),
                "changed without a way back before {step}"
            );
            let finished = bench.journal().contains("\"what\":\"applied\"");
            assert_eq!(notice.contains("was interrupted"), !finished, "before {step}: {notice}");
            let rollback = bench.tune(&["rollback"]);
            assert!(rollback.status.success(), "before {step}: {}", said(&rollback));
        } else if notice.contains("was interrupted") {
            let rollback = bench.tune(&["rollback"]);
            assert!(rollback.status.success(), "before {step}: {}", said(&rollback));
        }
        assert!(bench.is_before(), "after the rollback of a kill before {step}: {:?}", bench.values());
        let notice = said(&bench.command(&["capacity", "--ports", "10"]).output().unwrap());
        assert_eq!(notice, "", "before {step}");
    }
    assert!(bench.is_wanted(), "the run that was not struck");
    tally.tell("apply killed", "after a rollback none left a wrong value");
    assert!(emulated() || tally.between >= 2 && tally.before > 5 && tally.wanted >= 1);
}

#[test]
fn killed_before_each_step_of_rollback_another_rollback_restores() {
    let bench = Bench::new();
    let mut tally = Tally::default();
    for point in points() {
        bench.reset();
        assert!(bench.apply(&[]).output().unwrap().status.success());
        let Some(walked) = struck(&mut bench.command(&["tune", "rollback"]), Plan::kill(point), &bench)
        else {
            break;
        };
        let step = walked.struck.unwrap();
        tally.count(&bench);
        let again = bench.tune(&["rollback"]);
        let over = said(&again).contains("no change is in force");
        assert!(again.status.success() || over, "before {step}: {}", said(&again));
        assert!(bench.is_before(), "before {step}: {:?}", bench.values());
    }
    assert!(bench.is_before(), "the run that was not struck");
    tally.tell("rollback killed", "after another none left a wrong value");
    assert!(emulated() || tally.between >= 2);
}

#[test]
fn killed_before_each_step_with_a_guard_it_comes_right_by_itself() {
    let bench = Bench::new();
    let mut tally = Tally::default();
    for point in points() {
        bench.reset();
        let mut apply = bench.apply(&["--confirm-within", "1s"]);
        let Some(walked) = struck(&mut apply, Plan::kill(point), &bench) else { break };
        let step = walked.struck.unwrap();
        tally.count(&bench);
        let begin = Instant::now();
        while !(bench.is_before() && guards(&bench).is_empty()) {
            assert!(begin.elapsed() < PATIENCE, "before {step}: {:?}", bench.values());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    bench.wait_until_before();
    tally.tell("apply --confirm-within killed", "its guard undid the rest, and none left a wrong value");
}

/// Makes a change that waits to be confirmed, and kills its guard.
fn forsaken(bench: &Bench) {
    // On a busy machine a second may be over before it is killed.
    for seconds in 1..=10 {
        bench.reset();
        let within = format!("{seconds}s");
        assert!(bench.apply(&["--confirm-within", &within]).output().unwrap().status.success());
        bench.kill_guards();
        if bench.is_wanted() && !bench.journal().contains("\"what\":\"undone\"") {
            return;
        }
    }
    panic!("each time the guard has undone the change before it was killed");
}

#[test]
fn killed_before_each_step_of_its_undo_a_guard_leaves_what_a_rollback_restores() {
    let bench = Bench::new();
    let mut tally = Tally::default();
    for point in points() {
        // The guard that was started is replaced by one that can be struck.
        forsaken(&bench);
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let namespace = namespace.to_str().unwrap();
        // A process that has ended: the change was finished.
        let mut guard =
            bench.command(&["tune", "guard", "1", "--pid", "4194304", "--pid-namespace", namespace]);
        let Some(walked) = struck(&mut guard, Plan::kill(point), &bench) else { break };
        let step = walked.struck.unwrap();
        tally.count(&bench);
        let again = bench.tune(&["rollback"]);
        let over = said(&again).contains("no change is in force");
        assert!(again.status.success() || over, "before {step}: {}", said(&again));
        assert!(bench.is_before(), "before {step}: {:?}", bench.values());
    }
    assert!(bench.is_before(), "the run that was not struck");
    tally.tell("guard killed", "after a rollback none left a wrong value");
}

#[test]
fn whatever_step_of_apply_fails_all_is_as_before_or_as_wanted_and_it_says_which() {
    let bench = Bench::new();
    for (errno, name) in some(ERRORS) {
        let mut tally = Tally::default();
        for point in points() {
            bench.reset();
            let Some(walked) = struck(&mut bench.apply(&[]), Plan::errno(point, errno), &bench) else {
                break;
            };
            let step = walked.struck.as_ref().unwrap();
            let words = String::from_utf8_lossy(&walked.stderr).into_owned();
            tally.count(&bench);
            if walked.status.success() {
                assert!(bench.is_wanted(), "{name} at {step}: {:?} {words}", bench.values());
            } else {
                assert!(bench.is_before(), "{name} at {step}: {:?} {words}", bench.values());
                let says = [
                    "nothing was changed",
                    "as they were before",
                    "what they were before",
                    "cannot be",
                    "refuses it",
                ];
                assert!(says.iter().any(|says| words.contains(says)), "{name} at {step}: {words}");
            }
            assert!(!words.contains("panicked"), "{words}");
        }
        assert_eq!(tally.between, 0);
        tally.tell(&format!("apply with {name}"), "none in between");
    }
}

#[test]
fn whatever_step_of_rollback_fails_all_is_as_before_or_as_wanted_and_it_says_which() {
    let bench = Bench::new();
    for (errno, name) in some(ERRORS) {
        let mut tally = Tally::default();
        for point in points() {
            bench.reset();
            assert!(bench.apply(&[]).output().unwrap().status.success());
            let mut rollback = bench.command(&["tune", "rollback"]);
            let Some(walked) = struck(&mut rollback, Plan::errno(point, errno), &bench) else { break };
            let step = walked.struck.as_ref().unwrap();
            let words = String::from_utf8_lossy(&walked.stderr).into_owned();
            tally.count(&bench);
            if walked.status.success() {
                assert!(bench.is_before(), "{name} at {step}: {:?} {words}", bench.values());
            } else {
                assert!(bench.is_wanted(), "{name} at {step}: {:?} {words}", bench.values());
            }
            assert!(!words.contains("panicked"), "{words}");
            let again = bench.tune(&["rollback"]);
            assert!(bench.is_before(), "{name} at {step}: {} {:?}", said(&again), bench.values());
        }
        assert_eq!(tally.between, 0);
        tally.tell(&format!("rollback with {name}"), "none in between");
    }
}

#[test]
fn a_signal_at_any_step_leaves_all_as_before_or_as_wanted() {
    let bench = Bench::new();
    for signal in some([Signal::INT, Signal::TERM, Signal::HUP]) {
        let mut tally = Tally::default();
        for point in points() {
            bench.reset();
            let plan = Plan::signal(point, signal.as_raw());
            let Some(walked) = struck(&mut bench.apply(&[]), plan, &bench) else { break };
            let step = walked.struck.as_ref().unwrap();
            let words = String::from_utf8_lossy(&walked.stderr).into_owned();
            tally.count(&bench);
            if walked.status.success() {
                assert!(bench.is_wanted(), "{signal:?} at {step}: {:?} {words}", bench.values());
            } else {
                assert!(bench.is_before(), "{signal:?} at {step}: {:?} {words}", bench.values());
                assert!(words.contains("interrupted"), "{signal:?} at {step}: {words}");
            }
        }
        assert_eq!(tally.between, 0);
        tally.tell(&format!("apply with {signal:?}"), "none in between");
    }
}
