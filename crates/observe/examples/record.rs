//! Records the dumps of every TCP socket in the namespace it runs in: `record FILE`. The recordings under
//! tests/fixtures were made with it; tests/recorded.rs says by which commands.

use tidewait_observe::sock_diag::{Family, Netlink, Recorder, Request, Sockets};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: record FILE")?;
    let mut netlink = Netlink::open()?;
    netlink.record(Recorder::create(path.as_ref())?);
    for family in Family::BOTH {
        netlink.dump(&Request::all(family), &mut |_| ())?;
    }
    Ok(())
}
