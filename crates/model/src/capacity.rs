//! The arithmetic of ports: how many connections a second a number of ports can carry, and the other way round.
//!
//! A connection that closes here keeps its local port for the length of TIME_WAIT. So, in the long run,
//!
//! ```text
//! rate = ports x sources x destinations / time_wait_seconds
//! ```
//!
//! and any one of the five follows from the other four. Half the ports matter as much as all of them:
//! connect() searches the ports of one parity first (net/ipv4/inet_hashtables.c `__inet_hash_connect`), and
//! once those are taken each connect() walks through them in vain. Every answer therefore has two figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod presets;

pub use presets::{PRESETS, Preset, preset};

/// The value of [`Capacity::schema`].
pub const SCHEMA: &str = "tidewait.capacity/1";

/// Ports from 1024, the first that needs no privilege, to 65535: what a port range usually has at most.
pub const PORTS_ABOVE_1023: u32 = 64_512;

/// TCP ports there are: 1 to 65535.
const PORTS: u32 = 65_535;

/// The lengths of TIME_WAIT that the table goes through, in seconds.
const TABLE_SECONDS: [f64; 5] = [60.0, 30.0, 15.0, 10.0, 1.0];

/// Whole numbers up to here are exact in an `f64`; more connections than this are nobody's question.
const EXACT: u64 = 1 << 53;

/// One of the five quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Connections a second.
    RatePerSecond,
    /// Local ports that may be used for one source and destination.
    Ports,
    /// Seconds that a closed connection keeps its port.
    TimeWaitSeconds,
    /// Source addresses.
    Sources,
    /// Destinations: remote addresses and ports.
    Destinations,
}

impl Quantity {
    /// All five, in the order in which they are shown.
    pub const ALL: [Quantity; 5] = [
        Quantity::RatePerSecond,
        Quantity::Ports,
        Quantity::TimeWaitSeconds,
        Quantity::Sources,
        Quantity::Destinations,
    ];

    /// Its name in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Quantity::RatePerSecond => "rate",
            Quantity::Ports => "ports",
            Quantity::TimeWaitSeconds => "TIME_WAIT seconds",
            Quantity::Sources => "source addresses",
            Quantity::Destinations => "destinations",
        }
    }
}

/// The five quantities, any of them unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantities {
    /// Connections a second, 0.001 to 1000000000.
    pub rate_per_second: Option<f64>,
    /// Local ports that may be used for one source and destination, 1 to 65535.
    pub ports: Option<u32>,
    /// Seconds that a closed connection keeps its port, 0.001 to 86400.
    pub time_wait_seconds: Option<f64>,
    /// Source addresses, at least 1.
    pub sources: Option<u32>,
    /// Destinations, at least 1.
    pub destinations: Option<u32>,
}

/// What is asked, and what to take for that which is not said.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What the asker gave.
    pub given: Quantities,
    /// What is taken where the asker gave nothing; its rate is not looked at.
    pub defaults: Quantities,
    /// Where the defaults are from: `this machine`, `preset aws-nat-gateway`.
    pub defaults_from: String,
    /// Whether connect() on Linux chooses the ports, so that the half-range figure means something.
    pub half_range: bool,
    /// The preset that the number of ports is from.
    pub preset: Option<&'static Preset>,
}

/// What `tidewait capacity --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.capacity/1")]
pub struct Capacity {
    /// Always `tidewait.capacity/1`.
    pub schema: String,
    /// What was given or taken for granted; null for what is only in the answers.
    pub known: Quantities,
    /// Which of the known quantities nobody gave.
    pub assumed: Vec<Quantity>,
    /// Where those are from.
    pub assumed_from: String,
    /// The preset that was asked for.
    pub preset: Option<PresetNote>,
    /// The answers: one, or one for each quantity that could be changed to reach the rate.
    pub answers: Vec<Answer>,
    /// The same at other lengths of TIME_WAIT.
    pub table: Table,
}

/// What a preset means, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresetNote {
    /// What it is called on the command line.
    pub id: String,
    /// What it is.
    pub title: String,
    /// What its number of ports means, and what it does not say.
    pub meaning: String,
    /// Where its figures are from.
    pub source: String,
}

/// One quantity found from the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// Which quantity.
    pub quantity: Quantity,
    /// Its value with all ports in use. Needed ports, sources and destinations are whole numbers, TIME_WAIT
    /// seconds are rounded down to a tenth, a rate is not rounded.
    pub value: f64,
    /// Its value with no more than half the ports in use, so that connect() stays fast; null where that does
    /// not apply, or cannot be reached.
    pub half_range_value: Option<f64>,
    /// Whether there can be so many or so few.
    pub possible: bool,
    /// What it takes, or why it is not possible.
    pub note: Option<String>,
}

/// One quantity at several lengths of TIME_WAIT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// What the values are.
    pub quantity: Quantity,
    /// The rows, longest TIME_WAIT first.
    pub rows: Vec<Row>,
}

/// A row of [`Table`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Seconds of TIME_WAIT.
    pub time_wait_seconds: f64,
    /// The value with all ports in use.
    pub value: f64,
    /// The value with no more than half of them in use; null where that does not apply.
    pub half_range_value: Option<f64>,
}

/// Why a question has no answer; the text names the input and the remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CapacityError {
    /// A number that cannot be.
    #[error("{} {value}: give {expected}", quantity.words())]
    OutOfRange {
        /// Which quantity.
        quantity: Quantity,
        /// The value that was given.
        value: String,
        /// What may be given.
        expected: &'static str,
    },
    /// All five were given.
    #[error(
        "rate, ports, TIME_WAIT seconds, source addresses and destinations are all given: leave out the one to be found"
    )]
    NothingToFind,
    /// More than one is missing.
    #[error("{}: only one can be found from the others; give all but one", list(missing))]
    Undetermined {
        /// What is missing.
        missing: Vec<Quantity>,
    },
    /// The product is beyond all sense.
    #[error(
        "ports x source addresses x destinations is more than 9,007,199,254,740,992 connections: give fewer source addresses or destinations"
    )]
    TooLarge,
}

fn list(quantities: &[Quantity]) -> String {
    quantities.iter().map(|quantity| quantity.words()).collect::<Vec<_>>().join(", ")
}

/// Connections a second that `connections` ports, counted over all sources and destinations, can carry.
fn carried(connections: u64, time_wait_seconds: f64) -> f64 {
    connections as f64 / time_wait_seconds
}

/// A rate as it is shown: whole connections, rounded down, but not because of the last bit of a division.
pub fn whole_rate(rate: f64) -> u64 {
    (rate * (1.0 + 1e-12)).floor() as u64
}

impl Quantities {
    fn is_known(&self, quantity: Quantity) -> bool {
        match quantity {
            Quantity::RatePerSecond => self.rate_per_second.is_some(),
            Quantity::Ports => self.ports.is_some(),
            Quantity::TimeWaitSeconds => self.time_wait_seconds.is_some(),
            Quantity::Sources => self.sources.is_some(),
            Quantity::Destinations => self.destinations.is_some(),
        }
    }

    /// The same with `quantity` unknown.
    fn without(mut self, quantity: Quantity) -> Quantities {
        match quantity {
            Quantity::RatePerSecond => self.rate_per_second = None,
            Quantity::Ports => self.ports = None,
            Quantity::TimeWaitSeconds => self.time_wait_seconds = None,
            Quantity::Sources => self.sources = None,
            Quantity::Destinations => self.destinations = None,
        }
        self
    }

    /// The same with what is unknown taken from `defaults`, the rate excepted.
    fn or(self, defaults: Quantities) -> Quantities {
        Quantities {
            rate_per_second: self.rate_per_second,
            ports: self.ports.or(defaults.ports),
            time_wait_seconds: self.time_wait_seconds.or(defaults.time_wait_seconds),
            sources: self.sources.or(defaults.sources),
            destinations: self.destinations.or(defaults.destinations),
        }
    }

    fn check(&self) -> Result<(), CapacityError> {
        let refuse = |quantity, value: &dyn ToString, expected| {
            Err(CapacityError::OutOfRange { quantity, value: value.to_string(), expected })
        };
        if let Some(rate) = self.rate_per_second
            && !(0.001..=1e9).contains(&rate)
        {
            let expected = "connections a second, 0.001 to 1000000000";
            return refuse(Quantity::RatePerSecond, &rate, expected);
        }
        if let Some(seconds) = self.time_wait_seconds
            && !(0.001..=86_400.0).contains(&seconds)
        {
            let expected = "seconds, 0.001 to 86400";
            return refuse(Quantity::TimeWaitSeconds, &seconds, expected);
        }
        if let Some(ports) = self.ports
            && !(1..=PORTS).contains(&ports)
        {
            let expected =
                "1 to 65535 (a range that begins at 1024 has 64512); for more, raise the source addresses";
            return refuse(Quantity::Ports, &ports, expected);
        }
        for (quantity, value) in
            [(Quantity::Sources, self.sources), (Quantity::Destinations, self.destinations)]
        {
            if value == Some(0) {
                return refuse(quantity, &0, "1 or more");
            }
        }
        let connections = [self.ports, self.sources, self.destinations]
            .into_iter()
            .flatten()
            .try_fold(1_u64, |product, factor| product.checked_mul(u64::from(factor)));
        match connections {
            Some(connections) if connections <= EXACT => Ok(()),
            _ => Err(CapacityError::TooLarge),
        }
    }

    /// The one quantity that is unknown, found from the other four, with `share` of the ports in use: 1, or 2
    /// for one half. `None` where no value reaches the rate.
    fn solve(&self, quantity: Quantity, share: u32) -> Option<f64> {
        // Whatever is asked, `carried` is the truth: a rounded answer is the smallest (or, for TIME_WAIT, the
        // largest) that carries the rate by the same division that finds the rate itself.
        let rate = self.rate_per_second.unwrap_or_default();
        let seconds = self.time_wait_seconds.unwrap_or(1.0);
        let ports = u64::from(self.ports.map_or(1, |ports| ports / share));
        let others = ports * u64::from(self.sources.unwrap_or(1)) * u64::from(self.destinations.unwrap_or(1));
        let reaches = |connections: u64, seconds: f64| carried(connections, seconds) >= rate;
        match quantity {
            Quantity::RatePerSecond => (others > 0).then(|| carried(others, seconds)),
            Quantity::Ports | Quantity::Sources | Quantity::Destinations => {
                if others == 0 {
                    return None;
                }
                let mut needed = ((rate * seconds / others as f64).ceil() as u64).max(1);
                if needed > 1 && reaches((needed - 1).saturating_mul(others), seconds) {
                    needed -= 1;
                } else if !reaches(needed.saturating_mul(others), seconds) {
                    needed += 1;
                }
                let whole =
                    if quantity == Quantity::Ports { needed.saturating_mul(share.into()) } else { needed };
                Some(whole as f64)
            }
            Quantity::TimeWaitSeconds => {
                let mut tenths = (others as f64 * 10.0 / rate).floor();
                if reaches(others, (tenths + 1.0) / 10.0) {
                    tenths += 1.0;
                } else if tenths > 0.0 && !reaches(others, tenths / 10.0) {
                    tenths -= 1.0;
                }
                (tenths > 0.0).then_some(tenths / 10.0)
            }
        }
    }
}

impl Question {
    /// A question about this many ports kept for so many seconds, with one source and one destination, where
    /// the asker gave nothing else.
    pub fn new(given: Quantities, ports: u32, time_wait_seconds: f64, from: impl Into<String>) -> Question {
        let defaults = Quantities {
            rate_per_second: None,
            ports: Some(ports),
            time_wait_seconds: Some(time_wait_seconds),
            sources: Some(1),
            destinations: Some(1),
        };
        Question { given, defaults, defaults_from: from.into(), half_range: true, preset: None }
    }

    /// The same question about the ports of `preset`. Where the preset leaves TIME_WAIT open, the default stays.
    #[must_use]
    pub fn preset(mut self, preset: &'static Preset) -> Question {
        self.defaults.ports = Some(preset.ports);
        self.defaults_from = match preset.time_wait_seconds {
            Some(_) => format!("preset {}", preset.id),
            None => format!("preset {}, TIME_WAIT: {}", preset.id, self.defaults_from),
        };
        self.defaults.time_wait_seconds = preset.time_wait_seconds.or(self.defaults.time_wait_seconds);
        self.half_range = preset.half_range;
        self.preset = Some(preset);
        self
    }

    /// The answers. Without a rate: the rate. With a rate: each of the others in turn that the asker left
    /// open, the rest being as given or as the defaults say.
    ///
    /// # Errors
    /// A value that cannot be, all five given, or a default missing.
    pub fn answers(&self) -> Result<Capacity, CapacityError> {
        self.given.check()?;
        let filled = self.given.or(self.defaults);
        filled.check()?;
        let open: Vec<Quantity> = match self.given.rate_per_second {
            None => vec![Quantity::RatePerSecond],
            Some(_) => Quantity::ALL.into_iter().filter(|quantity| !self.given.is_known(*quantity)).collect(),
        };
        if open.is_empty() {
            return Err(CapacityError::NothingToFind);
        }
        let mut answers = Vec::new();
        for quantity in &open {
            answers.push(self.answer(filled.without(*quantity), *quantity)?);
        }
        let known = if let [only] = open[..] { filled.without(only) } else { filled };
        let assumed = Quantity::ALL
            .into_iter()
            .filter(|quantity| known.is_known(*quantity) && !self.given.is_known(*quantity))
            .collect();
        Ok(Capacity {
            schema: SCHEMA.to_owned(),
            known,
            assumed,
            assumed_from: self.defaults_from.clone(),
            preset: self.preset.map(|preset| PresetNote {
                id: preset.id.to_owned(),
                title: preset.title.to_owned(),
                meaning: preset.meaning.to_owned(),
                source: preset.source.to_owned(),
            }),
            table: self.table(filled, &open),
            answers,
        })
    }

    fn answer(&self, known: Quantities, quantity: Quantity) -> Result<Answer, CapacityError> {
        let missing: Vec<Quantity> =
            Quantity::ALL.into_iter().filter(|quantity| !known.is_known(*quantity)).collect();
        if missing.len() > 1 {
            return Err(CapacityError::Undetermined { missing });
        }
        let value = known.solve(quantity, 1);
        let half_range_value = if self.half_range { known.solve(quantity, 2) } else { None };
        let (possible, note) = verdict(quantity, value);
        Ok(Answer { quantity, value: value.unwrap_or(0.0), half_range_value, possible, note })
    }

    /// The quantity asked for, or the rate if there are several or it is TIME_WAIT itself, by TIME_WAIT.
    fn table(&self, filled: Quantities, open: &[Quantity]) -> Table {
        let quantity = match open {
            [Quantity::TimeWaitSeconds] => Quantity::RatePerSecond,
            [only] => *only,
            _ => Quantity::RatePerSecond,
        };
        let mut lengths = TABLE_SECONDS.to_vec();
        if let Some(own) = filled.time_wait_seconds
            && !lengths.contains(&own)
        {
            lengths.push(own);
            lengths.sort_by(|a, b| b.total_cmp(a));
        }
        let rows = lengths
            .into_iter()
            .filter_map(|seconds| {
                let known = Quantities { time_wait_seconds: Some(seconds), ..filled }.without(quantity);
                Some(Row {
                    time_wait_seconds: seconds,
                    value: known.solve(quantity, 1)?,
                    half_range_value: if self.half_range { known.solve(quantity, 2) } else { None },
                })
            })
            .collect();
        Table { quantity, rows }
    }
}

/// Whether a value can be had, and what it takes.
fn verdict(quantity: Quantity, value: Option<f64>) -> (bool, Option<String>) {
    let Some(value) = value else {
        return (false, Some("not even a tenth of a second of TIME_WAIT would do".to_owned()));
    };
    match quantity {
        Quantity::Ports if value > f64::from(PORTS) => {
            (false, Some("a port range has at most 64,512 from 1024 up".to_owned()))
        }
        Quantity::Ports if value > f64::from(PORTS_ABOVE_1023) => {
            (true, Some("needs ports below 1024 too; a port range has 64,512 from 1024 up".to_owned()))
        }
        _ => (true, None),
    }
}

#[cfg(test)]
mod tests;
