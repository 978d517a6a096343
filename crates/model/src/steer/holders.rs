//! Who steers which ports of a network namespace: told by the names of abstract unix sockets, which are the namespace's own
//! and go with their process, however it ends. Whoever steers takes such names, and whoever looks reads them.

use std::collections::BTreeMap;

use crate::ports::{PortRange, PortSet};

/// What the names begin with; `LOW-HIGH/PID` follows.
pub const PREFIX: &str = "tidewait/steer/";

/// A range of ports that a process steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The ports.
    pub range: PortRange,
    /// Its number, in its own process namespace.
    pub pid: u32,
}

impl Holder {
    /// The name of its socket, without the zero byte in front.
    pub fn name(self) -> String {
        format!("{PREFIX}{}/{}", self.range, self.pid)
    }

    /// All that are named in /proc/net/unix, whose text this is, by port.
    pub fn all(text: &str) -> Vec<Holder> {
        // The kernel shows the leading zero byte as '@'.
        let mark = format!(" @{PREFIX}");
        let names = text.lines().filter_map(|line| line.split_once(&mark).map(|(_, name)| name));
        let mut holders = BTreeMap::new();
        for holder in names.filter_map(parse) {
            // A name is listed once for the socket and once for each connection to it.
            holders.insert((holder.range.low, holder.range.high, holder.pid), holder);
        }
        holders.into_values().collect()
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
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 8124 @tidewait/steer/61000-65535/1\n\
             0000000000000000: 00000003 00000000 00000000 0001 03 8125 @tidewait/steer/61000-65535/1\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 8126 /run/tidewait/steer/1-2/3\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 8127 @tidewait/steer/9-2/3\n\
             0000000000000000: 00000002 00000000 00010000 0001 01 8128 @tidewait/steer/x\n";
        let holders = Holder::all(table);
        assert_eq!(holders, [Holder { range: PortRange { low: 61_000, high: 65_535 }, pid: 1 }]);
        assert_eq!(holders[0].name(), "tidewait/steer/61000-65535/1");
        assert_eq!(Holder::ports(&holders).len(), 4_536);
    }
}
