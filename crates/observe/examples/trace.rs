//! Traces for a few seconds and prints what was counted: for trying the tracer by hand.
#![expect(clippy::print_stdout, reason = "it is for reading")]

use std::time::{Duration, Instant};

use tidewait_observe::trace::{Kinds, Telling, Tracer, Wish};

fn main() {
    let seconds: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5);
    let telling = std::env::args().nth(2).map(|_| Telling {
        kinds: Kinds(0xff),
        buffer: 1 << 22,
        ..Telling::default()
    });
    let wish = Wish { events: telling, binds: true, ..Wish::default() };
    match Tracer::start(&wish) {
        Err(refusal) => println!("{:?}", refusal.limit),
        Ok(mut tracer) => {
            println!("{} bytes, {:?}", tracer.memory_bytes(), tracer.limits());
            let end = Instant::now() + Duration::from_secs(seconds);
            let mut count = 0;
            while Instant::now() < end {
                let _ = tracer.poll(Duration::from_millis(100), &mut |event| {
                    count += 1;
                    if count < 40 {
                        println!("{event:?}");
                    }
                });
                if wish.events.is_none() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            let picture = tracer.picture();
            match picture {
                Ok(picture) => {
                    for (netns, flow) in picture.flows.iter().take(20) {
                        println!("{netns} {flow:#?}");
                    }
                    println!("{count} events, {} waiting, {:?}", picture.waiting.len(), picture.losses);
                }
                Err(limit) => println!("{limit:?}"),
            }
        }
    }
}
