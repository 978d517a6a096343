//! What the tracer showed of the namespaces that were looked into, beside what their sockets show now.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidewait_model::trace::{Counts, Direction, Flow, Traced};
use tidewait_model::{AddressFilter, Limit, NamespaceFacts, Owner, OwnerBasis, Timing};

use super::timing;
use crate::census::Window;
use crate::census::joined::owners;
use crate::trace::picture::{grouped, since};
use crate::trace::{Losses, Picture, Tracer, Wish};

/// A running tracer, and the window that is told of: [`super::survey_traced`] may be called with it again and again.
///
/// Connections are counted over a window that is as long as was asked for, or up to twice as long where looks are taken
/// more often. Sockets in TIME_WAIT have their owners however long ago they were born, as long as it was traced.
pub struct Tracing {
    tracer: Tracer,
    window: Duration,
    since: Instant,
    /// How long it took to start.
    start: Duration,
    /// What had been counted when the window began, and a later reading, for the window after it.
    first: Reading,
    next: Reading,
}

#[derive(Clone)]
struct Reading {
    at: Instant,
    flows: Vec<(u32, Flow)>,
}

impl Tracing {
    /// Begins to trace; `window`: over how long connections are counted.
    ///
    /// # Errors
    /// A limit that says what is missing.
    pub fn start(wish: &Wish, window: Duration) -> Result<Tracing, Limit> {
        let begin = Instant::now();
        let tracer = Tracer::start(wish).map_err(|refusal| refusal.limit)?;
        let since = Instant::now();
        let nothing = Reading { at: since, flows: Vec::new() };
        Ok(Tracing { tracer, window, since, start: since - begin, first: nothing.clone(), next: nothing })
    }

    /// What there is to tell now.
    pub(super) fn look(&mut self) -> Result<Seen, Limit> {
        let until = Instant::now();
        let mut picture = self.tracer.picture()?;
        let now = Reading { at: until, flows: std::mem::take(&mut picture.flows) };
        if until - self.next.at >= self.window {
            self.first = std::mem::replace(&mut self.next, now.clone());
        }
        let flows = since(&now.flows, &self.first.flows);
        let window = until - self.first.at;
        let limits = self.tracer.limits().to_vec();
        let row = |step: &str, took: Duration, items| Timing {
            step: step.to_owned(),
            seconds: took.as_secs_f64(),
            items,
        };
        let timings = vec![
            row("start of the tracer", self.start, 0),
            row("tracing", window, flows.iter().map(|(_, flow)| flow.counts.connects).sum()),
            timing("reading the trace", until, (now.flows.len() + picture.waiting.len()) as u64),
        ];
        Ok(Seen { picture, flows, window, since: self.since, until, limits, timings })
    }
}

/// What the tracer showed at one look.
pub(super) struct Seen {
    picture: Picture,
    flows: Vec<(u32, Flow)>,
    window: Duration,
    since: Instant,
    until: Instant,
    /// What could not be followed.
    limits: Vec<Limit>,
    /// Where the time went.
    pub(super) timings: Vec<Timing>,
}

impl Seen {
    /// What the join of this namespace's sockets needs.
    pub(super) fn window(&self, facts: &NamespaceFacts) -> Window<'_> {
        Window {
            picture: &self.picture,
            since: self.since,
            until: self.until,
            time_wait: Duration::from_secs(facts.settings.time_wait_seconds().into()),
        }
    }

    /// What could not be followed, kept or told, as far as it matters to what was found in the namespaces: notes of sockets that
    /// are gone, or that nobody looked at, are not missed.
    pub(super) fn limits<'a>(&self, namespaces: impl Iterator<Item = &'a NamespaceFacts>) -> Vec<Limit> {
        let births = namespaces.filter_map(|facts| facts.traced.as_ref()).map(|traced| traced.births);
        let unowned = births.map(|births| births.born.saturating_sub(births.attributed)).sum();
        let losses = self.picture.losses;
        let losses = Losses { waiting: losses.waiting.min(unowned), ..losses };
        self.limits.iter().cloned().chain(losses.limits()).collect()
    }

    /// Fills in the connections that were traced in the namespace, those with `to` as their peer, and the owners of
    /// destinations whose ports are held by live connections that were opened while it was traced.
    pub(super) fn tell(&self, facts: &mut NamespaceFacts, to: Option<AddressFilter>) {
        let here = self.flows.iter().filter(|(netns, _)| u64::from(*netns) == facts.inode);
        let flows = grouped(here.map(|(_, flow)| flow.clone()).filter(|flow| is_asked_for(flow, to)));
        let mut opened: HashMap<_, Vec<&Flow>> = HashMap::new();
        for flow in flows.iter().filter(|flow| flow.direction == Direction::Outgoing) {
            opened.entry((flow.local, flow.remote)).or_default().push(flow);
        }
        for destination in &mut facts.census.destinations {
            let states = &destination.occupancy.states;
            // Its ports are held by TIME_WAIT for the greater part: those say whose it is, or that it is not known.
            if states.total() > 0 && states.total() >= 2 * states.live() {
                continue;
            }
            let key = (Some(destination.source), Some(destination.peer));
            let flows = opened.get(&key).map(Vec::as_slice).unwrap_or_default();
            destination.owners = openers(flows, states.live());
        }
        let births = facts.traced.take().unwrap_or_default();
        facts.traced = Some(Traced { seconds: self.window.as_secs_f64(), flows, ..births });
    }
}

/// Who opened the connections of one destination, of which `live` are there now. Nobody where many of those are older
/// than the trace: they may be another's.
fn openers(flows: &[&Flow], live: u64) -> Vec<Owner> {
    let mut all = Counts::default();
    flows.iter().for_each(|flow| all.merge(&flow.counts));
    let ended = all.closed() + all.no_port + all.refused + all.unanswered + all.failed;
    let older = live.saturating_sub(all.connects.saturating_sub(ended));
    if older > all.connects / 10 {
        return Vec::new();
    }
    let opened = flows.iter().filter(|flow| flow.counts.connects > 0);
    owners(opened.filter_map(|flow| Some((flow.program.clone()?, flow.counts.connects))), all.connects)
}

/// Whether a flow is one of connections with this peer. Whose incoming connections came from where is not counted.
fn is_asked_for(flow: &Flow, to: Option<AddressFilter>) -> bool {
    let Some(to) = to else { return true };
    flow.remote
        .is_some_and(|remote| remote.address.ip == to.ip && to.port.is_none_or(|port| port == remote.port))
}

/// Whether these owners are known for certain, so that no guess takes their place.
pub(super) fn are_traced(owners: &[Owner]) -> bool {
    owners.iter().any(|owner| owner.how == OwnerBasis::Traced)
}

#[cfg(test)]
mod tests {
    use tidewait_model::trace::Program;

    use super::*;

    fn flow(command: &str, connects: u64, closed_there: u64, refused: u64) -> Flow {
        let program = Program { command: command.to_owned(), ..Program::default() };
        let counts = Counts { connects, closed_there, refused, ..Counts::default() };
        Flow { program: Some(program), counts, ..Flow::default() }
    }

    fn opened(flows: &[Flow], live: u64) -> Vec<(String, f64)> {
        let owners = openers(&flows.iter().collect::<Vec<_>>(), live);
        owners.into_iter().map(|owner| (owner.command, owner.share)).collect()
    }

    #[test]
    fn connections_belong_to_who_opened_them_unless_many_are_older() {
        let flows = [flow("app", 75, 75, 0), flow("job", 25, 5, 20)];
        let shares = [("app".to_owned(), 0.75), ("job".to_owned(), 0.25)];
        assert_eq!(opened(&flows, 0), shares);
        // As many as may be in the course of closing.
        assert_eq!(opened(&flows, 10), shares);
        assert_eq!(opened(&flows, 11), []);
        // A pool that was opened while it was traced.
        assert_eq!(opened(&[flow("app", 200, 0, 0)], 200), [("app".to_owned(), 1.0)]);
        assert_eq!(opened(&[flow("app", 3, 0, 0)], 200), []);
    }

    #[test]
    fn without_a_connect_there_is_nobody() {
        assert_eq!(opened(&[], 0), []);
        assert_eq!(opened(&[flow("app", 0, 7, 0)], 0), []);
    }
}
