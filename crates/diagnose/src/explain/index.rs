//! Every topic under all its names, and how a text that somebody typed leads to one.

use tidewait_model::catalogue::{OPTIONS, SETTINGS, Setting, SocketOption};
use tidewait_model::explain::{Explanation, Kind, Topic};
use tidewait_model::report::Report;

use super::article::Article;
use super::{concepts, errors, rows, states};
use crate::findings::KINDS;
use crate::programs::{PROGRAMS, Program};

/// What a topic's page is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Page {
    Article(&'static Article),
    Setting(&'static Setting),
    Option(&'static SocketOption),
    Finding(&'static crate::Kind),
    Program(&'static Program),
}

/// A topic with its names.
#[derive(Debug)]
pub(super) struct Entry {
    page: Page,
    topic: Topic,
    /// Its name and aliases as [`plain`] has them.
    names: Vec<String>,
}

impl Entry {
    fn new(page: Page) -> Entry {
        let topic = match page {
            Page::Article(article) => article.entry(),
            Page::Setting(row) => rows::setting_entry(row),
            Page::Option(row) => rows::option_entry(row),
            Page::Finding(kind) => rows::finding_entry(kind),
            Page::Program(program) => rows::program_entry(program),
        };
        let names = std::iter::once(&topic.topic).chain(&topic.aliases).map(|name| plain(name)).collect();
        Entry { page, topic, names }
    }

    pub(super) fn topic(&self) -> Topic {
        self.topic.clone()
    }

    fn is_state(&self) -> bool {
        self.topic.kind == Kind::State
    }

    pub(super) fn page_of(&self) -> Page {
        self.page
    }

    pub(super) fn page(&self, report: Option<&Report>) -> Explanation {
        match self.page {
            Page::Article(article) => article.page(report),
            Page::Setting(row) => rows::setting(row, report),
            Page::Option(row) => rows::option(row),
            Page::Finding(kind) => rows::finding(kind, report),
            Page::Program(program) => rows::program(program),
        }
    }
}

/// Every topic. Where two have a name in common, the one that stands first has it.
pub(super) fn entries() -> Vec<Entry> {
    let articles = states::STATES.iter().chain(errors::all()).chain(concepts::all()).map(Page::Article);
    articles
        .chain(SETTINGS.iter().map(Page::Setting))
        .chain(OPTIONS.iter().map(Page::Option))
        .chain(KINDS.iter().copied().map(Page::Finding))
        .chain(PROGRAMS.iter().map(Page::Program))
        .map(Entry::new)
        .collect()
}

/// A name without what people spell differently: case, dashes, underscores, dots, spaces, the path before a setting.
pub(super) fn plain(name: &str) -> String {
    let name = name.trim();
    let name = name.strip_prefix("/proc/sys/").unwrap_or(name);
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The topic that is called `name`: as it is spelled, else in any spelling. `IP_LOCAL_PORT_RANGE` is a socket option
/// and `ip_local_port_range` a setting.
pub(super) fn exact<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Entry> {
    let spelled =
        |entry: &&Entry| entry.topic.topic == name || entry.topic.aliases.iter().any(|alias| alias == name);
    let plain = plain(name);
    let called = |entry: &&Entry| entry.names.contains(&plain);
    let found = entries.iter().find(spelled).or_else(|| entries.iter().find(called));
    // The kernel's own names of the states: `TCP_CLOSE_WAIT`.
    let state =
        |rest: &str| entries.iter().find(|entry| entry.is_state() && entry.names.iter().any(|n| n == rest));
    found.or_else(|| state(plain.strip_prefix("tcp")?)).filter(|_| !plain.is_empty())
}

/// The one topic that a longer text names, and the value it is given there: `sysctl -w net.ipv4.tcp_tw_reuse=1`,
/// `echo 30 > /proc/sys/net/ipv4/tcp_fin_timeout`, a line of `ss`. `None` where it names several.
pub(super) fn named_in<'a, 't>(entries: &'a [Entry], text: &'t str) -> Option<(&'a Entry, Option<&'t str>)> {
    let quotes = |c: char| matches!(c, '"' | '\'' | '`' | ',' | ';' | '(' | ')' | '?' | '!' | ':');
    let mut named: Option<&Entry> = None;
    for word in text.split(|c: char| c.is_whitespace() || c == '=') {
        let word = word.trim_matches(quotes);
        // Plain words such as `listen` are spoken of all the time and name nothing.
        let is_name =
            word.contains(['_', '.', '-', '/']) || (word.len() > 3 && !word.contains(char::is_lowercase));
        let Some(entry) = Some(word).filter(|_| is_name).and_then(|name| exact(entries, name)) else {
            continue;
        };
        if named.is_some_and(|other| other.topic.topic != entry.topic.topic) {
            return None;
        }
        named = Some(entry);
    }
    Some((named?, value_in(text)))
}

/// The value that a setting is given in `text`.
fn value_in(text: &str) -> Option<&str> {
    let value = match text.trim().strip_prefix("echo ") {
        Some(rest) => rest.split('>').next()?,
        None => text.split_once('=')?.1,
    };
    let value = value.trim().trim_matches(['"', '\'']).trim();
    (!value.is_empty() && value.len() < 60).then_some(value)
}

/// The one topic with a name that begins with `text`; else the one with a name that contains it.
pub(super) fn begins_or_contains<'a>(entries: &'a [Entry], text: &str) -> Option<&'a Entry> {
    /// Shorter beginnings say too little.
    const LEAST: usize = 4;
    let text = plain(text);
    if text.len() < LEAST {
        return None;
    }
    let only = |fits: &dyn Fn(&String) -> bool| {
        let mut found = entries.iter().filter(|entry| entry.names.iter().any(fits));
        found.next().filter(|_| found.next().is_none())
    };
    only(&|name| name.starts_with(&text)).or_else(|| only(&|name| name.contains(&text)))
}

/// Topics with a name like `text`, the likest first.
pub(super) fn alike(entries: &[Entry], text: &str) -> Vec<String> {
    /// How many are named.
    const MOST: usize = 5;
    /// How alike two names have to be, 0 to 1.
    const LEAST: f64 = 0.6;
    /// Longer texts are not names.
    const LONGEST: usize = 60;
    let text: String = plain(text).chars().take(LONGEST).collect();
    let likeness = |name: &String| {
        let contains =
            text.len() > 2 && (name.contains(&text) || (name.len() > 3 && text.contains(name.as_str())));
        let spelled = strsim::normalized_damerau_levenshtein(name, &text);
        if contains { spelled.max(0.7) + 0.1 } else { spelled }
    };
    let mut found: Vec<(f64, &Entry)> = entries
        .iter()
        .map(|entry| (entry.names.iter().map(likeness).fold(0.0, f64::max), entry))
        .filter(|(likeness, _)| *likeness >= LEAST)
        .collect();
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    found.into_iter().take(MOST).map(|(_, entry)| entry.topic.topic.clone()).collect()
}
