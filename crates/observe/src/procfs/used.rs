//! How many sockets of a namespace no table accounts for: what is left of all when those of every table are taken away.

use std::path::Path;

/// The tables whose sockets sockstat and sockstat6 count.
const COUNTED: [&str; 8] = ["TCP", "UDP", "UDPLITE", "RAW", "TCP6", "UDP6", "UDPLITE6", "RAW6"];
/// The tables that have a line for each socket, and one of names.
const LISTED: [&str; 3] = ["unix", "netlink", "packet"];

/// How many sockets of the *calling thread's* network namespace are in no table: TCP sockets without a connection, bound,
/// new, or of a rare kind. `None` where /proc does not tell.
///
/// `sockets: used` is the namespace's own count of its sockets of all kinds since 4.16 (net/socket.c `sock_inuse_get`), before
/// that the machine's: then this is too much.
pub(crate) fn unaccounted(root: &Path) -> Option<u64> {
    let net = root.join("proc/thread-self/net");
    let sockstat = std::fs::read_to_string(net.join("sockstat")).ok()?;
    // Without IPv6 there is no such file.
    let sockstat6 = std::fs::read_to_string(net.join("sockstat6")).unwrap_or_default();
    let used = number(&sockstat, "sockets", "used")?;
    let counted: u64 = COUNTED
        .iter()
        .filter_map(|group| number(&sockstat, group, "inuse").or_else(|| number(&sockstat6, group, "inuse")))
        .sum();
    let listed: u64 =
        LISTED.iter().filter_map(|table| Some(lines(table, &std::fs::read(net.join(table)).ok()?))).sum();
    Some(used.saturating_sub(counted).saturating_sub(listed))
}

/// The sockets that a table lists. The kernel's own netlink sockets, whose port is 0, are not counted as used.
fn lines(table: &str, text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    let own = |line: &&str| table == "netlink" && line.split_ascii_whitespace().nth(2) == Some("0");
    text.lines().skip(1).filter(|line| !line.is_empty() && !own(line)).count() as u64
}

/// The number after `name` in the line of `group`: `TCP: inuse 3 orphan 0`.
fn number(text: &str, group: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(group)?.strip_prefix(':'))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_every_table_has_is_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("proc/thread-self/net");
        std::fs::create_dir_all(&net).unwrap();
        assert_eq!(unaccounted(root.path()), None);
        let sockstat = "sockets: used 100\nTCP: inuse 7 orphan 3 tw 50 alloc 90 mem 9\nUDP: inuse 2 mem 0\nRAW: inuse 1\nFRAG: inuse 40 memory 0\n";
        std::fs::write(net.join("sockstat"), sockstat).unwrap();
        assert_eq!(unaccounted(root.path()), Some(90));
        std::fs::write(net.join("sockstat6"), "TCP6: inuse 5\nUDP6: inuse 5\nFRAG6: inuse 9 memory 0\n")
            .unwrap();
        std::fs::write(net.join("unix"), "Num RefCount\n0: 1\n0: 2\n0: 3\n").unwrap();
        std::fs::write(net.join("netlink"), "sk Eth Pid Groups\nx 0 0 0\nx 0 77 0\nx 4 0 1\n").unwrap();
        assert_eq!(unaccounted(root.path()), Some(76));
        std::fs::write(net.join("unix"), "\n0".repeat(500)).unwrap();
        assert_eq!(unaccounted(root.path()), Some(0));
    }

    proptest! {
        #[test]
        fn garbage_is_no_trouble(text in "((sockets|TCP|x):?( (used|inuse|-?[0-9]{1,22}|x)){0,6}\n?){0,8}") {
            lines("netlink", text.as_bytes());
            number(&text, "TCP", "inuse");
            number(&text, "sockets", "used");
        }
    }
}
