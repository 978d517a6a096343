//! What a change does to ports and TIME_WAIT is measured, and as it is known to be.
#![expect(clippy::panic, reason = "a test may fail")]

use tidewait_lab::settings::{Case, Pool, prove};
use tidewait_lab::{isolated, scaled};
use tidewait_model::experiment::{Measured, Metric, Proof, Verdict};

/// Ports of the stock range, fewer where they take long.
fn range(ports: u64) -> (String, f64) {
    let ports = scaled(ports).max(400);
    (format!("1024 {}", 1_023 + ports), ports as f64)
}

fn of(proof: &Proof, metric: Metric) -> Measured {
    *proof.measured.iter().find(|measured| measured.metric == metric).unwrap_or_else(|| panic!("{proof:?}"))
}

#[test]
fn a_wider_range_is_proved_port_by_port() {
    isolated("a_wider_range_is_proved_port_by_port", || {
        let ((narrow, few), (wide, many)) = (range(28_232), range(64_512));
        let proof = prove(&Case {
            settings_before: &[
                ("net.ipv4.ip_local_port_range", &narrow),
                ("net.ipv4.tcp_tw_reuse", "0"),
                ("net.ipv4.tcp_max_tw_buckets", "262144"),
                ("net.ipv4.tcp_max_orphans", "4096"),
            ],
            changes: &[("net.ipv4.ip_local_port_range", &wide)],
            pool: Pool::Both,
        })
        .unwrap();
        assert_eq!(proof.left_out, ["net.ipv4.tcp_max_orphans"]);
        for metric in [Metric::ConnectsUntilRefused, Metric::BindsUntilRefused] {
            let measured = of(&proof, metric);
            assert_eq!(measured.verdict, Verdict::Helps, "{measured:?}");
            // Now and then a reset ends a TIME_WAIT, and its port serves twice.
            assert!((measured.before.value - few).abs() <= few * 0.01 + 2.0, "{measured:?}");
            assert!((measured.after.value - many).abs() <= many * 0.01 + 2.0, "{measured:?}");
        }
        assert_eq!(of(&proof, Metric::RateWhenFull).verdict, Verdict::NoEffect, "{proof:?}");
        assert_eq!(of(&proof, Metric::BindRateWhenFull).verdict, Verdict::NoEffect, "{proof:?}");
    });
}

#[test]
fn taking_over_is_proved_for_connect_and_not_for_bind() {
    isolated("taking_over_is_proved_for_connect_and_not_for_bind", || {
        let (narrow, _) = range(2_000);
        let proof = prove(&Case {
            settings_before: &[("net.ipv4.ip_local_port_range", &narrow), ("net.ipv4.tcp_tw_reuse", "2")],
            changes: &[("net.ipv4.tcp_tw_reuse", "1")],
            pool: Pool::Both,
        })
        .unwrap();
        assert_eq!(of(&proof, Metric::RateWhenFull).verdict, Verdict::Helps, "{proof:?}");
        assert_eq!(of(&proof, Metric::BindRateWhenFull).verdict, Verdict::NoEffect, "{proof:?}");
    });
}

#[test]
fn what_loses_its_time_wait_is_counted() {
    isolated("what_loses_its_time_wait_is_counted", || {
        let proof = prove(&Case {
            settings_before: &[("net.ipv4.ip_local_port_range", "1024 1423")],
            changes: &[("net.ipv4.tcp_max_tw_buckets", "100")],
            pool: Pool::Connect,
        })
        .unwrap();
        assert_eq!(of(&proof, Metric::ConnectsUntilRefused).verdict, Verdict::Helps, "{proof:?}");
        assert_eq!(proof.unprotected_before, 0, "{proof:?}");
        assert!(proof.unprotected_after >= 300, "{proof:?}");
    });
}

#[test]
fn a_change_that_a_namespace_cannot_have_is_refused_with_its_name() {
    isolated("a_change_that_a_namespace_cannot_have_is_refused_with_its_name", || {
        for (name, value) in [("net.ipv4.tcp_max_orphans", "4096"), ("net.ipv4.tcp_tw_reuse", "7")] {
            let case = Case { settings_before: &[], changes: &[(name, value)], pool: Pool::Connect };
            let error = prove(&case).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    });
}

#[test]
fn settings_that_depend_on_each_other_may_come_in_any_order() {
    isolated("settings_that_depend_on_each_other_may_come_in_any_order", || {
        let proof = prove(&Case {
            settings_before: &[("net.ipv4.ip_local_port_range", "1024\t1423")],
            changes: &[
                ("net.ipv4.ip_local_port_range", "624 1423"),
                ("net.ipv4.ip_unprivileged_port_start", "0"),
            ],
            pool: Pool::Connect,
        })
        .unwrap();
        let measured = of(&proof, Metric::ConnectsUntilRefused);
        assert!((measured.before.value - 400.0).abs() <= 4.0, "{measured:?}");
        assert!((measured.after.value - 800.0).abs() <= 8.0, "{measured:?}");
    });
}
