//! A watch that runs: reads what the program counted, and counts the sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use libbpf_rs::{MapCore, MapFlags};
use rustix::time::{ClockId, clock_gettime};
use tidewait_kernel::bpf::{self, Trouble};
use tidewait_model::address::Address;
use tidewait_model::steer::Holder;
use tidewait_model::study::{BANDS, Destination, Kind, KindSeen, Method, Seen, Sighting};
use tidewait_model::trace::Direction;
use tidewait_model::{Endpoint, Limit, PortRange};
use zerocopy::FromBytes;

use super::load::{ALL, Loaded, load};
use super::sockets::{Renewed, Services, Watched, Watchlist};
use super::{Picture, Wish, layout};
use crate::census::direction::Ports;
use crate::places::PlaceError;
use crate::procfs;
use crate::refusal::Refusal;
use crate::sock_diag::{DumpError, Netlink};

/// `AF_INET`, in the bytes of the layout.
const V4: u8 = 2;

/// How often interfaces and listening ports are looked for.
const OFTEN: Duration = Duration::from_secs(1);

/// A watch. When it is dropped the program is gone, and with it all that it kept.
pub struct Watch {
    wish: Wish,
    loaded: Loaded,
    watchlist: Watchlist,
    refreshed: Instant,
    /// What could not be seen, by what it is.
    troubles: BTreeMap<&'static str, String>,
}

impl Watch {
    /// Loads and attaches the program, and looks which sockets are there.
    ///
    /// # Errors
    /// What is missing: a capability, the kernel's type information, a way to see segments; or that the
    /// sockets cannot be dumped.
    pub fn start(wish: Wish) -> Result<Watch, Refusal> {
        let loaded = load(&wish)?;
        let most = usize::try_from(wish.destinations).unwrap_or(usize::MAX);
        let watchlist = Watchlist::new(wish.only, wish.sample.max(1), wish.time_wait, most);
        let refreshed = Instant::now();
        let mut watch = Watch { wish, loaded, watchlist, refreshed, troubles: BTreeMap::new() };
        watch.look(true).map_err(|why| Limit::new("sockets in TIME_WAIT", why))?;
        Ok(watch)
    }

    /// How segments are seen.
    pub fn method(&self) -> Method {
        self.loaded.method
    }

    /// What has to be done now and then, at least every second: follows interfaces and listening ports, and counts the sockets when it
    /// is time. What does not work is told in the picture.
    pub fn refresh(&mut self) {
        if self.refreshed.elapsed() < OFTEN {
            return;
        }
        self.refreshed = Instant::now();
        let due = self.watchlist.last().is_none_or(|last| last.elapsed() >= self.watchlist.pause());
        if let Err(why) = self.look(due) {
            self.troubles.insert("sockets in TIME_WAIT", why);
        }
        if self.loaded.method == Method::Tc
            && let Err(trouble) = self.loaded.refresh(&self.wish)
        {
            self.troubles.insert("segments at new interfaces", trouble.detail);
        }
    }

    /// Looks who listens, and if it is time at the sockets.
    fn look(&mut self, sockets: bool) -> Result<(), String> {
        let Watch { wish, loaded, watchlist, .. } = self;
        let path = wish.root.join("proc/sys/net/ipv4/ip_local_port_range");
        let renewed =
            if sockets { renewed(loaded).map_err(|trouble| trouble.detail)? } else { Renewed::default() };
        let outcome = wish.place.enter(|| -> Result<Services, DumpError> {
            let mut source = Netlink::open()?;
            let range = std::fs::read_to_string(path).ok().and_then(|text| PortRange::parse(&text));
            let steered = Holder::ports(&procfs::steered(&wish.root).0);
            let services = Services::read(&mut source, Ports { range, steered })?;
            if sockets {
                watchlist.look(&mut source, &services, &renewed)?;
            }
            Ok(services)
        });
        let services =
            outcome.map_err(|error: PlaceError| error.to_string())?.map_err(|error| error.to_string())?;
        loaded.tell(&services).map_err(|trouble| trouble.detail)
    }

    /// Counts the sockets once more, for a last picture.
    pub fn finish(&mut self) {
        if let Err(why) = self.look(true) {
            self.troubles.insert("sockets in TIME_WAIT", why);
        }
    }

    /// What was seen until now; sockets as of their last count.
    ///
    /// # Errors
    /// A limit, if the kernel does not let it be read any more.
    pub fn picture(&mut self) -> Result<Picture, Limit> {
        let ledger = self.ledger()?;
        let clock = Clock::read();
        let mut ends: BTreeMap<Key, Seen> = BTreeMap::new();
        let mut total = Seen { sockets_at_age: vec![0; BANDS], ..Seen::default() };
        for (key, late) in self.lates()? {
            let (Some(kind), band) = (Kind::ALL.get(usize::from(key.kind)), usize::from(key.band)) else {
                continue;
            };
            if band >= BANDS || late.segments == 0 {
                continue;
            }
            let seen = ends.entry(end(&key)).or_insert_with(nothing);
            for seen in [seen, &mut total] {
                add(seen, *kind, band, &late, &clock);
            }
        }
        for (end, watched) in &self.watchlist.ends {
            let seen = ends.entry(*end).or_insert_with(nothing);
            for seen in [seen, &mut total] {
                watch(seen, watched);
            }
        }
        let mut destinations: Vec<Destination> = ends
            .into_iter()
            .map(|((direction, end), mut seen)| {
                seen.kinds.sort_by_key(|kind| kind.kind);
                Destination { direction, end: end.map(|end| end.to_string()), seen }
            })
            .collect();
        total.kinds.sort_by_key(|kind| kind.kind);
        let latest = |seen: &Seen| seen.latest_needed.as_ref().map_or(-1.0, |sighting| sighting.age_seconds);
        destinations.sort_by(|one, other| {
            latest(&other.seen).total_cmp(&latest(&one.seen)).then(other.seen.sockets.cmp(&one.seen.sockets))
        });
        Ok(Picture {
            total,
            destinations,
            looked_at: (self.loaded.method == Method::Tc).then_some(ledger.looked_at),
            not_looked_at: ledger.fragments + ledger.unread,
            fin_wait2: ledger.fin_wait2,
            limits: self.limits(&ledger),
        })
    }

    fn limits(&self, ledger: &layout::Ledger) -> Vec<Limit> {
        let mut limits: Vec<Limit> =
            self.troubles.iter().map(|(what, why)| Limit::new(*what, why.as_str())).collect();
        for (name, why) in &self.loaded.interfaces.refused {
            limits.push(Limit::new(format!("segments at {name}"), why.as_str()));
        }
        if ledger.fragments > 0 {
            let why = format!("{} IP fragments were not looked at", ledger.fragments);
            limits.push(Limit::new("segments in fragments", why));
        }
        if ledger.unread > 0 {
            let why = format!("the headers of {} packets could not be read", ledger.unread);
            limits.push(Limit::new("segments with broken headers", why));
        }
        if ledger.overflow > 0 || self.watchlist.ends.keys().any(|(_, end)| end.is_none()) {
            limits.push(
                Limit::new(
                    "destinations one by one",
                    format!(
                        "there are more than {}: the sockets of the others are counted together",
                        self.wish.destinations
                    ),
                )
                .of_detail(),
            );
        }
        limits
    }

    fn ledger(&self) -> Result<layout::Ledger, Limit> {
        let unread = |why: String| Limit::new(ALL, why);
        let map = self.loaded.map("ledgers").map_err(|trouble| unread(trouble.detail))?;
        let values = map
            .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| unread(bpf::trouble("ledgers", &error).detail))?;
        let mut sum = layout::Ledger::default();
        for value in values.unwrap_or_default() {
            let Ok((one, _)) = layout::Ledger::read_from_prefix(&value) else { continue };
            sum.looked_at += one.looked_at;
            sum.fragments += one.fragments;
            sum.unread += one.unread;
            sum.fin_wait2 += one.fin_wait2;
            sum.overflow += one.overflow;
        }
        Ok(sum)
    }

    fn lates(&self) -> Result<Vec<(layout::LateKey, layout::Late)>, Limit> {
        let unread = |why: String| Limit::new(ALL, why);
        let map = self.loaded.map("lates").map_err(|trouble| unread(trouble.detail))?;
        // All at once, as in the tracer.
        let batch = map
            .lookup_batch(map.max_entries(), MapFlags::ANY, MapFlags::ANY)
            .map_err(|error| unread(bpf::trouble("lates", &error).detail))?;
        let rows = batch.filter_map(|(key, value)| {
            Some((layout::LateKey::read_from_bytes(&key).ok()?, layout::Late::read_from_bytes(&value).ok()?))
        });
        Ok(rows.collect())
    }
}

/// Sockets whose timer began anew.
fn renewed(loaded: &Loaded) -> Result<Renewed, Trouble> {
    let map = loaded.map("entries")?;
    let batch = map
        .lookup_batch(map.max_entries(), MapFlags::ANY, MapFlags::ANY)
        .map_err(|error| bpf::trouble("entries", &error))?;
    let rows = batch.filter_map(|(key, value)| {
        let key = layout::EntryKey::read_from_bytes(&key).ok()?;
        let entry = layout::Entry::read_from_bytes(&value).ok()?;
        let end = |bytes: [u8; 16], port| Endpoint {
            address: address(bytes, key.family == u32::from(V4), 0),
            port,
        };
        Some((
            (end(key.local, key.local_port), end(key.remote, key.remote_port)),
            (entry.renewed_ms, entry.birth_ms),
        ))
    });
    Ok(rows.collect())
}

/// An address in the bytes of the layout.
fn address(bytes: [u8; 16], v4: bool, scope: u32) -> Address {
    let [a, b, c, d, ..] = bytes;
    let ip = if v4 { IpAddr::V4(Ipv4Addr::new(a, b, c, d)) } else { IpAddr::V6(Ipv6Addr::from(bytes)) };
    Address::new(ip, scope)
}

/// Direction and end; no end where there are too many.
type Key = (Direction, Option<Endpoint>);

fn end(key: &layout::LateKey) -> Key {
    let direction = if key.direction == 1 { Direction::Incoming } else { Direction::Outgoing };
    // What is beyond the bound is counted in one of each direction.
    let named = key.family != 0;
    let end = Endpoint { address: address(key.end, key.family == V4, key.scope), port: key.port };
    (direction, named.then_some(end))
}

fn nothing() -> Seen {
    Seen { sockets_at_age: vec![0; BANDS], ..Seen::default() }
}

fn add(seen: &mut Seen, kind: Kind, band: usize, late: &layout::Late, clock: &Clock) {
    let age_seconds = late.latest_ms as f64 / 1e3;
    seen.segments += late.segments;
    if kind.needs_time_wait() {
        seen.needed += late.segments;
        if seen.latest_needed.as_ref().is_none_or(|latest| latest.age_seconds < age_seconds) {
            seen.latest_needed = Some(Sighting { age_seconds, kind, at: clock.wall(late.at) });
        }
    }
    let at = seen.kinds.iter().position(|known| known.kind == kind).unwrap_or_else(|| {
        seen.kinds.push(KindSeen {
            kind,
            segments: 0,
            rejected_by_timestamp: 0,
            at_age: vec![0; BANDS],
            latest_seconds: 0.0,
        });
        seen.kinds.len() - 1
    });
    if let Some(row) = seen.kinds.get_mut(at) {
        row.segments += late.segments;
        row.rejected_by_timestamp += late.rejected;
        row.latest_seconds = row.latest_seconds.max(age_seconds);
        if let Some(count) = row.at_age.get_mut(band) {
            *count += late.segments;
        }
    }
}

fn watch(seen: &mut Seen, watched: &Watched) {
    seen.sockets += watched.sockets;
    for (sum, count) in seen.sockets_at_age.iter_mut().zip(watched.at_age) {
        *sum += count;
    }
}

/// Both clocks at one moment.
struct Clock {
    wall: Timestamp,
    monotonic_ns: i64,
}

impl Clock {
    fn read() -> Clock {
        let now = clock_gettime(ClockId::Monotonic);
        Clock { wall: Timestamp::now(), monotonic_ns: now.tv_sec.saturating_mul(1_000_000_000) + now.tv_nsec }
    }

    /// The wall clock's time, RFC 3339 in UTC, at a moment of CLOCK_MONOTONIC.
    fn wall(&self, monotonic_ns: u64) -> String {
        let ago = self.monotonic_ns.saturating_sub(i64::try_from(monotonic_ns).unwrap_or(i64::MAX));
        let at = self.wall.checked_sub(SignedDuration::from_nanos(ago)).unwrap_or(self.wall);
        format!("{at:.3}")
    }
}
