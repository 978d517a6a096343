//! Lists of settings under a name: two from pages that are often copied, word for word, and three of our own.

use schemars::JsonSchema;
use serde::Serialize;

/// What a line of a profile asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// This value.
    Exactly(&'static str),
    /// This number, unless it is more already.
    AtLeast(i64),
    /// This number, unless it is less already.
    AtMost(i64),
    /// A port range that is wider than the present one and keeps clear of where services usually listen.
    WiderRange,
}

/// One line of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProfileLine {
    /// Full name of the setting.
    pub setting: &'static str,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Why: what the source says it does, or for profiles of our own what it is for.
    pub why: &'static str,
}

/// A list of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Profile {
    /// What it is called by `--profile`.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where it is from; `None` for those of our own.
    pub source: Option<&'static str>,
    /// The lines, in the order in which they are to be written.
    pub lines: &'static [ProfileLine],
    /// What is left out of it on purpose.
    pub without: &'static [&'static str],
}

impl Profile {
    /// Whether it is a copy of what somebody else advises against TIME_WAIT, to be judged by whether it does that.
    pub fn is_verbatim(&self) -> bool {
        self.source.is_some()
    }
}

const fn line(setting: &'static str, wanted: Wanted, why: &'static str) -> ProfileLine {
    ProfileLine { setting, wanted, why }
}

const RANGE: &str = "net.ipv4.ip_local_port_range";
const REUSE: &str = "net.ipv4.tcp_tw_reuse";
const FIN_TIMEOUT: &str = "net.ipv4.tcp_fin_timeout";
const KEEPALIVE_TIME: &str = "net.ipv4.tcp_keepalive_time";
const KEEPALIVE_INTVL: &str = "net.ipv4.tcp_keepalive_intvl";
const KEEPALIVE_PROBES: &str = "net.ipv4.tcp_keepalive_probes";

/// Every profile.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "proxy",
        summary: "many connections out to few upstreams: more ports, and taking over those in TIME_WAIT",
        source: None,
        lines: &[
            line(
                RANGE,
                Wanted::WiderRange,
                "each connection to an upstream has a port to itself while it lives, and where the proxy closes first for \
                 60 s more: the ports set the rate",
            ),
            line(
                REUSE,
                Wanted::Exactly("1"),
                "connect() may then take a port over after a second of TIME_WAIT, protected by timestamps; it does nothing \
                 for a proxy that binds its source address without IP_BIND_ADDRESS_NO_PORT",
            ),
            line(
                "net.core.somaxconn",
                Wanted::AtLeast(4_096),
                "clients arrive in bursts; the accept queue of a listener is never longer than this. 128 before Linux 5.4",
            ),
        ],
        without: &[
            "tcp_fin_timeout and keepalive: neither shortens TIME_WAIT",
            "tcp_max_tw_buckets below what closes in a minute: it drops TIME_WAIT at random",
        ],
    },
    Profile {
        name: "web-server",
        summary: "many connections in: room to accept bursts and to keep TIME_WAIT, less for clients that vanished",
        source: None,
        lines: &[
            line(
                "net.core.somaxconn",
                Wanted::AtLeast(4_096),
                "clients arrive in bursts; the accept queue of a listener is never longer than this. 128 before Linux 5.4",
            ),
            line(
                "net.ipv4.tcp_max_tw_buckets",
                Wanted::AtLeast(262_144),
                "a server that closes first keeps the TIME_WAIT: room for 4,300 closes a second before they are cut short; \
                 256 bytes each",
            ),
            line(
                FIN_TIMEOUT,
                Wanted::AtMost(30),
                "clients that vanish after the answer leave orphans in FIN_WAIT2, which hold memory for this long; it does \
                 nothing for TIME_WAIT",
            ),
            line(
                "net.ipv4.tcp_syncookies",
                Wanted::Exactly("1"),
                "with a full queue of half-open connections new clients still get in",
            ),
        ],
        without: &[
            "tcp_tw_reuse and a wider port range: they are for connections that go out; the TIME_WAIT of accepted \
             connections takes no local port",
        ],
    },
    Profile {
        name: "database-client",
        summary: "connections to a database: more ports, and not to wait hours for a server that is gone",
        source: None,
        lines: &[
            line(
                RANGE,
                Wanted::WiderRange,
                "programs without a pool open a connection for each request, all to one address and port: the ports set \
                 the rate",
            ),
            line(
                REUSE,
                Wanted::Exactly("1"),
                "connect() may then take a port over after a second of TIME_WAIT; both ends need TCP timestamps, which \
                 Linux has on",
            ),
            line(
                "net.ipv4.tcp_syn_retries",
                Wanted::AtMost(3),
                "a connect() to a server that does not answer fails after 15 s instead of 127 s (19 instead of 131 where \
                 tcp_syn_linear_timeouts is 4), so that a fail-over is noticed",
            ),
            line(
                KEEPALIVE_TIME,
                Wanted::AtMost(300),
                "an idle connection of a pool is asked after 5 minutes whether the server is still there, before firewalls \
                 forget it; only where the driver sets SO_KEEPALIVE",
            ),
            line(
                KEEPALIVE_INTVL,
                Wanted::AtMost(30),
                "together with the probes: a dead server is given up 2.5 minutes after the first probe instead of 11",
            ),
            line(KEEPALIVE_PROBES, Wanted::AtMost(5), "as net.ipv4.tcp_keepalive_intvl"),
        ],
        without: &["tcp_fin_timeout: it does not shorten TIME_WAIT"],
    },
    Profile {
        name: "hosting",
        summary: "the five lines of a hosting company's page on TIME_WAIT and CLOSE_WAIT, each judged",
        source: Some("a hosting company's knowledge base: TIME_WAIT and CLOSE_WAIT"),
        lines: &[
            line(
                FIN_TIMEOUT,
                Wanted::Exactly("30"),
                "said to release closed connections in TIME_WAIT faster; 15 to 30 s recommended",
            ),
            line(
                KEEPALIVE_INTVL,
                Wanted::Exactly("30"),
                "said to reduce CLOSE_WAIT: wait time between probes; 15 to 30 s recommended",
            ),
            line(
                KEEPALIVE_PROBES,
                Wanted::Exactly("5"),
                "said to reduce CLOSE_WAIT: number of probes before timing out",
            ),
            line(
                "net.ipv4.tcp_tw_recycle",
                Wanted::Exactly("1"),
                "said to recycle sockets in TIME_WAIT fast, to be used with caution",
            ),
            line(
                REUSE,
                Wanted::Exactly("1"),
                "said to reuse sockets in TIME_WAIT for new connections when that is safe for the protocol",
            ),
        ],
        without: &[],
    },
    Profile {
        name: "nanog",
        summary: "the four lines that were said on NANOG in 2012 to reduce TIME_WAIT, each judged",
        source: Some(
            "NANOG mailing list, 5 and 6 December 2012: TCP time_wait and port exhaustion for servers",
        ),
        lines: &[
            line(
                KEEPALIVE_INTVL,
                Wanted::Exactly("15"),
                "said to have reduced connections in TIME_WAIT in a real situation",
            ),
            line(
                KEEPALIVE_PROBES,
                Wanted::Exactly("3"),
                "said to have reduced connections in TIME_WAIT in a real situation",
            ),
            line(
                KEEPALIVE_TIME,
                Wanted::Exactly("90"),
                "said to have reduced connections in TIME_WAIT in a real situation",
            ),
            line(
                FIN_TIMEOUT,
                Wanted::Exactly("30"),
                "said to have reduced connections in TIME_WAIT in a real situation",
            ),
        ],
        without: &[],
    },
];

/// The profile called `name`.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{obsolete, setting};

    #[test]
    fn every_line_is_a_setting_that_takes_what_is_wanted() {
        for profile in PROFILES {
            for line in profile.lines {
                let row = setting(line.setting).unwrap_or_else(|| panic!("{}", line.setting));
                let text = match line.wanted {
                    Wanted::Exactly(text) => text.to_owned(),
                    Wanted::AtLeast(number) | Wanted::AtMost(number) => number.to_string(),
                    Wanted::WiderRange => "10240 65535".to_owned(),
                };
                let taken = row.check(&text).is_ok() || obsolete(line.setting).is_some();
                assert!(taken, "{}: {} = {text}", profile.name, line.setting);
            }
        }
    }
}
