//! What ought to be known before sockets are ended early: above all, where tcp_tw_reuse would be the safer way.

use tidewait_model::reap::{Found, Group, Reapable};
use tidewait_model::report::Pool;
use tidewait_model::{Occupancy, PortRange, Settings, Version};

use crate::accounting::infer;

/// What the advice goes by.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The settings of the network namespace.
    pub settings: &'a Settings,
    /// The kernel's release.
    pub kernel: &'a str,
    /// What the first look found.
    pub groups: &'a [Found],
    /// The states that are ended.
    pub states: &'a [Reapable],
}

/// The advice, each piece a sentence or two.
///
/// tcp_tw_reuse=1 gives a new connection a first sequence number above the old one's last, and keeps the peer's last timestamp;
/// ending the socket loses both (net/ipv4/tcp_ipv4.c `tcp_twsk_unique`, secure_seq.c).
pub fn notes(scene: &Scene<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if !scene.states.contains(&Reapable::TimeWait) {
        return notes;
    }
    if scene.kernel.parse::<Version>().is_ok_and(|kernel| kernel < Version::new(6, 0)) {
        notes.push(format!(
            "Linux {} most likely does not end sockets in TIME_WAIT, which 6.0 and later do: the first that is due tells, and `tidewait \
             doctor` now",
            scene.kernel
        ));
    }
    let outgoing = || scene.groups.iter().filter(|found| matches!(found.group, Group::Outgoing { .. }));
    let loopback =
        outgoing().count() > 0 && outgoing().all(|found| found.group.end().1.address.is_loopback());
    if scene.settings.number("net.ipv4.tcp_timestamps") == Some(0) {
        notes.push(
            "net.ipv4.tcp_timestamps is 0: a new connection that gets the port of an ended one has nothing but its sequence numbers to \
             tell late segments by, and tcp_tw_reuse does nothing; leave sockets as long as can be afforded"
                .to_owned(),
        );
    } else {
        match scene.settings.number("net.ipv4.tcp_tw_reuse") {
            None => {}
            Some(1) => notes.push(
                "net.ipv4.tcp_tw_reuse is 1: where the peer sends timestamps, connect() takes sockets in TIME_WAIT over after a second, \
                 safer than ending them. What is left for reap are peers without timestamps, and ports that bind() chose"
                    .to_owned(),
            ),
            Some(2) if loopback => notes.push(
                "net.ipv4.tcp_tw_reuse is 2: on the loopback, connect() takes sockets in TIME_WAIT over after a second, safer than \
                 ending them"
                    .to_owned(),
            ),
            Some(_) => notes.push(
                "safer where connect() chooses the ports and the peer sends timestamps: net.ipv4.tcp_tw_reuse=1. It takes a socket over \
                 only when its port is needed, starts the new connection above the old one's sequence numbers and keeps the peer's \
                 last timestamp, all of which ending it throws away: `tidewait tune plan --setting net.ipv4.tcp_tw_reuse=1`"
                    .to_owned(),
            ),
        }
    }
    if let Some(found) = outgoing().find(|found| chosen_by_bind(found, scene)) {
        notes.push(format!(
            "{}: its ports look as if bind(address, 0) had chosen them, so they are taken for every destination of the address, and \
             tcp_tw_reuse does nothing for them. IP_BIND_ADDRESS_NO_PORT in the program leaves the choice to connect()",
            found.group
        ));
    }
    notes
}

/// What keeping a share leaves alone: the destination with the most ports outside of `range`, where a half of its own or more are; they
/// are steered, or bound by number, and ending their sockets would make no room in the range.
pub fn beside_range(groups: &[Found], range: PortRange) -> Option<String> {
    let outside = |found: &Found| found.ports.len() - found.ports.count_in(range);
    let outgoing = groups.iter().filter(|found| matches!(found.group, Group::Outgoing { .. }));
    let found = outgoing
        .filter(|found| outside(found) > 0 && outside(found) * 2 >= found.ports.len())
        .max_by_key(|found| outside(found))?;
    Some(format!(
        "{}: {} of the {} ports that it uses are outside of ip_local_port_range ({range}), steered or bound by number: --keep-below neither \
         counts nor ends their sockets, --older-than does",
        found.group,
        outside(found),
        found.ports.len()
    ))
}

fn chosen_by_bind(found: &Found, scene: &Scene<'_>) -> bool {
    let Some(range) = scene.settings.port_range() else { return false };
    let occupancy = Occupancy { ports: found.ports.clone(), ..Occupancy::default() };
    infer(&occupancy, range, scene.kernel).pool == Pool::Bind
}
