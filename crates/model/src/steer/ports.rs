//! Which ports are given by steering: beside the kernel's own range, unless they are named.
//!
//! A port that was bound explicitly is lost to every plain connect() of its network namespace while the socket lasts, TIME_WAIT
//! included (inet_hashtables.c `__inet_hash_connect`). Out of ports that connect() draws from as well, steering would starve
//! every neighbour that is not steered.

use crate::ports::{PortRange, PortSet};

/// The lowest port that is given without being named: below are most of the ports that services listen on.
pub const LOWEST: u16 = 10_000;
/// The usual ports of Kubernetes services (`--service-node-port-range`).
pub const NODE_PORTS: PortRange = PortRange { low: 30_000, high: 32_767 };
/// With fewer than this it is not worth to begin.
const FEWEST: u32 = 512;

/// Which ports are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Half of those beside the kernel's range that nobody else steers, from the top.
    Own,
    /// The kernel's range.
    Kernel,
    /// These.
    Ranges(Vec<PortRange>),
}

/// What decides on the ports of a network namespace.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// `ip_local_port_range`.
    pub kernel: PortRange,
    /// `ip_local_reserved_ports`.
    pub reserved: PortSet,
    /// `ip_unprivileged_port_start`.
    pub unprivileged: u16,
    /// Ports that are listened on.
    pub listening: PortSet,
    /// Ports that others steer.
    pub steered: PortSet,
}

/// The ports that are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The ports.
    pub ports: PortSet,
    /// What is claimed: the ports and what lies between them.
    pub ranges: Vec<PortRange>,
    /// How many of them connect() of others draws from as well.
    pub shared: u32,
}

/// Why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooFew {
    /// Beside the kernel's range there are only so many.
    Beside(u32),
    /// The ranges that were named have none that may be given.
    Named,
}

impl Choice {
    /// The ports among those of `around`.
    ///
    /// # Errors
    /// [`TooFew`].
    pub fn ports(&self, around: &Surroundings) -> Result<Chosen, TooFew> {
        let ranges = match self {
            Choice::Own => own(around)?,
            Choice::Kernel => vec![around.kernel],
            Choice::Ranges(ranges) => merged(ranges),
        };
        let ports = self.given(&ranges, around);
        if ports.is_empty() {
            return Err(TooFew::Named);
        }
        let shared = ports.count_in(around.kernel);
        Ok(Chosen { ports, ranges, shared })
    }

    /// Of `ranges`, which were claimed for this choice, the ports that may be given while it is as `around` says: other ports may
    /// have been reserved since, or the kernel's range moved.
    pub fn given(&self, ranges: &[PortRange], around: &Surroundings) -> PortSet {
        let wanted = |port: u16| match self {
            Choice::Own => around.is_beside(port),
            Choice::Kernel => around.kernel.contains(port),
            Choice::Ranges(_) => true,
        };
        let all = ranges.iter().flat_map(|range| range.low..=range.high);
        all.filter(|port| around.is_usable(*port) && wanted(*port)).collect()
    }
}

impl Surroundings {
    fn is_usable(&self, port: u16) -> bool {
        port >= self.unprivileged.max(1) && !self.reserved.contains(port) && !self.listening.contains(port)
    }

    /// Whether it costs nobody anything.
    fn is_beside(&self, port: u16) -> bool {
        !self.kernel.contains(port) && !NODE_PORTS.contains(port)
    }
}

fn own(around: &Surroundings) -> Result<Vec<PortRange>, TooFew> {
    let beside: Vec<u16> = (LOWEST..=u16::MAX)
        .rev()
        .filter(|port| around.is_beside(*port) && !around.steered.contains(*port))
        .filter(|port| around.is_usable(*port))
        .collect();
    let half = beside.len().div_ceil(2);
    if half < FEWEST as usize {
        return Err(TooFew::Beside(u32::try_from(beside.len()).unwrap_or(u32::MAX)));
    }
    let ports: PortSet = beside.iter().take(half).copied().collect();
    // One claim spans what is only reserved or listened on, and no port of somebody else's.
    let foreign = |low: u16, high: u16| {
        (low + 1..high).any(|port| !around.is_beside(port) || around.steered.contains(port))
    };
    let mut ranges: Vec<PortRange> = Vec::new();
    for port in ports.iter() {
        match ranges.last_mut() {
            Some(range) if port - range.high == 1 || !foreign(range.high, port) => range.high = port,
            _ => ranges.push(PortRange { low: port, high: port }),
        }
    }
    Ok(ranges)
}

/// The ranges in order, those that touch made one.
fn merged(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.low);
    let mut merged: Vec<PortRange> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.low <= last.high.saturating_add(1) => last.high = last.high.max(range.high),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock() -> Surroundings {
        Surroundings {
            kernel: PortRange { low: 32_768, high: 60_999 },
            reserved: PortSet::default(),
            unprivileged: 1_024,
            listening: PortSet::default(),
            steered: PortSet::default(),
        }
    }

    fn text(chosen: &Chosen) -> String {
        chosen.ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_that_steers_gets_half_of_what_is_left_beside_the_kernels_range() {
        let mut around = stock();
        let first = Choice::Own.ports(&around).unwrap();
        assert_eq!((first.ports.len(), text(&first).as_str()), (12_268, "22268-29999 61000-65535"));
        around.steered = first.ports;
        let second = Choice::Own.ports(&around).unwrap();
        assert_eq!((second.ports.len(), text(&second).as_str()), (6_134, "16134-22267"));
        assert_eq!(second.shared, 0);
    }

    #[test]
    fn what_is_reserved_or_listened_on_is_left_out_and_the_claim_stays_whole() {
        let mut around = stock();
        around.reserved = PortSet::parse_list("61000-61999").0;
        around.listening = PortSet::parse_list("65000").0;
        let chosen = Choice::Own.ports(&around).unwrap();
        assert!(!chosen.ports.contains(65_000) && !chosen.ports.contains(61_500));
        assert_eq!(text(&chosen), "21767-29999 62000-65535");
    }

    #[test]
    fn what_is_given_follows_what_is_reserved_and_the_kernels_range() {
        let mut around = stock();
        around.reserved = PortSet::parse_list("61000-61999").0;
        let own = Choice::Own.ports(&around).unwrap();
        assert_eq!(Choice::Own.given(&own.ranges, &around), own.ports);
        let lost = |low: u16, high: u16| own.ports.count_in(PortRange { low, high });
        around.reserved = PortSet::parse_list("61000-61999,62000-62099").0;
        around.listening = PortSet::parse_list("65000").0;
        assert_eq!(Choice::Own.given(&own.ranges, &around).len(), own.ports.len() - lost(62_000, 62_099) - 1);
        // Neighbours draw from these now.
        around = Surroundings { kernel: PortRange { low: 25_000, high: 60_999 }, ..stock() };
        assert_eq!(Choice::Own.given(&own.ranges, &around).len(), own.ports.len() - lost(25_000, 29_999));
        let kernel = Choice::Kernel.ports(&stock()).unwrap();
        assert_eq!(Choice::Kernel.given(&kernel.ranges, &around), kernel.ports);
        around.kernel.high = 40_000;
        assert_eq!(Choice::Kernel.given(&kernel.ranges, &around).len(), 40_001 - 32_768);
    }

    #[test]
    fn a_range_that_leaves_nothing_beside_it_is_said_so() {
        let around = Surroundings { kernel: PortRange { low: 1_024, high: 65_535 }, ..stock() };
        assert_eq!(Choice::Own.ports(&around), Err(TooFew::Beside(0)));
        assert_eq!(Choice::Kernel.ports(&around).unwrap().shared, 64_512);
        let privileged = Choice::Ranges(vec![PortRange { low: 80, high: 90 }]);
        assert_eq!(privileged.ports(&around), Err(TooFew::Named));
    }

    #[test]
    fn ranges_that_touch_are_claimed_as_one() {
        let range = |low, high| PortRange { low, high };
        let choice =
            Choice::Ranges(vec![range(62_000, 62_999), range(50_000, 50_009), range(61_000, 61_999)]);
        let chosen = choice.ports(&stock()).unwrap();
        assert_eq!((text(&chosen).as_str(), chosen.shared), ("50000-50009 61000-62999", 10));
    }
}
