//! The root file system of a machine: an archive with busybox, the wanted programs and modules, and the command.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::kernel::{Kernel, index_modules};
use super::tool;

/// What the archive itself needs to talk to the outside.
const PLUMBING: &[&str] = &["virtio_pci", "virtio_console"];

/// Modules that every machine has at hand, for the kernel to load when somebody asks for what they do.
const USUAL: &[&str] =
    &["inet_diag", "tcp_diag", "veth", "dummy", "sch_netem", "sch_ingress", "cls_bpf", "nf_conntrack", "tun"];

/// Programs of this machine that are taken along where they exist: oracles for tests, and hands for people.
const TOOLS: &[&str] = &["ip", "ss", "tc", "nstat", "netstat", "setpriv", "unshare", "nsenter"];

/// Everything that goes into the archive.
pub struct Image<'a> {
    /// Whose modules.
    pub kernel: &'a Kernel,
    /// Names of modules besides the usual ones.
    pub modules: &'a [String],
    /// Files and directories.
    pub entries: Vec<Entry>,
    /// What to run, for a POSIX shell.
    pub script: String,
}

/// A file or directory of this machine and where to put it.
pub struct Entry {
    from: PathBuf,
    to: PathBuf,
    strip: bool,
}

impl Entry {
    /// A program: without its symbols, with its shared libraries.
    pub fn stripped(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self { from: from.into(), to: to.into(), strip: true }
    }

    /// A file or a directory with all that is in it, as it is.
    pub fn copied(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self { from: from.into(), to: to.into(), strip: false }
    }
}

impl Image<'_> {
    /// Writes the archive, by way of a directory beside it.
    pub fn write(&self, archive: &Path) -> Result<()> {
        let root = archive.with_extension("root");
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        skeleton(&root)?;
        self.add_modules(&root)?;
        self.add_programs(&root)?;
        executable(&root.join("init"), include_str!("init.sh"))?;
        executable(&root.join("command"), &format!("#!/bin/sh\n{}", self.script))?;
        pack(&root, archive)
    }

    fn add_modules(&self, root: &Path) -> Result<()> {
        let release = &self.kernel.release;
        let target = Path::new("lib/modules").join(release);
        let mut wanted = BTreeSet::new();
        let asked = self.modules.iter().map(String::as_str);
        for name in PLUMBING.iter().chain(USUAL).copied().chain(asked) {
            let files = self.kernel.files_of(name)?;
            wanted.extend(files.with_context(|| format!("kernel {release} has no module {name}"))?);
        }
        for file in &wanted {
            copy(&self.kernel.modules.join(file), &root.join(&target).join(file))?;
        }
        copy(&self.kernel.modules.join("modules.builtin"), &root.join(&target).join("modules.builtin"))?;
        index_modules(root, release)
    }

    fn add_programs(&self, root: &Path) -> Result<()> {
        // This machine's shell: that of busybox takes its own `ip` and `tc` for the real ones.
        let shell = find("sh").context("sh is missing")?;
        let mut programs = vec![place(root, &Entry::copied(shell, "/bin/sh"))?];
        for name in TOOLS {
            if let Some(found) = find(name) {
                programs.push(place(root, &Entry::copied(found, format!("/usr/bin/{name}")))?);
            }
        }
        for entry in &self.entries {
            let placed = place(root, entry)?;
            if entry.strip {
                tool(Command::new("strip").arg("--strip-unneeded").arg(&placed))?;
                programs.push(placed);
            }
        }
        programs.push(root.join("bin/busybox"));
        for library in libraries(&programs)? {
            copy(&library, &root.join(library.strip_prefix("/")?))?;
        }
        Ok(())
    }
}

/// Directories, busybox under all its names, and the few files that libraries expect.
fn skeleton(root: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "lib", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    symlink("bin", root.join("sbin"))?;
    let busybox = find("busybox").context("busybox is missing")?;
    copy(&busybox, &root.join("bin/busybox"))?;
    let applets = tool(Command::new(&busybox).arg("--list"))?;
    let applets = String::from_utf8_lossy(&applets).into_owned();
    for applet in applets.lines().filter(|applet| !["busybox", "sh"].contains(applet)) {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost vm\n::1 localhost\n")?;
    Ok(())
}

/// Puts an entry below the root and returns where it is.
fn place(root: &Path, entry: &Entry) -> Result<PathBuf> {
    let to = root.join(entry.to.strip_prefix("/").unwrap_or(&entry.to));
    copy(&entry.from, &to)?;
    Ok(to)
}

/// Copies a file, or a directory with everything in it; makes the directories above.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(failed)?;
        for entry in fs::read_dir(from).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).with_context(failed)?;
    }
    fs::copy(from, to).map(drop).with_context(failed)
}

/// The shared libraries that programs are linked with, by the paths that the loader will look for.
fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
        // A static program is no error of ours, though ldd says so.
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            !listed.contains("not found"),
            "{}: a shared library is missing:\n{listed}",
            program.display()
        );
        found.extend(
            listed
                .split_whitespace()
                .filter(|word| word.starts_with('/') && word.contains(".so"))
                .map(PathBuf::from),
        );
    }
    Ok(found)
}

/// Where a program is, also in the directories that only root has in PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|directory| directory.join(name))
        .find(|found| found.is_file())
}

fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// All below a directory as an archive that the kernel unpacks, owned by root whoever made it.
fn pack(root: &Path, archive: &Path) -> Result<()> {
    let list = tool(Command::new("find").arg(".").current_dir(root))?;
    let names = root.with_extension("list");
    fs::write(&names, list)?;
    let output = File::create(archive).with_context(|| format!("cannot create {}", archive.display()))?;
    let status = Command::new("cpio")
        .args(["--create", "--format=newc", "--quiet", "--owner=0:0"])
        .current_dir(root)
        .stdin(Stdio::from(File::open(&names)?))
        .stdout(Stdio::from(output))
        .status()
        .context("cannot start cpio")?;
    ensure!(status.success(), "cpio failed ({status})");
    Ok(())
}
