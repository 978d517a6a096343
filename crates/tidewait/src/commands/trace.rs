//! `tidewait trace`: connections as they come and go, until time is up or somebody ends it.

mod clock;
mod filter;
mod lines;
mod names;
pub mod process;
mod summary;
mod words;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::CapabilitySet;
use tidewait_model::Limit;
use tidewait_model::trace::SCHEMA;
use tidewait_model::trace::line::{Begin, End, Line, Lost};
use tidewait_observe::places;
use tidewait_observe::trace::{Event, Tracer, Wish};
use tidewait_surfaces::text::{self, Columns, Page};

use crate::cli::Trace;
use crate::needs::Needs;
use crate::{interrupt, output};

use clock::Clock;
use filter::Filter;
use names::{Namespaces, Owners};
use process::Process;

/// The longest that an event waits before it is printed.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long after the end of the process that --pid names its connections are followed: closed, they go on by themselves.
const AFTERMATH: Duration = Duration::from_secs(1);
/// Bytes that are gathered before they are written.
const CHUNK: usize = 256 << 10;
/// Rows of the table on a page where the user gave no number.
const TOP_TEXT: usize = 20;
/// Lines a second from which on nobody can read along.
const READABLE: f64 = 500.0;

/// Maps and programs, and to follow tracepoints and read kernel memory.
const NEEDS: Needs = Needs {
    else_not: "connections cannot be traced",
    capabilities: CapabilitySet::BPF.union(CapabilitySet::PERFMON),
    instead: None,
    without: "`tidewait report` works without: it counts the sockets that are there and infers their owners",
};

/// Runs the command.
pub fn run(options: &Trace) -> anyhow::Result<()> {
    if cfg!(feature = "bpf") {
        NEEDS.check()?; // else the tracer says so itself
    }
    let scope = super::report::scope(options.netns.as_deref());
    let found = places::find(Path::new("/"), &scope)?.places;
    let only = super::report::only(&found, &scope);
    let process = options.pid.map(Process::open).transpose()?;
    let filter = Filter::of(options, only)?;
    let stop = interrupt::catch()?;
    let wish = Wish {
        netns: only,
        waiting: 0,
        events: (!options.summary).then(|| filter.telling()),
        binds: filter.tells_binds(),
        ..Wish::default()
    };
    let tracer = Tracer::start(&wish).map_err(|refusal| NEEDS.unmet(&refusal))?;
    let page = output::page(options.format, options.top.unwrap_or(TOP_TEXT));
    let mut session = Session {
        options,
        owners: Owners::new(&filter),
        columns: Columns { word: filter.longest_word(), namespace: only.is_none() },
        filter,
        process,
        tracer,
        clock: Clock::read(),
        namespaces: Namespaces::of(&found),
        page,
        out: Vec::with_capacity(CHUNK + 4_096),
        printed: 0,
        lost: 0,
        begun: Instant::now(),
        second: (Instant::now(), 0),
        fastest: 0.0,
    };
    session.begin()?;
    session.follow(&stop)?;
    session.end()
}

/// A trace that runs.
struct Session<'a> {
    options: &'a Trace,
    filter: Filter,
    /// The only process that is followed, until it has ended.
    process: Option<Process>,
    tracer: Tracer,
    clock: Clock,
    namespaces: Namespaces,
    owners: Owners,
    page: Page,
    columns: Columns,
    /// What is not written yet.
    out: Vec<u8>,
    /// Events printed.
    printed: u64,
    /// Events lost, as far as that was told.
    lost: u64,
    begun: Instant,
    /// When the present second began, and how many events were printed before it.
    second: (Instant, u64),
    /// The most events a second that were printed.
    fastest: f64,
}

impl Session<'_> {
    fn json(&self) -> bool {
        self.options.format.json
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let limits = self.limits();
        if self.json() {
            self.put(&Line::Begin(Begin { opening: output::opening(SCHEMA), limits }))?;
            return self.flush();
        }
        for limit in &limits {
            let remedy = limit.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            anstream::eprintln!("tidewait: not seen: {}: {}{remedy}", limit.what, limit.why);
        }
        if io::stderr().is_terminal() {
            let until = match self.options.until.seconds {
                Some(seconds) => format!("for {seconds} s, or until Ctrl-C"),
                None => "until Ctrl-C".to_owned(),
            };
            let what = if self.options.summary { "counting" } else { "tracing" };
            anstream::eprintln!("tidewait: {what} {until}");
        }
        Ok(())
    }

    /// What cannot be seen, whatever happens.
    fn limits(&self) -> Vec<Limit> {
        let mut limits = self.tracer.limits().to_vec();
        if self.options.summary || self.options.with_summary {
            limits.extend(self.filter.uncounted());
        }
        limits
    }

    /// Prints events until it is over.
    fn follow(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut deadline =
            self.options.until.seconds.map(|seconds| self.begun + Duration::from_secs_f64(seconds));
        let mut batch: Vec<Event> = Vec::new();
        loop {
            let left = deadline.map_or(PATIENCE, |end| end.saturating_duration_since(Instant::now()));
            let over = stop.load(Ordering::Relaxed) || left.is_zero();
            // The last look takes what is there without waiting.
            let patience = if over { Duration::ZERO } else { left.min(PATIENCE) };
            if self.options.summary {
                thread::sleep(patience);
            } else if let Err(limit) = self.tracer.poll(patience, &mut |event| batch.push(*event))
                && !stop.load(Ordering::Relaxed)
            {
                return Err(anyhow!("events cannot be read any more: {}", limit.why));
            }
            self.clock.refresh();
            self.namespaces.refresh();
            let enough = self.tell(&batch)?;
            batch.clear();
            self.tell_losses()?;
            self.flush()?;
            if over || enough {
                return Ok(());
            }
            if let Some(process) = self.process.take_if(|process| process.has_ended()) {
                anstream::eprintln!("tidewait: process {} has ended", process.pid);
                let end = Instant::now() + AFTERMATH;
                deadline = Some(deadline.map_or(end, |deadline| deadline.min(end)));
            }
            self.note_rate();
            if reader_is_gone() {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
            }
        }
    }

    /// Prints those of `batch` that pass; whether it was as many as are wanted.
    fn tell(&mut self, batch: &[Event]) -> anyhow::Result<bool> {
        let json = self.json();
        for event in batch {
            if !self.filter.passes(event) {
                continue;
            }
            let who = self.owners.who(event.owner, &mut self.tracer, &self.filter);
            if !who.passes {
                continue;
            }
            let namespace = self.namespaces.name(event.netns);
            if json {
                lines::write(&mut self.out, event, self.clock.utc(event.at_ns), namespace, who);
            } else {
                let line = lines::line(event, String::new(), namespace, who);
                let time = self.clock.local(event.at_ns);
                self.out.extend_from_slice(text::event(&line, &time, self.columns, &self.page).as_bytes());
            }
            self.printed += 1;
            if self.out.len() >= CHUNK {
                self.flush()?;
            }
            if self.options.count == Some(self.printed) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says as soon as events were dropped.
    fn tell_losses(&mut self) -> anyhow::Result<()> {
        let total = self.tracer.losses().events;
        let count = total - self.lost.min(total);
        if count == 0 {
            return Ok(());
        }
        self.lost = total;
        let line = Line::Lost(Lost { at: output::now(), count, total });
        if self.json() {
            return self.put(&line);
        }
        let time = self.clock.local_now();
        self.out.extend_from_slice(text::event(&line, &time, self.columns, &self.page).as_bytes());
        Ok(())
    }

    /// Looks once a second how many events were printed in it.
    fn note_rate(&mut self) {
        let (begun, before) = self.second;
        if begun.elapsed() < Duration::from_secs(1) {
            return;
        }
        let rate = (self.printed - before) as f64 / begun.elapsed().as_secs_f64();
        self.second = (Instant::now(), self.printed);
        self.fastest = self.fastest.max(rate);
    }

    /// The last line, and the table.
    fn end(mut self) -> anyhow::Result<()> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut limits = self.limits();
        let wanted = self.options.summary || self.options.with_summary;
        let connections = if wanted {
            let picture = self.tracer.picture().map_err(|limit| anyhow!("{}: {}", limit.what, limit.why))?;
            Some(summary::rows(picture, &self.filter, &mut self.namespaces, seconds))
        } else {
            None
        };
        let losses = self.tracer.losses();
        limits.extend(losses.limits());
        if self.json() {
            let mut connections = connections;
            if let (Some(rows), Some(top)) = (&mut connections, self.options.top.filter(|top| *top > 0)) {
                rows.truncate(top);
            }
            let (events, lost) = (self.printed, losses.events);
            self.put(&Line::End(End { at: output::now(), seconds, events, lost, limits, connections }))?;
            return self.flush();
        }
        if let Some(rows) = connections {
            if self.options.top == Some(0) {
                self.page.top = usize::MAX;
            }
            if self.printed > 0 {
                self.out.push(b'\n');
            }
            self.out.extend_from_slice(text::trace_summary(&rows, &self.page).as_bytes());
            self.flush()?;
        }
        for limit in losses.limits() {
            anstream::eprintln!("tidewait: {}: {}", limit.what, limit.why);
        }
        if !self.options.summary {
            let events = if self.printed == 1 { "event" } else { "events" };
            anstream::eprintln!("tidewait: {} {events} in {seconds:.1} s", self.printed);
            // Said last: any earlier it would be gone with the events.
            if self.fastest > READABLE && io::stdout().is_terminal() {
                anstream::eprintln!(
                    "tidewait: up to {:.0} a second, more than can be read: --summary counts them; --refused, --state, --pid, \
                     --unit, --to and --port leave fewer",
                    self.fastest
                );
            }
        }
        Ok(())
    }

    /// Appends a line of JSON.
    fn put(&mut self, line: &Line) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.push(b'\n');
        Ok(())
    }

    /// Writes what was gathered, whole lines.
    fn flush(&mut self) -> anyhow::Result<()> {
        if !self.out.is_empty() {
            output::bytes(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Whether nobody reads stdout any more. Nothing may happen for long, and a write would tell only then.
fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
