//! The line of an event: for programs written byte by byte, since there may be hundreds of thousands a second; for people
//! by way of the type that also makes the schema. A test holds both against each other.

use std::io::Write;

use tidewait_model::trace::line::{Happening, Line, PortBy, Side};
use tidewait_model::{Endpoint, State};
use tidewait_observe::trace::{Event, Kind};

use super::names::{Name, Who};
use super::words;

const NANO: u64 = 1_000_000_000;

/// Appends the line of an event. `at`: the second, and the microsecond in it.
pub fn write(out: &mut Vec<u8>, event: &Event, at: (&str, u32), namespace: &Name, who: &Who) {
    let mut digits = itoa::Buffer::new();
    let (second, micro) = at;
    put(out, "{\"event\":\"");
    put(out, words::word(event.kind));
    put(out, "\",\"at\":\"");
    put(out, second);
    out.push(b'.');
    six(out, micro);
    put(out, "Z\",\"namespace\":");
    put(out, &namespace.json);
    put(out, ",\"direction\":\"");
    put(out, words::direction(event.direction));
    put(out, "\",\"program\":");
    put(out, &who.json);
    put(out, ",\"thread\":");
    number(out, words::thread(event).map(u64::from));
    put(out, ",\"local\":\"");
    endpoint(out, &event.local);
    put(out, "\",\"remote\":");
    match &event.remote {
        None => put(out, "null"),
        Some(remote) => {
            out.push(b'"');
            endpoint(out, remote);
            out.push(b'"');
        }
    }
    put(out, ",\"state\":");
    word(out, words::state(event).map(State::key));
    put(out, ",\"pool\":");
    word(out, words::pool(event).map(PortBy::key));
    put(out, ",\"closed_first\":");
    word(out, words::closed_first(event).map(Side::key));
    put(out, ",\"cut_off\":");
    word(out, words::cut_off(event).map(Side::key));
    put(out, ",\"errno\":");
    word(out, event.error.map(words::errno).as_deref());
    put(out, ",\"lifetime_seconds\":");
    match event.lived_ns {
        None => put(out, "null"),
        Some(lived) => {
            put(out, digits.format(lived / NANO));
            out.push(b'.');
            six(out, u32::try_from(lived % NANO / 1_000).unwrap_or_default());
        }
    }
    let closes = event.kind == Kind::Close;
    put(out, ",\"bytes_sent\":");
    number(out, closes.then_some(event.sent));
    put(out, ",\"bytes_received\":");
    number(out, closes.then_some(event.received));
    put(out, ",\"cookie\":");
    put(out, digits.format(event.cookie));
    put(out, "}\n");
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// A word that needs no escapes, or null.
fn word(out: &mut Vec<u8>, word: Option<&str>) {
    match word {
        None => put(out, "null"),
        Some(word) => {
            out.push(b'"');
            put(out, word);
            out.push(b'"');
        }
    }
}

fn number(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        None => put(out, "null"),
        Some(number) => put(out, itoa::Buffer::new().format(number)),
    }
}

/// A number below a million in six digits.
fn six(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

fn endpoint(out: &mut Vec<u8>, endpoint: &Endpoint) {
    let std::net::IpAddr::V4(v4) = endpoint.address.ip else {
        // Writing to a vector does not fail.
        let _ = write!(out, "{endpoint}");
        return;
    };
    let mut digits = itoa::Buffer::new();
    for (index, octet) in v4.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        put(out, digits.format(octet));
    }
    out.push(b':');
    put(out, digits.format(endpoint.port));
}

/// The line of an event as a value. `at`: the moment, RFC 3339.
pub fn line(event: &Event, at: String, namespace: &Name, who: &Who) -> Line {
    let closes = event.kind == Kind::Close;
    let happening = Happening {
        at,
        namespace: namespace.text.clone(),
        direction: event.direction,
        program: who.program.clone(),
        thread: words::thread(event),
        local: event.local.to_string(),
        remote: event.remote.map(|remote| remote.to_string()),
        state: words::state(event),
        pool: words::pool(event),
        closed_first: words::closed_first(event),
        cut_off: words::cut_off(event),
        errno: event.error.map(|error| words::errno(error).into_owned()),
        lifetime_seconds: event.lived_ns.map(|lived| (lived / 1_000) as f64 / 1e6),
        bytes_sent: closes.then_some(event.sent),
        bytes_received: closes.then_some(event.received),
        cookie: event.cookie,
    };
    match event.kind {
        Kind::Connect => Line::Connect(happening),
        Kind::Established => Line::Established(happening),
        Kind::Accept => Line::Accept(happening),
        Kind::PeerClosed => Line::PeerClosed(happening),
        Kind::Close => Line::Close(happening),
        Kind::TimeWait => Line::TimeWait(happening),
        Kind::Refused => Line::Refused(happening),
        Kind::Failed => Line::Failed(happening),
    }
}

#[cfg(test)]
mod tests {
    use tidewait_model::report::Pool;
    use tidewait_model::trace::{Direction, Program};
    use tidewait_observe::trace::Closed;

    use super::*;

    #[test]
    fn what_is_written_is_what_the_type_says() {
        let program = Program { command: "a \"b\"\\".to_owned(), pid: Some(7), ..Program::default() };
        let json = serde_json::to_string(&program).unwrap();
        let who = Who { program: Some(program), json, passes: true };
        let nobody = Who { program: None, json: "null".to_owned(), passes: true };
        let namespace = Name { text: "über".to_owned(), json: "\"über\"".to_owned() };
        let mut event = Event {
            at_ns: 0,
            kind: Kind::Connect,
            cookie: u64::MAX,
            owner: 1,
            thread: 8,
            netns: 1,
            direction: Direction::Outgoing,
            local: Endpoint { address: "10.0.0.255".parse::<std::net::IpAddr>().unwrap().into(), port: 0 },
            remote: None,
            pool: Some(Pool::Unknown),
            closed: None,
            error: None,
            lived_ns: None,
            sent: 3,
            received: 4_000_000_000,
        };
        let v6 =
            Endpoint { address: "2001:db8::9".parse::<std::net::IpAddr>().unwrap().into(), port: 65_535 };
        let ends = [
            None,
            Some(Closed::Here),
            Some(Closed::There),
            Some(Closed::AbortedHere),
            Some(Closed::AbortedThere),
        ];
        for kind in Kind::ALL {
            for closed in ends {
                for direction in [Direction::Outgoing, Direction::Incoming, Direction::Bind] {
                    for pool in [None, Some(Pool::Bind), Some(Pool::Connect), Some(Pool::Unknown)] {
                        event = Event { kind, closed, direction, pool, ..event };
                        event.remote = event.remote.xor(Some(v6));
                        event.error = event.error.xor(Some(98));
                        event.lived_ns = event.lived_ns.xor(Some(1_002_003_000));
                        let who = if event.remote.is_some() { &who } else { &nobody };
                        let mut out = Vec::new();
                        write(&mut out, &event, ("2026-11-22T14:03:07", 42), &namespace, who);
                        assert_eq!(out.pop(), Some(b'\n'));
                        let at = "2026-11-22T14:03:07.000042Z".to_owned();
                        let wanted = serde_json::to_value(line(&event, at, &namespace, who)).unwrap();
                        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), wanted);
                    }
                }
            }
        }
    }
}
