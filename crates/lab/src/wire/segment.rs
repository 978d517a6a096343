//! A TCP segment as it goes over a wire: what its headers say, and its bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The protocol number of TCP.
const TCP: u8 = 6;
/// Lengths of headers without options.
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
/// Flags of a TCP header.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A TCP segment in its IP packet. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// The sequence number that is expected next from the other side; 0 without ACK.
    pub acknowledgement: u32,
    /// The window as it stands in the header, not scaled.
    pub window: u16,
    /// Bytes of data.
    pub data: usize,
    /// TSval and TSecr, where the option is there.
    pub timestamps: Option<(u32, u32)>,
    /// It acknowledges the other side's FIN, which went over this wire before: with no FIN or data of its own, it is the last ACK.
    pub acknowledges_fin: bool,
    flags: u8,
    bytes: Arc<[u8]>,
}

impl Segment {
    /// Reads an IP packet. `None` if there is no whole TCP header in it, or it is a fragment.
    pub(super) fn parse(packet: &[u8]) -> Option<Segment> {
        let (source, destination, segment) = match packet.first()? >> 4 {
            4 => ipv4(packet)?,
            6 => ipv6(packet)?,
            _ => return None,
        };
        let header = segment.first_chunk::<TCP_HEADER>()?;
        let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let long = |at: usize| (u32::from(number(at)) << 16) | u32::from(number(at + 2));
        let length = usize::from(header[12] >> 4) * 4;
        let options = segment.get(TCP_HEADER..length)?;
        Some(Segment {
            source: SocketAddr::new(source, number(0)),
            destination: SocketAddr::new(destination, number(2)),
            sequence: long(4),
            acknowledgement: long(8),
            window: number(14),
            data: segment.len() - length,
            timestamps: timestamps(options),
            acknowledges_fin: false,
            flags: header[13],
            bytes: packet.into(),
        })
    }

    /// Whether it opens a connection; so does the answer, which has ACK too.
    pub fn syn(&self) -> bool {
        self.flags & SYN != 0
    }

    /// Whether the sender has no more to say.
    pub fn fin(&self) -> bool {
        self.flags & FIN != 0
    }

    /// Whether it is a reset.
    pub fn rst(&self) -> bool {
        self.flags & RST != 0
    }

    /// Whether it acknowledges anything: all but the first SYN and some resets.
    pub fn ack(&self) -> bool {
        self.flags & ACK != 0
    }

    /// Whether it is nothing but the acknowledgement of the other side's FIN.
    pub fn last_ack(&self) -> bool {
        self.acknowledges_fin && self.data == 0 && self.flags & (FIN | SYN | RST) == 0
    }

    /// The sequence number after it.
    pub fn end(&self) -> u32 {
        let signs = u32::from(self.syn()) + u32::from(self.fin());
        self.sequence.wrapping_add(self.data as u32).wrapping_add(signs)
    }

    /// The data in it.
    pub fn payload(&self) -> &[u8] {
        // Data ends the packet; parse() has cut off what pads it.
        &self.bytes[self.bytes.len() - self.data..]
    }

    /// The packet, headers and all.
    pub(super) fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }
}

/// Addresses and TCP segment of an IPv4 packet.
fn ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let header = packet.first_chunk::<20>()?;
    let length = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // More fragments, or not the first one.
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if header[9] != TCP || fragment || total != packet.len() {
        return None;
    }
    let address =
        |at: usize| IpAddr::V4(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]));
    Some((address(12), address(16), packet.get(length..)?))
}

/// Addresses and TCP segment of an IPv6 packet without extension headers, as the kernel sends them here.
fn ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let header = packet.first_chunk::<IPV6_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[6] != TCP || IPV6_HEADER + length != packet.len() {
        return None;
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    Some((address(8), address(24), &packet[IPV6_HEADER..]))
}

/// The timestamps option (RFC 7323) among others.
fn timestamps(mut options: &[u8]) -> Option<(u32, u32)> {
    loop {
        match *options.first()? {
            0 => return None,
            1 => options = &options[1..],
            8 => {
                let option = options.first_chunk::<10>()?;
                let long = |at: usize| {
                    u32::from_be_bytes([option[at], option[at + 1], option[at + 2], option[at + 3]])
                };
                return Some((long(2), long(6)));
            }
            _ => {
                let length = usize::from(*options.get(1)?);
                // At least its own two bytes, or there would be no end.
                options = options.get(length.max(2)..)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIN and ACK with timestamps and three bytes of data, from 10.77.0.1:40000 to 10.77.0.2:443.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 55, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2];
        packet.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 9, 0, 0, 0, 7, 0x80, 0x11, 0x01, 0x00, 0, 0, 0, 0]);
        packet.extend([1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4]);
        packet.extend(b"end");
        packet
    }

    #[test]
    fn headers_are_read() {
        let segment = Segment::parse(&packet()).unwrap();
        assert_eq!(segment.source, "10.77.0.1:40000".parse().unwrap());
        assert_eq!(segment.destination, "10.77.0.2:443".parse().unwrap());
        assert_eq!((segment.sequence, segment.acknowledgement, segment.window), (9, 7, 256));
        assert_eq!((segment.data, segment.end(), segment.payload()), (3, 13, &b"end"[..]));
        assert_eq!(segment.timestamps, Some((0x102, 0x304)));
        assert!(segment.fin() && segment.ack() && !segment.syn() && !segment.rst() && !segment.last_ack());
    }

    #[test]
    fn what_is_no_whole_segment_is_none() {
        let whole = packet();
        for length in 0..whole.len() {
            assert_eq!(Segment::parse(&whole[..length]), None, "{length} bytes");
        }
        let mut fragment = whole.clone();
        fragment[6] = 0x20;
        assert_eq!(Segment::parse(&fragment), None);
        let mut other = whole.clone();
        other[9] = 17;
        assert_eq!(Segment::parse(&other), None);
        // A header longer than the packet, and an option of no length.
        let mut long = whole.clone();
        long[32] = 0xf0;
        assert_eq!(Segment::parse(&long), None);
        let mut odd = whole;
        odd[40] = 30;
        odd[41] = 0;
        assert_eq!(Segment::parse(&odd).unwrap().timestamps, Some((0x102, 0x304)));
    }

    #[test]
    fn ipv6_is_read_too() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
        packet.extend("fd00:77::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("fd00:77::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x02, 0, 1, 0, 0, 0, 0]);
        let segment = Segment::parse(&packet).unwrap();
        assert_eq!(segment.destination, "[fd00:77::2]:443".parse().unwrap());
        assert!(segment.syn() && !segment.ack());
        assert_eq!((segment.data, segment.end(), segment.timestamps), (0, 10, None));
    }
}
