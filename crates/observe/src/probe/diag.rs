//! As much sock_diag as probes need: dump a few sockets with all attributes, destroy one.

use std::io;

use super::netlink::{self, Netlink};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
/// The cgroup v2 id of a full socket (5.8).
pub(super) const INET_DIAG_CGROUP_ID: u16 = 21;
/// Socket options that are on, bind_address_no_port among them (5.11).
pub(super) const INET_DIAG_SOCKOPT: u16 = 22;

/// Length of struct inet_diag_sockid: ports, addresses, interface, cookie.
const ID: usize = 48;

/// States as the kernel numbers them (include/net/tcp_states.h).
pub(super) const ESTABLISHED: u8 = 1;
pub(super) const SYN_RECV: u8 = 3;
pub(super) const FIN_WAIT2: u8 = 5;
pub(super) const TIME_WAIT: u8 = 6;
pub(super) const LISTEN: u8 = 10;
/// A request for it finds connection requests, which the answer calls SYN_RECV.
pub(super) const NEW_SYN_RECV: u8 = 12;
/// A request for it finds sockets with a port and no connection (6.8).
pub(super) const BOUND_INACTIVE: u8 = 13;

/// `idiag_timer` of a mini-socket that only waits for its end.
pub(super) const TIMER_TIME_WAIT: u8 = 3;

/// One socket of a dump.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) family: u8,
    pub(super) timer: u8,
    pub(super) attributes: Vec<(u16, Vec<u8>)>,
    id: [u8; ID],
}

impl Row {
    fn parse(payload: &[u8]) -> Option<Self> {
        // struct inet_diag_msg: family, state, timer, retrans; the id; expires, rqueue, wqueue, uid, inode.
        let [family, _state, timer, _retrans] = *payload.first_chunk()?;
        let id = *payload.get(4..)?.first_chunk()?;
        Some(Self { family, timer, id, attributes: netlink::attributes(payload.get(72..)?) })
    }

    pub(super) fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.id[0], self.id[1]])
    }

    pub(super) fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.id[2], self.id[3]])
    }

    /// The kernel's number for the socket, unique while the machine is up.
    pub(super) fn cookie(&self) -> u64 {
        // Two words, low half first, each in the machine's byte order.
        let word = |at: usize| {
            self.id.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_ne_bytes(*word))
        };
        u64::from(word(40)) | u64::from(word(44)) << 32
    }

    /// The payload of the attribute, if the kernel sent it.
    pub(super) fn attribute(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(found, _)| *found == kind).map(|(_, payload)| payload.as_slice())
    }
}

/// struct inet_diag_req_v2
fn request(family: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut request = vec![family, 6 /* IPPROTO_TCP */, 0, 0];
    request.extend(states.to_ne_bytes());
    request.extend(id);
    request
}

/// Every TCP socket of the family in one of the states, in this network namespace; `filter` is bytecode.
pub(super) fn dump(family: i32, states: &[u8], filter: Option<&[u8]>) -> io::Result<Vec<Row>> {
    let family = u8::try_from(family).map_err(io::Error::other)?;
    let mask = states.iter().fold(0, |mask, state| mask | 1 << state);
    let mut message = request(family, mask, &[0; ID]);
    if let Some(filter) = filter {
        netlink::attribute(&mut message, INET_DIAG_REQ_BYTECODE, filter);
    }
    let rows = Netlink::open(netlink::SOCK_DIAG)?.dump(SOCK_DIAG_BY_FAMILY, &message)?;
    Ok(rows.iter().filter_map(|payload| Row::parse(payload)).collect())
}

/// Destroys this very socket: the cookie in the row keeps the order from hitting a successor.
pub(super) fn destroy(row: &Row) -> io::Result<()> {
    Netlink::open(netlink::SOCK_DIAG)?.order(SOCK_DESTROY, 0, &request(row.family, u32::MAX, &row.id))
}

/// Bytecode that passes sockets whose local port is at least `port`.
///
/// Two operations of four bytes (struct inet_diag_bc_op): the comparison, which goes on at the end when it
/// holds and past the end when it does not, and its operand.
pub(super) fn source_port_at_least(port: u16) -> Vec<u8> {
    const INET_DIAG_BC_S_GE: u8 = 2;
    let [low, high] = port.to_ne_bytes();
    let [no_low, no_high] = 12_u16.to_ne_bytes();
    vec![INET_DIAG_BC_S_GE, 8, no_low, no_high, 0, 0, low, high]
}
