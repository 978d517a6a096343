//! The interfaces of a network namespace, and a program held at the entrance of each by a link that ends with this process.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper that attaches to an interface by a link")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use tidewait_kernel::wire::{NlMsgHdr, REQUEST_DUMP, attributes};
use zerocopy::{FromBytes, IntoBytes};

// include/uapi/linux/rtnetlink.h, if_link.h, if.h, netlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFF_UP: u32 = 1;
/// Length of `struct ifinfomsg`.
const INFO: usize = 16;
/// The kernel fills at most 32 KiB a receive.
const BUFFER: usize = 64 * 1024;

/// Ports of these hand on what comes in to their master, where it is seen.
const HANDS_ON: [&[u8]; 4] = [b"bond", b"bridge", b"team", b"openvswitch"];

/// An interface that segments come in at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    index: u32,
    name: String,
}

/// The program at the interfaces.
#[derive(Default)]
pub(super) struct Interfaces {
    links: BTreeMap<u32, OwnedFd>,
    /// Where it could not be attached, by name, and why.
    pub(super) refused: BTreeMap<String, String>,
}

impl Interfaces {
    /// Attaches the program to the interfaces of the calling thread's namespace that are up and have come since.
    ///
    /// # Errors
    /// Where they cannot be listed; or where it can be attached to none of them, which says why.
    pub(super) fn refresh(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        let present = list()?;
        // The kernel has detached it where the interface is gone; its number may have come back since.
        self.links.retain(|index, link| {
            present.iter().any(|interface| interface.index == *index) && is_attached(link)
        });
        self.refused.retain(|name, _| present.iter().any(|interface| interface.name == *name));
        let mut trouble = None;
        for Interface { index, name } in present {
            if self.links.contains_key(&index) {
                continue;
            }
            match attach(program, index) {
                Ok(link) => {
                    self.links.insert(index, link);
                    self.refused.remove(&name);
                }
                // Gone since it was listed.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => {
                    self.refused.insert(name, error.to_string());
                    trouble = Some(error);
                }
            }
        }
        match trouble {
            Some(error) if self.links.is_empty() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Holds the program at the entrance of an interface of the calling thread's namespace, as long as the descriptor is open.
/// Before all others that may be there: one that is content with a packet ends the row.
pub(crate) fn attach(program: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    let mut options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: libbpf_sys::BPF_F_BEFORE,
        ..Default::default()
    };
    options.__bindgen_anon_1.tcx = libbpf_sys::bpf_link_create_opts__bindgen_ty_1__bindgen_ty_6::default();
    let index = i32::try_from(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: the descriptor is open, and the options live until the call returns.
    let link = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            index,
            libbpf_sys::BPF_TCX_INGRESS,
            &raw const options,
        )
    };
    if link < 0 {
        return Err(io::Error::from_raw_os_error(-link));
    }
    // SAFETY: the kernel has just given this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Whether the interface that a link holds the program at is still there.
fn is_attached(link: &OwnedFd) -> bool {
    let mut info = libbpf_sys::bpf_link_info::default();
    let mut length = size_of::<libbpf_sys::bpf_link_info>() as u32;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes to a structure of that size.
    let outcome =
        unsafe { libbpf_sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut length) };
    // SAFETY: all zeros before the call, and numbers whatever the kernel wrote.
    outcome < 0 || unsafe { info.__bindgen_anon_1.tcx.ifindex } != 0
}

/// The interfaces that are up and hand nothing on to another.
fn list() -> io::Result<Vec<Interface>> {
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let header = NlMsgHdr {
        len: (size_of::<NlMsgHdr>() + INFO) as u32,
        kind: RTM_GETLINK,
        flags: REQUEST_DUMP,
        seq: 1,
        pid: 0,
    };
    let mut request = header.as_bytes().to_vec();
    request.extend([0; INFO]);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut interfaces = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let (_, length) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::TRUNC)?;
        let datagram = buffer.get(..length).ok_or_else(|| io::Error::other("an answer that is too long"))?;
        if read(datagram, &mut interfaces)? {
            return Ok(interfaces);
        }
    }
}

/// Reads a datagram of the answer; whether it was the last.
fn read(mut datagram: &[u8], interfaces: &mut Vec<Interface>) -> io::Result<bool> {
    while let Ok((header, rest)) = NlMsgHdr::read_from_prefix(datagram) {
        let length = header.len as usize;
        let Some(payload) = length.checked_sub(size_of::<NlMsgHdr>()).and_then(|length| rest.get(..length))
        else {
            return Err(io::Error::other("an answer that was cut short"));
        };
        match header.kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            RTM_NEWLINK => interfaces.extend(interface(payload)),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// `struct ifinfomsg` and its attributes; `None` where the interface is down or hands on.
fn interface(payload: &[u8]) -> Option<Interface> {
    let word = |at: usize| Some(u32::from_ne_bytes(*payload.get(at..)?.first_chunk()?));
    let (index, flags) = (word(4)?, word(8)?);
    let bare = |value: &[u8]| value.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    let mut name = String::new();
    for (kind, value) in attributes(payload.get(INFO..)?) {
        match kind {
            IFLA_IFNAME => name = String::from_utf8_lossy(&bare(value)).into_owned(),
            IFLA_LINKINFO => {
                let slave = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_SLAVE_KIND);
                if slave.is_some_and(|(_, kind)| HANDS_ON.contains(&bare(kind).as_slice())) {
                    return None;
                }
            }
            _ => {}
        }
    }
    (flags & IFF_UP != 0).then_some(Interface { index, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_this_machine_is_found() {
        let found = list().unwrap();
        // It may be down in a sandbox; then nothing is.
        assert!(found.iter().all(|interface| !interface.name.is_empty()), "{found:?}");
        assert!(found.is_empty() || found.iter().any(|interface| interface.index > 0));
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_port_of_a_bridge_hands_on_and_one_that_is_down_has_nothing() {
        let message = |flags: u32, slave: &str| {
            let mut bytes: Vec<u8> = [0, 7, flags, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
            bytes.extend(attribute(IFLA_IFNAME, b"veth0\0"));
            let kind = [slave.as_bytes(), &[0]].concat();
            bytes.extend(attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_SLAVE_KIND, &kind)));
            bytes
        };
        let up = Some(Interface { index: 7, name: "veth0".to_owned() });
        assert_eq!(interface(&message(IFF_UP, "vrf")), up);
        assert_eq!(interface(&message(IFF_UP, "bridge")), None);
        assert_eq!(interface(&message(0, "vrf")), None);
        assert_eq!(interface(&[0; 9]), None);
    }
}
