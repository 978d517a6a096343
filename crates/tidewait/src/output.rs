//! Where data goes: stdout, painted only for a terminal that wants it, as wide as the terminal is.

use std::io::{self, IsTerminal, Write};

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
    let width = terminal_size::terminal_size_of(&stdout)
        .map(|(width, _)| usize::from(width.0))
        .or_else(|| std::env::var("COLUMNS").ok()?.parse().ok())
        .filter(|width| *width > 0)
        .unwrap_or(USUAL_WIDTH);
    let colour = anstream::AutoStream::choice(&stdout) != ColorChoice::Never;
    Page { width, colour, ascii: format.ascii || !unicode_locale(), top }
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
