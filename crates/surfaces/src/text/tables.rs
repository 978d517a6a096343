//! The lab's headline tables: columns where they fit, else a paragraph a row; what is missing is named below.

use tidewait_model::table::{Basis, Cell, Column, Table, Unit};

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// Between two columns.
const GAP: usize = 2;

/// A table with its notes.
pub fn write(paper: &mut Paper<'_>, table: &Table) {
    paper.heading(&table.title);
    let ascii = paper.page().ascii;
    let cells: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| {
            row.iter().zip(&table.columns).map(|(cell, column)| text(cell, column.unit, ascii)).collect()
        })
        .collect();
    let widths: Vec<usize> = table
        .columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let widest = cells.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(longest_word(&column.name))
        })
        .collect();
    if widths.iter().sum::<usize>() + GAP * widths.len() <= paper.width() {
        columns(paper, table, &cells, &widths);
    } else {
        paragraphs(paper, table, &cells);
    }
    for reason in table.missing() {
        paper.prose(Line::plain("  ").with(Paint::Warning, "? "), Paint::Plain, reason);
    }
    for note in &table.notes {
        paper.prose(Line::plain("  "), Paint::Faint, note);
    }
}

/// Headings of as many lines as they need, and a line a row.
fn columns(paper: &mut Paper<'_>, table: &Table, cells: &[Vec<String>], widths: &[usize]) {
    let heads: Vec<Vec<String>> =
        table.columns.iter().zip(widths).map(|(column, width)| folded(&column.name, *width)).collect();
    let height = heads.iter().map(Vec::len).max().unwrap_or(0);
    for level in 0..height {
        let words = heads.iter().map(|head| {
            // The last lines of all stand on one level.
            (level + head.len()).checked_sub(height).and_then(|at| head.get(at)).map_or("", String::as_str)
        });
        paper.line(row(words, &table.columns, widths, |_| Paint::Faint));
    }
    for cells in cells {
        let paint = |column: &Column| match column.basis {
            Basis::Measured => Paint::Strong,
            Basis::Given | Basis::Reckoned => Paint::Plain,
        };
        paper.line(row(cells.iter().map(String::as_str), &table.columns, widths, paint));
    }
}

fn row<'a>(
    cells: impl Iterator<Item = &'a str>,
    columns: &[Column],
    widths: &[usize],
    paint: impl Fn(&Column) -> Paint,
) -> Line {
    let mut line = Line::new();
    for ((cell, column), width) in cells.zip(columns).zip(widths) {
        let cell = Line::of(paint(column), cell);
        let cell = if column.unit == Unit::Text { cell.pad(*width) } else { cell.pad_left(*width) };
        line = line.with(Paint::Plain, " ".repeat(GAP)).join(cell);
    }
    line
}

/// For a narrow page.
fn paragraphs(paper: &mut Paper<'_>, table: &Table, cells: &[Vec<String>]) {
    for cells in cells {
        let facts = table.columns.iter().zip(cells).map(|(column, cell)| {
            Line::of(Paint::Faint, format!("{} ", column.name)).with(Paint::Plain, cell)
        });
        paper.flow(2, facts);
    }
}

/// A cell in words, its unit with it.
pub fn text(cell: &Cell, unit: Unit, ascii: bool) -> String {
    let figure = |number: f64| match unit {
        Unit::Text | Unit::Count => number::count(number.round() as u64),
        Unit::PerSecond => format!("{}/s", number::rate(number)),
        Unit::Seconds if number < 10.0 => format!("{number:.1} s"),
        Unit::Seconds => format!("{number:.0} s"),
        Unit::Microseconds if ascii => format!("{} us", number::rate(number)),
        Unit::Microseconds => format!("{} \u{b5}s", number::rate(number)),
        Unit::Percent => format!("{number:.0} %"),
        Unit::Times => format!("{number:.2}"),
    };
    match cell {
        Cell::Number(number) => figure(*number),
        Cell::AtLeast(number) if ascii => format!(">= {}", figure(*number)),
        Cell::AtLeast(number) => format!("\u{2265} {}", figure(*number)),
        Cell::Text(words) => words.clone(),
        Cell::Missing(_) => "?".to_owned(),
    }
}

fn longest_word(text: &str) -> usize {
    text.split(' ').map(|word| word.chars().count()).max().unwrap_or(0)
}

/// The words of a heading on lines of at most that width, or of its longest word.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::Page;
    use super::*;

    /// A table in which everything occurs.
    pub(crate) fn sample() -> Table {
        Table {
            table: "fill-table".to_owned(),
            title: "Connections a second, by how much of the range is in use".to_owned(),
            columns: vec![
                Column::given("in use", Unit::Percent),
                Column::given("held by", Unit::Text),
                Column::reckoned("ports that are free", Unit::Count),
                Column::measured("stock", Unit::PerSecond),
                Column::measured("steered", Unit::PerSecond),
                Column::measured("median of connect()", Unit::Microseconds),
            ],
            rows: vec![
                vec![
                    Cell::Number(10.0),
                    Cell::text("TIME_WAIT"),
                    Cell::count(25_409),
                    Cell::Number(40_123.0),
                    Cell::Missing("this build has no `tidewait exec`".to_owned()),
                    Cell::Number(11.4),
                ],
                vec![
                    Cell::Number(99.0),
                    Cell::text("live"),
                    Cell::count(282),
                    Cell::AtLeast(675.0),
                    Cell::Missing("this build has no `tidewait exec`".to_owned()),
                    Cell::Number(1_500.0),
                ],
            ],
            notes: vec!["One thread connects, accepts and resets.".to_owned()],
        }
    }

    fn page(width: usize) -> String {
        let page = Page { width, ascii: true, ..Page::default() };
        let mut paper = Paper::new(&page);
        write(&mut paper, &sample());
        paper.finish()
    }

    #[test]
    fn figures_stand_below_their_headings_and_gaps_are_explained_once() {
        let text = page(80);
        assert!(text.contains("  10 %  TIME_WAIT  25,409  40,123/s        ?      11 us\n"), "{text}");
        assert!(text.contains("  99 %  live          282  >= 675/s        ?   1,500 us\n"), "{text}");
        assert_eq!(text.matches("this build has no `tidewait exec`").count(), 1, "{text}");
        assert!(text.contains("One thread connects"), "{text}");
    }

    #[test]
    fn nothing_is_wider_than_the_page() {
        for width in [20, 40, 60, 80, 120] {
            let text = page(width);
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width, "{width}:\n{text}");
        }
    }
}
