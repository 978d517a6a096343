//! Pages made of rows that are kept elsewhere: settings, socket options, kinds of findings, programs.

use tidewait_model::catalogue::{Belief, InNamespace, Setting, SocketOption, Value};
use tidewait_model::explain::{self as wire, Correction, Explanation, Fact, Kind, Section, Topic};
use tidewait_model::report::Report;

use super::article::{Claim, corrections, first_sentence, owned};
use super::claims;
use super::here;
use crate::programs::Program;

fn page(topic: &str, kind: Kind, summary: String) -> Explanation {
    Explanation {
        schema: wire::SCHEMA.to_owned(),
        topic: topic.to_owned(),
        kind,
        recognised: Vec::new(),
        summary,
        here: Vec::new(),
        sections: Vec::new(),
        configuration: Vec::new(),
        corrections: Vec::new(),
        see_also: Vec::new(),
        sources: Vec::new(),
    }
}

fn section(heading: &str, text: Vec<String>) -> Option<Section> {
    (!text.is_empty()).then(|| Section { heading: heading.to_owned(), text })
}

/// What settings are called in speech, beside parts of their names.
const SPOKEN: &[(&str, &[&str])] = &[
    ("net.ipv4.ip_local_port_range", &["port-range", "ephemeral-port-range"]),
    ("net.ipv4.ip_local_reserved_ports", &["reserved-ports"]),
    ("net.ipv4.tcp_keepalive_intvl", &["tcp_keepalive_interval", "keepalive_interval"]),
    // Its names in the days of ip_conntrack are in many a manual still.
    (
        "net.netfilter.nf_conntrack_max",
        &[
            "conntrack-max",
            "ip_conntrack_max",
            "net.ipv4.ip_conntrack_max",
            "net.ipv4.netfilter.ip_conntrack_max",
        ],
    ),
];

/// Names for the last part of a setting's name: itself, and without the protocol before it; and what it is called in
/// speech.
fn short_names(name: &str) -> Vec<String> {
    let short = name.rsplit_once('.').map_or(name, |(_, short)| short);
    let mut names = vec![short.to_owned()];
    for protocol in ["tcp_", "ip_", "nf_conntrack_tcp_", "nf_"] {
        if let Some(rest) = short.strip_prefix(protocol) {
            names.push(rest.to_owned());
        }
    }
    let spoken = SPOKEN.iter().filter(|(setting, _)| *setting == name).flat_map(|(_, spoken)| *spoken);
    for spoken in spoken.map(|spoken| (*spoken).to_owned()) {
        if !names.contains(&spoken) {
            names.push(spoken);
        }
    }
    names
}

pub(super) fn setting_entry(row: &Setting) -> Topic {
    Topic {
        topic: row.name.to_owned(),
        kind: Kind::Setting,
        summary: capital(row.summary),
        aliases: short_names(row.name),
    }
}

pub(super) fn setting(row: &'static Setting, report: Option<&Report>) -> Explanation {
    let mut page = page(row.name, Kind::Setting, sentence(row.summary));
    page.here = report.map(|report| here::setting_here(row, report)).unwrap_or_default();
    page.sections = [
        section("What it does", owned(row.affects)),
        section("Beware", row.trap.map(str::to_owned).into_iter().collect()),
        section("Values", values(row)),
        section("Risk of a change", owned(&[row.risk])),
    ]
    .into_iter()
    .flatten()
    .collect();
    page.corrections = beliefs(row.does_not);
    page.corrections.extend(corrections(claims_about(row.name)));
    page.see_also = owned(row.see_also);
    page.sources = owned(row.sources);
    page
}

/// What is said of a setting in well-known threads and articles, beside the beliefs of its row.
fn claims_about(setting: &str) -> &'static [Claim] {
    match setting {
        "net.ipv4.tcp_tw_reuse" => &[claims::REUSE_DEFAULT, claims::REUSE_NO_EFFECT],
        "net.ipv4.tcp_tw_recycle" => &[claims::RECYCLE],
        _ => &[],
    }
}

/// What a setting takes, and what it is before anybody writes it.
fn values(row: &Setting) -> Vec<String> {
    // `0/1/2` says nothing that the values do not say.
    let unit = if row.unit.starts_with(|c: char| c.is_ascii_digit()) {
        String::new()
    } else {
        format!("; in {}", row.unit)
    };
    let mut text = vec![format!("Takes {}{unit}.", row.accepts)];
    let defaults: Vec<String> = row
        .defaults
        .iter()
        .map(|default| {
            let value = match default.value {
                Value::Text("") => "nothing",
                Value::Text(value) | Value::Computed(value) => value,
            };
            default.since.map_or_else(|| value.to_owned(), |since| format!("{value} since {since}"))
        })
        .collect();
    if !defaults.is_empty() {
        text.push(format!("Unless written: {}.", defaults.join(", ")));
    }
    if let Some(vendor) = row.vendor {
        text.push(format!("Only in kernels of {vendor}."));
    }
    let bounds = [
        row.since.map(|since| format!("since {since}")),
        row.removed_in.map(|gone| format!("gone in {gone}")),
    ];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    if !bounds.is_empty() {
        text.push(format!("In the kernel: {}.", bounds.join(", ")));
    }
    text.push(match row.in_namespace {
        InNamespace::Own => "Every network namespace, so every container, has its own.".to_owned(),
        InNamespace::OwnReadOnly => {
            "Every network namespace has its own; it cannot be written there.".to_owned()
        }
        InNamespace::Shared => {
            "One for the machine; it can be written from every network namespace.".to_owned()
        }
        InNamespace::SharedReadOnly => "One for the machine, written on the host.".to_owned(),
        InNamespace::Absent => "One for the machine; containers do not see it.".to_owned(),
    });
    text
}

fn beliefs(beliefs: &[Belief]) -> Vec<Correction> {
    beliefs
        .iter()
        .map(|belief| Correction { claim: belief.claim.to_owned(), truth: belief.truth.to_owned() })
        .collect()
}

/// What a value that was asked about would mean.
pub(super) fn value_asked(row: &Setting, value: &str, report: Option<&Report>) -> Fact {
    let meaning = match row.check(value) {
        Err(refusal) => refusal.to_string(),
        Ok(()) => row.meaning(value, here::kernel(report)),
    };
    Fact { name: "value".to_owned(), value: value.to_owned(), meaning }
}

pub(super) fn option_entry(row: &SocketOption) -> Topic {
    let short = row.name.split_once('_').map(|(_, short)| short.to_owned());
    Topic {
        topic: row.name.to_owned(),
        kind: Kind::Option,
        summary: capital(row.summary),
        // What `keepalive` is about is told by the concept of that name.
        aliases: short.into_iter().filter(|short| short != "KEEPALIVE").collect(),
    }
}

pub(super) fn option(row: &'static SocketOption) -> Explanation {
    let mut page = page(row.name, Kind::Option, sentence(row.summary));
    let since = row.since.map(|since| format!(" Since Linux {since}.")).unwrap_or_default();
    page.sections = [
        section("Who sets it", owned(&[row.who])),
        section("What it does", owned(row.affects)),
        section("Beware", row.trap.map(str::to_owned).into_iter().collect()),
        section(
            "How it is set",
            vec![format!("setsockopt(fd, {}, {}, ...): {}.{since}", row.level, row.name, row.value)],
        ),
        section("Risk", owned(&[row.risk])),
    ]
    .into_iter()
    .flatten()
    .collect();
    page.corrections = beliefs(row.does_not);
    page.see_also = owned(row.see_also);
    page.sources = owned(row.sources);
    page
}

pub(super) fn finding_entry(kind: &crate::Kind) -> Topic {
    Topic {
        topic: kind.id.to_owned(),
        kind: Kind::Finding,
        summary: capital(kind.title),
        aliases: Vec::new(),
    }
}

pub(super) fn finding(kind: &'static crate::Kind, report: Option<&Report>) -> Explanation {
    let mut page = page(kind.id, Kind::Finding, format!("{}. {}", capital(kind.title), kind.means));
    page.here = report.map(|report| here::finding(kind.id, report)).unwrap_or_default();
    page.sections = [
        section("Usual causes", kind.causes.iter().map(|cause| sentence(cause)).collect()),
        section("How it is told", vec![kind.told_by.to_owned()]),
        section("How bad it is", vec![capital(kind.severity)]),
    ]
    .into_iter()
    .flatten()
    .collect();
    page.see_also = owned(kind.see_also);
    page.sources = owned(kind.sources);
    page
}

/// A line of a row as a sentence.
fn sentence(text: &str) -> String {
    let text = capital(text);
    if text.ends_with(['.', '?', '!']) { text } else { format!("{text}.") }
}

fn capital(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        // `connect()`, `tcp_mem`: names are spelled as they are.
        Some(first) if word.chars().all(char::is_alphabetic) => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

pub(super) fn program_entry(program: &Program) -> Topic {
    let mut aliases = vec![program.name.to_owned()];
    aliases.extend(program.aliases.iter().map(|alias| (*alias).to_owned()));
    Topic {
        topic: program.id.to_owned(),
        kind: Kind::Program,
        summary: format!("{}: {}", program.name, first_sentence(program.about)),
        aliases,
    }
}

pub(super) fn program(program: &Program) -> Explanation {
    let mut page = page(program.id, Kind::Program, program.about.to_owned());
    page.configuration = program.configurations();
    page.see_also = owned(&["ports-per-destination", "two-pools", "accept-queue"]);
    page
}
