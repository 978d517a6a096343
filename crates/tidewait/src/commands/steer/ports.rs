//! Which ports are given, and that nobody else gives them.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use tidewait_act::steer::{Claim, ClaimError, Holder};
use tidewait_model::steer::ports::{Choice, Chosen, LOWEST, Surroundings, TooFew};
use tidewait_model::{PortRange, PortSet, Settings, State};
use tidewait_observe::places::Place;
use tidewait_observe::procfs;
use tidewait_observe::sock_diag::{Family, Netlink, ProcNet, Request, Sockets};

use crate::exit::Usage;

/// How often a claim is tried anew: another process may choose at the same moment.
const TRIES: usize = 5;

const RANGE: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
const UNPRIVILEGED: &str = "net.ipv4.ip_unprivileged_port_start";

/// Ports that are given from now on.
pub struct Claimed {
    /// Which.
    pub chosen: Chosen,
    /// The kernel's own range.
    pub kernel: PortRange,
    /// What they were chosen by.
    choice: Choice,
    /// What keeps others from giving them.
    _claim: Claim,
}

/// Chooses and claims ports in the network namespace `place`.
///
/// # Errors
/// [`Usage`] where the choice leaves none, or another process steers them.
pub fn claim(place: &Place, choice: &Choice) -> anyhow::Result<Claimed> {
    place.enter(|| {
        let mut held = None;
        for _ in 0..TRIES {
            let steered = Holder::ports(&Claim::all(Path::new("/")).context("/proc/thread-self/net/unix")?);
            let around = Surroundings { steered, ..surroundings()? };
            let chosen = choice.ports(&around).map_err(|why| too_few(why, &around))?;
            match Claim::take(&chosen.ranges) {
                Ok(claim) => {
                    let choice = choice.clone();
                    return Ok(Claimed { chosen, kernel: around.kernel, choice, _claim: claim });
                }
                Err(error @ ClaimError::Held(_)) if *choice == Choice::Own => held = Some(error),
                Err(error @ ClaimError::Held(_)) => return Err(Usage(error.to_string()).into()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(anyhow!("{}", held.map_or_else(String::new, |error| error.to_string())))
    })?
}

impl Claimed {
    /// Those that may be given now, in the network namespace that the calling thread must be in.
    ///
    /// # Errors
    /// When what decides on them cannot be read.
    pub fn given(&self) -> anyhow::Result<PortSet> {
        Ok(self.choice.given(&self.chosen.ranges, &surroundings()?))
    }
}

/// What is to be known of it.
pub fn warnings(claimed: &Claimed) -> Vec<String> {
    let shared = claimed.chosen.shared;
    if shared == 0 {
        return Vec::new();
    }
    let (all, share) = (claimed.kernel.size(), f64::from(shared) / f64::from(claimed.kernel.size()));
    vec![format!(
        "{shared} of the {all} ports that connect() of others draws from ({:.0} %) are given here as well: while one is in use, TIME_WAIT \
         included, no program that is not steered gets it for any destination; ports beside {} cost nobody anything",
        share * 100.0,
        claimed.kernel
    )]
}

/// What decides on the ports of the calling thread's network namespace, but for those that others steer: they matter only until
/// the own ones are claimed. It is asked each second.
fn surroundings() -> anyhow::Result<Surroundings> {
    let (settings, _) = procfs::some_settings(Path::new("/"), &[RANGE, RESERVED, UNPRIVILEGED]);
    let kernel = settings
        .text(RANGE)
        .and_then(PortRange::parse)
        .context("net.ipv4.ip_local_port_range cannot be read: mount /proc")?;
    Ok(Surroundings {
        kernel,
        reserved: list(&settings, RESERVED),
        unprivileged: settings
            .number(UNPRIVILEGED)
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(1_024),
        listening: listening()?,
        steered: PortSet::default(),
    })
}

fn list(settings: &Settings, name: &str) -> PortSet {
    PortSet::parse_list(settings.text(name).unwrap_or_default()).0
}

/// The ports that are listened on in the calling thread's network namespace.
fn listening() -> anyhow::Result<PortSet> {
    let mut ports = PortSet::bitmap();
    let mut source: Box<dyn Sockets> = match Netlink::open() {
        Ok(netlink) => Box::new(netlink),
        Err(_) => Box::new(ProcNet::new(Path::new("/"))),
    };
    for family in Family::BOTH {
        let request = Request::all(family).states([State::Listen]);
        source.dump(&request, &mut |row| {
            ports.insert(row.local().port);
        })?;
    }
    Ok(ports)
}

fn too_few(why: TooFew, around: &Surroundings) -> anyhow::Error {
    Usage(match why {
        TooFew::Beside(ports) => format!(
            "beside ip_local_port_range ({}), from {LOWEST} on, only {ports} ports are left that nobody steers, listens on or has reserved: \
             name some by --range LOW-HIGH, or take those of the kernel by --range kernel, which neighbours need too",
            around.kernel
        ),
        TooFew::Named => format!(
            "--range: none of these ports may be given: they are reserved (ip_local_reserved_ports), listened on, or below {} \
             (ip_unprivileged_port_start)",
            around.unprivileged
        ),
    })
    .into()
}
