//! A record of the journal, and the line that it is.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidewait_model::tune::{Entry, State, Undoing};

/// The format that this program writes.
pub(super) const VERSION: u64 = 1;

/// Hexadecimal digits of the checksum.
const SUM: usize = 16;

/// What comes before the checksum and after it.
const BEFORE: &str = "{\"sum\":\"";
const AFTER: &str = "\",";

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Record {
    /// The journal was begun.
    Journal {
        /// Its format.
        version: u64,
    },
    /// A change is about to be made: its whole undo.
    Begin(Box<Entry>),
    /// All of it was written.
    Applied {
        /// The entry.
        number: u64,
        /// When, RFC 3339 in UTC.
        at: String,
    },
    /// It was confirmed.
    Confirmed {
        /// The entry.
        number: u64,
        /// When, RFC 3339 in UTC.
        at: String,
    },
    /// It was undone.
    Undone {
        /// The entry.
        number: u64,
        /// When, RFC 3339 in UTC.
        at: String,
        /// Why.
        why: Undoing,
        /// Settings that were left as they are, because somebody else had changed them.
        #[serde(default)]
        left: Vec<String>,
    },
    /// Settings were written into the file that keeps them across a restart, or taken out of it.
    Kept {
        /// When, RFC 3339 in UTC.
        at: String,
        /// The file.
        file: String,
        /// What is in it now, as `name=value`; empty: it was removed.
        settings: Vec<String>,
    },
}

impl Record {
    /// Brings the entries up to date with it.
    pub(super) fn fold_into(&self, entries: &mut Vec<Entry>) {
        let (number, state) = match self {
            Record::Journal { .. } | Record::Kept { .. } => return,
            Record::Begin(entry) => {
                // Numbers rise, unless somebody had a hand in it.
                if entries.last().is_some_and(|last| last.number >= entry.number) {
                    entries.retain(|other| other.number != entry.number);
                }
                return entries.push((**entry).clone());
            }
            Record::Applied { number, at } => (number, State::Applied { at: at.clone() }),
            Record::Confirmed { number, at } => (number, State::Confirmed { at: at.clone() }),
            Record::Undone { number, at, why, left } => {
                (number, State::Undone { at: at.clone(), why: *why, left: left.clone() })
            }
        };
        // What becomes of a change follows soon after it.
        if let Some(entry) = entries.iter_mut().rev().find(|entry| entry.number == *number) {
            entry.state = state;
        }
    }
}

/// What a line turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// A record, and the number that the line says it has.
    Record {
        /// The line it was written as, from 1 on.
        number: u64,
        /// What it says.
        record: Record,
    },
    /// Whole, but of a kind that is not known.
    Unknown,
    /// Not what was written.
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct Numbered {
    line: u64,
    #[serde(flatten)]
    record: Record,
}

/// The line of a record, line end included.
pub(super) fn write_line(number: u64, record: &Record) -> String {
    // Texts and numbers: nothing that JSON could not hold.
    let whole = serde_json::to_string(&Numbered { line: number, record: record.clone() }).unwrap_or_default();
    let rest = whole.strip_prefix('{').unwrap_or_default();
    format!("{BEFORE}{}{AFTER}{rest}\n", sum(rest))
}

/// Reads a line without its end.
pub(super) fn read_line(line: &[u8]) -> Line {
    let Ok(text) = std::str::from_utf8(line) else { return Line::Damaged };
    let parts = text.strip_prefix(BEFORE).and_then(|text| text.split_at_checked(SUM));
    let Some((said, rest)) = parts.and_then(|(said, rest)| Some((said, rest.strip_prefix(AFTER)?))) else {
        return Line::Damaged;
    };
    if sum(rest) != said {
        return Line::Damaged;
    }
    match serde_json::from_str(&format!("{{{rest}")) {
        Ok(Numbered { line, record }) => Line::Record { number: line, record },
        Err(_) => Line::Unknown,
    }
}

fn sum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(SUM / 2).map(|byte| format!("{byte:02x}")).collect()
}
