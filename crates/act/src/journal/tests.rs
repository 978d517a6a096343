//! The journal as a file: what is written is read again, and what was torn or touched is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use tidewait_model::tune::{NamespaceId, State, Undoing, Was};

use super::*;

/// Another test may just be starting a program, which holds every lock of this process until it has begun.
const PATIENCE: Duration = Duration::from_secs(5);

fn entry(number: u64) -> Entry {
    Entry {
        number,
        plan: "ba7816bf8f01".to_owned(),
        from: "profile proxy".to_owned(),
        begun_at: "2026-11-26T03:12:45Z".to_owned(),
        by: "root".to_owned(),
        pid: 7,
        namespace: NamespaceId { name: "host".to_owned(), inode: 1, cookie: Some(2) },
        configured: true,
        boot: "3231df93".to_owned(),
        changes: vec![Was {
            setting: "net.ipv4.ip_local_port_range".to_owned(),
            before: "32768\t60999".to_owned(),
            wanted: "10240\t65535".to_owned(),
        }],
        deadline: None,
        state: State::Begun,
    }
}

fn at() -> String {
    "2026-11-26T03:13:45Z".to_owned()
}

/// A journal of three changes: one undone, one in force, one begun.
fn written(directory: &Path) -> Vec<u8> {
    let mut journal = Journal::open(directory, PATIENCE).unwrap();
    for number in 1..=3 {
        journal.append(&Record::Begin(Box::new(entry(number)))).unwrap();
        if number < 3 {
            journal.append(&Record::Applied { number, at: at() }).unwrap();
        }
    }
    let undone = Record::Undone { number: 1, at: at(), why: Undoing::Rollback, left: Vec::new() };
    journal.append(&undone).unwrap();
    fs::read(journal.path()).unwrap()
}

#[test]
fn what_is_written_is_read_again_with_and_without_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("deep/er");
    assert_eq!(read(&state).unwrap(), None);
    written(&state);
    let reading = read(&state).unwrap().unwrap();
    let journal = Journal::open(&state, PATIENCE).unwrap();
    assert_eq!(reading.entries, journal.entries());
    let states: Vec<bool> = journal.entries().iter().map(Entry::is_open).collect();
    assert_eq!(states, [false, true, true]);
    assert_eq!(journal.next(), 4);
    assert!(!reading.busy && read(&state).unwrap().unwrap().busy);
    let text = fs::read_to_string(journal.path()).unwrap();
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["what"].is_string() && value["sum"].is_string(), "{line}");
    }
}

#[test]
fn one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let first = Journal::open(directory.path(), PATIENCE).unwrap();
    let busy = Journal::open(directory.path(), Duration::from_millis(50)).unwrap_err();
    assert!(busy.to_string().contains("another tidewait is at work"), "{busy}");
    drop(first);
    assert!(Journal::open(directory.path(), PATIENCE).is_ok());
}

#[test]
fn the_lock_is_for_its_owner_and_the_journal_for_everybody_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let _journal = Journal::open(directory.path(), PATIENCE).unwrap();
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(LOCK), 0o600);
    assert_eq!(mode(FILE), 0o644);
    // A lock on the journal itself keeps nobody.
    let other = File::open(directory.path().join(FILE)).unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(_journal);
    assert!(Journal::open(directory.path(), PATIENCE).is_ok());
}

#[test]
fn a_pipe_in_its_place_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, directory.path().join(FILE), rustix::fs::Mode::RWXU).unwrap();
    assert!(read(directory.path()).unwrap_err().to_string().contains("not a file"));
    assert!(Journal::open(directory.path(), PATIENCE).unwrap_err().to_string().contains("not a file"));
}

#[test]
fn cut_anywhere_it_is_what_it_was_a_few_records_ago_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let whole = written(directory.path());
    let path = directory.path().join(FILE);
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        let mut journal = Journal::open(directory.path(), PATIENCE).unwrap();
        assert!(journal.sound().is_ok(), "cut at {length}");
        let number = journal.next();
        journal.append(&Record::Begin(Box::new(entry(number)))).unwrap();
        drop(journal);
        let reading = read(directory.path()).unwrap().unwrap();
        assert_eq!(reading.damaged, Vec::<u64>::new(), "cut at {length}");
        assert_eq!(reading.entries.last().map(|entry| entry.number), Some(number));
        let kept = fs::read(&path).unwrap();
        let end = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(lines.saturating_sub(1));
        let kept_from_before = if lines == 0 { 0 } else { end.unwrap().0 + 1 };
        assert_eq!(kept[..kept_from_before], whole[..kept_from_before], "cut at {length}");
    }
}

#[test]
fn lines_that_are_missing_twice_there_or_in_another_order_are_damage() {
    let directory = tempfile::tempdir().unwrap();
    let whole = String::from_utf8(written(directory.path())).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let without: Vec<&str> =
        lines.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| *line).collect();
    let twice: Vec<&str> = lines.iter().take(2).chain(&lines[1..]).copied().collect();
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    for changed in [without, twice, swapped] {
        fs::write(directory.path().join(FILE), changed.join("\n") + "\n").unwrap();
        let journal = Journal::open(directory.path(), PATIENCE).unwrap();
        let damaged = journal.sound().unwrap_err().to_string();
        assert!(damaged.contains("damaged in line"), "{damaged}");
    }
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let line = write_line(1, &Record::Journal { version: VERSION + 1 });
    fs::write(directory.path().join(FILE), &line).unwrap();
    let refused = Journal::open(directory.path(), PATIENCE).unwrap_err();
    assert!(matches!(refused, JournalError::Newer { version, .. } if version == VERSION + 1));
    assert!(read(directory.path()).is_err());
    assert_eq!(fs::read_to_string(directory.path().join(FILE)).unwrap(), line);
}

proptest! {
    #[test]
    fn a_byte_that_was_changed_is_never_believed(place in 0_usize..10_000, byte: u8) {
        let directory = tempfile::tempdir().unwrap();
        let whole = written(directory.path());
        let mut changed = whole.clone();
        let place = place % whole.len();
        changed[place] = byte;
        let before = contents(&whole, Path::new("journal")).unwrap();
        let after = contents(&changed, Path::new("journal")).unwrap();
        // The same, or damage is told, or the end is missing, as after a crash.
        let same = after.entries == before.entries && after.lines == before.lines;
        let shorter = after.whole < changed.len() as u64;
        prop_assert!(same || !after.damaged.is_empty() || shorter);
    }
}
