//! User names from /etc/passwd, read once. Network sources of NSS are left alone: a lookup could block on the
//! very network that is in trouble.

use std::collections::HashMap;
use std::path::Path;

/// The users of /etc/passwd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(HashMap<u32, String>);

impl Users {
    /// Reads `root`/etc/passwd; nobody is known by name if that cannot be read.
    pub fn read(root: &Path) -> Users {
        let text = std::fs::read(root.join("etc/passwd")).unwrap_or_default();
        Users::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Users {
        let mut users = HashMap::new();
        for line in text.lines() {
            let mut fields = line.split(':');
            if let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next())
                && let Ok(uid) = uid.parse()
                && !name.is_empty()
            {
                // The first line of a uid wins, as getpwuid() has it.
                users.entry(uid).or_insert_with(|| name.to_owned());
            }
        }
        Users(users)
    }

    /// The name of the user numbered `uid`, or the number where it has no name.
    pub fn name(&self, uid: u32) -> String {
        self.0.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_found_by_number_and_unknown_ones_stay_numbers() {
        let users = Users::parse(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nwww-data:x:33:33::/:\n+::::::\nbad\n",
        );
        assert_eq!(users.name(0), "root");
        assert_eq!(users.name(33), "www-data");
        assert_eq!(users.name(4_000_000_000), "4000000000");
    }

    proptest! {
        #[test]
        fn garbage_is_no_trouble(text in "\\PC{0,200}") {
            Users::parse(&text);
        }
    }
}
