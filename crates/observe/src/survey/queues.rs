//! Looks again at accept queues that were full: one that a burst has filled has room again a moment later.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use tidewait_model::{Endpoint, Limit, NamespaceFacts, State};

use crate::places::Place;
use crate::sock_diag::{DumpError, Family, Netlink, Request, Sockets};

/// When it is looked again. A program that keeps up empties its queue in a turn of its loop; clients do not notice a wait of
/// this length, and neither does who waits for the report.
const LATER: Duration = Duration::from_millis(300);

/// Looks again at the listeners of the namespaces where one was full, `LATER` after `counted`. Returns what could not be
/// seen.
pub(super) fn look_again(namespaces: &mut [(&Place, NamespaceFacts)], counted: Instant) -> Vec<Limit> {
    let mut limits = Vec::new();
    for (place, facts) in namespaces {
        let listeners = &mut facts.census.listeners;
        if listeners.iter().all(|listener| listener.full == 0) {
            continue;
        }
        thread::sleep(LATER.saturating_sub(counted.elapsed()));
        let why = match place.enter(full_queues) {
            Ok(Ok(full)) => {
                for listener in listeners.iter_mut().filter(|listener| listener.full > 0) {
                    listener.still_full = Some(full.get(&listener.local).copied().unwrap_or(0));
                }
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        limits
            .push(Limit::new(format!("{}: whether full accept queues stay so", facts.name), why).of_detail());
    }
    limits
}

/// How many sockets with a full accept queue listen at each endpoint of the calling thread's namespace.
fn full_queues() -> Result<HashMap<Endpoint, u32>, DumpError> {
    let mut netlink = Netlink::open()?;
    let mut full = HashMap::new();
    for family in Family::BOTH {
        netlink.dump(&Request::all(family).states([State::Listen]), &mut |row| {
            if row.receive_queue() > row.send_queue() {
                *full.entry(row.local()).or_default() += 1;
            }
        })?;
    }
    Ok(full)
}
