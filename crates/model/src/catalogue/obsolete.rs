//! Old spellings and settings that are gone: what a sysctl file may still say, and what to say instead.

use crate::kernel::Version;

/// A name in a configuration file that the kernel does not know any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obsolete {
    /// The name, as it was given.
    pub name: String,
    /// What it is called now; `None` where nothing took its place.
    pub now: Option<String>,
    /// The first kernel known not to have it.
    pub gone_in: Version,
    /// What became of it, in a sentence.
    pub why: &'static str,
}

/// Whether `name` (dots between the parts) is obsolete, and what to write instead.
pub fn obsolete(name: &str) -> Option<Obsolete> {
    let (now, gone_in, why) = if name == super::time_wait::RECYCLE.name {
        let why = "it was removed because it refused clients behind NAT; tcp_tw_reuse is for outgoing connections, nothing \
                   replaces it for incoming ones";
        (None, Version::new(4, 12), why)
    } else {
        let rest = name
            .strip_prefix("net.ipv4.netfilter.ip_conntrack_")
            .or_else(|| name.strip_prefix("net.ipv4.ip_conntrack_"))?;
        let why =
            "the spelling of connection tracking for IPv4 alone was kept for old files and then removed";
        (Some(format!("net.netfilter.nf_conntrack_{rest}")), Version::new(4, 10), why)
    };
    Some(Obsolete { name: name.to_owned(), now, gone_in, why })
}
