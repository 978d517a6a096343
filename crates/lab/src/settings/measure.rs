//! The measurements: each metric's figure at a site that was made for it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::sockopt;
use tidewait_model::State;
use tidewait_model::experiment::{Figure, Metric};

use super::site::{Client, Site};
use crate::error::{Context, Error, Result};
use crate::held::Side;
use crate::socket;

/// Older than the second from which TIME_WAIT may be taken over.
const OLD: Duration = Duration::from_millis(1_100);

/// How long connections are counted when every port is in TIME_WAIT. Where they are taken over after a second, all ports
/// come round three times in this.
const WINDOW: Duration = Duration::from_millis(2_900);

/// Sockets of the measurements that count a few.
const FEW: u64 = 20;

/// The longest that a TIME_WAIT may take to be taken over, or a silent peer to be dropped.
const NEVER: Duration = Duration::from_secs(5);
const DROPPED: Duration = Duration::from_secs(20);

/// How long resets may be under way.
const RESETS: Duration = Duration::from_secs(2);

/// What has to be there before it can be measured at a site.
pub(super) struct Bench {
    pub(super) site: Site,
    pub(super) client: Client,
    /// Ports that the range has at the start of the experiment.
    pub(super) ports: u64,
}

/// Whether a metric is had from a site that others filled or counted at; those that are not need one of their own.
pub(super) fn group(metric: Metric) -> Group {
    match metric {
        Metric::ConnectsUntilRefused
        | Metric::RateWhenFull
        | Metric::TimeWaitSeconds
        | Metric::TimeWaitKept => Group::Connect,
        Metric::BindsUntilRefused | Metric::BindRateWhenFull => Group::Bind,
        other => Group::Own(other),
    }
}

/// Metrics that are measured at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Ports that connect() chooses are filled.
    Connect,
    /// Ports that bind() chooses are filled.
    Bind,
    /// One metric.
    Own(Metric),
}

impl Bench {
    /// The figures of `metrics`, all of one group.
    pub(super) fn measure(&mut self, group: Group, metrics: &[Metric]) -> Result<Vec<(Metric, Figure)>> {
        match group {
            Group::Connect => self.fill(metrics, false),
            Group::Bind => self.fill(metrics, true),
            Group::Own(metric) => Ok(vec![(metric, self.own(metric)?)]),
        }
    }

    fn fill(&mut self, metrics: &[Metric], bind: bool) -> Result<Vec<(Metric, Figure)>> {
        let client = Client { bind, ..self.client };
        self.site.listen()?;
        let mut figures = Vec::new();
        let half = self.ports / 2;
        let first = self.site.until_refused(client, half)?;
        if metrics.contains(&Metric::TimeWaitKept) {
            let kept = self.site.time_wait(first.made)?;
            figures.push((Metric::TimeWaitKept, Figure::exact(kept as f64)));
        }
        if metrics.contains(&Metric::TimeWaitSeconds) {
            self.site.time_wait(first.made)?;
            figures.push((Metric::TimeWaitSeconds, self.timer(&self.site, State::TimeWait)?));
        }
        let (of_all, when_full) = if bind {
            (Metric::BindsUntilRefused, Metric::BindRateWhenFull)
        } else {
            (Metric::ConnectsUntilRefused, Metric::RateWhenFull)
        };
        if metrics.contains(&of_all) || metrics.contains(&when_full) {
            // Three times the range is as good as without end.
            let rest = self.site.until_refused(client, 3 * self.ports - first.made)?;
            let made = (first.made + rest.made) as f64;
            let figure = if rest.refused { Figure::exact(made) } else { Figure::at_least(made) };
            figures.push((of_all, figure));
        }
        if metrics.contains(&when_full) {
            thread::sleep(OLD);
            figures.push((when_full, Figure::exact(self.site.rate(client, WINDOW)?)));
        }
        figures.retain(|(metric, _)| metrics.contains(metric));
        Ok(figures)
    }

    fn own(&mut self, metric: Metric) -> Result<Figure> {
        match metric {
            Metric::TakenOverAfter => self.taken_over_after(),
            Metric::SurviveReset => self.survive_reset(),
            Metric::FinWait2Seconds => {
                let _held = self.site.path().orphan_fin_wait2(FEW)?;
                // The FIN has to be acknowledged.
                thread::sleep(Duration::from_millis(100));
                self.timer(&self.site, State::FinWait2)
            }
            Metric::FinWait2Counted => {
                let _held = self.site.path().orphan_fin_wait2(FEW)?;
                thread::sleep(Duration::from_secs(3));
                Ok(Figure::exact(self.site.client.sockstat()?.time_wait as f64))
            }
            Metric::CloseWaitKept => {
                let _leak = self.site.path().leak_close_wait(Side::Client, FEW)?;
                thread::sleep(Duration::from_secs(3));
                self.count(State::CloseWait)
            }
            Metric::SynSentKept => {
                self.site.silence()?;
                let _hanging = self.site.path().syn_sent(FEW)?;
                thread::sleep(Duration::from_secs(5));
                self.count(State::SynSent)
            }
            Metric::ProbeAfter => {
                let _open = self.open()?;
                self.timer(&self.site, State::Established)
            }
            Metric::NextProbeAfter => {
                let _open = self.open()?;
                self.site.silence()?;
                // The first probe goes out after the two seconds that the experiment gives.
                thread::sleep(Duration::from_millis(2_600));
                self.timer(&self.site, State::Established)
            }
            Metric::DroppedAfter => {
                let _open = self.open()?;
                self.site.silence()?;
                let begin = Instant::now();
                while self.site.client.states()?[State::Established] > 0 {
                    if begin.elapsed() > DROPPED {
                        return Ok(Figure::at_least(begin.elapsed().as_secs_f64()));
                    }
                    thread::sleep(Duration::from_millis(100));
                }
                Ok(Figure::exact(begin.elapsed().as_secs_f64()))
            }
            other => Err(Error::Refused(format!("{} needs ports that were filled", other.words()))),
        }
    }

    /// Both ends of a connection whose client has SO_KEEPALIVE.
    fn open(&mut self) -> Result<(OwnedFd, OwnedFd)> {
        self.site.listen()?;
        let site = &self.site;
        site.client.run(|| {
            let ends = site.connect(self.client, 0).context("connect to", site.destination())?;
            sockopt::set_socket_keepalive(&ends.0, true).context("set", "SO_KEEPALIVE")?;
            Ok(ends)
        })?
    }

    /// Leaves two ports, fills them, and tries until one is to be had.
    fn taken_over_after(&mut self) -> Result<Figure> {
        let range = self.site.client.get("net.ipv4.ip_local_port_range")?;
        let low: u16 = range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
        self.site.set("net.ipv4.ip_local_port_range", &format!("{low} {}", low + 1))?;
        self.site.listen()?;
        self.site.until_refused(self.client, 2)?;
        let waited = self.site.until_possible(self.client, NEVER)?;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        Ok(match waited {
            Some(time) => Figure::exact(milliseconds(time)),
            None => Figure::at_least(milliseconds(NEVER)),
        })
    }

    /// Has the peer answer the acknowledgement of each TIME_WAIT with a reset.
    ///
    /// The peer's program connects the other way round, from the same port: TIME_WAIT acknowledges what it knows, and the
    /// new socket, which knows nothing of that, resets.
    fn survive_reset(&mut self) -> Result<Figure> {
        self.site.listen()?;
        let site = &self.site;
        let ends = site.client.run(|| {
            let connect = |_| site.connect(self.client, 0).context("connect to", site.destination());
            (0..FEW).map(connect).collect::<Result<Vec<_>>>()
        })??;
        let mut ours = Vec::new();
        for (client, server) in ends {
            let address = rustix::net::getsockname(&client).context("ask for", "an address")?;
            ours.push(SocketAddr::try_from(address).context("read", "an address")?);
            drop(client);
            socket::drain(&server).context("read from", "a client")?;
        }
        site.time_wait(FEW)?;
        self.site.deafen();
        let from = self.site.destination();
        let _strays = self.site.server.run(|| {
            let stray = |to: &SocketAddr| {
                let socket = socket::tcp(to.ip(), SocketFlags::NONBLOCK)?;
                sockopt::set_socket_reuseaddr(&socket, true)?;
                rustix::net::bind(&socket, &from)?;
                match rustix::net::connect(&socket, to) {
                    Ok(()) | Err(Errno::INPROGRESS | Errno::CONNREFUSED) => Ok(socket),
                    Err(error) => Err(std::io::Error::from(error)),
                }
            };
            ours.iter().map(stray).collect::<std::io::Result<Vec<_>>>().context("connect from", from)
        })??;
        let begin = Instant::now();
        loop {
            let left = self.count(State::TimeWait)?;
            if left.value == 0.0 || begin.elapsed() > RESETS {
                return Ok(left);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn count(&self, state: State) -> Result<Figure> {
        Ok(Figure::exact(self.site.client.states()?[state] as f64))
    }

    /// The longest timer of the client's sockets in a state.
    fn timer(&self, site: &Site, state: State) -> Result<Figure> {
        match site.client.longest_timer(state)? {
            Some(time) => Ok(Figure::exact(time.as_secs_f64())),
            None => Err(Error::Refused(format!("no socket in {} has a timer", state.title()))),
        }
    }
}
