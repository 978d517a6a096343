//! The ideas that the other pages rest on, each with the figures it was measured with.

mod closing;
mod limits;
mod ports;
mod time_wait;

use super::article::Article;

/// Every concept: ports, TIME_WAIT, closing, the limits beside them.
pub(super) fn all() -> impl Iterator<Item = &'static Article> {
    [ports::CONCEPTS, time_wait::CONCEPTS, closing::CONCEPTS, limits::CONCEPTS].into_iter().flatten()
}
