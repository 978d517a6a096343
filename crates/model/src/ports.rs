//! Port ranges, sets of ports, and the kernel's text forms of both.

use std::fmt;

/// Words of a full port bitmap.
const WORDS: usize = 65_536 / 64;
/// Above this many ports a bitmap (8 KiB) is smaller than a list.
const LIST_LIMIT: usize = 4_096;

/// A range of ports, both ends included, as in `net.ipv4.ip_local_port_range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub low: u16,
    /// Last port.
    pub high: u16,
}

impl PortRange {
    /// Reads the kernel's form: two numbers parted by white space. `None` if it is not that.
    pub fn parse(text: &str) -> Option<PortRange> {
        let mut numbers = text.split_whitespace().map(str::parse::<u16>);
        let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (numbers.next().is_none() && low <= high).then_some(PortRange { low, high })
    }

    /// Whether `port` lies in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    /// How many ports the range has.
    pub fn size(self) -> u32 {
        u32::from(self.high) - u32::from(self.low) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

/// A set of ports: a list while it is small, a bitmap once that is smaller.
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet(Repr);

#[derive(Clone, PartialEq, Eq)]
enum Repr {
    /// Sorted, without repetition.
    List(Vec<u16>),
    Bits(Box<[u64; WORDS]>),
}

impl Default for PortSet {
    fn default() -> PortSet {
        PortSet(Repr::List(Vec::new()))
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortSet({} ports)", self.len())
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> PortSet {
        let mut list: Vec<u16> = ports.into_iter().collect();
        list.sort_unstable();
        list.dedup();
        let mut set = PortSet(Repr::List(list));
        set.settle();
        set
    }
}

impl PortSet {
    /// A set that is a bitmap from the start: for one that is known to grow.
    pub fn bitmap() -> PortSet {
        PortSet(Repr::Bits(Box::new([0; WORDS])))
    }

    /// Reads the kernel's list form, `8080,9148-9150` (`net.ipv4.ip_local_reserved_ports`). Parts that are
    /// not ports are left out and counted in the second value.
    pub fn parse_list(text: &str) -> (PortSet, usize) {
        let mut set = PortSet::default();
        let mut unread = 0;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            match (low.parse::<u16>(), high.parse::<u16>()) {
                (Ok(low), Ok(high)) if low <= high => set.extend(low..=high),
                _ => unread += 1,
            }
        }
        (set, unread)
    }

    /// Adds a port; `true` if it was not there before.
    pub fn insert(&mut self, port: u16) -> bool {
        match &mut self.0 {
            Repr::Bits(words) => {
                let (word, bit) = (&mut words[usize::from(port) / 64], 1_u64 << (port % 64));
                let new = *word & bit == 0;
                *word |= bit;
                new
            }
            Repr::List(list) => match list.binary_search(&port) {
                Ok(_) => false,
                Err(at) => {
                    list.insert(at, port);
                    self.settle();
                    true
                }
            },
        }
    }

    /// Adds all of `ports`.
    pub fn extend(&mut self, ports: impl IntoIterator<Item = u16>) {
        for port in ports {
            self.insert(port);
        }
    }

    /// Adds every port of `other`.
    pub fn union(&mut self, other: &PortSet) {
        match (&mut self.0, &other.0) {
            (Repr::Bits(mine), Repr::Bits(theirs)) => {
                for (word, other) in mine.iter_mut().zip(theirs.iter()) {
                    *word |= other;
                }
            }
            _ => self.extend(other.iter()),
        }
    }

    /// Removes every port of `other`.
    pub fn subtract(&mut self, other: &PortSet) {
        match (&mut self.0, &other.0) {
            (Repr::Bits(mine), Repr::Bits(theirs)) => {
                for (word, other) in mine.iter_mut().zip(theirs.iter()) {
                    *word &= !other;
                }
            }
            (Repr::Bits(mine), Repr::List(list)) => {
                for port in list {
                    mine[usize::from(*port) / 64] &= !(1 << (port % 64));
                }
            }
            (Repr::List(list), _) => list.retain(|port| !other.contains(*port)),
        }
    }

    /// Whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        match &self.0 {
            Repr::Bits(words) => words[usize::from(port) / 64] & (1 << (port % 64)) != 0,
            Repr::List(list) => list.binary_search(&port).is_ok(),
        }
    }

    /// How many ports the set has.
    pub fn len(&self) -> u32 {
        match &self.0 {
            Repr::Bits(words) => words.iter().map(|word| word.count_ones()).sum(),
            // A list never holds more than LIST_LIMIT ports.
            Repr::List(list) => u32::try_from(list.len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ports in ascending order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = u16> + '_> {
        match &self.0 {
            Repr::Bits(words) => {
                let (mut at, mut word) = (0, words[0]);
                Box::new(std::iter::from_fn(move || {
                    while word == 0 {
                        at += 1;
                        word = *words.get(at)?;
                    }
                    let bit = word.trailing_zeros() as usize;
                    word &= word - 1;
                    u16::try_from(at * 64 + bit).ok()
                }))
            }
            Repr::List(list) => Box::new(list.iter().copied()),
        }
    }

    /// How many ports of the set lie in `range`.
    pub fn count_in(&self, range: PortRange) -> u32 {
        let Repr::Bits(words) = &self.0 else {
            return self.iter().filter(|port| range.contains(*port)).fold(0, |count, _| count + 1);
        };
        let (first, last) = (usize::from(range.low) / 64, usize::from(range.high) / 64);
        let (from, to) = (u64::MAX << (range.low % 64), u64::MAX >> (63 - range.high % 64));
        words[first..=last]
            .iter()
            .zip(first..)
            .map(|(word, at)| {
                let low = if at == first { from } else { u64::MAX };
                let high = if at == last { to } else { u64::MAX };
                (word & low & high).count_ones()
            })
            .sum()
    }

    /// How many ports are in both sets.
    pub fn count_common(&self, other: &PortSet) -> u32 {
        match (&self.0, &other.0) {
            (Repr::Bits(mine), Repr::Bits(theirs)) => {
                mine.iter().zip(theirs.iter()).map(|(a, b)| (a & b).count_ones()).sum()
            }
            (Repr::List(_), _) => self.iter().filter(|port| other.contains(*port)).fold(0, |n, _| n + 1),
            (_, Repr::List(_)) => other.count_common(self),
        }
    }

    /// How many ports of the set have the parity of `port`.
    pub fn count_parity(&self, port: u16) -> u32 {
        self.iter().filter(|member| member % 2 == port % 2).fold(0, |count, _| count + 1)
    }

    fn settle(&mut self) {
        if let Repr::List(list) = &self.0
            && list.len() > LIST_LIMIT
        {
            let mut words = Box::new([0_u64; WORDS]);
            for port in list {
                words[usize::from(*port) / 64] |= 1 << (port % 64);
            }
            self.0 = Repr::Bits(words);
        }
    }
}

impl fmt::Display for PortSet {
    /// The kernel's list form: `8080,9148-9150`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ports = self.iter().peekable();
        let mut first = true;
        while let Some(low) = ports.next() {
            let mut high = low;
            while let Some(next) = ports.next_if(|next| high.checked_add(1) == Some(*next)) {
                high = next;
            }
            let comma = if first { "" } else { "," };
            first = false;
            if low == high { write!(f, "{comma}{low}") } else { write!(f, "{comma}{low}-{high}") }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_stock_range_has_28232_ports() {
        assert_eq!(PortRange::parse("32768\t60999\n").unwrap().size(), 28_232);
        assert_eq!(PortRange::parse("1 65535").unwrap().size(), 65_535);
        for bad in ["", "32768", "5 4", "1 2 3", "a b", "1 65536"] {
            assert_eq!(PortRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_kernels_list_form_round_trips() {
        let (set, unread) = PortSet::parse_list("8080,9148-9150,65535\n");
        assert_eq!((set.len(), unread), (5, 0));
        assert_eq!(set.to_string(), "8080,9148-9150,65535");
        assert_eq!(PortSet::parse_list("\n").0.len(), 0);
        assert_eq!(PortSet::parse_list("80,x,9-8").1, 2);
    }

    proptest! {
        #[test]
        fn a_set_behaves_like_a_btreeset(
            mine in proptest::collection::vec(any::<u16>(), 0..9_000),
            theirs in proptest::collection::vec(any::<u16>(), 0..9_000),
            low in any::<u16>(), high in any::<u16>(),
        ) {
            let (a, b): (PortSet, PortSet) =
                (mine.iter().copied().collect(), theirs.iter().copied().collect());
            let (ra, rb): (BTreeSet<u16>, BTreeSet<u16>) =
                (mine.into_iter().collect(), theirs.into_iter().collect());
            prop_assert!(a.iter().eq(ra.iter().copied()));
            prop_assert_eq!(a.len() as usize, ra.len());
            prop_assert_eq!(a.count_common(&b) as usize, ra.intersection(&rb).count());
            let range = PortRange { low: low.min(high), high: low.max(high) };
            prop_assert_eq!(a.count_in(range) as usize, ra.range(range.low..=range.high).count());
            let mut union = a.clone();
            union.union(&b);
            prop_assert!(union.iter().eq(ra.union(&rb).copied()));
            let mut rest = a.clone();
            rest.subtract(&b);
            prop_assert!(rest.iter().eq(ra.difference(&rb).copied()));
            prop_assert!(PortSet::parse_list(&a.to_string()).0.iter().eq(a.iter()));
        }
    }
}
