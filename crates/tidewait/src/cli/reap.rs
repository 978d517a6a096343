//! What can be typed after `tidewait reap`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use tidewait_model::reap::Reapable;

use super::values::{seconds_in, whole};
use super::{Format, OneNetns, Until, Which};

pub const EXAMPLES: &str = "Examples:\n  \
  tidewait reap --older-than 10s --dry-run             what would go now, by destination\n  \
  tidewait reap --keep-below 45% --to 10.0.2.9:3306    the oldest, where a destination uses more of its ports\n  \
  tidewait reap --older-than 10s --to 10.0.2.9 --for 600\n  \
  tidewait reap --older-than 30s --once --json\n\n\
A socket in TIME_WAIT is there for late segments: `tidewait study` says how late they come here. Where connect() chooses the ports \
and the peer sends timestamps, net.ipv4.tcp_tw_reuse=1 is safer: `tidewait tune plan --setting net.ipv4.tcp_tw_reuse=1`.";

/// Options of `reap`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["older_than", "keep_below"]))]
pub struct Reap {
    /// How to print it; JSON is one object a line.
    #[command(flatten)]
    pub format: Format,
    /// End sockets that have been in TIME_WAIT for this time: 10s, 1.5s
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub older_than: Option<Duration>,
    /// End the oldest sockets of a destination that uses more than this share of its ports, until it does no more: 45%
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with_all = ["incoming", "states"])]
    pub keep_below: Option<f64>,
    /// Which connections.
    #[command(flatten)]
    pub which: Which,
    /// Where.
    #[command(flatten)]
    pub netns: OneNetns,
    /// Also connections that the peers opened: they hold no local port of their own
    #[arg(long)]
    pub incoming: bool,
    /// End sockets in this state instead of TIME_WAIT, after a question: fin-wait2 or close-wait; time-wait as well if it is named
    /// too. May be repeated
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = state)]
    pub states: Vec<Reapable>,
    /// Do not ask; for states other than TIME_WAIT
    #[arg(long)]
    pub yes: bool,
    /// Look once, say what would go, end nothing
    #[arg(long, conflicts_with_all = ["once", "for"])]
    pub dry_run: bool,
    /// Look once, end what is to go now
    #[arg(long, conflicts_with = "for")]
    pub once: bool,
    /// For how long.
    #[command(flatten)]
    pub until: Until,
    /// End at most so many sockets a second
    #[arg(long, value_name = "N", value_parser = rate, allow_negative_numbers = true)]
    pub rate: Option<u32>,
    /// Leave every socket for so many seconds, whatever else was asked for; default 1
    #[arg(long, value_name = "SECONDS", value_parser = floor, allow_negative_numbers = true)]
    pub floor: Option<f64>,
    /// Where studies were kept that ran with `--state DIR`; default: what TIDEWAIT_STATE says, else /var/lib/tidewait
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl Reap {
    /// The states whose sockets are ended.
    pub fn reapable(&self) -> Vec<Reapable> {
        if self.states.is_empty() { vec![Reapable::TimeWait] } else { self.states.clone() }
    }
}

/// How long a socket has waited.
pub fn age(text: &str) -> Result<Duration, String> {
    seconds_in(text, 0.01..=3_600.0, "give a time from 10ms to 1h, such as 10s or 1.5s")
        .map(Duration::from_secs_f64)
}

/// A share of the whole: `45%`; 0.45 is one too.
fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    share
        .ok()
        .filter(|share| (0.01..=0.99).contains(share))
        .ok_or_else(|| "give a share from 1% to 99%, such as 45%".to_owned())
}

fn rate(text: &str) -> Result<u32, String> {
    whole(text, 1..=10_000_000, "give a number of sockets a second from 1 to 10000000")
}

fn floor(text: &str) -> Result<f64, String> {
    seconds_in(text, 0.0..=3_600.0, "give seconds from 0 to 3600")
}

fn state(name: &str) -> Result<Reapable, String> {
    // As `ss` and `netstat` write them, too.
    let bare = |name: &str| name.trim().to_ascii_lowercase().replace(['-', '_'], "");
    Reapable::ALL
        .into_iter()
        .find(|state| bare(state.state().key()) == bare(name))
        .ok_or_else(|| "sockets are ended in time-wait, fin-wait2 and close-wait only".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parsed(args: &str) -> Result<Reap, String> {
        match Cli::try_parse_from(["tidewait", "reap"].into_iter().chain(args.split_whitespace())) {
            Ok(Cli { command: Some(Command::Reap(options)), .. }) => Ok(*options),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn times_and_shares_are_read_as_people_write_them() {
        for (text, ms) in [("10s", 10_000), ("1.5 s", 1_500), ("500ms", 500), ("2", 2_000), ("1m", 60_000)] {
            assert_eq!(age(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "0", "-1s", "2h", "inf", "NaN", "1d"] {
            assert!(age(text).is_err(), "{text}");
        }
        for (text, per_cent) in [("45%", 45.0), ("0.45", 45.0), ("7.5 %", 7.5)] {
            assert!((share(text).unwrap() * 100.0 - per_cent).abs() < 1e-9, "{text}");
        }
        for text in ["45", "0%", "100%", "-5%", "many", "NaN"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (args, words) in [
            ("", "--older-than <TIME>|--keep-below <SHARE>"),
            ("--older-than 10s --keep-below 45%", "cannot be used with"),
            ("--keep-below 45% --incoming", "cannot be used with"),
            ("--keep-below 45% --state close-wait", "cannot be used with"),
            ("--older-than 10s --dry-run --once", "cannot be used with"),
            ("--older-than 10s --state established", "time-wait, fin-wait2 and close-wait only"),
            ("--older-than 10s --rate 0", "give a number of sockets"),
            ("--older-than 10s --floor -1", "give seconds from 0 to 3600"),
        ] {
            let refused = parsed(args).unwrap_err();
            assert!(refused.contains(words), "{args}: {refused}");
        }
    }

    #[test]
    fn time_wait_is_meant_where_no_state_is_named() {
        assert_eq!(parsed("--older-than 10s").unwrap().reapable(), [Reapable::TimeWait]);
        let named = parsed("--older-than 10s --state CLOSE-WAIT,fin_wait2").unwrap();
        assert_eq!(named.reapable(), [Reapable::CloseWait, Reapable::FinWait2]);
    }
}
