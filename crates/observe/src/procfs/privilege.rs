//! Which capabilities the process has, and how to say which are missing.

use rustix::thread::{CapabilitySet, capabilities};

/// Whether the calling thread has all of `wanted` in effect.
pub(crate) fn holds(wanted: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Why something that takes all of `needed` was refused, and what to do about it: `(why, remedy)`.
pub(crate) fn why_denied(needed: CapabilitySet) -> (String, String) {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    explain(needed, effective)
}

fn explain(needed: CapabilitySet, effective: CapabilitySet) -> (String, String) {
    let names: Vec<String> =
        (needed - effective).iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    if names.is_empty() {
        (
            "permission denied, although the capabilities are there: a security module, or a user namespace of \
             its own, forbids it"
                .to_owned(),
            "run it as root outside any container".to_owned(),
        )
    } else {
        let names = names.join(" and ");
        (format!("permission denied: {names} missing"), format!("run it as root, or with {names}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named() {
        let needed = CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH;
        let (why, remedy) = explain(needed, CapabilitySet::SYS_PTRACE);
        assert_eq!(why, "permission denied: CAP_DAC_READ_SEARCH missing");
        assert_eq!(remedy, "run it as root, or with CAP_DAC_READ_SEARCH");
        let (why, _) = explain(needed, CapabilitySet::empty());
        assert!(why.contains("CAP_SYS_PTRACE") && why.contains("CAP_DAC_READ_SEARCH"), "{why}");
        let (why, remedy) = explain(needed, needed);
        assert!(why.contains("security module") && !remedy.contains("CAP_"), "{why} {remedy}");
    }
}
