//! Reads an error message as it was pasted: the program, the call, the errno, the address; and so which error it is.

mod address;
mod errno;
mod forms;
mod locales;

use std::ops::Range;

use tidewait_model::explain::Fact;

use crate::programs::{self, Need, Program};
pub(super) use address::Endpoint;
use errno::Errno;

/// The call that failed, as far as it decides what the error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Connect,
    /// bind(), for whatever purpose.
    Bind,
    /// bind() or listen() of a service.
    Listen,
    Accept,
}

impl Call {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Call::Connect => {
                ("connect()", "opens a connection, and chooses the local port if bind() has not")
            }
            Call::Bind => ("bind()", "takes a local address and port"),
            Call::Listen => ("listen()", "a service takes its port"),
            Call::Accept => ("accept()", "a service takes a connection that came in"),
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// The topic that explains it.
    pub(super) topic: &'static str,
    /// What was recognised, for the reader.
    pub(super) recognised: Vec<Fact>,
    /// The program that says so, where it is one with recipes.
    pub(super) program: Option<&'static Program>,
    /// What the program would need.
    pub(super) needs: &'static [Need],
    /// The address and port that the message names first.
    pub(super) endpoint: Option<Endpoint>,
}

/// Reads `text`; `None` where no error is recognised in it.
pub(super) fn read(text: &str) -> Option<Message> {
    let (text, lines) = tidy(text);
    let program = forms::program(&text);
    let found = errno::find(&text);
    let form = forms::form(&text, found.is_some());
    // Where several lines were pasted, the line with the error says most of it.
    let at = found.map_or(text.len(), |(_, at)| at);
    let line = lines.into_iter().find(|line| line.contains(&at)).unwrap_or(0..text.len());
    let squid = program.is_some_and(|program| program.id == Some("squid"));
    let endpoint = address::find(&text[line.clone()], squid).or_else(|| address::find(&text, squid));
    let errno = match form {
        Some(form) => form.errno.and_then(errno::by_number),
        None => found.map(|(errno, _)| errno),
    };
    let call = match form {
        Some(form) => form.call,
        None => forms::call(&text[line.clone()], at - line.start).or_else(|| forms::call(&text, at)),
    };
    let call = match call {
        Some(Call::Bind) if forms::of_service(&text) => Some(Call::Listen),
        call => call,
    };
    let topic = match (form, errno) {
        (Some(form), _) => form.topic,
        (None, Some(errno)) => topic(errno, call, endpoint.as_ref()),
        (None, None) => return None,
    };
    let mut recognised = Vec::new();
    if let Some(program) = program {
        recognised.push(fact("program", program.name, ""));
    }
    if let Some(call) = call {
        let (value, meaning) = call.words();
        recognised.push(fact("call", value, meaning));
    }
    if let Some(errno) = errno {
        recognised.push(fact("errno", &format!("{} {}", errno.number, errno.name), errno.text));
    }
    if let Some(number) = descriptor(&text) {
        recognised.push(fact(
            "descriptor",
            number,
            "the socket's number inside the program, not an error number",
        ));
    }
    if let Some(endpoint) = &endpoint {
        recognised.push(fact("address", &endpoint.to_string(), endpoint.meaning()));
    }
    Some(Message {
        topic,
        recognised,
        program: program.and_then(|program| programs::named(program.id?)),
        needs: needs(topic),
        endpoint,
    })
}

fn fact(name: &str, value: &str, meaning: &str) -> Fact {
    Fact { name: name.to_owned(), value: value.to_owned(), meaning: meaning.to_owned() }
}

/// The text in lower case, in one line, with plain quotes and without a terminal's colours; and where in it the lines
/// are that it was made of.
fn tidy(text: &str) -> (String, Vec<Range<usize>>) {
    let plain = without_colours(text)
        .replace(['\u{2018}', '\u{2019}', '`', '\u{b4}'], "'")
        .replace(['\u{201c}', '\u{201d}'], "\"")
        .to_lowercase();
    let mut joined = String::with_capacity(plain.len());
    let mut lines = Vec::new();
    for line in plain.lines() {
        let start = joined.len();
        for word in line.split_whitespace() {
            if !joined.is_empty() {
                joined.push(' ');
            }
            joined.push_str(word);
        }
        lines.push(start..joined.len());
    }
    (joined, lines)
}

/// Takes out `ESC [ ... letter`, which sets colours, and what other control characters there are.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &part[end + 1..]));
    }
    plain.retain(|c| !c.is_control() || c.is_whitespace());
    plain
}

/// Which page an errno leads to: 98 and 99 mean different things at different calls.
fn topic(errno: &Errno, call: Option<Call>, endpoint: Option<&Endpoint>) -> &'static str {
    let port = endpoint.and_then(|endpoint| endpoint.port);
    match (errno.name, call) {
        ("EADDRNOTAVAIL", Some(Call::Connect)) if endpoint.is_some_and(Endpoint::may_be_ipv6) => {
            "EADDRNOTAVAIL-ipv6"
        }
        ("EADDRNOTAVAIL", Some(Call::Connect)) => "EADDRNOTAVAIL-connect",
        ("EADDRNOTAVAIL", Some(Call::Bind | Call::Listen)) => "EADDRNOTAVAIL-bind",
        ("EADDRINUSE", Some(Call::Listen)) => "EADDRINUSE-listen",
        ("EADDRINUSE", Some(Call::Bind)) => match port {
            Some(0) => "EADDRINUSE-bind-pool",
            Some(_) => "EADDRINUSE-listen",
            None => "EADDRINUSE",
        },
        _ => errno.topic,
    }
}

fn needs(topic: &str) -> &'static [Need] {
    match topic {
        "EADDRNOTAVAIL-connect" => &[Need::ReuseConnections, Need::MoreSources],
        "EADDRINUSE-bind-pool" => &[Need::PortAtConnect, Need::ReuseConnections],
        "EMFILE" => &[Need::MoreDescriptors],
        "EAGAIN" | "syn-flooding" => &[Need::LongerBacklog],
        _ => &[],
    }
}

/// The number behind `FD`, as Squid gives it.
fn descriptor(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("socket fd ")?;
    let number = rest.split(' ').next()?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(number)
}

#[cfg(test)]
mod tests;
