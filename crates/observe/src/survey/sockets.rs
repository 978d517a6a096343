//! Counts the sockets of the namespace that the thread is in.

use tidewait_model::{Census, Limit, State};

use super::Question;
use super::plan::Inuse;
use tidewait_model::trace::Births;

use crate::census::direction::Ports;
use crate::census::{Builder, Window};
use crate::procfs;
use crate::sock_diag::{DumpError, Family, Netlink, ProcNet, Request, Row, Sockets, Timer};

/// How often the count is begun again when messages were lost.
const ATTEMPTS: usize = 3;

/// What is taken beside the census.
#[derive(Clone, Copy)]
pub(super) struct Extent<'a> {
    /// Sockets that are bound and do nothing: there may be some.
    pub(super) bound: bool,
    /// The inodes of all sockets.
    pub(super) inodes: bool,
    /// Whose the sockets in TIME_WAIT were.
    pub(super) traced: Option<Window<'a>>,
}

/// What a namespace's sockets gave.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) census: Census,
    /// The sockets in TIME_WAIT that were born while it was traced.
    pub(super) births: Births,
    /// The rows it took.
    pub(super) rows: u64,
    /// The inodes of all sockets, where they were asked for and are complete.
    pub(super) inodes: Option<Vec<u32>>,
    /// What could not be seen.
    pub(super) limits: Vec<Limit>,
}

/// Counts the sockets of the calling thread's namespace.
pub(super) fn take(question: &Question, name: &str, ports: &Ports, extent: Extent<'_>) -> Taken {
    let unsupported = match Netlink::open() {
        Ok(mut netlink) => match take_from(&mut netlink, question, ports, extent, name) {
            Ok(taken) => return taken,
            Err(error) => error,
        },
        Err(error) => error,
    };
    let poorer = Limit::new(
        format!(
            "{name}: sockets by sock_diag; /proc/net/tcp was read instead, without bound sockets and peers' details"
        ),
        unsupported.to_string(),
    );
    let extent = Extent { bound: false, inodes: false, traced: None };
    let mut taken = match take_from(&mut ProcNet::new(&question.root), question, ports, extent, name) {
        Ok(taken) => taken,
        Err(error) => {
            let nothing = Limit::new(format!("{name}: sockets"), error.to_string()).remedy("mount /proc");
            Taken { limits: vec![nothing], ..Taken::default() }
        }
    };
    taken.limits.insert(0, poorer);
    taken
}

fn take_from(
    source: &mut dyn Sockets,
    question: &Question,
    ports: &Ports,
    extent: Extent<'_>,
    name: &str,
) -> Result<Taken, DumpError> {
    let mut attempt = 1;
    loop {
        let builder = Builder::new(ports.clone());
        let mut fold = Fold {
            builder: match extent.traced {
                Some(window) => builder.traced(window),
                None => builder,
            },
            inodes: extent.inodes.then(Vec::new),
            rows: 0,
            small: 0,
            malformed: 0,
            interrupted: false,
        };
        match fold.all(source, question, extent.bound) {
            Err(DumpError::Overrun) if attempt < ATTEMPTS => attempt += 1,
            Err(error @ (DumpError::Overrun | DumpError::Incomplete)) => {
                fold.inodes = None;
                let some = Limit::new(format!("{name}: some sockets"), error.to_string());
                return Ok(fold.taken(question.keep, vec![some]));
            }
            Err(error) => return Err(error),
            Ok(()) => {
                let mut limits = Vec::new();
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
                return Ok(fold.taken(question.keep, limits));
            }
        }
    }
}

struct Fold<'a> {
    builder: Builder<'a>,
    inodes: Option<Vec<u32>>,
    rows: u64,
    /// Small sockets: TIME_WAIT and orphaned FIN_WAIT2, what sockstat counts as `tw`.
    small: u64,
    malformed: u64,
    interrupted: bool,
}

impl Fold<'_> {
    fn taken(self, keep: usize, limits: Vec<Limit>) -> Taken {
        let births = self.builder.births();
        Taken { census: self.builder.finish(keep), births, rows: self.rows, inodes: self.inodes, limits }
    }

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
        let Fold { builder, inodes, small, .. } = self;
        let outcome = source.dump(request, &mut |row: &Row<'_>| {
            *small += u64::from(matches!(row.timer(), Timer::TimeWait(_)));
            if let Some(inodes) = inodes {
                inodes.extend(row.inode());
            }
            builder.add(row);
        })?;
        self.rows += outcome.rows;
        self.malformed += outcome.malformed;
        self.interrupted |= outcome.interrupted;
        Ok(())
    }
}
