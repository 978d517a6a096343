//! What sets settings at boot besides the sysctl files: the kernel's command line before them, ufw and tuned after them.
//!
//! Sources: fs/proc/proc_sysctl.c `do_sysctl_args`; ufw 0.36 ufw-init-functions, ufw.service, which nothing keeps behind
//! systemd-sysctl; tuned 2.20 plugins/plugin_sysctl.py, plugins/base.py, profiles/loader.py, tuned.service.

use std::path::{Path, PathBuf};

use tidewait_model::Limit;
use tidewait_model::machine::Configured;
use tidewait_model::persist::{Assignment, Stage};

use super::line::key_of;
use super::reader::{Manners, OF_TUNED, reapplied};
use super::tree::{Tree, is_absent};
use super::{ALIAS, applied, is_of_interest, shown, shown_value, unreadable};

/// The manners of `sysctl -p` of procps, which ufw calls.
const OF_UFW: Manners =
    Manners { wildcards: true, dash: true, empty: true, first_word: false, by_name: false };
/// Where tuned has its profiles, those that count most first.
const PROFILES: [&str; 4] = ["etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned"];
/// More profiles than this include each other by mistake.
const MOST_PROFILES: usize = 32;
/// What is a yes in the files of tuned.
const TRUE: [&str; 4] = ["1", "true", "yes", "on"];

/// What the kernel's command line sets.
pub(super) fn kernel_command_line(tree: &Tree<'_>) -> Vec<Assignment> {
    let path = Path::new("proc/cmdline");
    let text = tree.text(path).unwrap_or_default();
    // A file of /proc has no length.
    let words = words(&text);
    let set = words.iter().filter_map(|word| {
        let (key, value) =
            word.strip_prefix("sysctl.").or_else(|| word.strip_prefix("sysctl/"))?.split_once('=')?;
        Some(Assignment { stage: Stage::KernelCommandLine, at: configured(path, 0, key, value)? })
    });
    set.collect()
}

/// The words of a command line; double quotes hold words together and go (lib/cmdline.c `next_arg`).
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words
}

/// A line about a setting of interest.
fn configured(path: &Path, line: u32, key: &str, value: &str) -> Option<Configured> {
    let name = key_of(key).replace('/', ".");
    is_of_interest(&name).then(|| Configured {
        file: shown(path),
        line,
        setting: if name == ALIAS.0 { ALIAS.1.to_owned() } else { name },
        value: shown_value(value),
    })
}

/// What ufw sets, where it is enabled.
pub(super) fn ufw(tree: &Tree<'_>, limits: &mut Vec<Limit>) -> Vec<Assignment> {
    let enabled = shell_variable(tree, "etc/ufw/ufw.conf", "ENABLED");
    if !enabled.is_some_and(|enabled| enabled.eq_ignore_ascii_case("yes")) {
        return Vec::new();
    }
    let Some(path) =
        shell_variable(tree, "etc/default/ufw", "IPT_SYSCTL").filter(|path| path.starts_with('/'))
    else {
        return Vec::new();
    };
    let path = PathBuf::from(path.trim_start_matches('/'));
    applied(tree, &[path], OF_UFW, limits)
        .into_iter()
        .map(|at| Assignment { stage: Stage::Ufw, at })
        .collect()
}

/// The last value of a variable in a file of shell assignments.
fn shell_variable(tree: &Tree<'_>, path: &str, name: &str) -> Option<String> {
    let text = tree.text(Path::new(path)).ok()?;
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    let word = words(value).into_iter().next()?;
    Some(word.trim_matches('\'').to_owned())
}

/// What tuned sets, where it is enabled: its profile, and then the files once more unless it is told not to.
pub(super) fn tuned(tree: &Tree<'_>, before: &[Assignment], limits: &mut Vec<Limit>) -> Vec<Assignment> {
    let wanted = ["etc/systemd/system/multi-user.target.wants/tuned.service", "etc/runlevels/default/tuned"];
    if !wanted.into_iter().any(|path| tree.entry(path)) {
        return Vec::new();
    }
    let active = tree.text(Path::new("etc/tuned/active_profile")).unwrap_or_default();
    let mut profile = Profile::default();
    for name in active.split_whitespace() {
        profile.load(tree, name, limits);
    }
    let mut set: Vec<Assignment> = Vec::new();
    for mut at in profile.options {
        let now = before.iter().chain(&set).rev().find(|earlier| earlier.at.setting == at.setting);
        if let Some(value) = modified(&at.value, now.map(|now| now.at.value.as_str())) {
            at.value = value;
            set.push(Assignment { stage: Stage::Tuned, at });
        }
    }
    let again = option(tree, "etc/tuned/tuned-main.conf", "reapply_sysctl");
    if again.is_none_or(|again| TRUE.contains(&again.to_ascii_lowercase().as_str())) {
        let files = reapplied(tree, limits);
        let lines = applied(tree, &files, OF_TUNED, limits);
        set.extend(lines.into_iter().map(|at| Assignment { stage: Stage::TunedReapplies, at }));
    }
    set
}

/// What comes of a value with `>` or `<` before it: raise to it or lower to it; `None` where there is nothing to do.
fn modified(value: &str, now: Option<&str>) -> Option<String> {
    let Some(bound) = value.strip_prefix(['>', '<']) else { return Some(value.to_owned()) };
    let numbers =
        now.and_then(|now| Some((bound.trim().parse::<i64>().ok()?, now.trim().parse::<i64>().ok()?)));
    let applies =
        numbers.is_none_or(|(bound, now)| if value.starts_with('>') { bound > now } else { bound < now });
    applies.then(|| bound.trim().to_owned())
}

/// An option of a file without sections, or of any section.
fn option(tree: &Tree<'_>, path: &str, name: &str) -> Option<String> {
    let text = tree.text(Path::new(path)).ok()?;
    text.lines().filter_map(ini).rfind(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// `key = value` of a profile, without the comment that may follow.
fn ini(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let value = value.split_once(" #").map_or(value, |(value, _)| value).trim();
    Some((key.trim(), value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)))
}

/// The settings of profiles that include each other.
#[derive(Default)]
struct Profile {
    options: Vec<Configured>,
    files: Vec<PathBuf>,
}

impl Profile {
    /// Adds a profile: first those that it includes, then its own.
    fn load(&mut self, tree: &Tree<'_>, name: &str, limits: &mut Vec<Limit>) {
        let name = name.trim_start_matches('-');
        let usable = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        let path = PROFILES
            .iter()
            .map(|directory| Path::new(directory).join(name).join("tuned.conf"))
            .find(|path| usable && !self.files.contains(path) && tree.is_file(path));
        let Some(path) = path.filter(|_| self.files.len() < MOST_PROFILES) else { return };
        self.files.push(path.clone());
        let text = match tree.text(&path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => return,
            Err(error) => return limits.push(unreadable(&shown(&path), &error)),
        };
        let sections = sections(&text);
        for (section, lines) in &sections {
            let included =
                lines.iter().filter(|_| *section == "main").filter(|(_, key, _)| *key == "include");
            for (_, _, names) in included {
                names.split([',', ';']).for_each(|name| self.load(tree, name.trim(), limits));
            }
        }
        for (section, lines) in sections {
            let value = |key| lines.iter().find(|(_, name, _)| *name == key).map(|(_, _, value)| *value);
            if value("type").unwrap_or(section) != "sysctl" {
                continue;
            }
            if value("replace").is_some_and(|replace| TRUE.contains(&replace)) {
                self.options.clear();
            }
            for (number, key, value) in lines {
                let Some(line) = configured(&path, number, key, value) else { continue };
                self.options.retain(|other| other.setting != line.setting);
                if line.value.contains("${") {
                    limits.push(
                        Limit::new(
                            format!("what line {number} of {} sets {} to", shown(&path), line.setting),
                            "the value is worked out by tuned when it starts",
                        )
                        .of_detail(),
                    );
                } else {
                    self.options.push(line);
                }
            }
        }
    }
}

/// A section with its lines: number, key, value.
type Section<'a> = (&'a str, Vec<(u32, &'a str, &'a str)>);

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|line| line.split(']').next()) {
            sections.push((name.trim(), Vec::new()));
        } else if let (Some((key, value)), Some((_, lines))) = (ini(line), sections.last_mut()) {
            lines.push((number, key, value));
        }
    }
    sections
}
