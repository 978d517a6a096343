//! The text of the file: a header with a checksum, and a block a plan.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use tidewait_model::catalogue::setting;

use super::Kept;

/// How the first line begins, by which the file is known.
const KNOWN_BY: &str = "# Kept over the next boot by tidewait";
/// The first line.
const FIRST: &str = "# Kept over the next boot by tidewait; written by `tidewait tune persist`.";
/// The header's other lines, before the checksum.
const HEADER: &[&str] = &[
    "# Do not edit: tidewait leaves an edited file alone, and finds that out by the checksum. Put what is to win over",
    "# this into a file of your own, with a name that sorts after this one's.",
    "# `tidewait tune unpersist` takes settings out again; deleting the file does the same for all of them.",
];
const CHECKSUM: &str = "# sha256 of the other lines: ";
const PLAN: &str = "# plan ";
const AT: &str = " of ";

/// The file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistedFile {
    /// What is kept, plan by plan, in the order in which it is applied.
    pub blocks: Vec<Kept>,
    /// Whether it was edited by hand.
    pub edited: bool,
    /// Lines that tidewait did not write.
    pub not_understood: Vec<String>,
}

impl PersistedFile {
    /// Everything that is kept, in the order in which it is applied.
    pub fn settings(&self) -> Vec<(String, String)> {
        self.blocks.iter().flat_map(|block| block.settings.iter().cloned()).collect()
    }

    /// Reads the file's text; `None` if it does not begin as the file does.
    pub(super) fn parse(text: &str) -> Option<PersistedFile> {
        let mut lines = text.lines();
        lines.next().filter(|first| first.starts_with(KNOWN_BY))?;
        let mut file =
            PersistedFile { blocks: Vec::new(), edited: !is_intact(text), not_understood: Vec::new() };
        for line in lines {
            if let Some(block) = plan_line(line) {
                file.blocks.push(block);
            } else if let (Some(setting), Some(block)) = (setting_line(line), file.blocks.last_mut()) {
                block.settings.push(setting);
            } else if file.edited
                && !line.is_empty()
                && !HEADER.contains(&line)
                && !line.starts_with(CHECKSUM)
            {
                file.not_understood.push(line.to_owned());
            }
        }
        Some(file)
    }
}

/// Whether the checksum fits. Words of the header may differ: another version wrote them.
fn is_intact(text: &str) -> bool {
    let Some(begin) = text.find(&format!("\n{CHECKSUM}")).map(|at| at + 1) else { return false };
    let Some(length) = text[begin..].find('\n').map(|at| at + 1) else { return false };
    let (line, rest) = text[begin..].split_at(length);
    line[CHECKSUM.len()..].trim_end() == checksum(&text[..begin], rest)
}

pub(super) fn checksum(before: &str, after: &str) -> String {
    let mut sum = Sha256::new();
    sum.update(before.as_bytes());
    sum.update(after.as_bytes());
    sum.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Whether a plan's id can stand in the file.
pub(super) fn is_plan_id(plan: &str) -> bool {
    !plan.is_empty() && plan.len() <= 128 && plan.chars().all(|c| c.is_ascii_graphic())
}

fn plan_line(line: &str) -> Option<Kept> {
    let (plan, at) = line.strip_prefix(PLAN)?.split_once(AT)?;
    at.parse::<jiff::Timestamp>().ok()?;
    is_plan_id(plan).then(|| Kept { plan: plan.to_owned(), at: at.to_owned(), settings: Vec::new() })
}

fn setting_line(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(" = ")?;
    let tidy = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let row = setting(name).filter(|_| tidy == value && !value.contains(char::is_control))?;
    Some((row.name.to_owned(), tidy))
}

/// The whole text that keeps `blocks`.
///
/// A value stands as it is: systemd-sysctl, procps and busybox take everything after the first `=`, less white space
/// around it; quotes would become part of it. An empty one is written with the space before it, `name = `: systemd and
/// procps 4 then empty the setting; busybox takes the line without it for a broken one, and with it writes nothing, so that
/// the setting stays as it is; procps 3 passes the line over.
pub(super) fn render(blocks: &[Kept]) -> String {
    let mut head = format!("{FIRST}\n");
    for line in HEADER {
        head.push_str(line);
        head.push('\n');
    }
    let mut body = String::new();
    for block in blocks {
        let _ = writeln!(body, "\n{PLAN}{}{AT}{}", block.plan, block.at);
        for (name, value) in &block.settings {
            let _ = writeln!(body, "{name} = {value}");
        }
    }
    let sum = checksum(&head, &body);
    format!("{head}{CHECKSUM}{sum}\n{body}")
}
