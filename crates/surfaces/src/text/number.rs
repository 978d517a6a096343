//! Numbers for people: thousands parted, durations in words, shares that never round up to full.

use std::time::Duration;

/// `28232` as `28,232`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `28232` as `28,232`, with its sign.
pub fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", count(number.unsigned_abs()))
}

/// Something counted in the singular or the plural: `1 port`, `2 ports`.
pub fn of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A rate, rounded down from 10 on so that a limit is never overstated: `470`, `8.5`, `0`. `?` if it is none.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        return "?".to_owned();
    }
    if per_second >= 10.0 {
        return count((per_second * (1.0 + 1e-12)).floor() as u64);
    }
    let tenths = (per_second * 10.0).round();
    if tenths == 0.0 && per_second > 0.0 {
        return "<0.1".to_owned();
    }
    if tenths % 10.0 == 0.0 { format!("{:.0}", tenths / 10.0) } else { format!("{:.1}", tenths / 10.0) }
}

/// A share: `12 %`, `<1 %`. Rounded, but 100 % means full. `?` if it is none. The findings say theirs by the same rule
/// (`percent` in diagnose's words).
pub fn percent(share: f64) -> String {
    if !share.is_finite() || share < 0.0 {
        return "?".to_owned();
    }
    if share > 0.0 && share < 0.01 {
        return "<1 %".to_owned();
    }
    // A half goes to the even number: then two shares of one whole make 100. What a division left at the end is no half less.
    let hundredths = ((share * 1e8).round() / 1e6).round_ties_even() as u64;
    format!("{} %", count(if share < 1.0 { hundredths.min(99) } else { hundredths }))
}

/// A time span: `40 ms`, `23 s`, `2 min 10 s`, `1 h 5 min`, `3 d 4 h`. `?` if it is none.
pub fn duration(seconds: f64) -> String {
    let Ok(span) = Duration::try_from_secs_f64(seconds) else {
        return "?".to_owned();
    };
    if seconds < 1.0 {
        let milliseconds = span.as_secs_f64() * 1000.0;
        return match milliseconds {
            0.0 => "0 s".to_owned(),
            m if m < 1.0 => "<1 ms".to_owned(),
            m => format!("{m:.0} ms"),
        };
    }
    let whole = span.as_secs();
    let (major, minor) = match whole {
        0..60 => ((whole, "s"), (0, "")),
        60..3_600 => ((whole / 60, "min"), (whole % 60, "s")),
        3_600..86_400 => ((whole / 3_600, "h"), (whole % 3_600 / 60, "min")),
        _ => ((whole / 86_400, "d"), (whole % 86_400 / 3_600, "h")),
    };
    match minor.0 {
        0 => format!("{} {}", count(major.0), major.1),
        _ => format!("{} {} {} {}", count(major.0), major.1, minor.0, minor.1),
    }
}

/// A time span that lies ahead. It is an estimate: nobody needs the seconds of a quarter of an hour.
pub fn ahead(seconds: f64) -> String {
    match seconds {
        seconds if seconds > 0.0 && seconds < 1.0 => "under 1 s".to_owned(),
        seconds if (600.0..3_600.0).contains(&seconds) => duration((seconds / 60.0).floor() * 60.0),
        seconds => duration(seconds),
    }
}

/// Seconds as they were given: `60`, `14.1`.
pub fn seconds(seconds: f64) -> String {
    let tenths = (seconds * 10.0).round() / 10.0;
    if tenths == seconds && seconds.abs() < 1e15 && seconds.fract() == 0.0 {
        count(seconds.max(0.0) as u64)
    } else {
        format!("{seconds}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_parted_by_thousands() {
        let all: Vec<_> = [0, 7, 999, 1_000, 28_232, 1_234_567].into_iter().map(count).collect();
        assert_eq!(all, ["0", "7", "999", "1,000", "28,232", "1,234,567"]);
        assert_eq!(signed(-1_234), "-1,234");
        assert_eq!((of(1, "port", "ports"), of(0, "port", "ports")), ("1 port".into(), "0 ports".into()));
    }

    #[test]
    fn rates_are_never_overstated() {
        let all: Vec<_> =
            [0.0, 0.04, 0.3, 8.54, 9.0, 470.533, 3_276.8, f64::NAN, -1.0].into_iter().map(rate).collect();
        assert_eq!(all, ["0", "<0.1", "0.3", "8.5", "9", "470", "3,276", "?", "?"]);
    }

    #[test]
    fn a_hundred_percent_means_full() {
        let all: Vec<_> =
            [0.0, 0.004, 0.29, 0.528, 0.999, 1.0, 1.2, f64::INFINITY].into_iter().map(percent).collect();
        assert_eq!(all, ["0 %", "<1 %", "29 %", "53 %", "99 %", "100 %", "120 %", "?"]);
    }

    #[test]
    fn two_shares_of_one_whole_make_a_hundred() {
        for part in 10..=990 {
            let [one, other] = [part, 1_000 - part].map(|part: u32| percent(f64::from(part) / 1_000.0));
            let number = |text: &str| text.trim_end_matches(" %").parse::<u32>().unwrap();
            let sum = number(&one) + number(&other);
            assert_eq!(sum, 100, "{one} and {other}");
        }
    }

    #[test]
    fn durations_are_said_in_two_units_at_most() {
        let all: Vec<_> = [0.0, 0.0004, 0.0123, 23.9, 60.0, 130.0, 3_900.0, 187_200.0, -1.0, f64::NAN]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(
            all,
            ["0 s", "<1 ms", "12 ms", "23 s", "1 min", "2 min 10 s", "1 h 5 min", "2 d 4 h", "?", "?"]
        );
        assert_eq!([0.3, 23.0, 130.0, 754.0].map(ahead), ["under 1 s", "23 s", "2 min 10 s", "12 min"]);
        assert_eq!((seconds(60.0), seconds(14.1)), ("60".to_owned(), "14.1".to_owned()));
    }
}
