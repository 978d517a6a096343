//! A kind of finding in general: what `explain` and the documentation say of it, beside its check.

/// What can be said of a kind of finding whatever the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its id: `ports-exhausted`.
    pub id: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What it means for connections, in a sentence or two.
    pub means: &'static str,
    /// How it is told, and what it is told from: the evidence, and what merely looks alike.
    pub told_by: &'static str,
    /// The usual causes, the most frequent first.
    pub causes: &'static [&'static str],
    /// What is critical, what a warning, what a notice.
    pub severity: &'static str,
    /// The scenario of the lab that proves it.
    pub scenario: &'static str,
    /// States, settings, options, concepts and other findings that go with it.
    pub see_also: &'static [&'static str],
    /// Where it can be looked up: kernel files with version, RFC sections.
    pub sources: &'static [&'static str],
}
