//! What the scenarios are doing now: one line on a terminal, redrawn; a line a step elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::output;

/// How often the line is drawn anew.
pub const TICK: Duration = Duration::from_millis(200);

/// The scenarios under way. Everything goes to stderr.
pub struct Progress {
    terminal: bool,
    running: Vec<Running>,
    drawn: bool,
}

struct Running {
    scenario: String,
    step: String,
    since: Instant,
}

impl Progress {
    /// Nothing under way.
    pub fn new() -> Progress {
        // A dumb terminal cannot take a line away again.
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Progress { terminal: io::stderr().is_terminal() && !dumb, running: Vec::new(), drawn: false }
    }

    /// A scenario has come to a step.
    pub fn step(&mut self, scenario: &str, step: &str) {
        if !self.terminal {
            write(&format!("{scenario}: {step}\n"));
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
        self.clear();
        write(text);
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
        if self.drawn {
            write("\r\x1b[K");
            self.drawn = false;
        }
    }

    /// Draws the line anew, on a terminal.
    pub fn draw(&mut self) {
        if !self.terminal {
            return;
        }
        self.clear();
        if self.running.is_empty() {
            return;
        }
        let width =
            terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| usize::from(width.0));
        write(&line(&self.running, Instant::now(), width.saturating_sub(1)));
        self.drawn = true;
    }
}

/// Each scenario with what it does and for how long it has been at work, in at most `width` columns.
fn line(running: &[Running], now: Instant, width: usize) -> String {
    let words = running.iter().map(|running| {
        let seconds = now.saturating_duration_since(running.since).as_secs();
        format!("{} {seconds} s: {}", running.scenario, running.step)
    });
    words.collect::<Vec<_>>().join("  |  ").chars().take(width).collect()
}

fn write(text: &str) {
    // When nobody can be told any more, nobody is there to be told so.
    let _ = io::stderr().write_all(text.as_bytes());
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
        assert_eq!(line(&both, now, 200), "ports-exhausted 4 s: filling  |  conntrack-full 4 s: looking");
        assert_eq!(line(&both, now, 20), "ports-exhausted 4 s:");
    }
}
