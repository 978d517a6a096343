//! What is measured before it is applied.

use serde_json::Value;

use crate::bench::{Bench, said};

fn proved(bench: &Bench, args: &[&str]) -> Value {
    let output = bench.tune(&[&["apply", "--prove", "--json"], args].concat());
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn verdict<'a>(applied: &'a Value, metric: &str) -> &'a str {
    let measured = applied["proof"]["measured"].as_array().unwrap();
    let found = measured.iter().find(|measured| measured["metric"] == metric);
    found.unwrap_or_else(|| panic!("no {metric} in {applied:#}"))["verdict"].as_str().unwrap()
}

#[test]
fn a_change_is_measured_with_the_settings_of_the_namespace_and_made_afterwards() {
    let bench = Bench::new();
    // Few ports, so that it takes no time.
    bench.netns.set("net.ipv4.ip_local_port_range", "40000 40999").unwrap();
    let reuse = proved(&bench, &["-s", "net.ipv4.tcp_tw_reuse=1", "--dry-run"]);
    assert_eq!(verdict(&reuse, "rate_when_full"), "helps");
    assert!(reuse["change"].is_null());
    assert_eq!(bench.netns.get("net.ipv4.tcp_tw_reuse").unwrap(), "2");

    let range = proved(&bench, &["-s", "net.ipv4.ip_local_port_range=40000 42999"]);
    assert_eq!(verdict(&range, "connects_until_refused"), "helps");
    assert_eq!(verdict(&range, "rate_when_full"), "no_effect");
    assert_eq!(bench.netns.get("net.ipv4.ip_local_port_range").unwrap(), "40000\t42999");

    let timeout = proved(&bench, &["-s", "net.ipv4.tcp_fin_timeout=30", "--dry-run"]);
    for metric in ["connects_until_refused", "rate_when_full"] {
        assert_eq!(verdict(&timeout, metric), "no_effect", "{metric}");
    }
}
