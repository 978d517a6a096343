//! Ends sockets before their time: SOCK_DESTROY, many orders in one call, with cookies, answered only where refused.
//!
//! The kernel works the orders off before sendto() returns (net/core/sock_diag.c `sock_diag_rcv`), and what it refuses
//! lies in the receive buffer by then, so nothing is ever waited for. What an order may hit is settled by type: a
//! [`Victim`] comes from a [`Warrant`] alone, which names the states.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags};
use rustix::thread::{CapabilitySet, capabilities};
use tidewait_kernel::wire::{self, Handle, Message, messages};
use tidewait_model::reap::Reapable;
use zerocopy::IntoBytes;

/// Orders in one call. If all are refused, as many answers of less than 1 KiB with what the kernel keeps beside them have to
/// fit the receive buffer, which has 208 KiB where nobody has changed it.
const BATCH: usize = 128;
/// Room for answers: 108 bytes each, one in a datagram.
const ANSWER: usize = 4096;

/// The states whose sockets may be ended.
#[derive(Clone, Copy, Debug)]
pub struct Warrant(u32);

impl Warrant {
    /// A warrant for these states, and no other.
    pub fn for_states(states: &[Reapable]) -> Warrant {
        Warrant(states.iter().fold(0, |mask, state| mask | state.state().mask()))
    }

    /// The socket as one to be ended; `None` if it was found in a state that is not named.
    pub fn victim(self, socket: Handle) -> Option<Victim> {
        let mask = 1_u32.checked_shl(socket.state().into()).unwrap_or(0);
        (self.0 & mask != 0).then_some(Victim(socket))
    }
}

/// A socket that is to be ended.
#[derive(Clone, Copy, Debug)]
pub struct Victim(Handle);

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is gone by this order.
    Ended,
    /// There was none with this cookie any more.
    Gone,
    /// The kernel refused.
    Refused(Errno),
    /// The kernel's answer was lost, so that it is one of these.
    Unclear,
}

/// Why sockets cannot be ended at all.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// CAP_NET_ADMIN is missing.
    #[error("the kernel lets only CAP_NET_ADMIN end sockets")]
    NotPermitted,
    /// A kernel without CONFIG_INET_DIAG_DESTROY.
    #[error(
        "this kernel ends no sockets: it was built without CONFIG_INET_DIAG_DESTROY, or has no inet_diag"
    )]
    Unsupported,
    /// Something else.
    #[error("{step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Gives the orders in the network namespace that the thread was in when it was opened.
#[derive(Debug)]
pub struct Destroyer {
    socket: OwnedFd,
    orders: Vec<u8>,
}

impl Destroyer {
    /// Opens a socket, and gives an order that hits nothing, to see whether orders are taken.
    ///
    /// The kernel looks for the socket before it looks at privileges, so two things show with the first socket that is there: whether
    /// the capability counts in the network namespace's user namespace (`Refused(PERM)`), and whether sockets in TIME_WAIT are
    /// ended, as by Linux 6.0 and later (`Refused(OPNOTSUPP)`).
    ///
    /// # Errors
    /// If no orders are taken.
    pub fn open() -> Result<Destroyer, Refusal> {
        let io = |step| move |errno: Errno| Refusal::Io { step, source: errno.into() };
        // Where it cannot be told, the first order tells.
        if capabilities(None).is_ok_and(|sets| !sets.effective.contains(CapabilitySet::NET_ADMIN)) {
            return Err(Refusal::NotPermitted);
        }
        let socket = wire::socket().map_err(|errno| match errno {
            Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => Refusal::Unsupported,
            errno => io("open a sock_diag socket")(errno),
        })?;
        let mut destroyer = Destroyer { socket, orders: Vec::with_capacity(BATCH * 72) };
        let mut fate = Fate::Unclear;
        destroyer
            .batch(&[Victim(Handle::of_none())], &mut |_, answer| fate = answer)
            .map_err(|source| Refusal::Io { step: "give an order", source })?;
        match fate {
            Fate::Ended | Fate::Gone | Fate::Unclear => Ok(destroyer),
            Fate::Refused(Errno::PERM | Errno::ACCESS) => Err(Refusal::NotPermitted),
            Fate::Refused(Errno::OPNOTSUPP) => Err(Refusal::Unsupported),
            Fate::Refused(errno) => Err(io("give an order")(errno)),
        }
    }

    /// Ends the sockets, and tells of each by its place what became of it. The order in which it tells is not theirs.
    ///
    /// # Errors
    /// If orders cannot be given; some may have been.
    pub fn end(&mut self, victims: &[Victim], each: &mut dyn FnMut(usize, Fate)) -> io::Result<()> {
        for (count, batch) in victims.chunks(BATCH).enumerate() {
            self.batch(batch, &mut |place, fate| each(count * BATCH + place, fate))?;
        }
        Ok(())
    }

    fn batch(&mut self, victims: &[Victim], each: &mut dyn FnMut(usize, Fate)) -> io::Result<()> {
        self.orders.clear();
        for (seq, victim) in (0..).zip(victims) {
            // Without acknowledgement: a yes would be a datagram for each.
            self.orders.extend(victim.0.destroy(seq, false).as_bytes());
        }
        loop {
            match rustix::net::sendto(
                &self.socket,
                &self.orders,
                SendFlags::empty(),
                &SocketAddrNetlink::new(0, 0),
            ) {
                // The signal came before the message went.
                Err(Errno::INTR) => {}
                other => {
                    other?;
                    break;
                }
            }
        }
        let mut fates = [Fate::Ended; BATCH];
        let lost = self.answers(&mut fates)?;
        for (place, fate) in fates.iter().take(victims.len()).enumerate() {
            each(place, if lost && *fate == Fate::Ended { Fate::Unclear } else { *fate });
        }
        Ok(())
    }

    /// Reads what the kernel refused; whether answers were lost.
    fn answers(&self, fates: &mut [Fate; BATCH]) -> io::Result<bool> {
        let mut datagram = [0; ANSWER];
        let mut lost = false;
        loop {
            let length = match rustix::net::recv(&self.socket, &mut datagram[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(lost),
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => {
                    lost = true;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            for message in messages(&datagram[..length]) {
                let Ok(Message::Error { seq, code }) = message else { continue };
                let Some(fate) = usize::try_from(seq).ok().and_then(|place| fates.get_mut(place)) else {
                    continue;
                };
                *fate = match Errno::from_raw_os_error(code.saturating_neg()) {
                    _ if code == 0 => Fate::Ended,
                    Errno::NOENT => Fate::Gone,
                    errno => Fate::Refused(errno),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warrant_is_for_the_states_that_it_names() {
        let time_wait = Warrant::for_states(&[Reapable::TimeWait]);
        // A socket of no state is in none of them.
        assert!(time_wait.victim(Handle::of_none()).is_none());
        assert!(Warrant::for_states(&Reapable::ALL).victim(Handle::of_none()).is_none());
    }

    #[test]
    fn an_order_names_the_socket_with_its_cookie_and_wants_no_answer() {
        use tidewait_kernel::wire::{InetDiagMsg, SockId};
        let id = SockId {
            sport: 40_000_u16.to_be_bytes(),
            dport: 80_u16.to_be_bytes(),
            interface: 3,
            cookie: [7, 9],
            ..SockId::default()
        };
        let row = InetDiagMsg {
            family: 2,
            state: 6,
            timer: 3,
            retrans: 0,
            id,
            expires: 0,
            rqueue: 0,
            wqueue: 0,
            uid: 0,
            inode: 0,
        };
        let handle = Handle::of(&row);
        assert_eq!((handle.state(), handle.cookie()), (6, 9 << 32 | 7));
        let order = handle.destroy(5, false);
        let bytes = order.as_bytes();
        assert_eq!(bytes[..4], 72_u32.to_ne_bytes());
        // SOCK_DESTROY; NLM_F_REQUEST alone.
        assert_eq!(bytes[4..8], [21_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
        assert_eq!(bytes[8..12], 5_u32.to_ne_bytes());
        assert_eq!(bytes[16..18], [2, 6]);
        assert_eq!(bytes[24..], *id.as_bytes());
        for (states, passes) in [(&[Reapable::TimeWait][..], true), (&[Reapable::CloseWait][..], false)] {
            assert_eq!(Warrant::for_states(states).victim(handle).is_some(), passes);
        }
    }
}
