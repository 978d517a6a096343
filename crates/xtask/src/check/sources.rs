//! Rules for single files: the sign on line one, length, `unsafe` where it belongs, no paths of a private machine.

/// Lines without tests from which a file is named as long.
const LONG: usize = 500;
/// Lines without tests from which a file fails, unless it is listed.
const TOO_LONG: usize = 800;

/// Files that may be longer than [`TOO_LONG`], each with the reason.
const MAY_BE_LONG: &[(&str, &str)] = &[];

/// Crates that talk to the kernel where no safe wrapper exists. Their modules lift the lint one by one.
const MAY_BE_UNSAFE: &[&str] = &["crates/observe/", "crates/lab/"];

/// Where somebody's files live. A path that starts there means nothing on another machine.
const PRIVATE: &[&str] = &["/home/", "/root/", "/work/", "/Users/", "/tmp/wt", "/tmp/target"];

/// What is wrong with one file.
pub fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    // This file has to spell out what it forbids.
    if !path.ends_with("check/sources.rs") {
        complaints.extend(private_paths(path, text));
        if path.ends_with(".rs") {
            complaints.extend(attributes(path, text));
        }
    }
    if is_module(path) {
        if !text.starts_with("//! ") {
            complaints.push(format!("{path}:1: a module begins with its sign: `//! What this room is for.`"));
        }
        let lines = lines_without_tests(path, text);
        if lines >= TOO_LONG && !MAY_BE_LONG.iter().any(|(listed, _)| *listed == path) {
            complaints.push(format!(
                "{path}: {lines} lines without tests, the limit is {TOO_LONG}: split it, or list it with a reason \
                 in crates/xtask/src/check/sources.rs"
            ));
        }
    }
    complaints
}

/// A word about a file that is getting long.
pub fn warning(path: &str, text: &str) -> Option<String> {
    let lines = lines_without_tests(path, text);
    (is_module(path) && (LONG..TOO_LONG).contains(&lines))
        .then(|| format!("{path}: {lines} lines without tests; {LONG} is where a file should be split"))
}

fn is_module(path: &str) -> bool {
    ["crates/", "fuzz/"].iter().any(|top| path.starts_with(top)) && path.ends_with(".rs")
}

/// Lines up to the inline test module, which by custom is the last item of a file. None in a file of tests.
fn lines_without_tests(path: &str, text: &str) -> usize {
    if path.ends_with("tests.rs") || path.contains("/tests/") {
        return 0;
    }
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'))
        .unwrap_or(lines.len())
}

fn attributes(path: &str, text: &str) -> Vec<String> {
    let may_be_unsafe = MAY_BE_UNSAFE.iter().any(|place| path.starts_with(place));
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        if code.contains("#[allow(") || code.contains("#![allow(") {
            complaints
                .push(format!("{path}:{number}: write #[expect(lint, reason = \"..\")] instead of allow"));
        }
        let is_unsafe =
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| code.contains(word));
        if is_unsafe && !may_be_unsafe {
            complaints
                .push(format!("{path}:{number}: unsafe code belongs in {}", MAY_BE_UNSAFE.join(" or ")));
        }
    }
    complaints
}

fn private_paths(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for place in PRIVATE {
            // Only where a path begins: /proc/PID/root/etc is everybody's.
            let begins = |at: usize| {
                line[..at].chars().next_back().is_none_or(|before| " \t\"'`(=[:<".contains(before))
            };
            if line.match_indices(place).any(|(at, _)| begins(at)) {
                complaints.push(format!("{path}:{number}: {place} is a path of a private machine"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_a_sign_is_named() {
        assert_eq!(complaints("crates/a/src/b.rs", "use std::fs;\n").len(), 1);
        assert!(complaints("crates/a/src/b.rs", "//! Reads files.\nuse std::fs;\n").is_empty());
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let body = "fn f() {}\n".repeat(TOO_LONG - 2);
        let long = format!("//! Long.\n{body}#[cfg(test)]\nmod tests {{\n{body}}}\n");
        assert!(complaints("crates/a/src/b.rs", &long).is_empty());
        assert!(warning("crates/a/src/b.rs", &long).is_some());
        let too_long = format!("//! Too long.\n{body}\n\n");
        assert_eq!(complaints("crates/a/src/b.rs", &too_long).len(), 1);
        assert!(complaints("crates/a/src/b/tests.rs", &too_long).is_empty());
    }

    #[test]
    fn unsafe_code_stays_where_it_belongs() {
        let text = "//! Talks to the kernel.\nfn f() { unsafe { g() } }\n";
        assert_eq!(complaints("crates/model/src/b.rs", text).len(), 1);
        assert!(complaints("crates/observe/src/b.rs", text).is_empty());
        assert!(complaints("crates/model/src/b.rs", "//! No unsafe { } here.\n").is_empty());
    }

    #[test]
    fn allow_is_refused() {
        assert_eq!(complaints("crates/a/src/b.rs", "//! A.\n#[allow(dead_code)]\nfn f() {}\n").len(), 1);
    }

    #[test]
    fn private_paths_are_found_where_a_path_begins() {
        assert_eq!(complaints("README.md", "run /home/me/bin/x").len(), 1);
        assert!(complaints("README.md", "read /proc/PID/root/etc/hostname").is_empty());
    }
}
