//! The kernel-side filter: bytecode that leaves out sockets before they are copied.
//!
//! One condition on the peer is all that is asked so far (inet_diag.c `inet_diag_bc_run`). An IPv4 condition
//! also matches sockets that hold the address v4-mapped, so one filter serves both families.

use std::net::IpAddr;

use tidewait_model::AddressFilter;

/// `INET_DIAG_REQ_BYTECODE`: the attribute that carries the program.
pub(super) const ATTR_BYTECODE: u16 = 1;
/// `INET_DIAG_BC_D_COND`: compare address and port of the peer.
const D_COND: u8 = 8;

/// The program that accepts sockets whose peer is `to`.
///
/// `struct inet_diag_bc_op {code, yes, no}`, then `struct inet_diag_hostcond {family, prefix_len, port}` and the
/// address. A jump exactly to the end accepts; one beyond it rejects.
pub(super) fn peer(to: AddressFilter) -> Vec<u8> {
    let (family, address): (u8, Vec<u8>) = match to.ip {
        IpAddr::V4(ip) => (2, ip.octets().to_vec()),
        IpAddr::V6(ip) => (10, ip.octets().to_vec()),
    };
    // 4 bytes of operation, 8 of condition, 4 or 16 of address.
    let length: u8 = if family == 2 { 16 } else { 28 };
    let prefix: u8 = if family == 2 { 32 } else { 128 };
    let port: i32 = to.port.map_or(-1, i32::from);
    let mut program = Vec::with_capacity(usize::from(length));
    program.extend([D_COND, length]);
    program.extend((u16::from(length) + 4).to_ne_bytes());
    program.extend([family, prefix, 0, 0]);
    program.extend(port.to_ne_bytes());
    program.extend(address);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jumps_end_at_the_end_and_beyond_it() {
        for text in ["10.0.2.9:3306", "2001:db8::9", "[2001:db8::9]:80"] {
            let program = peer(text.parse().unwrap());
            assert_eq!(usize::from(program[1]), program.len(), "{text}");
            assert_eq!(usize::from(u16::from_ne_bytes([program[2], program[3]])), program.len() + 4);
            assert_eq!(program.len() % 4, 0);
        }
    }
}
