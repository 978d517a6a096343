//! Connections by way of io_uring: threads of the kernel that work for a process, and are the process.
#![expect(
    unsafe_code,
    reason = "what is submitted to the kernel must stay in its place, which only the caller knows"
)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};
use tidewait_lab::skip;
use tidewait_model::trace::{Counts, Direction};

use super::sockets::{drain, raw, socket, until};
use super::watch::{Watch, places};

/// Submits one operation and waits for its result.
fn perform(ring: &mut IoUring, entry: &Entry) -> i32 {
    // SAFETY: what the entry points to lives in the caller until the result is there, which is waited for.
    unsafe { ring.submission().push(entry) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    ring.completion().next().unwrap().result()
}

/// Connects, shuts down and closes, all by the ring; the server closes then.
fn connection(ring: &mut IoUring, port: u16, flags: Flags) {
    let place = places(port)[0].1;
    let listener = TcpListener::bind(place.listen).unwrap();
    let socket = socket(place.connect);
    let (descriptor, address) = (types::Fd(socket.as_raw_fd()), raw(place.connect));
    let length = size_of::<libc::sockaddr_in>() as u32;
    let connect = opcode::Connect::new(descriptor, (&raw const address).cast(), length).build();
    assert_eq!(perform(ring, &connect.flags(flags)), 0);
    let (server, _) = listener.accept().unwrap();
    if port.is_multiple_of(2) {
        assert_eq!(perform(ring, &opcode::Shutdown::new(descriptor, libc::SHUT_WR).build().flags(flags)), 0);
    }
    let close = opcode::Close::new(types::Fd(socket.into_raw_fd())).build();
    assert_eq!(perform(ring, &close.flags(flags)), 0);
    assert_eq!(drain(&server), 0);
}

#[test]
fn rings_connect_and_close_for_their_process() {
    let name = "calls::rings_connect_and_close_for_their_process";
    let Some(mut watch) = Watch::start(name) else { return };
    let netns = watch.netns.clone();
    let made = netns.run(|| -> io::Result<()> {
        // At once, by a worker, by a thread that looks for submissions.
        let mut plain = IoUring::new(8)?;
        let mut polled = IoUring::builder().setup_sqpoll(50).build(8)?;
        for even in [0, 1] {
            connection(&mut plain, 20_000 + even, Flags::empty());
            connection(&mut plain, 20_002 + even, Flags::ASYNC);
            connection(&mut polled, 20_004 + even, Flags::empty());
            connection(&mut polled, 20_006 + even, Flags::ASYNC);
        }
        Ok(())
    });
    if let Err(error) = made.unwrap() {
        // Forbidden (kernel.io_uring_disabled) or not built in; whatever else fails is a failure.
        let known = [libc::EPERM, libc::ENOSYS].map(Some);
        assert!(known.contains(&error.raw_os_error()), "{error}");
        return skip(name, format!("io_uring: {error}"));
    }
    let one = Counts { connects: 1, closed_here: 1, time_wait: 1, aged: 1, ..Counts::default() };
    let command = std::fs::read_to_string("/proc/self/comm").unwrap();
    for port in 20_000..20_008 {
        until("TIME_WAIT", || watch.counts(Direction::Outgoing, port).time_wait == 1);
        assert_eq!(watch.counts(Direction::Outgoing, port), one);
        for row in watch.rows(Direction::Outgoing, port) {
            let who = row.program.unwrap();
            assert_eq!((who.command.as_str(), who.pid), (command.trim(), Some(std::process::id())), "{port}");
        }
    }
}
