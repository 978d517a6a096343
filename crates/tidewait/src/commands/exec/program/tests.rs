//! Which programs a library can be loaded before, by files that are made to be so.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;

/// The headers of a program for `machine`, with one segment of a kind and a section of a name.
fn program(machine: u16, segment: u32, section: &str) -> Vec<u8> {
    let names = format!("\0.shstrtab\0{section}\0");
    let (segments, sections) = (64_u64, 64 + 56 + names.len() as u64);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [3, machine] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for offset in [0, segments, sections] {
        file.extend(offset.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 3, 1] {
        file.extend(half.to_le_bytes());
    }
    for word in [segment, 4] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 48]);
    file.extend(names.as_bytes());
    // None, the names, and the one.
    for (name, kind, offset, size) in
        [(0_u32, 0_u32, 0_u64, 0_u64), (1, 3, 120, names.len() as u64), (11, 1, 0, 16)]
    {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        for long in [0, 0, offset, size, 0, 1, 0] {
            file.extend(u64::to_le_bytes(long));
        }
    }
    // sh_link and sh_info are one of the longs above: as two words they are 0 as well.
    file
}

fn written(place: &TempDir, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = place.path().join(name);
    std::fs::write(&path, bytes)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn what_of(path: &Path, arguments: &[&str], search: &OsStr) -> io::Result<Option<Obstacle>> {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    obstacle(path, &arguments, search).map(|found| found.map(|(_, obstacle)| obstacle))
}

#[test]
fn programs_are_told_apart_by_their_headers() -> Outcome {
    let place = tempfile::tempdir()?;
    let cases = [
        (program(MACHINE, PT_INTERP, ".text"), None),
        (program(MACHINE, PT_LOAD, ".text"), Some(Obstacle::Static)),
        (program(MACHINE, PT_INTERP, ".go.buildinfo"), Some(Obstacle::Go)),
        (program(MACHINE, PT_INTERP, ".note.go.buildid"), Some(Obstacle::Go)),
        (program(8, PT_INTERP, ".text"), Some(Obstacle::OtherMachine)),
    ];
    for (bytes, expected) in cases {
        let path = written(&place, "program", &bytes)?;
        assert_eq!(what_of(&path, &[], OsStr::new(""))?, expected);
    }
    // A program for 32 bits, and one that is cut off.
    let mut small = program(MACHINE, PT_INTERP, ".text");
    small[4] = 1;
    assert_eq!(
        what_of(&written(&place, "small", &small)?, &[], OsStr::new(""))?,
        Some(Obstacle::OtherMachine)
    );
    let cut = written(&place, "cut", &program(MACHINE, PT_INTERP, ".text")[..40])?;
    assert!(what_of(&cut, &[], OsStr::new("")).is_err());
    Ok(())
}

#[test]
fn of_a_script_it_is_the_interpreter_that_counts() -> Outcome {
    let place = tempfile::tempdir()?;
    let search = place.path().as_os_str();
    let still = written(&place, "still", &program(MACHINE, PT_LOAD, ".text"))?;
    written(&place, "env", &program(MACHINE, PT_INTERP, ".text"))?;
    let direct = written(&place, "direct", format!("#! {} -x\n", still.display()).as_bytes())?;
    assert_eq!(obstacle(&direct, &[], search)?, Some((still.clone(), Obstacle::Static)));
    let nested = written(&place, "nested", format!("#!{}\n", direct.display()).as_bytes())?;
    assert_eq!(what_of(&nested, &[], search)?, Some(Obstacle::Static));
    let env = place.path().join("env");
    for line in ["still", "-S still -x", "A=1 still"] {
        let by_env = written(&place, "by-env", format!("#!{} {line}\n", env.display()).as_bytes())?;
        assert_eq!(what_of(&by_env, &[], search)?, Some(Obstacle::Static), "{line}");
    }
    // As a command.
    assert_eq!(what_of(&env, &["A=1", "still"], search)?, Some(Obstacle::Static));
    assert_eq!(what_of(&env, &["-i", "still"], search)?, None);
    assert_eq!(what_of(&env, &[], search)?, None);
    Ok(())
}

#[test]
fn a_program_is_found_as_the_shell_finds_it() -> Outcome {
    let (first, second) = (tempfile::tempdir()?, tempfile::tempdir()?);
    std::fs::write(first.path().join("both"), "")?;
    std::fs::write(first.path().join("plain"), "")?;
    let path = written(&second, "both", b"")?;
    let search = std::env::join_paths([first.path(), second.path()])?;
    assert_eq!(find(OsStr::new("both"), &search), Ok(path));
    assert_eq!(find(OsStr::new("plain"), &search), Err(Missing::NotExecutable));
    assert_eq!(find(OsStr::new("none"), &search), Err(Missing::NotFound));
    assert_eq!(find(OsStr::new(""), &search), Err(Missing::NotFound));
    assert_eq!(find(first.path().as_os_str(), &search), Err(Missing::NotExecutable));
    Ok(())
}

#[test]
fn the_list_of_libraries_grows_at_its_end() {
    let list = |already: Option<&str>| preload(already.map(OsString::from), Path::new("/run/b.so"));
    assert_eq!(list(None), "/run/b.so");
    assert_eq!(list(Some("")), "/run/b.so");
    assert_eq!(list(Some("liba.so")), "liba.so:/run/b.so");
}
