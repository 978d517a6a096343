//! The one network namespace that a command is about.

use std::path::Path;

use tidewait_observe::places::{self, Place, PlaceError, Scope};

use crate::exit::Usage;

/// The namespace that `--netns` names, or the own one.
///
/// # Errors
/// [`Usage`] where all are meant; [`PlaceError`].
pub fn one(netns: Option<&str>) -> anyhow::Result<Place> {
    let scope = match netns {
        Some("all") => {
            return Err(Usage(
                "--netns all: this is done in one network namespace at a time: give its name or a process in it".to_owned(),
            )
            .into());
        }
        Some(name) => Scope::One(name.to_owned()),
        None => Scope::Auto,
    };
    let found = places::find(Path::new("/"), &scope)?.places;
    let chosen = match netns {
        Some(_) => found.into_iter().next(),
        None => found.into_iter().find(|place| place.own),
    };
    // The own namespace is always among those that are found.
    chosen.ok_or_else(|| {
        PlaceError::Unknown { name: netns.unwrap_or("own").to_owned(), known: Vec::new() }.into()
    })
}
