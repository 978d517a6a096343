//! Half-open connections: raw SYNs from addresses that never answer leave the server in NEW_SYN_RECV.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto};

use crate::error::{Context, Error, Result};
use crate::path::Path;

/// Sources of the SYNs count up from here: unprivileged, and below the stock range of connect().
const FIRST_PORT: u16 = 10_000;

impl Path {
    /// Sends `count` SYNs (20,000 at most) from the path's source addresses, which need not be the client's
    /// own.
    ///
    /// The server answers each and keeps a NEW_SYN_RECV socket for about a minute (tcp_synack_retries),
    /// provided that the sources are silent for it: give them to [`crate::Host::blackhole`] of the server.
    /// Something has to listen at the destinations, with room in its queue. IPv4 only.
    ///
    /// # Errors
    /// When a source is missing or IPv6, or the raw socket is refused (CAP_NET_RAW in the namespace).
    pub fn half_open(&self, count: u16) -> Result<()> {
        let mut pairs = Vec::new();
        for pair in self.pairs()? {
            match (pair.source, pair.destination) {
                (Some(IpAddr::V4(source)), SocketAddr::V4(destination)) => pairs.push((source, destination)),
                _ => {
                    return Err(Error::Refused(format!(
                        "half-open connections to {}: the path needs IPv4 addresses and a source",
                        pair.destination
                    )));
                }
            }
        }
        if count > 20_000 {
            return Err(Error::Refused(format!("{count} half-open connections: 20000 at most")));
        }
        self.client.run(|| {
            let raw = rustix::net::socket_with(
                AddressFamily::INET,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                Some(ipproto::RAW),
            )
            .context("open", "a raw socket")?;
            for (number, &(source, destination)) in (0..count).zip(pairs.iter().cycle()) {
                let packet = syn(source, FIRST_PORT + number, *destination.ip(), destination.port());
                rustix::net::sendto(&raw, &packet, SendFlags::empty(), &destination)
                    .context("send a SYN to", destination)?;
            }
            Ok(())
        })?
    }
}

/// An IPv4 packet with a TCP SYN (RFC 791, RFC 9293). The kernel fills in the IP checksum and length.
fn syn(source: Ipv4Addr, source_port: u16, destination: Ipv4Addr, port: u16) -> [u8; 40] {
    let mut packet = [0; 40];
    let (ip, tcp) = packet.split_at_mut(20);
    ip[0] = 0x45; // version 4, five words
    ip[2..4].copy_from_slice(&40_u16.to_be_bytes());
    ip[8] = 64; // time to live
    ip[9] = 6; // TCP
    ip[12..16].copy_from_slice(&source.octets());
    ip[16..20].copy_from_slice(&destination.octets());

    tcp[0..2].copy_from_slice(&source_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&port.to_be_bytes());
    tcp[4..8].copy_from_slice(&1_u32.to_be_bytes()); // sequence number
    tcp[12] = 5 << 4; // five words
    tcp[13] = 0x02; // SYN
    tcp[14..16].copy_from_slice(&64_240_u16.to_be_bytes()); // window
    let sum = checksum(source, destination, tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The TCP checksum over the pseudo-header and an even number of bytes (RFC 9293 section 3.1).
fn checksum(source: Ipv4Addr, destination: Ipv4Addr, tcp: &[u8]) -> u16 {
    let pseudo = [source.octets(), destination.octets()].concat();
    let words = pseudo.chunks_exact(2).chain(tcp.chunks_exact(2));
    let mut sum = 6 + tcp.len() as u32;
    sum += words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
