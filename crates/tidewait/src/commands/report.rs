//! `tidewait report`: looks once, or again and again, and shows what it saw.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tidewait_diagnose::{Options, assess};
use tidewait_observe::places::{self, Place, Scope};
use tidewait_observe::survey::{self, Question, Tracing, survey, survey_traced};
use tidewait_observe::trace::Wish;
use tidewait_surfaces::text;

use crate::cli::{Owners, Report};
use crate::interrupt;
use crate::output;

/// Destinations listed on a page, and in JSON, where the user gave no number.
const TOP_TEXT: usize = 10;
const TOP_JSON: usize = 100;

/// Runs the command.
pub fn run(options: &Report) -> anyhow::Result<()> {
    let json = options.format.json;
    let top = options.top.unwrap_or(if json { TOP_JSON } else { TOP_TEXT });
    let question = Question {
        root: PathBuf::from("/"),
        scope: scope(options.netns.as_deref()),
        to: options.to,
        keep: if top == 0 { usize::MAX } else { top },
        owners: match options.owners {
            Owners::Always => survey::Owners::Always,
            Owners::Near => survey::Owners::NearLimit,
            Owners::Never => survey::Owners::Never,
        },
        watch_for: options.watch_for.map(Duration::from_secs_f64),
    };
    let mut tracer = None;
    let mut untraced = None;
    if let Some(seconds) = options.trace {
        let window = Duration::from_secs_f64(seconds);
        let found = places::find(&question.root, &question.scope)?.places;
        let netns = only(&found, &question.scope);
        let wish = Wish { netns, binds: true, ..Wish::at(&question.root) };
        match Tracing::start(&wish, window) {
            Ok(tracing) => {
                interrupt::wait(window)?;
                tracer = Some(tracing);
            }
            Err(limit) => untraced = Some(limit),
        }
    }
    let mut first = true;
    loop {
        let begin = Instant::now();
        let mut observation = match &mut tracer {
            Some(tracing) => survey_traced(&question, tracing)?,
            None => survey(&question)?,
        };
        observation.limits.extend(untraced.clone());
        let report = assess(&observation, &Options { top, timings: options.timings });
        if json {
            output::json(&report, options.watch.is_some())?;
        } else {
            let mut page = output::page(options.format, top);
            if top == 0 {
                page.top = usize::MAX;
            }
            let text = text::report(&report, &page);
            if options.watch.is_some() {
                output::redraw(first)?;
                output::text(&output::clip(&text))?;
            } else {
                output::text(&text)?;
            }
        }
        let Some(seconds) = options.watch else { return Ok(()) };
        first = false;
        thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(begin.elapsed()));
    }
}

/// The inode of the namespace that is looked at, where it is one: the one that was named, or that of a container.
pub fn only(found: &[Place], scope: &Scope) -> Option<u32> {
    let [one] = found else { return None };
    let alone = matches!(scope, Scope::One(_))
        || (*scope == Scope::Auto && one.own && one.kind != places::Kind::Host);
    u32::try_from(one.inode).ok().filter(|_| alone)
}

/// The namespaces that `--netns` asks for.
pub fn scope(netns: Option<&str>) -> Scope {
    match netns {
        None => Scope::Auto,
        Some("all") => Scope::All,
        Some(name) => Scope::One(name.to_owned()),
    }
}
