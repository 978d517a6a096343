//! Values tried in a network namespace of their own before they are written where they matter.

use std::io;

use tidewait_act::kernel::{Kernel as _, Sysctl};
use tidewait_lab::{Error, NetNs};
use tidewait_model::PortSet;
use tidewait_model::catalogue::{InNamespace, setting};
use tidewait_model::tune::{Was, spaced};

use super::scene::Scene;

/// Settings that bound each other, in an order in which any values of them can be written once the first is 0.
const BOUNDS: [&str; 4] = [
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
];

/// Writes the changes into a disposable namespace whose bounds are those of the scene, and spells each as the kernel does
/// there. The word is for what could not be tried.
///
/// # Errors
/// What the kernel refuses, or takes as something else.
pub fn attempt(scene: &Scene, changes: &mut [Was]) -> anyhow::Result<Option<String>> {
    let netns = match NetNs::new() {
        Ok(netns) => netns,
        Err(error) => return Ok(Some(not_tried(&error))),
    };
    let mut bounds = vec![(BOUNDS[0], "0".to_owned())];
    bounds.extend(BOUNDS[1..].iter().filter_map(|name| Some((*name, scene.setting(name)?.to_owned()))));
    netns.run(|| {
        for (name, value) in &bounds {
            // A bound that cannot be had here is one that nothing will be held against.
            let _ = Sysctl.write(name, value);
        }
        for was in changes.iter_mut() {
            let own = setting(&was.setting).is_some_and(|row| row.in_namespace == InNamespace::Own);
            // A module's settings may be absent in a namespace where nothing uses it.
            if !own || Sysctl.read(&was.setting).is_err() {
                continue;
            }
            let (name, wanted) = (&was.setting, &was.wanted);
            if let Err(error) = Sysctl.write(name, wanted) {
                // Anything else is about the place and not the value, and will be met there too.
                if error.kind() != io::ErrorKind::InvalidInput {
                    return Ok(Some(format!("{name} was not tried in a namespace of its own beforehand: {error}")));
                }
                anyhow::bail!(
                    "{name} = {wanted:?}: the kernel refuses it, as a trial in a namespace of its own showed: {error}; nothing was \
                     changed"
                );
            }
            let is = Sysctl.read(name)?;
            if !same(name, &is, wanted) {
                anyhow::bail!(
                    "{name} = {wanted:?}: the kernel makes {is:?} of it, as a trial in a namespace of its own showed; nothing was changed"
                );
            }
            was.wanted = is;
        }
        Ok(None)
    })?
}

/// Whether two spellings are one value; ports next to each other may be listed as a range.
fn same(name: &str, one: &str, other: &str) -> bool {
    if name.ends_with("_reserved_ports") {
        PortSet::parse_list(one) == PortSet::parse_list(other)
    } else {
        spaced(one) == spaced(other)
    }
}

fn not_tried(error: &Error) -> String {
    format!("not tried in a namespace of its own beforehand: {error}")
}
