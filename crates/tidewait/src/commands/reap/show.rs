//! What is told of a run: a line that is drawn anew on a terminal, one every few seconds elsewhere, objects in JSON; and the
//! summary.

use std::time::{Duration, Instant};

use tidewait_model::reap::{Begin, Counters, End, Line, Progress, SCHEMA};
use tidewait_model::stream::Reason;
use tidewait_surfaces::text;

use super::floors::Known;
use super::ledger::Ledger;
use super::titles;
use crate::cli::{Format, Reap};
use crate::output::{self, Live};

/// How often the line on a terminal is drawn anew; a line of JSON is written; a line of text is, elsewhere.
const DRAWN: Duration = Duration::from_millis(200);
const TOLD: Duration = Duration::from_secs(1);
const WRITTEN: Duration = Duration::from_secs(5);
/// Destinations in the summary, and those that are left for longer.
const TOP_TEXT: usize = 10;
const TOP_JSON: usize = 100;

/// See the module. Messages go to stderr.
pub struct Show {
    format: Format,
    dry_run: bool,
    live: Live,
    last: Instant,
    /// When and how many sockets had been ended, a second ago or more.
    before: (Duration, u64),
    rate: f64,
}

impl Show {
    pub fn new(options: &Reap) -> Show {
        Show {
            format: options.format,
            dry_run: options.dry_run,
            live: Live::new(),
            last: Instant::now(),
            before: (Duration::ZERO, 0),
            rate: 0.0,
        }
    }

    fn interval(&self) -> Duration {
        match (self.format.json, self.live.is_seen()) {
            (true, _) => TOLD,
            (false, true) => DRAWN,
            (false, false) => WRITTEN,
        }
    }

    /// Whether it is time to tell how it goes.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= self.interval()
    }

    /// How long until then.
    pub fn patience(&self) -> Duration {
        self.interval().saturating_sub(self.last.elapsed()).max(Duration::from_millis(1))
    }

    /// What is going to happen.
    pub fn begin(
        &mut self,
        options: &Reap,
        namespace: &str,
        floors: &Known,
        notes: Vec<String>,
    ) -> anyhow::Result<()> {
        let states = options.reapable();
        if self.format.json {
            let begin = Begin {
                opening: output::opening(SCHEMA),
                namespace: namespace.to_owned(),
                older_than_seconds: options.older_than.map(|time| time.as_secs_f64()),
                keep_below: options.keep_below,
                floor_seconds: floors.least_seconds(),
                floors: floors.higher(options),
                states: states.iter().map(|state| state.state()).collect(),
                incoming: options.incoming,
                rate: options.rate,
                dry_run: options.dry_run,
                notes,
            };
            return output::json(&Line::Begin(begin), true);
        }
        for note in notes {
            anstream::eprintln!("tidewait: {note}");
        }
        let higher = floors.higher(options);
        let (named, others) = higher.split_at(TOP_TEXT.min(higher.len()));
        for floor in named {
            anstream::eprintln!(
                "tidewait: sockets of {} are left for {} s: {}",
                floor.destination,
                floor.seconds,
                floor.evidence
            );
        }
        if !others.is_empty() {
            anstream::eprintln!(
                "tidewait: and those of {} more for longer than was asked; --json lists them",
                others.len()
            );
        }
        if !options.dry_run && !options.once {
            let what = match (options.older_than, options.keep_below) {
                (_, Some(share)) => format!(
                    "ending the oldest sockets in {} where a destination uses more than {} % of its ports, none within {} s",
                    titles(&states),
                    (share * 1_000.0).round() / 10.0,
                    floors.least_seconds()
                ),
                (older_than, None) => format!(
                    "ending sockets in {} after {} s",
                    titles(&states),
                    older_than.unwrap_or_default().as_secs_f64()
                ),
            };
            let until =
                options.until.seconds.map_or("until Ctrl-C".to_owned(), |time| format!("for {time} s"));
            anstream::eprintln!("tidewait: {what}, in {namespace}, {until}");
        }
        Ok(())
    }

    /// How it goes.
    pub fn progress(
        &mut self,
        elapsed: Duration,
        counters: &Counters,
        ledger: &Ledger,
    ) -> anyhow::Result<()> {
        self.last = Instant::now();
        let since = elapsed.saturating_sub(self.before.0).as_secs_f64();
        // Over a second or more, or the figure would dance.
        if since >= TOLD.as_secs_f64() * 0.9 {
            self.rate = counters.killed.saturating_sub(self.before.1) as f64 / since;
            self.before = (elapsed, counters.killed);
        }
        let (waiting, held) = ledger.waiting();
        let progress = Progress {
            at: output::now(),
            seconds: elapsed.as_secs_f64(),
            counters: *counters,
            killed_per_second: self.rate,
            waiting,
            held,
            oldest_seconds: ledger.oldest_seconds(),
            busiest: ledger.busiest().cloned(),
        };
        if self.format.json {
            return output::json(&Line::Progress(progress), true);
        }
        let line = text::reap_progress(&progress);
        if self.live.is_seen() {
            self.live.draw(&line);
        } else {
            self.live.say(&format!("tidewait: {line}\n"));
        }
        Ok(())
    }

    /// What came of it.
    pub fn end(
        mut self,
        elapsed: Duration,
        reason: Reason,
        counters: &Counters,
        ledger: &Ledger,
    ) -> anyhow::Result<()> {
        self.live.clear();
        let top = if self.format.json { TOP_JSON } else { TOP_TEXT };
        let (destinations, others) = ledger.rows(top);
        let end = End {
            at: output::now(),
            seconds: elapsed.as_secs_f64(),
            reason,
            counters: *counters,
            destinations,
            others,
        };
        if self.format.json {
            return output::json(&Line::End(end), true);
        }
        if reason == Reason::TargetGone {
            self.live.say("tidewait: the network namespace has ended\n");
        }
        output::text(&text::reap_end(&end, self.dry_run, &output::page(self.format, top)))
    }
}
