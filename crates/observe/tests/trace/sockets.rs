//! System calls as the cases need them, with their error numbers as values.
#![expect(unsafe_code, reason = "socket options, fork and disconnecting have no safe wrapper")]

use std::io::{Read, Write};
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::watch::{PATIENCE, Place};

/// One connection with both its ends; the listener lives as long.
pub struct Pair {
    pub client: TcpStream,
    pub server: TcpStream,
    pub listener: TcpListener,
}

pub fn pair(place: Place) -> Pair {
    let listener = TcpListener::bind(place.listen).unwrap();
    let client = TcpStream::connect(place.connect).unwrap();
    let (server, _) = listener.accept().unwrap();
    Pair { client, server, listener }
}

/// A socket for this address.
pub fn socket(address: SocketAddr) -> OwnedFd {
    socket_with(address, SocketFlags::empty())
}

pub fn socket_with(address: SocketAddr, flags: SocketFlags) -> OwnedFd {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None).unwrap()
}

pub fn connect(socket: &OwnedFd, to: SocketAddr) -> Result<(), Errno> {
    rustix::net::connect(socket, &to)
}

pub fn stream(socket: OwnedFd) -> TcpStream {
    socket.into()
}

/// connect(AF_UNSPEC): the socket is as new.
pub fn disconnect(socket: &impl AsRawFd) {
    // SAFETY: all zeros are a valid address of AF_UNSPEC; it outlives the call.
    let answer = unsafe {
        let address: libc::sockaddr_in = zeroed();
        libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_in>() as u32)
    };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// Sets an option that is an int.
pub fn set(socket: &impl AsRawFd, level: i32, option: i32, value: i32) -> Result<(), Errno> {
    set_bytes(socket, level, option, &value.to_ne_bytes())
}

pub fn set_bytes(socket: &impl AsRawFd, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `value`, which outlives the call.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), value.len() as u32)
    };
    if answer == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()
}

/// SO_LINGER with no time: close() sends RST.
pub fn linger_zero(socket: &impl AsRawFd) {
    let mut value = 1_i32.to_ne_bytes().to_vec();
    value.extend(0_i32.to_ne_bytes());
    set_bytes(socket, libc::SOL_SOCKET, libc::SO_LINGER, &value).unwrap();
}

/// What comes for the socket is thrown away, as if lost on the way, until it is called with false.
pub fn deaf(socket: &impl AsRawFd, deaf: bool) {
    let option = if deaf { libc::SO_ATTACH_FILTER } else { libc::SO_DETACH_FILTER };
    let mut nothing = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    // SAFETY: the program and its one instruction outlive the call, which copies them.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as u32,
        )
    };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// How many packets for the socket were thrown away.
pub fn dropped(socket: &impl AsRawFd) -> u32 {
    // SK_MEMINFO_DROPS (include/uapi/linux/sock_diag.h) is the last of nine.
    let mut numbers = [0_u32; 9];
    let mut length = size_of_val(&numbers) as u32;
    // SAFETY: pointer and length describe `numbers`, which outlives the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    numbers[8]
}

/// Reads until the peer's FIN; how many bytes there were.
pub fn drain(mut from: &TcpStream) -> usize {
    let mut all = Vec::new();
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    from.read_to_end(&mut all).unwrap()
}

/// Writes so many bytes.
pub fn send(mut to: &TcpStream, count: usize) {
    to.write_all(&vec![b'x'; count]).unwrap();
}

/// Waits until so many bytes are there to be read.
pub fn until_there(socket: &impl AsFd, bytes: u64) {
    until("bytes to arrive", || rustix::io::ioctl_fionread(socket).unwrap() >= bytes);
}

/// Waits until the socket is in a state (include/net/tcp_states.h).
pub fn until_state(socket: &impl AsRawFd, state: u8) {
    until("a state", || self::state(socket) == state);
}

/// The socket's state.
pub fn state(socket: &impl AsRawFd) -> u8 {
    info(socket)[0]
}

/// How many connections wait for accept() (tcpi_unacked of a listening socket).
pub fn queued(listener: &impl AsRawFd) -> u32 {
    u32::from_ne_bytes(info(listener)[24..28].try_into().unwrap())
}

/// The beginning of `struct tcp_info`.
fn info(socket: &impl AsRawFd) -> [u8; 104] {
    let mut value = [0_u8; 104];
    let mut length = 104_u32;
    // SAFETY: pointer and length describe `value`, which outlives the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    value
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited for {what} in vain");
        sleep(Duration::from_millis(1));
    }
}

/// SOCK_DESTROY (uapi/linux/sock_diag.h, inet_diag.h), in the calling thread's namespace.
pub fn destroy(local: SocketAddr, remote: SocketAddr) -> Result<(), Errno> {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(v4) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&v4.octets());
            all
        }
        IpAddr::V6(v6) => v6.octets(),
    };
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // struct nlmsghdr with SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK; struct inet_diag_req_v2
    let mut message = Vec::new();
    message.extend(72_u32.to_ne_bytes());
    message.extend(21_u16.to_ne_bytes());
    message.extend(5_u16.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([u8::try_from(family).unwrap(), 6, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    message.extend(bytes(local.ip()));
    message.extend(bytes(remote.ip()));
    message.extend(0_u32.to_ne_bytes());
    message.extend([0xff; 8]);
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .unwrap();
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))
        .unwrap();
    let mut answer = [0; 256];
    rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
    let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    if error == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(-error)) }
}

/// A process that is a copy of this one; ended when dropped. Of what it is given to do, only system calls are safe.
pub struct Fork(libc::pid_t);

impl Fork {
    /// Forks; the child is called `name`, does `work` and ends.
    pub fn of(name: &str, work: impl FnOnce()) -> Fork {
        let mut text = [0_u8; 16];
        text[..name.len().min(15)].copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
        // SAFETY: the child makes system calls alone, on memory that was prepared here, and leaves by _exit.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: the name ends with a zero within its 16 bytes; _exit does not return.
            unsafe {
                libc::prctl(libc::PR_SET_NAME, text.as_ptr());
                work();
                libc::_exit(0);
            }
        }
        // A process that is gone keeps its name until it is waited for.
        let comm = format!("/proc/{pid}/comm");
        until("the child's name", || std::fs::read_to_string(&comm).unwrap().trim() == name);
        Fork(pid)
    }

    pub fn pid(&self) -> u32 {
        u32::try_from(self.0).unwrap()
    }

    /// Waits for its end.
    pub fn wait(mut self) {
        self.reap();
    }

    pub fn kill(mut self) {
        // SAFETY: the child is this process's and not waited for yet, so the number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        self.reap();
    }

    fn reap(&mut self) {
        if self.0 > 0 {
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
            self.0 = 0;
        }
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        if self.0 > 0 {
            // SAFETY: as in kill().
            unsafe { libc::kill(self.0, libc::SIGKILL) };
            self.reap();
        }
    }
}

/// For a child: waits for a signal that ends it.
pub fn pause() {
    // SAFETY: no arguments.
    unsafe { libc::pause() };
}

/// For a child: closes a descriptor of its own.
pub fn close(descriptor: i32) {
    // SAFETY: the descriptor is the child's copy; nothing there uses it again.
    unsafe { libc::close(descriptor) };
}

/// For a child: connects to a prepared address and closes; no memory is taken.
pub fn connect_and_close(address: &libc::sockaddr_in) {
    // SAFETY: the address outlives the call; the descriptor is this function's own.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        libc::connect(socket, std::ptr::from_ref(address).cast(), size_of::<libc::sockaddr_in>() as u32);
        libc::close(socket);
    }
}

/// An IPv4 address as the kernel takes it.
pub fn raw(address: SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(v4) = address else { panic!("{address} is not IPv4") };
    // SAFETY: all zeros are valid for a structure of numbers.
    let mut raw: libc::sockaddr_in = unsafe { zeroed() };
    raw.sin_family = libc::AF_INET as u16;
    raw.sin_port = v4.port().to_be();
    raw.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
    raw
}

/// Words of a control message with one descriptor: its header, and the descriptor.
const CONTROL: usize = 3;

/// A message of one part, with room for a control message. Both have to outlive it.
fn envelope(part: &mut libc::iovec, control: &mut [u64; CONTROL]) -> libc::msghdr {
    // SAFETY: all zeros are valid for it.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_controllen = size_of_val(control);
    message.msg_control = control.as_mut_ptr().cast();
    message
}

/// Sends a descriptor to another process over a Unix socket; it is closed here by the caller.
pub fn pass(through: &impl AsRawFd, descriptor: i32) {
    let mut control = [0; CONTROL];
    let mut byte = [0_u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros are valid; the buffers outlive the call; the header lies at the beginning of `control`, with room for
    // one descriptor behind it.
    unsafe {
        let message = envelope(&mut part, &mut control);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(descriptor);
        assert_eq!(libc::sendmsg(through.as_raw_fd(), &raw const message, 0), 1);
    }
}

/// For a child: takes the descriptor that was passed.
pub fn take(from: i32) -> i32 {
    let mut control = [0; CONTROL];
    let mut byte = [0_u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: as in pass(); what the kernel wrote is read where it says it is.
    unsafe {
        let mut message = envelope(&mut part, &mut control);
        if libc::recvmsg(from, &raw mut message, 0) != 1 {
            return -1;
        }
        libc::CMSG_DATA(libc::CMSG_FIRSTHDR(&raw const message)).cast::<i32>().read_unaligned()
    }
}

/// For a child: connects, sends a byte, waits for the peer's FIN, and closes.
pub fn pooled(address: &libc::sockaddr_in) {
    let mut byte = 0_u8;
    // SAFETY: address and byte outlive the calls; the descriptor is this function's own.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        libc::connect(socket, std::ptr::from_ref(address).cast(), size_of::<libc::sockaddr_in>() as u32);
        libc::send(socket, (&raw const byte).cast(), 1, 0);
        libc::recv(socket, (&raw mut byte).cast(), 1, 0);
        libc::close(socket);
    }
}
