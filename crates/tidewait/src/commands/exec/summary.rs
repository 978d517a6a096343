//! What became of the command and of its connections: on standard error, and in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tidewait_model::exec::{Chosen, Report, SCHEMA};
use tidewait_model::reap::Counters;
use tidewait_model::stream::Opening;
use tidewait_surfaces::text;

use super::say;
use crate::cli::Exec;
use crate::exit::Usage;
use crate::output;

/// How the command ended.
pub struct Ended {
    pub status: ExitStatus,
    /// For how long it ran, with what it left in the background; without what tidewait did before and afterwards.
    pub ran: Duration,
    pub chosen: Option<Chosen>,
}

/// What is told when it is over.
pub struct Summary<'a> {
    options: &'a Exec,
    opening: Opening,
    file: Option<File>,
}

impl<'a> Summary<'a> {
    /// Opens the file that is to hold it, if there is to be one, so that it is known beforehand that it can be written.
    ///
    /// # Errors
    /// [`Usage`] where it cannot.
    pub fn open(options: &'a Exec) -> anyhow::Result<Summary<'a>> {
        let open = |path: &Path| {
            let file = match descriptor(path) {
                Some(number) => inherited(path, number),
                None => OpenOptions::new().write(true).create(true).truncate(true).open(path),
            };
            file.map_err(|error| Usage(format!("--report {}: it cannot be written: {error}", path.display())))
        };
        let file = options.report.as_deref().map(open).transpose()?;
        Ok(Summary { options, opening: output::opening(SCHEMA), file })
    }

    /// Tells it. That it cannot be written changes nothing of how the command ended.
    pub fn tell(self, ended: Ended, reaped: Option<Result<Counters, String>>) {
        let Ended { status, ran, chosen } = ended;
        let seconds = ran.as_secs_f64();
        let (reap, reap_trouble) = match reaped {
            None => (None, None),
            Some(Ok(counters)) => (Some(counters), None),
            Some(Err(why)) => (None, Some(why)),
        };
        if self.options.verbose {
            say(format_args!("after {seconds:.1} s, {status}"));
        }
        if let Some(chosen) = &chosen {
            text::chosen(chosen, self.options.verbose).iter().for_each(say);
        }
        if let Some(counters) = reap.filter(|_| self.options.verbose) {
            say(format_args!("{} sockets in TIME_WAIT were ended", text::count(counters.killed)));
        }
        // From then on the command had its TIME_WAIT as ever, so that this is told in any case.
        if let Some(why) = &reap_trouble {
            say(why);
        }
        let Some(file) = self.file else { return };
        let report = Report {
            opening: self.opening,
            command: self.options.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            seconds,
            exit_code: status.code(),
            signal: status.signal(),
            no_port: self.options.no_port,
            steer: chosen,
            reap,
            reap_trouble,
        };
        if let Err(error) = write(file, &report) {
            say(format_args!("--report: it cannot be written: {error}"));
        }
    }
}

/// The descriptor that a path stands for.
fn descriptor(path: &Path) -> Option<i32> {
    match path.to_str()? {
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        path => path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?.parse().ok(),
    }
}

/// A descriptor that tidewait was started with, once more. To open its path would be to open the file anew: from its beginning, over
/// what others write there, and a socket not at all.
fn inherited(path: &Path, number: i32) -> io::Result<File> {
    let again = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    match again {
        Ok(file) if fcntl_getfl(&file)?.intersects(OFlags::WRONLY | OFlags::RDWR) => Ok(file.into()),
        Ok(_) => Err(Errno::BADF.into()),
        // Before Linux 5.6, and where a container does without the call: at least nothing is lost.
        Err(Errno::NOSYS | Errno::PERM) => OpenOptions::new().append(true).open(path),
        Err(error) => Err(error.into()),
    }
}

fn write(mut file: File, report: &Report) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    file.write_all(&text)
}
