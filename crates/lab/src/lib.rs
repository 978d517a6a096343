//! Private network namespaces, servers and clients that make TCP trouble on purpose, and clean up.
//!
//! [`NetNs`] is a namespace held by a descriptor, [`Lab`] joins [`Host`]s by wires, [`Server`] answers in
//! one of eight ways, [`Path`] says from where to where, and makes the load: TIME_WAIT, CLOSE_WAIT,
//! FIN_WAIT2, SYN_SENT, NEW_SYN_RECV, ESTABLISHED, or a steady [`Churn`]. Nothing touches the host's own
//! network: settings are written only in namespaces made here, and everything goes when the values are
//! dropped or the process ends.
//!
//! ```no_run
//! use tidewait_lab::{Lab, Path, Side};
//! # fn main() -> tidewait_lab::Result<()> {
//! tidewait_lab::enter()?;
//! let (client, server) = Lab::new().pair()?;
//! let path = |port: u16| Path::between(&client, &server).to(([10, 77, 0, 2], port).into());
//! path(3306).fill_time_wait(20_000)?;
//! let _leak = path(6379).leak_close_wait(Side::Client, 100)?;
//! client.command("ss").arg("-s").status().ok();
//! # Ok(())
//! # }
//! ```
//!
//! Without root, call [`enter`] first in `main`, or wrap a test in [`isolated`].

mod actor;
pub mod c_library;
mod churn;
mod client;
mod conntrack;
mod destroy;
mod error;
pub mod faults;
mod fill;
mod half_open;
mod held;
mod host;
mod machine;
mod netem;
mod netlink;
mod netns;
mod parked;
mod path;
mod privilege;
mod race;
mod repeat;
mod scenario;
mod server;
pub mod settings;
mod socket;
mod sprint;
pub mod tables;
mod tally;
pub mod wire;

pub use actor::Actor;
pub use churn::{Churn, ChurnOptions, ChurnReport, Closer};
pub use client::{Client, ClientReport};
pub use error::{Error, Result};
pub use fill::Filled;
pub use held::{Held, Side};
pub use host::{Host, Lab};
pub use netem::Netem;
pub use netns::NetNs;
pub use path::Path;
pub use privilege::{Privilege, enter, isolated, scaled, skip};
pub use race::{Course, Crowd, race};
pub use repeat::{Repeat, Repeated};
pub use scenario::{Expectation, Judgement, Lens, Scenario, Stage};
pub use server::{Policy, Server, ServerOptions};
pub use socket::{set_no_port, set_only_port, set_source};
pub use sprint::{Sprint, Use};
pub use tally::Sockstat;
