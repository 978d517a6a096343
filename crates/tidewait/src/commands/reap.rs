//! `tidewait reap`: ends sockets in TIME_WAIT before their time, by age or where a destination runs out of ports.

mod ask;
mod early;
mod floors;
mod hand;
mod ledger;
mod show;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::time::{ClockId, clock_gettime};
use tidewait_diagnose::reap::{
    Allowance, Due, LONGEST_MS, Pressure, SHORTEST_MS, Scene, Schedule, beside_range, by_age, by_pressure,
    notes,
};
use tidewait_model::reap::{Counters, Found, Look, Reapable};
use tidewait_model::stream::Reason;
use tidewait_observe::places::Place;
use tidewait_observe::procfs;
use tidewait_observe::sock_diag::Handle;
use tidewait_observe::waiting::{Watcher, Wish};

use crate::cli::Reap;
use crate::exit::Usage;
use crate::{interrupt, place};

use early::{Early, Taken};
use floors::Known;
use hand::{Fates, Hand};
use ledger::Ledger;
use show::Show;

/// Sockets that come due are ended together, so much later at most, and no more than this part of their age: a client that needs nearly
/// all of its ports has no more to spare.
const TOGETHER: Duration = Duration::from_millis(50);
const TOGETHER_PART: u32 = 100;
/// But no sooner than that.
const SHORTEST: Duration = Duration::from_millis(5);
/// How late a signal may be noticed.
const NAP: Duration = Duration::from_millis(100);
/// Sockets that are ended in one go before the clock is looked at again.
const HANDFUL: usize = 4_096;
/// Looks take a fiftieth of a processor at most where they are taken by guess, and a tenth where it is known when they have to be.
const GUESS_PAUSES: u32 = 50;
const DUE_PAUSES: u32 = 10;
/// For how long what a look found of sockets that a program may use again is true enough to end them.
const JUDGED: Duration = Duration::from_secs(1);
/// How often it is seen whether the namespace is still there.
const KEPT: Duration = Duration::from_secs(2);

/// Runs the command.
pub fn run(options: &Reap) -> anyhow::Result<()> {
    if !cfg!(feature = "act") && !options.dry_run {
        anyhow::bail!(
            "this tidewait was built without the feature `act`: it only reads, and `reap --dry-run` is all of `reap` that it has"
        );
    }
    let place = place::one(options.netns.name.as_deref())?;
    let floors = Known::of(options, &place)?;
    place.enter(|| {
        let states = options.reapable();
        let hand = Hand::open(options, &states)?;
        ask::consent(options, &states)?;
        // Not before the question: Ctrl-C is an answer to it.
        let stop = interrupt::catch()?;
        Reaper::open(options, &place, floors, hand, &stop)?.run()
    })?
}

/// A run.
struct Reaper<'a> {
    options: &'a Reap,
    place: &'a Place,
    floors: Known,
    stop: &'a AtomicBool,
    watcher: Watcher,
    hand: Hand,
    kernel: String,
    begun: Instant,
    /// What follows from the last look.
    schedule: Schedule<Handle>,
    /// When it was.
    looked: Instant,
    /// How long the next one has to be waited for, because the last one took its time.
    pause: Duration,
    /// How long sockets that come due wait for each other.
    together: Duration,
    /// The kernel's count of sockets then, and by how much it may grow before it is looked again.
    counted: Option<(u64, u64)>,
    /// When it was last seen that the namespace is there.
    kept: Instant,
    allowance: Option<Allowance>,
    /// Whether states are ended that a program may use again.
    live: bool,
    /// How many more sockets may be ended; `None`: as many as there are.
    orders: Option<usize>,
    counters: Counters,
    ledger: Ledger,
    batch: Vec<Due<Handle>>,
}

impl<'a> Reaper<'a> {
    /// Gets ready in the calling thread's network namespace.
    fn open(
        options: &'a Reap,
        place: &'a Place,
        floors: Known,
        hand: Hand,
        stop: &'a AtomicBool,
    ) -> anyhow::Result<Reaper<'a>> {
        let wish = Wish {
            root: PathBuf::from("/"),
            states: options.reapable(),
            only: options.which.filter(),
            incoming: options.incoming,
            every_port: options.keep_below.is_some(),
        };
        let watcher = Watcher::open(wish)?;
        let time_wait_seconds = watcher.settings().time_wait_seconds();
        refuse_what_never_is(options, &floors, time_wait_seconds)?;
        floors.refuse_below(options, time_wait_seconds)?;
        let now = Instant::now();
        Ok(Reaper {
            options,
            place,
            floors,
            stop,
            watcher,
            hand,
            kernel: procfs::kernel_release(),
            begun: now,
            schedule: Schedule::default(),
            looked: now,
            pause: Duration::ZERO,
            together: options
                .older_than
                .map_or(TOGETHER, |age| TOGETHER.min(age / TOGETHER_PART))
                .max(SHORTEST),
            counted: None,
            kept: now,
            // What is only counted needs no time.
            allowance: options.rate.filter(|_| !options.dry_run).map(|rate| Allowance::new(rate, 0)),
            live: options.reapable().iter().any(|state| *state != Reapable::TimeWait),
            orders: None,
            counters: Counters::default(),
            ledger: Ledger::default(),
            batch: Vec::with_capacity(HANDFUL),
        })
    }

    /// Milliseconds since the beginning.
    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn run(mut self) -> anyhow::Result<()> {
        let first = self.look()?;
        let states = self.options.reapable();
        let scene = Scene {
            settings: self.watcher.settings(),
            kernel: &self.kernel,
            groups: &first,
            states: &states,
        };
        let mut show = Show::new(self.options);
        let mut notes = notes(&scene);
        if self.options.keep_below.is_some() {
            notes.extend(scene.settings.port_range().and_then(|range| beside_range(&first, range)));
        }
        show.begin(self.options, &self.place.name, &self.floors, notes)?;
        let outcome = self.follow(&mut show);
        self.count_cpu();
        let reason = *outcome.as_ref().unwrap_or(&Reason::Failed);
        let told = show.end(self.begun.elapsed(), reason, &self.counters, &self.ledger);
        outcome.and(told)
    }

    /// Works off what is due until it is over.
    fn follow(&mut self, show: &mut Show) -> anyhow::Result<Reason> {
        let deadline =
            self.options.until.seconds.map(|seconds| self.begun + Duration::from_secs_f64(seconds));
        let single = self.options.once || self.options.dry_run;
        // One look is worked off as it was, however long that takes; what may come to life again is judged anew meanwhile, and no more
        // is ended than were due then.
        let mut horizon = single.then(|| self.now_ms());
        self.orders = horizon.map(|_| self.schedule.due.len());
        loop {
            if self.is_outdated() {
                self.look()?;
                horizon = horizon.map(|_| self.now_ms());
            }
            let wait = self.end_due(horizon.unwrap_or_else(|| self.now_ms()))?;
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Reason::Signal);
            }
            if let Some(horizon) = horizon
                && self.schedule.next_ms().is_none_or(|next| next > horizon)
            {
                return Ok(Reason::Once);
            }
            if show.is_due() {
                self.count_cpu();
                show.progress(self.begun.elapsed(), &self.counters, &self.ledger)?;
            }
            let left = deadline.map_or(NAP, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(Reason::Time);
            }
            if horizon.is_none() && self.must_look() {
                if self.kept.elapsed() >= KEPT {
                    self.kept = Instant::now();
                    if !self.place.is_kept() {
                        return Ok(Reason::TargetGone);
                    }
                }
                self.look()?;
                continue;
            }
            thread::sleep(wait.min(left).min(NAP).min(show.patience()));
        }
    }

    /// Ends what is due by `until_ms`; how long there is nothing more to do.
    fn end_due(&mut self, until_ms: u64) -> anyhow::Result<Duration> {
        while !self.stop.load(Ordering::Relaxed) && !self.is_outdated() {
            let now_ms = self.now_ms();
            let most =
                self.allowance.as_mut().map_or(HANDFUL, |allowance| allowance.now(now_ms)).min(HANDFUL);
            let most = self.orders.map_or(most, |orders| most.min(orders));
            let mut batch = std::mem::take(&mut self.batch);
            batch.clear();
            batch.extend(self.schedule.take(until_ms, most));
            let count = batch.len();
            let result = self.end(&batch);
            self.batch = batch;
            result?;
            if let Some(allowance) = &mut self.allowance {
                allowance.spend(count);
            }
            if let Some(orders) = &mut self.orders {
                *orders -= count;
                if *orders == 0 {
                    self.schedule.due.clear();
                }
            }
            if self.schedule.next_ms().is_none_or(|next| next > until_ms) {
                break;
            }
            if let Some(allowance) = &self.allowance {
                return Ok(Duration::from_millis(allowance.wait_ms()).max(self.together));
            }
        }
        let now_ms = self.now_ms();
        let look = self.schedule.look_ms.saturating_sub(now_ms);
        let next = self.schedule.next_ms().map_or(look, |next| next.saturating_sub(now_ms).min(look));
        Ok(Duration::from_millis(next).max(self.together))
    }

    fn end(&mut self, batch: &[Due<Handle>]) -> anyhow::Result<()> {
        let (counters, ledger) = (&mut self.counters, &mut self.ledger);
        self.hand.end(batch, &mut |due, fate| {
            let mut fates = Fates::default();
            fates.count(fate);
            count(counters, fates);
            ledger.count(due.group as usize, fates);
        })
    }

    /// Whether it was too long ago that sockets which a program may use again were judged.
    fn is_outdated(&self) -> bool {
        self.live
            && self.looked.elapsed() >= JUDGED
            && self.schedule.next_ms().is_some_and(|next| next <= self.now_ms())
    }

    /// Whether it is time to look again.
    fn must_look(&self) -> bool {
        let since = self.looked.elapsed();
        if since < self.pause {
            return false;
        }
        let now_ms = self.now_ms();
        if now_ms >= self.schedule.look_ms {
            // What a limit a second has left over goes first: all that came later is younger.
            let backlog =
                self.allowance.is_some() && self.schedule.next_ms().is_some_and(|next| next <= now_ms);
            return !backlog || since >= Duration::from_millis(LONGEST_MS);
        }
        // A burst: more sockets have come than the fullest destination may take.
        self.counted.is_some_and(|(then, room)| {
            since >= Duration::from_millis(SHORTEST_MS)
                && self.watcher.count().is_some_and(|now| now.saturating_sub(then) > room)
        })
    }

    /// Looks, and settles what follows; the groups that were found.
    fn look(&mut self) -> anyhow::Result<Vec<Found>> {
        let begun = clock_gettime(ClockId::ThreadCPUTime);
        let now_ms = self.now_ms();
        // With a limit a second the oldest come first, and with a share to keep below all have to be seen before any is due.
        let mut early = match self.options.older_than {
            Some(age) if self.allowance.is_none() => {
                Some(Early::new(age.as_millis() as u32, &self.floors, &mut self.hand, self.stop))
            }
            _ => None,
        };
        let look = self
            .watcher
            .look(&mut |group, socket| early.as_mut().is_some_and(|early| early.take(group, socket)))
            .context("the sockets cannot be looked at")?;
        let (taken, ended) = early.map_or_else(|| (Vec::new(), Ok(())), Early::finish);
        self.counters.looks += 1;
        let mut waiting = vec![0_u64; look.groups.len()];
        for socket in &look.waiting {
            if let Some(count) = waiting.get_mut(socket.group as usize) {
                *count += 1;
            }
        }
        for Taken { place, group, fates } in &taken {
            let Some(place) = *place else { continue };
            if look.groups.get(place).is_some_and(|found| found.group == *group) {
                waiting[place] += fates.ended + fates.not_ended();
            }
        }
        let groups = look.groups.clone();
        self.schedule = self.settle(look, now_ms)?;
        self.ledger.turn(&groups, &waiting, &self.schedule);
        for taken in &taken {
            count(&mut self.counters, taken.fates);
            self.ledger.count_early(taken);
        }
        ended?;
        self.looked = Instant::now();
        let spent = clock_gettime(ClockId::ThreadCPUTime) - begun;
        // Where a destination grows, waiting for longer would cost it connections.
        let grows = self.schedule.look_ms < now_ms + LONGEST_MS;
        let pauses = if self.schedule.room.is_some() && !grows { GUESS_PAUSES } else { DUE_PAUSES };
        self.pause = (Duration::try_from(spent).unwrap_or_default() * pauses).max(self.together);
        // What is about to end makes no room for a burst; with a limit a second it may stay for long.
        let ending = if self.allowance.is_some() { 0 } else { self.schedule.due.len() as u64 };
        self.counted = self
            .schedule
            .room
            .and_then(|room| Some((self.watcher.count()?.saturating_sub(ending), room / 2)));
        Ok(groups)
    }

    fn settle(&self, look: Look<Handle>, now_ms: u64) -> anyhow::Result<Schedule<Handle>> {
        let Some(share) = self.options.keep_below else {
            let older_than = self.options.older_than.unwrap_or_default().as_millis() as u32;
            return Ok(by_age(look, now_ms, older_than, &self.floors, self.live));
        };
        let settings = self.watcher.settings();
        let range = settings.port_range().ok_or_else(|| {
            anyhow!("net.ipv4.ip_local_port_range cannot be read, so that there is nothing to take a share of: mount /proc")
        })?;
        let reserved = settings.reserved();
        let pause_ms = self.pause.as_millis() as u64;
        let pressure = Pressure { range, reserved: &reserved, kernel: &self.kernel, share, pause_ms };
        Ok(by_pressure(look, now_ms, &pressure, &self.floors))
    }

    /// CPU time of this process until now.
    fn count_cpu(&mut self) {
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        self.counters.cpu_seconds = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
    }
}

/// Refuses an age that no socket in TIME_WAIT gets to.
fn refuse_what_never_is(options: &Reap, floors: &Known, time_wait_seconds: u32) -> Result<(), Usage> {
    if options.reapable() != [Reapable::TimeWait] {
        return Ok(());
    }
    let ages = [
        ("--older-than", options.older_than.map_or(0.0, |age| age.as_secs_f64())),
        ("--floor", floors.least_seconds()),
    ];
    match ages.into_iter().find(|(_, age)| *age >= f64::from(time_wait_seconds)) {
        None => Ok(()),
        Some((option, age)) => Err(Usage(format!(
            "{option} {age} s: no socket gets that old, TIME_WAIT lasts {time_wait_seconds} s here; give less"
        ))),
    }
}

fn count(counters: &mut Counters, fates: Fates) {
    counters.killed += fates.ended;
    counters.gone += fates.gone;
    counters.refused += fates.refused;
    counters.unclear += fates.unclear;
}

/// The states in a sentence: `TIME_WAIT and CLOSE_WAIT`.
fn titles(states: &[Reapable]) -> String {
    let titles: Vec<&str> = states.iter().map(|state| state.state().title()).collect();
    titles.join(" and ")
}
