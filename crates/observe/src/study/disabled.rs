//! The watch where no BPF loader was built in: it never starts, and says so.

use tidewait_model::Limit;
use tidewait_model::study::Method;

use crate::refusal::Refusal;

use super::{Picture, Wish};

/// Never made: [`Watch::start`] always says why.
pub struct Watch(std::convert::Infallible);

impl Watch {
    /// Says that this program cannot watch.
    ///
    /// # Errors
    /// Always.
    pub fn start(_: Wish) -> Result<Watch, Refusal> {
        Err(Limit::new("segments for TIME_WAIT", "built without BPF")
            .remedy("build with the feature bpf")
            .into())
    }

    /// Nothing.
    pub fn method(&self) -> Method {
        match self.0 {}
    }

    /// Nothing.
    pub fn refresh(&mut self) {
        match self.0 {}
    }

    /// Nothing.
    pub fn finish(&mut self) {
        match self.0 {}
    }

    /// Nothing.
    ///
    /// # Errors
    /// Never.
    pub fn picture(&mut self) -> Result<Picture, Limit> {
        match self.0 {}
    }
}
