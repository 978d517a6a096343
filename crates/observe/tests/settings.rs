//! The catalogue of settings against the running kernel. What is written is written in namespaces made for it; the
//! machine's own settings are only read.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use tidewait_lab::{NetNs, isolated, skip};
use tidewait_model::catalogue::{
    Accepts, Expected, InNamespace, Objection, SECONDS, SETTINGS, Setting, Value, setting,
};
use tidewait_model::{PortSet, Settings, Version};
use tidewait_observe::procfs::settings;

/// `INT_MAX / HZ` with the lowest HZ, 100: more seconds than that no kernel takes.
const SECONDS_ANYWHERE: i64 = 21_474_836;

fn kernel() -> Version {
    let name = rustix::system::uname();
    name.release().to_str().unwrap().parse().unwrap()
}

/// Everything that the namespace of the calling thread has, read as the report reads it.
fn all_here() -> Settings {
    settings(Path::new("/")).0
}

/// Everything that a namespace has.
fn all(namespace: &NetNs) -> Settings {
    namespace.run(all_here).unwrap()
}

/// The value as a namespace has it, or `None` where there is no such file.
fn read_in(namespace: &NetNs, setting: &Setting) -> Option<String> {
    all(namespace).0.remove(setting.name)
}

/// Writes as sysctl(8) does, with a line end: an empty text alone would not reach the kernel.
fn write(namespace: &NetNs, setting: &Setting, text: &str) -> bool {
    namespace.set(setting.name, &format!("{text}\n")).is_ok()
}

/// The rows that a new namespace has a value of its own of, and that can be written.
fn own(settings: &Settings) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|row| row.in_namespace == InNamespace::Own && settings.text(row.name).is_some())
}

#[test]
fn settings_are_there_or_not_as_their_rows_say() {
    const TEST: &str = "settings_are_there_or_not_as_their_rows_say";
    isolated(TEST, || {
        let fresh = all(&NetNs::new().unwrap());
        let (mut not_loaded, mut ported_back) = (Vec::new(), Vec::new());
        for row in SETTINGS {
            let there = fresh.text(row.name).is_some();
            let name = row.name;
            match row.expected_on(kernel()) {
                _ if row.in_namespace == InNamespace::Absent => assert!(!there, "{name} is in a namespace"),
                Expected::Present if !there && row.module.is_some() => not_loaded.push(name),
                Expected::Present => assert!(there, "{name} is missing"),
                Expected::NotYet if there => ported_back.push(name),
                Expected::Gone => assert!(!there, "{name} is not gone"),
                Expected::NotYet | Expected::VendorOnly => {}
            }
        }
        for (rows, why) in
            [(not_loaded, "their module is not loaded"), (ported_back, "this kernel has them ported back")]
        {
            if !rows.is_empty() {
                skip(TEST, format_args!("{}: {why}", rows.join(", ")));
            }
        }
    });
}

#[test]
fn a_new_namespace_has_the_defaults_of_the_rows() {
    isolated("a_new_namespace_has_the_defaults_of_the_rows", || {
        let fresh = all(&NetNs::new().unwrap());
        for row in own(&fresh).filter(|row| row.expected_on(kernel()) == Expected::Present) {
            let found = fresh.text(row.name).unwrap();
            match row.default_for(kernel()) {
                Some(Value::Text(text)) => assert_eq!(found, text, "{}", row.name),
                Some(Value::Computed(_)) => row.check(found).unwrap(),
                None => panic!("{} has no default", row.name),
            }
        }
    });
}

#[test]
fn what_the_machine_has_set_passes_the_check_and_means_something() {
    let here = all_here();
    for row in SETTINGS {
        let Some(text) = here.text(row.name) else { continue };
        if row.accepts != Accepts::Nothing
            && let Err(refusal) = row.check(text)
        {
            // Somebody may have set what only makes no sense; what the kernel holds it cannot have refused.
            assert_eq!(refusal.objection, Objection::Meaningless, "{refusal}");
        }
        assert!(!row.meaning(text, kernel()).is_empty(), "{}", row.name);
    }
    assert!(here.0.len() > 20, "{} settings read", here.0.len());
}

#[test]
fn values_live_where_the_rows_say() {
    const TEST: &str = "values_live_where_the_rows_say";
    isolated(TEST, || {
        let (changed, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
        let (fresh, before, machine) = (all(&changed), all(&other), all_here());
        for row in SETTINGS {
            let (Some(found), machines) = (fresh.text(row.name), machine.text(row.name)) else { continue };
            match row.in_namespace {
                InNamespace::Own => {
                    let new = another(row, found);
                    changed
                        .set(row.name, &new)
                        .unwrap_or_else(|error| panic!("{} = {new}: {error}", row.name));
                    assert_eq!(read_in(&changed, row).as_deref(), Some(&*new), "{}", row.name);
                }
                InNamespace::OwnReadOnly => {
                    assert!(changed.set(row.name, "1").is_err(), "{} can be written", row.name);
                }
                InNamespace::SharedReadOnly => {
                    // The machine's value written again would change nothing if it were taken.
                    assert!(changed.set(row.name, found).is_err(), "{} can be written", row.name);
                    assert_eq!(Some(found), machines, "{}", row.name);
                }
                InNamespace::Shared => assert_eq!(Some(found), machines, "{}", row.name),
                InNamespace::Absent => panic!("{} is in a namespace", row.name),
            }
        }
        // What can only be read counts by itself.
        let lasting = |mut settings: Settings| {
            settings.0.retain(|name, _| setting(name).is_some_and(|row| row.accepts != Accepts::Nothing));
            settings
        };
        assert_eq!(lasting(all(&other)), lasting(before), "another namespace changed as well");
        assert_eq!(lasting(all_here()), lasting(machine), "the namespace of the test changed as well");
    });
}

/// A value that the row's check allows and that is not `found`.
fn another(row: &Setting, found: &str) -> String {
    let candidates = match row.accepts {
        Accepts::Number { sensible, .. } => vec![sensible.min.to_string(), (sensible.min + 1).to_string()],
        Accepts::Choice { choices, .. } => choices.iter().map(|choice| choice.value.to_string()).collect(),
        Accepts::PortRange => vec!["20000 30001".to_owned()],
        Accepts::PortList => vec!["25000-25009".to_owned()],
        Accepts::Pages | Accepts::Nothing => vec![],
    };
    candidates.into_iter().find(|value| value != found).unwrap()
}

/// Texts at the borders of what a row says the kernel takes.
fn borders(row: &Setting) -> Vec<String> {
    let words: &[&str] = match row.accepts {
        Accepts::Number { .. } | Accepts::Choice { .. } => {
            &["", "1 2", "1x", "+1", "01", "0x1", "1.0", "one", "99999999999999999999"]
        }
        Accepts::PortRange => &[
            "1024 65535",
            "1023 65535",
            "40000 40000",
            "40001 40000",
            "0 40000",
            "1024 65536",
            "40000",
            "1024 65535 7",
            "0x8000 60999",
            "032768 60999",
            "32768-60999",
            "32768, 60999",
            "32768 61000",
            "",
        ],
        Accepts::PortList => &[
            "",
            "8080",
            "1",
            "65535",
            "65536",
            "8080,9000-9009",
            "9000-9009,8080",
            "80,80",
            "80 443",
            "80, 443",
            " 80",
            "9009-9000",
            "9000-9000",
            "0",
            "0-5",
            ",80",
            "80,",
            "80,,443",
            "http",
            "1-2-3",
            "-5",
            "010",
            "0x10",
            "80;443",
        ],
        Accepts::Pages | Accepts::Nothing => &[],
    };
    let mut numbers = Vec::new();
    match row.accepts {
        Accepts::Number { kernel, sensible, gap } => {
            numbers.extend([kernel.min, kernel.max, sensible.min, sensible.max]);
            if kernel == SECONDS {
                numbers.extend([-SECONDS_ANYWHERE - 1, SECONDS_ANYWHERE + 1]);
            } else {
                numbers.extend([kernel.min - 1, kernel.max + 1]);
            }
            numbers.extend(gap.into_iter().flat_map(|gap| [gap.of.min, gap.of.max]));
        }
        Accepts::Choice { kernel, choices } => {
            numbers.extend([kernel.min - 1, kernel.min, kernel.max, kernel.max + 1]);
            numbers.extend(choices.iter().map(|choice| choice.value));
        }
        _ => {}
    }
    words.iter().map(|word| (*word).to_owned()).chain(numbers.iter().map(i64::to_string)).collect()
}

/// Whether the setting holds what was written.
fn holds(row: &Setting, found: &str, written: &str) -> bool {
    if row.accepts != Accepts::PortList {
        return found == written;
    }
    let (found, written) = (PortSet::parse_list(found), PortSet::parse_list(written));
    found.1 == 0 && written.1 == 0 && found.0.iter().eq(written.0.iter())
}

#[test]
fn the_kernel_takes_and_refuses_what_the_rows_say() {
    isolated("the_kernel_takes_and_refuses_what_the_rows_say", || {
        let mut wrong = Vec::new();
        let mut tried = 0;
        for row in own(&all(&NetNs::new().unwrap())) {
            let namespace = NetNs::new().unwrap();
            let fresh = all(&namespace);
            for text in borders(row) {
                let said = row.check_beside(&text, &fresh).map_err(|refusal| refusal.objection);
                // What was there before must not look like what is written now.
                let before = if text == fresh.text(row.name).unwrap() {
                    another(row, &text)
                } else {
                    fresh.text(row.name).unwrap().to_owned()
                };
                assert!(write(&namespace, row, &before), "{} = {before:?}", row.name);
                let taken = write(&namespace, row, &text);
                let found = read_in(&namespace, row).unwrap();
                let held = taken && holds(row, &found, &text);
                tried += 1;
                let right = match said {
                    Ok(()) | Err(Objection::Meaningless) => held,
                    Err(Objection::Refused) => !taken && found == before,
                    Err(Objection::Changed) => !held,
                };
                if !right {
                    wrong.push(format!(
                        "{} = {text:?}: the row says {said:?}; taken: {taken}, now {found:?}",
                        row.name
                    ));
                }
            }
            assert!(write(&namespace, row, fresh.text(row.name).unwrap()));
        }
        assert!(wrong.is_empty(), "of {tried}:\n{}", wrong.join("\n"));
        assert!(tried > 200, "only {tried} values tried");
    });
}

#[test]
fn a_list_of_ports_goes_into_one_write_up_to_the_length_that_its_row_allows() {
    isolated("a_list_of_ports_goes_into_one_write_up_to_the_length_that_its_row_allows", || {
        let row = setting("net.ipv4.ip_local_reserved_ports").unwrap();
        // 682 ports of five digits and their commas are 4091 letters.
        for (count, fits) in [(1, true), (100, true), (682, true), (683, false), (2_000, false)] {
            let list = (0..count).map(|at| (20_000 + 2 * at).to_string()).collect::<Vec<_>>().join(",");
            assert_eq!(
                row.check(&list).map_err(|refusal| refusal.objection),
                if fits { Ok(()) } else { Err(Objection::Changed) }
            );
            let namespace = NetNs::new().unwrap();
            let text = format!("{list}\n");
            let write_once = || {
                let mut file = fs::OpenOptions::new().write(true).open(Path::new("/").join(row.path()))?;
                file.write(text.as_bytes())
            };
            let written = namespace.run(write_once).unwrap().unwrap();
            assert_eq!(written == text.len(), fits, "{count} ports: {written} of {} letters", text.len());
            assert_eq!(holds(row, &read_in(&namespace, row).unwrap(), &list), fits, "{count} ports");
        }
    });
}

#[test]
fn an_orphan_in_the_gap_of_tcp_fin_timeout_lives_as_its_meaning_says() {
    isolated("an_orphan_in_the_gap_of_tcp_fin_timeout_lives_as_its_meaning_says", || {
        let row = setting("net.ipv4.tcp_fin_timeout").unwrap();
        let meaning = row.meaning("61", kernel());
        assert!(meaning.contains("lives 2 s, not 61"), "{meaning}");
        let namespace = NetNs::new().unwrap();
        namespace.set(row.name, "61").unwrap();
        let lived = namespace
            .run(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut peer, _) = listener.accept().unwrap();
                drop(client);
                // The peer has seen the end and does not close.
                assert_eq!(peer.read(&mut [0]).unwrap(), 0);
                let begun = Instant::now();
                while closing() > 0 {
                    assert!(begun.elapsed() < Duration::from_secs(50), "it does live its 61 s");
                    std::thread::sleep(Duration::from_millis(50));
                }
                begun.elapsed()
            })
            .unwrap();
        // Two timers of one second, each late by a little; in an emulated machine by more.
        assert!(lived > Duration::from_millis(1_500), "{lived:?}");
        assert!(lived < Duration::from_secs(20), "{lived:?}");
    });
}

/// Sockets in FIN_WAIT1, until the peer has acknowledged, and FIN_WAIT2 in the namespace of the calling thread.
fn closing() -> usize {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    table.lines().filter(|line| matches!(line.split_ascii_whitespace().nth(3), Some("04" | "05"))).count()
}
