//! The lab's headline tables: what was measured, beside what arithmetic says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::Host;

/// The value of [`TableRun::schema`].
pub const SCHEMA: &str = "tidewait.lab-table/1";

/// What `tidewait lab run seed-table --json` and its like print.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.lab-table/1")]
pub struct TableRun {
    /// Always `tidewait.lab-table/1`.
    pub schema: String,
    /// The machine whose kernel was measured.
    pub host: Host,
    /// Its processors: how many, and which, as /proc/cpuinfo calls them.
    pub processors: String,
    /// How large a run it was.
    pub size: Size,
    /// What came of it; an experiment may have several tables.
    pub tables: Vec<Table>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// The stock range where that matters.
    Full,
    /// Few ports: ends in a minute or so.
    Quick,
    /// As little as shows that it works: the figures mean nothing.
    Tiny,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// What it is called by.
    pub table: String,
    /// What it shows, in a sentence.
    pub title: String,
    /// What stands in each column.
    pub columns: Vec<Column>,
    /// The rows; each has a cell for each column.
    pub rows: Vec<Vec<Cell>>,
    /// What a reader has to know: how it was measured, and what follows.
    pub notes: Vec<String>,
}

/// What stands in a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// What its numbers are in.
    pub unit: Unit,
    /// Where they come from.
    pub basis: Basis,
}

/// What the numbers of a column are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Words.
    Text,
    /// How many.
    Count,
    /// How many a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
    /// Percent.
    Percent,
    /// How many times as much.
    Times,
}

/// Where the figures of a column come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// What was set for the row.
    Given,
    /// Arithmetic.
    Reckoned,
    /// Seen.
    Measured,
}

/// What stands in a row under a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// A number in the unit of the column.
    Number(f64),
    /// Its end was not reached: at least so much.
    AtLeast(f64),
    /// Words.
    Text(String),
    /// Why there is nothing: what this kernel or this build lacks.
    Missing(String),
}

impl Column {
    /// What was set for the row.
    pub fn given(name: &str, unit: Unit) -> Column {
        Column { name: name.to_owned(), unit, basis: Basis::Given }
    }

    /// What arithmetic says.
    pub fn reckoned(name: &str, unit: Unit) -> Column {
        Column { basis: Basis::Reckoned, ..Column::given(name, unit) }
    }

    /// What was seen.
    pub fn measured(name: &str, unit: Unit) -> Column {
        Column { basis: Basis::Measured, ..Column::given(name, unit) }
    }
}

impl Cell {
    /// Words.
    pub fn text(words: impl Into<String>) -> Cell {
        Cell::Text(words.into())
    }

    /// A count.
    pub fn count(number: u64) -> Cell {
        Cell::Number(number as f64)
    }

    /// The number, where there is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Cell::Number(number) | Cell::AtLeast(number) => Some(*number),
            Cell::Text(_) | Cell::Missing(_) => None,
        }
    }
}

impl Table {
    /// The column of a name, counted from 0.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Why cells are empty: each reason once, in the order in which it occurs.
    pub fn missing(&self) -> Vec<&str> {
        let mut reasons: Vec<&str> = Vec::new();
        for cell in self.rows.iter().flatten() {
            if let Cell::Missing(reason) = cell
                && !reasons.contains(&reason.as_str())
            {
                reasons.push(reason);
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_given_once_and_cells_speak_json() {
        let missing = |why: &str| Cell::Missing(why.to_owned());
        let table = Table {
            table: "t".to_owned(),
            title: "T".to_owned(),
            columns: vec![Column::given("a", Unit::Text), Column::measured("b", Unit::Count)],
            rows: vec![
                vec![missing("no steer"), Cell::count(7)],
                vec![missing("no reap"), missing("no steer")],
            ],
            notes: Vec::new(),
        };
        assert_eq!(table.missing(), ["no steer", "no reap"]);
        assert_eq!(table.column("b"), Some(1));
        assert_eq!(Cell::AtLeast(2.0).number(), Some(2.0));
        let json = serde_json::to_string(&table.rows[0]).unwrap();
        assert_eq!(json, r#"[{"missing":"no steer"},{"number":7.0}]"#);
    }
}
