//! bind() that finds no port of an address because connections hold them all whose ports it did not choose.
//!
//! connect() and bind() look at one table: connect() may give a port to each destination once, bind(address, port 0) needs one
//! that no connection of the address has (net/ipv4/inet_connection_sock.c `inet_csk_find_open_port`). So a program that
//! fills the range towards one destination leaves nothing to another one's bind().

use tidewait_model::report::{Destination, Severity};

use super::refusals::Refusal;
use super::{Case, bind_pool_exhausted, count, evidence, remedies};
use crate::findings::view::{Found, Ties, View};
use crate::findings::words::{listed, who};
use crate::namespace;

/// The finding about `refusal`, where the ports of `address` are all in use. `None` where some are free or it is not known.
pub(super) fn check(view: &View<'_>, address: &str, refusal: &Refusal) -> Option<Found> {
    namespace::addresses(view.facts, &view.observation.kernel, address)
        .iter()
        .find_map(|row| told(view, address, row, refusal))
}

fn told(view: &View<'_>, address: &str, row: &namespace::Addresses, refusal: &Refusal) -> Option<Found> {
    let case = Case::of(view, &row.row)?;
    if !case.exhausted() {
        return None;
    }
    let several = row.sources.first().is_none_or(|source| source != address);
    let at = if several { "any address" } else { address };
    let summary = format!(
        "bind() found no port for {at} {} (EADDRINUSE, \"Address already in use\"): {} are in use",
        refusal.often,
        in_use(&case, several)
    );
    let most = view
        .namespace
        .destinations
        .iter()
        .filter(|seen| seen.destination != "*" && row.sources.contains(&seen.source))
        .max_by_key(|seen| seen.ports_used);
    // Who holds them all may be refused further ones.
    let holder = most.and_then(|seen| {
        let refused = Refusal::towards(view, &seen.source, &seen.destination);
        Some(Case { refused, ..Case::of(view, seen)? })
    });
    let of = listed(&row.sources, 3, row.sources.len());
    let all = if case.free == 0 { "all" } else { "nearly all" };
    let mut said = vec![refusal.sentence.clone()];
    said.push(format!(
        "{all} ports of {of} are in use: {}{}",
        in_use(&case, several),
        by(holder.as_ref(), &case)
    ));
    if address == "::" && row.sources.iter().any(|source| !source.contains(':')) {
        said.push(
            "IPv4 is counted too: only a socket for IPv6 alone (IPV6_V6ONLY) does not need its ports"
                .to_owned(),
        );
    }
    said.extend(evidence(&case));
    said.push(bind_pool_exhausted::NEEDS.to_owned());
    let refused = refusal.owner.as_ref();
    let found = view
        .found(&bind_pool_exhausted::KIND, Severity::Critical, format!("{at} -> any destination"), summary)
        .evidence(said)
        .owner(refused.or_else(|| holder.as_ref().and_then(Case::owner)))
        .remedies(remedies::where_others_hold_the_ports(&case, holder.as_ref(), refused))
        .no_help(remedies::no_help(&case));
    let ties = Ties { states: row.row.states, used: u64::from(row.row.ports_used), ..Ties::default() };
    Some(found.ties(ties))
}

/// `2,000 of 2,000`; where the addresses are several and may not be all: at least.
fn in_use(case: &Case<'_>, several: bool) -> String {
    let least = if several { "at least " } else { "" };
    format!("{least}{} of {}", count(case.destination.ports_used), count(case.usable))
}

/// Who holds most of them: `, most by squid[812] (2,000 to 10.99.0.2:9100)`.
fn by(holder: Option<&Case<'_>>, all: &Case<'_>) -> String {
    let Some(holder) = holder else { return String::new() };
    let Destination { destination, ports_used, .. } = holder.destination;
    let to = format!("{} to {destination}", count(*ports_used));
    let owner = if holder.narrowed() { holder.owner() } else { holder.doer() };
    let owner = owner.map(who);
    if ports_used.saturating_mul(2) <= all.destination.ports_used {
        let by = owner.map_or_else(String::new, |owner| format!(" by {owner}"));
        return format!(", for one destination at most {to}{by}");
    }
    match owner {
        Some(owner) => format!(", most by {owner} ({to})"),
        None => format!(", most of them towards one destination ({to})"),
    }
}
