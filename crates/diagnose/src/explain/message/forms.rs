//! How programs put it: phrases that settle what is meant, and the marks by which the program and the call are told.

use super::Call;

/// A phrase that is only said in one case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// All of these are in the text, in lower case.
    all: &'static [&'static str],
    /// The page about it.
    pub(super) topic: &'static str,
    pub(super) call: Option<Call>,
    pub(super) errno: Option<u16>,
    /// Whether an errno elsewhere in the text says more.
    vague: bool,
}

const fn said(all: &'static [&'static str], topic: &'static str) -> Form {
    Form { all, topic, call: None, errno: None, vague: false }
}

const FORMS: &[Form] = &[
    said(&["out of memory", "tcp_mem"], "tcp-out-of-memory"),
    said(&["too many", "orphaned sockets"], "too-many-orphans"),
    said(&["time wait bucket table overflow"], "time-wait-bucket-table-overflow"),
    said(&["nf_conntrack", "table full"], "conntrack-table-full"),
    said(&["ip_conntrack", "table full"], "conntrack-table-full"),
    said(&["possible syn flooding"], "syn-flooding"),
    // HAProxy, src/proto_tcp.c: EADDRNOTAVAIL and EAGAIN of connect().
    Form { call: Some(Call::Connect), errno: Some(99), ..said(&["no free ports"], "EADDRNOTAVAIL-connect") },
    Form {
        call: Some(Call::Connect),
        errno: Some(99),
        ..said(&["out of local source ports"], "EADDRNOTAVAIL-connect")
    },
    Form { call: Some(Call::Bind), ..said(&["cannot bind to source address"], "haproxy-cannot-bind") },
    Form { call: Some(Call::Bind), ..said(&["can't bind to source address"], "haproxy-cannot-bind") },
    // curl keeps the errno to itself unless -v is given.
    Form {
        call: Some(Call::Connect),
        vague: true,
        ..said(&["failed to connect to", "couldn't connect to server"], "curl-7")
    },
    Form { call: Some(Call::Connect), vague: true, ..said(&["curl: (7)"], "curl-7") },
    // HAProxy, src/sock.c, and Squid, src/fd.cc: the limit of descriptors in their own words.
    Form { errno: Some(24), ..said(&["reached process fd limit"], "EMFILE") },
    Form { errno: Some(23), ..said(&["reached system fd limit"], "ENFILE") },
    Form { errno: Some(24), ..said(&["running out of filedescriptors"], "EMFILE") },
    // Docker's and Spring's words for a port that is taken.
    Form {
        call: Some(Call::Listen),
        vague: true,
        ..said(&["port is already allocated"], "EADDRINUSE-listen")
    },
    Form {
        call: Some(Call::Listen),
        vague: true,
        ..said(&[" port ", " already in use"], "EADDRINUSE-listen")
    },
    // Java up to 12 calls EADDRNOTAVAIL of connect(), and of it alone, so.
    Form {
        call: Some(Call::Connect),
        errno: Some(99),
        ..said(&["noroutetohostexception", "cannot assign requested address"], "EADDRNOTAVAIL-connect")
    },
];

/// The phrase in `text` that settles it. `has_errno`: whether the text names an errno too.
pub(super) fn form(text: &str, has_errno: bool) -> Option<&'static Form> {
    let said = |form: &&Form| form.all.iter().all(|part| text.contains(part));
    FORMS.iter().find(said).filter(|form| !(form.vague && has_errno))
}

/// A program as messages show it.
#[derive(Debug)]
pub(super) struct Speaker {
    /// Its name.
    pub(super) name: &'static str,
    /// Its id among the programs that have recipes.
    pub(super) id: Option<&'static str>,
    /// Any of these in the text, in lower case, tells it.
    marks: &'static [&'static str],
}

const fn speaker(name: &'static str, id: &'static str, marks: &'static [&'static str]) -> Speaker {
    Speaker { name, id: Some(id), marks }
}

/// Those whose marks are surest first.
const SPEAKERS: &[Speaker] = &[
    Speaker { name: "Docker", id: None, marks: &["error response from daemon", "userland proxy"] },
    speaker(
        "Squid",
        "squid",
        &["commbind", "squid", "comm_open", "cannot bind socket fd", "your cache is running out"],
    ),
    speaker("HAProxy", "haproxy", &["haproxy", "no free ports", "for backend", "layer4 connection problem"]),
    speaker("Envoy", "envoy", &["envoy", "upstream connect error", "transport failure reason"]),
    speaker(
        "nginx",
        "nginx",
        &["nginx", "while connecting to upstream", "[emerg]", "[crit]", "accept4() failed"],
    ),
    speaker("Apache httpd", "httpd", &["ah00", "ah01", "apache2", "httpd"]),
    speaker("PHP", "php-fpm", &["sqlstate[", "stream_socket_client", "fsockopen", "php", "mysqli"]),
    speaker("MySQL or MariaDB", "mysql", &["mysql", "mariadb", "(hy000)", "bind on tcp/ip port"]),
    Speaker {
        name: "PostgreSQL",
        id: Some("pgbouncer"),
        marks: &[
            "postgres",
            "postmaster",
            "psql",
            "pgbouncer",
            "connection to server at \"",
            "could not bind ipv",
        ],
    },
    speaker(
        "Redis",
        "redis",
        &["redis", "create server tcp listening socket", "accepting client connection:"],
    ),
    speaker("memcached", "memcached", &["memcache"]),
    speaker("Go", "go-http", &["dial tcp", "listen tcp", "read tcp", "write tcp", "accept tcp"]),
    Speaker { name: ".NET", id: None, marks: &["system.net.", "system.io.", "system.aggregateexception"] },
    speaker(
        "Java",
        "java-http",
        &[
            "java.net.",
            "java.io.",
            "java.nio",
            "sun.nio",
            "io.netty.",
            "org.apache.http",
            "org.apache.kafka",
            "org.springframework",
            "caused by: ",
        ],
    ),
    speaker(
        "Python (requests, urllib3)",
        "requests",
        &["httpconnectionpool", "httpsconnectionpool", "urllib3"],
    ),
    speaker("Python httpx", "httpx", &["httpx.", "httpcore."]),
    Speaker {
        name: "Python",
        id: None,
        marks: &["[errno ", "oserror", "traceback (most recent", "aiohttp", "asyncio", "pymongo"],
    },
    speaker(
        "Node.js",
        "node-http",
        &[
            "error: connect e",
            "error: listen e",
            "error: bind e",
            "error: read e",
            "error: accept e",
            "syscall:",
            "\"syscall\":",
            "emfile, ",
            "emfile: ",
        ],
    ),
    speaker("curl", "curl", &["curl:", "immediate connect fail for"]),
    Speaker {
        name: "the kernel",
        id: None,
        marks: &[
            "kernel:",
            "nf_conntrack",
            "ip_conntrack",
            "possible syn flooding",
            "orphaned sockets",
            "tcp_mem",
            "bucket table",
        ],
    },
];

/// The program that says `text`, in lower case.
pub(super) fn program(text: &str) -> Option<&'static Speaker> {
    SPEAKERS.iter().find(|speaker| speaker.marks.iter().any(|mark| text.contains(mark)))
}

/// Words that tell a call. The longer ones stand before those they contain.
const CALLS: &[(&str, Call)] = &[
    // Java's BindException tells nothing of the call: connect() throws it too. ConnectException does.
    ("commbind", Call::Bind),
    ("error while attempting to bind", Call::Listen),
    ("listening socket", Call::Listen),
    ("server_bind", Call::Listen),
    ("make_sock", Call::Listen),
    ("listen", Call::Listen),
    ("bind", Call::Bind),
    ("connectexception", Call::Connect),
    ("new connection", Call::Connect),
    ("open tcp connection", Call::Connect),
    ("connection problem", Call::Connect),
    ("sqlstate[", Call::Connect),
    ("connection to server at", Call::Connect),
    ("reading initial communication packet", Call::Connect),
    ("connect", Call::Connect),
    ("accept", Call::Accept),
];

/// Whether `text` is said of a service: its bind() is for listen().
pub(super) fn of_service(text: &str) -> bool {
    SERVICES.iter().any(|mark| text.contains(mark))
}

const SERVICES: &[&str] =
    &["serversocket", "for frontend", "bind on tcp/ip port", "could not bind ipv", "is another postmaster"];

/// The call that `text` blames, when the error stands at `error`: the nearest before it, else the first after it.
pub(super) fn call(text: &str, error: usize) -> Option<Call> {
    let mut nearest: Option<(usize, Call)> = None;
    let mut first_after: Option<(usize, Call)> = None;
    let mut listens = false;
    for (word, call) in CALLS {
        for (at, _) in text.match_indices(word).filter(|(at, _)| tells(text, *at, word)) {
            listens |= *call == Call::Listen;
            if at < error {
                if nearest.is_none_or(|(best, _)| at > best) {
                    nearest = Some((at, *call));
                }
            } else if first_after.is_none_or(|(best, _)| at < best) {
                first_after = Some((at, *call));
            }
        }
    }
    match nearest.or(first_after).map(|(_, call)| call) {
        // `listen tcp :80: bind: address already in use`
        Some(Call::Bind) if listens => Some(Call::Listen),
        call => call,
    }
}

/// Whether the word at `at` speaks of a call: not as part of `BindException`, `Connection refused`, `upstream connect
/// error` and the like.
fn tells(text: &str, at: usize, word: &str) -> bool {
    let after = &text[at + word.len()..];
    let whole = !text[..at].ends_with(|c: char| c.is_ascii_lowercase());
    match word {
        "bind" => !after.starts_with("exception"),
        "connect" => !after.starts_with("ion") && !after.starts_with("exception") && !after.starts_with("ed"),
        "listen" | "accept" => whole && !after.starts_with("ed") && !after.starts_with("able"),
        _ => true,
    }
}
