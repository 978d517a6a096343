//! What a word, a setting, a finding or a pasted error message means, in general and on this machine.
//!
//! A topic is found by any of its names, however it is spelled; a text that is none is read as an error message.

mod article;
mod claims;
mod concepts;
mod errors;
mod here;
mod index;
mod message;
mod rows;
mod states;

use tidewait_model::explain::{Explanation, Fact, Kind, TOPICS_SCHEMA, Topics};
use tidewait_model::report::Report;

use index::{Entry, Page};
use message::Message;

/// A text that is no topic, and in which no error is recognised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct Unknown {
    /// The text.
    pub text: String,
    /// Topics that are spelled alike, the likest first.
    pub suggestions: Vec<String>,
}

impl Unknown {
    fn words(&self) -> String {
        /// More of a text than this is not repeated.
        const SHOWN: usize = 60;
        if self.text.is_empty() {
            return "there is nothing to explain: name a topic, or paste an error message; `tidewait explain --list` \
                    names all topics"
                .to_owned();
        }
        let line = self.text.lines().next().unwrap_or_default();
        let shown: String = line.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        let cut = if shown.len() < self.text.len() { "..." } else { "" };
        let alike = match self.suggestions.join(", ") {
            alike if alike.is_empty() => String::new(),
            alike => format!("; alike are {alike}"),
        };
        format!(
            "'{shown}{cut}' is no topic, and no error message that is known{alike}; `tidewait explain --list` names all topics"
        )
    }
}

/// Everything that can be explained, by kind and name.
pub fn topics() -> Topics {
    let mut topics: Vec<_> = index::entries().iter().map(Entry::topic).collect();
    topics.sort_by(|one, other| (one.kind, &one.topic).cmp(&(other.kind, &other.topic)));
    Topics { schema: TOPICS_SCHEMA.to_owned(), topics }
}

/// Explains `text`: the name of a topic, or an error message as it was read somewhere. With `report`, what is
/// here and now beside it.
///
/// # Errors
/// [`Unknown`] where it is neither.
pub fn explain(text: &str, report: Option<&Report>) -> Result<Explanation, Unknown> {
    let text = text.trim();
    let entries = index::entries();
    if let Some(entry) = index::exact(&entries, text) {
        return Ok(of_name(entry, text, report));
    }
    if let Some(message) = message::read(text)
        && let Some(entry) = index::exact(&entries, message.topic)
    {
        return Ok(of_message(entry, message, report));
    }
    if let Some((entry, value)) = index::named_in(&entries, text) {
        let mut page = entry.page(report);
        if let (Some(value), Page::Setting(row)) = (value, entry.page_of()) {
            page.recognised.push(rows::value_asked(row, value, report));
        }
        return Ok(page);
    }
    if let Some(entry) = index::begins_or_contains(&entries, text) {
        return Ok(of_name(entry, text, report));
    }
    Err(Unknown { text: text.to_owned(), suggestions: index::alike(&entries, text) })
}

/// The page of a topic that was asked for as `name`.
fn of_name(entry: &Entry, name: &str, report: Option<&Report>) -> Explanation {
    let mut page = entry.page(report);
    if page.kind == Kind::State && index::plain(name) != index::plain(&page.topic) {
        page.recognised.push(Fact {
            name: name.to_uppercase(),
            value: page.topic.clone(),
            meaning: "the name that Linux has for it".to_owned(),
        });
    }
    page
}

/// The page of an error that was recognised in a message, with what the program at hand can do.
fn of_message(entry: &Entry, message: Message, report: Option<&Report>) -> Explanation {
    let mut page = entry.page(report);
    page.recognised = message.recognised;
    if let Some(program) = message.program {
        page.configuration = message.needs.iter().filter_map(|need| program.configuration(*need)).collect();
        page.see_also.push(program.id.to_owned());
    }
    if let (Some(endpoint), Some(report)) = (&message.endpoint, report) {
        page.here.extend(here::of_endpoint(&endpoint.to_string(), report));
    }
    page
}

#[cfg(test)]
mod tests;
