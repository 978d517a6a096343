//! The page: how wide, in which characters, and the paper that lines are written on.

use super::line::{Line, Paint, wrap};

/// What the reader's terminal can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Columns; fewer than 20 are taken as 20.
    pub width: usize,
    /// Whether to paint. Whether the terminal wants it is the caller's to find out.
    pub colour: bool,
    /// Plain ASCII instead of block characters.
    pub ascii: bool,
    /// How many destinations of a namespace, services, limits and the like are listed.
    pub top: usize,
}

impl Default for Page {
    fn default() -> Page {
        Page { width: 80, colour: false, ascii: false, top: 10 }
    }
}

impl Page {
    /// The narrowest page that is laid out.
    pub const NARROWEST: usize = 20;
    /// Sentences are not drawn wider than this: the eye loses the line.
    const PROSE: usize = 110;
}

/// What is written so far.
pub struct Paper<'a> {
    page: &'a Page,
    out: String,
}

impl<'a> Paper<'a> {
    /// Text that begins further to the right than this goes on at the left.
    const HANG: usize = 14;

    /// An empty one.
    pub fn new(page: &'a Page) -> Paper<'a> {
        Paper { page, out: String::new() }
    }

    /// The page it is for.
    pub fn page(&self) -> &'a Page {
        self.page
    }

    /// Columns there are.
    pub fn width(&self) -> usize {
        self.page.width.max(Page::NARROWEST)
    }

    /// What stands at a cut.
    pub fn ellipsis(&self) -> &'static str {
        if self.page.ascii { "~" } else { "\u{2026}" }
    }

    /// What parts facts on one line.
    pub fn dot(&self) -> &'static str {
        if self.page.ascii { ", " } else { " \u{b7} " }
    }

    /// What stands between a value and the one it becomes.
    pub fn arrow(&self) -> &'static str {
        if self.page.ascii { "->" } else { "\u{2192}" }
    }

    /// An empty line, unless the page is empty.
    pub fn gap(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    /// One line, cut to the width.
    pub fn line(&mut self, line: Line) {
        self.whole(&line.clip(self.width(), self.ellipsis()));
    }

    /// One line as it is, whatever the width.
    pub fn whole(&mut self, line: &Line) {
        if self.page.ascii {
            // Names of processes and hosts may hold anything.
            let mut text = String::new();
            line.render(self.page.colour, &mut text);
            self.out.extend(text.chars().map(|c| if c.is_ascii() { c } else { '?' }));
        } else {
            line.render(self.page.colour, &mut self.out);
        }
        self.out.push('\n');
    }

    /// A sentence: `lead` first, further lines indented to where the text began, or by 2 more than the lead
    /// where that is far to the right.
    pub fn prose(&mut self, lead: Line, paint: Paint, text: &str) {
        let width = self.width().min(Page::PROSE);
        let lead = lead.clip(width, self.ellipsis());
        let hang = if lead.width() > Self::HANG.min(width / 3) { lead.indent() + 2 } else { lead.width() };
        let hang = hang.min(width / 2);
        let mut lines = wrap(text, width - lead.width(), width - hang).into_iter();
        self.line(lead.with(paint, lines.next().unwrap_or_default()));
        for line in lines {
            self.line(Line::plain(" ".repeat(hang)).with(paint, line));
        }
    }

    /// Facts side by side, two spaces apart, on as many lines as it takes.
    pub fn flow(&mut self, indent: usize, facts: impl IntoIterator<Item = Line>) {
        self.flow_with(indent, "  ", facts);
    }

    /// Facts side by side, parted by `between`, on as many lines as it takes.
    pub fn flow_with(&mut self, indent: usize, between: &str, facts: impl IntoIterator<Item = Line>) {
        let width = self.width();
        let indent = indent.min(width / 4);
        let fresh = || Line::plain(" ".repeat(indent));
        let mut line = fresh();
        let facts = facts.into_iter().filter(|fact| !fact.is_empty());
        for fact in facts.flat_map(|fact| fact.fold(width - indent)) {
            if line.width() == indent {
                line = line.join(fact);
            } else if line.width() + between.len() + fact.width() <= width {
                line = line.with(Paint::Faint, between).join(fact);
            } else {
                self.line(std::mem::replace(&mut line, fresh().join(fact)));
            }
        }
        if line.width() > indent {
            self.line(line);
        }
    }

    /// A heading with a gap before it.
    pub fn heading(&mut self, text: &str) {
        self.gap();
        self.line(Line::of(Paint::Strong, text));
    }

    /// A command to be copied. Where it does not fit it goes on in the next line after a backslash, broken
    /// between words only, so that what is copied still runs; a word that is wider than the page is cut by it.
    pub fn command(&mut self, indent: usize, command: &str) {
        let width = self.width();
        let indent = indent.min(width / 4);
        let room = width - indent - 4;
        let mut lines: Vec<String> = Vec::new();
        let mut line = String::new();
        for word in shell_words(command) {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        lines.push(line);
        let last = lines.len() - 1;
        for (index, text) in lines.iter().enumerate() {
            let lead = if index == 0 { "$ " } else { "    " };
            let end = if index == last { "" } else { " \\" };
            let whole = Line::plain(" ".repeat(indent)).with(Paint::Faint, lead);
            self.line(whole.with(Paint::Strong, text).with(Paint::Faint, end));
        }
    }

    /// A line of a file to be copied: kept as it is, indentation and all. Where it does not fit it is wrapped without a
    /// mark, since there is none that every file understands, further to the right.
    pub fn verbatim(&mut self, indent: usize, text: &str) {
        let width = self.width();
        let own = text.len() - text.trim_start_matches(' ').len();
        let indent = (indent.min(width / 4) + own).min(width / 2);
        let lines = wrap(text, width - indent, width - indent - 4);
        for (index, line) in lines.iter().enumerate() {
            let indent = if index == 0 { indent } else { indent + 4 };
            self.line(Line::plain(" ".repeat(indent)).with(Paint::Strong, line));
        }
        if lines.is_empty() {
            self.line(Line::new());
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }
}

/// The words of a command, quoted parts kept whole.
fn shell_words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
        if c == ' ' && quote.is_none() {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(width: usize, write: impl FnOnce(&mut Paper<'_>)) -> String {
        let page = Page { width, ..Page::default() };
        let mut paper = Paper::new(&page);
        write(&mut paper);
        paper.finish()
    }

    #[test]
    fn a_command_breaks_between_words_and_still_runs() {
        let command = "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" net.ipv4.tcp_tw_reuse=1";
        assert_eq!(
            written(60, |paper| paper.command(2, command)),
            "  $ sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" \\\n      net.ipv4.tcp_tw_reuse=1\n"
        );
        assert_eq!(written(100, |paper| paper.command(2, command)), format!("  $ {command}\n"));
    }

    #[test]
    fn prose_hangs_under_its_own_beginning() {
        let text = "one two three four five six seven";
        assert_eq!(
            written(30, |paper| paper.prose(Line::plain("OK  "), Paint::Plain, text)),
            "OK  one two three four five\n    six seven\n"
        );
        assert_eq!(
            written(24, |paper| paper.prose(Line::plain("a long lead  "), Paint::Plain, text)),
            "a long lead  one two\n  three four five six\n  seven\n"
        );
    }

    #[test]
    fn facts_flow_over_lines() {
        let facts = || ["aaaa", "bbbb", "cccc", "dddddddddddddd"].map(Line::plain);
        assert_eq!(written(20, |paper| paper.flow(2, facts())), "  aaaa  bbbb  cccc\n  dddddddddddddd\n");
    }
}
