//! The explanation of a topic: the wire form of `tidewait explain`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::Configuration;

/// The value of [`Explanation::schema`].
pub const SCHEMA: &str = "tidewait.explain/1";

/// The value of [`Topics::schema`].
pub const TOPICS_SCHEMA: &str = "tidewait.topics/1";

/// What kind of thing is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A state of a TCP socket.
    State,
    /// A kernel setting (sysctl).
    Setting,
    /// A socket option.
    Option,
    /// A finding of the report.
    Finding,
    /// An idea that one needs in order to understand the others.
    Concept,
    /// An error message.
    Error,
    /// A program and its settings.
    Program,
}

/// What `tidewait explain TOPIC --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.explain/1")]
pub struct Explanation {
    /// Always `tidewait.explain/1`.
    pub schema: String,
    /// The topic by its name: `TIME_WAIT`, `net.ipv4.tcp_tw_reuse`, `ports-exhausted`.
    pub topic: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What was recognised in the text that was given, where that is more than the name of a topic.
    pub recognised: Vec<Fact>,
    /// The answer in one or two sentences.
    pub summary: String,
    /// How it is on this machine: values as they are, and what they mean.
    pub here: Vec<Fact>,
    /// The rest, under headings.
    pub sections: Vec<Section>,
    /// What to write into the configuration of programs.
    pub configuration: Vec<Configuration>,
    /// What is often said about it, and what is so.
    pub corrections: Vec<Correction>,
    /// Topics that go with it.
    pub see_also: Vec<String>,
    /// Where it can be looked up: kernel files with version, RFC sections, manuals.
    pub sources: Vec<String>,
}

/// Something that is so, here and now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fact {
    /// What: a setting's name, `errno`, `sockets in CLOSE_WAIT`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What the value means; empty where it speaks for itself.
    pub meaning: String,
}

/// Sentences under a heading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// A sentence or a few each.
    pub text: Vec<String>,
}

/// A popular claim, and what is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Correction {
    /// What is often said.
    pub claim: String,
    /// What is so, with how it was seen.
    pub truth: String,
}

/// What `tidewait explain --list --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.topics/1")]
pub struct Topics {
    /// Always `tidewait.topics/1`.
    pub schema: String,
    /// Every topic, by kind and name.
    pub topics: Vec<Topic>,
}

/// One thing that can be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What it is, in one line.
    pub summary: String,
    /// Other names that lead to it.
    pub aliases: Vec<String>,
}
