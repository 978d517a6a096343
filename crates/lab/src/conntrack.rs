//! Entries in the connection tracking table of a namespace, made by ctnetlink: many, and without any traffic.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::error::{Context, Result};
use crate::netns::NetNs;

// uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h
const CT_NEW: u16 = 1 << 8; // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const NLA_F_NESTED: u16 = 1 << 15;

// uapi/linux/netlink.h
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

/// IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED: what is assured is not dropped early for somebody else
/// (`early_drop_list`, net/netfilter/nf_conntrack_core.c).
const STATUS: u32 = 0x2 | 0x4 | 0x8;
/// TCP_CONNTRACK_ESTABLISHED
const ESTABLISHED: u8 = 3;
/// Seconds that an entry lasts.
const TIMEOUT: u32 = 600;

/// Entries in one datagram.
const BATCH: u64 = 100;

/// Makes `count` entries for connections that are nobody's (198.18.0.0/15, RFC 2544). Entries beyond the kernel's limit are
/// refused by it without a word here: count what is there afterwards.
///
/// # Errors
/// When the kernel has no ctnetlink or refuses it.
pub(crate) fn fill(netns: &NetNs, count: u64) -> Result<()> {
    netns.run(|| {
        let mut socket = Socket::new(NETLINK_NETFILTER).context("open", "ctnetlink")?;
        socket.bind_auto().context("bind", "ctnetlink")?;
        let kernel = SocketAddr::new(0, 0);
        let mut batch = Vec::new();
        for number in 0..count {
            append(&mut batch, number as u32);
            if (number + 1) % BATCH == 0 || number + 1 == count {
                socket.send_to(&batch, &kernel, 0).context("send to", "ctnetlink")?;
                batch.clear();
            }
        }
        Ok(())
    })?
}

/// Appends the order to create entry `number`.
fn append(out: &mut Vec<u8>, number: u32) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]); // length, below
    out.extend_from_slice(&CT_NEW.to_ne_bytes());
    out.extend_from_slice(&(NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL).to_ne_bytes());
    out.extend_from_slice(&[0; 8]); // sequence number, port
    out.extend_from_slice(&[libc::AF_INET as u8, 0, 0, 0]); // nfgenmsg
    let ours = [198, 18, (number >> 24) as u8, (number >> 16) as u8];
    let theirs = [198, 19, 0, 1];
    let port = (number as u16).to_be_bytes();
    let service = 443_u16.to_be_bytes();
    tuple(out, CTA_TUPLE_ORIG, (ours, theirs), (port, service));
    tuple(out, CTA_TUPLE_REPLY, (theirs, ours), (service, port));
    attribute(out, CTA_STATUS, |out| out.extend_from_slice(&STATUS.to_be_bytes()));
    attribute(out, CTA_TIMEOUT, |out| out.extend_from_slice(&TIMEOUT.to_be_bytes()));
    attribute(out, CTA_PROTOINFO | NLA_F_NESTED, |out| {
        attribute(out, CTA_PROTOINFO_TCP | NLA_F_NESTED, |out| {
            attribute(out, CTA_PROTOINFO_TCP_STATE, |out| out.push(ESTABLISHED));
        });
    });
    let length = (out.len() - begin) as u32;
    out[begin..begin + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Source and destination, addresses and ports.
fn tuple(out: &mut Vec<u8>, kind: u16, addresses: ([u8; 4], [u8; 4]), ports: ([u8; 2], [u8; 2])) {
    attribute(out, kind | NLA_F_NESTED, |out| {
        attribute(out, CTA_TUPLE_IP | NLA_F_NESTED, |out| {
            attribute(out, CTA_IP_V4_SRC, |out| out.extend_from_slice(&addresses.0));
            attribute(out, CTA_IP_V4_DST, |out| out.extend_from_slice(&addresses.1));
        });
        attribute(out, CTA_TUPLE_PROTO | NLA_F_NESTED, |out| {
            attribute(out, CTA_PROTO_NUM, |out| out.push(libc::IPPROTO_TCP as u8));
            attribute(out, CTA_PROTO_SRC_PORT, |out| out.extend_from_slice(&ports.0));
            attribute(out, CTA_PROTO_DST_PORT, |out| out.extend_from_slice(&ports.1));
        });
    });
}

/// An attribute with what `fill` writes, padded to four bytes.
fn attribute(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = (out.len() - begin) as u16;
    out[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
    out[begin + 2..begin + 4].copy_from_slice(&kind.to_ne_bytes());
    out.resize(begin + usize::from(length).next_multiple_of(4), 0);
}
