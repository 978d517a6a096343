//! Errors as they are met: for each errno and each kernel message what it means for connections, and which of its causes it is.

mod limits;
mod peers;
mod ports;

use tidewait_model::explain::Kind;

use super::article::Article;

const fn error(topic: &'static str, aliases: &'static [&'static str], summary: &'static str) -> Article {
    Article {
        topic,
        kind: Kind::Error,
        aliases,
        summary,
        sections: &[],
        corrections: &[],
        here: &[],
        see_also: &[],
        sources: &[],
    }
}

/// Every error that has a page: local ports first, then peers, then limits.
pub(super) fn all() -> impl Iterator<Item = &'static Article> {
    [ports::ERRORS, peers::ERRORS, limits::ERRORS].into_iter().flatten()
}
