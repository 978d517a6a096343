//! `tidewait steer` and `tidewait spread`: local ports and source addresses chosen for programs that run.

pub mod ports;
pub mod session;
pub mod sources;
pub mod steered;
pub mod target;
pub mod warnings;

use crate::cli::{Spread, Steer};

/// Runs `steer`.
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
