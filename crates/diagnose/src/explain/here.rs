//! What a page tells of this machine: values as they are, counts of sockets, findings that are present now.

use tidewait_model::catalogue::{Expected, Setting, Value, setting};
use tidewait_model::explain::Fact;
use tidewait_model::report::{Destination, Namespace, Pool, Report, Severity};
use tidewait_model::{State, Version};

use crate::findings::words::{count, figure, pool_word, share, who};

/// Something to look up in the report.
#[derive(Clone, Copy, Debug)]
pub(super) enum Here {
    /// How many sockets are in a state.
    State(State),
    /// A setting's value and what it means.
    Setting(&'static str),
    /// A counter, where it is not zero.
    Counter(&'static str),
    /// The ports that may be chosen.
    Ports,
    /// How long TIME_WAIT lasts.
    TimeWaitSeconds,
    /// What the sockets in TIME_WAIT cost.
    TimeWaitMemory,
    /// The destination that uses most of its ports.
    Fullest,
    /// Destinations whose ports bind() chose.
    Pools,
    /// On which side connections closed first.
    Sides,
    /// Who closed first while it was traced.
    ClosesFirst,
    /// The fullest accept queue.
    Listeners,
    /// Who holds sockets that stay in a state.
    Lingering(State),
    /// Orphans of the machine.
    Orphans,
    /// Sockets that are in no table any more and whose descriptors are.
    SocketsWithoutConnection,
    /// Processes near their limit of descriptors.
    Files,
    /// Entries of connection tracking, and how many there may be.
    Conntrack,
    /// The namespaces that were looked into.
    Namespaces,
    /// Findings that fit, where they are present.
    Findings(&'static [&'static str]),
}

/// Bytes of a socket in TIME_WAIT that has a port of its own: 256 + 128 + 128 of three slabs and their share of
/// overhead, measured on 6.18.
const TIME_WAIT_BYTES: u64 = 524;

/// What there is to tell.
pub(super) fn facts(wanted: &[Here], report: &Report) -> Vec<Fact> {
    let look = Look { report, first: report.namespaces.first() };
    wanted.iter().flat_map(|here| look.at(*here)).collect()
}

fn fact(name: impl Into<String>, value: impl Into<String>, meaning: impl Into<String>) -> Fact {
    Fact { name: name.into(), value: value.into(), meaning: meaning.into() }
}

struct Look<'a> {
    report: &'a Report,
    /// The host's namespace, or the one that is looked at.
    first: Option<&'a Namespace>,
}

impl<'a> Look<'a> {
    fn at(&self, here: Here) -> Vec<Fact> {
        match here {
            Here::State(state) => self.state(state),
            Here::Setting(name) => self.setting(name).into_iter().collect(),
            Here::Counter(name) => self.counter(name).into_iter().collect(),
            Here::Ports => self.ports().into_iter().collect(),
            Here::TimeWaitSeconds => self.time_wait_seconds().into_iter().collect(),
            Here::TimeWaitMemory => self.time_wait_memory().into_iter().collect(),
            Here::Fullest => self.fullest().into_iter().collect(),
            Here::Pools => self.pools().into_iter().collect(),
            Here::Sides => self.sides(),
            Here::ClosesFirst => self.closes_first(),
            Here::Listeners => self.listeners().into_iter().collect(),
            Here::Lingering(state) => self.lingering(state),
            Here::Orphans => self.orphans().into_iter().collect(),
            Here::SocketsWithoutConnection => self.without_connection(),
            Here::Files => self.files(),
            Here::Conntrack => self.conntrack().into_iter().collect(),
            Here::Namespaces => {
                vec![fact("network namespaces", count(self.report.namespaces.len() as u64), "")]
            }
            Here::Findings(ids) => self.findings(ids),
        }
    }

    /// The sockets in `state`: of the first namespace, and how many more elsewhere.
    fn state(&self, state: State) -> Vec<Fact> {
        let Some(first) = self.first else { return Vec::new() };
        let elsewhere: u64 =
            self.report.namespaces.iter().skip(1).map(|namespace| namespace.states[state]).sum();
        let meaning = match elsewhere {
            0 => String::new(),
            more => format!("in {}; {} more in other namespaces", first.name, count(more)),
        };
        vec![fact(format!("sockets in {}", state.title()), count(first.states[state]), meaning)]
    }

    fn setting(&self, name: &str) -> Option<Fact> {
        let first = self.first?;
        let value = first.settings.get(name)?;
        let mut meaning = meaning(name, value, kernel(Some(self.report)));
        let others = self.report.namespaces.iter().skip(1);
        let differ =
            others.filter(|other| other.settings.get(name).is_some_and(|theirs| theirs != value)).count();
        if differ > 0 {
            meaning =
                format!("{meaning}; other in {} of {} namespaces", differ, self.report.namespaces.len());
        }
        Some(fact(name, value.split_whitespace().collect::<Vec<_>>().join(" "), meaning))
    }

    fn counter(&self, name: &str) -> Option<Fact> {
        let value = u64::try_from(*self.first?.counters.get(name)?).ok().filter(|value| *value > 0)?;
        Some(fact(name, count(value), "since the namespace was made"))
    }

    fn ports(&self) -> Option<Fact> {
        let ports = self.first?.ports?;
        let mut taken = Vec::new();
        if ports.reserved > 0 {
            taken.push(format!("{} reserved", count(ports.reserved)));
        }
        if ports.bound > 0 {
            taken.push(format!("{} held by listeners and bind()", count(ports.bound)));
        }
        let taken = if taken.is_empty() { String::new() } else { format!("; {}", taken.join(", ")) };
        Some(fact(
            "local ports",
            format!("{} to {}", ports.low, ports.high),
            format!("{} usable for each destination{taken}", count(ports.usable)),
        ))
    }

    fn time_wait_seconds(&self) -> Option<Fact> {
        let seconds = self.first?.time_wait_seconds;
        let meaning =
            if seconds == 60 { "as in every mainline kernel" } else { "by net.ipv4.tcp_tw_timeout" };
        Some(fact("TIME_WAIT lasts", format!("{seconds} s"), meaning))
    }

    fn time_wait_memory(&self) -> Option<Fact> {
        let sockets: u64 =
            self.report.namespaces.iter().map(|namespace| namespace.states[State::TimeWait]).sum();
        let value = match sockets * TIME_WAIT_BYTES {
            bytes if bytes < 1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
            bytes => format!("{} MB", bytes.div_ceil(1_000_000)),
        };
        Some(fact("memory of TIME_WAIT", value, format!("at most, for {} sockets", count(sockets))))
    }

    fn fullest(&self) -> Option<Fact> {
        let namespaces = self.report.namespaces.iter();
        let rows =
            namespaces.flat_map(|namespace| namespace.destinations.iter().map(move |row| (namespace, row)));
        let (namespace, row) = rows.max_by(|(_, one), (_, other)| {
            one.fill
                .unwrap_or(0.0)
                .total_cmp(&other.fill.unwrap_or(0.0))
                .then(one.ports_used.cmp(&other.ports_used))
        })?;
        Some(fact("fullest destination", filled(row), self.of_destination(namespace, row)))
    }

    fn of_destination(&self, namespace: &Namespace, row: &Destination) -> String {
        let to = if row.destination == "*" { "any destination" } else { &row.destination };
        let mut said = format!("{} -> {to}", row.source);
        if self.report.namespaces.len() > 1 {
            said = format!("{said} in {}", namespace.name);
        }
        if row.rate_now_per_second > 0.0 {
            said = format!("{said}, {} connects a second", figure(row.rate_now_per_second));
        }
        if row.pool != Pool::Unknown {
            said = format!("{said}, ports chosen by {}", pool_word(row.pool));
        }
        said
    }

    fn pools(&self) -> Option<Fact> {
        let rows: Vec<&Destination> =
            self.report.namespaces.iter().flat_map(|namespace| &namespace.destinations).collect();
        let of = |pool| rows.iter().filter(|row| row.pool == pool).count();
        (!rows.is_empty()).then(|| {
            fact(
                "destinations",
                count(rows.len() as u64),
                format!(
                    "ports chosen by connect(): {}, by bind(): {}, not known: {}",
                    of(Pool::Connect),
                    of(Pool::Bind),
                    of(Pool::Unknown)
                ),
            )
        })
    }

    /// How many sockets in TIME_WAIT went out and hold a port, and how many came in.
    fn sides(&self) -> Vec<Fact> {
        let Some(first) = self.first else { return Vec::new() };
        let came: u64 = first.incoming.iter().map(|service| service.states[State::TimeWait]).sum();
        let went: u64 = first.destinations.iter().map(|row| row.states[State::TimeWait]).sum();
        vec![
            fact(
                "outgoing in TIME_WAIT",
                count(went),
                "of the destinations that are listed; each holds a port",
            ),
            fact("incoming in TIME_WAIT", count(came), "of the services that are listed; no ports"),
        ]
    }

    /// Who closed first, where it was traced.
    fn closes_first(&self) -> Vec<Fact> {
        let namespaces = self.report.namespaces.iter();
        let mut facts = Vec::new();
        for (namespace, traced) in
            namespaces.filter_map(|namespace| Some((namespace, namespace.traced.as_ref()?)))
        {
            let closed = &namespace.closed_here;
            for (which, side) in [("outgoing", &closed.outgoing), ("incoming", &closed.incoming)] {
                let Some(side) = side.as_ref().filter(|side| side.here.saturating_add(side.there) > 0) else {
                    continue;
                };
                let both = count(side.here.saturating_add(side.there));
                let meaning = format!("of {both} in {} s, in {}", figure(traced.seconds), namespace.name);
                facts.push(fact(format!("{which}, closed here first"), count(side.here), meaning));
            }
            facts.extend(closed.by_owner.iter().take(3).map(|owner| {
                fact(format!("closes first: {}", who(owner)), share(owner.share), "of those, traced")
            }));
        }
        facts
    }

    fn listeners(&self) -> Option<Fact> {
        let listeners = self.report.namespaces.iter().flat_map(|namespace| &namespace.listeners);
        let fullest = listeners
            .max_by_key(|listener| u64::from(listener.queue) * 1_000 / u64::from(listener.limit.max(1)))?;
        Some(fact(
            "fullest accept queue",
            format!("{} of {}", count(fullest.queue), count(fullest.limit)),
            format!("{}{}", fullest.local, if fullest.full > 0 { ", full now" } else { "" }),
        ))
    }

    fn lingering(&self, state: State) -> Vec<Fact> {
        let groups = self.report.namespaces.iter().flat_map(|namespace| &namespace.lingering);
        let mut groups: Vec<_> = groups.filter(|group| group.state == state && group.held).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.sockets));
        groups
            .iter()
            .take(3)
            .map(|group| {
                let who = group.owner.as_ref().map_or_else(
                    || "a process that could not be told".to_owned(),
                    |owner| {
                        owner.pid.map_or(owner.command.clone(), |pid| format!("{} ({pid})", owner.command))
                    },
                );
                fact(format!("held in {}", state.title()), count(group.sockets), format!("by {who}"))
            })
            .collect()
    }

    fn orphans(&self) -> Option<Fact> {
        let first = self.first?;
        let orphans = u64::try_from(*first.counters.get("sockstat.TCP.orphan")?).ok()?;
        let limit = first.settings.get("net.ipv4.tcp_max_orphans");
        let meaning = limit.map_or_else(String::new, |limit| format!("of {limit} allowed on this machine"));
        Some(fact("orphans", count(orphans), meaning))
    }

    fn without_connection(&self) -> Vec<Fact> {
        let processes = self.report.processes.iter().filter_map(|process| {
            let sockets = process.sockets_without_connection.filter(|sockets| *sockets > 0)?;
            Some((process, sockets))
        });
        processes
            .take(3)
            .map(|(process, sockets)| {
                let who = process.owner.pid.map_or_else(
                    || process.owner.command.clone(),
                    |pid| format!("{} ({pid})", process.owner.command),
                );
                fact("sockets without connection", count(sockets), format!("held by {who}"))
            })
            .collect()
    }

    fn files(&self) -> Vec<Fact> {
        let near =
            self.report.processes.iter().filter_map(|process| Some((process, process.descriptor_limit?)));
        near.take(3)
            .map(|(process, limit)| {
                fact(
                    format!("descriptors of {}", process.owner.command),
                    format!("{} of {}", count(process.descriptors), count(limit)),
                    process.owner.pid.map_or_else(String::new, |pid| format!("process {pid}")),
                )
            })
            .collect()
    }

    fn conntrack(&self) -> Option<Fact> {
        let settings = &self.first?.settings;
        let limit: u64 = settings.get("net.netfilter.nf_conntrack_max")?.trim().parse().ok()?;
        let entries: u64 = settings.get("net.netfilter.nf_conntrack_count")?.trim().parse().ok()?;
        Some(fact("conntrack entries", count(entries), format!("of {} allowed", count(limit))))
    }

    fn findings(&self, ids: &[&str]) -> Vec<Fact> {
        let fit = self.report.findings.iter().filter(|finding| ids.contains(&finding.id.as_str()));
        let present: Vec<Fact> =
            fit.take(3).map(|finding| fact(&finding.id, word(finding.severity), &finding.summary)).collect();
        if present.is_empty() && !self.report.namespaces.is_empty() {
            return vec![fact("findings that fit", "none now", "")];
        }
        present
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
    }
}

/// How many of its ports a destination uses.
fn filled(row: &Destination) -> String {
    match (row.ports_usable, row.fill) {
        (Some(usable), Some(fill)) => {
            format!("{} of {} ports, {}", count(row.ports_used), count(usable), share(fill))
        }
        _ => format!("{} ports", count(row.ports_used)),
    }
}

/// The kernel that facts are told for: the one that was looked at, else the newest that the rows know of.
pub(super) fn kernel(report: Option<&Report>) -> Version {
    report.and_then(|report| report.host.kernel.parse().ok()).unwrap_or(Version::new(u16::MAX, 0))
}

/// What the value of a setting means.
fn meaning(name: &str, value: &str, kernel: Version) -> String {
    setting(name).map(|row| row.meaning(value, kernel)).unwrap_or_default()
}

/// The value of a setting here, beside what it is when nobody has written it; or why there is none.
pub(super) fn setting_here(row: &Setting, report: &Report) -> Vec<Fact> {
    let kernel = kernel(Some(report));
    let look = Look { report, first: report.namespaces.first() };
    let Some(mut value) = look.setting(row.name) else {
        let why = match row.expected_on(kernel) {
            Expected::Gone => "gone from this kernel: writing it fails, a line in a sysctl file does nothing",
            Expected::NotYet => "this kernel is too old for it",
            Expected::VendorOnly => "not in this kernel",
            Expected::Present if row.module.is_some() => "its module is not loaded",
            Expected::Present => "could not be read",
        };
        return vec![fact(row.name, "none", why)];
    };
    if let Some(Value::Text(default)) = row.default_for(kernel)
        && default != value.value
    {
        let default = if default.is_empty() { "nothing" } else { default };
        value.meaning = format!("{}; {default} unless written", value.meaning);
    }
    vec![value]
}

/// The destination that a message names, where it is among those of this machine.
pub(super) fn of_endpoint(endpoint: &str, report: &Report) -> Option<Fact> {
    let namespaces = report.namespaces.iter();
    let mut rows =
        namespaces.flat_map(|namespace| namespace.destinations.iter().map(move |row| (namespace, row)));
    let (namespace, row) = rows.find(|(_, row)| row.destination == endpoint)?;
    let look = Look { report, first: report.namespaces.first() };
    Some(fact("that destination", filled(row), look.of_destination(namespace, row)))
}

/// Whether a kind of finding is present now.
pub(super) fn finding(id: &str, report: &Report) -> Vec<Fact> {
    let present: Vec<Fact> = report
        .findings
        .iter()
        .filter(|finding| finding.id == id)
        .take(3)
        .map(|finding| fact(&finding.subject, word(finding.severity), &finding.summary))
        .collect();
    if present.is_empty() { vec![fact("found here now", "no", "")] } else { present }
}
