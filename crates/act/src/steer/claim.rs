//! Who steers which ports of a network namespace: names of abstract unix sockets, which are the namespace's own and go with
//! their process, however it ends.

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use tidewait_model::{PortRange, PortSet};

/// What the names begin with; `LOW-HIGH/PID` follows.
const PREFIX: &str = "tidewait/steer/";

/// Ranges of ports that another process steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The ports.
    pub range: PortRange,
    /// Its number, in its own process namespace.
    pub pid: u32,
}

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
            let name = format!("{PREFIX}{range}/{own}");
            names.push(UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?);
        }
        // Looked at only now: of two that claim at the same time at least one sees the other.
        let overlaps = |holder: &Holder| {
            ranges.iter().any(|range| range.low <= holder.range.high && holder.range.low <= range.high)
        };
        match Claim::others(Path::new("/"))?.into_iter().find(overlaps) {
            Some(holder) => Err(ClaimError::Held(holder)),
            None => Ok(Claim { _names: names }),
        }
    }

    /// What other processes have claimed in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn others(root: &Path) -> io::Result<Vec<Holder>> {
        let text = std::fs::read(root.join("proc/thread-self/net/unix"))?;
        let own = std::process::id();
        let text = String::from_utf8_lossy(&text);
        // The kernel shows the leading zero byte as '@'.
        let names =
            text.lines().filter_map(|line| line.split_once(&format!(" @{PREFIX}")).map(|(_, name)| name));
        let mut holders = BTreeMap::new();
        for holder in names.filter_map(parse).filter(|holder| holder.pid != own) {
            // A name is listed once for the socket and once for each connection to it.
            holders.insert((holder.range.low, holder.range.high, holder.pid), holder);
        }
        Ok(holders.into_values().collect())
    }

    /// The ports of `holders`.
    pub fn ports(holders: &[Holder]) -> PortSet {
        let mut ports = PortSet::default();
        for holder in holders {
            ports.extend(holder.range.low..=holder.range.high);
        }
        ports
    }
}

/// `61000-65535/1234`
fn parse(name: &str) -> Option<Holder> {
    let (range, pid) = name.split_once('/')?;
    let (low, high) = range.split_once('-')?;
    let range = PortRange { low: low.parse().ok()?, high: high.parse().ok()? };
    (range.low <= range.high).then_some(Holder { range, pid: pid.trim_end_matches('@').parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_kernel_lists_them() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("proc/thread-self/net");
        std::fs::create_dir_all(&net).unwrap();
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 8124 @tidewait/steer/61000-65535/1\n\
             0000000000000000: 00000003 00000000 00000000 0001 03 8125 @tidewait/steer/61000-65535/1\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 8126 /run/tidewait/steer/1-2/3\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 8127 @tidewait/steer/9-2/3\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 8128 @tidewait/steer/x\n";
        std::fs::write(net.join("unix"), table).unwrap();
        let others = Claim::others(root.path()).unwrap();
        assert_eq!(others, [Holder { range: PortRange { low: 61_000, high: 65_535 }, pid: 1 }]);
        assert_eq!(Claim::ports(&others).len(), 4_536);
    }
}
