//! Writes what the kernel would send: rows and dumps for tests, from the same structs that are read.

use std::net::IpAddr;

use tidewait_model::State;
use zerocopy::IntoBytes;

use tidewait_kernel::wire::{InetDiagMsg, NlAttr, NlMsgHdr, SOCK_DIAG_BY_FAMILY, SockId, align};

/// A socket as a test wants it.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    pub(crate) state: State,
    pub(crate) local: (IpAddr, u16),
    pub(crate) remote: (IpAddr, u16),
    /// Timer kind and milliseconds.
    pub(crate) timer: (u8, u32),
    pub(crate) cookie: u64,
    pub(crate) inode: u32,
    /// Bytes not read, the end of file among them.
    pub(crate) unread: u32,
    pub(crate) retransmits: u8,
    pub(crate) attributes: Vec<(u16, Vec<u8>)>,
}

impl Socket {
    pub(crate) fn new(state: State, local: &str, remote: &str) -> Socket {
        let endpoint = |text: &str| -> (IpAddr, u16) {
            let address: std::net::SocketAddr = text.parse().unwrap();
            (address.ip(), address.port())
        };
        let full = !matches!(state, State::TimeWait | State::NewSynRecv);
        Socket {
            state,
            local: endpoint(local),
            remote: endpoint(remote),
            timer: (0, 0),
            cookie: 0,
            inode: 0,
            unread: 0,
            retransmits: 0,
            attributes: if full { vec![(8, vec![0])] } else { Vec::new() },
        }
    }

    /// In TIME_WAIT with `ms` left.
    pub(crate) fn time_wait(local: &str, remote: &str, ms: u32) -> Socket {
        Socket { timer: (3, ms), ..Socket::new(State::TimeWait, local, remote) }
    }

    /// The bytes behind the netlink header.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let v4 = self.local.0.is_ipv4();
        let number = match self.state {
            State::NewSynRecv => State::SynRecv.number(),
            State::BoundInactive => State::Close.number(),
            state => state.number(),
        };
        let message = InetDiagMsg {
            family: if v4 { 2 } else { 10 },
            state: number,
            timer: self.timer.0,
            retrans: self.retransmits,
            id: SockId {
                sport: self.local.1.to_be_bytes(),
                dport: self.remote.1.to_be_bytes(),
                src: octets(self.local.0),
                dst: octets(self.remote.0),
                interface: 0,
                cookie: [self.cookie as u32, (self.cookie >> 32) as u32],
            },
            expires: self.timer.1,
            rqueue: self.unread,
            wqueue: 0,
            uid: 0,
            inode: self.inode,
        };
        let mut bytes = message.as_bytes().to_vec();
        for (kind, value) in &self.attributes {
            let len = 4 + value.len();
            bytes.extend(NlAttr { len: len as u16, kind: *kind }.as_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len() + align(len) - len, 0);
        }
        bytes
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// A netlink message.
pub(crate) fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let len = size_of::<NlMsgHdr>() + payload.len();
    let header = NlMsgHdr { len: len as u32, kind, flags: 2, seq: 1, pid: 0 };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(payload);
    bytes.resize(align(len), 0);
    bytes
}

/// The datagrams of a dump, one socket each, the last one saying that it is done; as a recording holds them.
pub(crate) fn recording(sockets: &[Socket]) -> Vec<u8> {
    let mut datagrams: Vec<Vec<u8>> =
        sockets.iter().map(|socket| message(SOCK_DIAG_BY_FAMILY, &socket.payload())).collect();
    datagrams.push(message(3, &0_i32.to_ne_bytes()));
    datagrams.iter().flat_map(|bytes| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()).collect()
}
