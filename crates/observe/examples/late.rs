//! How late segments come for TIME_WAIT on a wire with delay, loss, duplication and reordering: the table of
//! docs/time-wait-study.md. By netem where the kernel has it, else by the lab's wire, which needs TUN; with the argument `wire` by
//! that in any case. Needs root.
//!
//! `cargo run -p tidewait-observe --features bpf --example late`, and for another kernel
//! `cargo xtask vm 6.12 --timeout 900 --binary target/debug/examples/late:late -- late`

#[cfg(not(feature = "bpf"))]
fn main() {}

#[cfg(feature = "bpf")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    late::table()
}

#[cfg(feature = "bpf")]
mod late {
    use std::error::Error;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{scope, sleep};
    use std::time::Duration;

    use tidewait_lab::wire::{Direction, Rules, Wire};
    use tidewait_lab::{Host, Lab, Netem};
    use tidewait_model::study::{BANDS, Kind, Seen};
    use tidewait_observe::places::{Scope, find};
    use tidewait_observe::sock_diag::Filter;
    use tidewait_observe::study::{Watch, Wish};

    type Outcome<T> = Result<T, Box<dyn Error>>;

    /// Connections of a row, and how many at a time.
    const CONNECTIONS: usize = 600;
    const AT_ONCE: usize = 100;
    /// How long is watched after the last: a FIN is sent again after 0.2, 0.6, 1.4, 3, 6.2 s and later.
    const TAIL: Duration = Duration::from_secs(8);

    #[derive(Clone, Copy)]
    struct Row {
        round_trip_ms: u64,
        loss: f64,
        duplicate: f64,
        reorder: f64,
    }

    /// Measures and prints each row.
    #[expect(clippy::print_stdout, reason = "a table for a page")]
    pub fn table() -> Outcome<()> {
        let by_netem = std::env::args().nth(1).is_none_or(|word| word != "wire")
            && Lab::new().netem_pair(Netem::default()).is_ok();
        println!(
            "On Linux {}, by {}:\n",
            tidewait_observe::procfs::kernel_release(),
            if by_netem { "netem" } else { "the lab's wire" }
        );
        println!(
            "| round trip | lost | twice | overtaken | TIME_WAIT | ended by RST | FIN again | old data | latest | by 0.2 s | by 1 s | by 3 s |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
        let row = |round_trip_ms, loss| Row { round_trip_ms, loss, duplicate: 0.0, reorder: 0.0 };
        let rows = [
            row(0, 0.0),
            row(0, 0.01),
            row(0, 0.05),
            row(20, 0.01),
            row(20, 0.05),
            row(100, 0.01),
            row(100, 0.05),
            row(300, 0.01),
            row(300, 0.05),
            Row { duplicate: 0.05, reorder: 0.05, ..row(20, 0.0) },
            Row { duplicate: 0.05, reorder: 0.05, ..row(100, 0.01) },
        ];
        for row in rows {
            let seen = measured(row, by_netem)?;
            let of = |kind| seen.kinds.iter().find(|row| row.kind == kind).map_or(0, |row| row.segments);
            let latest = seen
                .latest_needed
                .as_ref()
                .map_or_else(|| "-".to_owned(), |at| format!("{:.2} s", at.age_seconds));
            let needed = seen.needed_at_age();
            let by = |bands: usize| {
                let sum: u64 = needed.iter().take(bands.min(BANDS)).sum();
                if seen.needed == 0 {
                    "-".to_owned()
                } else {
                    format!("{:.0} %", sum as f64 * 100.0 / seen.needed as f64)
                }
            };
            println!(
                "| {} ms | {:.0} % | {:.0} % | {:.0} % | {} | {} | {} | {} | {latest} | {} | {} | {} |",
                row.round_trip_ms,
                row.loss * 100.0,
                row.duplicate * 100.0,
                row.reorder * 100.0,
                seen.sockets,
                of(Kind::RstKills),
                of(Kind::Fin),
                of(Kind::OldData),
                by(4),
                by(6),
                by(8),
            );
        }
        Ok(())
    }

    /// A pair with what the row says between them. The wire, if it is one, has to stay.
    fn pair(row: Row, by_netem: bool) -> Outcome<(Host, Host, Option<Wire>)> {
        if by_netem {
            let Row { round_trip_ms, loss, duplicate, reorder } = row;
            let netem = Netem { delay: Duration::from_millis(round_trip_ms) / 2, loss, duplicate, reorder };
            let (client, server) = Lab::new().netem_pair(netem)?;
            return Ok((client, server, None));
        }
        let (client, server, wire) = Lab::new().wired_pair()?;
        for (direction, seed) in [(Direction::Forth, 1), (Direction::Back, 2)] {
            let delay = Duration::from_millis(row.round_trip_ms) / 2;
            let rules = Rules {
                delay,
                loss: row.loss,
                duplicate: row.duplicate,
                duplicate_after: delay * 3,
                reorder: row.reorder,
                reorder_by: delay * 3,
                seed,
                ..Rules::default()
            };
            wire.rule(direction, rules);
        }
        Ok((client, server, Some(wire)))
    }

    fn measured(row: Row, by_netem: bool) -> Outcome<Seen> {
        let (client, server, _wire) = pair(row, by_netem)?;
        let address = SocketAddr::from(([10, 77, 0, 2], 443));
        let listener = server.run(|| TcpListener::bind(address))??;
        server.spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(stream));
            }
        })?;
        let seen = client.run(|| -> Result<Seen, String> {
            let place = find(Path::new("/"), &Scope::Auto).map_err(|error| error.to_string())?;
            let place = place.places.into_iter().find(|place| place.own).ok_or("no namespace")?;
            let wish = Wish {
                root: "/".into(),
                place,
                method: None,
                only: Filter::default(),
                sample: 1,
                time_wait: Duration::from_secs(60),
                destinations: 64,
            };
            let mut watch = Watch::start(wish).map_err(|refusal| refusal.limit.why)?;
            let next = AtomicUsize::new(0);
            scope(|scope| {
                for _ in 0..AT_ONCE {
                    scope.spawn(|| {
                        while next.fetch_add(1, Ordering::Relaxed) < CONNECTIONS {
                            // One that fails for loss leaves no TIME_WAIT.
                            let _ = ask(address);
                        }
                    });
                }
            });
            sleep(TAIL);
            watch.finish();
            watch.picture().map(|picture| picture.total).map_err(|limit| limit.why)
        })??;
        Ok(seen)
    }

    fn serve(mut stream: TcpStream) {
        let mut request = [0; 100];
        if stream.read_exact(&mut request).and_then(|()| stream.write_all(&[7; 2_000])).is_ok() {
            // Until the client closes: it closes first and keeps the TIME_WAIT.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }

    fn ask(address: SocketAddr) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(&[1; 100])?;
        stream.read_exact(&mut [0; 2_000])
    }
}
