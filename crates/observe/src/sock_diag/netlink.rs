//! The live kernel as a source of rows: one netlink socket, bound to the namespace it was made in.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags};
use zerocopy::IntoBytes;

use super::row::ATTR_INFO;
use super::{DumpError, Message, Outcome, Recorder, Request, Row, Sockets, filter, messages};
use tidewait_kernel::wire::{
    self, InetDiagReqV2, NlAttr, NlMsgHdr, REQUEST_DUMP, SOCK_DIAG_BY_FAMILY, SockId, TCP,
};

/// The kernel fills at most 32 KiB a receive (af_netlink.c `netlink_recvmsg`), but only once a receive has
/// offered it that much room. Twice that leaves room for a kernel that gives more.
const BUFFER: usize = 64 * 1024;
/// A buffer that had to grow beyond this is a kernel gone wrong.
const BUFFER_LIMIT: usize = 16 * 1024 * 1024;
/// How often a dump whose messages were lost is begun again.
const ATTEMPTS: usize = 3;

/// A sock_diag socket. It sees the network namespace that the thread was in when it was opened, for ever.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
    seq: u32,
    recorder: Option<Recorder>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace. Needs no privilege.
    pub fn open() -> Result<Netlink, DumpError> {
        let socket = wire::socket().map_err(|errno| match errno {
            Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => DumpError::Unsupported(errno.into()),
            Errno::PERM | Errno::ACCESS => DumpError::NotPermitted(errno.into()),
            other => DumpError::Io { step: "open a sock_diag socket", source: other.into() },
        })?;
        // More room makes a lost message rarer; without the privilege the default has to do.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20);
        Ok(Netlink { socket, buffer: vec![0; BUFFER], seq: 0, recorder: None })
    }

    /// Writes everything received from now on to `recorder` too.
    pub fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    fn send(&mut self, request: &Request) -> Result<(), DumpError> {
        self.seq = self.seq.wrapping_add(1);
        let program = request.only.program();
        let body = InetDiagReqV2 {
            family: request.family.number(),
            protocol: TCP,
            ext: if request.tcp_info { 1 << (ATTR_INFO - 1) } else { 0 },
            pad: 0,
            states: request.states,
            id: SockId::default(),
        };
        let attribute = program.as_ref().map_or(0, |program| size_of::<NlAttr>() + program.len());
        let length = size_of::<NlMsgHdr>() + size_of::<InetDiagReqV2>() + attribute;
        let too_long =
            |_| DumpError::Io { step: "build the request", source: io::ErrorKind::InvalidInput.into() };
        let header = NlMsgHdr {
            len: u32::try_from(length).map_err(too_long)?,
            kind: SOCK_DIAG_BY_FAMILY,
            flags: REQUEST_DUMP,
            seq: self.seq,
            pid: 0,
        };
        let mut bytes = Vec::with_capacity(length);
        bytes.extend(header.as_bytes());
        bytes.extend(body.as_bytes());
        if let Some(program) = program {
            let len = u16::try_from(attribute).map_err(too_long)?;
            bytes.extend(NlAttr { len, kind: filter::ATTR_BYTECODE }.as_bytes());
            bytes.extend(program);
        }
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &bytes, SendFlags::empty(), &kernel)
            .map(|_| ())
            .map_err(|errno| DumpError::Io { step: "send the sock_diag request", source: errno.into() })
    }

    /// Receives one datagram; its length in the buffer.
    fn receive(&mut self) -> Result<usize, DumpError> {
        loop {
            // With MSG_TRUNC the second number is the datagram's true length.
            match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Ok((received, length)) if length > received => return Err(DumpError::Truncated(length)),
                Ok((received, _)) => return Ok(received),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => return Err(DumpError::Overrun),
                Err(errno) => {
                    return Err(DumpError::Io { step: "receive the socket dump", source: errno.into() });
                }
            }
        }
    }

    fn run(&mut self, request: &Request, each: &mut dyn FnMut(&Row<'_>)) -> Result<Outcome, DumpError> {
        self.send(request)?;
        let mut outcome = Outcome::default();
        loop {
            let length = self.receive()?;
            let datagram = &self.buffer[..length];
            if let Some(recorder) = &mut self.recorder {
                recorder
                    .datagram(datagram)
                    .map_err(|source| DumpError::Io { step: "write the recording", source })?;
            }
            if fold(datagram, Some(self.seq), &mut outcome, each)? {
                return Ok(outcome);
            }
        }
    }
}

impl Sockets for Netlink {
    /// # Errors
    /// A dump that lost messages before it gave a row is begun again; once rows were given, the caller has
    /// to begin again itself, with an empty fold.
    fn dump(&mut self, request: &Request, each: &mut dyn FnMut(&Row<'_>)) -> Result<Outcome, DumpError> {
        let mut given = false;
        for _ in 1..ATTEMPTS {
            let result = self.run(request, &mut |row| {
                given = true;
                each(row);
            });
            match result {
                Err(DumpError::Truncated(length)) if length <= BUFFER_LIMIT => {
                    self.buffer.resize(length.next_power_of_two(), 0);
                    // What is left of the cut dump would be taken for the new one's; a new socket has nothing.
                    self.reopen()?;
                }
                Err(DumpError::Overrun) => self.reopen()?,
                other => return other,
            }
            if given {
                return Err(DumpError::Overrun);
            }
        }
        self.run(request, each)
    }
}

impl Netlink {
    fn reopen(&mut self) -> Result<(), DumpError> {
        self.socket = Netlink::open()?.socket;
        Ok(())
    }
}

/// Gives the rows of a datagram to `each`; `true` when the dump is over. With `seq`, answers to other
/// requests are passed over.
pub(super) fn fold(
    datagram: &[u8],
    seq: Option<u32>,
    outcome: &mut Outcome,
    each: &mut dyn FnMut(&Row<'_>),
) -> Result<bool, DumpError> {
    outcome.bytes += datagram.len() as u64;
    let mine = |other: u32| seq.is_none_or(|seq| seq == other);
    for message in messages(datagram) {
        match message {
            Ok(Message::Socket { seq, interrupted, payload }) if mine(seq) => {
                outcome.interrupted |= interrupted;
                match Row::read(payload) {
                    Some(row) => {
                        outcome.rows += 1;
                        each(&row);
                    }
                    None => outcome.malformed += 1,
                }
            }
            Ok(Message::Done { seq, code } | Message::Error { seq, code }) if mine(seq) => {
                return if code == 0 { Ok(true) } else { Err(refusal(code)) };
            }
            Ok(_) => {}
            Err(_) => outcome.malformed += 1,
        }
    }
    Ok(false)
}

fn refusal(code: i32) -> DumpError {
    let source = io::Error::from_raw_os_error(code.checked_neg().unwrap_or(0));
    match Errno::from_io_error(&source) {
        // ENOENT: no handler for this family and protocol, and none could be loaded (inet_diag_lock_handler).
        Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT) => DumpError::Unsupported(source),
        Some(Errno::PERM | Errno::ACCESS) => DumpError::NotPermitted(source),
        Some(Errno::NOBUFS) => DumpError::Overrun,
        _ => DumpError::Io { step: "dump the sockets", source },
    }
}
