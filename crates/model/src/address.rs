//! Addresses as tidewait keys and prints them: an IP with its scope, an endpoint, and the `--to` filter.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// An IP address with the interface index that a link-local IPv6 address needs (0 where none is needed).
///
/// IPv4-mapped IPv6 addresses never occur here: they share the 4-tuple space of IPv4 in the kernel
/// (`inet_rcv_saddr_equal`), so they are unmapped when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The address itself.
    pub ip: IpAddr,
    /// Interface index of a link-local address, else 0.
    pub scope: u32,
}

impl Address {
    /// The address `ip`, unmapped; `interface` is kept only where the address means nothing without it.
    pub fn new(ip: IpAddr, interface: u32) -> Address {
        let ip = ip.to_canonical();
        let scoped = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        Address { ip, scope: if scoped { interface } else { 0 } }
    }

    /// Whether this is 0.0.0.0 or ::.
    pub fn is_unspecified(self) -> bool {
        self.ip.is_unspecified()
    }

    /// Whether the kernel's `tcp_tw_reuse=2` takes it for loopback: 127/8 or ::1
    /// (`tcp_twsk_unique`, net/ipv4/tcp_ipv4.c).
    pub fn is_loopback(self) -> bool {
        self.ip.is_loopback()
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        Address::new(ip, 0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            0 => write!(f, "{}", self.ip),
            scope => write!(f, "{}%{scope}", self.ip),
        }
    }
}

/// An address and a port; IPv6 is printed in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The TCP port, 0 where none was chosen yet.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.ip {
            IpAddr::V4(_) => write!(f, "{}:{}", self.address, self.port),
            IpAddr::V6(_) => write!(f, "[{}]:{}", self.address, self.port),
        }
    }
}

/// What `--to ADDR[:PORT]` asks for: a peer address, and perhaps one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressFilter {
    /// The peer's address, unmapped.
    pub ip: IpAddr,
    /// The peer's port; `None` means every port.
    pub port: Option<u16>,
}

impl AddressFilter {
    /// Whether it is this end.
    pub fn passes(&self, end: Endpoint) -> bool {
        self.ip == end.address.ip && self.port.is_none_or(|port| port == end.port)
    }
}

impl fmt::Display for AddressFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => write!(f, "{}", self.ip),
            Some(port) => write!(f, "{}", Endpoint { address: self.ip.into(), port }),
        }
    }
}

/// What somebody may have meant by a bare IPv6 address: `fd99::2:80` is one, though hardly with `80` as its last group.
/// `None` where nothing else can be meant.
pub fn second_thought(text: &str) -> Option<String> {
    text.parse::<Ipv6Addr>().ok()?;
    let (host, digits) = text.rsplit_once(':')?;
    host.parse::<Ipv6Addr>().ok()?;
    let port = digits.parse::<u16>().ok().filter(|port| *port > 0)?;
    Some(format!("{text} is taken as an address without a port; with a port write [{host}]:{port}"))
}

/// Why a `--to` value was refused; the text names the value and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

impl FromStr for AddressFilter {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<AddressFilter, AddressError> {
        const FORMS: &str = "write 10.0.2.9, 10.0.2.9:3306, 2001:db8::9 or [2001:db8::9]:3306";
        let port = |digits: &str| match digits.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(AddressError(format!("'{digits}' in '{text}' is not a port: ports are 1 to 65535"))),
        };
        let bad_address = |part: &str| {
            let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
            let hint = if part.split_once('/').is_some_and(|(address, _)| is_address(address)) {
                "networks are not matched, give one address; "
            } else if part.split_once('%').is_some_and(|(address, _)| is_address(address)) {
                "leave out the interface behind '%', it is not compared; "
            } else if part.is_empty() || part == "*" || part.parse::<u16>().is_ok() {
                "a port goes with an address; "
            } else if part.chars().any(char::is_alphabetic) && !part.contains(':') {
                "host names are not looked up; "
            } else {
                ""
            };
            AddressError(format!("'{part}' is not an IP address: {hint}{FORMS}"))
        };
        if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) =
                rest.split_once(']').ok_or_else(|| AddressError(format!("'{text}' lacks a ']': {FORMS}")))?;
            let ip: Ipv6Addr = inside.parse().map_err(|_| bad_address(inside))?;
            let port = match after.strip_prefix(':') {
                Some(digits) => port(digits)?,
                None if after.is_empty() => None,
                None => return Err(AddressError(format!("'{after}' after ']' in '{text}': {FORMS}"))),
            };
            return Ok(AddressFilter { ip: IpAddr::V6(ip).to_canonical(), port });
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(AddressFilter { ip: ip.to_canonical(), port: None });
        }
        match text.rsplit_once(':') {
            Some((host, digits)) if !host.contains(':') => {
                let ip: IpAddr = host.parse().map_err(|_| bad_address(host))?;
                Ok(AddressFilter { ip, port: port(digits)? })
            }
            _ => Err(bad_address(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> Result<AddressFilter, String> {
        text.parse().map_err(|error: AddressError| error.to_string())
    }

    #[test]
    fn every_form_that_the_error_message_offers_is_understood() {
        for (text, shown) in [
            ("10.0.2.9", "10.0.2.9"),
            ("10.0.2.9:3306", "10.0.2.9:3306"),
            ("2001:db8::9", "2001:db8::9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("[2001:db8::9]:3306", "[2001:db8::9]:3306"),
            ("[::ffff:10.0.2.9]:80", "10.0.2.9:80"),
        ] {
            assert_eq!(filter(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn refusals_name_the_part_that_is_wrong() {
        for (text, part) in [
            ("10.0.2", "'10.0.2' is not an IP address"),
            ("db.example:3306", "host names are not looked up"),
            ("10.0.2.9:0", "'0' in '10.0.2.9:0' is not a port"),
            ("10.0.2.9:70000", "'70000'"),
            ("10.0.2.9:", "'' in"),
            ("[2001:db8::9", "lacks a ']'"),
            ("[2001:db8::9]x", "'x' after ']'"),
            ("", "'' is not an IP address"),
            ("10.0.0.0/8", "networks are not matched"),
            ("10.0.0.0/8:80", "networks are not matched"),
            ("[2001:db8::/32]:80", "networks are not matched"),
            ("fe80::1%2", "leave out the interface"),
            ("[fe80::1%eth0]:80", "leave out the interface"),
            (":80", "a port goes with an address"),
            ("*:80", "a port goes with an address"),
            ("80", "a port goes with an address"),
        ] {
            let error = filter(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_port_that_was_taken_for_a_part_of_the_address_is_thought_of() {
        let words = "fd99::2:80 is taken as an address without a port; with a port write [fd99::2]:80";
        assert_eq!(second_thought("fd99::2:80").as_deref(), Some(words));
        for text in [
            "fd99::2",
            "::1",
            "2001:db8::a:b",
            "[fd99::2:80]",
            "[fd99::2]:80",
            "10.0.2.9:80",
            "1:2:3:4:5:6:7:80",
        ] {
            assert_eq!(second_thought(text), None, "{text}");
        }
    }

    #[test]
    fn only_link_local_addresses_keep_their_interface() {
        let global = Address::new("2001:db8::1".parse().unwrap(), 3);
        assert_eq!(global.scope, 0);
        let local = Address::new("fe80::1".parse().unwrap(), 3);
        assert_eq!(Endpoint { address: local, port: 80 }.to_string(), "[fe80::1%3]:80");
        let mapped = Address::new("::ffff:192.0.2.1".parse().unwrap(), 3);
        assert_eq!(mapped.to_string(), "192.0.2.1");
    }
}
