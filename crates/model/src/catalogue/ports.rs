//! Settings of local ports: which ports connect() and bind(port 0) may choose, and how.

use super::accepts::span;
use super::{Accepts, COMMON, Choice, Meaning, Setting, always, belief, since};
use crate::kernel::Version;
use crate::ports::{PortRange, PortSet};

pub const LOCAL_PORT_RANGE: Setting = Setting {
    name: "net.ipv4.ip_local_port_range",
    unit: "ports",
    summary: "ports that connect() and bind(port 0) choose from",
    accepts: Accepts::PortRange,
    defaults: &[always("32768 61000"), since(4, 2, "32768 60999")],
    affects: &[
        "How many connections one source address can have to one destination (address and port) at a time: one per port, \
         whether the connection is open or in TIME_WAIT.",
        "How many sockets bind(address, port 0) can serve: one per port and address, whatever the destination.",
        "How early connect() gets slow: it looks through the half of the range that has the parity of the lower end first, \
         and through the other half only when all of those are in use. From just above one half in use, each connect() looks \
         through thousands of ports. Ends of different parity make the halves equal.",
        "IPv6 as well as IPv4.",
    ],
    does_not: &[
        belief(
            "The number of ports limits the connections of the machine.",
            "A port is shared by connections to different destinations. The limit is per source address, destination \
             address and destination port, for as long as connect() chooses the port.",
        ),
        belief(
            "It limits how many connections a server accepts.",
            "Accepted connections all have the listener's port. What limits them is memory and open files.",
        ),
    ],
    trap: Some(
        "The service ports that lie in a wider range are lost to connect() while anybody listens there, and a service that \
         starts later may find its port taken by a client. List them in ip_local_reserved_ports.",
    ),
    risk: "A lower end that takes in ports of services makes their start fail now and then with EADDRINUSE. Firewalls and NAT \
           rules that know the old range drop connections from the new ports. Connections that exist keep their ports.",
    sources: &[
        "net/ipv4/inet_hashtables.c __inet_hash_connect (6.18)",
        "net/ipv4/inet_connection_sock.c inet_csk_find_open_port (6.18)",
        "net/ipv4/sysctl_net_ipv4.c ipv4_local_port_range (6.18)",
        "commit 07f4c90062f8 (4.2: even and odd ports, default to 60999)",
        "RFC 6056 section 3.3.4",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &[
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_tw_reuse",
        "IP_LOCAL_PORT_RANGE",
        "IP_BIND_ADDRESS_NO_PORT",
    ],
    meaning: Meaning::Text(range),
    ..COMMON
};

pub const LOCAL_RESERVED_PORTS: Setting = Setting {
    name: "net.ipv4.ip_local_reserved_ports",
    unit: "ports",
    summary: "ports that the automatic choice leaves out",
    accepts: Accepts::PortList,
    defaults: &[always("")],
    affects: &[
        "connect() and bind(port 0) never choose a port of the list.",
        "How many ports of ip_local_port_range remain.",
    ],
    does_not: &[belief(
        "It keeps other programs off the ports.",
        "Only the automatic choice leaves them out. Whoever names such a port in bind() gets it.",
    )],
    trap: Some(
        "What is written replaces the whole list; a lone line end empties it, and writing no letter at all changes nothing. The \
         kernel takes 4095 letters at a time: sysctl(8) leaves out the rest of a longer list, and echo in bash, which writes 1024 at \
         a time, reserves ports that nobody named. No error tells of either. Write ranges.",
    ),
    risk: "Every reserved port inside the range is one connection less per destination. The ports just above a long reserved \
           block are chosen more often than others.",
    sources: &[
        "kernel/sysctl.c proc_do_large_bitmap (6.18; sysctl of procps 4.0.2 and bash 5.2 seen)",
        "net/ipv4/inet_hashtables.c inet_is_local_reserved_port (6.18)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.ip_local_port_range", "net.ipv4.ip_local_port_step_width"],
    meaning: Meaning::Text(reserved),
    ..COMMON
};

pub const UNPRIVILEGED_PORT_START: Setting = Setting {
    name: "net.ipv4.ip_unprivileged_port_start",
    unit: "port",
    summary: "first port that needs no privilege to bind",
    since: Some(Version::new(4, 11)),
    accepts: Accepts::Number { kernel: span(0, 65_535), sensible: span(0, 65_535), gap: None },
    defaults: &[always("1024")],
    affects: &[
        "Which ports a program may bind without CAP_NET_BIND_SERVICE.",
        "How low ip_local_port_range may begin: never below this.",
    ],
    does_not: &[belief(
        "Lowering it gives connect() more ports.",
        "It only allows ip_local_port_range to begin lower; that has to be changed as well.",
    )],
    trap: Some("It cannot be raised above the present lower end of ip_local_port_range: EINVAL."),
    risk: "Below 1024 any user may take the place of a service whose port is free, sshd at its restart for one.",
    sources: &[
        "net/ipv4/sysctl_net_ipv4.c ipv4_privileged_ports (absent in 4.10, there in 4.11)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["net.ipv4.ip_local_port_range"],
    meaning: Meaning::Number(unprivileged),
    ..COMMON
};

pub const AUTOBIND_REUSE: Setting = Setting {
    name: "net.ipv4.ip_autobind_reuse",
    unit: "0/1",
    summary: "bind(port 0) may share ports between SO_REUSEADDR sockets",
    since: Some(Version::new(5, 7)),
    accepts: Accepts::Choice {
        kernel: span(0, 1),
        choices: &[
            Choice { value: 0, word: "bind(port 0) gives each socket of an address a port of its own" },
            Choice {
                value: 1,
                word: "bind(port 0) may give a port that others of the address hold, where all of them have SO_REUSEADDR",
            },
        ],
    },
    defaults: &[always("0")],
    affects: &[
        "bind(address, port 0) before connect(), when the ports of that address are used up: it may then share a port, as \
         long as every socket on it, the new one too, has SO_REUSEADDR. connect() fails later if the whole tuple exists.",
    ],
    does_not: &[belief(
        "It helps every program that binds a source address.",
        "A program without SO_REUSEADDR on its client sockets gains nothing. IP_BIND_ADDRESS_NO_PORT is the better way, in \
         the program itself.",
    )],
    trap: Some(
        "The port is chosen before the destination is known, so that connect() can fail with EADDRNOTAVAIL although other \
         ports would do.",
    ),
    risk: "The kernel's documentation keeps it for experts: programs that rely on a port of their own after bind() may share it.",
    sources: &[
        "net/ipv4/inet_connection_sock.c inet_csk_find_open_port, inet_csk_get_port (6.18)",
        "net/ipv4/sysctl_net_ipv4.c (absent in 5.6, there in 5.7)",
        "Documentation/networking/ip-sysctl.rst",
    ],
    see_also: &["IP_BIND_ADDRESS_NO_PORT", "SO_REUSEADDR", "net.ipv4.ip_local_port_range"],
    ..COMMON
};

pub const LOCAL_PORT_STEP_WIDTH: Setting = Setting {
    name: "net.ipv4.ip_local_port_step_width",
    unit: "ports",
    summary: "how far connect() jumps at most from a port in use to the next it tries; 0: to the neighbour",
    since: Some(Version::new(7, 1)),
    accepts: Accepts::Number { kernel: span(0, u32::MAX as i64), sensible: span(0, 65_535), gap: None },
    defaults: &[always("0")],
    affects: &[
        "Which port connect() tries after one that is in use or reserved: a random step of up to this width instead of the \
         next of the same parity. Evens out the use of ports after a long reserved block.",
    ],
    does_not: &[belief(
        "It makes more ports available, or finds the last free ones faster.",
        "It changes the order of the search alone. When nearly all ports are in use, the search gets slower.",
    )],
    risk: "With a high load the same ports are tried more often by several connect() at a time.",
    sources: &[
        "net/ipv4/inet_hashtables.c __inet_hash_connect (7.1)",
        "commit 7da62262ec96 (absent in 6.19, there in 7.1)",
        "RFC 6056 section 3.3.5",
        "Documentation/networking/ip-sysctl.rst (7.1)",
    ],
    see_also: &["net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_local_port_range"],
    meaning: Meaning::Number(step_width),
    ..COMMON
};

fn range(text: &str, _: Version) -> Option<String> {
    let range = PortRange::parse(text)?;
    let mut said = format!(
        "{} ports less the reserved ones: as many connections from one source address to one destination, {} a second when \
         each leaves a TIME_WAIT of 60 s here",
        range.size(),
        range.size() / 60
    );
    if range.size() > 1 && range.low % 2 == range.high % 2 {
        said.push_str(
            "; both ends have the same parity, so that one port goes unused: make one even and the other odd",
        );
    }
    Some(said)
}

fn reserved(text: &str, _: Version) -> Option<String> {
    let (ports, unread) = PortSet::parse_list(text);
    match (unread, ports.len()) {
        (0, 0) => Some("no port is left out of the automatic choice".to_owned()),
        (0, 1) => Some("1 port is left out of the automatic choice".to_owned()),
        (0, ports) => Some(format!("{ports} ports are left out of the automatic choice")),
        _ => None,
    }
}

fn unprivileged(first: i64, _: Version) -> String {
    match first {
        0 => "every port can be bound by every user, and ip_local_port_range may begin at 1".to_owned(),
        first => format!(
            "ports below {first} need CAP_NET_BIND_SERVICE, and ip_local_port_range may not begin below {first}"
        ),
    }
}

fn step_width(width: i64, _: Version) -> String {
    match width {
        0 => "connect() goes from a port in use to the next of the same parity".to_owned(),
        width => {
            format!("connect() jumps by a random step of up to {width} ports from a port in use to the next")
        }
    }
}
