//! `fin-wait1-stuck`: closed here, and the peer does not acknowledge the end: silent, or its window is closed.

use tidewait_model::State;

use crate::Kind;
use crate::findings::view::{Found, View};

pub(in crate::findings) const KIND: Kind = Kind {
    id: "fin-wait1-stuck",
    title: "connections that were closed here, whose end the peer does not acknowledge",
    means: "The kernel repeats the end of the stream, or the data before it, until it gives up. Meanwhile each connection keeps \
            memory, unsent data and its local port.",
    told_by: "Sockets in FIN_WAIT1 or CLOSING that have retransmitted several times, or whose peer keeps its window closed. In a \
              healthy network the state lasts one round trip.",
    causes: &[
        "the peer or the path to it is gone",
        "a firewall that has forgotten the connection and drops its segments",
        "a peer that does not read: its window stays closed",
    ],
    severity: "a notice while the kernel ends them by itself; as a leak of descriptors where the program still holds them.",
    scenario: "fin-wait1-stuck",
    see_also: &[
        "FIN_WAIT1",
        "CLOSING",
        "last-ack-stuck",
        "orphans-near-limit",
        "net.ipv4.tcp_orphan_retries",
    ],
    sources: &["net/ipv4/tcp_timer.c tcp_orphan_retries, tcp_probe_timer (6.18)", "RFC 9293 section 3.8.1"],
};

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    super::retransmitting::check(view, &KIND, &[State::FinWait1, State::Closing], "closed here")
}
