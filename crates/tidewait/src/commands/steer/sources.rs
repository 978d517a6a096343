//! The addresses of a network namespace: those that may be a source, and whether those that are asked for are among them.

use std::io;
use std::net::{IpAddr, UdpSocket};

use anyhow::Context as _;
use if_addrs::{IfAddr, get_if_addrs};
use rustix::io::Errno;
use tidewait_observe::places::Place;

use crate::exit::Usage;

/// Every address of the network namespace that the calling thread is in, those of the link included.
///
/// # Errors
/// When they cannot be listed.
pub fn locals() -> anyhow::Result<Vec<IpAddr>> {
    let interfaces = get_if_addrs().context("the addresses of the network namespace cannot be listed")?;
    let mut all: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Whether connections of the network namespace that the calling thread is in may come from `source`. Tried rather than looked
/// up: local are also networks with a route of type local, and all under ip_nonlocal_bind.
pub fn is_there(source: IpAddr) -> bool {
    UdpSocket::bind((source, 0)).map_or_else(|error| !says_gone(&error), |_| true)
}

/// Whether bind() was refused because there is no such address, or none of its family. For any other reason, files that have run
/// out say, it may well be there, and connect() passes over one that is not.
fn says_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

/// Checks that connections of `place` may come from each of `sources`.
///
/// # Errors
/// [`Usage`] where one is no address of it, or they do not go together.
pub fn check(place: &Place, sources: &[IpAddr], locals: &[IpAddr]) -> anyhow::Result<()> {
    let broadcasts: Vec<IpAddr> = place.enter(broadcasts)??;
    let loopback = sources.iter().filter(|source| source.is_loopback()).count();
    if loopback > 0 && loopback < sources.len() {
        return Err(Usage(
            "--sources: loopback addresses reach this machine alone and cannot take turns with others; give either".to_owned(),
        )
        .into());
    }
    if let Some(IpAddr::V6(link)) = sources.iter().find(|source| is_link_local(source)) {
        return Err(Usage(format!(
            "--sources: {link} is an address of a link, which reaches that link alone"
        ))
        .into());
    }
    if let Some(all) = sources.iter().find(|source| broadcasts.contains(*source) && !locals.contains(*source))
    {
        return Err(Usage(format!(
            "--sources: {all} is the broadcast address of its network, which nobody answers to"
        ))
        .into());
    }
    let missing: Vec<String> =
        place.enter(|| sources.iter().filter(|one| !is_there(**one)).map(ToString::to_string).collect())?;
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(pending) =
        sources.iter().find(|source| locals.contains(source) && missing.contains(&source.to_string()))
    {
        return Err(Usage(format!(
            "--sources: {pending} is there, but cannot be used: its test for a duplicate goes on or has failed (`ip -6 address` says tentative \
             or dadfailed); try again in two seconds"
        ))
        .into());
    }
    let there: Vec<String> =
        locals.iter().filter(|ip| !ip.is_loopback() && !is_link_local(ip)).map(ToString::to_string).collect();
    Err(Usage(format!(
        "--sources: {} {} not local in network namespace {}: add it with `ip address add ADDRESS/PREFIX dev DEVICE`; local there: {}",
        missing.join(", "),
        if missing.len() == 1 { "is" } else { "are" },
        place.name,
        if there.is_empty() { "none but loopback".to_owned() } else { there.join(", ") }
    ))
    .into())
}

/// The broadcast addresses of the calling thread's network namespace: bind() takes them.
fn broadcasts() -> anyhow::Result<Vec<IpAddr>> {
    let interfaces = get_if_addrs().context("the addresses of the network namespace cannot be listed")?;
    let of = |interface: IfAddr| match interface {
        // By the prefix: it is one also where the interface names none (`fib_add_ifaddr`, net/ipv4/fib_frontend.c).
        IfAddr::V4(v4) if v4.prefixlen < 31 => Some(IpAddr::V4(v4.ip | !v4.netmask)),
        _ => None,
    };
    Ok(interfaces.into_iter().filter_map(|interface| of(interface.addr)).collect())
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_there_is_no_such_address_says_that_it_is_gone() {
        assert!(is_there(IpAddr::from([127, 0, 0, 1])));
        // TEST-NET-3 (RFC 5737).
        assert!(!is_there(IpAddr::from([203, 0, 113, 1])));
        for (error, gone) in [(Errno::ADDRNOTAVAIL, true), (Errno::MFILE, false), (Errno::ADDRINUSE, false)] {
            assert_eq!(says_gone(&error.into()), gone, "{error}");
        }
    }
}
