//! `last-ack-stuck`: the peer closed first, then this side did, and the peer does not acknowledge that.

use tidewait_model::State;

use crate::Kind;
use crate::findings::view::{Found, View};

pub(in crate::findings) const KIND: Kind = Kind {
    id: "last-ack-stuck",
    title: "connections that both sides have closed, whose last segment the peer does not acknowledge",
    means: "The kernel repeats its end of the stream until it gives up. Meanwhile each connection keeps memory, and its local port \
            if it went out; nothing else is lost, both programs are done.",
    told_by: "Sockets in LAST_ACK that have retransmitted several times. In a healthy network the state lasts one round trip.",
    causes: &[
        "the program closed long after the peer, which was gone by then (a healed CLOSE_WAIT leak looks like this)",
        "a firewall that has forgotten the half-closed connection and drops its segments",
        "the peer or the path to it is gone",
    ],
    severity: "a notice: the kernel ends them by itself.",
    scenario: "last-ack-stuck",
    see_also: &[
        "LAST_ACK",
        "close-wait-leak",
        "fin-wait1-stuck",
        "orphans-near-limit",
        "net.ipv4.tcp_orphan_retries",
    ],
    sources: &["net/ipv4/tcp_timer.c tcp_orphan_retries (6.18)", "RFC 9293 section 3.6"],
};

pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    super::retransmitting::check(view, &KIND, &[State::LastAck], "closed on both sides")
}
