//! The tracer where no BPF loader was built in: it never starts, and says so.

use std::time::Duration;

use tidewait_model::Limit;
use tidewait_model::trace::Program;

use crate::refusal::Refusal;

use super::{Event, Losses, Picture, Wish};

/// Never made: [`Tracer::start`] always says why.
pub struct Tracer(std::convert::Infallible);

impl Tracer {
    /// Says that this program cannot trace.
    ///
    /// # Errors
    /// Always.
    pub fn start(_: &Wish) -> Result<Tracer, Refusal> {
        Err(Limit::new("traced connections", "built without BPF")
            .remedy("build with the feature bpf")
            .of_detail()
            .into())
    }

    /// What could not be followed from the start.
    pub fn limits(&self) -> &[Limit] {
        match self.0 {}
    }

    /// Nothing.
    pub fn poll(&mut self, _: Duration, _: &mut dyn FnMut(&Event)) -> Result<(), Limit> {
        match self.0 {}
    }

    /// Nobody.
    pub fn program(&mut self, _: u32) -> Option<&Program> {
        match self.0 {}
    }

    /// Nothing.
    pub fn losses(&self) -> Losses {
        match self.0 {}
    }

    /// Nothing.
    pub fn memory_bytes(&self) -> u64 {
        match self.0 {}
    }

    /// Nothing.
    pub fn picture(&mut self) -> Result<Picture, Limit> {
        match self.0 {}
    }
}
