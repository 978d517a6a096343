//! One socket of a dump, read in place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidewait_model::address::Address;
use tidewait_model::{Endpoint, State};
use zerocopy::FromBytes;

use tidewait_kernel::wire::{Handle, InetDiagMsg, attributes};

/// `INET_DIAG_INFO`.
pub(super) const ATTR_INFO: u16 = 2;
/// Where `tcpi_last_ack_recv` is in `struct tcp_info` (include/uapi/linux/tcp.h): milliseconds, four bytes.
pub(crate) const TCP_INFO_LAST_ACK: usize = 56;
/// `INET_DIAG_SHUTDOWN`: every full socket has it; half-open and TIME_WAIT sockets do not.
const ATTR_SHUTDOWN: u16 = 8;
/// `INET_DIAG_MARK`: with CAP_NET_ADMIN only.
const ATTR_MARK: u16 = 15;
/// `INET_DIAG_CGROUP_ID`, since 5.8.
const ATTR_CGROUP_ID: u16 = 21;
/// `INET_DIAG_SOCKOPT`, since 5.10.
const ATTR_SOCKOPT: u16 = 22;

/// Which timer of a socket runs (`idiag_timer`), with the milliseconds until it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// None.
    Off,
    /// Retransmission.
    Retransmit(u32),
    /// Keepalive; also the first part of an orphaned FIN_WAIT2 whose tcp_fin_timeout is above 60 s.
    Keepalive(u32),
    /// End of TIME_WAIT, or of an orphaned FIN_WAIT2 kept as a small socket.
    TimeWait(u32),
    /// Zero-window probe.
    Probe(u32),
    /// A kind that this program does not know.
    Other(u8, u32),
}

/// Socket options as `INET_DIAG_SOCKOPT` gives them (`struct inet_diag_sockopt`, one bit each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions(u16);

impl SocketOptions {
    /// IP_BIND_ADDRESS_NO_PORT: bind(address, 0) leaves the port to connect().
    pub fn bind_address_no_port(self) -> bool {
        self.0 & (1 << 8) != 0
    }

    /// IP_TRANSPARENT.
    pub fn transparent(self) -> bool {
        self.0 & (1 << 5) != 0
    }

    /// IP_FREEBIND.
    pub fn freebind(self) -> bool {
        self.0 & (1 << 2) != 0
    }
}

/// The parts of `struct tcp_info` that are used (include/uapi/linux/tcp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// `TCPI_OPT_TIMESTAMPS`: both ends send timestamps.
    pub timestamps: bool,
    /// `tcpi_last_ack_recv`: milliseconds since the peer's last segment with an ACK, its FIN and its answers to keepalive
    /// probes among them. In SYN_SENT there was none, and the kernel counts from its own beginning (tcp.c
    /// `tcp_get_info`): no answer there.
    pub last_ack_ms: Option<u32>,
}

/// One socket, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    msg: InetDiagMsg,
    attributes: &'a [u8],
}

impl<'a> Row<'a> {
    /// Reads a row from the bytes behind a netlink header. `None` if they are too few.
    pub fn read(payload: &'a [u8]) -> Option<Row<'a>> {
        // Copied, not borrowed: a recording may hold it unaligned.
        let (msg, attributes) = InetDiagMsg::read_from_prefix(payload).ok()?;
        Some(Row { msg, attributes })
    }

    /// A row without attributes, from another source than netlink.
    pub(super) fn bare(msg: InetDiagMsg) -> Row<'static> {
        Row { msg, attributes: &[] }
    }

    /// The state; `None` for a number that this program does not know.
    ///
    /// The kernel reports a half-open connection as SYN_RECV (tcp_diag.c `inet_req_diag_fill`) and a bound but
    /// inactive socket as CLOSE; both are told apart here.
    pub fn state(&self) -> Option<State> {
        match State::from_number(self.msg.state)? {
            State::SynRecv if !self.is_full_socket() => Some(State::NewSynRecv),
            State::Close if self.msg.id.sport != [0, 0] => Some(State::BoundInactive),
            state => Some(state),
        }
    }

    fn is_full_socket(&self) -> bool {
        self.attribute(ATTR_SHUTDOWN).is_some()
    }

    /// The local address and port.
    pub fn local(&self) -> Endpoint {
        self.endpoint(self.msg.id.src, self.msg.id.sport)
    }

    /// The remote address and port.
    pub fn remote(&self) -> Endpoint {
        self.endpoint(self.msg.id.dst, self.msg.id.dport)
    }

    fn endpoint(&self, address: [u8; 16], port: [u8; 2]) -> Endpoint {
        let ip = if self.msg.family == super::Family::V4.number() {
            let [a, b, c, d, ..] = address;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            IpAddr::V6(Ipv6Addr::from(address))
        };
        Endpoint { address: Address::new(ip, self.msg.id.interface), port: u16::from_be_bytes(port) }
    }

    /// The interface that the socket is bound to, 0 if none; for link-local addresses their scope.
    pub fn interface(&self) -> u32 {
        self.msg.id.interface
    }

    /// The socket's cookie: unique while the machine is up, and kept into TIME_WAIT.
    pub fn cookie(&self) -> u64 {
        let [low, high] = self.msg.id.cookie;
        u64::from(high) << 32 | u64::from(low)
    }

    /// What names this very socket to the kernel.
    pub fn handle(&self) -> Handle {
        Handle::of(&self.msg)
    }

    /// The timer that runs.
    pub fn timer(&self) -> Timer {
        let ms = self.msg.expires;
        match self.msg.timer {
            0 => Timer::Off,
            1 => Timer::Retransmit(ms),
            2 => Timer::Keepalive(ms),
            3 => Timer::TimeWait(ms),
            4 => Timer::Probe(ms),
            other => Timer::Other(other, ms),
        }
    }

    /// Retransmissions so far.
    pub fn retransmits(&self) -> u8 {
        self.msg.retrans
    }

    /// Bytes received and not yet read; for a listener the length of its accept queue.
    pub fn receive_queue(&self) -> u32 {
        self.msg.rqueue
    }

    /// Bytes sent and not yet acknowledged; for a listener the limit of its accept queue.
    pub fn send_queue(&self) -> u32 {
        self.msg.wqueue
    }

    /// The uid of the owner; `None` where the kernel does not keep it (TIME_WAIT).
    pub fn uid(&self) -> Option<u32> {
        (self.msg.state != State::TimeWait.number()).then_some(self.msg.uid)
    }

    /// The inode of the socket file; `None` where there is no file any more or not yet.
    pub fn inode(&self) -> Option<u32> {
        (self.msg.inode != 0).then_some(self.msg.inode)
    }

    /// The mark (SO_MARK), where the kernel tells it.
    pub fn mark(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.attribute(ATTR_MARK)?.first_chunk()?))
    }

    /// The cgroup the socket was made in: the inode number of its directory in cgroup2.
    pub fn cgroup_id(&self) -> Option<u64> {
        Some(u64::from_ne_bytes(*self.attribute(ATTR_CGROUP_ID)?.first_chunk()?))
    }

    /// Socket options, where the kernel tells them.
    pub fn options(&self) -> Option<SocketOptions> {
        Some(SocketOptions(u16::from_ne_bytes(*self.attribute(ATTR_SOCKOPT)?.first_chunk()?)))
    }

    /// `struct tcp_info`, where it was asked for.
    pub fn tcp_info(&self) -> Option<TcpInfo> {
        let info = self.attribute(ATTR_INFO)?;
        let last_ack_ms = info
            .get(TCP_INFO_LAST_ACK..)
            .and_then(|rest| rest.first_chunk())
            .map(|ms| u32::from_ne_bytes(*ms));
        Some(TcpInfo {
            timestamps: *info.get(5)? & 1 != 0,
            last_ack_ms: last_ack_ms.filter(|_| self.state() != Some(State::SynSent)),
        })
    }

    /// Every attribute as (type, value), the unknown ones too.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        attributes(self.attributes)
    }

    fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        self.attributes().find_map(|(kind, value)| (kind == wanted).then_some(value))
    }
}
