//! Opens the object, gives its maps their sizes, loads the program of one of the two ways, and attaches it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput};
use tidewait_kernel::bpf::{self, Cause, Trouble};
use tidewait_model::Limit;
use tidewait_model::study::{BAND_BEGINS_MS, BANDS, Kind, Method};
use zerocopy::{FromBytes, IntoBytes};

use super::interfaces::Interfaces;
use super::{Wish, layout, sockets};
use crate::refusal::{self, Refusal};

/// `late.bpf.c`, compiled.
pub(super) static LATE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/late.bpf.o"));

/// What is missing without any of it.
pub(super) const ALL: &str = "segments for TIME_WAIT";

/// The program that reads the clocks.
const CLOCK: &str = "clock";

/// Ticks a second that kernels are built with (CONFIG_HZ).
const TICKS: [u32; 10] = [24, 32, 48, 64, 100, 128, 200, 250, 300, 1_000];

/// How long ticks are counted. At a hundred a second, the nearest of them is then still clear.
const CALIBRATION: Duration = Duration::from_millis(250);

/// What runs in the kernel.
pub(super) struct Loaded {
    pub(super) method: Method,
    pub(super) object: Object,
    pub(super) maps: HashMap<String, MapHandle>,
    /// The one of fentry.
    pub(super) _link: Option<Link>,
    /// Those of tc.
    pub(super) interfaces: Interfaces,
}

/// Loads and attaches the program.
pub(super) fn load(wish: &Wish) -> Result<Loaded, Refusal> {
    match wish.method {
        Some(method) => loaded(wish, method).map_err(|trouble| refused(wish, &[(method, trouble)])),
        None => loaded(wish, Method::Fentry).or_else(|first| {
            loaded(wish, Method::Tc)
                .map_err(|second| refused(wish, &[(Method::Fentry, first), (Method::Tc, second)]))
        }),
    }
}

/// Why no way works.
fn refused(wish: &Wish, ways: &[(Method, Trouble)]) -> Refusal {
    let mut not_permitted = false;
    let limits = ways.iter().map(|(method, trouble)| {
        let Refusal { limit, not_permitted: forbidden } = refusal::refusal(&wish.root, ALL, trouble);
        not_permitted |= forbidden;
        match method {
            Method::Fentry => (format!("by fentry: {}", limit.why), limit.remedy),
            Method::Tc if trouble.cause == Cause::Unsupported => {
                (format!("by tc: {trouble}"), Some(TC_REMEDY.to_owned()))
            }
            Method::Tc => (format!("by tc: {}", limit.why), limit.remedy),
        }
    });
    let (why, mut remedies): (Vec<String>, Vec<Option<String>>) = limits.unzip();
    let limit = Limit::new(ALL, why.join("; "));
    // What helps the way that is tried last, which takes the least.
    let limit = match remedies.pop().flatten() {
        Some(remedy) => limit.remedy(remedy),
        None => limit,
    };
    // That rights would make one way work is enough; that the last one went wrong has nothing to do with them.
    let last = ways.last().map(|(_, trouble)| trouble.cause);
    Refusal {
        limit,
        not_permitted: not_permitted && matches!(last, Some(Cause::Refused | Cause::Unsupported)),
    }
}

/// What it takes to hold a program at an interface by a link.
const TC_REMEDY: &str = "Linux 6.6 or later with CONFIG_NET_XGRESS and CONFIG_DEBUG_INFO_BTF";

fn name(method: Method) -> &'static str {
    match method {
        Method::Fentry => "answered",
        Method::Tc => "arriving",
    }
}

fn loaded(wish: &Wish, method: Method) -> Result<Loaded, Trouble> {
    bpf::listen();
    let failed = |step: &str, error: &libbpf_rs::Error| bpf::trouble(step, error);
    let mut open = ObjectBuilder::default().open_memory(LATE).map_err(|error| failed("open", &error))?;
    for mut program in open.progs_mut() {
        let wanted = program.name() == name(method) || program.name() == CLOCK;
        program.set_autoload(wanted);
    }
    // Each destination has a row for each kind and age that came: most have none, few more than a handful.
    let rows = wish.destinations.saturating_mul(4).saturating_add(REST);
    for mut map in open.maps_mut() {
        let outcome = match map.name().to_string_lossy().as_ref() {
            "lates" => map.set_max_entries(rows),
            ".rodata.settings" => map.set_initial_value(settings(wish).as_bytes()),
            _ => Ok(()),
        };
        outcome.map_err(|error| failed("map", &error))?;
    }
    let object = open.load().map_err(|error| failed("load", &error))?;
    bpf::listen();
    let mut maps = HashMap::new();
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        maps.insert(name.clone(), MapHandle::try_from(&map).map_err(|error| failed(&name, &error))?);
    }
    make_room(&maps)?;
    calibrate(&object, &maps, wish)?;
    let mut loaded = Loaded { method, object, maps, _link: None, interfaces: Interfaces::default() };
    match method {
        Method::Fentry => {
            let program = loaded.object.progs_mut().find(|program| program.name() == name(method));
            let program = program.ok_or_else(|| missing("program answered"))?;
            let link = program.attach().map_err(|error| failed("attach", &error))?;
            loaded._link = Some(link);
        }
        Method::Tc => loaded.refresh(wish)?,
    }
    Ok(loaded)
}

impl Loaded {
    /// Attaches to interfaces that have come since.
    pub(super) fn refresh(&mut self, wish: &Wish) -> Result<(), Trouble> {
        let Loaded { object, interfaces, .. } = self;
        let program = object.progs().find(|program| program.name() == name(Method::Tc));
        let program = program.ok_or_else(|| missing("program arriving"))?;
        let descriptor = program.as_fd();
        match wish.place.enter(|| interfaces.refresh(descriptor)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unattached(&error)),
            Err(error) => Err(Trouble { cause: Cause::Unknown, detail: error.to_string() }),
        }
    }

    /// The map of this name.
    pub(super) fn map(&self, name: &str) -> Result<&MapHandle, Trouble> {
        self.maps.get(name).ok_or_else(|| missing(name))
    }

    /// Tells the programs which local ports are services.
    pub(super) fn tell(&self, services: &sockets::Services) -> Result<(), Trouble> {
        let map = self.map(LIVE)?;
        let mut live = live(map)?;
        services.write(&mut live);
        put(map, &live)
    }
}

/// Where the programs find what changes while they run.
const LIVE: &str = ".data.live";

fn missing(what: &str) -> Trouble {
    Trouble { cause: Cause::Unknown, detail: format!("the object has no {what}") }
}

fn unattached(error: &io::Error) -> Trouble {
    let cause = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Cause::Refused,
        // Before 6.6 there is no such place to attach to.
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS) => Cause::Unsupported,
        Some(libc::ENOMEM) => Cause::NoMemory,
        _ => Cause::Unknown,
    };
    Trouble { cause, detail: format!("tcx: {error}") }
}

fn live(map: &MapHandle) -> Result<layout::Live, Trouble> {
    let value = map
        .lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(|error| bpf::trouble(LIVE, &error))?
        .unwrap_or_default();
    layout::Live::read_from_bytes(&value).map_err(|_| missing(LIVE))
}

fn put(map: &MapHandle, live: &layout::Live) -> Result<(), Trouble> {
    map.update(&0_u32.to_ne_bytes(), live.as_bytes(), MapFlags::ANY)
        .map_err(|error| bpf::trouble(LIVE, &error))
}

/// Rows for what comes of destinations beyond the bound: they have to be there before room runs out.
const REST: u32 = 2 * Kind::ALL.len() as u32 * BANDS as u32;

fn make_room(maps: &HashMap<String, MapHandle>) -> Result<(), Trouble> {
    let lates = maps.get("lates").ok_or_else(|| missing("map lates"))?;
    let nothing = layout::Late::default();
    for direction in 0..2 {
        for (kind, _) in (0_u8..).zip(Kind::ALL) {
            for (band, _) in (0_u8..).zip(BAND_BEGINS_MS) {
                let key = layout::LateKey { direction, kind, band, ..layout::LateKey::default() };
                lates
                    .update(key.as_bytes(), nothing.as_bytes(), MapFlags::ANY)
                    .map_err(|error| bpf::trouble("lates", &error))?;
            }
        }
    }
    Ok(())
}

/// Finds out how long a tick is, which timers are counted in: the kernel tells it nowhere that is always there.
fn calibrate(object: &Object, maps: &HashMap<String, MapHandle>, wish: &Wish) -> Result<(), Trouble> {
    let map = maps.get(LIVE).ok_or_else(|| missing(LIVE))?;
    let program = object.progs_mut().find(|program| program.name() == CLOCK);
    let program = program.ok_or_else(|| missing("program clock"))?;
    let look = || {
        let packet = [0; 64];
        let input = ProgramInput { data_in: Some(&packet), ..ProgramInput::default() };
        program.test_run(input).map_err(|error| bpf::trouble("clock", &error))?;
        live(map)
    };
    let first = look()?;
    std::thread::sleep(CALIBRATION);
    let second = look()?;
    let seconds = second.nanoseconds.saturating_sub(first.nanoseconds) as f64 / 1e9;
    let rate = second.jiffies.saturating_sub(first.jiffies) as f64 / seconds;
    let far = |ticks: u32| (f64::from(ticks) / rate).ln().abs();
    let nearest = TICKS.into_iter().min_by(|one, other| far(*one).total_cmp(&far(*other)));
    let live = layout::Live {
        ticks_per_second: nearest.unwrap_or(250),
        time_wait_ms: u32::try_from(wish.time_wait.as_millis()).unwrap_or(u32::MAX),
        ..second
    };
    put(map, &live)
}

fn settings(wish: &Wish) -> layout::Settings {
    let end = |filter: Option<tidewait_model::AddressFilter>| {
        filter.map_or((0, [0; 16], 0), |filter| {
            let (family, bytes) = sockets::bytes(filter.ip);
            (family, bytes, filter.port.unwrap_or(0))
        })
    };
    let (remote_family, remote, remote_port) = end(wish.only.to);
    let (local_family, local, local_port) = end(wish.only.from);
    layout::Settings {
        netns: u32::try_from(wish.place.inode).unwrap_or(0),
        sample: wish.sample.max(1),
        remote,
        local,
        remote_port,
        local_port,
        port: wish.only.port.unwrap_or(0),
        remote_family,
        local_family,
        band_begins: BAND_BEGINS_MS,
        seed: RandomState::new().hash_one(0),
    }
}
