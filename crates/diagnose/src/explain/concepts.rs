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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::programs::PROGRAMS;

    #[test]
    fn every_program_is_on_the_page_that_lists_them() {
        let page = all().find(|article| article.topic == "programs").unwrap();
        let listed: BTreeSet<&str> = page.see_also.iter().copied().collect();
        assert_eq!(listed, PROGRAMS.iter().map(|program| program.id).collect::<BTreeSet<&str>>());
    }
}
