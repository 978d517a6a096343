//! Whether a host that is named is this machine. A plugin is handed `-H` by habit; an answer about the wrong machine would be a lie.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use if_addrs::get_if_addrs;

use super::Failure;

/// Succeeds if `host` is a name or an address of this machine. A name that is not its own is resolved, which may take until
/// `end`.
pub fn must_be_this(host: &str, end: Instant) -> Result<(), Failure> {
    let own_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = host.trim_end_matches('.');
    if ["localhost", "localhost.localdomain", &own_name].iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let addresses = match literal(host) {
        Some(address) => vec![address],
        None => resolve(host, end)?,
    };
    if addresses.is_empty() {
        return Err(elsewhere(
            host,
            "is no name of this machine, and no address could be found for it",
            &own_name,
        ));
    }
    let own = own_addresses()?;
    if addresses.iter().any(|address| address.is_loopback() || own.contains(address)) {
        Ok(())
    } else {
        Err(elsewhere(host, "is not this machine", &own_name))
    }
}

fn elsewhere(host: &str, what: &str, own_name: &str) -> Failure {
    Failure::Other(
        format!(
            "-H {host} {what} ({own_name}): tidewait looks at the machine it runs on. Run it there, by NRPE, check_by_ssh or \
             the Icinga agent"
        ),
        Vec::new(),
    )
}

/// An address, in brackets and with its interface or without.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    bare.parse().ok().map(canonical)
}

/// An IPv4 address that is written as an IPv6 one, as itself.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => six.to_canonical(),
    }
}

/// The addresses of a name, by whatever this machine resolves names with; none if it has none.
fn resolve(host: &str, end: Instant) -> Result<Vec<IpAddr>, Failure> {
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let addresses = found.map(|all| all.map(|one| canonical(one.ip())).collect()).unwrap_or_default();
        // Nobody listens any more if time was up.
        let _ = sender.send(addresses);
    });
    match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
        Ok(addresses) => Ok(addresses),
        Err(RecvTimeoutError::Timeout) => Err(Failure::TimedOut),
        Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
    }
}

/// The addresses of the interfaces of the namespace this runs in.
fn own_addresses() -> Result<Vec<IpAddr>, Failure> {
    let interfaces = get_if_addrs().map_err(|error| {
        Failure::Other(format!("cannot list the addresses of this machine: {error}"), Vec::new())
    })?;
    Ok(interfaces.iter().map(if_addrs::Interface::ip).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_as_plugins_get_them() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%3]", "fe80::1"),
            ("::ffff:10.0.0.5", "10.0.0.5"),
        ] {
            assert_eq!(literal(text), Some(address.parse().unwrap()), "{text}");
        }
        for text in ["db1", "10.0.0", "10.0.0.5:80", ""] {
            assert_eq!(literal(text), None, "{text}");
        }
    }
}
