//! What studies leave behind in the state directory: read before TIME_WAIT is cut short, added to when a study ends.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::retry_on_intr;
use tidewait_kernel::file;
use tidewait_model::study::{DAYS, MEMORY_SCHEMA, Memory, Place, Study};
use tidewait_observe::{places, procfs};

/// The file in the state directory.
const FILE: &str = "study.json";
/// Held by whoever adds to it. The file itself is for everybody to read, and a lock on it would be for everybody to take.
const LOCK: &str = "study.lock";
/// What is written before it takes the file's place.
const NEW: &str = ".study.json.new";
/// A file as long as this was not written here.
const LONGEST: u64 = 16 << 20;

/// The file in a state directory.
pub fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Since when things count that were seen, RFC 3339 in UTC.
pub fn since() -> String {
    let span = jiff::SignedDuration::from_hours(24 * i64::from(DAYS));
    jiff::Timestamp::now().checked_sub(span).map_or_else(|_| String::new(), |since| format!("{since:.6}"))
}

/// A namespace as it is remembered.
pub fn place(place: &places::Place) -> Place {
    Place { name: place.name.clone(), inode: place.inode, boot: procfs::boot_id(Path::new("/")) }
}

/// What studies saw until now; nothing where there was none.
///
/// # Errors
/// Where there is a file that cannot be read, was written by somebody else, or is no memory.
pub fn read(directory: &Path) -> anyhow::Result<Memory> {
    let path = file(directory);
    let name = path.display();
    let file = match open(&path, OpenOptions::new().read(true)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Memory::default());
        }
        other => other.with_context(|| format!("what studies saw cannot be read from {name}"))?,
    };
    let about = file.metadata().with_context(|| format!("cannot look at {name}"))?;
    if !about.is_file() {
        bail!(
            "{name} is not a file: what studies saw is kept there; move it away, or have TIDEWAIT_STATE name another directory"
        );
    }
    let owner = about.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        bail!(
            "{name} belongs to user {owner}, who could have written anything: remove it, or give it to root"
        );
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).with_context(|| format!("cannot read {name}"))?;
    let remedy = "move it away; studies begin anew then";
    let memory: Memory = serde_json::from_slice(&text)
        .with_context(|| format!("{name} is damaged, or was not written by `tidewait study`: {remedy}"))?;
    if memory.schema != MEMORY_SCHEMA {
        bail!("{name} has the format {:?}, this tidewait knows {MEMORY_SCHEMA}: {remedy}", memory.schema);
    }
    Ok(memory)
}

/// Adds what a study saw that ended at `now`, RFC 3339 in UTC. The file is replaced in one piece; where it is not what it should be,
/// it stays as it is.
///
/// # Errors
/// As [`read`]; and where it cannot be written.
pub fn learn(directory: &Path, study: &Study, now: &str) -> anyhow::Result<PathBuf> {
    let path = file(directory);
    let cannot = || {
        let name = path.display();
        format!(
            "what was seen cannot be kept in {name}; run it as root, choose a directory with --state, or leave it with --no-memory"
        )
    };
    DirBuilder::new().recursive(true).mode(0o755).create(directory).with_context(cannot)?;
    let mut lock = OpenOptions::new();
    let lock = open(&directory.join(LOCK), lock.read(true).append(true).create(true).mode(0o600))
        .with_context(cannot)?;
    retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive)).with_context(cannot)?;
    let mut memory = read(directory)?;
    memory.learn(study, now, &since());
    let mut text = serde_json::to_vec_pretty(&memory)?;
    text.push(b'\n');
    // From a run that was killed; under the lock it is nobody's.
    if let Err(error) = fs::remove_file(directory.join(NEW))
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(cannot);
    }
    let above = File::open(directory).with_context(cannot)?;
    file::replace(&above, FILE, NEW, &text).with_context(cannot)?;
    Ok(path)
}

/// Opens a file, never what a link leads to, and waits for no pipe.
fn open(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    how.custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tidewait_model::study::{Destination, Kind, Place, Seen, Sighting};
    use tidewait_model::trace::Direction;

    use super::*;

    fn study(age_seconds: f64) -> Study {
        let sighting = Sighting { age_seconds, kind: Kind::Fin, at: crate::output::now() };
        let seen = Seen { sockets: 3, needed: 1, latest_needed: Some(sighting), ..Seen::default() };
        let destination = Destination {
            direction: Direction::Outgoing,
            end: Some("10.0.0.1:80".to_owned()),
            seen: seen.clone(),
        };
        Study {
            schema: tidewait_model::study::SCHEMA.to_owned(),
            begun_at: crate::output::now(),
            seconds: 1.0,
            host: tidewait_model::report::Host { hostname: "a".to_owned(), kernel: "6.1".to_owned() },
            namespace: Place { name: "host".to_owned(), inode: 7, boot: String::new() },
            method: tidewait_model::study::Method::Tc,
            sample: 1,
            time_wait_seconds: 60.0,
            limits: Vec::new(),
            segments_looked_at: None,
            packets_not_looked_at: 0,
            fin_wait2_segments: 0,
            bands: Vec::new(),
            total: seen,
            destinations: vec![destination],
        }
    }

    #[test]
    fn studies_add_up_over_runs() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("made/on the way");
        assert_eq!(read(&state).unwrap(), Memory::default());
        // What a run that was killed may leave.
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join(NEW), "half").unwrap();
        for age in [0.25, 0.5, 0.125] {
            learn(&state, &study(age), &crate::output::now()).unwrap();
        }
        let memory = read(&state).unwrap();
        let entry = &memory.destinations[0];
        assert_eq!(entry.latest_since(&since()).map(|seen| seen.age_seconds), Some(0.5));
        assert_eq!(entry.sockets, 9);
    }

    #[test]
    fn what_is_no_memory_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        for text in ["", "{", "[]", "{\"schema\": \"tidewait.study-memory/2\", \"destinations\": []}"] {
            fs::write(&path, text).unwrap();
            let refused = learn(directory.path(), &study(1.0), "2026-01-02T00:00:00Z").unwrap_err();
            assert!(format!("{refused:#}").contains(&path.display().to_string()), "{refused:#}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        symlink("/etc/hostname", &path).unwrap();
        assert!(read(directory.path()).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read(directory.path()).unwrap_err().to_string().contains("not a file"));
    }
}
