//! Why BPF programs could not be loaded, and whether that is for want of rights.

#[cfg(feature = "bpf")]
mod standing;

use tidewait_model::Limit;

#[cfg(feature = "bpf")]
pub(crate) use standing::{limit, refusal};

/// Why nothing was started.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What cannot be seen, why, and what helps.
    pub limit: Limit,
    /// Whether rights or a policy stand in the way; else the kernel cannot do it, or it went wrong.
    pub not_permitted: bool,
}

impl From<Limit> for Refusal {
    /// Of something else than rights.
    fn from(limit: Limit) -> Refusal {
        Refusal { limit, not_permitted: false }
    }
}
