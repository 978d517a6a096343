//! What four much-read texts say of these settings, each line with the experiments that bear it out or do not.

use tidewait_model::experiment::Metric::{
    BindRateWhenFull, BindsUntilRefused, CloseWaitKept, ConnectsUntilRefused, FinWait2Counted,
    FinWait2Seconds, ProbeAfter, RateWhenFull, TimeWaitKept, TimeWaitSeconds,
};
use tidewait_model::experiment::Verdict::{Changes, Helps, NoEffect, NotHere};
use tidewait_model::experiment::{ClaimResult, Judgement, Metric, SettingsRun, Tested, Verdict};

/// A line of a text, and what it foretells of figures.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Whose text.
    pub source: &'static str,
    /// What it says, in short.
    pub says: &'static str,
    /// Experiment, metric, and what it foretells.
    pub foretells: &'static [(&'static str, Metric, Verdict)],
    /// Why it comes out as it does.
    pub why: &'static str,
}

/// A knowledge base on "TIME WAIT exhaustion", 2014.
const CORE_ADMIN: &str = "core-admin";
/// A hosting provider's knowledge base on TIME_WAIT and CLOSE_WAIT.
const HOSTING: &str = "hosting";
/// The NANOG mailing list, December 2012.
const SOUCY: &str = "nanog: Soucy";
const KYRIAN: &str = "nanog: Kyrian";

/// The four lines as they were posted.
const FOUR: &str = "nanog-four-lines";

/// Every claim, by source.
pub fn claims() -> &'static [Claim] {
    CLAIMS
}

const CLAIMS: &[Claim] = &[
    Claim {
        source: CORE_ADMIN,
        says: "when the range is exhausted, no more connections can be created",
        foretells: &[
            ("second-address", ConnectsUntilRefused, NoEffect),
            ("second-address", BindsUntilRefused, NoEffect),
        ],
        why: "to the same address and port; others can still be reached, unless bind() chose the ports",
    },
    Claim {
        source: CORE_ADMIN,
        says: "a wider port range helps",
        foretells: &[
            ("ip_local_port_range", ConnectsUntilRefused, Helps),
            ("ip_local_port_range", BindsUntilRefused, Helps),
        ],
        why: "as many connections more as ports, whoever chooses them",
    },
    Claim {
        source: CORE_ADMIN,
        says: "if that is not enough, reduce the time in TIME_WAIT",
        foretells: &[("tcp_tw_timeout", TimeWaitSeconds, Helps)],
        why: "mainline has no setting for it; only kernels of some vendors do",
    },
    Claim {
        source: CORE_ADMIN,
        says: "else let ports in TIME_WAIT be reused (tcp_tw_reuse), for squid's \"commBind: Address already in use\" too",
        foretells: &[("tcp_tw_reuse", RateWhenFull, Helps), ("tcp_tw_reuse", BindRateWhenFull, Helps)],
        why: "it helps where connect() chooses the port; commBind is bind(), which does not look at it",
    },
    Claim {
        source: CORE_ADMIN,
        says: "tcp_tw_recycle is the more aggressive way",
        foretells: &[("tcp_tw_recycle", TimeWaitSeconds, Helps)],
        why: "removed in Linux 4.12",
    },
    Claim {
        source: CORE_ADMIN,
        says: "every address of the service doubles the ports",
        foretells: &[
            ("second-address", ConnectsUntilRefused, Helps),
            ("second-address", BindsUntilRefused, Helps),
        ],
        why: "a port that connect() chose serves every destination once; one that bind() chose, as squid's, only one",
    },
    Claim {
        source: HOSTING,
        says: "tcp_fin_timeout=30 releases TIME_WAIT sooner, and resources for new connections",
        foretells: &[
            ("tcp_fin_timeout", TimeWaitSeconds, Helps),
            ("tcp_fin_timeout", ConnectsUntilRefused, Helps),
            ("tcp_fin_timeout", RateWhenFull, Helps),
        ],
        why: "it is the timer of an orphaned FIN_WAIT2",
    },
    Claim {
        source: HOSTING,
        says: "tcp_fin_timeout reduces CLOSE_WAIT",
        foretells: &[("tcp_fin_timeout-1", CloseWaitKept, Helps)],
        why: "CLOSE_WAIT ends when the program closes the socket",
    },
    Claim {
        source: HOSTING,
        says: "tcp_keepalive_intvl=30 and tcp_keepalive_probes=5 reduce TIME_WAIT",
        foretells: &[
            ("tcp_keepalive_intvl", TimeWaitKept, Helps),
            ("tcp_keepalive_intvl", TimeWaitSeconds, Helps),
            ("tcp_keepalive_probes", TimeWaitKept, Helps),
            ("tcp_keepalive_probes", TimeWaitSeconds, Helps),
        ],
        why: "TIME_WAIT has no keepalive timer",
    },
    Claim {
        source: HOSTING,
        says: "keepalive reduces CLOSE_WAIT",
        foretells: &[("tcp_keepalive-1", CloseWaitKept, Helps)],
        why: "a program that does not set SO_KEEPALIVE is not probed, and its leak stays",
    },
    Claim {
        source: HOSTING,
        says: "tcp_tw_recycle=1 recycles TIME_WAIT fast",
        foretells: &[("tcp_tw_recycle", TimeWaitSeconds, Helps)],
        why: "removed in Linux 4.12",
    },
    Claim {
        source: HOSTING,
        says: "tcp_tw_reuse=1 allows TIME_WAIT to be used for new connections",
        foretells: &[("tcp_tw_reuse", RateWhenFull, Helps)],
        why: "connect() takes over what is older than a second",
    },
    Claim {
        source: SOUCY,
        says: "TIME_WAIT is 60 s in Linux, and /proc has nothing to change that",
        foretells: &[
            ("tcp_tw_timeout", TimeWaitSeconds, NotHere),
            (FOUR, TimeWaitSeconds, NoEffect),
            ("tcp_tw_reuse", TimeWaitSeconds, NoEffect),
            ("ip_local_port_range", TimeWaitSeconds, NoEffect),
        ],
        why: "it is compiled in",
    },
    Claim {
        source: SOUCY,
        says: "the range is easily adjusted, yet ports / 60 s is all that can be sustained",
        foretells: &[
            ("ip_local_port_range", ConnectsUntilRefused, Helps),
            ("ip_local_port_range", TimeWaitSeconds, NoEffect),
        ],
        why: "each port serves one connection to a destination in a TIME_WAIT: 32,768 in 60 s are 546 a second",
    },
    Claim {
        source: SOUCY,
        says: "tcp_tw_reuse is not effective at a sustained rate above that",
        foretells: &[("tcp_tw_reuse", RateWhenFull, NoEffect), ("tcp_tw_reuse", BindRateWhenFull, NoEffect)],
        why: "it is, where connect() chooses the port; it is not where bind() does, as in a proxy that binds its source address",
    },
    Claim {
        source: SOUCY,
        says: "SO_REUSEADDR does not do much for outgoing connections",
        foretells: &[
            ("SO_REUSEADDR", ConnectsUntilRefused, NoEffect),
            ("SO_REUSEADDR", BindsUntilRefused, NoEffect),
            ("SO_REUSEADDR", RateWhenFull, NoEffect),
        ],
        why: "it is about binding a port that one names",
    },
    Claim {
        source: SOUCY,
        says: "keepalive and tcp_fin_timeout do not affect TCP_TIMEWAIT_LEN",
        foretells: &[(FOUR, TimeWaitSeconds, NoEffect)],
        why: "they do not",
    },
    Claim {
        source: KYRIAN,
        says: "tcp_keepalive_intvl=15, _probes=3, _time=90 and tcp_fin_timeout=30 reduce connections in TIME_WAIT",
        foretells: &[
            (FOUR, TimeWaitKept, Helps),
            (FOUR, TimeWaitSeconds, Helps),
            (FOUR, ConnectsUntilRefused, Helps),
            (FOUR, RateWhenFull, Helps),
        ],
        why: "none of them touches TIME_WAIT",
    },
    Claim {
        source: KYRIAN,
        says: "they seem to have worked in the real world",
        foretells: &[(FOUR, TimeWaitKept, Helps), ("tcp_fin_timeout-1", FinWait2Counted, Changes)],
        why: "/proc/net/sockstat counts an orphaned FIN_WAIT2 under tw, and tcp_fin_timeout ends those sooner; TIME_WAIT stays",
    },
    Claim {
        source: KYRIAN,
        says: "they are for connections that idle out, and TIME_WAIT after a proper close is hard-coded",
        foretells: &[
            ("tcp_fin_timeout", FinWait2Seconds, Changes),
            ("tcp_keepalive_time", ProbeAfter, Changes),
            (FOUR, TimeWaitSeconds, NoEffect),
        ],
        why: "so it is",
    },
    Claim {
        source: KYRIAN,
        says: "the settings of netfilter were said to have nothing to do with it",
        foretells: &[
            ("nf_conntrack_tcp_timeout_time_wait", TimeWaitSeconds, NoEffect),
            ("nf_conntrack_tcp_timeout_time_wait", RateWhenFull, NoEffect),
        ],
        why: "connection tracking has a state of the same name, with a time of its own",
    },
];

/// Holds every claim against what a run has measured.
pub fn judge(run: &SettingsRun) -> Vec<ClaimResult> {
    let result = |claim: &Claim| {
        let tested = claim.foretells.iter().map(|&(experiment, metric, foretold)| {
            let effect = run.effect(experiment, metric);
            Tested {
                experiment: experiment.to_owned(),
                metric,
                foretold,
                measured: effect.map(|effect| effect.verdict),
                before: effect.and_then(|effect| effect.before),
                after: effect.and_then(|effect| effect.after),
            }
        });
        let tested: Vec<Tested> = tested.collect();
        ClaimResult {
            source: claim.source.to_owned(),
            says: claim.says.to_owned(),
            verdict: Judgement::of(&tested),
            tested,
            why: claim.why.to_owned(),
        }
    };
    CLAIMS.iter().map(result).collect()
}
