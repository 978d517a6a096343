//! What an event of the kernel is in the words of the lines: state, side, who chose the port, the name of an error.

use rustix::io::Errno;
use tidewait_model::State;
use tidewait_model::report::Pool;
use tidewait_model::trace::Direction;
use tidewait_model::trace::line::{PortBy, Side};
use tidewait_observe::trace::{Closed, Event, Kind};

/// The value of `event`.
pub fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Connect => "connect",
        Kind::Established => "established",
        Kind::Accept => "accept",
        Kind::PeerClosed => "peer_closed",
        Kind::Close => "close",
        Kind::TimeWait => "time_wait",
        Kind::Refused => "refused",
        Kind::Failed => "failed",
    }
}

/// The value of `direction`.
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outgoing => "outgoing",
        Direction::Incoming => "incoming",
        Direction::Bind => "bind",
    }
}

/// The state that the socket enters.
pub fn state(event: &Event) -> Option<State> {
    if event.direction == Direction::Bind {
        return None;
    }
    Some(match event.kind {
        Kind::Connect => State::SynSent,
        Kind::Established | Kind::Accept => State::Established,
        Kind::PeerClosed => State::CloseWait,
        Kind::TimeWait => State::TimeWait,
        Kind::Refused | Kind::Failed => State::Close,
        Kind::Close => match event.closed {
            Some(Closed::Here) => State::FinWait1,
            Some(Closed::There) => State::LastAck,
            _ => State::Close,
        },
    })
}

/// The kinds of event by which a state is entered.
pub fn kinds(state: State) -> &'static [Kind] {
    match state {
        State::SynSent => &[Kind::Connect],
        State::Established => &[Kind::Established, Kind::Accept],
        State::CloseWait => &[Kind::PeerClosed],
        State::TimeWait => &[Kind::TimeWait],
        State::FinWait1 | State::LastAck => &[Kind::Close],
        State::Close => &[Kind::Close, Kind::Refused, Kind::Failed],
        _ => &[],
    }
}

/// Who chose the local port.
pub fn pool(event: &Event) -> Option<PortBy> {
    match event.pool {
        _ if event.direction == Direction::Incoming => None,
        None => Some(PortBy::Program),
        Some(Pool::Connect) => Some(PortBy::Connect),
        Some(Pool::Bind) => Some(PortBy::Bind),
        Some(Pool::Unknown) => None,
    }
}

/// Who closed first.
pub fn closed_first(event: &Event) -> Option<Side> {
    match event.kind {
        Kind::PeerClosed => Some(Side::There),
        Kind::TimeWait => Some(Side::Here),
        Kind::Close => match event.closed? {
            Closed::Here => Some(Side::Here),
            Closed::There => Some(Side::There),
            _ => None,
        },
        _ => None,
    }
}

/// Which side cut the connection off.
pub fn cut_off(event: &Event) -> Option<Side> {
    match event.closed? {
        Closed::AbortedHere => Some(Side::Here),
        Closed::AbortedThere => Some(Side::There),
        _ => None,
    }
}

/// The thread, where it is that of a system call.
pub fn thread(event: &Event) -> Option<u32> {
    let called = match event.kind {
        Kind::Connect | Kind::Refused => true,
        Kind::Close => event.closed != Some(Closed::AbortedThere) && event.owner != 0,
        _ => false,
    };
    called.then_some(event.thread)
}

/// The names of the errors that a TCP socket can end with.
const ERRNOS: [(Errno, &str); 18] = [
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (Errno::ADDRINUSE, "EADDRINUSE"),
    (Errno::CONNREFUSED, "ECONNREFUSED"),
    (Errno::TIMEDOUT, "ETIMEDOUT"),
    (Errno::CONNRESET, "ECONNRESET"),
    (Errno::CONNABORTED, "ECONNABORTED"),
    (Errno::PIPE, "EPIPE"),
    (Errno::HOSTUNREACH, "EHOSTUNREACH"),
    (Errno::NETUNREACH, "ENETUNREACH"),
    (Errno::NETDOWN, "ENETDOWN"),
    (Errno::HOSTDOWN, "EHOSTDOWN"),
    (Errno::PERM, "EPERM"),
    (Errno::ACCESS, "EACCES"),
    (Errno::NOBUFS, "ENOBUFS"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::PROTO, "EPROTO"),
    (Errno::NOPROTOOPT, "ENOPROTOOPT"),
    (Errno::INVAL, "EINVAL"),
];

/// The name of an error; `errno 71` for one that has none here.
pub fn errno(number: u32) -> std::borrow::Cow<'static, str> {
    let named = i32::try_from(number).ok().and_then(|number| {
        ERRNOS.iter().find(|(errno, _)| errno.raw_os_error() == number).map(|(_, name)| *name)
    });
    named.map_or_else(|| format!("errno {number}").into(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_of_this_machine() {
        assert_eq!(errno(Errno::ADDRNOTAVAIL.raw_os_error().unsigned_abs()), "EADDRNOTAVAIL");
        assert_eq!(errno(9_999), "errno 9999");
    }
}
