//! Error numbers of Linux that have to do with connections, by number, by name and by what the C libraries call them.

use super::locales;

/// One error number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Errno {
    /// As Linux numbers it (include/uapi/asm-generic/errno.h).
    pub(super) number: u16,
    /// Its name.
    pub(super) name: &'static str,
    /// What glibc says.
    pub(super) text: &'static str,
    /// What else is said in its place, in lower case: musl, macOS, libraries.
    others: &'static [&'static str],
    /// The page about it.
    pub(super) topic: &'static str,
}

const fn errno(
    number: u16,
    name: &'static str,
    text: &'static str,
    others: &'static [&'static str],
) -> Errno {
    Errno { number, name, text, others, topic: name }
}

/// Those about ports and descriptors first: where a text has several, they are what it is about.
const ERRNOS: &[Errno] = &[
    errno(
        99,
        "EADDRNOTAVAIL",
        "Cannot assign requested address",
        &["can't assign requested address", "address not available", "addrnotavailable"],
    ),
    errno(98, "EADDRINUSE", "Address already in use", &["address in use", "addrinuse"]),
    // Before EMFILE, whose text it begins with.
    errno(23, "ENFILE", "Too many open files in system", &[]),
    errno(24, "EMFILE", "Too many open files", &["no file descriptors available"]),
    errno(111, "ECONNREFUSED", "Connection refused", &[]),
    errno(110, "ETIMEDOUT", "Connection timed out", &["operation timed out", "i/o timeout"]),
    errno(104, "ECONNRESET", "Connection reset by peer", &["connection reset"]),
    errno(32, "EPIPE", "Broken pipe", &[]),
    errno(103, "ECONNABORTED", "Software caused connection abort", &[]),
    errno(113, "EHOSTUNREACH", "No route to host", &["host is unreachable"]),
    Errno {
        topic: "EHOSTUNREACH",
        ..errno(101, "ENETUNREACH", "Network is unreachable", &["network unreachable"])
    },
    errno(11, "EAGAIN", "Resource temporarily unavailable", &["ewouldblock"]),
];

/// The error with a number.
pub(super) fn by_number(number: u16) -> Option<&'static Errno> {
    ERRNOS.iter().find(|errno| errno.number == number)
}

/// The error that `text`, in lower case, speaks of, and where.
pub(super) fn find(text: &str) -> Option<(&'static Errno, usize)> {
    let named = ERRNOS.iter().find_map(|errno| Some((errno, place(errno, text)?)));
    named.or_else(|| numbered(text))
}

/// Where `text` has the name or the words of an error.
fn place(errno: &Errno, text: &str) -> Option<usize> {
    let words = errno.text.to_lowercase();
    let name = errno.name.to_lowercase();
    let others = errno.others.iter().copied().chain([name.as_str()]);
    let english = others.filter_map(|said| whole_word(text, said)).chain(text.find(&words));
    english.chain(locales::place(errno.number, text)).min()
}

fn whole_word(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word).map(|(at, _)| at).find(|at| {
        let letter = |c: char| c.is_alphanumeric() || c == '_';
        !text[..*at].ends_with(letter) && !text[at + word.len()..].starts_with(letter)
    })
}

/// An error that is given by its number alone: `(99)`, `errno 99`, `[Errno 99]`, `error: 111`, `(os error 98)`.
fn numbered(text: &str) -> Option<(&'static Errno, usize)> {
    let mut from = 0;
    while let Some(found) = text[from..].find(|c: char| c.is_ascii_digit()) {
        let start = from + found;
        let length = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - start);
        let end = start + length;
        from = end;
        let number = text[start..end].parse().ok().and_then(by_number);
        if let Some(errno) = number.filter(|_| is_errno(&text[..start], &text[end..])) {
            return Some((errno, start));
        }
    }
    None
}

/// Whether what stands around a number makes it an error number.
fn is_errno(before: &str, after: &str) -> bool {
    if after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        || after.starts_with(".") && after.len() > 1
    {
        return false;
    }
    let bare = before.trim_end_matches(['-', ' ', ':', '=', '#', '(', '[']);
    let word = |word: &str| bare.ends_with(word);
    if word("errno") || word("error code") || word("os_error") {
        return true;
    }
    if word("error") || word("err") {
        // `error 111 connecting to db:6379`, but `error: 110 files changed` counts something.
        let next = after.strip_prefix(' ').unwrap_or_default();
        return !next.starts_with(|c: char| c.is_alphanumeric()) || next.starts_with("connecting");
    }
    before.ends_with('(') && (after.starts_with(')') || after.starts_with(": ") || after.starts_with(" \""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<u16> {
        find(text).map(|(errno, _)| errno.number)
    }

    #[test]
    fn an_error_is_found_by_words_name_or_number() {
        for (text, wanted) in [
            ("connect() failed (99: cannot assign requested address)", Some(99)),
            ("error: connect eaddrnotavail 10.0.2.9:8080", Some(99)),
            ("can't connect to mysql server on 'db' (99)", Some(99)),
            ("can't connect to mysql server on 'db' (110 \"connection timed out\")", Some(110)),
            ("delayed connect error: 111", Some(111)),
            ("os error 98", Some(98)),
            ("[errno 24]", Some(24)),
            ("errno=-99", Some(99)),
            ("error 111 connecting to db:6379.", Some(111)),
            ("error: 111 (connection)", Some(111)),
            ("accept4() failed (23: too many open files in system)", Some(23)),
            ("too many open files", Some(24)),
            // No error numbers.
            ("fd 98 to *:0", None),
            ("took (110 ms)", None),
            ("error: 110 files changed", None),
            ("10.0.0.99:99", None),
            ("error 2003 (hy000)", None),
            ("error 98.5", None),
            ("eaddrinusexyz", None),
            ("", None),
        ] {
            assert_eq!(number(text), wanted, "{text}");
        }
    }

    #[test]
    fn every_error_has_a_page_of_its_own_number_and_name() {
        for errno in ERRNOS {
            assert_eq!(by_number(errno.number).unwrap().name, errno.name);
            assert_eq!(number(&errno.text.to_lowercase()), Some(errno.number));
            assert_eq!(number(&errno.name.to_lowercase()), Some(errno.number));
        }
    }
}
