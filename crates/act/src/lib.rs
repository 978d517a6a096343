//! The only writer of kernel state: settings with a journal, their undoing, the file that keeps them.
//!
//! [`change`] is where to begin: what is about to be changed goes into the [`journal`], then [`transition`] brings the settings
//! there, all of them or none, through the [`kernel`]. [`persist`] keeps what has proved itself. [`reap`] ends sockets before
//! their time. Whoever builds tidewait without this crate (feature `act` of the binary) has a program that only reads.

pub mod cgroup;
pub mod change;
pub mod journal;
pub mod kernel;
pub mod persist;
pub mod reap;
pub mod steer;
pub mod transition;
