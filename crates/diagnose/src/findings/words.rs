//! Numbers and names as the sentences of findings have them.

use tidewait_model::Owner;
use tidewait_model::report::Pool;

/// A count with its thousands set apart.
pub(crate) fn count(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate or a number of seconds, rounded down to whole numbers, small ones with a tenth: what the ports carry
/// is never said to be more than it is.
pub(crate) fn figure(value: f64) -> String {
    if value < 10.0 && value.fract() >= 0.05 { format!("{value:.1}") } else { count(value.max(0.0) as u64) }
}

/// A length of time in at most two units: `45 s`, `2 min 11 s`, `2 h 11 min`, `5 days`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let two = |big: u64, unit: &str, small: u64, part: &str| match small {
        0 => format!("{} {unit}", count(big)),
        small => format!("{} {unit} {small} {part}", count(big)),
    };
    match whole {
        0..10 => format!("{} s", figure(seconds.max(0.0))),
        10..120 => format!("{whole} s"),
        120..7_200 => two(whole / 60, "min", if whole < 600 { whole % 60 } else { 0 }, "s"),
        7_200..172_800 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => format!("{} days", count(whole / 86_400)),
    }
}

/// Part of a whole in per cent, as [`share`] says it.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    share(part as f64 / whole as f64)
}

/// A share in per cent, rounded, but nearly all is not called all, and hardly any not none. The pages say theirs by the same
/// rule (`percent` in the numbers of surfaces).
pub(crate) fn share(share: f64) -> String {
    if share > 0.0 && share < 0.01 {
        return "<1 %".to_owned();
    }
    // A half goes to the even number: then two shares of one whole make 100. What a division left at the end is no half less.
    let hundredths = ((share * 1e8).round() / 1e6).round_ties_even() as u64;
    format!("{} %", count(if share < 1.0 { hundredths.min(99) } else { hundredths }))
}

/// A number of things: `1 socket`, `2,000 sockets`.
pub(crate) fn things(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// The first `most` of `items` and how many more there are, `all` of them in total.
pub(crate) fn listed<T: AsRef<str>>(items: &[T], most: usize, all: usize) -> String {
    let shown: Vec<&str> = items.iter().take(most).map(AsRef::as_ref).collect();
    match all.saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), count(more as u64)),
    }
}

/// Who it is: command and process number where it is one process, the unit where that says more.
pub(crate) fn who(owner: &Owner) -> String {
    match (owner.pid, &owner.unit) {
        (Some(pid), _) => format!("{}[{pid}]", owner.command),
        (None, Some(unit)) if !unit.starts_with(&owner.command) => format!("{} ({unit})", owner.command),
        (None, _) => owner.command.clone(),
    }
}

/// The call that chose the ports of a pool.
pub(crate) fn pool_word(pool: Pool) -> &'static str {
    match pool {
        Pool::Connect => "connect()",
        Pool::Bind => "bind()",
        Pool::Unknown => "an unknown way",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_the_units_of_people() {
        for (seconds, said) in [
            (0.4, "0.4 s"),
            (59.6, "60 s"),
            (131.0, "2 min 11 s"),
            (924.6, "15 min"),
            (7_875.0, "2 h 11 min"),
            (90_000.0, "25 h"),
            (432_000.0, "5 days"),
            (-3.0, "0 s"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }

    #[test]
    fn a_long_list_ends_with_how_many_more() {
        assert_eq!(listed(&["a", "b"], 3, 2), "a, b");
        assert_eq!(listed(&["a", "b", "c"], 2, 1_200), "a, b and 1,198 more");
    }

    #[test]
    fn shares_are_rounded_but_only_all_is_all_and_only_none_is_none() {
        let of_1000 = [0, 4, 104, 265, 735, 896, 999, 1_000].map(|part| percent(part, 1_000));
        assert_eq!(of_1000, ["0 %", "<1 %", "10 %", "26 %", "74 %", "90 %", "99 %", "100 %"]);
        assert_eq!(percent(1, 0), "0 %");
    }
}
