//! The reference page of settings and socket options, docs/settings.md: the rows of the catalogue as Markdown.

use std::fmt::Write as _;

use tidewait_model::catalogue::{
    Accepts, Belief, InNamespace, OPTIONS, SETTINGS, Scope, Setting, SocketOption, Value, obsolete,
};

/// What stands above the tables.
const HEAD: &str = "\
# Settings and socket options

What bears on TCP connections that run out, one entry each: what it takes, what it is by default, what it changes, and what it is
often thought to change. Written by `cargo xtask generate` from the rows in `crates/model/src/catalogue`; the rows are held against
running kernels by `crates/observe/tests/settings.rs`. What they do about TIME_WAIT and ports is measured in
[settings-measured.md](settings-measured.md); changing them is `tidewait tune` ([tune.md](tune.md)).

A version is that of mainline. Distributions port features back: /proc/sys tells what is there, and `tidewait doctor` tries. Where no
first version is given, the setting is older than 4.4, the oldest kernel whose source was looked at.

";

/// Spellings that files may still hold, to show by example what became of them.
const OLD_NAMES: &[&str] = &[
    "net.ipv4.tcp_tw_recycle",
    "net.ipv4.ip_conntrack_max",
    "net.ipv4.netfilter.ip_conntrack_max",
    "net.ipv4.netfilter.ip_conntrack_tcp_timeout_time_wait",
];

/// The page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    overview(&mut page);
    heading(&mut page, "## Settings");
    for setting in SETTINGS {
        of_setting(&mut page, setting);
    }
    heading(&mut page, "## Socket options");
    for option in OPTIONS {
        of_option(&mut page, option);
    }
    old_names(&mut page);
    page
}

fn overview(page: &mut String) {
    line(page, "| setting | what it is | takes | default |\n|---|---|---|---|");
    for setting in SETTINGS {
        let takes = match setting.accepts {
            Accepts::PortRange => "two ports".to_owned(),
            Accepts::PortList => "ports and ranges".to_owned(),
            Accepts::Pages => "three numbers".to_owned(),
            Accepts::Nothing => "nothing".to_owned(),
            Accepts::Number { sensible, .. } => format!("{} to {}", sensible.min, number(sensible.max)),
            Accepts::Choice { .. } => setting.accepts.to_string(),
        };
        let default = match setting.defaults.last().map(|default| default.value) {
            _ if setting.removed_in.is_some() => "gone".to_owned(),
            Some(Value::Text("")) => "empty".to_owned(),
            Some(Value::Text(text)) => text.to_owned(),
            Some(Value::Computed(_)) => "depends on memory".to_owned(),
            None => "not known".to_owned(),
        };
        row(page, &[&link(setting.name), setting.summary, &takes, &default]);
    }
    line(page, "\n| socket option | what it is | since |\n|---|---|---|");
    for option in OPTIONS {
        let since = option.since.map_or("before 4.4".to_owned(), |version| version.to_string());
        row(page, &[&link(option.name), option.summary, &since]);
    }
    line(page, "");
}

fn of_setting(page: &mut String, setting: &Setting) {
    heading(page, &format!("### {}", setting.name));
    line(page, &format!("{}.\n", capital(setting.summary)));
    line(page, "| | |\n|---|---|");
    row(page, &["takes", &takes(setting)]);
    row(page, &["default", &defaults(setting)]);
    row(page, &["where", &place(setting)]);
    if let Some(kernels) = kernels(setting) {
        row(page, &["kernels", &kernels]);
    }
    line(page, "");
    if let Accepts::Choice { choices, .. } = setting.accepts {
        for choice in choices {
            line(page, &format!("- `{}`: {}.", choice.value, choice.word));
        }
        line(page, "");
    }
    facts(page, setting.affects, setting.does_not, setting.trap, setting.risk);
    references(page, setting.see_also, setting.sources);
}

fn of_option(page: &mut String, option: &SocketOption) {
    heading(page, &format!("### {}", option.name));
    line(page, &format!("{}.\n", capital(option.summary)));
    line(page, "| | |\n|---|---|");
    row(page, &["level", option.level]);
    row(page, &["value", option.value]);
    row(page, &["set by", option.who]);
    if let Some(since) = option.since {
        row(page, &["kernels", &format!("from {since} on")]);
    }
    line(page, "");
    facts(page, option.affects, option.does_not, option.trap, option.risk);
    references(page, option.see_also, option.sources);
}

/// The sentences of a row.
fn facts(page: &mut String, affects: &[&str], does_not: &[Belief], trap: Option<&str>, risk: &str) {
    line(page, "What changes with it:\n");
    for affected in affects {
        line(page, &format!("- {affected}"));
    }
    line(page, "\nWhat is said of it, and what is so:\n");
    for belief in does_not {
        line(page, &format!("- *{}* {}", belief.claim, belief.truth));
    }
    if let Some(trap) = trap {
        line(page, &format!("\n**Trap:** {trap}"));
    }
    line(page, &format!("\n**Risk:** {risk}"));
}

fn references(page: &mut String, see_also: &[&str], sources: &[&str]) {
    let links: Vec<String> = see_also.iter().map(|name| link(name)).collect();
    line(page, &format!("\nSee also {}.\n\nSources: {}.\n", links.join(", "), sources.join("; ")));
}

fn old_names(page: &mut String) {
    heading(page, "## Names that are gone");
    line(page, "A line with one of these in a sysctl file changes nothing and is an error at boot.\n");
    line(page, "| in the file | now | gone by | why |\n|---|---|---|---|");
    for old in OLD_NAMES.iter().filter_map(|name| obsolete(name)) {
        let now = old.now.map_or("nothing".to_owned(), |now| format!("`{now}`"));
        row(page, &[&format!("`{}`", old.name), &now, &old.gone_in.to_string(), old.why]);
    }
}

fn takes(setting: &Setting) -> String {
    let takes = match setting.accepts {
        Accepts::Number { kernel, sensible, gap } => {
            let mut takes = format!("{} to {}", sensible.min, number(sensible.max));
            if let Some(gap) = gap {
                let _ = write!(takes, ", but not {} to {}", gap.of.min, gap.of.max);
            }
            if kernel != sensible {
                let _ = write!(takes, " (the kernel takes {} to {})", number(kernel.min), number(kernel.max));
            }
            takes
        }
        other => other.to_string(),
    };
    match setting.accepts {
        Accepts::Number { .. } | Accepts::Choice { .. } => format!("{takes}; unit: {}", setting.unit),
        _ => takes,
    }
}

fn defaults(setting: &Setting) -> String {
    let words = setting.defaults.iter().map(|default| {
        let value = match default.value {
            Value::Text("") => "empty".to_owned(),
            Value::Text(text) => format!("`{text}`"),
            Value::Computed(how) => how.to_owned(),
        };
        match default.since {
            Some(since) => format!("{value} from {since} on"),
            None => value,
        }
    });
    words.collect::<Vec<_>>().join("; ")
}

fn place(setting: &Setting) -> String {
    let place = match (setting.scope, setting.in_namespace) {
        (Scope::Namespace, InNamespace::OwnReadOnly) => {
            "each network namespace has its own; it can only be read"
        }
        (Scope::Namespace, _) => "each network namespace has its own, and a new one starts from the default",
        (Scope::Host, InNamespace::Absent) => "one for the machine; other network namespaces do not show it",
        (Scope::Host, InNamespace::SharedReadOnly) => {
            "one for the machine; other network namespaces show it and cannot write it"
        }
        (Scope::Host, _) => "one for the machine",
    };
    match setting.namespaced_since {
        Some(since) => format!("{place} (from {since} on; before, one for the machine)"),
        None => place.to_owned(),
    }
}

fn kernels(setting: &Setting) -> Option<String> {
    let mut kernels = Vec::new();
    kernels.extend(setting.vendor.map(|vendor| format!("not in mainline: {vendor}")));
    kernels.extend(setting.since.map(|since| format!("from {since} on")));
    kernels.extend(
        setting.removed_in.map(|removed| format!("until {removed}, which does not have it any more")),
    );
    kernels.extend(setting.module.map(|module| format!("with the module {module}")));
    (!kernels.is_empty()).then(|| kernels.join("; "))
}

/// The largest numbers by what they are, the others in digits.
fn number(number: i64) -> String {
    match number {
        i64::MAX => "2^63 - 1".to_owned(),
        _ if number == i64::from(i32::MAX) => "2^31 - 1".to_owned(),
        _ if number == i64::from(i32::MIN) => "-2^31".to_owned(),
        _ if number == i64::from(u32::MAX) => "2^32 - 1".to_owned(),
        _ => number.to_string(),
    }
}

/// A link to the row of that name. The anchor is what GitHub and most others make of the heading.
fn link(name: &str) -> String {
    format!("[{name}](#{})", anchor(name))
}

fn anchor(heading: &str) -> String {
    heading.to_ascii_lowercase().replace('.', "")
}

fn heading(page: &mut String, heading: &str) {
    line(page, &format!("{heading}\n"));
}

fn row(page: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    line(page, &format!("| {} |", cells.join(" | ")));
}

fn line(page: &mut String, line: &str) {
    page.push_str(line);
    page.push('\n');
}

fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_link_has_its_heading_and_every_row_its_section() {
        let page = page();
        let headings: BTreeSet<String> =
            page.lines().filter_map(|line| line.strip_prefix("### ")).map(anchor).collect();
        assert_eq!(headings.len(), SETTINGS.len() + OPTIONS.len());
        let links: Vec<&str> =
            page.split("](#").skip(1).map(|rest| rest.split_once(')').unwrap().0).collect();
        assert!(links.len() > headings.len());
        for link in links {
            assert!(headings.contains(link), "{link} leads nowhere");
        }
    }

    #[test]
    fn every_row_of_a_table_has_as_many_cells_as_its_head() {
        let page = page();
        let mut wanted = 0;
        for line in page.lines() {
            let cells = line.replace("\\|", "").matches('|').count();
            if !line.starts_with('|') {
                wanted = 0;
            } else if wanted == 0 {
                wanted = cells;
            }
            assert!(wanted == 0 || cells == wanted, "{line}");
        }
    }

    #[test]
    fn the_traps_and_the_beliefs_are_there() {
        let page = page();
        for words in ["70 gives 20 s", "but not 61 to 119", "| net.ipv4.tcp_tw_recycle", "2 from 4.19 on"] {
            assert!(page.replace(['`', '['], "").contains(words), "{words}");
        }
    }

    #[test]
    fn the_committed_page_is_that_of_the_rows() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page(), "docs/settings.md is out of date: run `cargo xtask generate`");
    }
}
