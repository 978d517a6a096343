//! Connections that do not finish closing: leaks in the program, peers that fall silent, TIME_WAIT that is cut short.

mod close_wait_leak;
mod fin_wait1_stuck;
mod fin_wait2_stuck;
mod last_ack_stuck;
mod orphans_near_limit;
mod retransmitting;
mod time_wait_incoming;
mod time_wait_overflow;

use super::view::{Found, View};
use crate::Kind;

/// The kinds that are found here.
pub(super) const KINDS: [&Kind; 7] = [
    &close_wait_leak::KIND,
    &fin_wait2_stuck::KIND,
    &fin_wait1_stuck::KIND,
    &last_ack_stuck::KIND,
    &orphans_near_limit::KIND,
    &time_wait_overflow::KIND,
    &time_wait_incoming::KIND,
];

/// What is found in one namespace.
pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let mut found = close_wait_leak::check(view);
    found.extend(fin_wait2_stuck::check(view));
    found.extend(fin_wait1_stuck::check(view));
    found.extend(last_ack_stuck::check(view));
    found.extend(time_wait_overflow::check(view));
    found.extend(time_wait_incoming::check(view));
    found
}

/// What is found of the machine as a whole.
pub(super) fn check_machine(view: &View<'_>) -> Vec<Found> {
    let mut found = close_wait_leak::check_hidden(view);
    found.extend(orphans_near_limit::check(view));
    found
}
