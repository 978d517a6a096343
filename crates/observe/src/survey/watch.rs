//! How much counters grow while they are watched.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tidewait_model::observation::Growth;
use tidewait_model::{Limit, NamespaceFacts};

use crate::places::Place;
use crate::procfs;

/// Reads the counters of all namespaces again, `least` after the last of them was read first, and fills in how much they
/// grew. `first`: when each was read. Returns what could not be read again.
pub(super) fn watch(
    root: &Path,
    namespaces: &mut [(&Place, NamespaceFacts)],
    first: &[Instant],
    least: Duration,
) -> Vec<Limit> {
    let last = first.iter().max().copied();
    thread::sleep(last.map_or(Duration::ZERO, |last| least.saturating_sub(last.elapsed())));
    let mut limits = Vec::new();
    for ((place, facts), first) in namespaces.iter_mut().zip(first) {
        let again = place.enter(|| (procfs::counters(root), Instant::now()));
        match again {
            Ok(((counters, unread), now)) => {
                limits.extend(unread);
                facts.growth = Some(Growth {
                    seconds: now.duration_since(*first).as_secs_f64(),
                    counters: grown(&facts.counters, &counters),
                });
            }
            Err(error) => limits.push(error.limit()),
        }
    }
    limits
}

/// What grew between two readings, by how much. A counter that was not there in the beginning has not grown.
fn grown(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let grown = after.iter().filter(|(name, _)| !tells_the_present(name)).filter_map(|(name, after)| {
        let growth = after.checked_sub(*before.get(name)?)?;
        (growth > 0).then(|| (name.clone(), growth))
    });
    grown.collect()
}

/// Whether a counter says how many there are now, rather than how many there have been.
fn tells_the_present(name: &str) -> bool {
    name.starts_with("sockstat") || name == "Tcp.CurrEstab"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn only_what_counts_up_and_grew_is_told() {
        let before = counters(&[
            ("TcpExt.TW", 5),
            ("TcpExt.ListenDrops", 2),
            ("sockstat.TCP.tw", 1),
            ("Tcp.CurrEstab", 0),
        ]);
        let after = counters(&[
            ("TcpExt.TW", 9),
            ("TcpExt.ListenDrops", 2),
            ("sockstat.TCP.tw", 7),
            ("Tcp.CurrEstab", 3),
            ("conntrack.drop", 8),
        ]);
        assert_eq!(grown(&before, &after), counters(&[("TcpExt.TW", 4)]));
        assert_eq!(grown(&after, &before), BTreeMap::new());
    }
}
