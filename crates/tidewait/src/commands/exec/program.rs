//! The program that a command names: where it is, and whether a library can be loaded before it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, FileKind, elf};

/// How many scripts may be each other's interpreter (fs/exec.c `exec_binprm`).
const SCRIPTS: usize = 5;

/// The length up to which the kernel reads the first line of a script (include/uapi/linux/binfmts.h `BINPRM_BUF_SIZE`).
const FIRST_LINE: u64 = 256;

/// Why a command cannot be started, as shells and env(1) tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such program: exit code 127.
    NotFound,
    /// There is, and it is not to be executed: exit code 126.
    NotExecutable,
}

/// Why no library can be loaded before a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Linked statically: no loader runs before it.
    Static,
    /// Written in Go: it makes system calls by itself, not through the C library.
    Go,
    /// It gets rights that its caller has not, and the loader then ignores LD_PRELOAD (ld.so(8), secure execution).
    Privileged,
    /// For another processor, or for 32 bits.
    OtherMachine,
}

impl Obstacle {
    /// What it is, as the end of a sentence that begins with the program.
    pub fn words(self) -> &'static str {
        match self {
            Obstacle::Static => "is linked statically, so that no library can be loaded before it",
            Obstacle::Go => {
                "is written in Go and makes its system calls by itself, so that no library comes between"
            }
            Obstacle::Privileged => {
                "gets rights by itself (setuid, setgid, or a capability of its file), and the loader then takes no library \
                 from outside"
            }
            Obstacle::OtherMachine => {
                "is not made for the processor that tidewait was built for, or for 32 bits"
            }
        }
    }
}

/// Where the program is that `name` means, as execvp(3) looks for it.
pub fn find(name: &OsStr, path: &OsStr) -> Result<PathBuf, Missing> {
    if name.is_empty() {
        return Err(Missing::NotFound);
    }
    if name.as_bytes().contains(&b'/') {
        return executable(Path::new(name)).map(|()| PathBuf::from(name));
    }
    let mut answer = Missing::NotFound;
    for directory in std::env::split_paths(path) {
        let place = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory }.join(name);
        match executable(&place) {
            Ok(()) => return Ok(place),
            Err(Missing::NotExecutable) => answer = Missing::NotExecutable,
            Err(Missing::NotFound) => {}
        }
    }
    Err(answer)
}

fn executable(path: &Path) -> Result<(), Missing> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() => Ok(()),
        Ok(_) => Err(Missing::NotExecutable),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Missing::NotExecutable),
        Err(_) => Err(Missing::NotFound),
    }
}

/// What is in the way of a library before the program at `path` started with `arguments`, and which program that is:
/// of a script it is its interpreter.
///
/// # Errors
/// When a file cannot be read.
pub fn obstacle(
    path: &Path,
    arguments: &[OsString],
    search: &OsStr,
) -> io::Result<Option<(PathBuf, Obstacle)>> {
    // `env NAME=VALUE program` and the like start another program in their place.
    if let Some(next) = started_by(path, arguments).and_then(|name| find(name, search).ok())
        && let Some(found) = obstacle(&next, &[], search)?
    {
        return Ok(Some(found));
    }
    let mut path = path.to_owned();
    for _ in 0..SCRIPTS {
        let mut beginning = Vec::new();
        File::open(&path)?.take(FIRST_LINE).read_to_end(&mut beginning)?;
        path = match interpreter(&beginning, search) {
            Some(interpreter) => interpreter,
            None if beginning.starts_with(&elf::ELFMAG) => break,
            // What the kernel does not know a shell reads.
            None => PathBuf::from("/bin/sh"),
        };
    }
    Ok(of_file(&path)?.map(|obstacle| (path, obstacle)))
}

/// The program that the first line of a script names.
pub fn named_interpreter(path: &Path) -> Option<PathBuf> {
    let mut beginning = Vec::new();
    File::open(path).ok()?.take(FIRST_LINE).read_to_end(&mut beginning).ok()?;
    first_line(&beginning)?.next().map(PathBuf::from)
}

/// The words of a script's first line behind `#!`.
fn first_line(beginning: &[u8]) -> Option<impl Iterator<Item = &OsStr>> {
    let line = beginning.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let words = line.split(|byte| matches!(byte, b' ' | b'\t'));
    Some(words.filter(|word| !word.is_empty()).map(OsStr::from_bytes))
}

/// The program in the first line of a script; where that is env(1), the one that env is to find.
fn interpreter(beginning: &[u8], search: &OsStr) -> Option<PathBuf> {
    let mut words = first_line(beginning)?;
    let program = Path::new(words.next()?);
    let words: Vec<OsString> = words.map(OsStr::to_owned).collect();
    let next = started_by(program, &words).and_then(|name| find(name, search).ok());
    Some(next.unwrap_or_else(|| program.to_owned()))
}

/// What env(1) starts in its place, where that is plain to see.
fn started_by<'a>(program: &Path, arguments: &'a [OsString]) -> Option<&'a OsStr> {
    if program.file_name() != Some(OsStr::new("env")) {
        return None;
    }
    let is_assignment = |word: &&OsString| word.as_bytes().contains(&b'=');
    let is_split = |word: &&OsString| word.as_bytes() == b"-S";
    let name = arguments.iter().find(|word| !is_assignment(word) && !is_split(word))?;
    (!name.as_bytes().starts_with(b"-")).then_some(name.as_os_str())
}

fn of_file(path: &Path) -> io::Result<Option<Obstacle>> {
    let file = File::open(path)?;
    if gets_rights(path, &file)? {
        return Ok(Some(Obstacle::Privileged));
    }
    let cache = ReadCache::new(file);
    let wrong = |error: object::Error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    match FileKind::parse(&cache).map_err(wrong)? {
        FileKind::Elf64 => {
            of_elf(elf::FileHeader64::<Endianness>::parse(&cache).map_err(wrong)?, &cache).map_err(wrong)
        }
        _ => Ok(Some(Obstacle::OtherMachine)),
    }
}

fn of_elf<'data>(
    header: &elf::FileHeader64<Endianness>,
    data: impl ReadRef<'data>,
) -> object::Result<Option<Obstacle>> {
    let order = header.endian()?;
    let own = if cfg!(target_arch = "aarch64") { elf::EM_AARCH64 } else { elf::EM_X86_64 };
    if header.e_machine(order) != own {
        return Ok(Some(Obstacle::OtherMachine));
    }
    let has_loader =
        header.program_headers(order, data)?.iter().any(|part| part.p_type(order) == elf::PT_INTERP);
    if !has_loader {
        return Ok(Some(Obstacle::Static));
    }
    let sections = header.sections(order, data)?;
    let is_go = sections.iter().any(|section| {
        matches!(sections.section_name(order, section), Ok(b".go.buildinfo" | b".note.go.buildid"))
            && section.sh_size(order) > 0
    });
    Ok(is_go.then_some(Obstacle::Go))
}

/// Whether the kernel gives the program rights that this process has not, by its mode or by capabilities of the file.
fn gets_rights(path: &Path, file: &File) -> io::Result<bool> {
    let about = file.metadata()?;
    let mode = about.permissions().mode();
    let becomes = |bit: u32, id: u32, own: u32| mode & bit != 0 && id != own;
    // Setgid on a file that its group may not execute is an old mark for locking (fs/exec.c `bprm_fill_uid`).
    let setgid = if mode & 0o010 != 0 { 0o2000 } else { 0 };
    if becomes(0o4000, about.uid(), rustix::process::getuid().as_raw())
        || becomes(setgid, about.gid(), rustix::process::getgid().as_raw())
    {
        return Ok(true);
    }
    // To root they give nothing (security/commoncap.c `cap_bprm_creds_from_file`).
    let mut room = [0; 64];
    let has_capabilities = rustix::fs::getxattr(path, "security.capability", &mut room).is_ok();
    Ok(has_capabilities && !rustix::process::getuid().is_root())
}

/// The variable LD_PRELOAD with a library added at its end: what is there already comes first.
pub fn preload(already: Option<OsString>, library: &Path) -> OsString {
    let mut list = already.filter(|list| !list.is_empty()).map(OsString::into_vec).unwrap_or_default();
    if !list.is_empty() {
        list.push(b':');
    }
    list.extend_from_slice(library.as_os_str().as_bytes());
    OsString::from_vec(list)
}

#[cfg(test)]
mod tests;
