//! Prints the checkup of this machine: `cargo run -p tidewait-observe --features bpf --example checkup [-- --json]`.
#![expect(clippy::print_stdout, reason = "an example prints")]

fn main() -> Result<(), serde_json::Error> {
    let begun = std::time::Instant::now();
    let checkup = tidewait_observe::probe::checkup();
    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", serde_json::to_string_pretty(&checkup)?);
        return Ok(());
    }
    println!("Linux {}, {}, {}", checkup.kernel, checkup.user, checkup.capabilities.join(" "));
    for probe in &checkup.probes {
        println!("{:24} {:?}: {}", probe.id, probe.verdict, probe.detail);
        if let Some(remedy) = &probe.remedy {
            println!("{:24}   -> {remedy}", "");
        }
    }
    println!("{} probes in {} ms", checkup.probes.len(), begun.elapsed().as_millis());
    Ok(())
}
