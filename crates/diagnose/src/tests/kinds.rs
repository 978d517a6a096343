//! The general words: complete, and each under a name of its own.

use std::collections::BTreeSet;

use crate::findings::KINDS;

#[test]
fn every_kind_has_a_name_of_its_own_and_all_its_words() {
    let ids: BTreeSet<&str> = KINDS.iter().map(|kind| kind.id).collect();
    assert_eq!(ids.len(), KINDS.len());
    for kind in KINDS {
        assert!(
            kind.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
            "{}",
            kind.id
        );
        for words in [kind.title, kind.means, kind.told_by, kind.severity, kind.scenario] {
            assert!(!words.is_empty(), "{}", kind.id);
        }
        assert!(
            !kind.causes.is_empty() && !kind.see_also.is_empty() && !kind.sources.is_empty(),
            "{}",
            kind.id
        );
        assert!(
            !kind.title.ends_with('.') && kind.means.ends_with('.') && kind.told_by.ends_with('.'),
            "{}",
            kind.id
        );
    }
}

#[test]
fn what_looks_like_a_finding_in_see_also_is_one() {
    let ids: BTreeSet<&str> = KINDS.iter().map(|kind| kind.id).collect();
    // Concepts have names of the same form.
    let concepts = ["half-range-cliff", "two-pools", "why-60-seconds"];
    for kind in KINDS {
        for other in kind.see_also {
            let named_so = other.contains('-')
                && other.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
            assert!(!named_so || ids.contains(other) || concepts.contains(other), "{}: {other}", kind.id);
            assert_ne!(*other, kind.id);
        }
    }
}
