//! The usual pair on a wire that the kernel itself delays and spoils: netem, where it has that.
//!
//! It takes packets as they come: who wants a hand on single segments takes [`Lab::wired_pair`].

use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::{Host, Lab};
use crate::netlink::Route;

/// What netem does to packets, each way alike. The default lets everything pass at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Netem {
    /// How long each takes.
    pub delay: Duration,
    /// The part that is lost, 0 to 1.
    pub loss: f64,
    /// The part that arrives twice, the second at the heels of the first.
    pub duplicate: f64,
    /// The part that is not delayed, and so overtakes what was sent before it. Means nothing without a delay.
    pub reorder: f64,
}

impl Lab {
    /// The usual pair, as [`Lab::pair`] makes it, with netem at each end of the wire; resets end TIME_WAIT there, as they do
    /// by default.
    ///
    /// # Errors
    /// As [`Lab::pair`]; [`Error::Unavailable`] where the kernel has no netem (CONFIG_NET_SCH_NETEM).
    pub fn netem_pair(&self, netem: Netem) -> Result<(Host, Host)> {
        let (client, server) = self.pair()?;
        for host in [&client, &server] {
            host.set("net.ipv4.tcp_rfc1337", "0")?;
            host.run(|| Route::open()?.add_netem("eth0", &netem.options()))?.map_err(
                |error| match error {
                    Error::Call { source, .. } if source.raw_os_error() == Some(libc::ENOENT) => {
                        Error::Unavailable("this kernel has no netem (sch_netem)".to_owned())
                    }
                    other => other,
                },
            )?;
        }
        Ok((client, server))
    }
}

/// Attributes of its options (include/uapi/linux/pkt_sched.h).
const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_LATENCY64: u16 = 10;

/// How many packets may be under way: none is to be lost for want of room.
const LIMIT: u32 = 100_000;

impl Netem {
    /// As the kernel reads it: `struct tc_netem_qopt`, and attributes behind it.
    fn options(&self) -> Vec<u8> {
        // The delay in ticks of the scheduler's clock is 0 here: it is told in nanoseconds below.
        // With a gap of 1 every packet may be one that overtakes.
        let gap = u32::from(self.reorder > 0.0);
        let fixed = [0, LIMIT, chance(self.loss), gap, chance(self.duplicate), 0];
        let mut options: Vec<u8> = fixed.iter().flat_map(|number: &u32| number.to_ne_bytes()).collect();
        let delay = i64::try_from(self.delay.as_nanos()).unwrap_or(i64::MAX);
        attribute(&mut options, TCA_NETEM_LATENCY64, &delay.to_ne_bytes());
        if self.reorder > 0.0 {
            // Chance, and how much it depends on the last one.
            let reorder: Vec<u8> =
                [chance(self.reorder), 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
            attribute(&mut options, TCA_NETEM_REORDER, &reorder);
        }
        options
    }
}

/// A part of the whole as the kernel has it.
fn chance(part: f64) -> u32 {
    (part.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32
}

/// Appends an attribute whose length is a multiple of four, as all of these are.
fn attribute(options: &mut Vec<u8>, kind: u16, value: &[u8]) {
    options.extend((4 + value.len() as u16).to_ne_bytes());
    options.extend(kind.to_ne_bytes());
    options.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_as_the_kernel_reads_them() {
        let plain = Netem { delay: Duration::from_millis(1), loss: 1.0, ..Netem::default() }.options();
        assert_eq!(plain.len(), 24 + 12);
        assert_eq!(plain[8..12], [0xff; 4], "lost");
        assert_eq!(plain[28..36], 1_000_000_i64.to_ne_bytes());
        let all = Netem { duplicate: 0.5, reorder: 0.25, ..Netem::default() }.options();
        assert_eq!(all.len(), 24 + 12 + 12);
        assert_eq!(all[12..16], 1_u32.to_ne_bytes(), "gap");
        assert_eq!(all[16..20], 0x8000_0000_u32.to_ne_bytes(), "twice");
        assert_eq!(all[40..44], 0x4000_0000_u32.to_ne_bytes(), "overtaking");
    }
}
