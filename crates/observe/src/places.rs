//! The network namespaces of this machine, each once, with a name and a way in.
//!
//! [`find`] lists them: the initial namespace (`host`), those with a name under /run/netns, and those that a
//! process lives in. [`Place::enter`] does work inside one. A namespace that is kept only by an open file, by a
//! mount elsewhere, or by a thread other than its process's first is not found.

mod enter;
mod error;
mod find;
mod identity;
mod named;
mod processes;

use std::path::PathBuf;

use tidewait_model::Limit;

pub use error::PlaceError;
pub use find::find;
pub use identity::find_again;

/// Which network namespaces are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them when asked from the initial namespace, else only the one tidewait runs in: whoever runs it
    /// by `ip netns exec` or in a container means that one.
    #[default]
    Auto,
    /// All that can be found.
    All,
    /// One: a name under /run/netns, `host`, a process number, an inode as `net:[4026531840]`, or any name that
    /// [`find`] gave a place.
    One(String),
}

/// Where a place has its name from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The initial network namespace.
    Host,
    /// A file under /run/netns.
    Named,
    /// The pod, container or systemd unit of the processes in it.
    Group,
    /// The process in it with the lowest number, as `command[pid]`.
    Leader,
    /// tidewait's own namespace, of which nothing could be told.
    Own,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is called; no two places of one [`find`] have the same name.
    pub name: String,
    /// The inode of its file, as in `net:[4026531840]`: unique on the machine while the namespace lives. 0 only
    /// for tidewait's own where /proc is not mounted.
    pub inode: u64,
    /// Where the name is from.
    pub kind: Kind,
    /// Whether the thread that called [`find`] was in it.
    pub own: bool,
    /// The process in it with the lowest number, where one was seen.
    pub leader: Option<u32>,
    /// Its file, which setns() takes.
    file: PathBuf,
}

/// What [`find`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The places that can be entered as far as privileges go: the host first, then the named ones, then the rest,
    /// each by name.
    pub places: Vec<Place>,
    /// The places that are known or suspected but cannot be looked into, and why.
    pub limits: Vec<Limit>,
    /// The processes with many open files, wherever they live.
    pub busy: Vec<Busy>,
    /// Processes whose open files could not be counted.
    pub uncounted: u64,
}

/// A process with many open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Its number.
    pub pid: u32,
    /// Inode of the network namespace it lives in, where it tells.
    pub namespace: Option<u64>,
    /// How many file descriptors it has.
    pub descriptors: u64,
}

/// A process with fewer file descriptors than this is not busy, whatever its limit: a quarter of the usual soft limit of
/// 1024 is no trouble, and lower limits are set on purpose.
const MANY_DESCRIPTORS: u64 = 200;
