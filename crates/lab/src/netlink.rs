//! The few rtnetlink requests that build a network, sent from inside its namespace; needs no `ip` program.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::error::{Context, Error, Result};

/// A link-layer address that no device has: frames to it arrive and are thrown away without a word.
const NOBODY: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];

/// `TCA_OPTIONS` (include/uapi/linux/rtnetlink.h).
const TCA_OPTIONS: u16 = 2;

/// A rtnetlink socket of the namespace that the calling thread is in.
pub(crate) struct Route(Socket);

impl Route {
    pub(crate) fn open() -> Result<Route> {
        Socket::new(NETLINK_ROUTE).map(Route).context("open", "a route netlink socket")
    }

    /// Sets a device up.
    pub(crate) fn bring_up(&self, device: &str) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes.push(LinkAttribute::IfName(device.to_owned()));
        self.ask(RouteNetlinkMessage::SetLink(link), 0).context("bring up", device)
    }

    /// Lets so many packets wait at a device.
    pub(crate) fn lengthen_queue(&self, device: &str, packets: u32) -> Result<()> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(device.to_owned()));
        link.attributes.push(LinkAttribute::TxQueueLen(packets));
        self.ask(RouteNetlinkMessage::SetLink(link), 0).context("lengthen the queue of", device)
    }

    /// Makes a veth pair: `here` in this namespace, `there` in the other.
    pub(crate) fn add_veth(&self, here: &str, there: &str, other: BorrowedFd<'_>) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(there.to_owned()));
        peer.attributes.push(LinkAttribute::NetNsFd(other.as_raw_fd()));
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(here.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let mut answer = Ok(());
        for _ in 0..10 {
            answer = self.ask(RouteNetlinkMessage::NewLink(link.clone()), NLM_F_CREATE | NLM_F_EXCL);
            // While the kernel loads veth for somebody else, it may say for a moment that it has none.
            match &answer {
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    thread::sleep(Duration::from_millis(100));
                }
                _ => break,
            }
        }
        answer.context("make the veth pair", format!("{here} - {there}"))
    }

    /// Has netem send what goes out of a device, with these options.
    pub(crate) fn add_netem(&self, device: &str, options: &[u8]) -> Result<()> {
        let mut message = TcMessage::with_index(self.index(device)?.cast_signed());
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind("netem".to_owned()));
        message.attributes.push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options.to_vec())));
        self.ask(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE)
            .context("put netem before", device)
    }

    /// Gives a device an address. IPv6 ones are usable at once: duplicate detection would take a second.
    pub(crate) fn add_address(&self, device: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let subject = format!("{address}/{prefix} on {device}");
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = self.index(device)?;
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        if address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            .context("add the address", subject)
    }

    /// Resolves an address to [`NOBODY`], for good: whatever is sent there is lost in silence.
    pub(crate) fn blackhole(&self, device: &str, address: IpAddr) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = self.index(device)?;
        message.header.state = NeighbourState::Permanent;
        let destination = match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        };
        message.attributes.push(NeighbourAttribute::Destination(destination));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(NOBODY.to_vec()));
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            .context("blackhole", format!("{address} on {device}"))
    }

    fn index(&self, device: &str) -> Result<u32> {
        // Any socket of the namespace will do for the question.
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open", "a socket")?;
        rustix::net::netdevice::name_to_index(&socket, device).context("find the device", device)
    }

    /// Sends one request and reads the kernel's answer to it.
    fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> std::io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;

        let (answer, _) = self.0.recv_from_full()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()))?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            NetlinkPayload::Error(_) => Ok(()),
            other => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("an acknowledgement was due, not {other:?}"),
            )),
        }
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An address with the length of its network's prefix: `10.77.0.1/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl Interface {
    pub(crate) fn parse(text: &str) -> Result<Interface> {
        let refused =
            || Error::Refused(format!("address {text:?}: must be like 10.77.0.1/24 or fd00:77::1/64"));
        let (address, prefix) = text.split_once('/').ok_or_else(refused)?;
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let prefix: u8 = prefix.parse().map_err(|_| refused())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(refused());
        }
        Ok(Interface { address, prefix })
    }

    /// Whether `other` is in the same network.
    pub(crate) fn reaches(self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_prefix_that_fits() {
        assert_eq!(Interface::parse("10.77.0.1/24").unwrap().prefix, 24);
        assert_eq!(Interface::parse("fd00:77::1/64").unwrap().prefix, 64);
        for wrong in ["10.77.0.1", "10.77.0.1/33", "10.77.0/24", "fd00::1/129", "/24", "10.77.0.1/-1", ""] {
            let message = Interface::parse(wrong).unwrap_err().to_string();
            assert!(message.contains(&format!("{wrong:?}")), "{message}");
        }
    }

    #[test]
    fn a_network_reaches_its_own_addresses_only() {
        let net = Interface::parse("10.77.0.1/24").unwrap();
        assert!(net.reaches("10.77.0.250".parse().unwrap()));
        assert!(!net.reaches("10.77.1.1".parse().unwrap()));
        assert!(!net.reaches("fd00::1".parse().unwrap()));
        assert!(Interface::parse("10.0.0.1/0").unwrap().reaches("192.0.2.1".parse().unwrap()));
        assert!(!Interface::parse("10.0.0.1/32").unwrap().reaches("10.0.0.2".parse().unwrap()));
        assert!(Interface::parse("fd00:77::1/64").unwrap().reaches("fd00:77::9".parse().unwrap()));
        assert!(!Interface::parse("fd00:77::1/64").unwrap().reaches("fd00:78::9".parse().unwrap()));
    }
}
