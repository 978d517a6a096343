//! Ends one TIME_WAIT socket at once, as `ss -K` does: the early end whose consequences are looked at.

use std::net::{IpAddr, SocketAddr};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::error::{Context, Error, Result};
use crate::netns::NetNs;

/// uapi/linux/sock_diag.h
const SOCK_DESTROY: u16 = 21;
/// NLM_F_REQUEST and NLM_F_ACK.
const FLAGS: u16 = 0x0005;
/// struct nlmsghdr and struct inet_diag_req_v2.
const LENGTH: u32 = 16 + 56;

impl NetNs {
    /// Destroys the socket in TIME_WAIT of this namespace between these ends.
    ///
    /// # Errors
    /// [`Error::Unavailable`] before Linux 6.0 or without CONFIG_INET_DIAG_DESTROY; when there is no such socket.
    pub(crate) fn destroy(&self, local: SocketAddr, remote: SocketAddr) -> Result<()> {
        self.run(|| {
            let socket = Socket::new(NETLINK_SOCK_DIAG).context("open", "a diagnostics socket")?;
            socket.send(&request(local, remote), 0).context("ask the kernel about", local)?;
            let (answer, _) = socket.recv_from_full().context("hear about", local)?;
            // struct nlmsgerr follows the header: the error comes first.
            let number =
                answer.get(16..20).and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
            match number {
                Some(0) => Ok(()),
                Some(number) if -number == libc::EOPNOTSUPP => Err(Error::Unavailable(
                    "this kernel destroys no TIME_WAIT (Linux 6.0, CONFIG_INET_DIAG_DESTROY)".to_owned(),
                )),
                Some(number) => Err(std::io::Error::from_raw_os_error(-number))
                    .context("destroy", format!("{local} - {remote}")),
                None => Err(Error::Refused("the kernel's answer is too short".to_owned())),
            }
        })?
    }
}

fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let octets = |address: IpAddr| {
        let mut octets = [0_u8; 16];
        match address {
            IpAddr::V4(address) => octets[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => octets = address.octets(),
        }
        octets
    };
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(SOCK_DESTROY.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Sequence number and port: one question, one answer.
    message.extend([0; 8]);
    message.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    message.extend(octets(local.ip()));
    message.extend(octets(remote.ip()));
    // Any device, and INET_DIAG_NOCOOKIE: the namespace is the lab's own, so nobody else opens that tuple meanwhile.
    message.extend([0; 4]);
    message.extend([0xff; 8]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_long_as_it_says() {
        for (local, remote) in [("10.77.0.1:40000", "10.77.0.2:443"), ("[fd00::1]:1", "[fd00::2]:2")] {
            let message = request(local.parse().unwrap(), remote.parse().unwrap());
            assert_eq!(message.len(), LENGTH as usize);
            assert_eq!(message[..4], LENGTH.to_ne_bytes());
        }
    }
}
