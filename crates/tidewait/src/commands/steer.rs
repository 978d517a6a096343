//! `tidewait steer` and `tidewait spread`: local ports and source addresses chosen for programs that run.

#[cfg(feature = "act")]
pub mod ports;
#[cfg(feature = "act")]
pub mod session;
#[cfg(feature = "act")]
pub mod sources;
#[cfg(feature = "act")]
pub mod steered;
#[cfg(feature = "act")]
pub mod target;
#[cfg(feature = "act")]
pub mod warnings;

use crate::cli::{Spread, Steer};

/// Runs `steer`.
#[cfg(feature = "act")]
pub fn run(options: &Steer) -> anyhow::Result<()> {
    let asked = session::Asked {
        json: options.format.json,
        target: &options.target,
        choosing: Some(&options.choosing),
        sources: &options.sources,
        seconds: options.until.seconds,
    };
    session::run(&asked)
}

/// Runs `spread`.
#[cfg(feature = "act")]
pub fn spread(options: &Spread) -> anyhow::Result<()> {
    let asked = session::Asked {
        json: options.format.json,
        target: &options.target,
        choosing: None,
        sources: &options.sources,
        seconds: options.until.seconds,
    };
    session::run(&asked)
}

#[cfg(not(feature = "act"))]
const READS_ONLY: &str =
    "this tidewait was built without the feature `act`: it only reads, and steers nothing";

/// Says that there is nothing of it.
#[cfg(not(feature = "act"))]
pub fn run(_: &Steer) -> anyhow::Result<()> {
    anyhow::bail!(READS_ONLY)
}

/// Says that there is nothing of it.
#[cfg(not(feature = "act"))]
pub fn spread(_: &Spread) -> anyhow::Result<()> {
    anyhow::bail!(READS_ONLY)
}
