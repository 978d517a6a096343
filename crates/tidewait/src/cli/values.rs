//! Values on the command line: each read and refused in one place, with the words that say what is wanted.

use std::ops::RangeInclusive;
use std::str::FromStr;

use tidewait_diagnose::findings::KINDS;
use tidewait_model::address::{AddressError, second_thought};
use tidewait_model::{AddressFilter, State};
use tidewait_surfaces::plugin::{self, Metric};

/// A time in seconds, or with ms, s, m or h behind it.
pub(super) fn seconds(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    let text = text.trim();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1.0));
    Some(number.trim_end().parse::<f64>().ok()? * unit)
}

pub(super) fn interval(text: &str) -> Result<f64, String> {
    seconds_in(text, 0.1..=86_400.0, "give seconds from 0.1 to 86400")
}

pub(super) fn up_to_an_hour(text: &str) -> Result<f64, String> {
    seconds_in(text, 0.1..=3_600.0, "give seconds from 0.1 to 3600")
}

/// A time that lies in `range`; else `remedy` says what does.
pub(super) fn seconds_in(text: &str, range: RangeInclusive<f64>, remedy: &str) -> Result<f64, String> {
    seconds(text).filter(|seconds| range.contains(seconds)).ok_or_else(|| remedy.to_owned())
}

/// A whole number that lies in `range`; else `remedy` says what does.
pub(super) fn whole<T: FromStr + PartialOrd>(
    text: &str,
    range: RangeInclusive<T>,
    remedy: &str,
) -> Result<T, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| remedy.to_owned())
}

/// An address that was meant otherwise is told of where it is read: what was typed is not known any more later.
pub(super) fn end(text: &str) -> Result<AddressFilter, AddressError> {
    let end = text.parse()?;
    if let Some(thought) = second_thought(text) {
        anstream::eprintln!("tidewait: {thought}");
    }
    Ok(end)
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    whole(text, 1..=u16::MAX, "a port is a number from 1 to 65535")
}

pub(super) fn process(text: &str) -> Result<u32, String> {
    whole(text, 1..=4_194_304, "a process number is one from 1 to 4194304")
}

pub(super) fn events(text: &str) -> Result<u64, String> {
    whole(text, 1..=u64::MAX, "give a number of events from 1 on")
}

pub(super) fn rows(text: &str) -> Result<usize, String> {
    whole(text, 0..=usize::MAX, "give a number of rows, or 0 for all")
}

pub(super) fn how_many(text: &str) -> Result<u32, String> {
    whole(text, 0..=u32::MAX, "give a whole number from 1 on")
}

pub(super) fn jobs(text: &str) -> Result<u8, String> {
    whole(text, 1..=16, "give a number from 1 to 16")
}

/// States that an event can enter.
const ENTERED: [State; 7] = [
    State::SynSent,
    State::Established,
    State::FinWait1,
    State::CloseWait,
    State::LastAck,
    State::TimeWait,
    State::Close,
];

pub(super) fn entered(name: &str) -> Result<State, String> {
    let known = |states: &[State]| states.iter().map(|state| state.key()).collect::<Vec<_>>().join(", ");
    // As `ss` and `netstat` write them, too: FIN-WAIT-1, TIME_WAIT, ESTAB.
    let bare = |name: &str| name.trim().to_ascii_lowercase().replace(['-', '_'], "");
    let given = match bare(name).as_str() {
        "estab" => bare(State::Established.key()),
        "closed" | "unconn" => bare(State::Close.key()),
        given => given.to_owned(),
    };
    match State::ALL.into_iter().find(|state| bare(state.key()) == given) {
        Some(state) if ENTERED.contains(&state) => Ok(state),
        Some(state) => Err(format!(
            "no event is told when a socket enters {}; told are {}",
            state.key(),
            known(&ENTERED)
        )),
        None => Err(format!("known states are {}", known(&ENTERED))),
    }
}

pub(super) fn named(name: &str) -> Result<String, String> {
    match name.trim() {
        "" => Err("give a name".to_owned()),
        name => Ok(name.to_owned()),
    }
}

pub(super) fn metric(name: &str) -> Result<&'static Metric, String> {
    plugin::metric(name).ok_or_else(|| {
        let names: Vec<&str> = plugin::METRICS.iter().map(|metric| metric.name).collect();
        format!("known metrics are {}", names.join(", "))
    })
}

pub(super) fn kind(id: &str) -> Result<String, String> {
    if KINDS.iter().any(|kind| kind.id == id) {
        return Ok(id.to_owned());
    }
    let ids: Vec<&str> = KINDS.iter().map(|kind| kind.id).collect();
    Err(format!("known findings are {}", ids.join(", ")))
}

pub(super) fn preset(name: &str) -> Result<&'static tidewait_model::capacity::Preset, String> {
    tidewait_model::capacity::preset(name).ok_or_else(|| {
        let names: Vec<&str> = tidewait_model::capacity::PRESETS.iter().map(|preset| preset.id).collect();
        format!("known presets are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_a_unit_and_without() {
        for (text, seconds) in [("10", 10.0), ("10s", 10.0), ("500ms", 0.5), ("5m", 300.0), ("1 h", 3_600.0)]
        {
            assert_eq!(interval(text), Ok(seconds), "{text}");
            assert_eq!(up_to_an_hour(text), Ok(seconds), "{text}");
        }
        for text in ["", "s", "0", "-1s", "10ss", "1d", "inf", "NaN", "25h"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
