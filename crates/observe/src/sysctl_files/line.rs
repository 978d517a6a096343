//! One line of a sysctl file: what it sets, or what it keeps wildcards from setting (sysctl.d(5)).

use glob::{MatchOptions, Pattern};

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// `name = value`.
    Assignment {
        /// The name with `/` between its parts, perhaps with wildcards.
        key: String,
        /// The value.
        value: String,
        /// Whether a dash stands before it: that it cannot be set is no error.
        dash: bool,
    },
    /// `-name`: no wildcard sets it.
    Exclusion(String),
    /// Neither: passed over at boot. The words of the line.
    Broken(String),
}

/// Reads a line; nothing if it is empty or a comment.
pub(super) fn parse(line: &str) -> Option<Line> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    // A leading dash before an assignment: failure to set it is no error.
    let (dash, rest) = line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
    Some(match rest.split_once('=') {
        Some((key, value)) => Line::Assignment { key: key_of(key), value: value.trim().to_owned(), dash },
        None if dash => Line::Exclusion(key_of(rest)),
        None => Line::Broken(line.to_owned()),
    })
}

/// The name with `/` between its parts. The separator that comes first decides: after a slash dots are part of a name,
/// after a dot slashes stand for dots in it (systemd, src/shared/sysctl-util.c `sysctl_normalize`).
pub(super) fn key_of(name: &str) -> String {
    let name = name.trim();
    let name = name.strip_prefix("/proc/sys/").unwrap_or(name).trim_start_matches('/');
    if name.find(['/', '.']).is_some_and(|first| name[first..].starts_with('.')) {
        let swapped = name.chars().map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        });
        return swapped.collect();
    }
    name.to_owned()
}

/// Whether a key has wildcards.
pub(super) fn is_pattern(key: &str) -> bool {
    key.contains(['*', '?', '['])
}

/// Whether a key with wildcards matches `name`, which has dots between its parts.
pub(super) fn matches(key: &str, name: &str) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    Pattern::new(key).is_ok_and(|pattern| pattern.matches_with(&name.replace('.', "/"), options))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assignment(key: &str, value: &str) -> Option<Line> {
        Some(Line::Assignment { key: key.to_owned(), value: value.to_owned(), dash: false })
    }

    #[test]
    fn lines_are_read_as_the_manual_says() {
        assert_eq!(parse("  # net.ipv4.tcp_tw_reuse = 1"), None);
        assert_eq!(parse("; x"), None);
        assert_eq!(parse(" \t"), None);
        assert_eq!(parse("net.ipv4.tcp_tw_reuse=1"), assignment("net/ipv4/tcp_tw_reuse", "1"));
        assert_eq!(
            parse("\tnet/ipv4/ip_local_port_range = 1024\t65535 "),
            assignment("net/ipv4/ip_local_port_range", "1024\t65535")
        );
        let lenient =
            Line::Assignment { key: "net/core/somaxconn".to_owned(), value: "9".to_owned(), dash: true };
        assert_eq!(parse("-net.core.somaxconn = 9"), Some(lenient));
        assert_eq!(parse("-net.core.somaxconn"), Some(Line::Exclusion("net/core/somaxconn".to_owned())));
        assert_eq!(parse("net.core.somaxconn 9"), Some(Line::Broken("net.core.somaxconn 9".to_owned())));
        assert_eq!(parse("a = b = c"), assignment("a", "b = c"));
    }

    #[test]
    fn the_first_separator_decides() {
        assert_eq!(key_of("net.ipv4.conf.eth0/100.forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(key_of("net/ipv4/conf/eth0.100/forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(key_of("/proc/sys/fs/file-max"), "fs/file-max");
        assert_eq!(key_of("/fs/file-max"), "fs/file-max");
    }

    #[test]
    fn a_wildcard_ends_at_a_separator() {
        assert!(matches(&key_of("net.ipv4.tcp_*"), "net.ipv4.tcp_tw_reuse"));
        assert!(matches(&key_of("net/*/tcp_tw_reus?"), "net.ipv4.tcp_tw_reuse"));
        assert!(!matches(&key_of("net.*"), "net.ipv4.tcp_tw_reuse"));
        assert!(!matches("net/ipv4/[", "net.ipv4.tcp_tw_reuse"));
    }

    proptest! {
        #[test]
        fn any_line_is_no_trouble(line in "\\PC{0,80}", name in "[a-z./*\\[\\]-]{0,30}") {
            parse(&line);
            matches(&key_of(&name), "net.ipv4.tcp_tw_reuse");
            if let Some(Line::Assignment { key, .. }) = parse(&format!("{name}={line}")) {
                prop_assert_eq!(is_pattern(&key), name.contains(['*', '?', '[']));
            }
        }
    }
}
