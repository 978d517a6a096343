//! The programs in the kernel, and what they counted.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{Link, Map, MapCore, MapFlags, MapHandle, MapType, Object, ObjectBuilder, OpenObject};
use rustix::rand::{GetRandomFlags, getrandom};
use tidewait_kernel::bpf::{self, Cause, Trouble};
use tidewait_model::PortSet;
use zerocopy::{FromBytes, FromZeros as _, IntoBytes};

use super::layout::{Address, Counted, Here, Offered, Settings};
use super::{Counts, LOCALS, Offer, SOURCES, SteerError, Wish};

/// `steer.bpf.c`, compiled.
static PROGRAMS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Candidates for one connect() at most. Where 99 % of the ports are in use, one search in 20,000 finds none among so many.
const TRIES: u32 = 1_000;

/// The program that learns which source routing chose: attached before those that need to know. Where no ports are given nobody
/// does, and it is left out: the kernel calls it half a dozen times for each connection.
const LEARNS: &str = "connecting";

/// Steering that goes on until it is dropped.
#[derive(Debug)]
pub struct Steering {
    // Dropped first, so that nothing runs any more when the maps go.
    _links: Vec<Link>,
    object: Object,
    /// The ports that have been given so far, in the order that was drawn by lot.
    order: Vec<u16>,
}

impl Steering {
    /// Loads the programs and attaches them, all or none.
    ///
    /// # Errors
    /// In words that name what is missing: a capability, something of the kernel, an address or port that makes sense.
    pub fn start(wish: &Wish<'_>) -> Result<Steering, SteerError> {
        let settings = settings(wish)?;
        bpf::listen();
        let object = load(&settings).map_err(|trouble| refused(&trouble))?;
        let mut steering = Steering { _links: Vec::new(), object, order: Vec::new() };
        steering.offer(&wish.offer)?;
        let mut programs: Vec<_> = steering.object.progs_mut().collect();
        programs.retain(|program| settings.ports != 0 || program.name() != LEARNS);
        programs.sort_by_key(|program| program.name() != LEARNS);
        let mut links = Vec::new();
        for program in programs {
            let link = program
                .attach_cgroup(wish.cgroup.as_raw_fd())
                .map_err(|error| refused(&bpf::trouble("attach", &error)))?;
            links.push(link);
        }
        steering._links = links;
        Ok(steering)
    }

    /// From now on this is what may be given, all at once: a connect() sees either what was offered before or this. Whose port
    /// or address is not in it any more keeps it.
    ///
    /// # Errors
    /// Where it cannot be; what was offered before stays.
    pub fn offer(&mut self, offer: &Offer) -> Result<(), SteerError> {
        let known: PortSet = self.order.iter().copied().collect();
        let new = offer.ports.iter().filter(|port| !known.contains(*port)).collect();
        self.order.extend(shuffled(new)?);
        let value = offered(offer, &self.order)?;
        let inner = inner(MapType::Array, size_of::<u32>(), size_of::<Offered>(), 1)?;
        inner.update(0_u32.as_bytes(), value.as_bytes(), MapFlags::ANY).map_err(|error| unoffered(&error))?;
        self.put("here", &here(offer)?)?;
        self.put("offers", &inner)
    }

    /// Puts a map in the place of the one that is in the map `name`.
    fn put(&self, name: &str, inner: &MapHandle) -> Result<(), SteerError> {
        let number = inner.as_fd().as_raw_fd();
        self.map(name)?
            .update(0_u32.as_bytes(), number.as_bytes(), MapFlags::ANY)
            .map_err(|error| unoffered(&error))
    }

    fn map(&self, name: &str) -> Result<Map<'_>, SteerError> {
        let map = self.object.maps().find(|map| map.name() == name);
        map.ok_or_else(|| SteerError::Failed(format!("the object has no map {name}")))
    }

    /// What was counted until now.
    ///
    /// # Errors
    /// If the kernel does not let it be read any more.
    pub fn counts(&self) -> Result<Counts, SteerError> {
        let unread = |why: &str| SteerError::Failed(format!("the counts cannot be read: {why}"));
        let all = self
            .map("counted")?
            .lookup_percpu(0_u32.as_bytes(), MapFlags::ANY)
            .map_err(|error| unread(&format!("{error:#}")))?
            .ok_or_else(|| unread("the map is empty"))?;
        let mut counts = Counts::default();
        for one in &all {
            let one = Counted::read_from_bytes(one).map_err(|_| unread("they have another size"))?;
            counts += Counts::from(one);
        }
        Ok(counts)
    }
}

impl From<Counted> for Counts {
    fn from(one: Counted) -> Counts {
        Counts {
            connects: one.connects,
            steered: one.steered,
            learning: one.learning,
            reused: one.reused,
            spread: one.spread,
            fell_back: one.fell_back,
            unknown_source: one.unknown,
            left_with_port: one.bound,
            left_with_source: one.sourced,
            left_to_routing: one.routed,
            left_apart: one.apart,
            candidates: one.tries,
            refused_by_bind: one.taken,
            sources_gone: one.gone,
        }
    }
}

fn load(settings: &Settings) -> Result<Object, Trouble> {
    let failed = |step: &str, error: &libbpf_rs::Error| bpf::trouble(step, error);
    let mut open: OpenObject =
        ObjectBuilder::default().open_memory(PROGRAMS).map_err(|error| failed("open", &error))?;
    for mut map in open.maps_mut() {
        if map.name() == ".rodata.settings" {
            map.set_initial_value(settings.as_bytes()).map_err(|error| failed("settings", &error))?;
        }
    }
    let object = open.load().map_err(|error| failed("load", &error))?;
    // What was said of a load that went well in the end explains no later trouble.
    bpf::listen();
    Ok(object)
}

fn unoffered(error: &libbpf_rs::Error) -> SteerError {
    refused(&bpf::trouble("offer", error))
}

/// A map that goes into another one.
fn inner(kind: MapType, key: usize, value: usize, entries: usize) -> Result<MapHandle, SteerError> {
    let options =
        bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, ..bpf_map_create_opts::default() };
    let entries = u32::try_from(entries).unwrap_or(u32::MAX);
    MapHandle::create(kind, Some("offer"), key as u32, value as u32, entries, &options)
        .map_err(|error| unoffered(&error))
}

/// All addresses of the machine. Sources are among them though no interface has them: networks with a route of type local do not.
fn here(offer: &Offer) -> Result<MapHandle, SteerError> {
    let all: BTreeSet<IpAddr> = offer.locals.iter().chain(&offer.sources).map(IpAddr::to_canonical).collect();
    let map = inner(MapType::Hash, size_of::<Here>(), size_of::<u32>(), all.len().max(1))?;
    for address in all {
        let key = Here { address: bytes(address), v4: address.is_ipv4().into() };
        map.update(key.as_bytes(), 1_u32.as_bytes(), MapFlags::ANY).map_err(|error| unoffered(&error))?;
    }
    Ok(map)
}

/// The wish in the words of the programs.
fn settings(wish: &Wish<'_>) -> Result<Settings, SteerError> {
    let mut settings = Settings::read_from_bytes(&[0; size_of::<Settings>()])
        .map_err(|_| SteerError::Failed("the settings have no size".to_owned()))?;
    settings.netns = u32::try_from(wish.netns)
        .map_err(|_| SteerError::Impossible(format!("net:[{}] is no network namespace", wish.netns)))?;
    settings.tgid = wish.process.unwrap_or(0);
    settings.ports = u32::from(!wish.offer.ports.is_empty());
    settings.sources = u32::from(!wish.offer.sources.is_empty());
    settings.tries = TRIES;
    settings.careful = u32::from(wish.careful);
    settings.reuse_after = wish.reuse_after.map_or(0, |age| {
        let seconds = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
    });
    Ok(settings)
}

/// The offer in the words of the programs; `order`: all its ports and others.
fn offered(offer: &Offer, order: &[u16]) -> Result<Box<Offered>, SteerError> {
    let mut value = Offered::new_box_zeroed()
        .map_err(|_| SteerError::Failed("there is no memory for what may be given".to_owned()))?;
    for (place, port) in value.port.iter_mut().zip(order.iter().filter(|port| offer.ports.contains(**port))) {
        *place = *port;
        value.ports += 1;
    }
    for source in &offer.sources {
        let (list, count) = match source.to_canonical() {
            IpAddr::V4(_) => (&mut value.source4, &mut value.sources4),
            IpAddr::V6(_) => (&mut value.source6, &mut value.sources6),
        };
        let Some(place) = list.get_mut(*count as usize) else {
            return Err(SteerError::Impossible(format!(
                "{source} is one source address too many: {SOURCES} of a family are the most"
            )));
        };
        *place = bytes(*source);
        *count += 1;
        if source.is_loopback() {
            value.loopback |= if source.is_ipv4() { 1 } else { 2 };
        }
    }
    (value.locals4, value.local4) = locals(offer, IpAddr::is_ipv4);
    (value.locals6, value.local6) = locals(offer, IpAddr::is_ipv6);
    Ok(value)
}

/// The local addresses of a family that routing may choose for what is steered; none where there are too many.
fn locals(offer: &Offer, family: fn(&IpAddr) -> bool) -> (u32, [Address; LOCALS]) {
    let mut list = [[0; 16]; LOCALS];
    let mut count: u32 = 0;
    let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    for local in offer.locals.iter().filter(|local| family(local) && !link_local(local)) {
        let Some(place) = list.get_mut(count as usize) else { return (0, [[0; 16]; LOCALS]) };
        *place = bytes(*local);
        count += 1;
    }
    (count, list)
}

fn bytes(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mut all = [0; 16];
            all[..4].copy_from_slice(&v4.octets());
            all
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The ports in an order drawn by lot (Fisher and Yates), so that nobody outside can tell the next.
fn shuffled(mut ports: Vec<u16>) -> Result<Vec<u16>, SteerError> {
    let mut lots = vec![0_u32; ports.len()];
    let mut filled = 0;
    let bytes = lots.as_mut_bytes();
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|error| SteerError::Failed(format!("no random numbers: {error}")))?;
    }
    for place in (1..ports.len()).rev() {
        let other = lots[place] as usize % (place + 1);
        ports.swap(place, other);
    }
    Ok(ports)
}

/// An error of the loader, in words that lead to the remedy.
fn refused(trouble: &Trouble) -> SteerError {
    match trouble.cause {
        Cause::Refused => SteerError::NotPermitted(format!(
            "the kernel refuses the BPF programs ({trouble}); run it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, outside of \
             user namespaces; `tidewait doctor` says more"
        )),
        Cause::Unsupported => SteerError::Unsupported(format!(
            "the kernel refuses the BPF programs ({trouble}); they need Linux 6.1 or later with CONFIG_CGROUP_BPF and \
             CONFIG_DEBUG_INFO_BTF; `tidewait doctor` says more"
        )),
        Cause::NoMemory => SteerError::Failed(format!(
            "no kernel memory for the maps ({trouble}); raise the memory limit of the control group or the unit"
        )),
        Cause::Unknown => SteerError::Failed(trouble.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_drawn_once() {
        let mut drawn = shuffled((1_000..9_000).collect()).unwrap();
        assert!(!drawn.is_sorted());
        drawn.sort_unstable();
        assert!(drawn.into_iter().eq(1_000..9_000));
        assert_eq!(shuffled(Vec::new()).unwrap(), Vec::<u16>::new());
    }
}
