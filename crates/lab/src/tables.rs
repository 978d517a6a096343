//! Headline tables: what the ports of a machine carry, as it is and with each remedy, measured on the real kernel.
//!
//! The remedies are the commands of tidewait itself, started as a user would start them, around a client in a process of its own
//! or beside it. What this kernel or this build does not have is a named gap.

mod bench;
mod bind;
mod fill;
mod neighbour;
mod reap;
mod safety;
mod seed;
mod spread;

use std::path::PathBuf;

use tidewait_model::table::{Size, Table};

use crate::error::Result;

/// A headline: what is measured for one table, or for several of the same kind.
#[derive(Clone, Copy, Debug)]
pub struct Headline {
    /// What it is called by.
    pub name: &'static str,
    /// What is measured, in a sentence.
    pub about: &'static str,
    /// Seconds that it takes about, on two idle processors: a full run, and a quick one.
    pub seconds: (u32, u32),
    run: Measure,
}

/// Makes the tables of a headline, and tells what it is doing.
type Measure = fn(&Setup, &dyn Fn(&str)) -> Result<Vec<Table>>;

/// What a run is made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The tidewait program, for its remedies and for the clients.
    pub program: PathBuf,
    /// How large it is.
    pub size: Size,
}

/// Every headline.
pub fn all() -> &'static [Headline] {
    HEADLINES
}

const HEADLINES: &[Headline] = &[
    Headline {
        name: "seed-table",
        about: "the rate that never runs out of ports, by how long TIME_WAIT is made to last",
        seconds: (330, 80),
        run: seed::run,
    },
    Headline {
        name: "reap-table",
        about: "one client at 3,000 connections a second to one destination, with and without reap",
        seconds: (230, 25),
        run: reap::run,
    },
    Headline {
        name: "fill-table",
        about: "rate and latency of connect(), by how much of the range is in use",
        seconds: (150, 40),
        run: fill::run,
    },
    Headline {
        name: "spread-table",
        about: "connections to one destination from 1, 2, 4 and 8 source addresses",
        seconds: (60, 10),
        run: spread::run,
    },
    Headline {
        name: "bind-table",
        about: "programs that bind() before connect(): connections until bind() is refused",
        seconds: (25, 15),
        run: bind::run,
    },
    Headline {
        name: "neighbour-table",
        about: "a program that is not steered beside one that is",
        seconds: (50, 25),
        run: neighbour::run,
    },
    Headline {
        name: "safety-table",
        about: "delayed duplicates and lost last ACKs after TIME_WAIT was cut short: what peer and applications see",
        seconds: (45, 40),
        run: safety::run,
    },
];

impl Headline {
    /// Measures. `tell` hears what is being done.
    ///
    /// # Errors
    /// Where namespaces cannot be made, or a measurement breaks down. What is not to be had here is in the tables.
    pub fn run(&self, setup: &Setup, tell: &dyn Fn(&str)) -> Result<Vec<Table>> {
        (self.run)(setup, tell)
    }
}
