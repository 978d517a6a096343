//! What was set up in a way that works against itself: ports, files of settings.

mod listener_in_port_range;
mod setting_obsolete;
mod setting_overridden;

use super::view::{Found, View};
use crate::Kind;

/// The kinds that are found here.
pub(super) const KINDS: [&Kind; 3] =
    [&listener_in_port_range::KIND, &setting_overridden::KIND, &setting_obsolete::KIND];

/// What is found in one namespace.
pub(super) fn check(view: &View<'_>) -> Vec<Found> {
    let mut found: Vec<Found> = listener_in_port_range::check(view).into_iter().collect();
    found.extend(setting_overridden::check(view));
    found.extend(setting_obsolete::check(view));
    found
}
