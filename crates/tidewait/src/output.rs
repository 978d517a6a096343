//! Where data goes: stdout, painted only for a terminal that wants it, as wide as the terminal is; and the line on stderr that is
//! drawn anew while something goes on.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use anstream::ColorChoice;
use anyhow::Context as _;
use serde::Serialize;
use tidewait_model::stream::Opening;
use tidewait_observe::procfs;
use tidewait_surfaces::text::Page;

use crate::cli::Format;

/// Columns where there is no terminal to ask.
const USUAL_WIDTH: usize = 80;

/// The page that stdout can show. `top`: how many rows of a list.
pub fn page(format: Format, top: usize) -> Page {
    let stdout = io::stdout();
    let width = columns(&stdout)
        .or_else(|| std::env::var("COLUMNS").ok()?.parse().ok())
        .filter(|width| *width > 0)
        .unwrap_or(USUAL_WIDTH);
    let colour = anstream::AutoStream::choice(&stdout) != ColorChoice::Never;
    Page { width, colour, ascii: format.ascii || !unicode_locale(), top }
}

/// Columns of a terminal.
fn columns(stream: impl AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0))
}

/// Whether the locale says that the terminal shows more than ASCII. Without a locale it is taken to.
fn unicode_locale() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")) {
        None => true,
        Some(locale) => {
            let locale = locale.to_ascii_lowercase();
            // "C" and "POSIX" are what a bare machine has; its terminals show block characters all the same.
            locale.contains("utf") || locale == "c" || locale == "posix"
        }
    }
}

/// Now, as every stream of JSON has it: RFC 3339 in UTC, to the microsecond.
pub fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// How a stream of JSON begins.
pub fn opening(schema: &str) -> Opening {
    Opening { schema: schema.to_owned(), at: now(), host: procfs::host() }
}

/// Writes to stdout what is there already as it is to be.
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    // Without this it might be any other file that there is no space for.
    stdout.write_all(bytes).and_then(|()| stdout.flush()).context("cannot write to standard output")
}

/// Writes text to stdout as it is.
pub fn text(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Writes a value as JSON and a line end: indented for a person at a terminal or a single answer, one line
/// for each of a stream.
pub fn json(value: &impl Serialize, stream: bool) -> anyhow::Result<()> {
    let mut line = if stream { serde_json::to_vec(value)? } else { serde_json::to_vec_pretty(value)? };
    line.push(b'\n');
    bytes(&line)
}

/// As much of a page as the terminal shows at once, so that its first lines, the verdict, do not scroll away; all
/// of it where there is no terminal.
pub fn clip(page: &str) -> String {
    let Some((_, height)) = terminal_size::terminal_size_of(io::stdout()) else { return page.to_owned() };
    let room = usize::from(height.0).saturating_sub(2).max(1);
    let lines = page.lines().count();
    if lines <= room + 1 {
        return page.to_owned();
    }
    let shown: Vec<&str> = page.lines().take(room).collect();
    format!("{}\n... {} more lines: `tidewait report` shows them\n", shown.join("\n"), lines - room)
}

/// Empties the terminal before a page is drawn again; parts pages by a line where it is none.
pub fn redraw(first: bool) -> anyhow::Result<()> {
    if io::stdout().is_terminal() {
        // Home, then clear to the end: no flicker, and what was scrolled away stays.
        text(if first { "\x1b[2J\x1b[H" } else { "\x1b[H\x1b[J" })
    } else if first {
        Ok(())
    } else {
        text("\n")
    }
}

/// A line on stderr that is drawn anew, where that is a terminal.
pub struct Live {
    terminal: bool,
    drawn: bool,
}

impl Live {
    /// Nothing is drawn yet.
    pub fn new() -> Live {
        // A dumb terminal cannot take a line away again.
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        Live { terminal: io::stderr().is_terminal() && !dumb, drawn: false }
    }

    /// Whether what is drawn is seen.
    pub fn is_seen(&self) -> bool {
        self.terminal
    }

    /// Draws the line in place of the one before, as much of it as fits: what is wider goes on in the next line, where it cannot
    /// be taken away.
    pub fn draw(&mut self, line: &str) {
        if self.terminal {
            let width = columns(io::stderr()).unwrap_or(USUAL_WIDTH);
            to_stderr(&format!("\r\x1b[K{}", fitting(line, width)));
            self.drawn = true;
        }
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            to_stderr("\r\x1b[K");
        }
    }

    /// Writes to stderr where the line was.
    pub fn say(&mut self, text: &str) {
        self.clear();
        to_stderr(text);
    }
}

/// As much of a line as leaves the cursor in it.
fn fitting(line: &str, width: usize) -> String {
    line.chars().take(width.saturating_sub(1)).collect()
}

fn to_stderr(text: &str) {
    // When nobody can be told any more, nobody is there to be told so.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_leaves_the_last_column_free() {
        assert_eq!(fitting("ports-exhausted 4 s: filling", 21), "ports-exhausted 4 s:");
        assert_eq!(fitting("4 ms", 80), "4 ms");
        assert_eq!(fitting("4 ms", 0), "");
    }
}
