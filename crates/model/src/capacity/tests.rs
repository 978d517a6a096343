//! The arithmetic against the figures that are in circulation, and against itself.

use proptest::prelude::*;

use super::*;

fn linux(given: Quantities) -> Capacity {
    Question::new(given, 28_232, 60.0, "stock Linux").answers().unwrap()
}

fn rate_of(ports: u32, seconds: f64) -> u64 {
    let given = Quantities { ports: Some(ports), time_wait_seconds: Some(seconds), ..Quantities::default() };
    whole_rate(linux(given).answers[0].value)
}

#[test]
fn the_figures_in_circulation_come_out() {
    for (ports, seconds, rate) in [
        (28_232, 60.0, 470),
        (32_768, 60.0, 546),
        (32_768, 30.0, 1_092),
        (32_768, 15.0, 2_184),
        (32_768, 10.0, 3_276),
        (56_535, 120.0, 471),
        (64_512, 60.0, 1_075),
    ] {
        assert_eq!(rate_of(ports, seconds), rate, "{ports} ports, {seconds} s");
    }
}

#[test]
fn half_the_ports_carry_half_the_rate() {
    let answer = &linux(Quantities::default()).answers[0];
    assert_eq!(whole_rate(answer.half_range_value.unwrap()), 235);
}

#[test]
fn a_rate_alone_is_answered_once_for_each_thing_that_could_change() {
    let capacity = linux(Quantities { rate_per_second: Some(2_000.0), ..Quantities::default() });
    let found: Vec<_> =
        capacity.answers.iter().map(|answer| (answer.quantity, answer.value, answer.possible)).collect();
    assert_eq!(
        found,
        [
            (Quantity::Ports, 120_000.0, false),
            (Quantity::TimeWaitSeconds, 14.1, true),
            (Quantity::Sources, 5.0, true),
            (Quantity::Destinations, 5.0, true),
        ]
    );
    let halves: Vec<_> = capacity.answers.iter().map(|answer| answer.half_range_value.unwrap()).collect();
    assert_eq!(halves, [240_000.0, 7.0, 9.0, 9.0]);
    assert_eq!(capacity.table.quantity, Quantity::RatePerSecond);
    assert_eq!(
        capacity.assumed,
        [Quantity::Ports, Quantity::TimeWaitSeconds, Quantity::Sources, Quantity::Destinations]
    );
}

#[test]
fn what_was_given_is_not_changed() {
    let given = Quantities {
        rate_per_second: Some(2_000.0),
        ports: Some(28_232),
        sources: Some(2),
        destinations: Some(1),
        ..Quantities::default()
    };
    let capacity = linux(given);
    assert_eq!(capacity.answers.len(), 1);
    assert_eq!(capacity.answers[0].value, 28.2);
    assert_eq!(capacity.known.time_wait_seconds, None);
    assert!(capacity.assumed.is_empty());
}

#[test]
fn the_table_answers_the_same_question() {
    let given = Quantities { rate_per_second: Some(2_000.0), sources: Some(1), ..Quantities::default() };
    let given = Quantities { destinations: Some(1), time_wait_seconds: Some(45.0), ..given };
    let table = linux(given).table;
    assert_eq!(table.quantity, Quantity::Ports);
    let rows: Vec<_> = table.rows.iter().map(|row| (row.time_wait_seconds, row.value)).collect();
    assert_eq!(
        rows,
        [
            (60.0, 120_000.0),
            (45.0, 90_000.0),
            (30.0, 60_000.0),
            (15.0, 30_000.0),
            (10.0, 20_000.0),
            (1.0, 2_000.0)
        ]
    );
}

#[test]
fn one_port_has_no_half_and_a_rate_can_be_out_of_reach() {
    let given = Quantities { ports: Some(1), ..Quantities::default() };
    assert_eq!(linux(given).answers[0].half_range_value, None);
    let given = Quantities { rate_per_second: Some(1e9), ..Quantities::default() };
    let time_wait = linux(given).answers.into_iter().nth(1).unwrap();
    assert_eq!((time_wait.quantity, time_wait.possible), (Quantity::TimeWaitSeconds, false));
    assert!(time_wait.note.unwrap().contains("tenth of a second"));
}

#[test]
fn refusals_name_the_input_and_the_remedy() {
    let refused = |given: Quantities| {
        Question::new(given, 28_232, 60.0, "stock Linux").answers().unwrap_err().to_string()
    };
    let none = Quantities::default();
    for (given, text) in [
        (Quantities { time_wait_seconds: Some(0.0), ..none }, "TIME_WAIT seconds 0: give seconds, 0.001"),
        (Quantities { time_wait_seconds: Some(f64::NAN), ..none }, "TIME_WAIT seconds NaN: give seconds"),
        (Quantities { rate_per_second: Some(f64::NAN), ..none }, "rate NaN: give connections a second"),
        (Quantities { rate_per_second: Some(f64::INFINITY), ..none }, "rate inf: give"),
        (Quantities { rate_per_second: Some(-3.0), ..none }, "rate -3: give"),
        (Quantities { ports: Some(0), ..none }, "ports 0: give 1 to 65535"),
        (Quantities { ports: Some(65_536), ..none }, "ports 65536: give 1 to 65535"),
        (Quantities { sources: Some(0), ..none }, "source addresses 0: give 1 or more"),
        (Quantities { destinations: Some(0), ..none }, "destinations 0: give 1 or more"),
        (Quantities { sources: Some(u32::MAX), destinations: Some(u32::MAX), ..none }, "give fewer source"),
        (
            Quantities {
                rate_per_second: Some(1.0),
                ports: Some(1),
                time_wait_seconds: Some(1.0),
                sources: Some(1),
                destinations: Some(1),
            },
            "leave out the one to be found",
        ),
    ] {
        let error = refused(given);
        assert!(error.contains(text), "{error}");
    }
    let no_defaults = Question {
        given: none,
        defaults: none,
        defaults_from: String::new(),
        half_range: true,
        preset: None,
    };
    let error = no_defaults.answers().unwrap_err().to_string();
    assert!(error.starts_with("rate, ports, TIME_WAIT seconds, source addresses, destinations: only one"));
}

#[test]
fn presets_are_unique_sourced_and_solvable() {
    let mut ids: Vec<_> = PRESETS.iter().map(|row| row.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), PRESETS.len());
    for row in PRESETS {
        assert_eq!(preset(row.id), Some(row));
        assert!(row.source.starts_with("https://"), "{}", row.id);
        assert!(
            row.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
            "{}",
            row.id
        );
        assert!(!row.meaning.is_empty() && !row.title.is_empty());
        let question = Question::new(Quantities::default(), 1, 60.0, "").preset(row);
        let capacity = question.answers().unwrap();
        assert!(capacity.assumed_from.starts_with(&format!("preset {}", row.id)));
        assert_eq!(capacity.answers[0].half_range_value.is_some(), row.half_range);
    }
    let aws = Question::new(Quantities::default(), 1, 60.0, "").preset(preset("aws-nat-gateway").unwrap());
    assert_eq!(whole_rate(aws.answers().unwrap().answers[0].value), 916);
}

proptest! {
    #[test]
    fn each_quantity_is_found_again_from_the_others(
        ports in 1_u32..=65_535,
        tenths in 1_u32..=6_000,
        sources in 1_u32..=256,
        destinations in 1_u32..=256,
    ) {
        let seconds = f64::from(tenths) / 10.0;
        let all = Quantities {
            rate_per_second: None,
            ports: Some(ports),
            time_wait_seconds: Some(seconds),
            sources: Some(sources),
            destinations: Some(destinations),
        };
        let rate = all.solve(Quantity::RatePerSecond, 1).unwrap();
        let all = Quantities { rate_per_second: Some(rate), ..all };
        let again = |quantity: Quantity| all.without(quantity).solve(quantity, 1).unwrap();
        prop_assert_eq!(again(Quantity::Ports), f64::from(ports));
        prop_assert_eq!(again(Quantity::Sources), f64::from(sources));
        prop_assert_eq!(again(Quantity::Destinations), f64::from(destinations));
        prop_assert_eq!(again(Quantity::TimeWaitSeconds), seconds);
    }

    #[test]
    fn an_answer_reaches_the_rate_and_one_less_does_not(
        rate in 0.01_f64..1e6,
        ports in 2_u32..=65_535,
        seconds in 0.1_f64..600.0,
        sources in 1_u32..=64,
    ) {
        let known = Quantities {
            rate_per_second: Some(rate),
            ports: Some(ports),
            time_wait_seconds: Some(seconds),
            sources: Some(sources),
            destinations: Some(1),
        };
        let whole = u64::from(ports) * u64::from(sources);
        let needed = known.without(Quantity::Destinations).solve(Quantity::Destinations, 1).unwrap() as u64;
        prop_assert!(carried(needed * whole, seconds) >= rate);
        prop_assert!(needed == 1 || carried((needed - 1) * whole, seconds) < rate);
        if let Some(longest) = known.without(Quantity::TimeWaitSeconds).solve(Quantity::TimeWaitSeconds, 1) {
            prop_assert!(carried(whole, longest) >= rate);
            prop_assert!(carried(whole, longest + 0.1001) < rate);
        }
        let fast = known.without(Quantity::Ports).solve(Quantity::Ports, 2).unwrap();
        let all = known.without(Quantity::Ports).solve(Quantity::Ports, 1).unwrap();
        prop_assert_eq!(fast, all * 2.0);
    }

    #[test]
    fn nothing_that_can_be_asked_panics(
        rate in proptest::option::of(proptest::num::f64::ANY),
        ports in proptest::option::of(any::<u32>()),
        seconds in proptest::option::of(proptest::num::f64::ANY),
        sources in proptest::option::of(any::<u32>()),
        destinations in proptest::option::of(any::<u32>()),
    ) {
        let given =
            Quantities { rate_per_second: rate, ports, time_wait_seconds: seconds, sources, destinations };
        if let Ok(capacity) = Question::new(given, 28_232, 60.0, "x").answers() {
            prop_assert!(!capacity.answers.is_empty());
            prop_assert!(capacity.answers.iter().all(|answer| answer.value.is_finite()));
        }
    }
}
