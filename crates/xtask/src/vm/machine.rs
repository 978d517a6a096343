//! The emulated machine: qemu with a kernel, an archive and three ways out: stdout, stderr, exit code.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::image::{Image, find};

/// What the machine is made of.
#[derive(Args)]
pub struct Machine {
    /// Memory in MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    pub memory: u32,
    /// Processors
    #[arg(long, default_value_t = 2, value_name = "NUMBER")]
    pub cpus: u32,
    /// Give up after this many seconds, boot included
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = super::seconds)]
    pub timeout: Duration,
}

/// What is said of a machine whose kernel has panicked.
pub const PANIC: &str = "kernel panic";

/// What the directory of a running machine is called, before the process id of its chore and its kernel.
const RUN: &str = "run-";

/// Reads one stream of the machine to its end.
pub type Reader = Box<dyn FnOnce(&mut dyn Read) -> io::Result<()> + Send>;

/// Who reads what the command prints.
pub struct Streams {
    /// The command's standard output, byte for byte.
    pub stdout: Reader,
    /// The command's standard error, and complaints of qemu.
    pub stderr: Reader,
}

/// Why no machine can be emulated here, if so.
pub fn obstacle() -> Option<String> {
    if env::consts::ARCH != "x86_64" {
        return Some(format!("the kernel images are for x86-64, this is {}", env::consts::ARCH));
    }
    let needed = ["qemu-system-x86_64", "busybox", "cpio", "dpkg-deb", "strip", "xz", "ldd"];
    let missing: Vec<&str> = needed.into_iter().filter(|name| find(name).is_none()).collect();
    (!missing.is_empty()).then(|| format!("missing here: {}", missing.join(", ")))
}

impl Machine {
    /// Boots the image, waits for the command to end and returns its exit code. Fails when the machine ends without
    /// one: after a panic, or when the time is up; the last lines of its console are in the error.
    pub fn run(&self, image: &Image<'_>, store: &Path, streams: Streams) -> Result<u8> {
        remove_left_over(store)?;
        let place = store.join(format!("{RUN}{}-{}", process::id(), image.kernel.release));
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        let ended = self.run_in(&place, image, streams);
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
        ended
    }

    fn run_in(&self, place: &Path, image: &Image<'_>, streams: Streams) -> Result<u8> {
        image.write(&place.join("archive"))?;
        let mut child = self.start(place, image)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let in_time = thread::scope(|scope| {
            scope.spawn(|| stdout.map(|mut from| (streams.stdout)(&mut from)));
            scope.spawn(|| stderr.map(|mut from| (streams.stderr)(&mut from)));
            self.wait(&mut child)
        })?;
        let status = fs::read_to_string(place.join("status")).unwrap_or_default();
        if let Ok(code) = status.trim().parse() {
            return Ok(code);
        }
        let console = fs::read(place.join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let what = if console.contains("Kernel panic") {
            PANIC.to_owned()
        } else if in_time {
            "the machine ended before the command did".to_owned()
        } else {
            format!("not done after {} s", self.timeout.as_secs())
        };
        let words = match tail(&console, 40) {
            words if words.is_empty() => "nothing on the console".to_owned(),
            words => format!("last words on the console:\n{words}"),
        };
        bail!("kernel {}: {what}; {words}", image.kernel.release)
    }

    fn start(&self, place: &Path, image: &Image<'_>) -> Result<Child> {
        // Whoever ends this chore ends the machine: qemu is killed when its parent is gone.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        // Emulation also where there is KVM: nested, it is there and does not work, and tests should run alike.
        command.args(["-accel", "tcg", "-cpu", "max"]);
        // Its time is that of its own instructions, two nanoseconds each, and none passes while it waits for a timer: what else
        // this machine does slows it down and changes nothing that it sees.
        command.args(["-icount", "shift=1,sleep=off"]);
        command.args(["-m", &self.memory.to_string(), "-smp", &self.cpus.to_string()]);
        command.arg("-kernel").arg(&image.kernel.image).args(["-initrd", "archive"]);
        command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"]);
        command.args(["-chardev", "file,id=console,path=console", "-serial", "chardev:console"]);
        command.args(["-device", "virtio-serial-pci"]);
        // Standard output and error are pipes to this process, which qemu opens by name.
        for (name, path) in [("stdout", "/dev/stdout"), ("stderr", "/dev/stderr"), ("status", "status")] {
            command.args(["-chardev", &format!("file,id={name},path={path}")]);
            command.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        command.current_dir(place).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("cannot start qemu-system-x86_64 by setpriv")
    }

    /// Waits for the machine to switch off; ends it when the time is up. Says whether it was in time.
    fn wait(&self, child: &mut Child) -> Result<bool> {
        let begun = Instant::now();
        loop {
            if child.try_wait().context("waiting for qemu")?.is_some() {
                return Ok(true);
            }
            if begun.elapsed() > self.timeout {
                child.kill().context("cannot end qemu")?;
                child.wait().context("waiting for qemu")?;
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Removes the directories of machines whose chore was killed.
fn remove_left_over(store: &Path) -> Result<()> {
    for entry in fs::read_dir(store).with_context(|| format!("cannot list {}", store.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(RUN).and_then(|rest| rest.split('-').next());
        let owner = pid.map(|pid| Path::new("/proc").join(pid));
        if owner.is_some_and(|owner| !owner.exists()) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("cannot remove {name}"))?;
        }
    }
    Ok(())
}

/// The last lines of a text.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\r\n\r\nb\r\nc\r\n", 2), "b\nc");
        assert_eq!(tail("a\n", 5), "a");
    }
}
