//! What helps against a lack of ports, in the order to try it, with its effect in this case; and what does not.

use tidewait_model::PortRange;
use tidewait_model::report::{NoHelp, Pool, Remedy};

use super::{Case, count, figure};
use crate::accounting::Range;

/// A wider range that keeps clear of the ports where services usually listen.
const WIDER: PortRange = PortRange { low: 10_240, high: 65_535 };

/// The remedies, first things first.
pub(super) fn for_ports(case: &Case<'_>) -> Vec<Remedy> {
    let steps = [
        reuse_connections(case),
        bind_no_port(case),
        wider_range(case),
        tw_reuse(case),
        more_addresses(case),
    ];
    steps.into_iter().flatten().zip(1_u32..).map(|(remedy, rank)| Remedy { rank, ..remedy }).collect()
}

fn remedy(id: &str, summary: String, command: Option<String>, effect: String, risk: &str) -> Remedy {
    Remedy {
        rank: 0,
        id: id.to_owned(),
        summary,
        command,
        effect,
        risk: risk.to_owned(),
        configuration: Vec::new(),
    }
}

fn reuse_connections(case: &Case<'_>) -> Option<Remedy> {
    let who = case.destination.owners.first().map_or_else(
        || "the program that connects".to_owned(),
        |owner| owner.unit.clone().unwrap_or_else(|| owner.command.clone()),
    );
    let rate = case.destination.rate_now_per_second;
    Some(remedy(
        "reuse-connections",
        format!("let {who} keep connections open and use them again (keep-alive, a connection pool)"),
        None,
        if rate > 0.0 {
            format!("each connection kept saves its share of {} new ports a second", figure(rate))
        } else {
            "ports are used for as long as work is done, not for a minute each".to_owned()
        },
        "none for the kernel; the peer has to allow long connections",
    ))
}

fn bind_no_port(case: &Case<'_>) -> Option<Remedy> {
    (case.destination.pool == Pool::Bind).then(|| {
        remedy(
            "bind-address-no-port",
            "let the program set IP_BIND_ADDRESS_NO_PORT before bind(address, 0), or bind no address where routing \
             gives the same one"
                .to_owned(),
            None,
            format!(
                "the port is then chosen by connect(): {} ports for each destination instead of {} for all together, \
                 and tcp_tw_reuse starts to apply",
                count(case.usable),
                count(case.usable)
            ),
            "needs a program or a release that has the option",
        )
    })
}

fn wider_range(case: &Case<'_>) -> Option<Remedy> {
    let now = case.namespace.ports?;
    let settings = &case.facts.settings;
    let start =
        settings.number("net.ipv4.ip_unprivileged_port_start").and_then(|port| u16::try_from(port).ok());
    let wider = PortRange { low: WIDER.low.max(start.unwrap_or(0)).min(now.low), high: WIDER.high };
    let present = PortRange { low: now.low, high: now.high };
    if wider.size() <= present.size() {
        return None;
    }
    let mut facts = case.facts.clone();
    facts
        .settings
        .0
        .insert("net.ipv4.ip_local_port_range".to_owned(), format!("{} {}", wider.low, wider.high));
    let range = Range::of(&facts)?;
    let listening =
        range.bound.iter().filter(|port| !(now.low..=now.high).contains(port)).collect::<Vec<_>>();
    let hold = f64::from(case.usable) / case.limit.max(f64::MIN_POSITIVE);
    let risk = match listening.as_slice() {
        [] => "nothing listens in the added ports now; a service that starts later on one of them may find it taken"
            .to_owned(),
        [port, ..] => format!(
            "{} ports that something is bound to lie in the added part (the first is {port}): put them into \
             net.ipv4.ip_local_reserved_ports first",
            listening.len()
        ),
    };
    Some(Remedy {
        risk,
        ..remedy(
            "wider-range",
            format!("widen net.ipv4.ip_local_port_range to {} {}", wider.low, wider.high),
            Some(format!("sysctl -w net.ipv4.ip_local_port_range=\"{} {}\"", wider.low, wider.high)),
            format!(
                "{} to {} ports: {} to {} connections a second",
                count(now.usable),
                count(range.usable()),
                figure(case.limit),
                figure(f64::from(range.usable()) / hold)
            ),
            "",
        )
    })
}

fn tw_reuse(case: &Case<'_>) -> Option<Remedy> {
    let settings = &case.facts.settings;
    let loopback = case.destination.reusable > 0;
    if case.destination.pool == Pool::Bind || loopback || settings.number("net.ipv4.tcp_tw_reuse") == Some(1)
    {
        return None;
    }
    let stamps = settings.number("net.ipv4.tcp_timestamps")? != 0;
    stamps.then(|| {
        remedy(
            "tw-reuse",
            "let connect() take over sockets in TIME_WAIT: net.ipv4.tcp_tw_reuse = 1".to_owned(),
            Some("sysctl -w net.ipv4.tcp_tw_reuse=1".to_owned()),
            format!(
                "a port is held for 1 s instead of {} s: up to {} connections a second, and the search for a port stays short",
                case.namespace.time_wait_seconds,
                count(case.usable)
            ),
            "works only if the peer sends TCP timestamps and the program leaves the port to connect(); sequence \
             numbers and timestamps keep old segments out",
        )
    })
}

fn more_addresses(case: &Case<'_>) -> Option<Remedy> {
    Some(remedy(
        "more-addresses",
        "use more source addresses, or more addresses or ports of the destination".to_owned(),
        None,
        format!(
            "each further one brings as many ports again: {} connections a second more",
            figure(case.limit)
        ),
        "peers that filter by address have to know the new ones",
    ))
}

/// Popular advice that does nothing in this case.
pub(super) fn no_help(case: &Case<'_>) -> Vec<NoHelp> {
    let advice = |setting: &str, why: &str| NoHelp { setting: setting.to_owned(), why: why.to_owned() };
    let mut list = vec![
        advice(
            "net.ipv4.tcp_fin_timeout",
            "it ends orphaned FIN_WAIT2 sockets; TIME_WAIT stays 60 s (TCP_TIMEWAIT_LEN is compiled in)",
        ),
        advice(
            "net.ipv4.tcp_keepalive_time, _intvl, _probes",
            "a socket in TIME_WAIT is closed already; keepalive looks after open connections that asked for it",
        ),
        advice("net.ipv4.tcp_tw_recycle", "gone since Linux 4.12; before, it broke peers behind NAT"),
        advice(
            "net.ipv4.tcp_max_tw_buckets, lowered",
            "it drops the TIME_WAIT of every connection beyond the limit, those that protect others too",
        ),
    ];
    if case.destination.pool == Pool::Bind {
        list.insert(
            0,
            advice(
                "net.ipv4.tcp_tw_reuse",
                "bind() chose the port before connect(); bind() never looks at tcp_tw_reuse, so TIME_WAIT blocks the port",
            ),
        );
    }
    list
}
