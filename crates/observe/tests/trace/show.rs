//! Three programs, two destinations, known numbers: whose the connections are, in which shares, who closes first, what is refused.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use tidewait_lab::{scaled, skip};
use tidewait_model::trace::{Counts, Direction, Flow};

use super::elsewhere::Elsewhere;
use super::sockets::{Fork, close, connect_and_close, pooled, raw};
use super::watch::{PATIENCE, Watch, places};

/// The sum over the processes with this name; and how many processes they were.
fn of(rows: &[Flow], command: &str) -> (Counts, usize) {
    let mut sum = Counts::default();
    let mut processes = std::collections::HashSet::new();
    for row in rows {
        let who = row.program.as_ref().unwrap();
        if who.command == command {
            sum.merge(&row.counts);
            processes.insert(who.pid.unwrap());
        }
    }
    (Counts { lived_ns: 0, ..sum }, processes.len())
}

#[test]
fn three_programs_and_two_destinations_are_told_apart() {
    const NAME: &str = "show::three_programs_and_two_destinations_are_told_apart";
    let Some(mut watch) = Watch::counting(NAME) else { return };
    let elsewhere = Elsewhere::begin(20_000..=20_002, &["lab", "churner", "brief", "pooled"]);
    let [near, far, nobody] = [20_000, 20_001, 20_002].map(|port| places(port)[0].1);
    let (brief, churned, pool, refused) = (scaled(300), scaled(3_000), 20, scaled(100));
    let netns = watch.netns.clone();
    netns
        .run(|| {
            // The server of the first closes when the client has; that of the second closes first after one byte.
            let listeners = [near, far].map(|place| TcpListener::bind(place.listen).unwrap());
            let descriptors = listeners.each_ref().map(AsRawFd::as_raw_fd);
            let [to_near, to_far, to_nobody] = [near, far, nobody].map(|place| raw(place.connect));
            let churner = Fork::of("churner", || {
                descriptors.into_iter().for_each(close);
                for _ in 0..churned {
                    connect_and_close(&to_near);
                }
                for _ in 0..refused {
                    connect_and_close(&to_nobody);
                }
            });
            let pooled_client = Fork::of("pooled", || {
                descriptors.into_iter().for_each(close);
                for _ in 0..pool {
                    pooled(&to_far);
                }
            });
            thread::scope(|scope| {
                let [first, second] = listeners.each_ref();
                scope.spawn(move || {
                    for _ in 0..churned + brief {
                        let (server, _) = first.accept().unwrap();
                        super::sockets::drain(&server);
                    }
                });
                scope.spawn(move || {
                    for _ in 0..pool {
                        let (server, _) = second.accept().unwrap();
                        super::sockets::until_there(&server, 1);
                        // Read, so that close() sends FIN.
                        std::io::Read::read_exact(&mut &server, &mut [0]).unwrap();
                    }
                });
                for _ in 0..brief {
                    Fork::of("brief", || {
                        descriptors.into_iter().for_each(close);
                        connect_and_close(&to_near);
                    })
                    .wait();
                }
            });
            churner.wait();
            pooled_client.wait();
        })
        .unwrap();
    let mut counted = || {
        let [near, far, nobody] =
            [20_000, 20_001, 20_002].map(|port| watch.counts(Direction::Outgoing, port));
        (near.time_wait, far.closed(), nobody.refused)
    };
    let all = (brief + churned, pool, refused);
    let end = Instant::now() + PATIENCE;
    while counted() != all && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    if counted() != all {
        let unseen =
            [20_000, 20_001, 20_002].map(|port| elsewhere.as_ref().map_or(0, |trace| trace.changes(port)));
        let what = format!("{:?} of {all:?} were counted, {unseen:?} changed elsewhere", counted());
        assert_ne!(unseen, [0; 3], "{what}");
        return skip(NAME, what);
    }
    let all = watch.picture().flows.into_iter();
    let all = all.filter(|(inode, _)| u64::from(*inode) == netns.inode()).map(|(_, flow)| flow);
    let outgoing: Vec<Flow> = all.filter(|flow| flow.direction == Direction::Outgoing).collect();
    let here = |count| Counts {
        connects: count,
        closed_here: count,
        time_wait: count,
        aged: count,
        ..Counts::default()
    };
    assert_eq!(of(&outgoing, "brief"), (here(brief), brief as usize));
    let churner = Counts { connects: churned + refused, refused, ..here(churned) };
    assert_eq!(of(&outgoing, "churner"), (churner, 1));
    let pooled = Counts { connects: pool, closed_there: pool, aged: pool, sent: pool, ..Counts::default() };
    assert_eq!(of(&outgoing, "pooled"), (pooled, 1));
    // Nobody else was here, so that the shares are exact: those that closed first fill TIME_WAIT.
    assert_eq!(outgoing.iter().map(|flow| flow.counts.time_wait).sum::<u64>(), brief + churned);
    let mean = of_lifetime(&outgoing, "pooled");
    assert!(mean > 0.0);
}

/// The mean lifetime, in seconds.
fn of_lifetime(rows: &[Flow], command: &str) -> f64 {
    let row = rows.iter().find(|row| row.program.as_ref().unwrap().command == command).unwrap();
    row.counts.mean_lifetime().unwrap()
}
