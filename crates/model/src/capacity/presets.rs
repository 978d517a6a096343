//! How many ports the usual gateways and port ranges give, one row each, with the page that says so.

use serde::Serialize;

/// A known number of ports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Preset {
    /// What it is called on the command line.
    pub id: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Ports for one source address and one destination.
    pub ports: u32,
    /// Seconds that a closed connection keeps its port there; `None` where its maker does not say.
    pub time_wait_seconds: Option<f64>,
    /// Whether connect() on Linux chooses among these ports, so that it slows down at one half.
    pub half_range: bool,
    /// What the number of ports means there, and what it does not say.
    pub meaning: &'static str,
    /// Where the figures are from.
    pub source: &'static str,
}

const AZURE_LB: &str = "https://learn.microsoft.com/azure/load-balancer/load-balancer-outbound-connections";
const AZURE_NAT: &str = "https://learn.microsoft.com/azure/nat-gateway/nat-gateway-resource";
const GOOGLE_NAT: &str = "https://cloud.google.com/nat/docs/tune-nat-configuration";
const IP_SYSCTL: &str = "https://docs.kernel.org/networking/ip-sysctl.html";

const fn linux(id: &'static str, title: &'static str, ports: u32, meaning: &'static str) -> Preset {
    Preset { id, title, ports, time_wait_seconds: Some(60.0), half_range: true, meaning, source: IP_SYSCTL }
}

/// A gateway: it chooses ports its own way, so the half of a range means nothing.
const fn gateway(
    id: &'static str,
    title: &'static str,
    ports: u32,
    time_wait_seconds: Option<f64>,
    meaning: &'static str,
    source: &'static str,
) -> Preset {
    Preset { id, title, ports, time_wait_seconds, half_range: false, meaning, source }
}

const AZURE_LB_MEANING: &str = "preallocated to each machine and frontend address, by size of the backend pool, \
     and at most 1,024 a machine; how long a closed connection keeps its port is not said";

/// Every preset. Figures without a source are not here.
pub const PRESETS: &[Preset] = &[
    linux("linux", "Linux, stock range 32768-60999", 28_232, "ip_local_port_range as the kernel comes"),
    linux(
        "linux-full",
        "Linux, range 1024-65535",
        64_512,
        "the widest range without ports below ip_unprivileged_port_start; keep the ports of services out of it",
    ),
    Preset {
        id: "nat-host",
        title: "Linux as NAT, range 9000-65534, conntrack's TIME_WAIT",
        ports: 56_535,
        time_wait_seconds: Some(120.0),
        half_range: false,
        meaning: "behind masquerading, nf_conntrack_tcp_timeout_time_wait (120 s) keeps the port, not the socket's 60 s",
        source: "https://github.com/nforgeio/neonKUBE/issues/275",
    },
    gateway(
        "aws-nat-gateway",
        "AWS NAT gateway",
        55_000,
        None,
        "simultaneous connections to one destination for each address of the gateway, up to 8 addresses; how \
         long a closed connection counts is not said",
        "https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html",
    ),
    gateway(
        "azure-nat-gateway",
        "Azure NAT Gateway",
        50_000,
        Some(65.0),
        "connections to one destination for each public address (of its 64,512 ports); a port rests 65 s after a \
         FIN, 16 s after a RST",
        AZURE_NAT,
    ),
    gateway("azure-lb-50", "Azure Load Balancer, 1-50 machines", 1_024, None, AZURE_LB_MEANING, AZURE_LB),
    gateway("azure-lb-100", "Azure Load Balancer, 51-100 machines", 512, None, AZURE_LB_MEANING, AZURE_LB),
    gateway("azure-lb-200", "Azure Load Balancer, 101-200 machines", 256, None, AZURE_LB_MEANING, AZURE_LB),
    gateway("azure-lb-400", "Azure Load Balancer, 201-400 machines", 128, None, AZURE_LB_MEANING, AZURE_LB),
    gateway("azure-lb-800", "Azure Load Balancer, 401-800 machines", 64, None, AZURE_LB_MEANING, AZURE_LB),
    gateway("azure-lb-1000", "Azure Load Balancer, 801-1,000 machines", 32, None, AZURE_LB_MEANING, AZURE_LB),
    gateway(
        "google-nat",
        "Google Cloud NAT, static allocation, gateway made since 30 September 2026",
        64,
        Some(30.0),
        "default minimum of ports for each machine; --min-ports-per-vm raises it",
        GOOGLE_NAT,
    ),
    gateway(
        "google-nat-120",
        "Google Cloud NAT, static allocation, gateway made before 30 June 2026",
        64,
        Some(120.0),
        "default minimum of ports for each machine; --min-ports-per-vm raises it, --tcp-time-wait-timeout \
         shortens TIME_WAIT",
        GOOGLE_NAT,
    ),
];

/// The preset called `id`.
pub fn preset(id: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.id == id)
}
