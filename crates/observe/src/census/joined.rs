//! Whose the sockets in TIME_WAIT were: rows of the dump joined by their cookies with what the tracer noted.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt};
use tidewait_model::trace::{Births, Program};
use tidewait_model::{Endpoint, Owner, OwnerBasis, State};

use super::Key;
use crate::owners::{OWNERS_SHOWN, share};
use crate::sock_diag::{Row, Timer};
use crate::trace::Picture;
use crate::trace::picture::together;

/// What the age of a socket may be wrong by: timers count in jiffies of up to 10 ms (CONFIG_HZ=100), and on a machine that is
/// busy, or emulated, those are counted late.
const MARGIN: Duration = Duration::from_millis(100);

/// What was traced, and when.
///
/// A socket that the tracer noted was born while it traced. One without a note was so if its age says so for certain: what
/// is left of its time begins anew when the peer sends something more (tcp_minisocks.c `tcp_timewait_state_process`), so
/// that a socket older than the trace may pass for a young one, which has no owner.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    /// What was traced.
    pub picture: &'a Picture,
    /// Since when it was traced.
    pub since: Instant,
    /// When the picture was taken.
    pub until: Instant,
    /// How long a socket stays in TIME_WAIT.
    pub time_wait: Duration,
}

impl Window<'_> {
    /// Whether a socket that had `left` of its TIME_WAIT at some time in `looked` went into it while it was traced.
    fn has_birth(&self, looked: RangeInclusive<Instant>, left: Duration) -> bool {
        let age = self.time_wait.saturating_sub(left);
        let birth = |looked: &Instant| looked.checked_sub(age);
        birth(looked.start()).is_some_and(|earliest| earliest >= self.since + MARGIN)
            && birth(looked.end()).is_some_and(|latest| latest + MARGIN <= self.until)
    }
}

/// Those of one destination or service that were born, and their owners by number.
#[derive(Default)]
pub(super) struct Share {
    born: u64,
    owners: HashMap<u32, u64>,
}

impl Share {
    pub(super) fn add(&mut self, owner: Option<u32>) {
        self.born += 1;
        if let Some(owner) = owner {
            *self.owners.entry(owner).or_default() += 1;
        }
    }

    fn births(&self) -> Births {
        Births { born: self.born, attributed: self.owners.values().sum() }
    }

    pub(super) fn merge(&mut self, other: Share) {
        self.born += other.born;
        for (owner, count) in other.owners {
            *self.owners.entry(owner).or_default() += count;
        }
    }
}

/// What the join has counted of the rows that have come.
pub(super) struct Join<'a> {
    window: Window<'a>,
    /// When the dump began.
    begin: Instant,
    pub(super) births: Births,
    pub(super) destinations: HashMap<Key, Share>,
    pub(super) services: HashMap<Endpoint, Share>,
}

impl<'a> Join<'a> {
    pub(super) fn new(window: Window<'a>) -> Join<'a> {
        Join {
            window,
            begin: Instant::now(),
            births: Births::default(),
            destinations: HashMap::new(),
            services: HashMap::new(),
        }
    }

    /// The number of the owner, `Some(None)` if it has none; `None` for a socket that is not in TIME_WAIT or was born at
    /// another time.
    pub(super) fn birth(&mut self, row: &Row<'_>) -> Option<Option<u32>> {
        // Without a cookie, as from /proc/net/tcp, nothing can be said of any.
        let (Some(State::TimeWait), Timer::TimeWait(ms), 1..) = (row.state(), row.timer(), row.cookie())
        else {
            return None;
        };
        let picture = self.window.picture;
        let noted = picture.waiting.get(&row.cookie());
        let left = Duration::from_millis(ms.into());
        // A row was written some time before it is read.
        if noted.is_none() && !self.window.has_birth(self.begin..=Instant::now(), left) {
            return None;
        }
        let owner = noted.map(|waiting| waiting.owner).filter(|owner| picture.people.contains_key(owner));
        self.births.born += 1;
        self.births.attributed += u64::from(owner.is_some());
        Some(owner)
    }

    /// The owners of a destination or a service by name, of which `waiting` sockets are in TIME_WAIT, and how many of those
    /// were born, which is all that the owners are known to own. Nobody where those that were born are less than half of
    /// what it takes to leave as many: most are older, and may be another's.
    pub(super) fn owners(&self, share: &Share, waiting: u64) -> (Vec<Owner>, Births) {
        let time_wait = self.window.time_wait.as_secs_f64();
        let traced =
            self.window.until.saturating_duration_since(self.window.since).as_secs_f64().min(time_wait);
        if 2.0 * share.born as f64 * time_wait < waiting as f64 * traced {
            return (Vec::new(), share.births());
        }
        let people = &self.window.picture.people;
        let named =
            share.owners.iter().filter_map(|(number, count)| Some((people.get(number)?.clone(), *count)));
        (owners(named, share.born), share.births())
    }
}

/// Programs as the owners of so many sockets of `all`, those with most first, at most [`OWNERS_SHOWN`].
pub(crate) fn owners(programs: impl IntoIterator<Item = (Program, u64)>, all: u64) -> Vec<Owner> {
    let mut rows = together(programs.into_iter().map(|(program, count)| ((), Some(program), count)));
    rows.sort_by(|(_, one, fewer), (_, other, more)| more.cmp(fewer).then_with(|| one.cmp(other)));
    let owner = |(_, program, count): (_, Option<Program>, u64)| {
        let Program { command, pid, unit, container, user, .. } = program?;
        Some(Owner { command, pid, unit, container, user, share: share(count, all), how: OwnerBasis::Traced })
    };
    rows.into_iter().filter_map(owner).take(OWNERS_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use tidewait_model::PortRange;
    use tidewait_model::trace::Direction;

    use super::*;
    use crate::census::Builder;
    use crate::census::direction::Ports;
    use crate::sock_diag::encode::Socket;
    use crate::trace::Waiting;

    const MINUTE: Duration = Duration::from_secs(60);

    fn program(command: &str, pid: u32) -> Program {
        Program { command: command.to_owned(), pid: Some(pid), processes: Some(1), ..Program::default() }
    }

    /// Owners 1 to 6 are processes of curl, 9 is an nginx. The last digit of a cookie is the owner's number.
    fn picture() -> Picture {
        let mut picture = Picture::default();
        picture.people.extend((1..=6).map(|number| (number, program("curl", 100 + number))));
        picture.people.insert(9, program("nginx", 900));
        for (owner, ten) in
            [0, 1, 2, 3, 4, 5, 6, 9].into_iter().flat_map(|owner| [(owner, 100), (owner, 110)])
        {
            let waiting = Waiting { owner, closer: owner, direction: Direction::Outgoing };
            picture.waiting.insert(ten + u64::from(owner), waiting);
        }
        picture
    }

    /// A trace from 40 s ago to 2 s ago.
    fn window(picture: &Picture) -> Window<'_> {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        Window { picture, since: ago(40), until: ago(2), time_wait: MINUTE }
    }

    fn joined(picture: &Picture, sockets: &[Socket]) -> (Births, tidewait_model::Census) {
        let range = PortRange { low: 32_768, high: 60_999 };
        let mut builder = Builder::new(Ports::of(Some(range))).traced(window(picture));
        for socket in sockets {
            builder.add(&Row::read(&socket.payload()).unwrap());
        }
        (builder.births(), builder.finish(10))
    }

    fn socket(port: u16, cookie: u64, ms: u32) -> Socket {
        Socket { cookie, ..Socket::time_wait(&format!("10.0.0.5:{port}"), "10.0.2.9:80", ms) }
    }

    #[test]
    fn a_birth_is_clear_of_both_ends_of_the_trace() {
        let picture = Picture::default();
        let window = window(&picture);
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis(1));
        // Ten seconds old when it was looked at, within a second.
        let birth = |earliest: Instant| {
            let looked = earliest + second * 10;
            window.has_birth(looked..=looked + second, MINUTE - second * 10)
        };
        assert!(birth(window.since + MARGIN) && !birth(window.since + MARGIN - ms));
        let last = window.until - MARGIN - second;
        assert!(birth(last) && !birth(last + ms));
        // More is left than there can be: it counts as born now.
        assert!(!window.has_birth(Instant::now()..=Instant::now(), MINUTE * 2));
    }

    #[test]
    fn owners_have_their_share_of_those_that_were_born() {
        let sockets = [
            socket(40_000, 101, 55_000),
            socket(40_002, 111, 30_000),
            socket(40_004, 109, 22_000),
            // Nobody is known: by its note, by no note, by a number that says nothing.
            socket(40_006, 100, 50_000),
            socket(40_008, 5_000, 50_000),
            // Before and after.
            socket(40_010, 5_001, 15_000),
            socket(40_012, 5_002, 60_000),
            // Its time has begun anew.
            socket(40_013, 119, 60_000),
            // Without a cookie nothing can be said; FIN_WAIT2 is none.
            socket(40_014, 0, 50_000),
            Socket { state: State::FinWait2, ..socket(40_016, 102, 50_000) },
        ];
        let picture = picture();
        let (births, census) = joined(&picture, &sockets);
        assert_eq!(births, Births { born: 6, attributed: 4 });
        let owners = &census.destinations[0].owners;
        let shown: Vec<_> =
            owners.iter().map(|owner| (owner.command.as_str(), owner.pid, owner.share)).collect();
        assert_eq!(shown, [("curl", Some(101), 2.0 / 6.0), ("nginx", Some(900), 2.0 / 6.0)]);
        assert!(owners.iter().all(|owner| owner.how == OwnerBasis::Traced));
    }

    #[test]
    fn a_few_young_ones_do_not_make_the_owner_of_many_old() {
        // 38 of 60 s were traced: as many as that of a minute's would have been born then.
        let picture = picture();
        let owners = |old: u16| {
            let young = [socket(40_000, 101, 50_000), socket(40_001, 111, 50_000)];
            let old = (0..old).map(|n| socket(41_000 + n, 6_000 + u64::from(n), 1_000));
            let (births, census) = joined(&picture, &young.into_iter().chain(old).collect::<Vec<_>>());
            assert_eq!(births, Births { born: 2, attributed: 2 });
            census.destinations[0].owners.len()
        };
        assert_eq!((owners(0), owners(4), owners(5)), (1, 1, 0));
    }

    #[test]
    fn many_processes_alike_are_one_owner() {
        let picture = picture();
        let sockets: Vec<Socket> =
            (1..=6_u16).map(|n| socket(40_000 + n, 100 + u64::from(n), 50_000)).collect();
        let (births, census) = joined(&picture, &sockets);
        assert_eq!(births, Births { born: 6, attributed: 6 });
        let [owner] = census.destinations[0].owners.as_slice() else { panic!("{census:?}") };
        assert_eq!((owner.command.as_str(), owner.pid, owner.share), ("curl", None, 1.0));
    }

    #[test]
    fn those_of_a_service_are_the_services() {
        let picture = picture();
        let service = |cookie, peer: &str| Socket {
            cookie,
            ..Socket::time_wait("10.0.0.5:443", &format!("10.0.9.1:{peer}"), 50_000)
        };
        let listener = Socket::new(State::Listen, "0.0.0.0:443", "0.0.0.0:0");
        let (births, census) = joined(&picture, &[listener, service(109, "50000"), service(119, "50001")]);
        assert_eq!(births, Births { born: 2, attributed: 2 });
        assert_eq!(census.incoming[0].owners[0].pid, Some(900));

        // The listener has closed: they look like a client's until all are seen, beside those of a real client.
        let closed = (0..200).map(|n| Socket {
            cookie: if n == 0 { 109 } else { 7_000 + n },
            ..Socket::time_wait("10.0.0.5:50001", &format!("10.0.9.1:{}", 40_000 + n), 50_000)
        });
        let client = (0..500).map(|n| Socket {
            cookie: 10_000 + n,
            ..Socket::time_wait(
                &format!("10.0.0.5:{}", 33_000 + 2 * n),
                &format!("10.0.2.9:{}", 1 + n),
                50_000,
            )
        });
        let (births, census) = joined(&picture, &closed.chain(client).collect::<Vec<_>>());
        assert_eq!(births, Births { born: 700, attributed: 1 });
        assert_eq!(census.incoming[0].states[State::TimeWait], 200);
        assert_eq!(
            (census.incoming[0].owners[0].pid, census.incoming[0].owners[0].share),
            (Some(900), 0.005)
        );
    }
}
