//! What is chosen for the connections of the command, for as long as it runs.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidewait_act::cgroup::Cgroup;
use tidewait_act::steer::{Steering, Wish};
use tidewait_model::PortSet;
use tidewait_model::steer::ports::Choice;
use tidewait_observe::places::{self, Place, Scope};

use crate::cli::Exec;
use crate::commands::steer::ports::{self, Claimed};
use crate::commands::steer::sources;
use crate::commands::steer::target::refused;
use crate::commands::steer::warnings;
use crate::exit::Usage;

/// Ports and addresses that were checked and claimed, before anything is started.
pub struct Plan {
    place: Place,
    claimed: Option<Claimed>,
    reuse_after: Option<Duration>,
    sources: Vec<std::net::IpAddr>,
    locals: Vec<std::net::IpAddr>,
}

impl Plan {
    /// For what was asked for, in the network namespace that tidewait is in; `None` if nothing is to be chosen.
    pub fn make(options: &Exec) -> Result<Option<Plan>> {
        if !options.steer && options.spread.is_empty() {
            return Ok(None);
        }
        crate::commands::steer::session::may_steer(options.steer)?;
        let scope = Scope::One(std::process::id().to_string());
        let place = places::find(Path::new("/"), &scope)?.places.into_iter().next();
        let place = place.context("the network namespace is not found")?;
        let locals = sources::locals(&place)?;
        sources::check(&place, &options.spread, &locals).map_err(by_its_name)?;
        let choice = options.range.clone().unwrap_or(Choice::Own);
        let claimed = options.steer.then(|| ports::claim(&place, &choice)).transpose()?;
        for warning in warnings::of(&place, claimed.as_ref(), &options.spread, options.reuse_after.is_some())
        {
            anstream::eprintln!("tidewait: {warning}");
        }
        let reuse_after = options.reuse_after.map(Duration::from_secs_f64);
        Ok(Some(Plan { place, claimed, reuse_after, sources: options.spread.clone(), locals }))
    }

    /// Begins with it in the cgroup.
    pub fn begin(self, cgroup: &Cgroup) -> Result<Steered> {
        let wish = Wish {
            cgroup: cgroup.as_fd(),
            netns: self.place.inode,
            process: None,
            ports: self
                .claimed
                .as_ref()
                .map_or_else(PortSet::default, |claimed| claimed.chosen.ports.clone()),
            reuse_after: self.reuse_after,
            sources: self.sources,
            locals: self.locals,
        };
        crate::commands::steer::session::stands_beside(wish.cgroup)?;
        let steering = Steering::start(&wish).map_err(refused)?;
        Ok(Steered { steering, _claimed: self.claimed })
    }
}

/// The option is called otherwise than that of `steer` and `spread`.
fn by_its_name(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Usage>() {
        Ok(usage) => Usage(usage.0.replace("--sources", "--spread")).into(),
        Err(error) => error,
    }
}

/// What goes on until it is dropped.
pub struct Steered {
    steering: Steering,
    _claimed: Option<Claimed>,
}

impl Steered {
    /// What was done until now, in one line.
    pub fn told(&self) -> String {
        let counts = match self.steering.counts() {
            Ok(counts) => counts,
            Err(error) => return error.to_string(),
        };
        format!(
            "connect() got its port here {} times ({} of TIME_WAIT), its source address {} times; {} were left to the kernel, {} left alone",
            counts.steered,
            counts.reused,
            counts.spread,
            counts.fell_back + counts.unknown_source,
            counts.left_with_port + counts.left_with_source + counts.left_apart
        )
    }
}
