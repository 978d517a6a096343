//! The metrics of `tidewait check`: one row each, read by thresholds, performance data and the list alike.

use tidewait_model::State;
use tidewait_model::report::{Destination, Namespace, Report};

/// A figure that is printed with every check and that thresholds can be set for. Labels are for good: a graph hangs on
/// each of them.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The label in the performance data, and what `--metric` takes.
    pub name: &'static str,
    /// The unit of measurement: `%`, `s`, or nothing for a count.
    pub unit: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it does not tell, where people take it to.
    pub caution: Option<&'static str>,
    /// What it means that there is no value.
    pub absent: Absent,
    value: fn(&Report) -> Option<f64>,
    max: fn(&Report) -> Option<f64>,
}

/// What it means that a metric has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nothing of the kind is there: no cause for an alert.
    Fine(&'static str),
    /// It could not be seen: nobody knows.
    Unknown(&'static str),
}

const NOT_SEEN: Absent = Absent::Unknown("no network namespace could be looked into");
const NO_PORTS: Absent = Absent::Unknown("the port range could not be read");

/// Every metric, in the order in which they are printed. The first is what thresholds are for if none is named.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "port_fill",
        unit: "%",
        about: "ports in use of those that the fullest destination may use",
        caution: None,
        absent: NO_PORTS,
        value: |report| fullest(report, |row| row.destination != "*"),
        max: hundred,
    },
    Metric {
        name: "bind_pool_fill",
        unit: "%",
        about: "ports in use of those of the fullest source address, where bind() chooses them before connect()",
        caution: None,
        absent: NO_PORTS,
        value: |report| fullest(report, |row| row.destination == "*"),
        max: hundred,
    },
    Metric {
        name: "port_exhaustion",
        unit: "s",
        about: "time until the first destination has no port left; no value while that is not in sight",
        caution: None,
        absent: Absent::Fine("no end of the ports is in sight"),
        value: |report| {
            rows(report)
                .filter_map(|row| row.seconds_to_exhaustion)
                .filter(|value| value.is_finite() && *value >= 0.0)
                .min_by(f64::total_cmp)
        },
        max: nothing,
    },
    Metric {
        name: "time_wait",
        unit: "",
        about: "sockets in TIME_WAIT",
        caution: Some(
            "the count alone tells no trouble: those of incoming connections take no ports, those of outgoing ones matter by \
             destination, see port_fill",
        ),
        absent: NOT_SEEN,
        value: |report| sockets(report, State::TimeWait),
        max: nothing,
    },
    Metric {
        name: "close_wait",
        unit: "",
        about: "sockets in CLOSE_WAIT: the peer has closed, the program here has not",
        caution: Some(
            "many at once are normal while peers hang up; those that stay are a leak, which close-wait-leak tells",
        ),
        absent: NOT_SEEN,
        value: |report| sockets(report, State::CloseWait),
        max: nothing,
    },
    Metric {
        name: "established",
        unit: "",
        about: "open connections",
        caution: None,
        absent: NOT_SEEN,
        value: |report| sockets(report, State::Established),
        max: nothing,
    },
    Metric {
        name: "syn_sent",
        unit: "",
        about: "connections that wait for an answer to their SYN",
        caution: None,
        absent: NOT_SEEN,
        value: |report| sockets(report, State::SynSent),
        max: nothing,
    },
    Metric {
        name: "orphans",
        unit: "",
        about: "sockets that no program holds any more and that still wait for their peer",
        caution: None,
        absent: Absent::Unknown("the kernel's counters could not be read"),
        // The count and its limit belong to the machine; every namespace shows the same.
        value: |report| {
            most(report, |namespace| namespace.counters.get("sockstat.TCP.orphan").map(|count| *count as f64))
        },
        max: |report| most(report, |namespace| setting(namespace, "net.ipv4.tcp_max_orphans")),
    },
    Metric {
        name: "accept_queue_fill",
        unit: "%",
        about: "connections that wait to be accepted, of those that may, in the fullest queue",
        caution: None,
        absent: NOT_SEEN,
        value: |report| {
            let fills = report
                .namespaces
                .iter()
                .flat_map(|namespace| &namespace.listeners)
                // The kernel takes one more than the limit says (sk_acceptq_is_full, include/net/sock.h).
                .map(|listener| percent(listener.queue.into(), f64::from(listener.limit) + 1.0));
            fills.max_by(f64::total_cmp).or_else(|| (!report.namespaces.is_empty()).then_some(0.0))
        },
        max: hundred,
    },
    Metric {
        name: "conntrack_fill",
        unit: "%",
        about: "entries in use of those that connection tracking may keep",
        caution: None,
        absent: Absent::Fine("connections are not tracked in what was looked into"),
        value: |report| {
            most(report, |namespace| {
                let max = setting(namespace, "net.netfilter.nf_conntrack_max").filter(|max| *max > 0.0)?;
                Some(percent(setting(namespace, "net.netfilter.nf_conntrack_count")?, max))
            })
        },
        max: hundred,
    },
    Metric {
        name: "descriptor_fill",
        unit: "%",
        about: "open files of those that the worst process may open; no value while none comes near its limit",
        caution: None,
        absent: Absent::Fine("no process comes near its limit of open files"),
        value: |report| {
            let fills = report.processes.iter().filter_map(|process| {
                let limit = process.descriptor_limit.filter(|limit| *limit > 0)?;
                Some(percent(process.descriptors as f64, limit as f64))
            });
            fills.max_by(f64::total_cmp)
        },
        max: hundred,
    },
];

/// The metric called `name`.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

impl Metric {
    /// Its value in a report, in its unit; `None` where [`Metric::absent`] applies.
    pub fn value(&self, report: &Report) -> Option<f64> {
        (self.value)(report).filter(|value| value.is_finite())
    }

    /// The most it can be, where there is such a limit.
    pub fn max(&self, report: &Report) -> Option<f64> {
        (self.max)(report).filter(|value| value.is_finite())
    }
}

/// A value as it is printed for machines: at most two decimals, a point before them, no zeros after them.
pub fn plain(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn rows(report: &Report) -> impl Iterator<Item = &Destination> {
    report.namespaces.iter().flat_map(|namespace| &namespace.destinations)
}

/// The fill of the fullest of the rows. 0 where there are none though the ports are known.
fn fullest(report: &Report, which: fn(&Destination) -> bool) -> Option<f64> {
    let known = report.namespaces.iter().any(|namespace| namespace.ports.is_some());
    let mut rows = rows(report).filter(|row| which(row)).peekable();
    if rows.peek().is_none() {
        return known.then_some(0.0);
    }
    rows.filter_map(|row| row.fill)
        .filter(|fill| fill.is_finite())
        .max_by(f64::total_cmp)
        .map(|fill| fill * 100.0)
}

fn sockets(report: &Report, state: State) -> Option<f64> {
    let all: u64 = report.namespaces.iter().map(|namespace| namespace.states[state]).sum();
    (!report.namespaces.is_empty()).then_some(all as f64)
}

fn most(report: &Report, figure: impl Fn(&Namespace) -> Option<f64>) -> Option<f64> {
    report.namespaces.iter().filter_map(figure).max_by(f64::total_cmp)
}

fn setting(namespace: &Namespace, name: &str) -> Option<f64> {
    namespace.settings.get(name)?.trim().parse().ok()
}

fn percent(part: f64, whole: f64) -> f64 {
    part / whole * 100.0
}

fn hundred(_: &Report) -> Option<f64> {
    Some(100.0)
}

fn nothing(_: &Report) -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidewait_model::catalogue;

    use super::*;

    #[test]
    fn labels_are_unique_and_need_no_quotes() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(name.len() <= 19, "{name}: round-robin databases name no source longer than that");
        }
    }

    #[test]
    fn what_metrics_are_made_of_is_read() {
        for name in
            ["net.ipv4.tcp_max_orphans", "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_count"]
        {
            assert!(catalogue::setting(name).is_some(), "{name}");
        }
        assert!(catalogue::COUNTERS.contains(&"sockstat.TCP.orphan"));
    }

    #[test]
    fn numbers_are_plain() {
        for (value, text) in
            [(0.0, "0"), (12.345, "12.35"), (31_204.0, "31204"), (0.5, "0.5"), (100.0, "100"), (-0.001, "0")]
        {
            assert_eq!(plain(value), text);
        }
    }
}
