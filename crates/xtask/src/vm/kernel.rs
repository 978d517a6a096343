//! Debian's kernel images: which one is the newest of a series, fetching it, unpacking it for use in a machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, process};

use anyhow::{Context as _, Result};

use super::tool;

/// An unpacked kernel.
pub struct Kernel {
    /// What `uname -r` will say.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// Its modules, uncompressed, with modules.dep and modules.alias.
    pub modules: PathBuf,
}

/// Whether there is a kernel of the wanted series.
pub enum Offer {
    /// There is, and it is ready for use.
    Unpacked(Kernel),
    /// There is none, for this reason.
    Nothing(String),
}

/// The newest kernel of a series (`6.12`), from the store or else from the distribution's packages.
/// What is in the store is used as it is: remove `target/vm/SERIES` to have it fetched anew.
pub fn obtain(series: &str, store: &Path) -> Result<Offer> {
    let place = store.join(series);
    if !place.exists() {
        if Command::new("apt-get").arg("--version").output().is_err() {
            return Ok(Offer::Nothing(
                "kernel images come from Debian packages, and apt-get is missing".to_owned(),
            ));
        }
        let Some(package) = newest(series)? else {
            return Ok(Offer::Nothing(format!(
                "no package linux-image-{series}.*-cloud-amd64 is on offer here (apt-get update may help)"
            )));
        };
        eprintln!("fetching {package}");
        // Made elsewhere and moved: a place that exists is complete.
        let draft = store.join(format!("draft-{}", process::id()));
        let made = unpack(&package, &draft)
            .and_then(|()| fs::rename(&draft, &place).context("cannot move the kernel"));
        if made.is_err() && draft.exists() {
            fs::remove_dir_all(&draft).context("cannot clean up")?;
        }
        made.context(package)?;
    }
    open(&place).map(Offer::Unpacked)
}

/// Finds image and modules in an unpacked package.
fn open(place: &Path) -> Result<Kernel> {
    let broken = || format!("{} is no unpacked kernel: remove it", place.display());
    let releases = fs::read_dir(place.join("lib/modules")).with_context(broken)?;
    let release = releases.flatten().next().with_context(broken)?.file_name().to_string_lossy().into_owned();
    Ok(Kernel {
        image: place.join(format!("boot/vmlinuz-{release}")),
        modules: place.join("lib/modules").join(&release),
        release,
    })
}

/// The package with the highest version of a series.
fn newest(series: &str) -> Result<Option<String>> {
    let names = tool(Command::new("apt-cache").args(["pkgnames", &format!("linux-image-{series}.")]))?;
    let names = String::from_utf8_lossy(&names).into_owned();
    Ok(names
        .lines()
        .filter(|name| name.ends_with("-cloud-amd64"))
        .max_by_key(|name| numbers(name))
        .map(str::to_owned))
}

/// The numbers in a package name, in order: enough to tell 6.1.0-9 from 6.1.0-56.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Fetches a package and unpacks it, without installing it; unpacks its modules and indexes them.
fn unpack(package: &str, draft: &Path) -> Result<()> {
    let download = draft.join("download");
    fs::create_dir_all(&download).with_context(|| format!("cannot create {}", download.display()))?;
    tool(Command::new("apt-get").args(["--quiet", "download", package]).current_dir(&download))?;
    for entry in fs::read_dir(&download)? {
        tool(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(draft))?;
    }
    fs::remove_dir_all(&download)?;
    // Compressed modules cost time at every boot; busybox would need to know the format as well.
    tool(Command::new("find").arg(draft).args([
        "-name",
        "*.ko.xz",
        "-exec",
        "xz",
        "--decompress",
        "{}",
        "+",
    ]))?;
    let kernel = open(draft)?;
    index_modules(draft, &kernel.release)
}

/// Writes modules.dep and modules.alias for the modules below a root.
pub fn index_modules(root: &Path, release: &str) -> Result<()> {
    tool(Command::new("busybox").arg("depmod").arg("-b").arg(root).arg(release)).map(drop)
}

impl Kernel {
    /// The files of a module and of everything it needs, relative to [`Kernel::modules`]. None if it is built in,
    /// `None` if this kernel has no such module.
    pub fn files_of(&self, module: &str) -> Result<Option<Vec<String>>> {
        let read = |name: &str| {
            let path = self.modules.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(files_of(module, &read("modules.dep")?, &read("modules.builtin")?))
    }
}

fn files_of(module: &str, dependencies: &str, built_in: &str) -> Option<Vec<String>> {
    let is_it = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".ko");
        name.replace('-', "_") == module.replace('-', "_")
    };
    if built_in.lines().any(is_it) {
        return Some(Vec::new());
    }
    let line = dependencies.lines().find(|line| line.split(':').next().is_some_and(is_it))?;
    Some(line.split([':', ' ']).filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_told_by_number() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-10-cloud-amd64",
        ];
        assert_eq!(names.into_iter().max_by_key(|name| numbers(name)), Some(names[1]));
    }

    #[test]
    fn a_module_comes_with_what_it_needs() {
        let dependencies =
            "kernel/net/ipv4/tcp_diag.ko: kernel/net/ipv4/inet_diag.ko\nkernel/net/ipv4/inet_diag.ko:\n";
        let built_in = "kernel/drivers/char/virtio_console.ko\n";
        let files = |module| files_of(module, dependencies, built_in);
        let both = vec!["kernel/net/ipv4/tcp_diag.ko".to_owned(), "kernel/net/ipv4/inet_diag.ko".to_owned()];
        assert_eq!(files("tcp-diag"), Some(both));
        assert_eq!(files("virtio_console"), Some(Vec::new()));
        assert_eq!(files("diag"), None);
    }
}
