//! Follows a program from stop to stop, counts its calls and strikes at the one that is meant.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, pid_t};
use rustix::process::{Pid, Signal, kill_process};

use super::calls::{Call, counted};
use super::ptrace::{self, At, Entry};
use super::{Fault, Plan, Processes, named};
use crate::error::{Context, Error, Result};

/// What PTRACE_O_TRACESYSGOOD makes of SIGTRAP at a system call.
const AT_CALL: c_int = libc::SIGTRAP | 0x80;

/// What came of it.
#[derive(Debug)]
pub(super) struct Traced {
    /// What was run.
    pub(super) program: String,
    /// As waitpid(2) gives it.
    pub(super) status: c_int,
    pub(super) calls: Vec<Call>,
    pub(super) struck: Option<Call>,
}

/// Runs the command until it and whatever else is traced has ended. Wants a thread of its own.
pub(super) fn trace(
    command: &mut Command,
    plan: &Plan,
    unseen: &[String],
    processes: &Processes,
) -> Result<Traced> {
    let name = command.get_program().to_string_lossy().into_owned();
    let program = start(command, &name)?;
    let traced = Traced { program: name, status: 0, calls: Vec::new(), struck: None };
    let mut tracer = Tracer { plan, unseen, processes, program, threads: HashMap::new(), traced };
    let followed = tracer.begin().and_then(|()| tracer.follow());
    if followed.is_err() {
        clear_away(processes);
    }
    followed.map(|()| tracer.traced)
}

/// Starts the program: it stops before its first instruction.
fn start(command: &mut Command, name: &str) -> Result<pid_t> {
    let spent = Arc::new(AtomicBool::new(false));
    ptrace::trace_next(command, Arc::clone(&spent));
    let started = command.spawn();
    spent.store(true, Ordering::Relaxed);
    match started {
        // The standard library does not wait for it: that is done here, as ptrace wants it.
        Ok(child) => Ok(child.id() as pid_t),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EPERM) => Error::NotPermitted(format!(
                "start {name} under ptrace: {error}. In a container allow it (--cap-add SYS_PTRACE); a process that is traced \
                 by strace or a debugger cannot be traced once more"
            )),
            Some(libc::ENOSYS) => {
                Error::Unavailable(format!("there is no ptrace here to start {name} under"))
            }
            _ => Error::Call { operation: "start", subject: name.to_owned(), source: error },
        }),
    }
}

/// Ends everything that is traced.
fn clear_away(processes: &Processes) {
    processes.kill_all();
    while let Ok(Some((thread, status))) = ptrace::wait() {
        if libc::WIFSTOPPED(status) {
            // One that nobody knew of yet. Its number is its own until it has been waited for.
            let _ = kill(thread, Signal::KILL);
        }
    }
}

/// One thread of what is traced.
#[derive(Debug)]
struct Thread {
    /// The process it belongs to.
    process: pid_t,
    /// Its first stop, with a SIGSTOP that nobody sent, is still to come.
    newborn: bool,
    /// With what its present call is to fail.
    failing: Option<i32>,
}

struct Tracer<'a> {
    plan: &'a Plan,
    unseen: &'a [String],
    processes: &'a Processes,
    program: pid_t,
    threads: HashMap<pid_t, Thread>,
    traced: Traced,
}

impl Tracer<'_> {
    fn begin(&mut self) -> Result<()> {
        self.adopt(self.program, self.program, false)?;
        match ptrace::wait().context("wait for", &self.traced.program)? {
            Some((_, status)) if libc::WIFSTOPPED(status) => {
                let begun = ptrace::set_options(self.program, self.plan.children)
                    .and_then(|()| ptrace::resume(self.program, 0));
                unless_gone(begun, &self.traced.program)
            }
            Some((thread, status)) => {
                self.ended(thread, status);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn follow(&mut self) -> Result<()> {
        while let Some((thread, status)) = ptrace::wait().context("wait for", &self.traced.program)? {
            if libc::WIFSTOPPED(status) {
                self.stopped(thread, status)?;
            } else {
                self.ended(thread, status);
            }
        }
        Ok(())
    }

    fn ended(&mut self, thread: pid_t, status: c_int) {
        self.threads.remove(&thread);
        if let Some(process) = Pid::from_raw(thread) {
            self.processes.remove(process);
        }
        if thread == self.program {
            self.traced.status = status;
        }
    }

    fn adopt(&mut self, thread: pid_t, process: pid_t, newborn: bool) -> Result<()> {
        if thread == process
            && let Some(process) = Pid::from_raw(process)
        {
            self.processes.add(process)?;
        }
        self.threads.insert(thread, Thread { process, newborn, failing: None });
        Ok(())
    }

    fn stopped(&mut self, thread: pid_t, status: c_int) -> Result<()> {
        if !self.threads.contains_key(&thread) {
            // Nothing but a new thread or process can be unknown to the only thread that traces.
            let Some(process) = process_of(thread) else { return Ok(()) };
            if process != self.program && !self.plan.children {
                // A process that was made as threads are, without SIGCHLD for its end.
                return unless_gone(ptrace::detach(thread), &self.traced.program);
            }
            self.adopt(thread, process, true)?;
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let pass = match signal {
            AT_CALL => {
                if !self.at_call(thread)? {
                    return Ok(());
                }
                0
            }
            _ if event == libc::PTRACE_EVENT_EXEC => {
                self.became_new_program(thread);
                0
            }
            _ if event != 0 => 0,
            libc::SIGSTOP if self.threads.get_mut(&thread).is_some_and(Thread::is_born) => 0,
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
                if ptrace::is_group_stop(thread) =>
            {
                0
            }
            signal => signal,
        };
        unless_gone(ptrace::resume(thread, pass), &self.traced.program)
    }

    /// The thread that execs takes the number of its process, and the others end without a word.
    fn became_new_program(&mut self, process: pid_t) {
        self.threads.retain(|_, thread| thread.process != process);
        self.threads.insert(process, Thread { process, newborn: false, failing: None });
    }

    /// False when the thread is not to go on.
    fn at_call(&mut self, thread: pid_t) -> Result<bool> {
        let done = match ptrace::at(thread) {
            Ok(At::Entry(entry)) => return self.enters(thread, &entry),
            Ok(At::Exit) => match self.threads.get_mut(&thread).and_then(|thread| thread.failing.take()) {
                Some(errno) => ptrace::set_result(thread, -i64::from(errno)),
                None => Ok(()),
            },
            Ok(At::Elsewhere) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                return Err(Error::Unavailable(
                    "faults need Linux 5.3 (PTRACE_GET_SYSCALL_INFO), and this kernel is older".to_owned(),
                ));
            }
            Err(error) => Err(error),
        };
        unless_gone(done, &self.traced.program).map(|()| true)
    }

    fn enters(&mut self, thread: pid_t, entry: &Entry) -> Result<bool> {
        if Some(entry.architecture) != ptrace::ARCHITECTURE {
            return Err(Error::Unavailable(format!(
                "{} makes calls of another architecture, as a program of 32 bits does: their numbers are not known here",
                self.traced.program
            )));
        }
        let Some(call) = counted(thread, entry, self.unseen).filter(|call| self.plan.counts(call)) else {
            return Ok(true);
        };
        let struck = self.traced.calls.len() == self.plan.at && self.plan.fault != Fault::None;
        self.traced.calls.push(call.clone());
        if !struck {
            return Ok(true);
        }
        self.traced.struck = Some(call);
        let Some(caller) = self.threads.get_mut(&thread) else { return Ok(true) };
        let (process, program) = (caller.process, &self.traced.program);
        match self.plan.fault {
            Fault::None => {}
            // One that stands at the entry and is killed does not make its call (ptrace_report_syscall,
            // include/linux/ptrace.h).
            Fault::Kill => {
                unless_gone(kill(process, Signal::KILL), program)?;
                return Ok(false);
            }
            Fault::Errno(errno) => {
                caller.failing = Some(errno);
                unless_gone(ptrace::leave_out(thread), program)?;
            }
            Fault::Signal(signal) => unless_gone(kill(process, named(signal)?), program)?,
        }
        Ok(true)
    }
}

impl Thread {
    /// Whether this is the first stop of its life.
    fn is_born(&mut self) -> bool {
        std::mem::take(&mut self.newborn)
    }
}

/// A thread that is killed by somebody else is gone from any stop: its end is what is waited for next.
fn unless_gone(result: io::Result<()>, program: &str) -> Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.context("trace", program),
    }
}

/// To the process. Its number is its own as long as it has not been waited for.
fn kill(process: pid_t, signal: Signal) -> io::Result<()> {
    Pid::from_raw(process).map_or(Ok(()), |process| kill_process(process, signal).map_err(io::Error::from))
}

fn process_of(thread: pid_t) -> Option<pid_t> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}
