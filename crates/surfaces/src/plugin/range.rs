//! Alert ranges as monitoring plugins write them: `10`, `10:`, `~:10`, `10:20`, `@10:20`.

use std::fmt;
use std::str::FromStr;

/// Values that are no cause for an alert, or with `@` those that are. Both bounds belong to the range.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    low: f64,
    high: f64,
    inside: bool,
    text: String,
}

/// What is wrong with the text of a range: the text, the fault, and the right forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeError {
    text: String,
    fault: &'static str,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is no range: {}. Write 10 (alert above 10 or below 0), 10: (below 10), ~:10 (above 10), 10:20 (outside of \
             10 to 20) or @10:20 (inside)",
            self.text, self.fault
        )
    }
}

impl std::error::Error for RangeError {}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Range, RangeError> {
        let wrong = |fault| RangeError { text: text.to_owned(), fault };
        let body = text.strip_prefix('@');
        let (low, high) = match body.unwrap_or(text).split_once(':') {
            None => (0.0, number(body.unwrap_or(text)).map_err(wrong)?),
            Some((low, high)) => (
                match low {
                    "~" => f64::NEG_INFINITY,
                    "" => 0.0,
                    low => number(low).map_err(wrong)?,
                },
                if high.is_empty() { f64::INFINITY } else { number(high).map_err(wrong)? },
            ),
        };
        if low > high {
            return Err(wrong("it ends before it begins"));
        }
        Ok(Range { low, high, inside: body.is_some(), text: text.to_owned() })
    }
}

/// A number of a range, or what is wrong with it.
fn number(text: &str) -> Result<f64, &'static str> {
    if text.is_empty() {
        return Err("a number is missing");
    }
    if text.contains(',') {
        return Err("decimals are written with a point, thousands are not set apart");
    }
    if text.ends_with(|last: char| last == '%' || last.is_ascii_alphabetic()) {
        return Err("a number stands alone, without a unit");
    }
    // `inf`, `nan` and `1e9` are numbers to Rust and to nobody who sets a threshold.
    let digits = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
    text.parse().ok().filter(|_| digits).ok_or("a number was expected")
}

impl Range {
    /// Whether `value` is cause for an alert.
    pub fn alerts(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value) == self.inside
    }

    /// Which side of the range a value is on that alerts: `above 10`, `below 10`, `within 10 to 20`.
    pub fn breach(&self, value: f64) -> String {
        if self.inside {
            match (self.low.is_finite(), self.high.is_finite()) {
                (true, true) => format!("within {} to {}", self.low, self.high),
                (true, false) => format!("{} or more", self.low),
                _ => format!("{} or less", self.high),
            }
        } else if value > self.high {
            format!("above {}", self.high)
        } else {
            format!("below {}", self.low)
        }
    }

    /// Whether every value that alerts for `self` alerts for `other` too, and `other` for more besides: beside it
    /// `self` is never heard of.
    pub fn is_drowned_by(&self, other: &Range) -> bool {
        let mut bounds: Vec<f64> = [self.low, self.high, other.low, other.high]
            .into_iter()
            .filter(|bound| bound.is_finite())
            .collect();
        bounds.sort_by(f64::total_cmp);
        let mut samples = bounds.clone();
        samples.extend(bounds.windows(2).map(|pair| pair[0] + (pair[1] - pair[0]) / 2.0));
        samples.extend(bounds.first().map(|first| first - 1.0));
        samples.extend(bounds.last().map(|last| last + 1.0));
        let never_alone = samples.iter().all(|value| other.alerts(*value) || !self.alerts(*value));
        never_alone && samples.iter().any(|value| other.alerts(*value) && !self.alerts(*value))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn the_examples_of_the_guidelines() {
        for (text, quiet, loud) in [
            ("10", &[0.0, 10.0, 3.5][..], &[-0.1, 10.1][..]),
            ("10:", &[10.0, 1e9], &[9.99, -5.0]),
            ("~:10", &[-1e9, 10.0], &[10.001]),
            ("10:20", &[10.0, 15.0, 20.0], &[9.0, 21.0]),
            ("@10:20", &[9.9, 20.1], &[10.0, 15.0, 20.0]),
            (":7", &[0.0, 7.0], &[-1.0, 7.5]),
            ("@10", &[-0.5, 10.5], &[0.0, 10.0]),
            ("-5:-2.5", &[-5.0, -3.0], &[-2.0, 0.0]),
            ("~:", &[-1e300, 0.0, 1e300], &[]),
        ] {
            for value in quiet {
                assert!(!range(text).alerts(*value), "{text} at {value}");
            }
            for value in loud {
                assert!(range(text).alerts(*value), "{text} at {value}");
            }
            assert_eq!(range(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_fault_and_the_right_forms() {
        for (text, fault) in [
            ("", "missing"),
            ("@", "missing"),
            ("~", "expected"),
            ("10:~", "expected"),
            ("20:10", "ends before it begins"),
            ("10:20:30", "expected"),
            ("80%", "without a unit"),
            ("30s", "without a unit"),
            ("inf", "without a unit"),
            ("1e9", "expected"),
            ("10,5", "point"),
            ("1.2.3", "expected"),
            ("-", "expected"),
            (" 10", "expected"),
            ("-c", "without a unit"),
        ] {
            let error = text.parse::<Range>().unwrap_err().to_string();
            assert!(error.contains(fault) && error.contains(&format!("'{text}'")), "{error}");
            assert!(error.contains("@10:20"), "{error}");
        }
    }

    #[test]
    fn a_breach_says_on_which_side() {
        assert_eq!(range("30000").breach(31_204.0), "above 30000");
        assert_eq!(range("60:").breach(12.0), "below 60");
        assert_eq!(range("@10:20").breach(12.0), "within 10 to 20");
        assert_eq!(range("@10:").breach(12.0), "10 or more");
        assert_eq!(range("@~:10").breach(1.0), "10 or less");
    }

    #[test]
    fn a_warning_that_could_never_be_seen_is_told() {
        for (warning, critical, drowned) in [
            ("80", "90", false),
            ("90", "80", true),
            ("90", "90", false),
            ("60:", "30:", false),
            ("30:", "60:", true),
            ("10:20", "5:25", false),
            ("5:25", "10:20", true),
            ("@10:20", "@10:30", true),
            ("@10:20", "@15:20", false),
            ("80", "60:", false),
        ] {
            assert_eq!(range(warning).is_drowned_by(&range(critical)), drowned, "-w {warning} -c {critical}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_or_an_error(text in "[@~:.+0-9a-z,-]{0,8}", value in -100.0..100.0) {
            if let Ok(range) = text.parse::<Range>() {
                prop_assert!(!range.breach(value).is_empty());
                prop_assert!(!range.is_drowned_by(&range));
            }
        }
    }
}
