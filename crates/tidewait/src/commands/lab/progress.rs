//! What the scenarios are doing now: one line on a terminal, redrawn; a line a step elsewhere.

use std::time::{Duration, Instant};

use crate::output::{self, Live};

/// How often the line is drawn anew.
pub const TICK: Duration = Duration::from_millis(200);

/// The scenarios under way. Everything goes to stderr.
pub struct Progress {
    live: Live,
    running: Vec<Running>,
}

struct Running {
    scenario: String,
    step: String,
    since: Instant,
}

impl Progress {
    /// Nothing under way.
    pub fn new() -> Progress {
        Progress { live: Live::new(), running: Vec::new() }
    }

    /// A scenario has come to a step.
    pub fn step(&mut self, scenario: &str, step: &str) {
        if !self.live.is_seen() {
            self.live.say(&format!("{scenario}: {step}\n"));
        }
        match self.running.iter_mut().find(|running| running.scenario == scenario) {
            Some(running) => step.clone_into(&mut running.step),
            None => self.running.push(Running {
                scenario: scenario.to_owned(),
                step: step.to_owned(),
                since: Instant::now(),
            }),
        }
    }

    /// A scenario has ended.
    pub fn end(&mut self, scenario: &str) {
        self.running.retain(|running| running.scenario != scenario);
    }

    /// Says something above the line.
    pub fn say(&mut self, text: &str) {
        self.live.say(text);
    }

    /// Shows what has ended: among the messages where standard output is for JSON, else there.
    pub fn say_or_print(&mut self, text: &str, json: bool) -> anyhow::Result<()> {
        if json {
            self.say(text);
            return Ok(());
        }
        self.clear();
        output::text(text)
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        self.live.clear();
    }

    /// Draws the line anew, on a terminal.
    pub fn draw(&mut self) {
        if self.running.is_empty() {
            self.live.clear();
        } else {
            self.live.draw(&line(&self.running, Instant::now()));
        }
    }
}

/// Each scenario with what it does and for how long it has been at work.
fn line(running: &[Running], now: Instant) -> String {
    let words = running.iter().map(|running| {
        let seconds = now.saturating_duration_since(running.since).as_secs();
        format!("{} {seconds} s: {}", running.scenario, running.step)
    });
    words.collect::<Vec<_>>().join("  |  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_who_how_long_and_what() {
        let since = Instant::now();
        let running = |scenario: &str, step: &str| Running {
            scenario: scenario.to_owned(),
            step: step.to_owned(),
            since,
        };
        let both = [running("ports-exhausted", "filling"), running("conntrack-full", "looking")];
        let now = since + Duration::from_secs(4);
        assert_eq!(line(&both, now), "ports-exhausted 4 s: filling  |  conntrack-full 4 s: looking");
    }
}
