//! The network namespaces: the busy ones in full, the calm ones in a line, the idle ones in one line for all.

use std::collections::{BTreeMap, BTreeSet};

use tidewait_model::State;
use tidewait_model::report::{Incoming, Namespace, Ports, Report, Severity};

use super::line::{Line, Paint};
use super::page::Paper;
use super::{counters, destinations, lingering, listeners, number, owner, traced};

/// With more busy namespaces than this, calm ones get one line.
const MANY: usize = 4;
/// A namespace is calm if no destination is fuller than this and nothing was found in it.
const CALM: f64 = 0.1;

/// Every namespace of the report, each in the room it needs.
pub fn write(paper: &mut Paper<'_>, report: &Report) {
    let (idle, busy): (Vec<&Namespace>, Vec<&Namespace>) =
        report.namespaces.iter().partition(|namespace| report.namespaces.len() > 1 && is_idle(namespace));
    let (calm, shown): (Vec<&Namespace>, Vec<&Namespace>) =
        busy.iter().partition(|namespace| busy.len() > MANY && is_calm(report, namespace));
    for namespace in shown {
        section(paper, namespace);
    }
    rates(paper, report);
    if !calm.is_empty() {
        paper.heading(&format!(
            "{} with little going on",
            number::of(calm.len() as u64, "namespace", "namespaces")
        ));
        let top = paper.page().top;
        for namespace in calm.iter().take(top) {
            calm_line(paper, namespace);
        }
        let hidden = calm.len().saturating_sub(top) as u64;
        if hidden > 0 {
            let most = calm.iter().skip(top).filter_map(|namespace| fullest(namespace)).fold(0.0, f64::max);
            let text =
                format!("and {} more, no destination above {}", number::count(hidden), number::percent(most));
            paper.prose(Line::plain("  "), Paint::Faint, &text);
        }
    }
    if !idle.is_empty() {
        paper.gap();
        let names: Vec<&str> = idle.iter().map(|namespace| namespace.name.as_str()).collect();
        let lead =
            format!("{} without connections: ", number::of(idle.len() as u64, "namespace", "namespaces"));
        paper.line(Line::of(Paint::Faint, lead + &names.join(", ")));
    }
}

/// What the rates on the page rest on, said once.
fn rates(paper: &mut Paper<'_>, report: &Report) {
    let rows = report.namespaces.iter().flat_map(|namespace| &namespace.destinations);
    let grounds: BTreeSet<&str> =
        rows.map(|row| row.rate_how.as_str()).filter(|ground| !ground.is_empty()).collect();
    if !grounds.is_empty() {
        paper.gap();
        let text = grounds.into_iter().collect::<Vec<_>>().join("; or ");
        paper.prose(Line::of(Paint::Faint, "rates: "), Paint::Faint, &text);
    }
}

fn is_idle(namespace: &Namespace) -> bool {
    let waiting = namespace.states[State::Listen] + namespace.states[State::BoundInactive];
    namespace.destinations.is_empty()
        && namespace.incoming.iter().all(|incoming| incoming.states.total() == 0)
        && namespace.states.total() == waiting
        && !counters::any(namespace)
        && namespace.traced.as_ref().is_none_or(|traced| traced.connections.is_empty())
}

fn is_calm(report: &Report, namespace: &Namespace) -> bool {
    let found = report
        .findings
        .iter()
        .any(|finding| finding.namespace == namespace.name && finding.severity < Severity::Notice);
    let in_sight = namespace.destinations.iter().any(|destination| {
        destination.seconds_to_half.is_some()
            || destination.seconds_to_exhaustion.is_some()
            || destination.ports_usable.is_none()
    });
    let held_up = namespace.listeners.iter().any(listeners::has_queue) || !namespace.lingering.is_empty();
    !found && !in_sight && !held_up && !counters::any(namespace) && fullest(namespace).unwrap_or(0.0) < CALM
}

fn fullest(namespace: &Namespace) -> Option<f64> {
    namespace.destinations.iter().filter_map(destinations::fill).max_by(f64::total_cmp)
}

/// `ns7  12 destinations, the fullest at 3 %  TW 120 ESTAB 4`
fn calm_line(paper: &mut Paper<'_>, namespace: &Namespace) {
    let total = namespace.destinations_total.max(namespace.destinations.len() as u64);
    let mut facts = vec![Line::of(Paint::Strong, &namespace.name)];
    facts.push(Line::plain(match fullest(namespace) {
        Some(fill) if total == 1 => format!("1 destination at {}", number::percent(fill)),
        Some(fill) => format!(
            "{}, the fullest at {}",
            number::of(total, "destination", "destinations"),
            number::percent(fill)
        ),
        None => number::of(total, "destination", "destinations"),
    }));
    facts.push(Line::of(Paint::Faint, destinations::states(&namespace.states)));
    paper.flow(2, facts);
}

fn section(paper: &mut Paper<'_>, namespace: &Namespace) {
    paper.gap();
    let name = Line::of(Paint::Strong, &namespace.name).clip(paper.width(), paper.ellipsis());
    let ports = match &namespace.ports {
        Some(ports) => Line::plain(port_range(ports)),
        None => Line::of(Paint::Warning, "port range not known"),
    };
    let time_wait = Line::plain(format!("TIME_WAIT {} s", namespace.time_wait_seconds));
    paper.flow(0, [name, ports, time_wait]);
    steered(paper, namespace);
    sockets(paper, namespace);
    destinations::write(paper, namespace);
    incoming(paper, namespace);
    listeners::write(paper, &namespace.listeners);
    lingering::write(paper, &namespace.lingering);
    closed_here(paper, namespace);
    traced::write(paper, namespace);
    counters::write(paper, namespace);
}

/// `ports 32768-60999: 28,227 usable (3 reserved, 2 bound)`
fn port_range(ports: &Ports) -> String {
    let mut taken = Vec::new();
    if ports.reserved > 0 {
        taken.push(format!("{} reserved", number::count(ports.reserved.into())));
    }
    if ports.bound > 0 {
        taken.push(format!("{} held by bind()", number::count(ports.bound.into())));
    }
    let taken = if taken.is_empty() { String::new() } else { format!(" ({})", taken.join(", ")) };
    format!("ports {}-{}: {} usable{taken}", ports.low, ports.high, number::count(ports.usable.into()))
}

/// `steered  22268-29999, 61000-65535 for connect(), by process 4711`
fn steered(paper: &mut Paper<'_>, namespace: &Namespace) {
    let mut by_process: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for steered in &namespace.steered {
        by_process.entry(steered.pid).or_default().push(format!("{}-{}", steered.low, steered.high));
    }
    for (pid, ranges) in by_process {
        let text = format!("ports {} are given by tidewait steer, process {pid}", ranges.join(", "));
        paper.prose(Line::plain("  steered  "), Paint::Plain, &text);
    }
}

fn sockets(paper: &mut Paper<'_>, namespace: &Namespace) {
    let mut counts: Vec<(State, u64)> = namespace.states.iter().filter(|(_, count)| *count > 0).collect();
    counts.sort_by_key(|(state, count)| (std::cmp::Reverse(*count), *state));
    if counts.is_empty() {
        paper.line(Line::of(Paint::Faint, "  no sockets"));
        return;
    }
    paper.flow(
        2,
        counts.into_iter().map(|(state, count)| {
            Line::of(Paint::Faint, format!("{} ", state.title())).with(Paint::Plain, number::count(count))
        }),
    );
}

fn incoming(paper: &mut Paper<'_>, namespace: &Namespace) {
    let services: Vec<&Incoming> =
        namespace.incoming.iter().filter(|service| service.states.total() > 0).collect();
    if services.is_empty() {
        return;
    }
    let lead = Line::plain("  ").with(Paint::Strong, "incoming  ");
    paper.prose(lead, Paint::Faint, "TIME_WAIT here costs memory, no ports");
    let top = paper.page().top;
    let widest =
        services.iter().take(top).map(|service| Line::plain(&service.local).width()).max().unwrap_or(0);
    for service in services.iter().take(top) {
        let local = Line::plain(&service.local);
        let local = if widest * 2 < paper.width() { local.pad(widest) } else { local };
        let mut facts = vec![local, Line::plain(destinations::states(&service.states))];
        let rate = closed_here_rate(service, namespace.traced.is_some());
        if rate > 0.0 {
            facts.push(Line::plain(format!("{}/s closed here", number::rate(rate))));
        }
        if !service.listening {
            facts.push(Line::of(Paint::Faint, "no listener now"));
        }
        facts.push(Line::of(
            Paint::Faint,
            owner::list_of(&service.owners, &service.states, service.traced.as_ref()),
        ));
        paper.flow(4, facts);
    }
    let hidden = services.len().saturating_sub(top) as u64;
    if hidden > 0 {
        let text = format!("and {}", number::of(hidden, "more service", "more services"));
        paper.prose(Line::plain("    "), Paint::Faint, &text);
    }
}

/// Connections a second that close here first: those that were traced, if they were, else by the timers. What was born long
/// ago, and what was taken over, makes the timers' mean of a minute another one.
fn closed_here_rate(service: &Incoming, traced: bool) -> f64 {
    match &service.traced {
        Some(traced) => traced.closed_here_per_second,
        None if traced => 0.0,
        None => service.closed_here_per_second,
    }
}

fn closed_here(paper: &mut Paper<'_>, namespace: &Namespace) {
    let closers = owner::list(&namespace.closed_here.by_owner);
    if !closers.is_empty() {
        let lead = Line::plain("  ").with(Paint::Strong, "closes first  ");
        paper.prose(lead, Paint::Plain, &closers);
    }
}
