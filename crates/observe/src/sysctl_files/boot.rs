//! Who wins at boot: for each setting everything that sets it, in order, and what stands against the file of `tune persist`.
//!
//! Not followed: the credential `sysctl.extra` of systemd-sysctl, and programs that set values by themselves.

use std::path::Path;

use tidewait_model::Limit;
use tidewait_model::catalogue::setting;
use tidewait_model::machine::Configured;
use tidewait_model::persist::{
    Assignment, Boot, Conflict, FILE, ModuleHint, Outlook, Reader, Stage, same_value,
};

use super::reader::{self, files, manners};
use super::tree::Tree;
use super::{LAST, applied, excluded_at, is_same_file, later};

/// The directories of modules-load.d(5), and the older file of Debian.
const MODULES: [&str; 5] = [
    "etc/modules-load.d",
    "run/modules-load.d",
    "usr/local/lib/modules-load.d",
    "usr/lib/modules-load.d",
    "lib/modules-load.d",
];
const MODULES_FILE: &str = "etc/modules";

/// Everything that a boot of the system below `root` sets of the catalogue's settings, in order, for the program that
/// applies its sysctl files; for systemd-sysctl and for procps where it is not known which one does.
pub fn at_boot(root: &Path) -> (Vec<Boot>, Vec<Limit>) {
    let mut limits = Vec::new();
    let boots = boots(&Tree::new(root), &mut limits);
    (boots, limits)
}

/// The same as if `reader` were the program that applies the files.
pub fn at_boot_by(root: &Path, reader: Reader) -> (Boot, Vec<Limit>) {
    let mut limits = Vec::new();
    let boot = boot(&Tree::new(root), reader, None, &mut limits);
    (boot, limits)
}

/// What one boot does about one setting, out of [`at_boot`].
pub fn of_setting(boot: &Boot, setting: &str) -> Boot {
    let assignments = boot.assignments.iter().filter(|assignment| assignment.at.setting == setting);
    Boot { assignments: assignments.cloned().collect(), ..boot.clone() }
}

/// What will become of `kept`, names and values, once it is what [`FILE`] below `root` says. The file itself need not be
/// there.
pub fn outlook(root: &Path, kept: &[(String, String)]) -> Outlook {
    let text: String = kept.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    let tree = Tree::new(root).with(Path::new(FILE.trim_start_matches('/')), &text);
    let mut outlook = Outlook::default();
    let boots = boots(&tree, &mut outlook.limits);
    for (name, value) in kept {
        for boot in &boots {
            let boot = of_setting(boot, name);
            match conflict(&tree, &boot, name, value) {
                // Where the reader is not known, both would say the same.
                Some(conflict) if outlook.conflicts.iter().any(|other| same_conflict(other, &conflict)) => {}
                Some(conflict) => outlook.conflicts.push(conflict),
                None => {
                    for note in notes(&boot, name, value) {
                        if !outlook.notes.contains(&note) {
                            outlook.notes.push(note);
                        }
                    }
                }
            }
        }
    }
    outlook.modules = modules(&tree, kept);
    outlook
}

fn boots(tree: &Tree<'_>, limits: &mut Vec<Limit>) -> Vec<Boot> {
    let known = reader::at_boot(tree);
    let readers = match known {
        Some((reader, by)) => vec![(reader, Some(by))],
        None => vec![(Reader::SystemdSysctl, None), (Reader::Procps, None)],
    };
    let mut boots = Vec::new();
    for (reader, known_by) in readers {
        let mut told = Vec::new();
        boots.push(boot(tree, reader, known_by, &mut told));
        for limit in told {
            if !limits.contains(&limit) {
                limits.push(limit);
            }
        }
    }
    boots
}

fn boot(tree: &Tree<'_>, reader: Reader, known_by: Option<String>, limits: &mut Vec<Limit>) -> Boot {
    let mut assignments = later::kernel_command_line(tree);
    let paths = files(tree, reader, limits);
    let lines = applied(tree, &paths, manners(reader), limits);
    assignments.extend(lines.into_iter().map(|at| Assignment { stage: Stage::Files, at }));
    assignments.extend(later::ufw(tree, limits));
    let tuned = later::tuned(tree, &assignments, limits);
    assignments.extend(tuned);
    Boot { reader, known_by, assignments }
}

fn same_conflict(one: &Conflict, other: &Conflict) -> bool {
    one.setting == other.setting && one.winner.is_some() && one.winner == other.winner
}

/// Where a line stands.
fn place(at: &Configured) -> String {
    if at.line == 0 { at.file.clone() } else { format!("{}:{}", at.file, at.line) }
}

fn plain(value: &str) -> String {
    if value.is_empty() { "(empty)".to_owned() } else { value.to_owned() }
}

/// The conflict about one setting, where what wins is not what is kept.
fn conflict(tree: &Tree<'_>, boot: &Boot, name: &str, value: &str) -> Option<Conflict> {
    let winner = boot.winner();
    let differs = winner.is_none_or(|winner| !same_value(name, &winner.at.value, value));
    // Set to the same by something else, or by the kernel before anything is read: not to be relied on.
    let ours = boot.assignments.iter().any(|assignment| assignment.at.file == FILE);
    if !differs && ours {
        return None;
    }
    let told = |summary: String, mend: String| {
        Some(Conflict {
            setting: name.to_owned(),
            ours: value.to_owned(),
            winner: winner.cloned(),
            reader: boot.reader,
            summary,
            mend,
        })
    };
    if !ours {
        let (why, mend) = unread(tree, boot.reader, name, value);
        return told(format!("{name} = {} will not be set at boot: {why}", plain(value)), mend);
    }
    let winner = winner?;
    let (at, new) = (&winner.at, plain(&winner.at.value));
    if at.file == FILE {
        // Only the first word of the value is taken.
        let (why, mend) = cut(boot.reader, name, value);
        return told(format!("{name} will be {new} after boot and not {}: {why}", plain(value)), mend);
    }
    let summary = match winner.stage {
        Stage::Ufw => format!(
            "{name} may be {new} after boot: ufw sets it from {}, before or after {} applies {FILE}",
            place(at),
            boot.reader
        ),
        Stage::Tuned => {
            format!("{name} will be {new} after boot: the profile of tuned sets it later, {}", place(at))
        }
        Stage::TunedReapplies => {
            format!("{name} will be {new} after boot: tuned applies {} after {FILE}", place(at))
        }
        Stage::KernelCommandLine | Stage::Files => {
            format!("{name} will be {new} after boot: {} sets it later ({})", place(at), boot.reader)
        }
    };
    told(summary, mend(tree, boot.reader, winner))
}

/// What mends that another line wins.
fn mend(tree: &Tree<'_>, reader: Reader, winner: &Assignment) -> String {
    let at = &winner.at;
    let line = format!("delete line {} of {}", at.line, at.file);
    let name = at.file.rsplit('/').next().unwrap_or(&at.file);
    match winner.stage {
        Stage::Ufw => {
            format!("{line}, or write IPT_SYSCTL= into /etc/default/ufw, so that ufw leaves settings alone")
        }
        Stage::Tuned => format!(
            "set reapply_sysctl = 1 in /etc/tuned/tuned-main.conf, so that the files of /etc/sysctl.d win over the profile; or \
             make a profile of your own that includes this one and sets {} as wanted",
            at.setting
        ),
        Stage::KernelCommandLine | Stage::Files | Stage::TunedReapplies => match at.file.as_str() {
            "/etc/sysctl.conf" => line,
            file if is_same_file(tree, Path::new(file.trim_start_matches('/')), LAST) => {
                format!("delete line {} of /etc/sysctl.conf, which {file} is a link to", at.line)
            }
            file if file.starts_with("/etc/") => {
                format!("{line}, or give it a name that sorts before 80-tidewait.conf")
            }
            file if file.starts_with("/run/") => format!(
                "find the program that writes {file}, which is gone after a boot until it is written again, and let it leave {} out",
                at.setting
            ),
            file if reader == Reader::OpenrcAlpine => format!("delete line {} of {file}", at.line),
            file => format!(
                "the file belongs to a package: put a copy of {file} without line {} into /etc/sysctl.d/{name}, which hides it",
                at.line
            ),
        },
    }
}

/// Why a line of [`FILE`] is not applied at all, and what mends that.
fn unread(tree: &Tree<'_>, reader: Reader, name: &str, value: &str) -> (String, String) {
    let run = "run/sysctl.d/80-tidewait.conf";
    let by_hand = format!("run `sysctl -w {name}='{value}'` from a script at the end of the boot");
    if matches!(reader, Reader::OpenrcAlpine | Reader::Procps3Old) && tree.there(run) {
        return (format!("/{run} hides {FILE} from {reader}"), format!("remove /{run}"));
    }
    let paths = files(tree, reader, &mut Vec::new());
    let excluded = excluded_at(tree, &paths, name, manners(reader)).filter(|_| manners(reader).by_name);
    if let Some((file, line)) = excluded {
        return (
            format!("{file}:{line} takes it back with -{name}"),
            format!("delete line {line} of {file}"),
        );
    }
    if reader == Reader::OpenrcBusybox && !tree.there(LAST) {
        return (
            format!("without /etc/sysctl.conf {reader} reads nothing"),
            "create an empty file /etc/sysctl.conf".to_owned(),
        );
    }
    if value.is_empty() && !manners(reader).empty {
        return (format!("{reader} passes over a line with an empty value"), by_hand);
    }
    (format!("{reader} does not take it from {FILE}"), by_hand)
}

fn cut(reader: Reader, name: &str, value: &str) -> (String, String) {
    (
        format!("{reader} takes a value up to its first space"),
        format!(
            "install procps, which the service then calls instead; or run `sysctl -w {name}='{value}'` from a script at the end of \
             the boot"
        ),
    )
}

/// What else sets the setting, where what is kept wins.
fn notes(boot: &Boot, name: &str, value: &str) -> Vec<String> {
    let others = boot.assignments.iter().filter(|assignment| assignment.at.file != FILE);
    others
        .map(|other| {
            let at = place(&other.at);
            if same_value(name, &other.at.value, value) {
                format!("{name} is set to the same by {at}")
            } else {
                format!("{name} is set to {} by {at}, which {FILE} overrides", plain(&other.at.value))
            }
        })
        .collect()
}

/// The modules of kept settings that nothing is known to load before the files are applied.
fn modules(tree: &Tree<'_>, kept: &[(String, String)]) -> Vec<ModuleHint> {
    let mut hints: Vec<ModuleHint> = Vec::new();
    for (name, _) in kept {
        let Some(module) = setting(name).and_then(|row| row.module) else { continue };
        if let Some(hint) = hints.iter_mut().find(|hint| hint.module == module) {
            hint.settings.push(name.clone());
        } else if !is_loaded_early(tree, module) {
            let file = "/etc/modules-load.d/tidewait.conf".to_owned();
            let directory = name.rsplit_once('.').map_or(name.as_str(), |(above, _)| above).replace('.', "/");
            let mend = format!(
                "where {module} is not loaded yet when the files are applied, their lines about it are passed over: write {module} \
                 into {file} (modules-load.d(5)); or let udev apply them when the module comes, by a rule \
                 ACTION==\"add\", SUBSYSTEM==\"module\", KERNEL==\"{module}\", \
                 RUN+=\"/usr/lib/systemd/systemd-sysctl --prefix=/{directory}\" (sysctl.d(5))"
            );
            let (module, settings) = (module.to_owned(), vec![name.clone()]);
            hints.push(ModuleHint { line: module.clone(), module, settings, mend, file });
        }
    }
    hints
}

/// Whether a module is built in, or named where modules are loaded before settings are applied.
fn is_loaded_early(tree: &Tree<'_>, module: &str) -> bool {
    let names = |text: String| text.lines().any(|line| line.split_whitespace().next() == Some(module));
    let listed = MODULES.iter().any(|directory| {
        let files = tree.names(directory).unwrap_or_default();
        files
            .iter()
            .filter(|name| name.ends_with(".conf"))
            .any(|name| tree.text(&Path::new(directory).join(name)).is_ok_and(names))
    });
    let built_in = |text: String| text.lines().any(|line| line.ends_with(&format!("/{module}.ko")));
    // The system that runs here: what is built in has no state of loading.
    let running = format!("sys/module/{module}");
    listed
        || tree.text(Path::new(MODULES_FILE)).is_ok_and(names)
        || tree.there(&running) && !tree.there(&format!("{running}/initstate"))
        || ["usr/lib/modules", "lib/modules"].iter().any(|directory| {
            let mut kernels = tree.names(directory).unwrap_or_default().into_iter().peekable();
            kernels.peek().is_some()
                && kernels.all(|kernel| {
                    let list = Path::new(directory).join(kernel).join("modules.builtin");
                    tree.text(&list).is_ok_and(built_in)
                })
        })
}

#[cfg(test)]
mod tests;
