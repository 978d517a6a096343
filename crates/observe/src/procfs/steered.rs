//! The ports that are steered in a network namespace, by the names that whoever steers takes there.

use std::path::Path;

use tidewait_model::Limit;
use tidewait_model::steer::Holder;

/// Who steers which ports in the network namespace of the calling thread.
pub fn steered(root: &Path) -> (Vec<Holder>, Option<Limit>) {
    match std::fs::read(root.join("proc/thread-self/net/unix")) {
        Ok(text) => (Holder::all(&String::from_utf8_lossy(&text)), None),
        // A kernel without unix sockets has nobody who could say so.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (Vec::new(), None),
        Err(error) => {
            let what =
                "which ports `tidewait steer` gives; connections from them may be told as incoming ones";
            (Vec::new(), Some(Limit::new(what, format!("/proc/thread-self/net/unix: {error}"))))
        }
    }
}
