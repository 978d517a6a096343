//! Who opens connections and who closes them first, as tracing saw it, in the sentences of findings.

use std::collections::HashMap;

use tidewait_model::trace::{Counts, Flow, Program};
use tidewait_model::{Owner, OwnerBasis};

use super::view::View;
use super::words::{count, duration, figure, listed, percent, things, who};
use crate::traced::{by_program, closed_here_share, opened, owner, sum};

/// How many programs are told of, one sentence each.
const TOLD: usize = 2;
/// Of the connections that either side closed, from this share on this side closes first, or up to it the peer does.
const FIRST: f64 = 0.9;

/// What one program did while it was traced.
pub(crate) struct Opener {
    /// Who, with the share of the connections at hand that it opened.
    pub(crate) owner: Owner,
    /// The same with the number of processes, where they are many.
    name: String,
    /// How many processes it was; `None` where they were too many to be told apart.
    processes: Option<u32>,
    counts: Counts,
    /// connect() and bind() calls of it that found no port.
    in_vain: u64,
    /// For how long it was traced, in seconds.
    seconds: f64,
}

impl Opener {
    /// Whether it is `owner`, whatever their shares.
    pub(crate) fn is(&self, owner: &Owner) -> bool {
        let mine = &self.owner;
        (mine.pid, &mine.command, &mine.unit, &mine.container)
            == (owner.pid, &owner.command, &owner.unit, &owner.container)
    }

    /// Connections that came about, per second.
    pub(crate) fn rate(&self) -> f64 {
        opened(&self.counts) as f64 / self.seconds
    }

    /// What it tried a second, with or without a port: a program that tries again at once is counted each time.
    fn tried(&self) -> f64 {
        opened(&self.counts).saturating_add(self.in_vain) as f64 / self.seconds
    }

    /// Counts its bind() calls among `binds`, which found no port, as tried.
    pub(crate) fn add_binds(&mut self, binds: &[&Flow]) {
        let owner = &self.owner;
        let mine = |program: &Program| {
            (&program.command, &program.unit, &program.container)
                == (&owner.command, &owner.unit, &owner.container)
                && (owner.pid.is_none() || program.pid == owner.pid)
        };
        let binds = binds.iter().filter(|flow| flow.program.as_ref().is_some_and(mine));
        self.in_vain = binds.map(|flow| flow.counts.no_port).fold(self.in_vain, u64::saturating_add);
    }

    /// Connections a second that closed here first.
    pub(crate) fn closed_here_rate(&self) -> f64 {
        self.counts.closed_here as f64 / self.seconds
    }

    /// How long they lived on average, in seconds.
    pub(crate) fn lifetime(&self) -> Option<f64> {
        self.counts.mean_lifetime()
    }

    /// Those that closed here first, of those that either side closed.
    pub(crate) fn closed_here(&self) -> Option<f64> {
        closed_here_share(&self.counts)
    }

    /// Whether the peer closes nearly all of them, so that the TIME_WAIT is there.
    pub(crate) fn closes_second(&self) -> bool {
        closes_second(self.closed_here())
    }

    /// Whether its processes open a connection or two each and end, so that none of them has one to keep.
    pub(crate) fn short_lived(&self) -> bool {
        let opened = opened(&self.counts);
        opened >= 10
            && self.processes.is_none_or(|processes| opened <= u64::from(processes).saturating_mul(2))
    }

    /// What keeping connections open would save, where begin and end of enough of them were seen. A connection that lives
    /// `l` seconds and comes `r` times a second is open `r * l` times over on average (Little's law); each one closed here
    /// holds its port for `time_wait` seconds more. What found no port counts: it is what the ports are short of, and retries
    /// make it more than there would be, so that all of it is a most.
    pub(crate) fn reuse(&self, time_wait: u32) -> Option<String> {
        let (rate, lifetime, here) = (self.tried(), self.lifetime()?, self.closed_here().unwrap_or(0.0));
        if rate < 1.0 {
            return None;
        }
        let open = rate * lifetime;
        let held = open + rate * here * f64::from(time_wait);
        let pool = (open.ceil() as u64).max(1);
        let saved = if here <= 1.0 - FIRST {
            "the peer closes them first, so that each port is free at once: fewer handshakes, hardly fewer ports".to_owned()
        } else {
            let held = held.ceil() as u64;
            let short = match self.in_vain {
                0 => format!("the short connections need {}", count(held)),
                _ => format!("short ones need up to {} for all that was tried", count(held)),
            };
            format!("it needs {} where {short}, TIME_WAIT included", things(pool, "port", "ports"))
        };
        let at_a_time =
            if open < 1.0 { "less than one is".to_owned() } else { format!("{} are", figure(open)) };
        let (saves, work) = match self.in_vain {
            0 => (String::new(), "the same work"),
            _ => (format!(", of {} tried", figure(rate)), "the work of all that was tried"),
        };
        Some(format!(
            "saves {} new connections a second{saves}: as they live {} each, {at_a_time} open at a time on average, and a pool \
             of {}, with room for peaks, does {work}; {saved}",
            figure(self.rate()),
            span(lifetime),
            count(pool),
        ))
    }

    /// `squid[812] opened 482 connections a second; of 4,810 that ended 97 % were closed here first; ...`
    fn sentence(&self) -> String {
        let counts = &self.counts;
        let mut parts = Vec::new();
        if opened(counts) > 0 {
            let what = if counts.connects == 0 { "accepted" } else { "opened" };
            let tried = match self.in_vain {
                0 => String::new(),
                _ => format!(", of {} tried", figure(self.tried())),
            };
            parts.push(format!("{what} {} connections a second{tried}", figure(self.rate())));
        }
        let ended = counts.closed();
        if ended > 0 {
            let part = |number: u64| percent(number, ended);
            let mut how = vec![format!("{} were closed here first", part(counts.closed_here))];
            if counts.closed_there > 0 {
                how.push(format!("{} by the peer", part(counts.closed_there)));
            }
            let cut = counts.aborted_here.saturating_add(counts.aborted_there);
            if cut > 0 {
                how.push(format!("{} cut off", part(cut)));
            }
            parts.push(format!("of {} that ended {}", count(ended), how.join(", ")));
        }
        parts.extend(self.lifetime().map(|lifetime| format!("they lived {} on average", span(lifetime))));
        format!("{} {}", self.name, parts.join("; "))
    }
}

/// Whether the peer closes nearly all, where `share` of those that either side closed were closed here first.
pub(crate) fn closes_second(share: Option<f64>) -> bool {
    share.is_some_and(|share| share <= 1.0 - FIRST)
}

/// The programs behind `flows`, those that closed most connections first before the others, then those that opened most.
pub(crate) fn openers(flows: &[&Flow], seconds: f64) -> Vec<Opener> {
    let all = opened(&sum(flows));
    let mut programs = alike(flows, |counts| (counts.closed_here, opened(counts)));
    programs.retain(|(_, counts)| opened(counts) > 0 || counts.closed() > 0);
    programs
        .into_iter()
        .map(|(program, counts)| Opener {
            owner: owner(&program, (opened(&counts) as f64 / all.max(1) as f64 * 1e4).round() / 1e4),
            name: name(&program),
            processes: program.processes.or(program.pid.map(|_| 1)),
            in_vain: counts.no_port,
            counts,
            seconds,
        })
        .collect()
}

/// The programs behind `flows`, those with most by `weight` first. Processes alike, as the workers of a server are, share
/// their cause and their remedy: they are one, unless one of them does nearly all.
fn alike(flows: &[&Flow], weight: fn(&Counts) -> (u64, u64)) -> Vec<(Program, Counts)> {
    let mut kinds: Vec<(Program, Vec<(&Program, Counts)>)> = Vec::new();
    let mut known: HashMap<Program, usize> = HashMap::new();
    for (program, counts) in by_program(flows) {
        let Some(program) = program else { continue };
        let kind = Program { pid: None, processes: None, ..program.clone() };
        let at = *known.entry(kind.clone()).or_insert_with(|| {
            kinds.push((kind, Vec::new()));
            kinds.len() - 1
        });
        if let Some((_, processes)) = kinds.get_mut(at) {
            processes.push((program, counts));
        }
    }
    let mut programs = Vec::new();
    for (kind, processes) in kinds {
        let mut all = Counts::default();
        processes.iter().for_each(|(_, counts)| all.merge(counts));
        let foremost = processes.iter().map(|(_, counts)| weight(counts)).max().unwrap_or_default();
        let whole = weight(&all);
        let (most, of) = if whole.0 > 0 { (foremost.0, whole.0) } else { (foremost.1, whole.1) };
        if processes.len() < 2 || most as f64 >= FIRST * of as f64 {
            programs.extend(processes.into_iter().map(|(program, counts)| (program.clone(), counts)));
        } else {
            let number =
                processes.iter().map(|(program, _)| program.processes.or(program.pid.map(|_| 1))).sum();
            programs.push((Program { processes: number, ..kind }, all));
        }
    }
    programs.sort_by_key(|(_, counts)| std::cmp::Reverse(weight(counts)));
    programs
}

/// What the first programs did, a sentence each.
pub(crate) fn sentences(openers: &[Opener]) -> Vec<String> {
    let told = openers.iter().take(TOLD);
    let mut said: Vec<String> = told.map(|opener| format!("traced: {}", opener.sentence())).collect();
    let rest = openers.len().saturating_sub(TOLD);
    if rest > 0 {
        said.push(format!("traced: {} less", things(rest as u64, "more program does", "more programs do")));
    }
    said
}

/// Who was refused most often for want of a port, and all of them in a sentence.
pub(crate) fn refused(flows: &[&Flow], seconds: f64, call: &str, error: &str) -> (Option<Owner>, String) {
    let all = sum(flows).no_port;
    let mut programs = alike(flows, |counts| (counts.no_port, 0));
    programs.retain(|(_, counts)| counts.no_port > 0);
    let share = |part: u64| (part as f64 / all.max(1) as f64 * 1e4).round() / 1e4;
    let most = programs.first().map(|(program, counts)| owner(program, share(counts.no_port)));
    let names: Vec<String> = programs
        .iter()
        .map(|(program, counts)| format!("{} {}", name(program), count(counts.no_port)))
        .collect();
    let by = if names.is_empty() { String::new() } else { format!(": {}", listed(&names, 3, names.len())) };
    let sentence = format!(
        "traced: {call} found no local port {} in {} ({error}){by}",
        things(all, "time", "times"),
        window(seconds)
    );
    (most, sentence)
}

/// How to learn who it is, where that is inferred from others' connections and nobody traced.
pub(crate) fn hint(view: &View<'_>, owner: Option<&Owner>) -> Option<String> {
    let live = |basis| matches!(basis, OwnerBasis::LiveSockets | OwnerBasis::LiveSocketsSampled);
    let inferred = owner.filter(|owner| live(owner.how))?;
    view.flows.is_none().then(|| {
        format!(
            "that it is {} is inferred from {}; `{TRACE}` shows who opens and who closes first",
            who(inferred),
            inferred.how.words()
        )
    })
}

/// The command that shows who it is.
pub(crate) const TRACE: &str = "tidewait report --trace 10";

/// For how long it was traced, in words.
pub(crate) fn window(seconds: f64) -> String {
    format!("{} s", figure(seconds))
}

/// A program by name: `squid[812]`, `curl (40 processes)`.
pub(crate) fn name(program: &Program) -> String {
    let command = if program.command.is_empty() { "an unnamed process" } else { &program.command };
    let many = match (program.pid, program.processes) {
        (Some(pid), _) => return format!("{command}[{pid}]"),
        (None, Some(1)) => None,
        (None, Some(many)) => Some(things(many.into(), "process", "processes")),
        (None, None) => Some("many processes".to_owned()),
    };
    let home = program.container.as_ref().or(program.unit.as_ref()).cloned();
    let parts: Vec<String> = many.into_iter().chain(home).collect();
    if parts.is_empty() { command.to_owned() } else { format!("{command} ({})", parts.join(", ")) }
}

/// A lifetime: below a second in milliseconds.
pub(crate) fn span(seconds: f64) -> String {
    match seconds * 1e3 {
        ms if ms < 1.0 => "under 1 ms".to_owned(),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        _ => duration(seconds),
    }
}
