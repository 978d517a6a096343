//! Addresses and ports in a message: `*:0`, `10.0.2.9:3306`, `[::1]:80`, `:8080`, `('0.0.0.0', 8000)`, `port 5432`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address, a port, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::explain) struct Endpoint {
    /// The address, `*` for any, or a host's name; empty where there is a port alone.
    pub(in crate::explain) host: String,
    /// The port.
    pub(in crate::explain) port: Option<u16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.as_str(), self.port) {
            ("", Some(port)) => write!(f, "port {port}"),
            (host, None) => f.write_str(host),
            (host, Some(port)) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (host, Some(port)) => write!(f, "{host}:{port}"),
        }
    }
}

impl Endpoint {
    fn is_any(&self) -> bool {
        self.host == "*" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }

    /// Whether connecting to it may take IPv6: by the address, or because `localhost` is `::1` first.
    pub(super) fn may_be_ipv6(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6())
            || (self.host == "localhost" && self.port.is_some())
    }

    pub(super) fn meaning(&self) -> &'static str {
        match (self.is_any(), self.port) {
            (true, Some(0)) => "any address, and port 0: the kernel chooses a port that no address uses",
            (false, Some(0)) => "port 0: the kernel chooses the port",
            (true, Some(_)) => "every address of this machine, and that port",
            _ => "",
        }
    }
}

/// The first endpoint of `text`, in lower case. `zero`: an address without a port stands for port 0, as Squid
/// prints it.
pub(super) fn find(text: &str, zero: bool) -> Option<Endpoint> {
    if let Some(endpoint) = pair(text) {
        return Some(endpoint);
    }
    // Go names the address behind the URL: `Get "http://db.example:80/": dial tcp 10.0.2.9:80`.
    let mut found =
        text.split_once("dial tcp ").and_then(|(_, rest)| first(rest, zero)).or_else(|| first(text, zero))?;
    // `localhost:3000 ... dial tcp 127.0.0.1:3000`, `"localhost" (::1), port 5432`: the address tells more.
    let loopback = [("127.0.0.1", Ipv4Addr::LOCALHOST.into()), ("::1", Ipv6Addr::LOCALHOST.into())];
    if found.host == "localhost"
        && let Some((said, address)) = loopback.into_iter().find(|(said, _)| text.contains(said))
        && !loopback.iter().any(|(other, _)| *other != said && text.contains(other))
    {
        found.host = IpAddr::to_string(&address);
    }
    Some(found)
}

fn first(text: &str, zero: bool) -> Option<Endpoint> {
    // Go's `10.0.0.5:0->10.0.2.9:80` is parted at `>`: its local end is what bind() was given.
    let words = text.split([' ', '"', '\'', '(', ')', ',', '|', '<', '>', '=']);
    let strange = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '*' | ':' | '[' | ']'));
    let words = words.map(|word| word.trim_start_matches(strange).trim_end_matches(['.', ';', '-']));
    let mut alone: Option<Endpoint> = None;
    let mut before = "";
    for word in words.filter(|word| !word.is_empty()) {
        let word = word.rsplit_once("://").map_or(word, |(_, rest)| rest);
        let word = word.split('/').next().unwrap_or_default();
        // `10.0.2.9: no route`: the colon belongs to the sentence.
        match whole(word).or_else(|| whole(word.trim_end_matches(':'))) {
            Some(endpoint) if endpoint.port.is_some() => return Some(endpoint),
            Some(endpoint) => alone = alone.or(Some(endpoint)),
            None if before == "host" || word == "localhost" => {
                alone = alone.or(Some(Endpoint { host: word.to_owned(), port: None }));
            }
            None if before == "port" => {
                if let Ok(port) = word.trim_end_matches(':').parse() {
                    let host = alone.map_or_else(String::new, |endpoint| endpoint.host);
                    return Some(Endpoint { host, port: Some(port) });
                }
            }
            None => {}
        }
        before = word;
    }
    alone.map(|endpoint| if zero { Endpoint { port: Some(0), ..endpoint } } else { endpoint })
}

/// Python's way: `('0.0.0.0', 8000)`.
fn pair(text: &str) -> Option<Endpoint> {
    text.split("('").skip(1).find_map(|rest| {
        let (host, after) = rest.split_once("', ")?;
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let port = Some(after[..digits].parse().ok()?);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-');
        host.chars().all(plain).then(|| Endpoint { host: host.to_owned(), port })
    })
}

fn whole(word: &str) -> Option<Endpoint> {
    if let Ok(address) = word.parse::<SocketAddr>() {
        return Some(Endpoint { host: address.ip().to_string(), port: Some(address.port()) });
    }
    let inner = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
    // HAProxy puts both into brackets: `[0.0.0.0:8404]`.
    if let Ok(address) = inner.parse::<SocketAddr>() {
        return Some(Endpoint { host: address.ip().to_string(), port: Some(address.port()) });
    }
    if inner.contains(['.', ':'])
        && let Ok(address) = inner.parse::<IpAddr>()
    {
        return Some(Endpoint { host: address.to_string(), port: None });
    }
    // Node's `:::3000` is [::]:3000.
    if let Some(port) = word.strip_prefix(":::") {
        return Some(Endpoint { host: "::".to_owned(), port: Some(port.parse().ok()?) });
    }
    let (host, port) = word.rsplit_once(':')?;
    let port = Some(port.parse().ok()?);
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match host {
        "" => Some(Endpoint { host: String::new(), port }),
        "*" => Some(Endpoint { host: "*".to_owned(), port }),
        // `sock.c:249` and `12:03` are no endpoints.
        host if host.chars().all(named)
            && host.chars().any(|c| c.is_ascii_alphabetic())
            && !SOURCES.iter().any(|ending| host.ends_with(ending)) =>
        {
            Some(Endpoint { host: host.to_owned(), port })
        }
        _ => None,
    }
}

/// How the names of source files end, which are given with a line behind a colon too.
const SOURCES: &[&str] =
    &[".c", ".cc", ".cpp", ".go", ".java", ".js", ".ts", ".mjs", ".py", ".rb", ".rs", ".php"];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        find(text, false).map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn addresses_are_found_as_programs_print_them() {
        for (text, wanted) in [
            ("cannot bind socket fd 98 to *:0: (98) address already in use", Some("*:0")),
            ("bind() to 0.0.0.0:80 failed (98: address already in use)", Some("0.0.0.0:80")),
            ("dial tcp 10.0.0.5:3306: connect: cannot assign requested address", Some("10.0.0.5:3306")),
            ("dial tcp 10.0.0.5:0->10.0.2.9:80: bind: address already in use", Some("10.0.0.5:0")),
            ("listen tcp :8080: bind: address already in use", Some("port 8080")),
            ("listen eaddrinuse: address already in use :::3000", Some("[::]:3000")),
            ("server_bind ('::1', 8000, 0, 0)", Some("[::1]:8000")),
            ("attempting to bind on address ('0.0.0.0', 8000): address already in use", Some("0.0.0.0:8000")),
            ("httpconnectionpool(host='db.example', port=8080): max retries", Some("db.example:8080")),
            ("get \"http://10.0.0.5:9100/metrics\": dial tcp", Some("10.0.0.5:9100")),
            ("upstream: \"http://10.0.2.9:8080/\"", Some("10.0.2.9:8080")),
            ("mysql server on '10.0.2.9' (99)", Some("10.0.2.9")),
            ("could not connect to db.internal:5432: refused", Some("db.internal:5432")),
            ("get http://localhost:31363/v3 dial tcp 127.0.0.1:31363: connect", Some("127.0.0.1:31363")),
            ("get \"http://api.example:8080/x\": dial tcp 10.96.0.10:8080: connect", Some("10.96.0.10:8080")),
            ("connection to server at \"localhost\" (::1), port 5432 failed", Some("[::1]:5432")),
            ("cannot bind socket (address in use) for [0.0.0.0:8404]", Some("0.0.0.0:8404")),
            ("to [2001:db8::5]:443 failed", Some("[2001:db8::5]:443")),
            ("sock.c:249: cannot assign requested address", None),
            ("at 12:03:55 it failed", None),
            ("nothing here", None),
        ] {
            assert_eq!(found(text).as_deref(), wanted, "{text}");
        }
        assert_eq!(find("fd 17 to [::]: (98)", true).unwrap().to_string(), "[::]:0");
    }
}
