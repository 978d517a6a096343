//! connect() and bind() calls that found no local port while it was traced: what happened, whatever the arithmetic says.

use tidewait_model::Owner;
use tidewait_model::report::Severity;
use tidewait_model::trace::Flow;

use super::{bind_pool_exhausted, ports_exhausted, taken_by_others};
use crate::findings::opener::{refused, window};
use crate::findings::remedy::Step;
use crate::findings::view::{Found, View};
use crate::findings::words::{things, who};
use crate::programs::Need;
use crate::traced::sum;

/// What was refused towards one destination, or for one source.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// How often, and in what time: `3 times in 10 s`.
    pub(super) often: String,
    /// The same as a number.
    pub(super) times: u64,
    /// The sentence of the evidence.
    pub(super) sentence: String,
    /// Who was refused most often.
    pub(super) owner: Option<Owner>,
}

impl Refusal {
    fn new(flows: &[&Flow], seconds: f64, call: &str, error: &str) -> Refusal {
        let (owner, sentence) = refused(flows, seconds, call, error);
        let times = sum(flows).no_port;
        let often = format!("{} in {}", things(times, "time", "times"), window(seconds));
        Refusal { often, times, sentence, owner }
    }

    /// What connect() was refused from `source` to `destination`, told or not.
    pub(super) fn towards(view: &View<'_>, source: &str, destination: &str) -> Option<Refusal> {
        let traced = view.flows.as_ref()?;
        let flows = traced.to(source, destination);
        let refused = sum(flows).no_port > 0;
        refused.then(|| Refusal::new(flows, traced.seconds, "connect()", "EADDRNOTAVAIL"))
    }
}

/// What was refused and has not been told yet.
pub(super) struct Refusals {
    connects: Vec<(String, String, Refusal)>,
    binds: Vec<(String, Refusal)>,
}

impl Refusals {
    pub(super) fn of(view: &View<'_>) -> Refusals {
        let Some(flows) = &view.flows else { return Refusals { connects: Vec::new(), binds: Vec::new() } };
        let seconds = flows.seconds;
        let connects = flows.refused().into_iter().map(|(source, to, flows)| {
            (source.to_owned(), to.to_owned(), Refusal::new(&flows, seconds, "connect()", "EADDRNOTAVAIL"))
        });
        let binds = flows.refused_binds().into_iter().map(|(source, flows)| {
            (source.to_owned(), Refusal::new(&flows, seconds, "bind()", "EADDRINUSE"))
        });
        Refusals { connects: connects.collect(), binds: binds.collect() }
    }

    /// What connect() was refused from `source` to `destination`.
    pub(super) fn take(&mut self, source: &str, destination: &str) -> Option<Refusal> {
        let at = self
            .connects
            .iter()
            .position(|(from, to, _)| to == destination && (from == source || nowhere(from)))?;
        Some(self.connects.remove(at).2)
    }

    /// What bind() was refused for `source`.
    pub(super) fn take_binds(&mut self, source: &str) -> Option<Refusal> {
        let at = self.binds.iter().position(|(from, _)| from == source)?;
        Some(self.binds.remove(at).1)
    }

    /// What belongs to no row of the report: a finding each.
    pub(super) fn rest(self, view: &View<'_>) -> Vec<Found> {
        let connects = self.connects.into_iter().map(|(source, to, refusal)| {
            let to = if to.is_empty() { "destinations that were too many to be told apart" } else { &to };
            let subject = if nowhere(&source) { to.to_owned() } else { format!("{source} -> {to}") };
            let summary = format!(
                "connect() found no local port for {subject} {} (EADDRNOTAVAIL, \"Cannot assign requested address\")",
                refusal.often
            );
            (&ports_exhausted::KIND, subject, summary, refusal)
        });
        let (taken, binds): (Vec<_>, Vec<_>) = self
            .binds
            .into_iter()
            .map(|(source, refusal)| (taken_by_others::check(view, &source, &refusal), source, refusal))
            .partition(|(found, ..)| found.is_some());
        let taken = taken.into_iter().filter_map(|(found, ..)| found);
        let binds = binds.into_iter().map(|(_, source, refusal)| {
            let at = if nowhere(&source) { "any address" } else { &source };
            let summary = format!(
                "bind() found no port for {at} {} (EADDRINUSE, \"Address already in use\")",
                refusal.often
            );
            (&bind_pool_exhausted::KIND, format!("{at} -> any destination"), summary, refusal)
        });
        connects
            .chain(binds)
            .map(|(kind, subject, summary, refusal)| {
                let owner = refusal.owner.as_ref();
                let reuse = format!(
                    "let {} keep connections open and use them again (keep-alive, a connection pool)",
                    owner.map_or_else(|| "the program".to_owned(), who)
                );
                let reuse =
                    Step::new("reuse-connections", reuse, "a connection that is kept needs no new port")
                        .configuration_or_hint(owner, Need::ReuseConnections)
                        .risk("none for the kernel; the peer has to allow long connections");
                view.found(kind, Severity::Critical, subject, summary)
                    .evidence([refusal.sentence.clone(), OWN_RANGE.to_owned()])
                    .owner(owner)
                    .remedies([Some(own_range(owner)), Some(reuse)])
            })
            .chain(taken)
            .collect()
    }
}

/// Whether an address says nothing of where a connection came from.
fn nowhere(source: &str) -> bool {
    matches!(source, "" | "0.0.0.0" | "::")
}

/// How ports can be lacking while some are free.
pub(super) const OWN_RANGE: &str = "a program can narrow the range of its own sockets (IP_LOCAL_PORT_RANGE, Linux 6.3), and a burst \
    can take every port for a moment";

/// To look at what the program asks for.
pub(super) fn own_range(owner: Option<&Owner>) -> Step {
    let name = owner.map_or_else(|| "the program that is refused".to_owned(), who);
    Step::new(
        "own-port-range",
        format!("see whether {name} narrows its range (setsockopt IP_LOCAL_PORT_RANGE), and let it take a wider one"),
        "it then finds the ports that are free; net.ipv4.ip_local_port_range does not widen what a program has narrowed",
    )
    .risk("it may have been narrowed to keep clear of others, or of a rule of the firewall")
}
