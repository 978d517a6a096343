//! A page that is written and kept as data: states, concepts and errors, with what to look up here and now.

use tidewait_model::explain::{self as wire, Correction, Explanation, Section};
use tidewait_model::report::Report;

use super::here::{self, Here};

/// A popular claim, and what is so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// What is often said.
    pub(super) claim: &'static str,
    /// What is so, with how it was seen.
    pub(super) truth: &'static str,
}

/// A page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Article {
    pub(super) topic: &'static str,
    pub(super) kind: wire::Kind,
    /// Other names that lead here.
    pub(super) aliases: &'static [&'static str],
    /// The answer in a sentence or two.
    pub(super) summary: &'static str,
    /// Headings, with sentences under each.
    pub(super) sections: &'static [(&'static str, &'static [&'static str])],
    pub(super) corrections: &'static [Claim],
    /// What to tell of this machine.
    pub(super) here: &'static [Here],
    pub(super) see_also: &'static [&'static str],
    pub(super) sources: &'static [&'static str],
}

impl Article {
    /// The page, with this machine's facts where it was looked at.
    pub(super) fn page(&self, report: Option<&Report>) -> Explanation {
        Explanation {
            schema: wire::SCHEMA.to_owned(),
            topic: self.topic.to_owned(),
            kind: self.kind,
            recognised: Vec::new(),
            summary: self.summary.to_owned(),
            here: report.map(|report| here::facts(self.here, report)).unwrap_or_default(),
            sections: sections(self.sections),
            configuration: Vec::new(),
            corrections: corrections(self.corrections),
            see_also: owned(self.see_also),
            sources: owned(self.sources),
        }
    }

    /// The line of the list.
    pub(super) fn entry(&self) -> wire::Topic {
        wire::Topic {
            topic: self.topic.to_owned(),
            kind: self.kind,
            summary: first_sentence(self.summary),
            aliases: owned(self.aliases),
        }
    }
}

fn sections(sections: &[(&str, &[&str])]) -> Vec<Section> {
    sections
        .iter()
        .map(|(heading, text)| Section { heading: (*heading).to_owned(), text: owned(text) })
        .collect()
}

pub(super) fn corrections(claims: &[Claim]) -> Vec<Correction> {
    claims
        .iter()
        .map(|claim| Correction { claim: claim.claim.to_owned(), truth: claim.truth.to_owned() })
        .collect()
}

pub(super) fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A text up to the end of its first sentence.
pub(super) fn first_sentence(text: &str) -> String {
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text[..end].to_owned()
}
