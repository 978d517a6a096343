//! Hosts and the wires between them: each host is a network namespace, each wire a veth pair.

use std::net::IpAddr;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::netlink::{Interface, Route};
use crate::netns::NetNs;

/// A small network of hosts.
#[derive(Debug, Default)]
pub struct Lab {
    _private: (),
}

/// A host: a network namespace with devices. Clones are the same host; it derefs to its [`NetNs`].
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    netns: NetNs,
    /// Device and address, in the order in which they were added.
    interfaces: Mutex<Vec<(String, Interface)>>,
    /// Number of the next veth device.
    devices: Mutex<u32>,
}

impl Lab {
    /// An empty lab.
    pub fn new() -> Lab {
        Lab::default()
    }

    /// Adds a host with nothing but its loopback. The name is for messages.
    ///
    /// # Errors
    /// As [`NetNs::new`].
    pub fn host(&self, name: &str) -> Result<Host> {
        Ok(self.host_in(name, NetNs::new()?))
    }

    /// Adds a host in a namespace that is there already, for example one with a name.
    pub fn host_in(&self, name: &str, netns: NetNs) -> Host {
        Host(Arc::new(Inner {
            name: name.to_owned(),
            netns,
            interfaces: Mutex::default(),
            devices: Mutex::default(),
        }))
    }

    /// Joins two hosts by a wire and gives each end its address (`10.77.0.1/24`, `fd00:77::1/64`).
    ///
    /// # Errors
    /// When an address is malformed or the kernel has no veth.
    pub fn link(&self, left: &Host, left_address: &str, right: &Host, right_address: &str) -> Result<()> {
        let left_interface = Interface::parse(left_address)?;
        let right_interface = Interface::parse(right_address)?;
        let (left_device, right_device) = (left.next_device(), right.next_device());
        left.run(|| Route::open()?.add_veth(&left_device, &right_device, right.netns().as_fd()))??;
        for (host, device, interface) in
            [(left, &left_device, left_interface), (right, &right_device, right_interface)]
        {
            host.run(|| Route::open()?.bring_up(device))??;
            host.add_interface(device, interface)?;
        }
        Ok(())
    }

    /// The usual pair: a client (10.77.0.1, fd00:77::1) and a server (10.77.0.2, fd00:77::2) on one wire. No reset ends a
    /// TIME_WAIT there (tcp_rfc1337=1), so that they can be counted: where the last ACK is late, the FIN comes again, and
    /// the answer to that one finds nobody and is answered by a reset.
    ///
    /// # Errors
    /// As [`Lab::host`] and [`Lab::link`].
    pub fn pair(&self) -> Result<(Host, Host)> {
        let (client, server) = (self.host("client")?, self.host("server")?);
        self.link(&client, "10.77.0.1/24", &server, "10.77.0.2/24")?;
        if client.get("net.ipv6.conf.all.disable_ipv6").is_ok_and(|value| value == "0") {
            client.add_address("fd00:77::1/64")?;
            server.add_address("fd00:77::2/64")?;
        }
        for host in [&client, &server] {
            host.set("net.ipv4.tcp_rfc1337", "1")?;
        }
        Ok((client, server))
    }
}

impl Host {
    /// The name given to it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its network namespace.
    pub fn netns(&self) -> &NetNs {
        &self.0.netns
    }

    /// Every address it was given, in that order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let interfaces = self.0.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        interfaces.iter().map(|(_, interface)| interface.address).collect()
    }

    /// Adds an address to its newest wire, or to the loopback while it has none.
    ///
    /// # Errors
    /// When the address is malformed or already there.
    pub fn add_address(&self, address: &str) -> Result<()> {
        let device = {
            let count = self.0.devices.lock().unwrap_or_else(PoisonError::into_inner);
            if *count == 0 { "lo".to_owned() } else { format!("eth{}", *count - 1) }
        };
        self.add_interface(&device, Interface::parse(address)?)
    }

    /// Makes an address on one of its networks silent, be it in use or not: what this host sends there is
    /// lost without an answer.
    ///
    /// # Errors
    /// When no wire of this host leads to that address.
    pub fn blackhole(&self, address: IpAddr) -> Result<()> {
        let device = {
            let interfaces = self.0.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
            let found =
                interfaces.iter().find(|(device, interface)| device != "lo" && interface.reaches(address));
            found.map(|(device, _)| device.clone())
        };
        let device = device.ok_or_else(|| {
            Error::Refused(format!(
                "blackhole {address}: no wire of host {:?} leads there; choose an address of its network",
                self.name()
            ))
        })?;
        self.run(|| Route::open()?.blackhole(&device, address))?
    }

    pub(crate) fn add_interface(&self, device: &str, interface: Interface) -> Result<()> {
        self.run(|| Route::open()?.add_address(device, interface.address, interface.prefix))??;
        let mut interfaces = self.0.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        interfaces.push((device.to_owned(), interface));
        Ok(())
    }

    pub(crate) fn next_device(&self) -> String {
        let mut count = self.0.devices.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        format!("eth{}", *count - 1)
    }
}

impl Deref for Host {
    type Target = NetNs;

    fn deref(&self) -> &NetNs {
        self.netns()
    }
}
