//! The kernel's structs, byte for byte: netlink headers, inet_diag requests and answers, attributes.
//!
//! Sources: include/uapi/linux/netlink.h, inet_diag.h and sock_diag.h (unchanged in size from 3.3 to 7.1;
//! newer kernels add attributes, never fields).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SOCK_DIAG_BY_FAMILY`: the only request used, and the type of every answering row.
pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`: the order to destroy one socket.
const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x0001;
/// `NLM_F_ACK`: the kernel says yes, too; without it, it only says no.
const ACK: u16 = 0x0004;
/// `NLMSG_ERROR`.
const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`.
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
pub const REQUEST_DUMP: u16 = REQUEST | 0x0300;
/// `NLM_F_DUMP_INTR`.
const NLM_F_DUMP_INTR: u16 = 0x0010;
/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;

/// A sock_diag socket. It sees the network namespace that the calling thread is in, for ever.
///
/// # Errors
/// As of socket(2). It takes no privilege.
pub fn socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG))
}

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NlMsgHdr {
    /// Length with this header.
    pub len: u32,
    /// Message type.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// Echoes the request's number.
    pub seq: u32,
    /// Port id of the sender, 0 for the kernel.
    pub pid: u32,
}

/// `struct inet_diag_sockid`. Ports and addresses in network order.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockId {
    /// `idiag_sport`.
    pub sport: [u8; 2],
    /// `idiag_dport`.
    pub dport: [u8; 2],
    /// `idiag_src`; IPv4 uses the first four bytes.
    pub src: [u8; 16],
    /// `idiag_dst`.
    pub dst: [u8; 16],
    /// `idiag_if`: the interface the socket is bound to, or the scope of a link-local address.
    pub interface: u32,
    /// `idiag_cookie`: low word first.
    pub cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagReqV2 {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// `IPPROTO_TCP`.
    pub protocol: u8,
    /// Bit `n - 1` asks for attribute `n`.
    pub ext: u8,
    /// Nothing.
    pub pad: u8,
    /// Bit mask of wanted states.
    pub states: u32,
    /// The one socket that is meant; nothing of it in a dump.
    pub id: SockId,
}

/// `struct inet_diag_msg`: one socket.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagMsg {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// The kernel's number of the state.
    pub state: u8,
    /// Which timer runs: retransmission 1, keepalive 2, TIME_WAIT 3, zero-window probe 4.
    pub timer: u8,
    /// Retransmissions so far.
    pub retrans: u8,
    /// Addresses, ports, interface, cookie.
    pub id: SockId,
    /// Milliseconds until the timer fires.
    pub expires: u32,
    /// Bytes not yet read; for a listener the accept queue's length.
    pub rqueue: u32,
    /// Bytes not yet acknowledged; for a listener the accept queue's limit.
    pub wqueue: u32,
    /// Owner's uid; 0 for TIME_WAIT.
    pub uid: u32,
    /// Inode of the socket file; 0 for TIME_WAIT, half-open and orphaned sockets.
    pub inode: u32,
}

/// `struct nlattr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NlAttr {
    /// Length with this header.
    pub len: u16,
    /// Attribute type.
    pub kind: u16,
}

/// What names one very socket to the kernel, as a dump gave it. The cookie is in it, so that an order never hits a successor
/// that has the same addresses and ports.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    family: u8,
    state: u8,
    id: SockId,
}

impl Handle {
    /// The handle of a row.
    pub fn of(row: &InetDiagMsg) -> Handle {
        Handle { family: row.family, state: row.state, id: row.id }
    }

    /// A handle that fits no socket: there is none with port 0. An order for it tells what would become of others.
    pub fn of_none() -> Handle {
        Handle { family: 2, state: 0, id: SockId::default() }
    }

    /// The kernel's number of the state in which the dump found it.
    pub fn state(&self) -> u8 {
        self.state
    }

    /// The socket's cookie.
    pub fn cookie(&self) -> u64 {
        let [low, high] = self.id.cookie;
        u64::from(high) << 32 | u64::from(low)
    }

    /// The order to destroy it, numbered `seq`. With `acknowledged` the kernel answers in any case, else only where it
    /// refuses.
    pub fn destroy(&self, seq: u32, acknowledged: bool) -> Destroy {
        Destroy {
            header: NlMsgHdr {
                // 72, as asserted below.
                len: size_of::<Destroy>() as u32,
                kind: SOCK_DESTROY,
                flags: REQUEST | if acknowledged { ACK } else { 0 },
                seq,
                pid: 0,
            },
            body: InetDiagReqV2 {
                family: self.family,
                protocol: TCP,
                ext: 0,
                pad: 0,
                // Not looked at: the kernel destroys in whatever state the socket has come to (inet_diag.c `inet_diag_cmd_exact`).
                states: u32::MAX,
                id: self.id,
            },
        }
    }
}

/// A `SOCK_DESTROY` message.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Destroy {
    header: NlMsgHdr,
    body: InetDiagReqV2,
}

const _: () = {
    assert!(size_of::<Destroy>() == 72);
    assert!(size_of::<NlMsgHdr>() == 16);
    assert!(size_of::<SockId>() == 48);
    assert!(size_of::<InetDiagReqV2>() == 56);
    assert!(size_of::<InetDiagMsg>() == 72);
    assert!(size_of::<NlAttr>() == 4);
};

/// One netlink message of a dump.
#[derive(Debug)]
pub enum Message<'a> {
    /// A socket: `struct inet_diag_msg` and its attributes.
    Socket {
        /// Number of the request that it answers.
        seq: u32,
        /// The table changed under the dump.
        interrupted: bool,
        /// The bytes behind the netlink header.
        payload: &'a [u8],
    },
    /// The dump is over; a negative errno if it failed on the way.
    Done {
        /// Number of the request that it answers.
        seq: u32,
        /// 0, or a negative errno.
        code: i32,
    },
    /// The request was refused: a negative errno (0 is an acknowledgement).
    Error {
        /// Number of the request that it answers.
        seq: u32,
        /// A negative errno.
        code: i32,
    },
    /// Something else, which is passed over.
    Other,
}

/// A netlink message whose length does not fit the bytes that hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The messages in one received datagram. After [`Malformed`] there are no more: the next start is unknown.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((header, length)) = header(rest) else {
            rest = &[];
            return Some(Err(Malformed));
        };
        let payload = &rest[size_of::<NlMsgHdr>()..length];
        rest = rest.get(align(length)..).unwrap_or(&[]);
        let code = || payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        Some(Ok(match header.kind {
            SOCK_DIAG_BY_FAMILY => {
                Message::Socket { seq: header.seq, interrupted: header.flags & NLM_F_DUMP_INTR != 0, payload }
            }
            NLMSG_DONE => Message::Done { seq: header.seq, code: code() },
            NLMSG_ERROR => Message::Error { seq: header.seq, code: code() },
            _ => Message::Other,
        }))
    })
}

fn header(bytes: &[u8]) -> Option<(NlMsgHdr, usize)> {
    let (header, _) = NlMsgHdr::read_from_prefix(bytes).ok()?;
    let length = usize::try_from(header.len).ok()?;
    (size_of::<NlMsgHdr>()..=bytes.len()).contains(&length).then_some((header, length))
}

/// The attributes in `bytes`, as (type, value). A broken length ends them.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, _) = NlAttr::read_from_prefix(rest).ok()?;
        let length = usize::from(header.len);
        let value = rest.get(size_of::<NlAttr>()..length)?;
        rest = rest.get(align(length)..).unwrap_or(&[]);
        // The top two bits say "nested" and "network order"; the rest is the type.
        Some((header.kind & 0x3fff, value))
    })
}

/// `NLMSG_ALIGN` and `NLA_ALIGN`: up to the next multiple of four.
pub fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}
