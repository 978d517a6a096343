//! What a setting does, measured: the figures before and after a change, what they say, and which claims they bear out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::Host;

/// The value of [`SettingsRun::schema`].
pub const SCHEMA: &str = "tidewait.lab-settings/1";

/// Counts of a closed system are exact, but for a port that a stray reset frees: 2 % of the larger, and 2 at least.
const COUNTS_ALIKE: (f64, f64) = (0.02, 2.0);

/// A timer is read a moment after it was set, later on a busy machine: 10 % of the larger, and 1 s at least. The settings
/// claim to halve it.
const SECONDS_ALIKE: (f64, f64) = (0.1, 1.0);

/// How late a busy machine may be to see that a port is free: half of the larger, and 100 ms at least.
const MILLISECONDS_ALIKE: (f64, f64) = (0.5, 100.0);

/// Rates are the machine's as much as the setting's: they differ if one is three times the other, and are nothing below
/// 20 a second, which a stray reset or two could make.
const RATES_ALIKE: (f64, f64) = (2.0 / 3.0, 20.0);

/// What `tidewait lab run settings --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "tidewait.lab-settings/1")]
pub struct SettingsRun {
    /// Always `tidewait.lab-settings/1`.
    pub schema: String,
    /// The machine whose kernel was measured.
    pub host: Host,
    /// Ports of the range that the experiments begin with.
    pub ports: u64,
    /// One entry an experiment.
    pub experiments: Vec<ExperimentResult>,
    /// What others say, held against the experiments.
    pub claims: Vec<ClaimResult>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What came of one experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExperimentResult {
    /// What it is called by.
    pub experiment: String,
    /// What is measured, in a sentence.
    pub about: String,
    /// What is in force before and after: settings other than the defaults, the range apart.
    pub given: Vec<Change>,
    /// What is changed between the two measurements.
    pub changes: Vec<Change>,
    /// What was measured.
    pub effects: Vec<Effect>,
    /// Why nothing was measured; null where it was.
    pub reason: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// A setting, or a socket option, and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What is written.
    pub value: String,
}

/// One thing that was measured twice, and what it ought to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    /// What was measured.
    pub metric: Metric,
    /// Before the change; null where nothing was measured.
    pub before: Option<Figure>,
    /// After it.
    pub after: Option<Figure>,
    /// What the two say.
    pub verdict: Verdict,
    /// What is known of the setting.
    pub expected: Verdict,
}

/// A figure as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// The number, in the unit of its metric.
    pub value: f64,
    /// True where the end was not reached: at least so much.
    pub at_least: bool,
}

/// What is measured. Nothing is reckoned from something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Connections, each closed here at once, until connect() says EADDRNOTAVAIL.
    ConnectsUntilRefused,
    /// The same where bind(address, port 0) chooses the port, until it says EADDRINUSE.
    BindsUntilRefused,
    /// Connections a second while every port is in TIME_WAIT, older than 1.1 s at the start; connect() chooses.
    RateWhenFull,
    /// The same where bind(address, port 0) chooses the port.
    BindRateWhenFull,
    /// Age in milliseconds at which connect() takes a TIME_WAIT over.
    TakenOverAfter,
    /// The timer of a TIME_WAIT that has just begun, in seconds.
    TimeWaitSeconds,
    /// Sockets in TIME_WAIT after as many closes as half the ports.
    TimeWaitKept,
    /// Sockets in TIME_WAIT, of 20, after a reset from the peer to each.
    SurviveReset,
    /// The timer of an orphaned FIN_WAIT2 that has just begun, in seconds.
    FinWait2Seconds,
    /// Of 20 orphaned FIN_WAIT2 those that /proc/net/sockstat counts under `tw`, as it does TIME_WAIT, after 3 s.
    FinWait2Counted,
    /// Sockets in CLOSE_WAIT, of 20, after 3 s in which the program did not close them.
    CloseWaitKept,
    /// Sockets in SYN_SENT, of 20, after 5 s in which the peer said nothing.
    SynSentKept,
    /// The timer of the first keepalive probe on an idle connection with SO_KEEPALIVE, in seconds.
    ProbeAfter,
    /// The timer of the next probe after one that was not answered, in seconds.
    NextProbeAfter,
    /// Seconds until a connection with SO_KEEPALIVE is dropped whose peer does not answer.
    DroppedAfter,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    More,
    Less,
    /// More is protection.
    Guard,
    /// Neither: it is not about TIME_WAIT or ports.
    Neither,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Sockets or connections.
    Count,
    /// Connections a second.
    Rate,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What two figures say of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// More connections, or TIME_WAIT out of their way sooner.
    Helps,
    /// TIME_WAIT is kept that would be lost.
    Protects,
    /// It does what it is for, which is neither TIME_WAIT nor ports.
    Changes,
    /// The figures are alike.
    NoEffect,
    /// Fewer connections, or TIME_WAIT lost that protects them.
    Worse,
    /// This kernel does not have the setting.
    NotHere,
    /// It cannot be measured in a namespace, or not on this machine.
    NotMeasured,
    /// The measurement failed.
    Failed,
}

/// What others say, and who says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimResult {
    /// Who.
    pub source: String,
    /// What, in short.
    pub says: String,
    /// The figures it was held against.
    pub tested: Vec<Tested>,
    /// What came of it.
    pub verdict: Judgement,
    /// Why, in a sentence.
    pub why: String,
}

/// What a claim foretells of a figure, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tested {
    /// The experiment.
    pub experiment: String,
    /// What was measured in it.
    pub metric: Metric,
    /// What the claim comes to.
    pub foretold: Verdict,
    /// What was measured; null where the experiment was left out of this run.
    pub measured: Option<Verdict>,
    /// Before the change.
    pub before: Option<Figure>,
    /// After it.
    pub after: Option<Figure>,
}

/// Whether a claim is borne out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Everything it foretells was measured.
    Right,
    /// Some of it was.
    Half,
    /// None of it was.
    Wrong,
    /// This kernel does not have what it speaks of.
    NotHere,
    /// It could not be tested.
    Untested,
}

/// What a change does to a machine with these settings, measured in namespaces of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// What was measured.
    pub measured: Vec<Measured>,
    /// Connections that ended without TIME_WAIT because tcp_max_tw_buckets was reached: before the change, all pools together.
    pub unprotected_before: u64,
    /// The same after it. Their ports are free at once, and late segments may reach a new connection.
    pub unprotected_after: u64,
    /// Settings of the machine that a namespace cannot have, and that were left at its own value.
    pub left_out: Vec<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// One thing that was measured before and after a change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// What.
    pub metric: Metric,
    /// Before.
    pub before: Figure,
    /// After.
    pub after: Figure,
    /// What the two say.
    pub verdict: Verdict,
}

impl Figure {
    /// A figure that was reached.
    pub fn exact(value: f64) -> Figure {
        Figure { value, at_least: false }
    }

    /// A figure whose end was not reached.
    pub fn at_least(value: f64) -> Figure {
        Figure { value, at_least: true }
    }
}

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 15] = [
        Metric::ConnectsUntilRefused,
        Metric::BindsUntilRefused,
        Metric::RateWhenFull,
        Metric::BindRateWhenFull,
        Metric::TakenOverAfter,
        Metric::TimeWaitSeconds,
        Metric::TimeWaitKept,
        Metric::SurviveReset,
        Metric::FinWait2Seconds,
        Metric::FinWait2Counted,
        Metric::CloseWaitKept,
        Metric::SynSentKept,
        Metric::ProbeAfter,
        Metric::NextProbeAfter,
        Metric::DroppedAfter,
    ];

    /// What it is, for a line of a table.
    pub fn words(self) -> &'static str {
        match self {
            Metric::ConnectsUntilRefused => "connects until refused",
            Metric::BindsUntilRefused => "bind+connect until refused",
            Metric::RateWhenFull => "connects/s when full",
            Metric::BindRateWhenFull => "bind+connect/s when full",
            Metric::TakenOverAfter => "TIME_WAIT taken over after",
            Metric::TimeWaitSeconds => "TIME_WAIT lasts",
            Metric::TimeWaitKept => "TIME_WAIT kept",
            Metric::SurviveReset => "TIME_WAIT survive a reset",
            Metric::FinWait2Seconds => "orphaned FIN_WAIT2 lasts",
            Metric::FinWait2Counted => "FIN_WAIT2 left after 3 s",
            Metric::CloseWaitKept => "CLOSE_WAIT left after 3 s",
            Metric::SynSentKept => "SYN_SENT left after 5 s",
            Metric::ProbeAfter => "first keepalive probe after",
            Metric::NextProbeAfter => "next keepalive probe after",
            Metric::DroppedAfter => "silent peer dropped after",
        }
    }

    /// What its figures count.
    pub fn unit(self) -> Unit {
        match self {
            Metric::RateWhenFull | Metric::BindRateWhenFull => Unit::Rate,
            Metric::TakenOverAfter => Unit::Milliseconds,
            Metric::TimeWaitSeconds
            | Metric::FinWait2Seconds
            | Metric::ProbeAfter
            | Metric::NextProbeAfter
            | Metric::DroppedAfter => Unit::Seconds,
            Metric::ConnectsUntilRefused
            | Metric::BindsUntilRefused
            | Metric::TimeWaitKept
            | Metric::SurviveReset
            | Metric::FinWait2Counted
            | Metric::CloseWaitKept
            | Metric::SynSentKept => Unit::Count,
        }
    }

    fn sense(self) -> Sense {
        match self {
            Metric::ConnectsUntilRefused
            | Metric::BindsUntilRefused
            | Metric::RateWhenFull
            | Metric::BindRateWhenFull => Sense::More,
            Metric::TakenOverAfter
            | Metric::TimeWaitSeconds
            | Metric::CloseWaitKept
            | Metric::SynSentKept => Sense::Less,
            Metric::TimeWaitKept | Metric::SurviveReset => Sense::Guard,
            Metric::FinWait2Seconds
            | Metric::FinWait2Counted
            | Metric::ProbeAfter
            | Metric::NextProbeAfter
            | Metric::DroppedAfter => Sense::Neither,
        }
    }

    /// What the figures before and after a change say.
    pub fn verdict(self, before: Figure, after: Figure) -> Verdict {
        let (before, after) = (before.value, after.value);
        if self.alike(before, after) {
            return Verdict::NoEffect;
        }
        match (self.sense(), after > before) {
            (Sense::More, true) | (Sense::Less, false) => Verdict::Helps,
            (Sense::Guard, true) => Verdict::Protects,
            (Sense::Neither, _) => Verdict::Changes,
            (Sense::More | Sense::Guard, false) | (Sense::Less, true) => Verdict::Worse,
        }
    }

    /// Whether two figures are the same for all that the measurement can tell.
    fn alike(self, one: f64, other: f64) -> bool {
        let (part, least) = match self.unit() {
            Unit::Count => COUNTS_ALIKE,
            Unit::Seconds => SECONDS_ALIKE,
            Unit::Milliseconds => MILLISECONDS_ALIKE,
            Unit::Rate => RATES_ALIKE,
        };
        (one - other).abs() <= (part * one.max(other)).max(least)
    }
}

impl Verdict {
    /// The words on the page.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Helps => "helps",
            Verdict::Protects => "protects",
            Verdict::Changes => "changes it",
            Verdict::NoEffect => "no effect",
            Verdict::Worse => "WORSE",
            Verdict::NotHere => "not on this kernel",
            Verdict::NotMeasured => "not measured",
            Verdict::Failed => "FAILED",
        }
    }

    /// Whether there are two figures behind it.
    pub fn is_measured(self) -> bool {
        !matches!(self, Verdict::NotHere | Verdict::NotMeasured | Verdict::Failed)
    }
}

impl Judgement {
    /// The words on the page.
    pub fn words(self) -> &'static str {
        match self {
            Judgement::Right => "right",
            Judgement::Half => "half right",
            Judgement::Wrong => "WRONG",
            Judgement::NotHere => "not here",
            Judgement::Untested => "untested",
        }
    }

    /// What comes of the predictions of a claim.
    ///
    /// One whose experiments were left out of the run, even in part, is untested.
    pub fn of(tested: &[Tested]) -> Judgement {
        if tested.iter().any(|tested| tested.measured.is_none()) {
            return Judgement::Untested;
        }
        let known: Vec<bool> = tested
            .iter()
            .filter_map(|tested| tested.measured.map(|measured| (tested.foretold, measured)))
            .filter(|(foretold, measured)| measured.is_measured() || foretold == measured)
            .map(|(foretold, measured)| foretold == measured)
            .collect();
        let held = known.iter().filter(|held| **held).count();
        let gone = |tested: &Tested| tested.measured == Some(Verdict::NotHere);
        match (held, known.len()) {
            (_, 0) if tested.iter().any(gone) => Judgement::NotHere,
            (_, 0) => Judgement::Untested,
            (0, _) => Judgement::Wrong,
            (held, known) if held == known => Judgement::Right,
            _ => Judgement::Half,
        }
    }
}

impl Effect {
    /// Whether it is as the setting is known to be. What could not be measured here is no contradiction.
    pub fn is_as_expected(&self) -> bool {
        match self.verdict {
            Verdict::NotHere | Verdict::NotMeasured => true,
            verdict => verdict == self.expected,
        }
    }
}

impl Measured {
    /// The two figures with what they say.
    pub fn new(metric: Metric, before: Figure, after: Figure) -> Measured {
        Measured { metric, before, after, verdict: metric.verdict(before, after) }
    }
}

impl SettingsRun {
    /// The effect that an experiment had on a figure.
    pub fn effect(&self, experiment: &str, metric: Metric) -> Option<&Effect> {
        let found = self.experiments.iter().find(|result| result.experiment == experiment)?;
        found.effects.iter().find(|effect| effect.metric == metric)
    }

    /// Figures that are as expected, that are not, and that could not be had here.
    pub fn tally(&self) -> (usize, usize, usize) {
        let effects = || self.experiments.iter().flat_map(|result| &result.effects);
        let missing = |effect: &&Effect| matches!(effect.verdict, Verdict::NotHere | Verdict::NotMeasured);
        let wrong = effects().filter(|effect| !effect.is_as_expected()).count();
        let missing = effects().filter(missing).count();
        (effects().count() - wrong - missing, wrong, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(metric: Metric, before: f64, after: f64) -> Verdict {
        metric.verdict(Figure::exact(before), Figure::exact(after))
    }

    #[test]
    fn what_is_within_the_tolerance_is_no_effect() {
        use Verdict::{Changes, Helps, NoEffect, Protects, Worse};
        for (metric, before, after, expected) in [
            (Metric::ConnectsUntilRefused, 2_000.0, 2_001.0, NoEffect),
            (Metric::ConnectsUntilRefused, 200.0, 202.0, NoEffect),
            (Metric::ConnectsUntilRefused, 2_000.0, 4_000.0, Helps),
            (Metric::BindsUntilRefused, 2_000.0, 1_500.0, Worse),
            (Metric::RateWhenFull, 0.0, 0.0, NoEffect),
            (Metric::RateWhenFull, 0.0, 4.0, NoEffect),
            (Metric::RateWhenFull, 0.0, 190.0, Helps),
            (Metric::RateWhenFull, 2_000.0, 900.0, NoEffect),
            (Metric::RateWhenFull, 2_000.0, 0.0, Worse),
            (Metric::TimeWaitSeconds, 59.9, 57.0, NoEffect),
            (Metric::TimeWaitSeconds, 59.9, 29.9, Helps),
            (Metric::TakenOverAfter, 1_002.0, 190.0, Helps),
            (Metric::TakenOverAfter, 1_002.0, 1_400.0, NoEffect),
            (Metric::TimeWaitKept, 1_000.0, 50.0, Worse),
            (Metric::SurviveReset, 0.0, 20.0, Protects),
            (Metric::FinWait2Seconds, 60.0, 30.0, Changes),
        ] {
            assert_eq!(verdict(metric, before, after), expected, "{metric:?} {before} {after}");
        }
    }

    fn tested(foretold: Verdict, measured: Option<Verdict>) -> Tested {
        Tested {
            experiment: "reuse".to_owned(),
            metric: Metric::RateWhenFull,
            foretold,
            measured,
            before: None,
            after: None,
        }
    }

    #[test]
    fn a_claim_is_as_right_as_what_it_foretells() {
        use Verdict::{Helps, NoEffect, NotHere, NotMeasured};
        let of = |pairs: &[(Verdict, Option<Verdict>)]| {
            let tests: Vec<Tested> =
                pairs.iter().map(|(foretold, measured)| tested(*foretold, *measured)).collect();
            Judgement::of(&tests)
        };
        assert_eq!(of(&[(Helps, Some(Helps)), (NoEffect, Some(NoEffect))]), Judgement::Right);
        assert_eq!(of(&[(Helps, Some(Helps)), (Helps, Some(NoEffect))]), Judgement::Half);
        assert_eq!(of(&[(Helps, Some(NoEffect))]), Judgement::Wrong);
        assert_eq!(of(&[(Helps, Some(NotHere))]), Judgement::NotHere);
        assert_eq!(of(&[(NotHere, Some(NotHere)), (NoEffect, Some(NoEffect))]), Judgement::Right);
        assert_eq!(of(&[(Helps, Some(NotHere)), (Helps, Some(Helps))]), Judgement::Right);
        assert_eq!(of(&[(Helps, Some(NotMeasured))]), Judgement::Untested);
        assert_eq!(of(&[(Helps, Some(Helps)), (Helps, None)]), Judgement::Untested);
    }

    #[test]
    fn what_could_not_be_measured_contradicts_nothing() {
        let effect = |verdict| Effect {
            metric: Metric::TimeWaitSeconds,
            before: None,
            after: None,
            verdict,
            expected: Verdict::Helps,
        };
        assert!(effect(Verdict::NotHere).is_as_expected());
        assert!(effect(Verdict::NotMeasured).is_as_expected());
        assert!(!effect(Verdict::Failed).is_as_expected());
        assert!(!effect(Verdict::NoEffect).is_as_expected());
        assert!(effect(Verdict::Helps).is_as_expected());
    }

    #[test]
    fn every_metric_is_in_the_list_once() {
        for (index, metric) in Metric::ALL.iter().enumerate() {
            assert!(!Metric::ALL[..index].contains(metric), "{metric:?}");
            assert!(!metric.words().is_empty());
        }
    }
}
