//! What can be typed: the one definition that parsing, help, man pages and completions are made from.

mod exec;
mod reap;
mod steer;
mod study;
mod tune;
mod values;
mod which;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidewait_model::{AddressFilter, State};
use tidewait_surfaces::plugin::{Metric, Range};

use values::{
    end, entered, events, how_many, interval, jobs, kind, metric, named, preset, process, rows, up_to_an_hour,
};

pub use exec::Exec;
#[cfg(feature = "act")]
pub use exec::ExecKeeper;
pub use reap::Reap;
#[cfg(feature = "act")]
pub use steer::{Choosing, Target};
pub use steer::{Spread, Steer};
pub use study::Study;
#[cfg(feature = "act")]
pub use tune::{Apply, Persist, Unpersist};
pub use tune::{Plan, StateDir, Tune, TuneErrand, Wanted};
pub use which::{OneNetns, Until, Which};

/// Says why a Linux machine runs out of TCP connections, who causes it, what helps and what does not.
///
/// Without a command it reports.
#[derive(Debug, Parser)]
#[command(name = "tidewait", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `report` if left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `report`, which also stand alone.
    #[command(flatten)]
    pub report: Report,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 77 not permitted.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Which destinations use up local ports, how fast, and how long that can go on
    Report(Report),
    /// How many connections a second a number of ports carries, or what a rate needs
    Capacity(Capacity),
    /// Nagios, Icinga or Checkmk plugin over the findings of `report`
    #[command(version, after_help = CHECK_CODES)]
    Check(Check),
    /// What a state, a setting, a finding or an error message means, in general and on this machine
    Explain(Explain),
    /// Connections as they come and go: who opens them, who closes first, which connect() fails and why
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Trace),
    /// What TIME_WAIT absorbs: segments that arrive for sockets in TIME_WAIT, by age and kind, and of how many sockets
    #[command(after_help = study::EXAMPLES)]
    Study(Study),
    /// Change settings without fear: planned, applied, confirmed, undone, kept across a restart
    #[command(after_help = tune::EXAMPLES)]
    Tune(Tune),
    /// Run one command, with its local ports chosen otherwise than it would
    #[command(after_help = exec::EXAMPLES)]
    Exec(Exec),
    /// Clean up behind a command that `exec` has started.
    #[cfg(feature = "act")]
    #[command(hide = true)]
    ExecKeeper(ExecKeeper),
    /// End sockets in TIME_WAIT before their time, so that their ports are free again: by age, or the oldest where ports run out
    #[command(after_help = reap::EXAMPLES)]
    Reap(Box<Reap>),
    /// Choose the local ports of connect() for programs that run, at once however full the range is
    #[command(after_help = steer::STEER_EXAMPLES)]
    Steer(Steer),
    /// Take source addresses in turn for connect() of programs that run
    #[command(after_help = steer::SPREAD_EXAMPLES)]
    Spread(Spread),
    /// What this kernel and these privileges allow, each thing tried in a namespace of its own
    Doctor(Doctor),
    /// Make each kind of trouble on the real kernel, in a machine of its own, and see what tidewait says of it
    Lab(Lab),
    /// Print the completion script for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print a man page
    Man {
        /// The command it is about, such as `check` or `lab run`; tidewait itself if left out
        command: Vec<String>,
    },
}

/// How facts are printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Format {
    /// Print JSON instead of a page
    #[arg(long)]
    pub json: bool,
    /// Plain ASCII instead of block characters
    #[arg(long)]
    pub ascii: bool,
}

/// Options of `report`.
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
    /// Look into this network namespace: a name under /run/netns, a process number, 'host' or 'all'.
    /// Default: all when run on the host, else the one tidewait runs in
    #[arg(long, value_name = "NAME|PID|all")]
    pub netns: Option<String>,
    /// List so many destinations and services of a namespace; 0 lists all
    #[arg(long, value_name = "N", value_parser = rows, allow_negative_numbers = true)]
    pub top: Option<usize>,
    /// Only connections with this peer
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = end)]
    pub to: Option<AddressFilter>,
    /// Look for the processes behind the connections: always, never, or where something is wrong
    #[arg(long, value_enum, default_value_t = Owners::Near, num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    pub owners: Owners,
    /// Look again every so many seconds, and redraw
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = interval, allow_negative_numbers = true)]
    pub watch: Option<f64>,
    /// Watch the kernel's counters for so many seconds, to tell what grows from what was long ago
    #[arg(long = "for", value_name = "SECONDS", value_parser = up_to_an_hour, allow_negative_numbers = true)]
    pub watch_for: Option<f64>,
    /// Trace for so many seconds first: who opens connections, who closes them first, whose the TIME_WAIT are. Needs root
    /// and BPF. Ctrl-C or SIGTERM ends it early
    #[arg(long, value_name = "SECONDS", value_parser = up_to_an_hour, allow_negative_numbers = true)]
    pub trace: Option<f64>,
    /// Say where the time went
    #[arg(long)]
    pub timings: bool,
}

/// When owners are looked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Owners {
    /// For everything listed; reads every process's open files
    Always,
    /// Where a destination uses 40 % of its ports or more, sockets linger, or an accept queue is full
    Near,
    /// Never
    Never,
}

/// Options of `capacity`.
#[derive(Clone, Debug, Args)]
pub struct Capacity {
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
    /// Connections a second that are wanted; without it, it is what is computed
    #[arg(long, value_name = "PER_SECOND", allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// Local ports of one source address; default: what this machine has
    #[arg(long, value_parser = how_many, allow_negative_numbers = true)]
    pub ports: Option<u32>,
    /// Seconds that a closed connection keeps its port; default: this machine's
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub time_wait: Option<f64>,
    /// Source addresses; default 1
    #[arg(long, value_parser = how_many, allow_negative_numbers = true)]
    pub sources: Option<u32>,
    /// Destination addresses and ports; default 1
    #[arg(long, value_parser = how_many, allow_negative_numbers = true)]
    pub destinations: Option<u32>,
    /// Ports and times of a known system or NAT gateway instead of this machine's
    #[arg(long, value_name = "NAME", value_parser = preset)]
    pub preset: Option<&'static tidewait_model::capacity::Preset>,
    /// List the presets with their sources
    #[arg(long)]
    pub presets: bool,
}

const CHECK_CODES: &str = "Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; 3 also for wrong usage and for this help, \
so that a service that is set up wrongly is never green.\n\n\
A RANGE is what raises no alert: 10 (0 to 10), 10: (10 or more), ~:10 (10 or less), 10:20; @10:20 alerts inside. \
Without -w and -c the findings decide alone.";

/// Options of `check`. Names and meanings are those of the Monitoring Plugins guidelines.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Warn if the metric is outside this range
    #[arg(short, long, value_name = "RANGE", allow_hyphen_values = true)]
    pub warning: Option<Range>,
    /// Be critical if the metric is outside this range
    #[arg(short, long, value_name = "RANGE", allow_hyphen_values = true)]
    pub critical: Option<Range>,
    /// What -w and -c are for; default port_fill. `--list-metrics` tells them all
    #[arg(long, value_name = "NAME", value_parser = metric)]
    pub metric: Option<&'static Metric>,
    /// Let -w and -c decide alone, whatever the findings are
    #[arg(long, conflicts_with_all = ["only", "ignore"])]
    pub metric_only: bool,
    /// List the metrics: label, unit, what it tells and what it does not
    #[arg(long)]
    pub list_metrics: bool,
    /// Only this kind of finding counts; may be repeated
    #[arg(long, value_name = "FINDING", value_parser = kind)]
    pub only: Vec<String>,
    /// This kind of finding does not count; may be repeated
    #[arg(long, value_name = "FINDING", value_parser = kind)]
    pub ignore: Vec<String>,
    /// Answer UNKNOWN after so many seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "10", value_parser = up_to_an_hour, allow_negative_numbers = true)]
    pub timeout: f64,
    /// Watch the kernel's counters for so many seconds, to tell what is dropped now from what was long ago;
    /// default 1, or half the time-out if that is less
    #[arg(long = "for", value_name = "SECONDS", value_parser = up_to_an_hour, allow_negative_numbers = true)]
    pub watch_for: Option<f64>,
    /// The machine that is meant; it has to be this one
    #[arg(short = 'H', long, value_name = "HOST")]
    pub hostname: Option<String>,
    /// Tell more: -v findings and first remedies, -vv evidence and all remedies, -vvv configuration lines
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Look into this network namespace: a name under /run/netns, a process number, 'host' or 'all'.
    /// Default: all when run on the host and permitted, else the one tidewait runs in
    #[arg(long, value_name = "NAME|PID|all")]
    pub netns: Option<String>,
    /// Only connections with this peer
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = end)]
    pub to: Option<AddressFilter>,
}

/// Options of `explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
    /// A state, a setting, a socket option, a finding, a concept, a program, or an error message as it was
    /// logged; several words are one topic, '-' reads it from standard input
    #[arg(value_name = "TOPIC", required_unless_present = "list", allow_hyphen_values = true)]
    pub topic: Vec<String>,
    /// List every topic
    #[arg(long, conflicts_with = "topic")]
    pub list: bool,
    /// Say how it is in this network namespace, as in `report`
    #[arg(long, value_name = "NAME|PID|all")]
    pub netns: Option<String>,
}

const TRACE_EXAMPLES: &str = "Examples:\n  \
  tidewait trace --refused               who finds no local port, and which connect() fails\n  \
  tidewait trace --summary --for 10      who opens and closes how many, to where\n  \
  tidewait trace --to 10.0.2.9:3306      connections to one destination\n  \
  tidewait trace --state fin_wait1       who closes first, and so leaves the TIME_WAIT\n  \
  tidewait trace --json --unit nginx     one object a line, for jq";

/// Options of `trace`. Filters combine: what is told passes all of them.
#[derive(Clone, Debug, Args)]
pub struct Trace {
    /// How to print it; JSON is one object a line.
    #[command(flatten)]
    pub format: Format,
    /// For how long.
    #[command(flatten)]
    pub until: Until,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = events, allow_negative_numbers = true)]
    pub count: Option<u64>,
    /// Only connect() and bind() that fail
    #[arg(long, conflicts_with_all = ["state", "all"])]
    pub refused: bool,
    /// Only sockets that enter this state, such as syn_sent, close_wait or time_wait; several are parted by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = entered)]
    pub state: Vec<State>,
    /// Every event: also established, peer_closed and time_wait
    #[arg(long, conflicts_with = "state")]
    pub all: bool,
    /// Only this process; the trace ends with it
    #[arg(long, value_name = "PID", value_parser = process, allow_negative_numbers = true)]
    pub pid: Option<u32>,
    /// Only this systemd unit; .service may be left out
    #[arg(long, value_name = "NAME", value_parser = named)]
    pub unit: Option<String>,
    /// Only this container: its name, its id, or the first digits of its id
    #[arg(long, value_name = "ID|NAME", value_parser = named)]
    pub container: Option<String>,
    /// Only processes of this user
    #[arg(long, value_name = "NAME|UID", value_parser = named)]
    pub user: Option<String>,
    /// Which connections.
    #[command(flatten)]
    pub which: Which,
    /// Only this network namespace: a name under /run/netns, a process number, 'host' or 'all'.
    /// Default: all when run on the host, else the one tidewait runs in
    #[arg(long, value_name = "NAME|PID|all")]
    pub netns: Option<String>,
    /// Print no events; at the end, a table by program and destination or service
    #[arg(short, long, group = "table", conflicts_with_all = ["with_summary", "count"])]
    pub summary: bool,
    /// Print events, and the table at the end
    #[arg(short = 'S', long, group = "table")]
    pub with_summary: bool,
    /// Rows of the table; 0 prints all. Default: 20; in JSON all
    #[arg(long, value_name = "N", requires = "table", value_parser = rows, allow_negative_numbers = true)]
    pub top: Option<usize>,
}

/// Options of `doctor`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Doctor {
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
}

/// Options of `lab`.
#[derive(Clone, Debug, Args)]
pub struct Lab {
    /// What to do.
    #[command(subcommand)]
    pub errand: LabErrand,
}

/// What `lab` does.
#[derive(Clone, Debug, Subcommand)]
pub enum LabErrand {
    /// List what can be run
    List {
        /// How to print it.
        #[command(flatten)]
        format: Format,
    },
    /// Run scenarios and compare what tidewait says with what it has to say; or measure what settings do, or the headline tables.
    /// Exit code 1: something is not as expected
    Run(LabRun),
    /// Make one scenario and look at it: what `run` starts for each.
    #[command(hide = true)]
    Stage {
        /// Its name.
        scenario: String,
    },
    /// A client of a table.
    #[command(hide = true)]
    Client {
        /// What it is to do.
        words: Vec<String>,
    },
    /// A server in a scenario.
    #[command(hide = true)]
    Actor {
        /// What it is to do.
        words: Vec<String>,
    },
}

/// Options of `lab run`.
#[derive(Clone, Debug, Args)]
pub struct LabRun {
    /// How to print it.
    #[command(flatten)]
    pub format: Format,
    /// Names from `tidewait lab list`; 'all' for every scenario, 'tables' for every table, or 'settings' with names of settings for
    /// a part of it
    #[arg(required = true, value_name = "NAME|all|tables|settings")]
    pub names: Vec<String>,
    /// Of a table: few ports, so that each ends in a minute or so
    #[arg(long)]
    pub quick: bool,
    /// Of a table: as little as shows that it works.
    #[arg(long, hide = true, conflicts_with = "quick")]
    pub tiny: bool,
    /// Print the whole report of each scenario
    #[arg(long, conflicts_with = "json")]
    pub report: bool,
    /// Run so many at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = jobs, allow_negative_numbers = true)]
    pub jobs: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each call is refused with these words.
    pub(super) fn refuses(calls: &[(&str, &str)]) {
        for (call, words) in calls {
            let refused = Cli::try_parse_from(["tidewait"].into_iter().chain(call.split(' '))).unwrap_err();
            assert!(refused.to_string().contains(words), "{call}: {refused}");
        }
    }

    #[test]
    fn the_examples_are_understood() {
        for (name, examples, count) in [
            ("trace", TRACE_EXAMPLES, 5),
            ("study", study::EXAMPLES, 4),
            ("tune", tune::EXAMPLES, 7),
            ("exec", exec::EXAMPLES, 5),
            ("reap", reap::EXAMPLES, 4),
            ("steer", steer::STEER_EXAMPLES, 4),
            ("spread", steer::SPREAD_EXAMPLES, 2),
        ] {
            let examples = examples.lines().filter_map(|line| line.strip_prefix("  "));
            let commands: Vec<&str> =
                examples.map(|line| line.split_once("  ").map_or(line, |(command, _)| command)).collect();
            assert_eq!(commands.len(), count, "{commands:?}");
            for command in commands {
                assert!(command.starts_with(&format!("tidewait {name} ")), "{command}");
                let parsed = Cli::try_parse_from(command.split(' '));
                assert!(parsed.is_ok_and(|cli| cli.command.is_some()), "{command}");
            }
        }
    }

    #[test]
    fn a_number_that_will_not_do_is_refused_by_its_own_option() {
        refuses(&[
            ("trace --for -1", "give seconds from 0.1 to 86400"),
            ("trace --count -1", "give a number of events from 1 on"),
            ("trace --pid -1", "a process number is one from 1 to 4194304"),
            ("trace --port -1", "a port is a number from 1 to 65535"),
            ("trace --port http", "a port is a number from 1 to 65535"),
            ("trace --summary --top -1", "give a number of rows, or 0 for all"),
            ("report --trace -1", "give seconds from 0.1 to 3600"),
            ("report --for -0.5", "give seconds from 0.1 to 3600"),
            ("--watch -1", "give seconds from 0.1 to 86400"),
            ("capacity --ports -1", "give a whole number from 1 on"),
            ("check -t -1", "give seconds from 0.1 to 3600"),
            ("study --sample 0", "give a number from 1 (all) to 65536"),
            ("lab run all --jobs -1", "give a number from 1 to 16"),
        ]);
    }

    #[test]
    fn rows_go_with_a_table() {
        let trace =
            |args: &[&str]| Cli::try_parse_from(["tidewait", "trace", "--top", "3"].iter().chain(args));
        assert!(trace(&[]).unwrap_err().to_string().contains("--summary|--with-summary"));
        assert!(trace(&["-s"]).is_ok() && trace(&["-S"]).is_ok());
    }

    #[test]
    fn states_are_known_as_other_tools_write_them() {
        for (state, names) in [
            (State::Established, ["established", "ESTAB", "Established"]),
            (State::TimeWait, ["time_wait", "TIME-WAIT", "timewait"]),
            (State::FinWait1, ["fin_wait1", "FIN-WAIT-1", "FIN_WAIT1"]),
            (State::SynSent, ["syn_sent", "SYN-SENT", "SYN_SENT"]),
            (State::Close, ["close", "closed", "UNCONN"]),
        ] {
            for name in names {
                assert_eq!(entered(name), Ok(state), "{name}");
            }
        }
    }
}
