//! The words tidewait speaks: states, addresses, ports, the census, the report. No I/O, no clock, no unsafe.
//!
//! Read [`census`] first (what was counted), then [`report`] (what is said about it). Every other crate
//! imports this one and, surfaces apart, little else of the workspace.

pub mod address;
pub mod capacity;
pub mod catalogue;
pub mod census;
pub mod containers;
pub mod doctor;
pub mod exec;
pub mod experiment;
pub mod explain;
pub mod kernel;
pub mod lingering;
pub mod machine;
pub mod observation;
pub mod persist;
pub mod ports;
pub mod reap;
pub mod report;
pub mod scenario;
pub mod state;
pub mod steer;
pub mod stream;
pub mod study;
pub mod table;
pub mod trace;
pub mod tune;

pub use address::{AddressFilter, Endpoint};
pub use census::{Census, Destination, Incoming, Listener, Occupancy, Source};
pub use kernel::Version;
pub use lingering::Lingering;
pub use machine::Machine;
pub use observation::{
    Growth, Hides, Limit, NamespaceFacts, Observation, Owner, OwnerBasis, Settings, Timing,
};
pub use ports::{PortRange, PortSet};
pub use state::{State, StateCounts};
pub use trace::Traced;
