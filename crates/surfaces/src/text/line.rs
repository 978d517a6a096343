//! A line of painted text: how wide it is on the terminal, cut or wrapped to a width, written with or without colour.

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a piece of text means, and so how it is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// As the terminal has it.
    Plain,
    /// Headings and figures that matter.
    Strong,
    /// What may be overlooked.
    Faint,
    /// Nothing is wrong.
    Good,
    /// It will be.
    Warning,
    /// It is.
    Critical,
    /// Not wanted, or of no use: struck out.
    Struck,
}

impl Paint {
    fn style(self) -> Style {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        match self {
            Paint::Plain => Style::new(),
            Paint::Strong => Style::new().bold(),
            Paint::Faint => Style::new().dimmed(),
            Paint::Good => colour(AnsiColor::Green),
            Paint::Warning => colour(AnsiColor::Yellow),
            Paint::Critical => colour(AnsiColor::Red).bold(),
            Paint::Struck => Style::new().strikethrough(),
        }
    }
}

/// Text in several paints, to be kept on one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Paint, String)>);

impl Line {
    /// An empty line.
    pub fn new() -> Line {
        Line::default()
    }

    /// A line in one paint.
    pub fn of(paint: Paint, text: impl AsRef<str>) -> Line {
        Line::new().with(paint, text)
    }

    /// A line in no paint.
    pub fn plain(text: impl AsRef<str>) -> Line {
        Line::of(Paint::Plain, text)
    }

    /// The same with `text` at its end. Control characters become `?`: a process may be called anything.
    #[must_use]
    pub fn with(mut self, paint: Paint, text: impl AsRef<str>) -> Line {
        let text = clean(text.as_ref());
        if !text.is_empty() {
            self.0.push((paint, text));
        }
        self
    }

    /// The same with `other` at its end.
    #[must_use]
    pub fn join(mut self, other: Line) -> Line {
        self.0.extend(other.0);
        self
    }

    /// The same with spaces at its end up to `width` columns.
    #[must_use]
    pub fn pad(self, width: usize) -> Line {
        let missing = width.saturating_sub(self.width());
        self.with(Paint::Plain, " ".repeat(missing))
    }

    /// The same with spaces before it up to `width` columns.
    #[must_use]
    pub fn pad_left(self, width: usize) -> Line {
        let missing = width.saturating_sub(self.width());
        Line::plain(" ".repeat(missing)).join(self)
    }

    /// Columns it takes on a terminal.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// How many spaces it begins with.
    pub fn indent(&self) -> usize {
        self.0.first().map_or(0, |(_, text)| text.len() - text.trim_start_matches(' ').len())
    }

    /// Itself, if it takes at most `width` columns; else its text in its first paint, wrapped to that.
    pub fn fold(self, width: usize) -> Vec<Line> {
        if self.width() <= width {
            return vec![self];
        }
        let paint = self.0.first().map_or(Paint::Plain, |(paint, _)| *paint);
        let text: String = self.0.into_iter().map(|(_, text)| text).collect();
        wrap(&text, width, width).into_iter().map(|line| Line::of(paint, line)).collect()
    }

    /// Whether there is nothing on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same cut to `width` columns, with `mark` at the cut.
    #[must_use]
    pub fn clip(self, width: usize, mark: &str) -> Line {
        if self.width() <= width {
            return self;
        }
        let mut room = width.saturating_sub(mark.width());
        let mut clipped = Line::new();
        for (paint, text) in self.0 {
            let head = head(&text, room);
            room -= head.width();
            let cut = head.len() < text.len();
            clipped = clipped.with(paint, head);
            if cut {
                break;
            }
        }
        if mark.width() <= width { clipped.with(Paint::Faint, mark) } else { clipped }
    }

    /// Writes it, without spaces at the end.
    pub fn render(&self, colour: bool, out: &mut String) {
        let last = self.0.iter().rposition(|(_, text)| !text.trim_end().is_empty());
        for (index, (paint, text)) in self.0.iter().enumerate() {
            let text = match last {
                None => break,
                Some(last) if index > last => break,
                Some(last) if index == last => text.trim_end(),
                Some(_) => text.as_str(),
            };
            if colour && *paint != Paint::Plain {
                let style = paint.style();
                out.push_str(&format!("{style}{text}{style:#}"));
            } else {
                out.push_str(text);
            }
        }
    }
}

/// The longest beginning of `text` that takes at most `width` columns.
pub fn head(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > width {
            return &text[..at];
        }
    }
    text
}

/// `text` without characters that move the cursor, change the terminal or turn the direction of writing.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => '?',
            '\u{feff}' | '\u{e0000}'..='\u{e0fff}' => '?',
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

/// What is not to be parted at the end of a line: words, and numbers with their `%`.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(number) if word.starts_with('%') && number.ends_with(|c: char| c.is_ascii_digit()) => {
                number.push(' ');
                number.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// `text` in lines of at most `width` columns, broken at spaces, or within a word that is wider than that, such as a long
/// URL. The first line has only `first` columns; it is empty if not even a word fits.
pub fn wrap(text: &str, first: usize, width: usize) -> Vec<String> {
    let text = clean(text);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in words(&text) {
        let mut word = word.as_str();
        loop {
            let room = if lines.is_empty() { first } else { width.max(1) };
            let space = usize::from(!line.is_empty());
            if line.width() + space + word.width() <= room {
                line.extend([" "].repeat(space));
                line.push_str(word);
                break;
            }
            if !line.is_empty() || (lines.is_empty() && first < width) {
                lines.push(std::mem::take(&mut line));
                continue;
            }
            // Wider than a whole line. A single character wider than the page has to go somewhere.
            let part = match head(word, room) {
                "" => &word[..word.chars().next().map_or(0, char::len_utf8)],
                part => part,
            };
            lines.push(part.to_owned());
            word = &word[part.len()..];
            if word.is_empty() {
                break;
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(line: &Line, colour: bool) -> String {
        let mut out = String::new();
        line.render(colour, &mut out);
        out
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        let line = Line::plain("squid\u{1b}[2J\u{7}\u{202e}x\n");
        assert_eq!(rendered(&line, true), "squid?[2J??x?");
        assert_eq!(wrap("a\u{1b}b", 10, 10), ["a?b"]);
    }

    #[test]
    fn widths_count_columns_not_bytes() {
        assert_eq!(Line::plain("\u{2588}\u{2588}").width(), 2);
        assert_eq!(Line::plain("\u{6f22}\u{5b57}").width(), 4);
        assert_eq!(rendered(&Line::plain("\u{6f22}\u{5b57}xy").clip(4, "~"), false), "\u{6f22}~");
    }

    #[test]
    fn clipping_keeps_what_fits_and_marks_the_cut() {
        let line = Line::plain("abc").with(Paint::Strong, "def");
        assert_eq!(rendered(&line.clone().clip(6, "~"), false), "abcdef");
        assert_eq!(rendered(&line.clone().clip(5, "~"), false), "abcd~");
        assert_eq!(rendered(&line.clip(0, "~"), false), "");
    }

    #[test]
    fn wrapping_breaks_at_spaces_and_long_words() {
        assert_eq!(wrap("one two three", 7, 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4, 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("\u{6f22}", 1, 1), ["\u{6f22}"]);
        assert_eq!(wrap("one two three", 3, 9), ["one", "two three"]);
        assert_eq!(wrap("three", 2, 9), ["", "three"]);
        assert!(wrap("  ", 4, 4).is_empty());
    }

    #[test]
    fn a_number_keeps_its_sign() {
        assert_eq!(wrap("up to 49 %, traced", 8, 8), ["up to", "49 %,", "traced"]);
        assert_eq!(wrap("(5 of 9, 55 %): of % 3", 12, 12), ["(5 of 9,", "55 %): of %", "3"]);
        assert_eq!(wrap("100 % 2", 3, 3), ["100", " %", "2"]);
    }

    #[test]
    fn a_url_is_cut_only_where_it_is_wider_than_a_line() {
        let url = "https://example.org/a/b";
        assert_eq!(wrap(&format!("see {url}"), 23, 23), ["see", url]);
        assert_eq!(wrap(&format!("see {url}"), 12, 23), ["see", url]);
        assert_eq!(wrap(&format!("see {url}"), 22, 22), ["see", "https://example.org/a/", "b"]);
    }

    #[test]
    fn colour_is_only_where_it_is_asked_for() {
        let line = Line::of(Paint::Critical, "no").with(Paint::Plain, " ports  ");
        assert_eq!(rendered(&line, false), "no ports");
        assert_eq!(rendered(&line, true), "\u{1b}[1m\u{1b}[31mno\u{1b}[0m ports");
    }
}
