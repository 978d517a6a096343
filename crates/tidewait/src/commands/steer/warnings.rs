//! What is worth knowing before ports and addresses are chosen for programs.

use std::net::IpAddr;
use std::path::Path;

use tidewait_observe::places::Place;
use tidewait_observe::procfs;

use super::ports::{self, Claimed};

/// What is to be said of this choice in `place`.
pub fn of(claimed: Option<&Claimed>, sources: &[IpAddr]) -> Vec<String> {
    let mut warnings = claimed.map(ports::warnings).unwrap_or_default();
    warnings.extend(peers(sources));
    warnings
}

/// Where the setting is off. A TIME_WAIT of before that has the peer's last timestamp still, and a new connection would have none.
pub const NO_TIMESTAMPS: &str = "net.ipv4.tcp_timestamps is 0 here: no connection from now on is protected by timestamps, so that --reuse-after takes none";

/// Where programs of others run after those that are attached.
pub const OTHERS_ABOVE: &str = "BPF programs of others are at connect() of a control group above, and may change where connections go, as load balancers of Kubernetes do: \
     ports are given where a connection has gone already, the first one to each destination has the kernel's, and so has every one to an address that \
     is changed";

/// Where programs of others run before those that are attached.
pub const OTHERS_BEFORE: &str = "another BPF program is at connect() of this control group already, perhaps of another `tidewait steer`, and is asked first: \
     where it chooses a port or a source address, that stays (`bpftool cgroup tree` shows it)";

/// From the loopback it goes to this machine alone.
fn peers(sources: &[IpAddr]) -> Option<String> {
    sources.iter().any(|source| !source.is_loopback()).then(|| {
        "peers see other addresses from now on: where they let in or tell apart by address (MySQL grants, pg_hba.conf, allow lists, \
         rate limits), each has to be known there"
            .to_owned()
    })
}

/// Whether connections of `place` are made without timestamps.
pub fn are_timestamps_off(place: &Place) -> bool {
    let settings = place.enter(|| procfs::settings(Path::new("/")).0);
    settings.is_ok_and(|settings| settings.number("net.ipv4.tcp_timestamps") == Some(0))
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
