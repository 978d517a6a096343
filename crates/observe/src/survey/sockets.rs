//! Counts the sockets of the namespace that the thread is in.

use tidewait_model::{Census, Limit, PortRange, State};

use super::Question;
use super::plan::Inuse;
use crate::census::Builder;
use crate::procfs;
use crate::sock_diag::{DumpError, Family, Netlink, ProcNet, Request, Row, Sockets, Timer};

/// How often the count is begun again when messages were lost.
const ATTEMPTS: usize = 3;

/// The census of the calling thread's namespace, the rows it took, and what could not be seen.
/// `bound`: whether there may be sockets that are bound and do nothing.
pub(super) fn take(
    question: &Question,
    name: &str,
    range: Option<PortRange>,
    bound: bool,
) -> (Census, u64, Vec<Limit>) {
    let mut limits = Vec::new();
    let unsupported = match Netlink::open() {
        Ok(mut netlink) => match take_from(&mut netlink, question, range, bound, &mut limits, name) {
            Ok((census, rows)) => return (census, rows, limits),
            Err(error) => error,
        },
        Err(error) => error,
    };
    limits.push(
        Limit::new(
            format!("{name}: sockets by sock_diag; /proc/net/tcp was read instead, without bound sockets and peers' details"),
            unsupported.to_string(),
        )
        .remedy("modprobe tcp_diag"),
    );
    match take_from(&mut ProcNet::new(&question.root), question, range, false, &mut limits, name) {
        Ok((census, rows)) => (census, rows, limits),
        Err(error) => {
            limits.push(Limit::new(format!("{name}: sockets"), error.to_string()).remedy("mount /proc"));
            (Census::default(), 0, limits)
        }
    }
}

fn take_from(
    source: &mut dyn Sockets,
    question: &Question,
    range: Option<PortRange>,
    bound: bool,
    limits: &mut Vec<Limit>,
    name: &str,
) -> Result<(Census, u64), DumpError> {
    let mut attempt = 1;
    loop {
        let mut fold =
            Fold { builder: Builder::new(range), rows: 0, small: 0, malformed: 0, interrupted: false };
        match fold.all(source, question, bound) {
            Err(DumpError::Overrun) if attempt < ATTEMPTS => attempt += 1,
            Err(error @ (DumpError::Overrun | DumpError::Incomplete)) => {
                limits.push(Limit::new(format!("{name}: some sockets"), error.to_string()));
                return Ok((fold.builder.finish(question.keep), fold.rows));
            }
            Err(error) => return Err(error),
            Ok(()) => {
                if fold.malformed > 0 {
                    limits.push(Limit::new(
                        format!("{name}: {} sockets", fold.malformed),
                        "the kernel's answer could not be read",
                    ));
                }
                if fold.interrupted {
                    limits.push(Limit::new(
                        format!("{name}: exact counts"),
                        "the kernel says that the socket table changed while it was dumped",
                    ));
                }
                return Ok((fold.builder.finish(question.keep), fold.rows));
            }
        }
    }
}

struct Fold {
    builder: Builder,
    rows: u64,
    /// Small sockets: TIME_WAIT and orphaned FIN_WAIT2, what sockstat counts as `tw`.
    small: u64,
    malformed: u64,
    interrupted: bool,
}

impl Fold {
    fn all(&mut self, source: &mut dyn Sockets, question: &Question, bound: bool) -> Result<(), DumpError> {
        // Listeners first, and apart: a filter for a peer would leave them out, and they say who came in.
        let idle = [State::Listen].into_iter().chain(bound.then_some(State::BoundInactive));
        for family in Family::BOTH {
            self.one(source, &Request::all(family).states(idle.clone()))?;
        }
        let busy = |family| {
            Request::all(family).states_except([State::Listen, State::BoundInactive]).to(question.to)
        };
        self.one(source, &busy(Family::V4))?;
        let (counters, _) = procfs::counters(&question.root);
        if question.to.is_some() || !Inuse::from(&counters).no_ipv6(self.small) {
            self.one(source, &busy(Family::V6))?;
        }
        Ok(())
    }

    fn one(&mut self, source: &mut dyn Sockets, request: &Request) -> Result<(), DumpError> {
        let Fold { builder, small, .. } = self;
        let outcome = source.dump(request, &mut |row: &Row<'_>| {
            *small += u64::from(matches!(row.timer(), Timer::TimeWait(_)));
            builder.add(row);
        })?;
        self.rows += outcome.rows;
        self.malformed += outcome.malformed;
        self.interrupted |= outcome.interrupted;
        Ok(())
    }
}
