//! Names for the numbers in events: network namespaces and owners, each looked up once and kept ready to be written.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidewait_model::trace::Program;
use tidewait_observe::places::{self, Kind, Place, Scope};
use tidewait_observe::trace::Tracer;

use super::filter::Filter;

/// How often it is looked whether names still mean the same namespaces.
const EVERY: Duration = Duration::from_secs(1);
/// The longest that a namespace without a name waits until it is looked for again.
const LONGEST: Duration = Duration::from_secs(60);

/// A text, and the same as JSON.
#[derive(Clone, Debug, Default)]
pub struct Name {
    /// As it is.
    pub text: String,
    /// In quotes.
    pub json: String,
}

impl Name {
    fn of(text: String) -> Name {
        Name { json: serde_json::Value::from(text.as_str()).to_string(), text }
    }
}

/// The names of network namespaces by inode.
pub struct Namespaces {
    known: HashMap<u32, Namespace>,
    unnamed: Name,
    looked: Instant,
}

struct Namespace {
    name: Name,
    /// The file that has the inode as long as the name is right; `None` for the host, which stays.
    file: Option<PathBuf>,
    /// Where it has no name: when to look for one again, and how long to wait after that.
    again: Option<(Instant, Duration)>,
}

impl Namespaces {
    /// The namespaces that were found.
    pub fn of(found: &[Place]) -> Namespaces {
        let mut names =
            Namespaces { known: HashMap::new(), unnamed: Name::default(), looked: Instant::now() };
        names.learn(found);
        names
    }

    fn learn(&mut self, found: &[Place]) {
        for place in found {
            let Ok(inode) = u32::try_from(place.inode) else { continue };
            let file = match place.kind {
                Kind::Host => None,
                Kind::Named => Some(Path::new("/run/netns").join(&place.name)),
                _ if place.own => None,
                _ => place.leader.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))),
            };
            self.known.insert(inode, Namespace { name: Name::of(place.name.clone()), file, again: None });
        }
    }

    /// The name of a namespace; `net:[INODE]` where none can be found.
    pub fn name(&mut self, inode: u32) -> &Name {
        let now = Instant::now();
        let wait = match self.known.get(&inode) {
            None => Some(EVERY),
            Some(known) => known.again.filter(|(when, _)| now >= *when).map(|(_, wait)| wait),
        };
        if let Some(wait) = wait {
            if let Ok(found) = places::find(Path::new("/"), &Scope::All) {
                self.learn(&found.places);
            }
            let again = Some((now + wait, (wait * 2).min(LONGEST)));
            let entry = self.known.entry(inode).or_insert_with(|| Namespace {
                name: Name::of(format!("net:[{inode}]")),
                file: None,
                again,
            });
            if entry.again.is_some() {
                entry.again = again;
            }
        }
        self.known.get(&inode).map_or(&self.unnamed, |known| &known.name)
    }

    /// Forgets names that do not hold any more: the kernel gives an inode number to the next namespace at once.
    pub fn refresh(&mut self) {
        if self.looked.elapsed() < EVERY {
            return;
        }
        self.looked = Instant::now();
        self.known.retain(|inode, namespace| {
            namespace.file.as_ref().is_none_or(|file| {
                std::fs::metadata(file).is_ok_and(|found| found.ino() == u64::from(*inode))
            })
        });
    }
}

/// An owner, ready to be written.
#[derive(Clone, Debug)]
pub struct Who {
    /// In words; `None` where nobody is known.
    pub program: Option<Program>,
    /// As JSON.
    pub json: String,
    /// Whether it passes the filter.
    pub passes: bool,
}

/// The owners by number.
pub struct Owners {
    known: Vec<Option<Who>>,
    nobody: Who,
}

impl Owners {
    /// None yet.
    pub fn new(filter: &Filter) -> Owners {
        let nobody = Who { program: None, json: "null".to_owned(), passes: filter.is_of(None) };
        Owners { known: Vec::new(), nobody }
    }

    /// Who has this number.
    pub fn who(&mut self, number: u32, tracer: &mut Tracer, filter: &Filter) -> &Who {
        let Ok(index) = usize::try_from(number) else { return &self.nobody };
        if self.known.get(index).is_none_or(Option::is_none)
            && let Some(program) = tracer.program(number)
        {
            if self.known.len() <= index {
                self.known.resize(index + 1, None);
            }
            let json = serde_json::to_string(program).unwrap_or_else(|_| "null".to_owned());
            let passes = filter.is_of(Some(program));
            self.known[index] = Some(Who { program: Some(program.clone()), json, passes });
        }
        self.known.get(index).and_then(Option::as_ref).unwrap_or(&self.nobody)
    }
}
