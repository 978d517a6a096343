//! The thread that carries packets from one end of a wire to the other, and what it does to them on the way.

use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Counts, Deed, Direction, Rules, Segment, Snare};

/// Packets taken from one end before the other has its turn.
const TURN: usize = 64;

/// Longer than any packet: TUN devices have an MTU of 1,500 bytes.
const LONGEST: usize = 65_536;

/// What the thread and the holder of a wire share.
pub(super) struct Shared {
    ends: [OwnedFd; 2],
    wake: OwnedFd,
    pub(super) stop: AtomicBool,
    lanes: Mutex<Lanes>,
}

/// Both ways of a wire.
pub(super) struct Lanes {
    lanes: [Lane; 2],
    /// Where the data and FIN of each side end that has sent one, by sender and receiver.
    fins: HashMap<(SocketAddr, SocketAddr), u32>,
}

/// One way of a wire.
#[derive(Default)]
pub(super) struct Lane {
    rules: Rules,
    traps: Vec<Set>,
    under_way: BinaryHeap<UnderWay>,
    /// Numbers the packets, so that of two that are due at the same time the first goes first.
    number: u64,
    /// When the last of those arrives that keep their order.
    last_due: Option<Instant>,
    pub(super) counts: Counts,
}

/// A trap that is set.
struct Set {
    snare: Weak<Snare>,
    left: u64,
    matches: Box<dyn FnMut(&Segment) -> bool + Send>,
    deed: Deed,
}

/// A packet between the ends.
struct UnderWay {
    due: Instant,
    number: u64,
    packet: Arc<[u8]>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(ends: [OwnedFd; 2], wake: OwnedFd) -> Shared {
        let lanes = Lanes { lanes: [Lane::default(), Lane::default()], fins: HashMap::new() };
        Shared { ends, wake, stop: AtomicBool::new(false), lanes: Mutex::new(lanes) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look at what has changed.
    pub(super) fn wake(&self) {
        // Full, it wakes as well.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Carries packets until it is stopped.
    pub(super) fn run(&self) {
        let mut buffer = vec![0; LONGEST];
        let mut due: Option<Instant> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
            let [left, right] = &self.ends;
            let mut polled = [left, right, &self.wake].map(|fd| PollFd::new(fd, PollFlags::IN));
            // Interrupted, it looks as well.
            let _ = poll(&mut polled, wait.as_ref());
            if !polled[2].revents().is_empty() {
                let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
            }
            for direction in [Direction::Forth, Direction::Back] {
                self.take(direction, &mut buffer);
            }
            due = [Direction::Forth, Direction::Back]
                .into_iter()
                .filter_map(|direction| self.deliver(direction))
                .min();
        }
    }

    /// Takes what has been sent at the end where a way begins.
    fn take(&self, direction: Direction, buffer: &mut [u8]) {
        for _ in 0..TURN {
            match rustix::io::read(&self.ends[direction as usize], &mut *buffer) {
                Ok(length) => self.lock().take(direction, &buffer[..length], Instant::now()),
                // Nothing is there, or the device is not up.
                Err(_) => return,
            }
        }
    }

    /// Hands over what is due at the end of a way; when the next is.
    fn deliver(&self, direction: Direction) -> Option<Instant> {
        loop {
            let packet = match self.lock().lane(direction).ready(Instant::now()) {
                Ok(packet) => packet,
                Err(next) => return next,
            };
            // The kernel takes it all the way to its socket within this call: the lock must not be held.
            let taken = rustix::io::write(&self.ends[1 - direction as usize], &packet).is_ok();
            let mut lanes = self.lock();
            let counts = &mut lanes.lane(direction).counts;
            if taken {
                counts.delivered += 1;
            } else {
                counts.refused += 1;
            }
        }
    }
}

impl Lanes {
    pub(super) fn lane(&mut self, direction: Direction) -> &mut Lane {
        &mut self.lanes[direction as usize]
    }

    /// Decides what becomes of a packet.
    fn take(&mut self, direction: Direction, packet: &[u8], now: Instant) {
        let Some(mut segment) = Segment::parse(packet) else {
            let lane = self.lane(direction);
            lane.counts.others += 1;
            return lane.send(packet.into(), now);
        };
        let (from, to) = (segment.source, segment.destination);
        segment.acknowledges_fin =
            segment.ack() && self.fins.get(&(to, from)) == Some(&segment.acknowledgement);
        if segment.fin() {
            self.fins.insert((from, to), segment.end());
        } else if segment.syn() {
            self.fins.remove(&(from, to));
        }
        self.lane(direction).segment(segment, now);
    }
}

impl Lane {
    pub(super) fn rule(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub(super) fn trap(
        &mut self,
        snare: Weak<Snare>,
        times: u64,
        matches: Box<dyn FnMut(&Segment) -> bool + Send>,
        deed: Deed,
    ) {
        self.traps.push(Set { snare, left: times, matches, deed });
    }

    pub(super) fn inject(&mut self, segment: &Segment, now: Instant) {
        self.counts.injected += 1;
        self.push(Arc::clone(segment.bytes()), now);
    }

    /// Decides what becomes of a segment.
    fn segment(&mut self, segment: Segment, now: Instant) {
        let number = self.counts.segments;
        self.counts.segments += 1;
        let packet = Arc::clone(segment.bytes());
        let arrives = now + self.rules.delay;
        match self.sprung(segment) {
            Some(Deed::Record) => return self.send(packet, now),
            Some(Deed::Drop) => return,
            Some(Deed::Hold(time)) => return self.push(packet, arrives + time),
            Some(Deed::Copy(time)) => {
                self.push(Arc::clone(&packet), arrives + time);
                return self.send(packet, now);
            }
            None => {}
        }
        let chance = |which: u64| chance(self.rules.seed, number, which);
        if chance(0) < self.rules.loss {
            self.counts.lost += 1;
            return;
        }
        let twice = chance(1) < self.rules.duplicate;
        let overtaken = chance(2) < self.rules.reorder;
        if twice {
            self.counts.duplicated += 1;
            self.push(Arc::clone(&packet), arrives + self.rules.jitter + self.rules.duplicate_after);
        }
        if overtaken {
            self.counts.reordered += 1;
            return self.push(packet, arrives + self.rules.reorder_by);
        }
        self.send(packet, now);
    }

    /// The first trap that takes the segment, if any. Those are gone that nobody holds, or that have had enough.
    fn sprung(&mut self, segment: Segment) -> Option<Deed> {
        self.traps.retain(|set| set.left > 0 && set.snare.strong_count() > 0);
        let set = self.traps.iter_mut().find_map(|set| (set.matches)(&segment).then_some(set))?;
        set.left -= 1;
        self.counts.trapped += 1;
        if let Some(snare) = set.snare.upgrade() {
            snare.spring(segment);
        }
        Some(set.deed)
    }

    /// Sends a packet on its way behind those before it.
    fn send(&mut self, packet: Arc<[u8]>, now: Instant) {
        let jitter = self.rules.jitter.mul_f64(chance(self.rules.seed, self.number, 3));
        let due = now + self.rules.delay + jitter;
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        self.push(packet, due);
    }

    /// Has a packet arrive at a time, whatever is before or behind it.
    fn push(&mut self, packet: Arc<[u8]>, due: Instant) {
        self.number += 1;
        self.under_way.push(UnderWay { due, number: self.number, packet });
    }

    /// The next packet that is due; when it will be, if it is not yet.
    fn ready(&mut self, now: Instant) -> Result<Arc<[u8]>, Option<Instant>> {
        match self.under_way.peek() {
            Some(first) if first.due <= now => {}
            other => return Err(other.map(|first| first.due)),
        }
        self.under_way.pop().map(|first| first.packet).ok_or(None)
    }
}

/// The earliest comes out of a [`BinaryHeap`] first, which gives the greatest.
impl Ord for UnderWay {
    fn cmp(&self, other: &UnderWay) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &UnderWay) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &UnderWay) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for UnderWay {}

/// A number from 0 to below 1 that the seed, the segment and the question decide (the finaliser of SplitMix64, twice).
fn chance(seed: u64, number: u64, which: u64) -> f64 {
    let mix = |value: u64| {
        let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    let mixed = mix(mix(mix(seed) ^ number) ^ which);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lane(rules: Rules) -> Lane {
        Lane { rules, ..Lane::default() }
    }

    /// A SYN with a sequence number, over IPv4.
    fn segment(sequence: u32) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2];
        packet.extend([0x9c, 0x40, 0x01, 0xbb]);
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0x50, 0x02, 0, 1, 0, 0, 0, 0]);
        packet
    }

    /// What arrives of `count` segments that are sent a millisecond apart: when, after the first was sent, and which.
    fn arrivals(lane: &mut Lane, count: u32) -> Vec<(Duration, u32)> {
        let begin = Instant::now();
        for number in 0..count {
            let now = begin + Duration::from_millis(u64::from(number));
            lane.segment(Segment::parse(&segment(number)).unwrap(), now);
        }
        let mut arrived = Vec::new();
        let mut now = begin;
        loop {
            match lane.ready(now) {
                Ok(packet) => arrived.push((now - begin, Segment::parse(&packet).unwrap().sequence)),
                Err(Some(next)) => now = next,
                Err(None) => return arrived,
            }
        }
    }

    #[test]
    fn nothing_is_done_without_a_rule() {
        let arrived = arrivals(&mut lane(Rules::default()), 100);
        let expected: Vec<_> =
            (0..100).map(|number| (Duration::from_millis(u64::from(number)), number)).collect();
        assert_eq!(arrived, expected);
    }

    #[test]
    fn delay_and_jitter_keep_the_order_and_their_bounds() {
        let ms = Duration::from_millis;
        let mut lane = lane(Rules { delay: ms(50), jitter: ms(10), ..Rules::default() });
        let arrived = arrivals(&mut lane, 500);
        assert_eq!(
            arrived.iter().map(|(_, number)| *number).collect::<Vec<_>>(),
            (0..500).collect::<Vec<_>>()
        );
        let took: Vec<Duration> =
            arrived.iter().map(|(when, number)| *when - ms(u64::from(*number))).collect();
        assert!(took.iter().all(|took| (ms(50)..=ms(60)).contains(took)), "{took:?}");
        assert!(took.iter().max() > Some(&ms(55)) && took.iter().min() < Some(&ms(55)), "it varies");
    }

    #[test]
    fn loss_and_duplication_are_by_the_part_and_the_same_for_a_seed() {
        let rules = Rules { loss: 0.2, duplicate: 0.1, seed: 7, ..Rules::default() };
        let mut first = lane(rules);
        let arrived = arrivals(&mut first, 10_000);
        assert!((1_800..2_200).contains(&first.counts.lost), "{:?}", first.counts);
        assert!((700..900).contains(&first.counts.duplicated), "{:?}", first.counts);
        assert_eq!(arrived.len() as u64, 10_000 - first.counts.lost + first.counts.duplicated);
        assert_eq!(arrivals(&mut lane(rules), 10_000), arrived);
        assert_ne!(arrivals(&mut lane(Rules { seed: 8, ..rules }), 10_000), arrived);
    }

    #[test]
    fn the_reordered_are_overtaken() {
        let rules = Rules { reorder: 0.1, reorder_by: Duration::from_millis(3), ..Rules::default() };
        let mut lane = lane(rules);
        let arrived = arrivals(&mut lane, 1_000);
        let overtaken = arrived.windows(2).filter(|pair| pair[0].1 > pair[1].1).count() as u64;
        assert_eq!(arrived.len(), 1_000);
        assert!((50..150).contains(&lane.counts.reordered), "{:?}", lane.counts);
        assert!(overtaken > 0 && overtaken <= lane.counts.reordered, "{overtaken} of {:?}", lane.counts);
    }

    #[test]
    fn traps_take_what_they_wait_for_and_no_more() {
        let ms = Duration::from_millis;
        let mut lane = lane(Rules::default());
        let set = |lane: &mut Lane, times, from, deed| {
            let snare = Arc::new(Snare::default());
            let matches = move |segment: &Segment| segment.sequence >= from;
            lane.trap(Arc::downgrade(&snare), times, Box::new(matches), deed);
            snare
        };
        let dropped = set(&mut lane, 2, 10, Deed::Drop);
        let held = set(&mut lane, 1, 20, Deed::Hold(ms(50)));
        let copied = set(&mut lane, 1, 30, Deed::Copy(ms(60)));
        drop(set(&mut lane, 9, 0, Deed::Drop));
        let arrived = arrivals(&mut lane, 40);
        let at = |number: u32| -> Vec<Duration> {
            arrived.iter().filter(|(_, found)| *found == number).map(|(when, _)| *when).collect()
        };
        assert_eq!((at(9), at(10), at(11), at(12)), (vec![ms(9)], vec![], vec![], vec![ms(12)]));
        assert_eq!((at(20), at(21)), (vec![ms(70)], vec![ms(21)]));
        assert_eq!(at(30), [ms(30), ms(90)]);
        assert_eq!(lane.counts.trapped, 4);
        let sequences = |snare: &Snare| snare.lock().iter().map(|caught| caught.sequence).collect::<Vec<_>>();
        assert_eq!(
            (sequences(&dropped), sequences(&held), sequences(&copied)),
            (vec![10, 11], vec![20], vec![30])
        );
    }
}
