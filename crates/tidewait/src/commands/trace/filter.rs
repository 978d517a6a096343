//! What is to be told: which part of it the kernel sorts out, and which is sorted out here.

use std::path::Path;

use tidewait_model::trace::{Direction, Flow, Program};
use tidewait_model::{AddressFilter, Endpoint, Limit, State};
use tidewait_observe::procfs::Users;
use tidewait_observe::trace::{Event, Kind, Kinds, Telling};

use super::words;
use crate::cli::{Trace, Which};
use crate::exit::Usage;

/// Told unless something else is asked for.
const USUAL: [Kind; 5] = [Kind::Connect, Kind::Accept, Kind::Close, Kind::Refused, Kind::Failed];
/// Bytes that may wait in the kernel: some 70,000 events, or a third of a second at the fastest.
const BUFFER: u32 = 8 << 20;

/// What passes.
#[derive(Debug)]
pub struct Filter {
    kinds: Vec<Kind>,
    /// A mask of states that are entered; 0: any, or none.
    states: u32,
    pid: Option<u32>,
    netns: Option<u32>,
    unit: Option<String>,
    container: Option<String>,
    user: Option<String>,
    ends: Which,
}

impl Filter {
    /// What the options ask for. `netns`: the namespace that they mean, if it is one.
    ///
    /// # Errors
    /// [`Usage`] for a user that is not there, and for an address that no connection has.
    pub fn of(options: &Trace, netns: Option<u32>) -> anyhow::Result<Filter> {
        let user = options.user.as_deref().map(user_name).transpose()?;
        for (option, end) in [("--to", options.which.to), ("--from", options.which.from)] {
            must_be_an_end(option, end)?;
        }
        let kinds = if options.refused {
            vec![Kind::Refused, Kind::Failed]
        } else if options.all {
            Kind::ALL.to_vec()
        } else if options.state.is_empty() {
            USUAL.to_vec()
        } else {
            options.state.iter().flat_map(|state| words::kinds(*state)).copied().collect()
        };
        Ok(Filter {
            kinds,
            states: options.state.iter().fold(0, |mask, state| mask | state.mask()),
            pid: options.pid,
            netns,
            unit: options.unit.clone(),
            container: options.container.clone(),
            user,
            ends: options.which,
        })
    }

    /// What the kernel is to tell.
    pub fn telling(&self) -> Telling {
        Telling {
            kinds: Kinds::of(self.kinds.iter().copied()),
            pid: self.pid,
            local_port: self.ends.from.and_then(|from| from.port),
            remote: self.ends.to.map(|to| to.ip),
            remote_port: self.ends.to.and_then(|to| to.port),
            buffer: BUFFER,
        }
    }

    /// Whether a bind() that fails could pass. To follow it costs every system call a little.
    pub fn tells_binds(&self) -> bool {
        self.kinds.contains(&Kind::Refused) && self.states == 0 && self.ends.to.is_none()
    }

    /// Columns that the names of the events take.
    pub fn longest_word(&self) -> usize {
        self.kinds.iter().map(|kind| words::word(*kind).len()).max().unwrap_or(0)
    }

    /// Whether an event passes, whoever's it is; the kernel has looked at the rest.
    pub fn passes(&self, event: &Event) -> bool {
        (self.states == 0 || words::state(event).is_some_and(|state| self.enters(state)))
            && self.ends.from.is_none_or(|from| from.ip == event.local.address.ip)
            && self.ends.port.is_none_or(|port| {
                event.local.port == port || event.remote.is_some_and(|remote| remote.port == port)
            })
    }

    fn enters(&self, state: State) -> bool {
        self.states & state.mask() != 0
    }

    /// Whether what a program does passes.
    pub fn is_of(&self, program: Option<&Program>) -> bool {
        if self.pid.is_none() && self.unit.is_none() && self.container.is_none() && self.user.is_none() {
            return true;
        }
        let Some(program) = program else { return false };
        let is = |given: &Option<String>, found: &Option<String>, same: fn(&str, &str) -> bool| {
            given.as_deref().is_none_or(|given| found.as_deref().is_some_and(|found| same(given, found)))
        };
        self.pid.is_none_or(|pid| program.pid == Some(pid))
            && is(&self.unit, &program.unit, is_unit)
            && is(&self.container, &program.container, is_container)
            && is(&self.user, &program.user, |given, found| given == found)
    }

    /// Whether a row of counts passes. Of what it does not tell apart it passes nothing: [`Filter::uncounted`].
    pub fn keeps(&self, netns: u32, flow: &Flow) -> bool {
        let is_end = |filter: AddressFilter, end: Option<Endpoint>| end.is_some_and(|end| filter.passes(end));
        // Outgoing connections are counted without their local port, incoming ones without their peer.
        let outgoing = flow.direction == Direction::Outgoing;
        let local = flow.local.map(|address| Endpoint { address, port: flow.port });
        self.netns.is_none_or(|wanted| wanted == netns)
            && self.is_of(flow.program.as_ref())
            && self.ends.to.is_none_or(|to| is_end(to, flow.remote))
            && self.ends.from.is_none_or(|from| is_end(from, local))
            && self.ends.port.is_none_or(|port| {
                if outgoing {
                    flow.remote.is_some_and(|remote| remote.port == port)
                } else {
                    flow.port == port
                }
            })
            && self.kinds.iter().any(|kind| {
                let counts = &flow.counts;
                let happened = match kind {
                    Kind::Connect | Kind::Established => counts.connects,
                    Kind::Accept => counts.accepts,
                    Kind::PeerClosed => counts.closed_there,
                    Kind::Close => self.ended(flow),
                    Kind::TimeWait => counts.time_wait,
                    Kind::Refused => counts.no_port,
                    Kind::Failed => counts.refused + counts.unanswered + counts.failed,
                };
                happened > 0
            })
    }

    /// The connections that ended in a way that is asked for.
    fn ended(&self, flow: &Flow) -> u64 {
        let counts = &flow.counts;
        if self.states == 0 {
            return counts.closed();
        }
        let of = |state, count| if self.enters(state) { count } else { 0 };
        of(State::FinWait1, counts.closed_here)
            + of(State::LastAck, counts.closed_there)
            + of(State::Close, counts.aborted_here + counts.aborted_there)
    }

    /// What the summary leaves out, because the kernel does not count it apart.
    pub fn uncounted(&self) -> Vec<Limit> {
        let mut limits = Vec::new();
        let mut limit = |what: &str, why: &str| limits.push(Limit::new(what, why).of_detail());
        if self.ends.to.is_some() {
            limit("summary of incoming connections", "they are not counted by peer, as --to would need");
        }
        if self.ends.from.is_some_and(|from| from.port.is_some()) {
            limit(
                "summary of outgoing connections",
                "they are not counted by local port, as this --from would need",
            );
        }
        if self.ends.port.is_some() {
            limit(
                "summary by the other port",
                "outgoing connections are counted by their remote port alone, incoming ones by their local port",
            );
        }
        limits
    }
}

fn is_unit(given: &str, unit: &str) -> bool {
    unit == given || unit.strip_suffix(".service") == Some(given)
}

/// `docker ps` shows 12 digits of an id, and so does the program; people give more or fewer.
fn is_container(given: &str, container: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    given == container
        || (container.len() == 12
            && digits(container)
            && digits(given)
            && (container.starts_with(given) || given.starts_with(container)))
}

/// `ss -l` shows services at the unspecified address; the connections that they take have another.
fn must_be_an_end(option: &str, end: Option<AddressFilter>) -> Result<(), Usage> {
    let Some(end) = end.filter(|end| end.ip.is_unspecified()) else { return Ok(()) };
    let instead = match end.port {
        Some(port) => format!("for any address, give --port {port}"),
        None => format!("for any address, leave {option} out"),
    };
    Err(Usage(format!("{option} {end}: no connection has the address {}; {instead}", end.ip)))
}

/// The name that programs of this user are told with.
fn user_name(given: &str) -> Result<String, Usage> {
    if let Ok(uid) = given.parse::<u32>() {
        return Ok(Users::read(Path::new("/")).name(uid));
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if passwd.lines().any(|line| line.split(':').next() == Some(given)) {
        return Ok(given.to_owned());
    }
    Err(Usage(format!(
        "--user {given}: /etc/passwd has no such user; one known elsewhere is given by number"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_may_be_given_without_its_kind() {
        assert!(is_unit("squid", "squid.service") && is_unit("squid.service", "squid.service"));
        assert!(!is_unit("squid", "squid.socket") && !is_unit("squi", "squid.service"));
    }

    #[test]
    fn a_container_is_known_by_its_name_or_as_much_of_its_id_as_is_given() {
        let long = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for given in ["0123", "0123456789ab", long] {
            assert!(is_container(given, "0123456789ab"), "{given}");
        }
        assert!(is_container("web", "web"));
        assert!(!is_container("we", "web") && !is_container("0124", "0123456789ab"));
    }
}
