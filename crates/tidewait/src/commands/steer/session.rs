//! Steering that goes on until time is up, somebody ends it, or nobody is left to be steered.

use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rustix::thread::CapabilitySet;
use tidewait_act::steer::{Steering, Wish};
use tidewait_model::PortSet;
use tidewait_model::steer::{Begin, Counts, End, Line, Progress, SCHEMA};
use tidewait_model::stream::Reason;
use tidewait_observe::attached::{self, Hook};
use tidewait_surfaces::text;

use crate::cli::{self, Choosing};
use crate::exit::NotPermitted;
use crate::interrupt;
use crate::needs::Needs;
use crate::output::{self, Live};

use super::ports::{self, Claimed};
use super::sources;
use super::target::{Target, refused};
use super::warnings;

/// How late an end may be noticed.
const NAP: Duration = Duration::from_millis(50);
/// How often it is told what was done.
const EVERY: Duration = Duration::from_secs(1);

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
    let locals = sources::locals(&target.place)?;
    sources::check(&target.place, asked.sources, &locals)?;
    let claimed = asked.choosing.map(|choosing| ports::claim(&target.place, &choosing.range)).transpose()?;
    let reuse_after = asked.choosing.and_then(|choosing| choosing.reuse_after);
    // Caught before anything is attached, so that an early signal ends it in order, too.
    let stop = interrupt::catch()?;
    let wish = Wish {
        cgroup: target.group.directory.as_fd(),
        netns: target.place.inode,
        process: target.process.as_ref().map(|process| process.pid),
        ports: claimed.as_ref().map_or_else(PortSet::default, |claimed| claimed.chosen.ports.clone()),
        reuse_after: reuse_after.map(Duration::from_secs_f64),
        sources: asked.sources.to_vec(),
        locals,
    };
    stands_beside(wish.cgroup)?;
    let steering = Steering::start(&wish).map_err(refused)?;
    let begin = begin(asked, &target, claimed.as_ref(), reuse_after);
    let mut session = Session {
        asked,
        target,
        steering,
        begun: Instant::now(),
        live: Live::new(),
        last: Counts::default(),
        told: false,
    };
    session.begin(&begin)?;
    let reason = session.follow(&stop)?;
    session.end(reason, &begin)
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

fn begin(asked: &Asked<'_>, target: &Target, claimed: Option<&Claimed>, reuse_after: Option<f64>) -> Begin {
    let mut warnings = warnings::of(&target.place, claimed, asked.sources, reuse_after.is_some());
    if target.is_empty {
        warnings.push(format!(
            "no process is in control group {} yet: ports and addresses are those of network namespace {}, where tidewait is; --netns \
             names another",
            target.group.path, target.place.name
        ));
    }
    Begin {
        opening: output::opening(SCHEMA),
        namespace: target.place.name.clone(),
        target: target.name.clone(),
        ports: claimed.map_or(0, |claimed| claimed.chosen.ports.len()),
        ranges: claimed
            .map_or_else(Vec::new, |claimed| claimed.chosen.ranges.iter().map(ToString::to_string).collect()),
        reuse_after_seconds: reuse_after,
        sources: asked.sources.iter().map(ToString::to_string).collect(),
        warnings,
    }
}

struct Session<'a> {
    asked: &'a Asked<'a>,
    target: Target,
    steering: Steering,
    begun: Instant,
    live: Live,
    /// As it was told last.
    last: Counts,
    /// That a source is gone was said.
    told: bool,
}

impl Session<'_> {
    fn begin(&self, begin: &Begin) -> anyhow::Result<()> {
        if self.asked.json {
            return output::json(&Line::Begin(begin.clone()), true);
        }
        anstream::eprintln!("tidewait: {}", text::steering(begin));
        for warning in &begin.warnings {
            anstream::eprintln!("tidewait: {warning}");
        }
        if io::stderr().is_terminal() {
            let until = self.asked.seconds.map_or(String::new(), |seconds| format!("for {seconds} s, or "));
            anstream::eprintln!("tidewait: {until}until Ctrl-C; what is open then stays open");
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
            if self.target.is_gone() {
                return Ok(Reason::TargetGone);
            }
            if now >= next {
                self.progress()?;
                next += EVERY;
            }
            thread::sleep(NAP);
        }
    }

    fn progress(&mut self) -> anyhow::Result<()> {
        let counts = self.steering.counts().map_err(refused)?;
        if counts.sources_gone > 0 && !self.told {
            self.told = true;
            self.live.say(
                "tidewait: a source address is not there any more: others are taken in its place, and connect() goes on; `ip address` \
                 shows which\n",
            );
        }
        if self.asked.json {
            return output::json(&Line::Progress(Progress { at: output::now(), counts }), true);
        }
        self.live.draw(&text::steering_line(&counts, &self.last));
        self.last = counts;
        Ok(())
    }

    fn end(mut self, reason: Reason, begin: &Begin) -> anyhow::Result<()> {
        let counts = self.steering.counts().map_err(refused)?;
        drop(self.steering);
        let end = End { at: output::now(), seconds: self.begun.elapsed().as_secs_f64(), reason, counts };
        if self.asked.json {
            return output::json(&Line::End(end), true);
        }
        self.live.clear();
        if reason == Reason::TargetGone {
            anstream::eprintln!("tidewait: {} is gone", begin.target);
        }
        output::text(&text::steered(&end, begin))
    }
}
