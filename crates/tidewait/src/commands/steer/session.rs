//! Steering that goes on until time is up, somebody ends it, or nobody is left to be steered.

use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rustix::thread::CapabilitySet;
use tidewait_model::steer::{Away, Begin, Counts, End, Line, Progress, SCHEMA};
use tidewait_model::stream::Reason;
use tidewait_observe::attached::{self, Hook};
use tidewait_surfaces::text;

use crate::cli::{self, Choosing};
use crate::exit::{self, NotPermitted};
use crate::interrupt;
use crate::needs::Needs;
use crate::output::{self, Live};

use super::steered::{EVERY, Plan, Steered};
use super::target::{Target, Whereabouts, refused};

/// How late an end may be noticed.
const NAP: Duration = Duration::from_millis(50);
/// How often it is seen whether somebody keeps the namespace.
const KEPT: Duration = Duration::from_secs(2);
/// For how long after it was attached it is looked whether the processes are in the namespace that they were taken to be in: a
/// service is put into its group first, and into its namespace then.
const SETTLED: Duration = Duration::from_secs(10);

/// What was asked for.
pub struct Asked<'a> {
    pub json: bool,
    pub target: &'a cli::Target,
    /// `None`: ports are left to the kernel.
    pub choosing: Option<&'a Choosing>,
    pub sources: &'a [IpAddr],
    pub seconds: Option<f64>,
}

/// Steers.
pub fn run(asked: &Asked<'_>) -> anyhow::Result<()> {
    may_steer(asked.choosing.is_some())?;
    let target = Target::find(asked.target)?;
    let plan = asked.plan(&target)?;
    // Caught before anything is attached, so that an early signal ends it in order, too.
    let stop = interrupt::catch()?;
    let steered = attach(plan, &target)?;
    let mut session = Session::new(asked, target, steered);
    session.begin()?;
    let reason = session.follow(&stop)?;
    session.end(reason)
}

impl Asked<'_> {
    fn plan(&self, target: &Target) -> anyhow::Result<Plan> {
        let choice = self.choosing.map(|choosing| &choosing.range);
        Plan::make(target.place.clone(), choice, self.reuse_after(), self.sources)
    }

    fn reuse_after(&self) -> Option<f64> {
        self.choosing.and_then(|choosing| choosing.reuse_after)
    }
}

fn attach(mut plan: Plan, target: &Target) -> anyhow::Result<Steered> {
    let process = target.process.as_ref().map(|process| process.pid);
    let steering = plan.attach(target.group.directory.as_fd(), process)?;
    Ok(Steered::new(plan, steering))
}

/// Refuses where it is known beforehand that the kernel will.
pub fn may_steer(ports: bool) -> Result<(), NotPermitted> {
    if !cfg!(feature = "bpf") {
        return Ok(()); // steering says so itself
    }
    let needs = Needs {
        else_not: "connect() cannot be steered",
        capabilities: CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::PERFMON),
        instead: Some(CapabilitySet::SYS_ADMIN),
        without: if ports {
            "Without: `tidewait report` says how full the ports are, and programs that choose for themselves need nothing: \
             IP_LOCAL_PORT_RANGE, more source addresses"
        } else {
            "Without: programs can bind their source addresses themselves, with IP_BIND_ADDRESS_NO_PORT"
        },
    };
    needs.check()
}

/// Refuses where a program of others would be in the way, or go out of it.
pub fn stands_beside(group: BorrowedFd<'_>) -> anyhow::Result<()> {
    let hooks = [Hook::Connect4, Hook::Connect6, Hook::SockOps];
    match hooks.into_iter().find(|hook| attached::is_alone(group, *hook)) {
        None => Ok(()),
        Some(hook) => Err(anyhow!(
            "at the hook {hook} of this control group, or of one above, is a BPF program that suffers none beside it: another would be refused, \
             or run in its place. Have its owner attach it with BPF_F_ALLOW_MULTI, as systemd does (`bpftool cgroup tree` shows whose \
             it is), or choose a control group that is not below",
            hook = hook.name()
        )),
    }
}

struct Session<'a> {
    asked: &'a Asked<'a>,
    target: Target,
    /// `None` while those who are to be steered are away.
    steered: Option<Steered>,
    begun: Instant,
    /// The line of progress.
    line: Live,
    /// When it was attached last.
    attached: Instant,
    /// What was counted before that.
    before: Counts,
    /// As it was told last, and when.
    last: Counts,
    drawn: Instant,
    /// When it was seen last that somebody keeps the namespace.
    kept: Instant,
    /// What is done, as it was told last.
    told: Begin,
    /// Why it could not be attached again, as it was told last.
    refusal: String,
    /// That it could not: it is tried again when it is due.
    waits: bool,
}

impl<'a> Session<'a> {
    fn new(asked: &'a Asked<'a>, target: Target, steered: Steered) -> Session<'a> {
        let now = Instant::now();
        Session {
            told: words(asked, &target, &steered),
            asked,
            target,
            steered: Some(steered),
            line: Live::new(),
            begun: now,
            attached: now,
            before: Counts::default(),
            last: Counts::default(),
            drawn: now,
            kept: now,
            refusal: String::new(),
            waits: false,
        }
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        if self.asked.json {
            return output::json(&Line::Begin(self.told.clone()), true);
        }
        self.tell(&text::steering(&self.told));
        for warning in self.told.warnings.clone() {
            self.tell(&warning);
        }
        if io::stderr().is_terminal() {
            let until = self.asked.seconds.map_or(String::new(), |seconds| format!("for {seconds} s, or "));
            self.tell(&format!("{until}until Ctrl-C; what is open then stays open"));
        }
        Ok(())
    }

    /// Waits for the end; why it came.
    fn follow(&mut self, stop: &AtomicBool) -> anyhow::Result<Reason> {
        let deadline = self.asked.seconds.map(|seconds| self.begun + Duration::from_secs_f64(seconds));
        let mut next = self.begun + EVERY;
        loop {
            let now = Instant::now();
            if stop.load(Ordering::Relaxed) {
                return Ok(Reason::Signal);
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(Reason::Time);
            }
            let due = now >= next;
            match self.target.whereabouts() {
                Whereabouts::Gone => return Ok(Reason::TargetGone),
                Whereabouts::Here | Whereabouts::Away if self.steered.is_none() => self.come_back(due)?,
                Whereabouts::Here => {}
                Whereabouts::Away => self.leave()?,
            }
            if due {
                if self.steered.is_some() && self.kept.elapsed() >= KEPT {
                    self.kept = now;
                    if !self.target.place.is_kept() {
                        return Ok(Reason::TargetGone);
                    }
                }
                self.keep_up()?;
                self.progress()?;
                // Not those that were missed while it was stopped.
                next = Instant::now() + EVERY;
            }
            thread::sleep(NAP);
        }
    }

    /// Has what changed around it hold at once.
    fn keep_up(&mut self) -> anyhow::Result<()> {
        let Some(steered) = &mut self.steered else { return Ok(()) };
        for words in steered.keep_up() {
            self.line.say(&format!("tidewait: {words}\n"));
        }
        let is_new = self.target.is_empty || self.attached.elapsed() < SETTLED;
        if (is_new || self.target.process.is_some())
            && self.target.has_moved()
            && let Ok(Some(target)) = self.target.again(self.asked.target, true)
        {
            self.attach_again(target)?;
        }
        Ok(())
    }

    /// Those who are to be steered are away.
    fn leave(&mut self) -> anyhow::Result<()> {
        self.let_go()?;
        if self.asked.json {
            return output::json(
                &Line::Away(Away { at: output::now(), target: self.target.name.clone() }),
                true,
            );
        }
        self.tell(&format!("{} is away: it is steered again when it is back", self.target.name));
        Ok(())
    }

    /// Ends what is attached; what was counted stays.
    fn let_go(&mut self) -> anyhow::Result<()> {
        if let Some(steered) = self.steered.take() {
            self.before += steered.counts().map_err(refused)?;
        }
        Ok(())
    }

    /// Begins again where they are back. What was in the way a moment ago still is, as a rule, and to find that out takes long: then
    /// it is tried only where it is `due`.
    fn come_back(&mut self, due: bool) -> anyhow::Result<()> {
        if self.waits && !due {
            return Ok(());
        }
        let found = self.target.again(self.asked.target, due);
        // That there is nothing is known at once; where there was something, it is in the way.
        self.waits = !due && found.is_err();
        match found {
            Ok(Some(target)) => self.attach_again(target),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Begins again. What is in the way may go: it is told once, and tried again.
    fn attach_again(&mut self, target: Target) -> anyhow::Result<()> {
        // Its ports are claimed once more: the namespace may be another.
        self.let_go()?;
        let again = self.asked.plan(&target).and_then(|plan| attach(plan, &target));
        self.target = target;
        match again {
            Ok(steered) => {
                self.told = words(self.asked, &self.target, &steered);
                self.steered = Some(steered);
                self.attached = Instant::now();
                self.refusal.clear();
                self.waits = false;
                self.begin()
            }
            Err(error) => {
                self.waits = true;
                let words = exit::words(&error);
                if words != self.refusal {
                    self.tell(&format!("{} is back, but cannot be steered yet: {words}", self.target.name));
                    self.refusal = words;
                }
                Ok(())
            }
        }
    }

    fn tell(&mut self, words: &str) {
        self.line.say(&format!("tidewait: {words}\n"));
    }

    fn counts(&self) -> anyhow::Result<Counts> {
        let mut counts = self.before;
        if let Some(steered) = &self.steered {
            counts += steered.counts().map_err(refused)?;
        }
        Ok(counts)
    }

    fn progress(&mut self) -> anyhow::Result<()> {
        let counts = self.counts()?;
        if self.asked.json {
            return output::json(
                &Line::Progress(Progress {
                    at: output::now(),
                    ports: self.steered.as_ref().map_or(0, Steered::ports),
                    sources_missing: self.steered.as_ref().map_or_else(Vec::new, Steered::missing),
                    counts,
                }),
                true,
            );
        }
        let now = Instant::now();
        self.line.draw(&text::steering_line(&counts, &self.last, now - self.drawn));
        (self.last, self.drawn) = (counts, now);
        Ok(())
    }

    fn end(mut self, reason: Reason) -> anyhow::Result<()> {
        self.let_go()?;
        let counts = self.before;
        let end = End { at: output::now(), seconds: self.begun.elapsed().as_secs_f64(), reason, counts };
        if self.asked.json {
            return output::json(&Line::End(end), true);
        }
        self.line.clear();
        if reason == Reason::TargetGone {
            self.tell(&format!(
                "{} is gone, or its network namespace {}",
                self.told.target, self.told.namespace
            ));
        }
        output::text(&text::steered(&end, &self.told))
    }
}

/// What is done from now on.
fn words(asked: &Asked<'_>, target: &Target, steered: &Steered) -> Begin {
    let chosen = steered.plan.claimed.as_ref().map(|claimed| &claimed.chosen);
    let mut warnings = steered.plan.warnings().to_vec();
    if target.is_empty {
        warnings.push(format!(
            "no process is in control group {} yet: ports and addresses are those of network namespace {}, where tidewait is, until one \
             comes that is in another; --netns names it beforehand",
            target.group.path, target.place.name
        ));
    }
    Begin {
        opening: output::opening(SCHEMA),
        namespace: target.place.name.clone(),
        target: target.name.clone(),
        ports: chosen.map_or(0, |chosen| chosen.ports.len()),
        ranges: chosen
            .map_or_else(Vec::new, |chosen| chosen.ranges.iter().map(ToString::to_string).collect()),
        reuse_after_seconds: steered.plan.reuse_after_seconds(),
        sources: asked.sources.iter().map(ToString::to_string).collect(),
        warnings,
    }
}
