//! Where calls found no port, the need is what was tried: what got through is only what the ports let through.

use tidewait_model::trace::Counts;

use super::ports::occupancy;
use super::traced::{bind, counts, outgoing};
use super::traced_ports::one;
use super::*;

const TO: &str = "10.0.2.9:9100";

/// 2,000 ports, all in TIME_WAIT, and what was traced for ten seconds.
fn full(flows: Vec<tidewait_model::trace::Flow>) -> Finding {
    let mut facts = one(occupancy(&[(30, 2_000)], 0, 42_000, 1), flows);
    set(&mut facts, &[("net.ipv4.ip_local_port_range", "42000 43999"), ("net.ipv4.tcp_tw_timeout", "60")]);
    facts.census.destinations[0].peer = endpoint(TO);
    only(&findings_of(facts)).clone()
}

/// 220 connections that closed here after 12 ms, and 3,780 calls that found no port.
fn short_of_ports() -> Counts {
    Counts { connects: 4_000, no_port: 3_780, ..counts(220, 220, 12) }
}

fn effect<'a>(finding: &'a Finding, id: &str) -> &'a str {
    &remedy(finding, id).effect
}

#[test]
fn what_was_tried_is_what_the_ports_are_held_against() {
    let finding = full(vec![outgoing("app", 7, TO, short_of_ports())]);
    for line in [
        "2,000 connections closed here in the last 60 s, 22 a second now",
        "traced: 400 a second tried, 378 of them refused; the ports carry 33 a second (a program that tries again at once is \
         counted each time)",
        "traced: app[7] opened 22 connections a second, of 400 tried; of 220 that ended 100 % were closed here first; they lived \
         12 ms on average",
    ] {
        assert!(finding.evidence.iter().any(|said| said == line), "{line}: {:?}", finding.evidence);
    }
    // 400 a second for 60 s and 12 ms each: what 2,000 ports are short of.
    assert_eq!(
        effect(&finding, "reuse-connections"),
        "saves 22 new connections a second, of 400 tried: as they live 12 ms each, 4.8 are open at a time on average, and a pool \
         of 5, with room for peaks, does the work of all that was tried; it needs 5 ports where short ones need up to 24,005 for \
         all that was tried, TIME_WAIT included"
    );
    assert!(effect(&finding, "wider-range").ends_with("connections a second; 400 a second were tried"));
    assert!(
        effect(&finding, "less-time")
            .ends_with("133 connections a second instead of 33; 400 a second were tried")
    );
    assert!(effect(&finding, "tw-reuse").contains("; 400 a second were tried"));
    assert_eq!(
        effect(&finding, "more-addresses"),
        "each further one brings as many ports again: 33 connections a second more; 400 a second were tried, for which it takes \
         up to 11 more"
    );
}

#[test]
fn bind_in_vain_is_tried_too_where_bind_chooses() {
    let opened = Counts { port_by_bind: 220, ..counts(220, 220, 12) };
    let finding = full(vec![
        outgoing("squid", 8, TO, opened),
        bind("squid", 8, 0, 3_780),
        // A port that was asked for, and another program's wish.
        bind("squid", 8, 3_128, 500),
        bind("other", 9, 0, 20),
    ]);
    let said = |text: &str| finding.evidence.iter().any(|line| line.contains(text));
    assert!(said("traced: 402 a second tried, 380 of them refused; the ports carry 33 a second"));
    assert!(said("squid[8] opened 22 connections a second, of 400 tried"));
    assert!(effect(&finding, "reuse-connections").contains("up to 24,005 for all that was tried"));
}

#[test]
fn where_nothing_was_refused_what_was_opened_is_the_need() {
    let finding = full(vec![outgoing("app", 7, TO, counts(4_000, 4_000, 12))]);
    let texts = finding.evidence.iter().chain(finding.remedies.iter().map(|remedy| &remedy.effect));
    assert!(texts.into_iter().all(|text| !text.contains("tried")));
    assert!(effect(&finding, "reuse-connections").contains("the short connections need 24,005"));
}

#[test]
fn who_is_refused_is_the_one_to_keep_connections() {
    // Most is from before and ports are free: who left that is not known, who is refused is.
    let few = Counts { connects: 43, no_port: 3, ..counts(40, 40, 12) };
    let flows = vec![outgoing("late", 9, TO, counts(3, 3, 1)), outgoing("app", 7, TO, few)];
    let mut facts = one(occupancy(&[(30, 1_500)], 0, 42_000, 1), flows);
    set(&mut facts, &[("net.ipv4.ip_local_port_range", "42000 43999")]);
    facts.census.destinations[0].peer = endpoint(TO);
    let found = findings_of(facts);
    let finding = only(&found);
    assert_eq!(finding.owner.as_ref().and_then(|owner| owner.pid), Some(7));
    let reuse = remedy(finding, "reuse-connections");
    assert!(reuse.summary.starts_with("let app[7] keep connections open"), "{}", reuse.summary);
    assert!(reuse.effect.starts_with("saves 4 new connections a second, of 4.3 tried"), "{}", reuse.effect);

    // All that it tried was refused, and nothing else was seen.
    let finding =
        full(vec![outgoing("app", 7, TO, Counts { connects: 4_000, no_port: 4_000, ..Counts::default() })]);
    assert!(remedy(&finding, "reuse-connections").summary.starts_with("let app[7] keep connections open"));
}
