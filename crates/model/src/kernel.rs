//! The version of a kernel, as far as facts depend on it: `6.14`, read from what `uname -r` says.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// A mainline release of Linux: the two numbers that its features go by.
///
/// Distributions port features back and vendors add their own, so a version says what to expect and not what is
/// there: where it can be tried out or looked up in /proc, that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// `6` of 6.14.
    pub major: u16,
    /// `14` of 6.14.
    pub minor: u16,
}

/// A text that does not begin like a kernel release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no kernel release: it begins with two numbers and a dot between them, as in 6.12 or 6.1.0-56-amd64"
)]
pub struct NoVersion(String);

impl Version {
    /// The release `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Version {
        Version { major, minor }
    }
}

impl FromStr for Version {
    type Err = NoVersion;

    /// Reads what `uname -r` says: `6.1.0-56-cloud-amd64`, `7.0-rc1`, `4.19.91-26.al7.x86_64`.
    fn from_str(release: &str) -> Result<Version, NoVersion> {
        let mut rest = release.trim();
        let mut number = || {
            let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            let number = rest[..end].parse().ok()?;
            rest = &rest[end..];
            let dot = rest.starts_with('.');
            rest = rest.strip_prefix('.').unwrap_or(rest);
            Some((number, dot))
        };
        match (number(), number()) {
            (Some((major, true)), Some((minor, _))) => Ok(Version { major, minor }),
            _ => Err(NoVersion(release.to_owned())),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// As text: `"6.14"`.
impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A mainline release of Linux.",
            "pattern": "^[0-9]+\\.[0-9]+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_and_vendors_are_read() {
        for (release, major, minor) in [
            ("6.18.44", 6, 18),
            ("6.1.0-56-cloud-amd64", 6, 1),
            ("7.0-rc1", 7, 0),
            ("4.19.91-26.al7.x86_64", 4, 19),
            ("5.4.119-19-0009.11", 5, 4),
            ("6.12+deb13-amd64\n", 6, 12),
            ("6.10", 6, 10),
        ] {
            assert_eq!(release.parse(), Ok(Version::new(major, minor)), "{release}");
        }
    }

    #[test]
    fn other_text_is_named_and_refused() {
        for text in ["", "6", "6.", "linux 6.1", ".6.1", "6-1", "6.x", "99999.1", "-6.1"] {
            let refused = text.parse::<Version>().unwrap_err();
            assert!(refused.to_string().contains(&format!("{text:?}")), "{refused}");
        }
    }

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        assert!(Version::new(6, 9) < Version::new(6, 14));
        assert!(Version::new(4, 20) < Version::new(5, 0));
        assert_eq!(Version::new(6, 9).to_string(), "6.9");
    }
}
