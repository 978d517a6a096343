//! Opens the object, gives its maps their sizes, loads and attaches what can be.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use libbpf_rs::{Iter, Link, MapCore, MapHandle, Object, ObjectBuilder};
use tidewait_model::Limit;
use zerocopy::IntoBytes;

use super::{Bounds, Telling, Wish, layout, listening, people, tracer};
use crate::refusal::{self, Refusal};
use tidewait_kernel::bpf::{self, Cause, Trouble};

/// `connections.bpf.c`, compiled.
pub(super) static CONNECTIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/connections.bpf.o"));

/// The least that a ring is given: a page.
const PAGE: u32 = 4_096;

/// The program that looks once who listens already.
const EXISTING: &str = "existing";
/// The program that sees bind() fail.
pub(super) const BINDS: &str = "on_bind";

/// Nothing less than everything.
const ALL: &str = "traced connections";

/// What runs in the kernel.
pub(super) struct Loaded {
    pub(super) links: Vec<Link>,
    pub(super) object: Object,
    pub(super) maps: HashMap<String, MapHandle>,
    /// Listening ports that found no room.
    pub(super) unlisted: u64,
    /// Those among them that were counted twice.
    pub(super) repeated: u64,
    /// What could not be had.
    pub(super) limits: Vec<Limit>,
}

/// Loads and attaches the programs.
pub(super) fn load(wish: &Wish) -> Result<Loaded, Refusal> {
    let mut limits = Vec::new();
    let mut extras = vec![EXISTING];
    if wish.binds {
        extras.push(BINDS);
    }
    let refused = |trouble: &Trouble| refusal::refusal(&wish.root, ALL, trouble);
    let object = match loaded(wish, &extras) {
        // Perhaps only what could be done without is too much for this kernel.
        Err(trouble) if trouble.cause == Cause::Unsupported => {
            let object = loaded(wish, &[]).map_err(|_| refused(&trouble))?;
            limits.extend(extras.drain(..).map(|name| without(&wish.root, name, &trouble)));
            object
        }
        other => other.map_err(|trouble| refused(&trouble))?,
    };
    let mut maps = HashMap::new();
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        let handle = MapHandle::try_from(&map).map_err(|error| refused(&bpf::trouble(&name, &error)))?;
        maps.insert(name, handle);
    }
    let mut links = Vec::new();
    let mut missing: Vec<&str> = extras.clone();
    let mut pass = None;
    let mut repeated = 0;
    // The one that looks who listens first: connections that come in as soon as they are followed then have an owner.
    let mut programs: Vec<_> = object.progs_mut().filter(|program| program.autoload()).collect();
    programs.sort_by_key(|program| program.name() != EXISTING);
    for program in programs {
        let name = program.name().to_string_lossy().into_owned();
        let extra = extras.iter().find(|extra| **extra == name);
        missing.retain(|extra| *extra != name);
        match (program.attach().map_err(|error| bpf::trouble("attach", &error)), extra) {
            (Ok(link), Some(&EXISTING)) => {
                // Its trouble, if there is any, is told of the second time.
                let _ = run(&link);
                repeated = tracer::ledger(&maps).losses.listening;
                pass = Some(link);
            }
            (Ok(link), _) => links.push(link),
            (Err(trouble), Some(name)) => limits.push(without(&wish.root, name, &trouble)),
            (Err(trouble), None) => return Err(refused(&trouble)),
        }
    }
    // The object for this kind of processor has no such program.
    let unknown =
        Trouble { cause: Cause::Unsupported, detail: "not written for this kind of processor".to_owned() };
    limits.extend(missing.into_iter().map(|name| without(&wish.root, name, &unknown)));
    // Once more, for those who began to listen before that was followed.
    if let Some(link) = pass
        && let Err(trouble) = run(&link)
    {
        limits.push(without(&wish.root, EXISTING, &trouble));
    }
    let unlisted = maps.get("listening").map_or(0, |map| listening::complete(&wish.root, map));
    Ok(Loaded { links, object, maps, unlisted, repeated, limits })
}

/// The object in the kernel, nothing attached yet; of the programs that can be done without, only `extras`.
fn loaded(wish: &Wish, extras: &[&str]) -> Result<Object, Trouble> {
    bpf::listen();
    let failed = |step: &str, error: &libbpf_rs::Error| bpf::trouble(step, error);
    let mut open =
        ObjectBuilder::default().open_memory(CONNECTIONS).map_err(|error| failed("open", &error))?;
    for mut program in open.progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        let extra = [EXISTING, BINDS].contains(&name.as_str());
        program.set_autoload(!extra || extras.contains(&name.as_str()));
    }
    let bounds = &wish.bounds;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let outcome = match name.as_str() {
            "owners" | "owner_numbers" => map.set_max_entries(bounds.owners.max(1)),
            "cgroups" => map.set_max_entries(bounds.groups.max(1)),
            "flows" | "flow_numbers" => map.set_max_entries(bounds.flows.max(1)),
            "listening" | "listeners" => map.set_max_entries(bounds.listening.max(1)),
            "waiting" => map.set_max_entries(places(wish).max(1)),
            "ring" => {
                let bytes = wish.events.as_ref().map_or(PAGE, |telling| telling.buffer.max(PAGE));
                map.set_max_entries(bytes.next_power_of_two())
            }
            ".rodata.settings" => map.set_initial_value(settings(wish, bounds).as_bytes()),
            _ => Ok(()),
        };
        outcome.map_err(|error| failed(&name, &error))?;
    }
    let object = open.load().map_err(|error| failed("load", &error))?;
    // What was said of a load that went well in the end explains no later trouble.
    bpf::listen();
    Ok(object)
}

/// Has the kernel pass over the open files.
fn run(pass: &Link) -> Result<(), Trouble> {
    let mut iterator = Iter::new(pass).map_err(|error| bpf::trouble("iterator", &error))?;
    // It writes nothing; reading is what makes it run.
    match iterator.read_to_end(&mut Vec::new()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Trouble { cause: Cause::Unknown, detail: format!("iterator: {error}") }),
    }
}

/// What goes missing with a program that can be done without.
fn without(root: &Path, name: &str, trouble: &Trouble) -> Limit {
    let what = match name {
        BINDS => "traced: bind() that found no port",
        _ => "traced: who listened before, until a connection is closed",
    };
    refusal::limit(root, what, trouble)
}

fn settings(wish: &Wish, bounds: &Bounds) -> layout::Settings {
    let none = Telling::default();
    let telling = wish.events.as_ref().unwrap_or(&none);
    let (remote_family, remote) = telling.remote.map_or((0, [0; 16]), tracer::bytes);
    layout::Settings {
        events: telling.kinds.0,
        tgid: telling.pid.unwrap_or(0),
        netns: wish.netns.unwrap_or(0),
        wakeup: telling.buffer.max(PAGE).next_power_of_two() / 8,
        local_port: telling.local_port.unwrap_or(0),
        remote_port: telling.remote_port.unwrap_or(0),
        remote_family,
        pids_tree: u8::from(people::pids_tree(&wish.root)),
        unused: [0; 2],
        remote,
        owner_limit: bounds.owners.max(1),
        flow_limit: bounds.flows.max(1),
        waiting: places(wish),
    }
}

/// Places for notes of sockets in TIME_WAIT: a power of two.
fn places(wish: &Wish) -> u32 {
    match wish.waiting {
        0 => 0,
        wanted => wanted.checked_next_power_of_two().unwrap_or(1 << 31),
    }
}
