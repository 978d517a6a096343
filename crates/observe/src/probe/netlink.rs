//! As much netlink as probes need: one request, its answers, its error.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols};

/// The protocol of devices, addresses and queueing disciplines.
pub(super) const ROUTE: isize = protocols::NETLINK_ROUTE;
/// The protocol of socket dumps.
pub(super) const SOCK_DIAG: isize = protocols::NETLINK_SOCK_DIAG;
/// The loopback device is the first of every network namespace.
pub(super) const LOOPBACK: u32 = 1;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
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
pub(super) struct Netlink(Socket);

impl Netlink {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Asks for a dump and returns the payload of every row.
    pub(super) fn dump(&self, kind: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.ask(kind, NLM_F_DUMP, payload)
    }

    /// Orders something and waits for the kernel's yes or no.
    pub(super) fn order(&self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        self.ask(kind, NLM_F_ACK | flags, payload).map(drop)
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

    fn ask(&self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend([1, 0].into_iter().flat_map(u32::to_ne_bytes)); // sequence number; port, for the kernel to fill in
        message.extend(payload);
        self.0.send(&message, 0)?;
        let mut rows = Vec::new();
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while let Some((kind, payload, next)) = split(rest) {
                match kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(rows) };
                    }
                    _ => rows.push(payload.to_vec()),
                }
                rest = next;
            }
        }
    }
}

/// struct ifinfomsg that sets (and touches) these flags of the device; 0 is a device to be made.
fn interface(device: u32, flags: u32) -> Vec<u8> {
    [0, device, flags, flags].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// The first message of a datagram: its type, its payload, what follows it.
fn split(datagram: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
    let payload = datagram.get(HEADER..length)?;
    Some((kind, payload, datagram.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Appends one attribute, padded to four bytes.
pub(super) fn attribute(message: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    // Callers pass a few bytes; a longer one would be cut by the kernel's own length check.
    let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(payload);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// The attributes in a run of them: type and payload; stops at the first that does not fit.
pub(super) fn attributes(mut run: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (run.first_chunk(), run.get(2..).and_then(<[u8]>::first_chunk)) {
        let length = usize::from(u16::from_ne_bytes(*length));
        let Some(payload) = run.get(4..length) else { break };
        found.push((u16::from_ne_bytes(*kind), payload.to_vec()));
        run = run.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_and_a_truncated_one_ends_the_run() {
        let mut run = Vec::new();
        attribute(&mut run, 21, &7_u64.to_ne_bytes());
        attribute(&mut run, 8, &[3]);
        let whole = attributes(&run);
        assert_eq!(whole, vec![(21, 7_u64.to_ne_bytes().to_vec()), (8, vec![3])]);
        assert_eq!(attributes(&run[..run.len() - 4]), whole[..1]);
        assert_eq!(attributes(&[0, 0, 0, 0, 1, 2]), Vec::new());
    }

    #[test]
    fn a_header_that_claims_more_than_there_is_yields_no_message() {
        let mut datagram = vec![0; HEADER];
        datagram[0] = 200;
        assert!(split(&datagram).is_none());
        assert!(split(&[]).is_none());
    }
}
