//! Makes TCP load in private network namespaces and runs a command in the middle of it.
//!
//! `load mixed -- ss -tan` shows 20,000 TIME_WAIT sockets to one destination, 3,000 to another and 500 open
//! connections to a third, without touching the network of the machine. Root is not needed where user
//! namespaces are allowed.
#![expect(clippy::print_stderr, reason = "a program to be used by hand; the command owns standard output")]

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use tidewait_lab::{ChurnOptions, ChurnReport, Closer, Host, Lab, Path, Policy, Server, Side};

/// Ports of the destinations count up from here: below the stock range of connect().
const FIRST_PORT: u16 = 3_306;

#[derive(Parser)]
#[command(about = "Makes TCP load in private network namespaces and runs a command in the middle of it")]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Sockets in TIME_WAIT, evenly over the destinations
    TimeWait {
        #[arg(long, default_value_t = 4)]
        destinations: u16,
        #[arg(long, default_value_t = 100_000)]
        count: u64,
        /// Ports that connect() may choose from; made wider by itself when the count needs it
        #[arg(long, value_name = "LOW-HIGH")]
        ports: Option<String>,
        #[command(flatten)]
        run: Run,
    },
    /// Connections made and closed at a steady rate
    Churn {
        /// Each has room for 470 connections a second, and makes connect() slow above 235
        #[arg(long, default_value_t = 1)]
        destinations: u16,
        /// Connections a second
        #[arg(long, default_value_t = 500)]
        rate: u32,
        /// Ends after this time, or with the command
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Let the server close first, so that it keeps the TIME_WAIT; the command still runs on the client
        #[arg(long)]
        server_closes: bool,
        /// Call bind(address, 0) before connect()
        #[arg(long)]
        bind_first: bool,
        /// Set IP_BIND_ADDRESS_NO_PORT before that bind()
        #[arg(long, requires = "bind_first")]
        no_port: bool,
        #[command(flatten)]
        run: Run,
    },
    /// 20,000 TIME_WAIT to one destination, 3,000 to another, 500 ESTABLISHED to a third
    Mixed {
        #[command(flatten)]
        run: Run,
    },
    /// Some sockets of every state that a program or a peer can get stuck in
    States {
        /// Sockets in each state
        #[arg(long, default_value_t = 50)]
        count: u16,
        #[command(flatten)]
        run: Run,
    },
}

#[derive(Args)]
struct Run {
    /// Keep the load for so many seconds, when there is no command
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    hold: u64,
    /// Runs on the client's host with the load in place; its exit code is passed on
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    /// Runs the command on the client's host, or waits.
    fn go(&self, client: &Host) -> Result<ExitCode> {
        let Some((program, arguments)) = self.command.split_first() else {
            eprintln!(
                "load: holding for {} s; enter with: nsenter --net={}",
                self.hold,
                client.path().display()
            );
            std::thread::sleep(Duration::from_secs(self.hold));
            return Ok(ExitCode::SUCCESS);
        };
        let mut command = client.command(program);
        let status = command.args(arguments).status();
        let status = status.with_context(|| format!("run {}", program.display()))?;
        // A command that a signal ended has no code.
        Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    }
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    tidewait_lab::enter()?;
    match cli.load {
        Load::TimeWait { destinations, count, ports, run } => time_wait(destinations, count, ports, &run),
        Load::Churn { destinations, rate, seconds, server_closes, bind_first, no_port, run } => {
            let options = ChurnOptions {
                rate: Some(rate),
                duration: Duration::from_secs(seconds),
                closer: if server_closes { Closer::Server } else { Closer::Client },
                bind_first: bind_first.then_some(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1))),
                no_port,
                ..ChurnOptions::default()
            };
            churn(destinations, options, &run)
        }
        Load::Mixed { run } => mixed(&run),
        Load::States { count, run } => states(count, &run),
    }
}

fn server_address(number: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), FIRST_PORT + number)
}

/// From the client to so many ports of the server.
fn path(client: &Host, server: &Host, destinations: u16) -> Result<Path> {
    if !(1..=1_000).contains(&destinations) {
        bail!("--destinations {destinations}: from 1 to 1000");
    }
    Ok((0..destinations).map(server_address).fold(Path::between(client, server), Path::to))
}

fn time_wait(destinations: u16, count: u64, ports: Option<String>, run: &Run) -> Result<ExitCode> {
    let (client, server) = Lab::new().pair()?;
    let path = path(&client, &server, destinations)?;
    match ports {
        Some(ports) => client.set("net.ipv4.ip_local_port_range", &ports.replace('-', " "))?,
        None if count.div_ceil(u64::from(destinations)) > 28_000 => {
            client.set("net.ipv4.ip_local_port_range", "1024 65535")?;
        }
        None => {}
    }
    client.set("net.ipv4.tcp_max_tw_buckets", &count.max(262_144).to_string())?;
    let filled = path.fill_time_wait(count)?;
    eprintln!(
        "load: {} TIME_WAIT sockets in {:.2} s, {:.0} a second; sockstat says {}",
        filled.made,
        filled.elapsed.as_secs_f64(),
        filled.per_second(),
        filled.time_wait
    );
    run.go(&client)
}

fn churn(destinations: u16, options: ChurnOptions, run: &Run) -> Result<ExitCode> {
    let (client, server) = Lab::new().pair()?;
    let path = path(&client, &server, destinations)?;
    let policy = match options.closer {
        Closer::Client => Policy::CloseAfterPeer,
        Closer::Server => Policy::CloseFirst,
    };
    let _server = Server::start(&server, path.destinations(), policy)?;
    let churn = path.churn(options)?;
    if run.command.is_empty() {
        print_churn(&churn.wait());
        return Ok(ExitCode::SUCCESS);
    }
    let code = run.go(&client)?;
    print_churn(&churn.stop());
    Ok(code)
}

fn print_churn(report: &ChurnReport) {
    eprintln!(
        "load: {} connections in {:.2} s, {:.0} a second; {} turns missed; {:.1} us in each connect()",
        report.made,
        report.elapsed.as_secs_f64(),
        report.per_second(),
        report.missed,
        report.connecting.as_secs_f64() * 1e6 / (report.made + report.failures()).max(1) as f64,
    );
    for ((call, number), count) in &report.failed {
        eprintln!("load: {count} times {call}: {}", std::io::Error::from_raw_os_error(*number));
    }
}

fn mixed(run: &Run) -> Result<ExitCode> {
    let (client, server) = Lab::new().pair()?;
    // The stock value depends on the machine's memory.
    client.set("net.ipv4.tcp_max_tw_buckets", "262144")?;
    let path = |number| Path::between(&client, &server).to(server_address(number));
    path(0).fill_time_wait(20_000)?;
    path(1).fill_time_wait(3_000)?;
    let _held = path(2).hold_established(500)?;
    run.go(&client)
}

fn states(count: u16, run: &Run) -> Result<ExitCode> {
    let (client, server) = Lab::new().pair()?;
    let number = u64::from(count);
    let path = |place| Path::between(&client, &server).to(server_address(place));
    path(0).fill_time_wait(number)?;
    let _held = [
        path(1).hold_established(number)?,
        path(2).leak_close_wait(Side::Client, number)?,
        path(3).orphan_fin_wait2(number)?,
        path(4).hold_fin_wait2(number)?,
        client.bound_inactive(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), number)?,
    ];
    let silent = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 250));
    client.blackhole(silent)?;
    let _syn_sent = Path::between(&client, &server).to(SocketAddr::new(silent, 80)).syn_sent(number)?;
    // Half-open connections arrive at a listener of the client's host, from the other end of the wire.
    let listener = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), 8_080);
    let _listener = Server::start(&client, &[listener], Policy::CloseAfterPeer)?;
    Path::between(&server, &client).from(silent).to(listener).half_open(count)?;
    run.go(&client)
}
