//! Every way in which a connection begins, or does not.
use super::sockets::*;
use super::watch::*;
use tidewait_model::trace::Direction;
#[test]
fn stress() {
    let Some(mut watch) = Watch::start("x") else { return };
    let [(_, place), ..] = places(25_000);
    let n = 200;
    watch
        .netns
        .run(|| {
            let pairs: Vec<Pair> = (0..n)
                .map(|i| {
                    pair(Place {
                        listen: (place.listen.ip(), 25_000 + i).into(),
                        connect: (place.connect.ip(), 25_000 + i).into(),
                    })
                })
                .collect();
            let mut servers = Vec::new();
            for Pair { client, server, listener } in pairs {
                set(&client, libc::IPPROTO_TCP, libc::TCP_LINGER2, 61).unwrap();
                drop(client);
                servers.push((server, listener));
            }
            std::thread::sleep(std::time::Duration::from_millis(1600));
            let t = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
            let tw = t
                .lines()
                .filter(|l| l.split_whitespace().nth(5).is_some_and(|w| w.starts_with("03:")))
                .count();
            println!("small {tw}");
            std::thread::sleep(std::time::Duration::from_millis(500));
        })
        .unwrap();
    let mut tw = 0;
    let mut fins = 0;
    for i in 0..n {
        let c = watch.counts(Direction::Outgoing, 25_000 + i);
        tw += c.time_wait;
        fins += c.closed_here;
    }
    for (id, p) in libbpf_rs::query::ProgInfoIter::default().map(|p| (p.id, p)) {
        println!("{id} {:?} misses {}", p.name, p.recursion_misses);
    }
    println!("closed {fins} tw {tw}");
}
