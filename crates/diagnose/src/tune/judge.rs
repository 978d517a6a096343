//! What a change of a setting does in this case: its effect in figures, nothing, or harm.

use std::net::IpAddr;

use tidewait_model::catalogue::{Setting, seconds_until_dropped};
use tidewait_model::report::{Destination, Pool};
use tidewait_model::{NamespaceFacts, Settings, State};

use super::{Place, RANGE, RESERVED, REUSE, START, TIMESTAMPS};
use crate::accounting::Range;
use crate::findings::words::{count, duration, figure, things};

const DELAY: &str = "net.ipv4.tcp_tw_reuse_delay";
const BUCKETS: &str = "net.ipv4.tcp_max_tw_buckets";
const FIN_TIMEOUT: &str = "net.ipv4.tcp_fin_timeout";
const TIMEOUT: &str = "net.ipv4.tcp_tw_timeout";

/// Before Linux 6.14 a port in TIME_WAIT may be taken over after this many milliseconds (tcp_ipv4.c `tcp_twsk_unique`).
const FIXED_DELAY: i64 = 1_000;

/// More connections a second than any processor opens to one destination: beyond this the ports are no limit.
const NO_LIMIT: f64 = 100_000.0;

/// Settings that say how much there may be of something: a tenth of what there was is hardly meant.
const LIMITS: [&str; 9] = [
    BUCKETS,
    "net.core.somaxconn",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_mem",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_buckets",
    "fs.file-max",
    "fs.nr_open",
];

/// What a change comes to.
pub(super) enum Judgement {
    /// It does this.
    Does(String),
    /// It does nothing, for this reason.
    Nothing(String),
    /// It makes things worse, in this way.
    Harm(String),
}

/// The outgoing connections that the figures are about: those of the first finding about ports, else those with most ports.
pub(super) fn subject<'a>(place: &Place<'a>) -> Option<&'a Destination> {
    let rows = &place.namespace.destinations;
    let found = super::here(place).find_map(|finding| {
        rows.iter().find(|row| finding.subject == format!("{} -> {}", row.source, row.destination))
    });
    found.or_else(|| rows.iter().max_by_key(|row| row.ports_used)).filter(|row| row.ports_used > 0)
}

/// Connects a second to one destination that the ports carry with these settings, where each connection leaves a TIME_WAIT
/// here; `None` where the port range is not known.
pub(super) fn capacity(place: &Place<'_>, settings: &Settings) -> Option<f64> {
    Some(f64::from(usable(place, settings)?) / hold(place, settings))
}

fn usable(place: &Place<'_>, settings: &Settings) -> Option<u32> {
    let facts = NamespaceFacts { settings: settings.clone(), ..place.facts.clone() };
    Range::of(&facts).map(|range| range.usable())
}

/// Seconds for which a closed connection keeps its port from connect().
fn hold(place: &Place<'_>, settings: &Settings) -> f64 {
    let time_wait = f64::from(settings.time_wait_seconds());
    match why_no_reuse(place, settings) {
        None => time_wait.min(settings.number(DELAY).unwrap_or(FIXED_DELAY).max(1) as f64 / 1e3),
        Some(_) => time_wait,
    }
}

/// Why connect() does not take over ports in TIME_WAIT of the connections that the figures are about; `None` where it does.
fn why_no_reuse(place: &Place<'_>, settings: &Settings) -> Option<String> {
    why_no_reuse_to(place, settings, subject(place))
}

/// The same for a destination; without one for any that is remote, whose ports connect() chooses and whose peer sends timestamps.
fn why_no_reuse_to(place: &Place<'_>, settings: &Settings, to: Option<&Destination>) -> Option<String> {
    match settings.number(REUSE) {
        Some(1) => {}
        Some(2) if to.is_some_and(is_loopback) => {}
        Some(2) => return Some("2 covers connections over loopback alone".to_owned()),
        _ => return Some("tcp_tw_reuse is off".to_owned()),
    }
    if settings.number(TIMESTAMPS) == Some(0) {
        return Some("it needs TCP timestamps, and net.ipv4.tcp_timestamps is 0".to_owned());
    }
    let to = to?;
    if to.pool == Pool::Bind {
        return Some(
            "bind() chooses the ports here before connect(), and never looks at it: the program needs \
             IP_BIND_ADDRESS_NO_PORT first"
                .to_owned(),
        );
    }
    (timestamps(place, to) == Some(false))
        .then(|| "it needs TCP timestamps, and the peer sends none (seen on a live connection)".to_owned())
}

fn is_loopback(row: &Destination) -> bool {
    row.source.parse().is_ok_and(|source: IpAddr| source.is_loopback())
}

/// Whether the peer of a row sends timestamps; `None` where no live connection told.
fn timestamps(place: &Place<'_>, row: &Destination) -> Option<bool> {
    let census = &place.facts.census.destinations;
    census
        .iter()
        .find(|known| known.source.to_string() == row.source && known.peer.to_string() == row.destination)?
        .peer_timestamps
}

/// What the change of `row` from its value in `before` to that in `after` does. `claimed`: it is said to help against
/// TIME_WAIT or a lack of ports, and is judged by that alone.
pub(super) fn judge(
    place: &Place<'_>,
    row: &Setting,
    before: &Settings,
    after: &Settings,
    claimed: bool,
) -> Judgement {
    let number = |settings: &Settings| settings.number(row.name).unwrap_or(0);
    let (was, is) = (number(before), number(after));
    let judgement = match row.name {
        RANGE | RESERVED => ports(place, before, after),
        REUSE => reuse(place, before, after),
        DELAY => delay(place, before, after),
        TIMEOUT => Judgement::Does(rates(place, before, after, "each port is held for another time")),
        START => start(before, is),
        TIMESTAMPS if is == 0 => Judgement::Harm(
            "without timestamps tcp_tw_reuse does nothing, and late segments of old connections are told by their sequence \
             numbers alone"
                .to_owned(),
        ),
        BUCKETS => buckets(place, was, is),
        FIN_TIMEOUT => fin_timeout(place, was, is, claimed),
        "net.ipv4.tcp_keepalive_time" | "net.ipv4.tcp_keepalive_intvl" | "net.ipv4.tcp_keepalive_probes" => {
            keepalive(before, after, claimed)
        }
        _ => Judgement::Does(other(row, before, after)),
    };
    match (judgement, harm(place, row, before, after)) {
        (Judgement::Does(_), Some(why)) => Judgement::Harm(why),
        (judgement, _) => judgement,
    }
}

/// What would break the machine though the kernel takes it; `None` where that is not so.
fn harm(place: &Place<'_>, row: &Setting, before: &Settings, after: &Settings) -> Option<String> {
    let last = |settings: &Settings| -> i64 {
        let text = settings.text(row.name).unwrap_or_default();
        text.split_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    let (was, is) = (last(before), last(after));
    match row.name {
        "net.ipv4.tcp_syncookies" if is == 0 => Some(
            "without SYN cookies a full queue of half-open connections, as in a SYN flood, keeps every new client out".to_owned(),
        ),
        // RFC 1122 section 4.2.3.5: at least 100 s, which takes 8 (ip-sysctl).
        "net.ipv4.tcp_retries2" if is < 8 => Some(format!(
            "{is} retransmissions are over in seconds: connections break in every short outage; RFC 1122 asks for 100 s, which is 8"
        )),
        "fs.file-max" => {
            let open = place.observation.machine.open_files.and_then(|open| i64::try_from(open).ok());
            open.filter(|open| is < open.saturating_mul(2)).map(|open| {
                format!(
                    "{} files are open on this machine: beyond the limit every program fails with ENFILE",
                    count(open.unsigned_abs())
                )
            })
        }
        "net.netfilter.nf_conntrack_max" => {
            let tracked = place.facts.settings.number("net.netfilter.nf_conntrack_count");
            tracked.filter(|tracked| is < tracked.saturating_mul(2)).map(|tracked| {
                format!(
                    "{} connections are tracked now: beyond the limit packets of new ones are dropped",
                    count(tracked.unsigned_abs())
                )
            })
        }
        _ => None,
    }
    .or_else(|| {
        (LIMITS.contains(&row.name) && is < was / 10).then(|| {
            format!("{} is less than a tenth of the present {}", count(is.unsigned_abs()), count(was.unsigned_abs()))
        })
    })
}

/// Connections a second in words.
fn carried(rate: f64) -> String {
    if rate > NO_LIMIT { format!("more than {}", figure(NO_LIMIT)) } else { figure(rate) }
}

/// Settings that have to do with neither ports nor TIME_WAIT: what they are for.
fn other(row: &Setting, before: &Settings, after: &Settings) -> String {
    let text = |settings: &Settings| settings.text(row.name).unwrap_or_default().to_owned();
    let affects = row.affects.first().map_or(row.summary, |first| *first);
    format!("{} to {} ({}). {affects}", text(before), text(after), row.unit)
}

fn rates(place: &Place<'_>, before: &Settings, after: &Settings, what: &str) -> String {
    match (capacity(place, before), capacity(place, after)) {
        (Some(was), Some(is)) => {
            format!(
                "{what}: at most {} to {} connections a second to one destination",
                carried(was),
                carried(is)
            )
        }
        _ => what.to_owned(),
    }
}

fn ports(place: &Place<'_>, before: &Settings, after: &Settings) -> Judgement {
    let (Some(was), Some(is)) = (usable(place, before), usable(place, after)) else {
        return Judgement::Does("the ports that connect() chooses from".to_owned());
    };
    let busiest = place.namespace.destinations.iter().map(|row| row.ports_used).max().unwrap_or(0);
    if is <= busiest && is < was {
        return Judgement::Harm(format!(
            "{} ports would be left, and {} are in use to one destination: connect() would fail at once",
            count(is),
            count(busiest)
        ));
    }
    // Fewer than these are gone in seconds, whatever connects.
    if is < was / 10 {
        return Judgement::Harm(format!("{} of {} ports would be left", count(is), count(was)));
    }
    if before.port_range() == after.port_range() {
        return reserved(place, before, after, was, is);
    }
    let mut effect =
        rates(place, before, after, &format!("{} to {} ports for each destination", count(was), count(is)));
    if let Some(range) =
        after.port_range().filter(|range| range.size() > 1 && range.low % 2 == range.high % 2)
        && before.port_range() != after.port_range()
    {
        effect.push_str(&format!(
            "; both ends have the same parity, so that one port goes unused and the kernel warns in its log: {} {} has not",
            range.low,
            if range.high == u16::MAX { range.high - 1 } else { range.high + 1 }
        ));
    }
    Judgement::Does(effect)
}

/// Ports that are reserved or given back, within the same range; `was` and `is` are the ports that are usable.
fn reserved(place: &Place<'_>, before: &Settings, after: &Settings, was: u32, is: u32) -> Judgement {
    let (mut added, mut removed) = (after.reserved(), before.reserved());
    removed.subtract(&after.reserved());
    added.subtract(&before.reserved());
    let census = &place.facts.census;
    let range = after.port_range();
    let in_use = |port: &u16| {
        let listened = census.listeners.iter().any(|listener| listener.local.port == *port);
        range.is_some_and(|range| range.contains(*port))
            && (listened || census.bound.contains(*port) || place.udp.contains(*port))
    };
    if let Some(port) = removed.iter().find(in_use) {
        return Judgement::Harm(format!(
            "{port} would not be reserved any more, and a program has it: connect() may take it while the program is down"
        ));
    }
    let mut parts = Vec::new();
    if !added.is_empty() {
        parts.push(format!(
            "{} kept free for their programs from now on",
            things(u64::from(added.len()), "port", "ports")
        ));
    }
    if !removed.is_empty() {
        parts.push(format!("{} not reserved any more", things(u64::from(removed.len()), "port", "ports")));
    }
    if was == is {
        parts.push("connect() has as many as before: they lie outside the range, or are bound".to_owned());
        return Judgement::Does(parts.join("; "));
    }
    parts.push(format!("{} to {} ports for each destination", count(was), count(is)));
    Judgement::Does(rates(place, before, after, &parts.join("; ")))
}

fn reuse(place: &Place<'_>, before: &Settings, after: &Settings) -> Judgement {
    let (was, is) = (why_no_reuse(place, before), why_no_reuse(place, after));
    let incoming: u64 = place.namespace.incoming.iter().map(|service| service.states[State::TimeWait]).sum();
    if place.namespace.destinations.is_empty() && incoming > 0 && after.number(REUSE) == Some(1) {
        let why = format!(
            "no connection goes out from here; {} that came in are in TIME_WAIT, and it does nothing for those",
            count(incoming)
        );
        return Judgement::Nothing(why);
    }
    // The busiest destination may be one that gains nothing, beside others that do.
    let used = || place.namespace.destinations.iter().filter(|row| row.ports_used > 0);
    let free = |settings: &Settings, row| why_no_reuse_to(place, settings, Some(row)).is_none();
    let gain = used().filter(|row| free(after, row) && !free(before, row)).count();
    let lose = used().filter(|row| free(before, row) && !free(after, row)).count();
    let of_all = |number: usize| {
        format!("{number} of {}", things(used().count() as u64, "destination", "destinations"))
    };
    match (was, is) {
        (_, Some(why)) if after.number(REUSE) == Some(1) && gain == 0 => Judgement::Nothing(why),
        (Some(_), Some(why)) if gain > 0 => Judgement::Does(format!(
            "{}: a port is held for a second instead of a minute. Not to the one with most ports: {why}",
            of_all(gain)
        )),
        (None, None) if gain > 0 || lose > 0 => Judgement::Does(if gain > 0 {
            format!(
                "{}: a port is held for a second instead of a minute; to the one with most ports it is already",
                of_all(gain)
            )
        } else {
            format!(
                "{}: a port is held for a minute again; to the one with most ports for a second, as now",
                of_all(lose)
            )
        }),
        (None, None) => Judgement::Nothing(
            "the connections seen here are over loopback, where 1 and 2 do the same".to_owned(),
        ),
        (Some(_), None) => {
            let seconds = |settings: &Settings| figure(hold(place, settings));
            let held = format!("a port is held for {} s instead of {} s", seconds(after), seconds(before));
            let mut effect = rates(place, before, after, &held);
            effect.push_str(", half of that while the search for a port stays short");
            if subject(place).is_none_or(|row| timestamps(place, row).is_none()) {
                effect.push_str(
                    "; if the peer sends TCP timestamps, which no live connection showed, and connect() chooses the port",
                );
            }
            Judgement::Does(effect)
        }
        (None, Some(_)) => Judgement::Does(rates(
            place,
            before,
            after,
            "ports in TIME_WAIT stay taken for as long as it lasts",
        )),
        (Some(_), Some(why)) => {
            Judgement::Does(format!("connections like those seen here: no change ({why})"))
        }
    }
}

fn delay(place: &Place<'_>, before: &Settings, after: &Settings) -> Judgement {
    if let Some(why) = why_no_reuse(place, after) {
        return Judgement::Nothing(format!("it counts only where ports in TIME_WAIT are taken over: {why}"));
    }
    Judgement::Does(rates(place, before, after, "how soon a port in TIME_WAIT may be taken over"))
}

fn start(before: &Settings, is: i64) -> Judgement {
    let low = before.port_range().map_or(32_768, |range| i64::from(range.low));
    Judgement::Does(format!(
        "programs without privileges may bind ports from {is} on, and the port range may begin there (now {low}); no more \
         ports by itself"
    ))
}

fn buckets(place: &Place<'_>, was: i64, is: i64) -> Judgement {
    let now = i64::try_from(place.facts.census.states[State::TimeWait]).unwrap_or(i64::MAX);
    let seconds = f64::from(place.facts.settings.time_wait_seconds());
    let number = |value: i64| count(value.max(0).unsigned_abs());
    if is < was && is <= now {
        return Judgement::Harm(format!(
            "{} sockets are in TIME_WAIT now: every further one would skip it, at random, with all its protection",
            number(now)
        ));
    }
    Judgement::Does(format!(
        "no more ports: {} instead of {} sockets are kept in TIME_WAIT, so that {} a second may close before some skip it; {} \
         are there now",
        number(is),
        number(was),
        figure(is.max(0) as f64 / seconds),
        number(now)
    ))
}

fn fin_timeout(place: &Place<'_>, was: i64, is: i64, claimed: bool) -> Judgement {
    let orphans = place.facts.census.states[State::FinWait2];
    let time_wait = place.facts.settings.time_wait_seconds();
    if claimed {
        return Judgement::Nothing(format!(
            "TIME_WAIT stays {time_wait} s whatever this is. It ends orphans in FIN_WAIT2, of which there {}",
            if orphans == 1 { "is 1 at most".to_owned() } else { format!("are {} at most", count(orphans)) }
        ));
    }
    Judgement::Does(format!(
        "nothing for TIME_WAIT or ports. Orphans in FIN_WAIT2 ({} at most are there now) go after {is} s instead of {was} s",
        count(orphans)
    ))
}

fn keepalive(before: &Settings, after: &Settings, claimed: bool) -> Judgement {
    if claimed {
        return Judgement::Nothing(
            "sockets in TIME_WAIT have no keepalive timer, and those in CLOSE_WAIT only where the program has set \
             SO_KEEPALIVE; then the connection goes and the leaked descriptor stays"
                .to_owned(),
        );
    }
    let given_up = |settings: &Settings| {
        let part = |name: &str| settings.number(&format!("net.ipv4.tcp_keepalive_{name}"));
        Some(duration(seconds_until_dropped(part("time")?, part("intvl")?, part("probes")?) as f64))
    };
    let (was, is) = (given_up(before), given_up(after));
    let times = match was.zip(is) {
        Some((was, is)) => format!(" after {is} instead of {was}"),
        None => String::new(),
    };
    Judgement::Does(format!(
        "nothing for TIME_WAIT or ports. Idle connections whose program has set SO_KEEPALIVE and whose peer is gone are given \
         up{times}"
    ))
}

/// What an undo of the setting restores, and what it cannot.
pub(super) fn reversible(name: &str) -> &'static str {
    match name {
        BUCKETS => "yes; what skipped TIME_WAIT meanwhile stays gone",
        RANGE => "yes; connections keep the ports they have until they close",
        REUSE | DELAY => "yes; connections that took a port over stay",
        FIN_TIMEOUT => "yes, for sockets that are closed afterwards",
        "net.core.somaxconn" => "yes; listeners keep what they have until they listen anew",
        TIMEOUT => "yes, for sockets that enter TIME_WAIT afterwards",
        "net.netfilter.nf_conntrack_max" => "yes; entries that are there stay until they time out",
        "net.ipv4.tcp_syn_retries" | "net.ipv4.tcp_synack_retries" => {
            "yes, for connections that begin afterwards"
        }
        _ => "yes",
    }
}
