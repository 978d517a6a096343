//! What a setting takes when it is written: ranges and choices in data, and the check that refuses the rest.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::Setting;
use crate::observation::Settings;
use crate::ports::PortRange;

/// From one number to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Span {
    /// The least.
    pub min: i64,
    /// The greatest.
    pub max: i64,
}

impl Span {
    /// Whether `number` lies within.
    pub fn contains(self, number: i64) -> bool {
        (self.min..=self.max).contains(&number)
    }
}

/// `min` to `max`.
pub(crate) const fn span(min: i64, max: i64) -> Span {
    Span { min, max }
}

/// What an `int` of the kernel without further check takes.
pub(crate) const INT: Span = span(i32::MIN as i64, i32::MAX as i64);

/// What one byte takes (`proc_dou8vec_minmax`).
pub(crate) const BYTE: Span = span(0, u8::MAX as i64);

/// The seconds that every kernel takes where it keeps them in ticks: `INT_MAX / HZ`, with the highest HZ, 1000
/// (`proc_dointvec_jiffies`).
pub const SECONDS: Span = span(-2_147_483, 2_147_483);

/// One of a few values, and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Choice {
    /// What is written.
    pub value: i64,
    /// What it does, as a sentence without its full stop.
    pub word: &'static str,
}

/// Numbers that are taken and do something else than they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Gap {
    /// Which.
    pub of: Span,
    /// What happens instead, and what to write.
    pub why: &'static str,
}

/// What the kernel takes when a setting is written.
///
/// The bounds are those of Linux 5.14 and later. Before that, numbers that now fit a byte were plain integers and taken
/// unchecked; what is refused here made no sense there either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accepts {
    /// A whole number.
    Number {
        /// What the kernel takes.
        kernel: Span,
        /// What makes sense.
        sensible: Span,
        /// Numbers in between that do not do what they say.
        gap: Option<Gap>,
    },
    /// One of a few numbers.
    Choice {
        /// What the kernel takes, which may be more than means anything.
        kernel: Span,
        /// What means something.
        choices: &'static [Choice],
    },
    /// Two ports, the lower one first, with a space between.
    PortRange,
    /// Ports and ranges of ports, with commas between and no spaces: `8080,9000-9009`. May be empty.
    PortList,
    /// Three numbers of pages, none less than the one before.
    Pages,
    /// Nothing: it can only be read.
    Nothing,
}

impl Accepts {
    /// What a choice stands for.
    pub fn word(&self, number: i64) -> Option<&'static str> {
        let Accepts::Choice { choices, .. } = self else { return None };
        choices.iter().find(|choice| choice.value == number).map(|choice| choice.word)
    }

    /// Whether the kernel can have stored this number. What only can be read is believed.
    pub(super) fn can_hold(&self, number: i64) -> bool {
        match self {
            // The lowest HZ allows for ten times what every kernel takes.
            Accepts::Number { kernel, .. } if *kernel == SECONDS => {
                number.unsigned_abs() <= 10 * SECONDS.max.unsigned_abs()
            }
            Accepts::Number { kernel, .. } | Accepts::Choice { kernel, .. } => kernel.contains(number),
            Accepts::PortRange | Accepts::PortList | Accepts::Pages | Accepts::Nothing => true,
        }
    }
}

impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Accepts::Number { sensible: Span { min, max }, gap, .. } => {
                write!(f, "a whole number from {min} to {max}")?;
                gap.map_or(Ok(()), |gap| write!(f, ", except {} to {}", gap.of.min, gap.of.max))
            }
            Accepts::Choice { choices, .. } => {
                for (at, choice) in choices.iter().enumerate() {
                    let before = match at {
                        0 => "",
                        _ if at + 1 == choices.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{before}{}", choice.value)?;
                }
                Ok(())
            }
            Accepts::PortRange => {
                f.write_str("two ports, lower and upper, with a space between: 10240 60999")
            }
            Accepts::PortList => {
                f.write_str("ports and ranges with commas between and no spaces: 8080,9000-9009; or nothing")
            }
            Accepts::Pages => f.write_str("three numbers of pages, none less than the one before"),
            Accepts::Nothing => f.write_str("nothing: it can only be read"),
        }
    }
}

/// What speaks against a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objection {
    /// The kernel refuses it (EINVAL), or some kernels do.
    Refused,
    /// The kernel takes it and stores something else, or part of it.
    Changed,
    /// The kernel stores it, and it does not do what it says.
    Meaningless,
}

/// As much of a value as a message holds.
fn beginning(value: &str) -> String {
    const MOST: usize = 80;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

/// Why a value should not be written. Names the value and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {:?}: {why}", beginning(value))]
pub struct Refusal {
    /// The setting's full name.
    pub setting: &'static str,
    /// The value, as it was given.
    pub value: String,
    /// What speaks against it.
    pub objection: Objection,
    /// Why, and what to write instead.
    pub why: String,
}

/// An objection and its words.
type Problem = (Objection, String);

/// What the kernel takes in one write, a page less its last byte, with room for the line end (`proc_do_large_bitmap`).
/// sysctl(8) writes once and leaves out the rest.
const LONGEST_LIST: usize = 4094;

pub(super) fn check(setting: &Setting, text: &str) -> Result<(), Refusal> {
    let problem = match setting.accepts {
        Accepts::Nothing => Err((Objection::Refused, "it can only be read".to_owned())),
        Accepts::Number { kernel, sensible, gap } => {
            one(text).and_then(|number| in_number(setting, number, kernel, sensible, gap))
        }
        Accepts::Choice { kernel, choices } => one(text).and_then(|number| {
            if choices.iter().any(|choice| choice.value == number) {
                return Ok(());
            }
            let all: Vec<String> =
                choices.iter().map(|choice| format!("{} ({})", choice.value, choice.word)).collect();
            let (objection, what) = if kernel.contains(number) {
                (Objection::Meaningless, "the kernel takes it, but nothing says what it does")
            } else {
                (Objection::Refused, "the kernel refuses it")
            };
            Err((objection, format!("{what}; write {}", all.join(", or "))))
        }),
        Accepts::PortRange => port_range(text),
        Accepts::PortList => port_list(text),
        Accepts::Pages => pages(text),
    };
    problem.map_err(|problem| refusal(setting, text, problem))
}

pub(super) fn check_beside(setting: &Setting, text: &str, others: &Settings) -> Result<(), Refusal> {
    const RANGE: &str = "net.ipv4.ip_local_port_range";
    const START: &str = "net.ipv4.ip_unprivileged_port_start";
    let problem = match setting.name {
        RANGE => {
            let start = others.number(START).unwrap_or(1024);
            PortRange::parse(text).filter(|range| i64::from(range.low) < start).map(|range| {
                format!(
                    "the kernel refuses it: its lower end {} is below {START}, which is {start}; write {start} or more, \
                     or lower that first",
                    range.low
                )
            })
        }
        START => {
            let low = others.port_range().map_or(32_768, |range| i64::from(range.low));
            text.trim().parse().ok().filter(|start: &i64| *start > low).map(|_| {
                format!(
                    "the kernel refuses it: {RANGE} begins at {low}; write {low} or less, or raise that first"
                )
            })
        }
        _ => None,
    };
    problem.map_or(Ok(()), |why| Err(refusal(setting, text, (Objection::Refused, why))))
}

fn refusal(setting: &Setting, text: &str, (objection, why): Problem) -> Refusal {
    Refusal { setting: setting.name, value: text.to_owned(), objection, why }
}

fn in_number(
    setting: &Setting,
    number: i64,
    kernel: Span,
    sensible: Span,
    gap: Option<Gap>,
) -> Result<(), Problem> {
    let Span { min, max } = sensible;
    let unit = setting.unit;
    if !kernel.contains(number) {
        Err((Objection::Refused, format!("the kernel refuses it; write {min} to {max} ({unit})")))
    } else if !sensible.contains(number) {
        let why = format!("the kernel takes it, but it makes no sense; write {min} to {max} ({unit})");
        Err((Objection::Meaningless, why))
    } else if let Some(gap) = gap.filter(|gap| gap.of.contains(number)) {
        Err((Objection::Meaningless, gap.why.to_owned()))
    } else {
        Ok(())
    }
}

/// A text of one number.
fn one(text: &str) -> Result<i64, Problem> {
    numbers(text, 1).map(|numbers| numbers[0])
}

/// A text of `count` numbers, read as strictly as its writer means it: the kernel would also take a text with more
/// numbers and drop those, or with fewer and keep what it has, and read 010 as 8.
fn numbers(text: &str, count: usize) -> Result<Vec<i64>, Problem> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let numbers = words.iter().map(|word| number(word)).collect::<Result<Vec<i64>, Problem>>()?;
    let wanted = match count {
        1 => "a whole number".to_owned(),
        _ => format!("{count} whole numbers with spaces between"),
    };
    match words.len() {
        0 => Err((
            Objection::Changed,
            format!("it is empty, and the kernel would change nothing; write {wanted}"),
        )),
        given if given > count => {
            Err((Objection::Changed, format!("the kernel would drop all but {count}; write {wanted}")))
        }
        given if given < count => Err((
            Objection::Changed,
            format!("the kernel would change the first {given} and keep the rest; write {wanted}"),
        )),
        _ => Ok(numbers),
    }
}

fn number(word: &str) -> Result<i64, Problem> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let other_base =
        digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_alphanumeric();
    if other_base {
        let why = format!(
            "the kernel reads {word} as an octal or hexadecimal number; write it without the leading 0"
        );
        return Err((Objection::Changed, why));
    }
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // A number too long for 64 bits is refused by the kernel like any other that is too large.
    word.parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| (Objection::Refused, format!("{word:?} is no whole number")))
}

fn port_range(text: &str) -> Result<(), Problem> {
    let ends = numbers(text, 2)?;
    let (low, high) = (ends[0], ends[1]);
    if ends.iter().any(|port| !(1..=65_535).contains(port)) {
        Err((Objection::Refused, "the kernel refuses it; ports go from 1 to 65535".to_owned()))
    } else if low > high {
        Err((Objection::Refused, format!("the kernel refuses it: no port lies in it; write {high} {low}")))
    } else {
        Ok(())
    }
}

fn port_list(text: &str) -> Result<(), Problem> {
    let text = text.trim_end_matches('\n');
    if text.is_empty() {
        return Ok(());
    }
    if text.len() > LONGEST_LIST {
        let why = format!(
            "it has {} letters, and sysctl leaves out what is beyond {LONGEST_LIST}; write ranges such as 9000-9009 instead \
             of single ports",
            text.len()
        );
        return Err((Objection::Changed, why));
    }
    let form = "write ports and ranges with commas between and no spaces, as in 8080,9000-9009";
    // One comma at the end is taken as none.
    for part in text.strip_suffix(',').unwrap_or(text).split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (port(low, form)?, port(high, form)?);
        if low > high {
            let why = format!("the kernel refuses {part}: its lower end comes first; write {high}-{low}");
            return Err((Objection::Refused, why));
        }
    }
    Ok(())
}

fn port(word: &str, form: &str) -> Result<i64, Problem> {
    if word.contains(char::is_whitespace) || word.is_empty() {
        return Err((Objection::Refused, format!("the kernel refuses it; {form}")));
    }
    match number(word) {
        Err((Objection::Refused, why)) => Err((Objection::Refused, format!("{why}; {form}"))),
        Ok(0) => Err((Objection::Meaningless, "no port has the number 0; leave it out".to_owned())),
        Ok(port) if !(1..=65_535).contains(&port) => {
            Err((Objection::Refused, format!("the kernel refuses {word}; ports go from 1 to 65535")))
        }
        other => other,
    }
}

fn pages(text: &str) -> Result<(), Problem> {
    let pages = numbers(text, 3)?;
    if pages.iter().any(|pages| *pages < 1) {
        return Err((Objection::Meaningless, "each must be at least 1 page".to_owned()));
    }
    if !pages.is_sorted() {
        let why = "the kernel takes it, but the three are min, pressure and max: none may be less than the one before";
        return Err((Objection::Meaningless, why.to_owned()));
    }
    Ok(())
}
