//! What is worth knowing before ports and addresses are chosen for programs.

use std::net::IpAddr;
use std::path::Path;

use tidewait_observe::places::Place;
use tidewait_observe::procfs;

use super::ports::{self, Claimed};

/// What is to be said of this choice in `place`.
pub fn of(place: &Place, claimed: Option<&Claimed>, sources: &[IpAddr], reuse: bool) -> Vec<String> {
    let mut warnings = claimed.map(ports::warnings).unwrap_or_default();
    warnings.extend(peers(sources));
    if reuse && timestamps(place).is_some_and(|setting| setting == 0) {
        warnings.push(
            "net.ipv4.tcp_timestamps is 0 here: no TIME_WAIT is protected by timestamps, so that --reuse-after takes none".to_owned(),
        );
    }
    warnings
}

/// From the loopback it goes to this machine alone.
fn peers(sources: &[IpAddr]) -> Option<String> {
    sources.iter().any(|source| !source.is_loopback()).then(|| {
        "peers see other addresses from now on: where they let in or tell apart by address (MySQL grants, pg_hba.conf, allow lists, \
         rate limits), each has to be known there"
            .to_owned()
    })
}

fn timestamps(place: &Place) -> Option<i64> {
    let settings = place.enter(|| procfs::settings(Path::new("/")).0).ok()?;
    settings.number("net.ipv4.tcp_timestamps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_elsewhere_see_other_addresses() {
        let sources = |list: &[&str]| list.iter().map(|one| one.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert!(
            peers(&sources(&["127.0.0.1", "10.0.0.5"])).is_some_and(|words| words.contains("pg_hba.conf"))
        );
        assert_eq!(peers(&sources(&["127.0.0.1", "::1"])), None);
        assert_eq!(peers(&[]), None);
    }
}
