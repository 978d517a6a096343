//! Steering where no BPF loader was built in: it never starts, and says so.

use super::{Counts, Offer, SteerError, Wish};

/// Never made: [`Steering::start`] always says why.
#[derive(Debug)]
pub struct Steering(std::convert::Infallible);

impl Steering {
    /// Says that this program cannot steer.
    ///
    /// # Errors
    /// Always.
    pub fn start(_: &Wish<'_>) -> Result<Steering, SteerError> {
        Err(SteerError::Unsupported(
            "this tidewait was built without BPF: build with the feature bpf".to_owned(),
        ))
    }

    /// Nothing.
    ///
    /// # Errors
    /// Never.
    pub fn offer(&mut self, _: &Offer) -> Result<(), SteerError> {
        match self.0 {}
    }

    /// Nothing.
    ///
    /// # Errors
    /// Never.
    pub fn counts(&self) -> Result<Counts, SteerError> {
        match self.0 {}
    }
}
