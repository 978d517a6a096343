//! `tidewait study`: what TIME_WAIT absorbs, until time is up or somebody ends it.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rustix::thread::CapabilitySet;
use tidewait_model::Limit;
use tidewait_model::study::{self, BAND_BEGINS_MS, DAYS, Method, SCHEMA};
use tidewait_observe::places::Place;
use tidewait_observe::procfs;
use tidewait_observe::study::{Picture, Watch, Wish};
use tidewait_surfaces::text;

use crate::cli::{StateDir, Study};
use crate::needs::Needs;
use crate::output::{self, Live};
use crate::{interrupt, memory, place};

/// How late the end may be noticed.
const NAP: Duration = Duration::from_millis(50);
/// How often the line on the terminal changes.
const OFTEN: Duration = Duration::from_secs(1);
/// Destinations that are told apart: as many as are remembered.
const DESTINATIONS: u32 = 4_096;
/// Rows of the list where the user gave no number.
const TOP: usize = 10;

/// Maps and programs, to read the kernel's sockets, and to be at its interfaces.
const NEEDS: Needs = Needs {
    else_not: "segments for TIME_WAIT cannot be seen",
    capabilities: CapabilitySet::BPF.union(CapabilitySet::PERFMON).union(CapabilitySet::NET_ADMIN),
    instead: None,
    without: "`tidewait report` works without: it counts the sockets in TIME_WAIT",
};

/// Runs the command.
pub fn run(options: &Study) -> anyhow::Result<()> {
    if cfg!(feature = "bpf") {
        NEEDS.check()?; // else the watch says so itself
    }
    let place = place::one(options.netns.name.as_deref())?;
    // A memory that cannot be added to is told of before an hour of watching.
    if !options.no_memory {
        memory::read(&options.state.path())?;
    }
    let stop = interrupt::catch()?;
    let settings = place.enter(|| procfs::settings(Path::new("/")).0)?;
    let time_wait = settings.time_wait_seconds();
    let wish = Wish {
        root: "/".into(),
        place: place.clone(),
        method: options.method.method(),
        only: options.which.filter(),
        sample: options.sample,
        time_wait: Duration::from_secs(u64::from(time_wait)),
        destinations: DESTINATIONS,
    };
    let begun_at = output::now();
    let watch = Watch::start(wish).map_err(|refusal| {
        if place.is_kept() {
            return NEEDS.unmet(&refusal);
        }
        // Whatever failed then, failed for that.
        anyhow!(
            "network namespace '{}' has ended before its segments could be watched: nothing was seen",
            place.name
        )
    })?;
    let begun = Instant::now();
    let method = watch.method();
    let picture = follow(options, &place, watch, begun, &stop)?;
    let study = study::Study {
        schema: SCHEMA.to_owned(),
        begun_at,
        seconds: begun.elapsed().as_secs_f64(),
        host: procfs::host(),
        namespace: memory::place(&place),
        method,
        sample: options.sample,
        time_wait_seconds: f64::from(time_wait),
        limits: picture.limits,
        segments_looked_at: picture.looked_at,
        packets_not_looked_at: picture.not_looked_at,
        fin_wait2_segments: picture.fin_wait2,
        bands: BAND_BEGINS_MS.iter().map(|begins| f64::from(*begins) / 1e3).collect(),
        total: picture.total,
        destinations: picture.destinations,
    };
    tell(options, study)
}

/// Watches until it is over; what was seen.
fn follow(
    options: &Study,
    place: &Place,
    mut watch: Watch,
    begun: Instant,
    stop: &AtomicBool,
) -> anyhow::Result<Picture> {
    let deadline = options.until.seconds.map(|seconds| begun + Duration::from_secs_f64(seconds));
    let mut live = Live::new();
    if io::stderr().is_terminal() {
        let how = match watch.method() {
            Method::Fentry => "in the kernel's function that answers them",
            Method::Tc => "at the interfaces",
        };
        let until = options.until.seconds.map_or_else(String::new, |seconds| format!(" for {seconds} s"));
        anstream::eprintln!("tidewait: watching segments for TIME_WAIT {how}{until}; Ctrl-C ends it");
    }
    let mut gone = false;
    let (mut shown, mut kept) = (Instant::now(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let left = deadline.map_or(NAP, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(NAP));
        watch.refresh();
        if kept.elapsed() >= OFTEN {
            kept = Instant::now();
            // The programs keep it from ending, and nothing will come any more.
            gone = !place.is_kept();
            if gone {
                break;
            }
        }
        if live.is_seen() && shown.elapsed() >= OFTEN {
            shown = Instant::now();
            let picture = unread(watch.picture())?;
            let seconds = begun.elapsed().as_secs_f64();
            live.draw(&text::study_line(&picture.total, picture.looked_at, seconds));
        }
    }
    live.clear();
    if gone {
        anstream::eprintln!("tidewait: network namespace '{}' is gone; this is what was seen", place.name);
    }
    watch.finish();
    unread(watch.picture())
}

fn unread(picture: Result<Picture, Limit>) -> anyhow::Result<Picture> {
    picture.map_err(|limit| anyhow!("{} cannot be read any more: {}", limit.what, limit.why))
}

/// Prints it and keeps it.
fn tell(options: &Study, mut study: study::Study) -> anyhow::Result<()> {
    // First of all: whoever reads the page may go away.
    let kept = (!options.no_memory)
        .then(|| memory::learn(&options.state.path(), &study, &output::now()))
        .transpose();
    let top = options.top.unwrap_or(if options.format.json { 0 } else { TOP });
    let top = if top == 0 { usize::MAX } else { top };
    if options.format.json {
        study.destinations.truncate(top);
        output::json(&study, false)?;
    } else {
        output::text(&text::study(&study, &output::page(options.format, top)))?;
    }
    if let Some(file) = kept? {
        let usual = StateDir { directory: None }.path();
        let directory = options.state.path();
        let how = if directory == usual {
            String::new()
        } else {
            format!(" with --state-dir {}", directory.display())
        };
        anstream::eprintln!(
            "tidewait: kept for {DAYS} days in {}; `tidewait reap`{how} stays above it",
            file.display()
        );
    }
    Ok(())
}
