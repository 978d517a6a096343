//! Counters of the calling thread's network namespace: netstat, snmp, sockstat, sockstat6 and stat/nf_conntrack below
//! /proc/thread-self/net.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::io::Errno;
use tidewait_model::Limit;
use tidewait_model::catalogue::COUNTERS;

use super::file::{Directory, LONGER};

/// Reads the counters of the catalogue for the network namespace of the *calling thread*. /proc/net would not
/// do: it is that of the process's first thread.
///
/// `sockstat.TCP.orphan`, `.alloc` and `.mem` are the whole machine's in every namespace
/// (`sockstat_seq_show`, net/ipv4/proc.c). Never fails; a file that is not there leaves its counters absent.
pub fn counters(root: &Path) -> (BTreeMap<String, i64>, Vec<Limit>) {
    let mut found = BTreeMap::new();
    let missing = |error: Errno| {
        let why = format!("/proc/thread-self/net: {error}");
        vec![Limit::new("kernel counters (netstat, snmp, sockstat)", why).remedy("mount /proc")]
    };
    let net = match Directory::open(&root.join("proc/thread-self/net")) {
        Ok(net) => net,
        Err(error) => return (found, missing(error)),
    };
    let mut text = Vec::new();
    let mut last = None;
    let mut read = 0;
    for file in ["netstat", "snmp", "sockstat", "sockstat6"] {
        match net.read(file, LONGER, &mut text) {
            Ok(()) if file.starts_with("sockstat") => in_pairs(file, &text, &mut found),
            Ok(()) => in_two_lines(&text, &mut found),
            Err(error) => {
                last = Some(error);
                continue;
            }
        }
        read += 1;
    }
    // Only where connection tracking is loaded and shows its figures (CONFIG_NF_CONNTRACK_PROCFS).
    if net.read("stat/nf_conntrack", LONGER, &mut text).is_ok() {
        in_columns("conntrack", &text, &mut found);
    }
    let limits = last.filter(|_| read == 0).map(missing).unwrap_or_default();
    (found, limits)
}

/// The counters of the catalogue whose full name is `prefix`, `group`, a dot, and what is given with each.
fn wanted(prefix: &str, group: &str) -> Vec<(&'static str, &'static str)> {
    let name = |full: &'static str| full.strip_prefix(prefix)?.strip_prefix(group)?.strip_prefix('.');
    COUNTERS.iter().filter_map(|full| Some((*full, name(full)?))).collect()
}

/// Takes `Group: name name ...` followed by `Group: value value ...`.
fn in_two_lines(text: &[u8], found: &mut BTreeMap<String, i64>) {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    while let Some(names) = lines.next() {
        let Some((group, names)) = names.split_once(':') else { continue };
        let Some((_, values)) =
            lines.next().and_then(|line| line.split_once(':')).filter(|(g, _)| *g == group)
        else {
            return;
        };
        let pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
        keep(&wanted("", group), pairs, found);
    }
}

/// Takes `GROUP: name value name value ...`.
fn in_pairs(file: &str, text: &[u8], found: &mut BTreeMap<String, i64>) {
    for line in String::from_utf8_lossy(text).lines() {
        let Some((group, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_ascii_whitespace();
        let pairs = std::iter::from_fn(|| Some((words.next()?, words.next()?)));
        keep(&wanted(&format!("{file}."), group), pairs, found);
    }
}

/// Takes a line of names and a line of hexadecimal numbers for each processor, which are added up
/// (`ct_cpu_seq_show`, net/netfilter/nf_conntrack_standalone.c). Columns were renamed and added over time.
fn in_columns(group: &str, text: &[u8], found: &mut BTreeMap<String, i64>) {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let wanted = wanted("", group);
    for line in lines {
        for (name, value) in names.iter().zip(line.split_ascii_whitespace()) {
            if let Some((full, _)) = wanted.iter().find(|(_, wanted)| wanted == name)
                && let Ok(value) = u32::from_str_radix(value, 16)
            {
                *found.entry((*full).to_owned()).or_default() += i64::from(value);
            }
        }
    }
}

fn keep<'t>(
    wanted: &[(&'static str, &'static str)],
    pairs: impl Iterator<Item = (&'t str, &'t str)>,
    found: &mut BTreeMap<String, i64>,
) {
    if wanted.is_empty() {
        return;
    }
    for (name, value) in pairs {
        if let Some((full, _)) = wanted.iter().find(|(_, wanted)| *wanted == name)
            && let Ok(value) = value.parse()
        {
            found.insert((*full).to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_four_files_are_read_by_name_and_not_by_column() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("proc/thread-self/net");
        std::fs::create_dir_all(&net).unwrap();
        std::fs::write(
            net.join("netstat"),
            "TcpExt: SyncookiesSent TW New\nTcpExt: 4 17 9\nIpExt: TW\nIpExt: 3\n",
        )
        .unwrap();
        std::fs::write(net.join("snmp"), "Tcp: MaxConn ActiveOpens\nTcp: -1 123\n").unwrap();
        std::fs::write(net.join("sockstat"), "sockets: used 5\nTCP: inuse 1 orphan 0 tw 12 alloc 3 mem 2\n")
            .unwrap();
        std::fs::write(net.join("sockstat6"), "TCP6: inuse 6\n").unwrap();
        let (counters, limits) = counters(root.path());
        assert_eq!(limits, []);
        let expected = [
            ("Tcp.ActiveOpens", 123),
            ("TcpExt.TW", 17),
            ("sockstat.TCP.alloc", 3),
            ("sockstat.TCP.inuse", 1),
            ("sockstat.TCP.mem", 2),
            ("sockstat.TCP.orphan", 0),
            ("sockstat.TCP.tw", 12),
            ("sockstat6.TCP6.inuse", 6),
        ];
        assert_eq!(counters, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn connection_tracking_is_added_up_over_the_processors() {
        let mut found = BTreeMap::new();
        let text =
            b"entries  searched found new invalid ignore delete insert insert_failed drop early_drop\n\
                     00000011  0 0 0 00000001 0 0 0 0000000a 00000002 00000000\n\
                     00000011  0 0 0 00000002 0 0 0 00000006 00000000 00000000\n";
        in_columns("conntrack", text, &mut found);
        let expected = [
            ("conntrack.drop", 2),
            ("conntrack.early_drop", 0),
            ("conntrack.insert_failed", 16),
            ("conntrack.invalid", 3),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn one_missing_file_is_no_limit_and_four_are_one() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(counters(root.path()).1.len(), 1);
        let net = root.path().join("proc/thread-self/net");
        std::fs::create_dir_all(&net).unwrap();
        assert_eq!(counters(root.path()).1.len(), 1);
        std::fs::write(net.join("snmp"), "Tcp: ActiveOpens\nTcp: 1\n").unwrap();
        assert_eq!(counters(root.path()).1.len(), 0);
    }

    #[test]
    fn lines_that_do_not_belong_together_give_nothing() {
        let mut found = BTreeMap::new();
        in_two_lines(b"TcpExt: TW\nTcp: 5\n", &mut found);
        in_two_lines(b"TcpExt: TW", &mut found);
        in_two_lines(b"TcpExt: TW TWKilled\nTcpExt: x\n", &mut found);
        assert!(found.is_empty());
    }

    proptest! {
        #[test]
        fn garbage_is_no_trouble(text in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut found = BTreeMap::new();
            in_two_lines(&text, &mut found);
            in_pairs("sockstat", &text, &mut found);
            in_columns("conntrack", &text, &mut found);
        }

        #[test]
        fn near_garbage_is_no_trouble_either(text in "((TcpExt|Tcp|TCP|IP):?( (TW|tw|inuse|-?[0-9]{1,22}|x)){0,6}\n?){0,8}") {
            let mut found = BTreeMap::new();
            in_two_lines(text.as_bytes(), &mut found);
            in_pairs("sockstat", text.as_bytes(), &mut found);
            prop_assert!(found.keys().all(|name| COUNTERS.contains(&name.as_str())));
        }
    }
}
