//! Ports that one process alone steers: it takes their names, which [`Holder`] reads and writes.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use tidewait_model::PortRange;
use tidewait_model::steer::Holder;

/// Why ports could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has them.
    #[error("ports {} are steered by process {} already: choose others by --range, or end it", .0.range, .0.pid)]
    Held(Holder),
    /// Something else.
    #[error("cannot claim the ports: {0}")]
    Failed(#[from] io::Error),
}

/// Ports that nobody else will steer while this value lives.
#[derive(Debug)]
pub struct Claim {
    _names: Vec<UnixListener>,
}

impl Claim {
    /// Claims `ranges` in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`ClaimError::Held`] where another process has some of them.
    pub fn take(ranges: &[PortRange]) -> Result<Claim, ClaimError> {
        let own = std::process::id();
        let mut names = Vec::new();
        for range in ranges {
            let name = Holder { range: *range, pid: own }.name();
            match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
                Ok(name) => names.push(name),
                // A process of the same number, in another process namespace.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(ClaimError::Held(Holder { range: *range, pid: own }));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Looked at only now: of two that claim at the same time at least one sees the other.
        let foreign = |holder: &Holder| holder.pid != own || !ranges.contains(&holder.range);
        let overlaps = |holder: &Holder| {
            ranges.iter().any(|range| range.low <= holder.range.high && holder.range.low <= range.high)
        };
        match Claim::all(Path::new("/"))?.into_iter().filter(foreign).find(overlaps) {
            Some(holder) => Err(ClaimError::Held(holder)),
            None => Ok(Claim { _names: names }),
        }
    }

    /// What is claimed in the network namespace of the calling thread. Only the number and the ranges together tell own claims:
    /// in another process namespace there may be a process of the same number.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn all(root: &Path) -> io::Result<Vec<Holder>> {
        let text = std::fs::read(root.join("proc/thread-self/net/unix"))?;
        Ok(Holder::all(&String::from_utf8_lossy(&text)))
    }
}
