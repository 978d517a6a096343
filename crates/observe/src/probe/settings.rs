//! Probes of settings and socket options that decide about local ports: set in the namespace, looked at, put back.
#![expect(unsafe_code, reason = "setsockopt(2) for options that rustix does not know")]

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType};
use rustix::thread::CapabilitySet;

use super::{Answer, Doing, Failure, Spec};

/// Where the settings of this network namespace are.
const IPV4: &str = "/proc/sys/net/ipv4";

pub(super) const SPECS: &[Spec] = &[
    Spec {
        id: "tcp-tw-reuse",
        title: "tcp_tw_reuse, its values",
        enables: "tune: connect() may take over a port in TIME_WAIT",
        needs: CapabilitySet::empty(),
        remedy: "Linux 4.19 for the value 2 (loopback only)",
        run: |_| tw_reuse(),
    },
    Spec {
        id: "tcp-tw-reuse-delay",
        title: "tcp_tw_reuse_delay",
        enables: "tune: how soon a port in TIME_WAIT may be taken over",
        needs: CapabilitySet::empty(),
        remedy: "Linux 6.14; before it the delay is fixed at about a second",
        run: |_| accepts("tcp_tw_reuse_delay", &["100", "60000"]),
    },
    Spec {
        id: "tcp-tw-timeout",
        title: "tcp_tw_timeout (vendor kernels)",
        enables: "tune: a shorter TIME_WAIT",
        needs: CapabilitySet::empty(),
        remedy: "not in mainline kernels; tidewait reap shortens TIME_WAIT without it",
        run: |_| accepts("tcp_tw_timeout", &["10", "60"]),
    },
    Spec {
        id: "port-range",
        title: "ip_local_port_range for each namespace",
        enables: "tune: more local ports, also for one container",
        needs: CapabilitySet::empty(),
        remedy: "a writable /proc/sys (ProtectKernelTunables= and containers make it read-only)",
        run: |_| port_range(),
    },
    Spec {
        id: "autobind-reuse",
        title: "ip_autobind_reuse",
        enables: "tune: bind() with SO_REUSEADDR may share ports",
        needs: CapabilitySet::empty(),
        remedy: "Linux 5.7",
        run: |_| accepts("ip_autobind_reuse", &["1", "0"]),
    },
    Spec {
        id: "bind-address-no-port",
        title: "IP_BIND_ADDRESS_NO_PORT",
        enables: "report, spread: bind() that leaves the port to connect()",
        needs: CapabilitySet::empty(),
        remedy: "Linux 4.2",
        run: |_| bind_address_no_port(),
    },
    Spec {
        id: "local-port-range-option",
        title: "IP_LOCAL_PORT_RANGE",
        enables: "a port range for one program",
        needs: CapabilitySet::empty(),
        remedy: "Linux 6.3",
        run: |_| local_port_range_option(),
    },
    Spec {
        id: "tcp-timestamps",
        title: "TCP timestamps are negotiated by default",
        enables: "tcp_tw_reuse: it applies to connections with timestamps only",
        needs: CapabilitySet::empty(),
        remedy: "sysctl net.ipv4.tcp_timestamps=1 in each namespace",
        run: |_| timestamps(),
    },
];

/// A socket option with a 32-bit value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Option32(libc::c_int, libc::c_int);

impl Option32 {
    /// The listener takes notice of a connection only when data come; the value is seconds.
    pub(super) const TCP_DEFER_ACCEPT: Self = Self(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);
    const IP_BIND_ADDRESS_NO_PORT: Self = Self(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    /// Upper bound in the upper half, lower bound in the lower half.
    const IP_LOCAL_PORT_RANGE: Self = Self(libc::IPPROTO_IP, 51);
}

/// setsockopt(2)
pub(super) fn set(socket: BorrowedFd<'_>, option: Option32, value: u32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `size` bytes from `value`, which lives until the call returns.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), option.0, option.1, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A connection from a socket that had options set, and so was bound to its loopback address, before it connected.
pub(super) fn connect(to: SocketAddr, options: &[(Option32, u32)]) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    for (option, value) in options {
        set(socket.as_fd(), *option, *value)?;
    }
    if options.iter().any(|(option, _)| option.1 == libc::IP_BIND_ADDRESS_NO_PORT) {
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    }
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// A socket that holds a port of 127.0.0.1 and does nothing with it.
pub(super) fn bound() -> io::Result<(OwnedFd, u16)> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, address.port()))
}

fn listener() -> Result<TcpListener, Failure> {
    // Ports below every default range, so that they do not get in the way of the ranges tried here.
    (20_001..20_100)
        .find_map(|port| TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), port)).ok())
        .ok_or_else(|| Failure::Unknown("no port from 20001 to 20099 could be listened on".to_owned()))
}

/// A setting of this namespace, put back to what it was when this goes out of scope.
struct Setting {
    path: String,
    before: String,
}

impl Setting {
    fn open(name: &str) -> Result<Self, Failure> {
        let path = format!("{IPV4}/{name}");
        match fs::read_to_string(&path) {
            Ok(before) => Ok(Self { path, before: before.trim().to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure::Unsupported(format!("no setting net.ipv4.{name}")))
            }
            Err(error) => Err(Failure::of(&path, &error)),
        }
    }

    /// Writes and reads back.
    fn set(&self, value: &str) -> Result<(), Failure> {
        fs::write(&self.path, value).doing(&format!("writing {value:?} to {}", self.path))?;
        let now = fs::read_to_string(&self.path).doing(&self.path)?;
        if now.split_ascii_whitespace().eq(value.split_ascii_whitespace()) {
            Ok(())
        } else {
            Err(Failure::Unknown(format!("{} reads {:?} after writing {value:?}", self.path, now.trim())))
        }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // The namespace ends with this process; a value that cannot be put back only concerns the probes after it.
        let _ = fs::write(&self.path, &self.before);
    }
}

fn accepts(name: &str, values: &[&str]) -> Answer {
    let setting = Setting::open(name)?;
    for value in values {
        setting.set(value)?;
    }
    Ok(format!("{} in a new namespace; takes {}", setting.before, values.join(", ")))
}

fn tw_reuse() -> Answer {
    let setting = Setting::open("tcp_tw_reuse")?;
    let taken: Vec<&str> = ["0", "1", "2"].into_iter().filter(|value| setting.set(value).is_ok()).collect();
    match taken.as_slice() {
        [] => {
            setting.set("1")?;
            Err(Failure::Unknown("takes 1, but neither 0, 1 nor 2 a moment before".to_owned()))
        }
        _ => Ok(format!("{} in a new namespace; takes {}", setting.before, taken.join(", "))),
    }
}

fn port_range() -> Answer {
    let setting = Setting::open("ip_local_port_range")?;
    setting.set("40000 40001")?;
    let listener = listener()?;
    let client = TcpStream::connect(listener.local_addr().doing("getsockname")?).doing("connect")?;
    let port = client.local_addr().doing("getsockname")?.port();
    if (40_000..=40_001).contains(&port) {
        let (low, high) = setting.before.split_once(char::is_whitespace).unwrap_or((&setting.before, "?"));
        Ok(format!("{low}-{} in a new namespace; another range is obeyed", high.trim()))
    } else {
        Err(Failure::Unknown(format!("the range is 40000-40001, but connect() chose {port}")))
    }
}

fn bind_address_no_port() -> Answer {
    let range = Setting::open("ip_local_port_range")?;
    range.set("40000 40000")?;
    let (one, two) = (listener()?, listener()?);
    let option = [(Option32::IP_BIND_ADDRESS_NO_PORT, 1)];
    let first = connect(one.local_addr().doing("getsockname")?, &option).doing("first connect")?;
    let second = connect(two.local_addr().doing("getsockname")?, &option);
    match second {
        Ok(second) => {
            let ports = (
                first.local_addr().doing("getsockname")?.port(),
                second.local_addr().doing("getsockname")?.port(),
            );
            Ok(format!("two connections to different destinations share port {}", ports.0.min(ports.1)))
        }
        Err(error) => Err(Failure::Unsupported(format!(
            "in a range of one port, a second connection to another destination fails: {error}"
        ))),
    }
}

fn local_port_range_option() -> Answer {
    let (low, high) = (41_000_u16, 41_003_u16);
    let listener = listener()?;
    let to = listener.local_addr().doing("getsockname")?;
    let value = u32::from(high) << 16 | u32::from(low);
    let client =
        connect(to, &[(Option32::IP_LOCAL_PORT_RANGE, value)]).doing("IP_LOCAL_PORT_RANGE, connect")?;
    let port = client.local_addr().doing("getsockname")?.port();
    if (low..=high).contains(&port) {
        Ok(format!("asked for {low}-{high}, got {port}"))
    } else {
        Err(Failure::Unsupported(format!("asked for {low}-{high}, got {port}")))
    }
}

fn timestamps() -> Answer {
    let listener = listener()?;
    let client = TcpStream::connect(listener.local_addr().doing("getsockname")?).doing("connect")?;
    if tcp_options(client.as_fd()).doing("TCP_INFO")? & TCPI_OPT_TIMESTAMPS != 0 {
        Ok("on, in a new namespace and with a peer that has them".to_owned())
    } else {
        Err(Failure::Unknown("a connection over loopback in a new namespace has none".to_owned()))
    }
}

/// Bit of `tcpi_options` (include/uapi/linux/tcp.h).
const TCPI_OPT_TIMESTAMPS: u8 = 1;

/// `tcpi_options` of struct tcp_info, its sixth byte.
fn tcp_options(socket: BorrowedFd<'_>) -> io::Result<u8> {
    let mut info = [0_u8; 8];
    let mut size = libc::socklen_t::try_from(info.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `size` bytes, the length of `info`, and shortens the struct to it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result == 0 { Ok(info[5]) } else { Err(io::Error::last_os_error()) }
}
