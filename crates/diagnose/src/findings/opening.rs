//! Connections that do not come about: no answer to a SYN, nobody who accepts, a firewall whose table is full.

mod accept_queue_overflow;
mod conntrack_full;
mod syn_sent_pileup;

use super::view::{Found, View};
use crate::Kind;

/// The kinds that are found here.
pub(super) const KINDS: [&Kind; 3] =
    [&accept_queue_overflow::KIND, &conntrack_full::KIND, &syn_sent_pileup::KIND];

/// What is found in one namespace.
pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let mut found = accept_queue_overflow::check(view);
    found.extend(conntrack_full::check(view));
    found.extend(syn_sent_pileup::check(view));
    found
}
