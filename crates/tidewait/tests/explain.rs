//! The pages of `tidewait explain` as they are printed, and their JSON; without a look at any machine.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use insta::assert_snapshot;
use serde_json::Value;
use tidewait_diagnose::explain::{explain, topics};
use tidewait_surfaces::text::{Page, explanation};

fn page(text: &str, width: usize) -> String {
    explanation(&explain(text, None).unwrap(), &Page { width, ..Page::default() })
}

#[test]
fn some_pages_at_80_columns() {
    for (name, text) in [
        ("time_wait", "TIME_WAIT"),
        ("fin_timeout", "tcp_fin_timeout"),
        ("squid", "commBind: Cannot bind socket FD 98 to *:0: (98) Address already in use"),
        ("mysql", "Can't connect to MySQL server on '10.0.2.9' (99)"),
        ("two_pools", "two-pools"),
        ("how_low_is_safe", "how-low-is-safe"),
        ("haproxy", "haproxy"),
        ("ports_exhausted", "ports-exhausted"),
    ] {
        assert_snapshot!(name, page(text, 80));
    }
}

#[test]
fn every_page_fits_the_terminal_and_is_plain_text() {
    for topic in topics().topics {
        for width in [40, 80, 132] {
            let text = page(&topic.topic, width);
            let wide = text.lines().find(|line| line.chars().count() > width);
            assert_eq!(wide, None, "{} at {width}", topic.topic);
            assert!(text.is_ascii(), "{}: {text}", topic.topic);
        }
        // A tired reader does not scroll far.
        let lines = page(&topic.topic, 80).lines().count();
        assert!(lines <= 90, "{} takes {lines} lines", topic.topic);
    }
}

fn valid(schema: &str, value: &impl serde::Serialize) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let value = serde_json::to_value(value).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn every_page_is_what_the_schema_says() {
    let schema = include_str!("../../../docs/schema/tidewait.explain-1.json");
    let topics = topics();
    valid(include_str!("../../../docs/schema/tidewait.topics-1.json"), &topics);
    for topic in topics.topics {
        valid(schema, &explain(&topic.topic, None).unwrap());
    }
}
