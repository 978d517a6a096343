//! As much netlink as it takes to give the kernel an order and hear its answer.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The protocol of devices and queueing disciplines, number 0.
pub(super) const ROUTE: Option<Protocol> = None;
/// The protocol of sockets.
pub(super) const SOCK_DIAG: Option<Protocol> = Some(rustix::net::netlink::SOCK_DIAG);
/// The loopback device is the first of every network namespace.
pub(super) const LOOPBACK: u32 = 1;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWQDISC: u16 = 36;
const IFF_UP: u32 = 1;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_ROOT: u32 = 0xffff_ffff;

/// Length of struct nlmsghdr.
const HEADER: usize = 16;

/// A netlink socket of the network namespace that the process stood in when it was opened.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        Ok(Self(socket))
    }

    /// Orders something and waits for the kernel's yes or no.
    pub(super) fn order(&self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        // Sequence number; our port, for the kernel to fill in.
        message.extend([1, 0].into_iter().flat_map(u32::to_ne_bytes));
        message.extend(payload);
        self.send(&message)
    }

    /// Sends a message that asks for an acknowledgement, and waits for the kernel's yes or no.
    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        rustix::net::sendto(&self.0, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut datagram = [0; 4096];
        loop {
            let (length, _) = rustix::net::recv(&self.0, &mut datagram[..], RecvFlags::empty())?;
            if let Some(code) = datagram.get(..length).and_then(verdict) {
                return if code == 0 {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(code.saturating_neg()))
                };
            }
        }
    }

    /// `ip link set dev … up`
    pub(super) fn raise(&self, device: u32) -> io::Result<()> {
        self.order(RTM_NEWLINK, 0, &interface(device, IFF_UP))
    }

    /// `ip link add type KIND`; the kernel picks the name.
    pub(super) fn add_device(&self, kind: &str) -> io::Result<()> {
        let mut message = interface(0, 0);
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, kind.as_bytes());
        attribute(&mut message, IFLA_LINKINFO, &info);
        self.order(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message)
    }

    /// `tc qdisc add dev … root KIND`, with the options in the discipline's own binary form.
    pub(super) fn add_discipline(&self, device: u32, kind: &str, options: &[u8]) -> io::Result<()> {
        // struct tcmsg: family and padding, ifindex, handle, parent, info.
        let mut message: Vec<u8> =
            [0, device, 0, TC_H_ROOT, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut name = kind.as_bytes().to_vec();
        name.push(0);
        attribute(&mut message, TCA_KIND, &name);
        attribute(&mut message, TCA_OPTIONS, options);
        self.order(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &message)
    }
}

/// struct ifinfomsg that sets (and touches) these flags of the device; 0 is a device to be made.
fn interface(device: u32, flags: u32) -> Vec<u8> {
    [0, device, flags, flags].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// The code in the kernel's answer, 0 or a negative error number; none if the message is of another kind.
fn verdict(datagram: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
    let code = i32::from_ne_bytes(*datagram.get(HEADER..)?.first_chunk()?);
    (kind == NLMSG_ERROR).then_some(code)
}

/// Appends one attribute, padded to four bytes.
fn attribute(message: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    // Callers pass a few bytes; a longer one would be cut by the kernel's own length check.
    let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(payload);
    message.resize(message.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_counted_without_their_padding() {
        let mut run = Vec::new();
        attribute(&mut run, 8, &[3]);
        assert_eq!(run, [5_u16.to_ne_bytes(), 8_u16.to_ne_bytes(), [3, 0], [0, 0]].concat());
    }

    #[test]
    fn only_a_whole_answer_is_an_answer() {
        let mut datagram = vec![0; HEADER + 4];
        assert_eq!(verdict(&datagram), None);
        datagram[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert_eq!(verdict(&datagram), Some(0));
        datagram[HEADER..].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(verdict(&datagram), Some(-1));
        assert_eq!(verdict(&datagram[..HEADER + 3]), None);
    }
}
