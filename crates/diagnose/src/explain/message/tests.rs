//! Messages as programs and kernels log them, each with the page it leads to. Addresses and names are made up.

use proptest::prelude::*;

use super::*;

/// Topic, id of the program where it is told, message.
const SAMPLES: &[(&str, Option<&str>, &str)] = &[
    // connect() without a local port.
    (
        "EADDRNOTAVAIL-connect",
        Some("nginx"),
        "2018/09/29 23:34:57 [crit] 4793#4793: *210641 connect() to 10.0.2.9:80 failed (99: Cannot assign requested address) while \
         connecting to upstream, client: 192.0.2.7, server: localhost, request: \"GET / HTTP/1.1\", upstream: \
         \"http://10.0.2.9:80/\", host: \"shop.example\"",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("nginx"),
        "connect() failed (99: Cannot assign requested address) while connecting to upstream",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("go-http"),
        "dial tcp 10.0.0.5:3306: connect: cannot assign requested address",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("go-http"),
        "level=warn msg=\"Scrape failed\" err=\"Get \\\"http://10.0.0.5:9100/metrics\\\": dial tcp 10.0.0.5:9100: connect: cannot \
         assign requested address\"",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("haproxy"),
        "Oct  9 10:01:35 lb1 haproxy[18741]: Connect() failed for backend app: no free ports.",
    ),
    ("EADDRNOTAVAIL-connect", Some("haproxy"), "Connect() failed for backend static: no free ports."),
    (
        "EADDRNOTAVAIL-connect",
        Some("haproxy"),
        "Server app/app1 is DOWN, reason: Layer4 connection problem, info: \"Cannot assign requested address\"",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("mysql"),
        "ERROR 2003 (HY000): Can't connect to MySQL server on '10.0.2.9' (99)",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("mysql"),
        "ERROR 2002 (HY000): Can\u{2019}t connect to MySQL server on \u{2018}db.example\u{2019} (99 \"Cannot assign requested address\")",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("php-fpm"),
        "PDOException: SQLSTATE[HY000] [2002] Cannot assign requested address in /srv/www/app/db.php:12",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("php-fpm"),
        "PHP Warning: stream_socket_client(): unable to connect to tcp://10.0.2.10:6379 (Cannot assign requested address)",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("java-http"),
        "java.net.NoRouteToHostException: Cannot assign requested address (Address not available)",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("java-http"),
        "Caused by: java.net.NoRouteToHostException: Cannot assign requested address\n\tat \
         java.base/java.net.PlainSocketImpl.socketConnect(Native Method)",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("requests"),
        "requests.exceptions.ConnectionError: HTTPConnectionPool(host='10.0.2.9', port=8080): Max retries exceeded with url: / \
         (Caused by NewConnectionError('<urllib3.connection.HTTPConnection object at 0x7f>: Failed to establish a new connection: \
         [Errno 99] Cannot assign requested address'))",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("node-http"),
        "Error: connect EADDRNOTAVAIL 10.0.2.9:8888 - Local (10.0.0.5:0)",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("node-http"),
        "{ [Error: connect EADDRNOTAVAIL]\n  code: 'EADDRNOTAVAIL',\n  errno: 'EADDRNOTAVAIL' }",
    ),
    (
        "EADDRNOTAVAIL-connect",
        None,
        "hitch[18741]: 20171009T100135.652141 [18774] {backend-connect}: Cannot assign requested address",
    ),
    (
        "EADDRNOTAVAIL-connect",
        None,
        "Failed to open TCP connection to 10.0.2.9:9200 (Cannot assign requested address - connect(2) for \"10.0.2.9\" port 9200)",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("mysql"),
        "ERROR 2002 (HY000): Can't connect to server on '127.0.0.1' (99)",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("java-http"),
        "java.net.ConnectException: Cannot assign requested address",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("java-http"),
        "Caused by: java.net.BindException: Cannot assign requested address\n\tat java.base/sun.nio.ch.Net.connect0(Native \
         Method)\n\tat java.base/sun.nio.ch.Net.connect(Net.java:546)",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("node-http"),
        "[cause]: Error: connect EADDRNOTAVAIL 10.0.2.9:8080 - Local (0.0.0.0:0)",
    ),
    // curl without -v.
    (
        "curl-7",
        Some("curl"),
        "curl: (7) Failed to connect to 10.0.2.9 port 8080 after 0 ms: Couldn't connect to server",
    ),
    ("curl-7", None, "failed to connect to 10.0.2.9 port 80: Couldn't connect to server"),
    (
        "EADDRNOTAVAIL-connect",
        Some("curl"),
        "curl: (7) Failed to connect to 10.0.2.9 port 80: Cannot assign requested address",
    ),
    // connect() to IPv6, most often where there is none.
    (
        "EADDRNOTAVAIL-ipv6",
        None,
        "failed to send message Cannot assign requested address - connect(2) for \"localhost\" port 9394",
    ),
    (
        "EADDRNOTAVAIL-ipv6",
        Some("go-http"),
        "grpc: connection error: desc = \"transport: dial tcp [::]:9090: connect: cannot assign requested address\"",
    ),
    ("EADDRNOTAVAIL-ipv6", Some("node-http"), "Error: connect EADDRNOTAVAIL ::1:8080 - Local (:::0)"),
    (
        "EADDRNOTAVAIL-ipv6",
        Some("redis"),
        "Could not connect to Redis at localhost:6379: Cannot assign requested address",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("envoy"),
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, transport failure \
         reason: immediate connect error: Cannot assign requested address|remote address:10.0.2.9:80",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("httpd"),
        "[proxy:error] [pid 77] (99)Cannot assign requested address: AH00957: http: attempt to connect to 10.0.2.9:8080 failed",
    ),
    ("EADDRNOTAVAIL-connect", None, "apr_socket_connect(): Cannot assign requested address (99)"),
    (
        "EADDRNOTAVAIL-connect",
        Some("redis"),
        "Could not connect to Redis at 10.0.2.10:6379: Cannot assign requested address",
    ),
    // bind() of an address that is not here.
    (
        "EADDRNOTAVAIL-bind",
        Some("squid"),
        "2021/10/13 06:22:02| commBind: Cannot bind socket FD 13 to [::1]: (99) Cannot assign requested address",
    ),
    (
        "EADDRNOTAVAIL-bind",
        Some("go-http"),
        "[ERROR] listen tcp 192.168.2.65:9100: bind: cannot assign requested address",
    ),
    (
        "EADDRNOTAVAIL-bind",
        Some("node-http"),
        "Error: listen EADDRNOTAVAIL: address not available 192.0.2.77:3000",
    ),
    (
        "EADDRNOTAVAIL-bind",
        Some("nginx"),
        "nginx: [emerg] bind() to 192.0.2.77:443 failed (99: Cannot assign requested address)",
    ),
    (
        "EADDRNOTAVAIL-bind",
        Some("nginx"),
        "bind(192.0.2.77) failed (99: Cannot assign requested address) while connecting to upstream, client: 10.0.0.7",
    ),
    ("EADDRNOTAVAIL-bind", None, "192.168.0.1 - - \"bind(): Cannot assign requested address\" 00000 0 0"),
    (
        "EADDRNOTAVAIL-bind",
        Some("java-http"),
        "java.net.BindException: Cannot assign requested address\n    at sun.nio.ch.Net.bind0(Native Method)\n    at \
         sun.nio.ch.Net.bind(Net.java:433)",
    ),
    // Neither is said. Java throws the same at connect() and at bind().
    ("EADDRNOTAVAIL", Some("java-http"), "java.net.BindException: Cannot assign requested address"),
    ("EADDRNOTAVAIL", None, "socket.error:[errno 99]cannot assign requested address"),
    ("EADDRNOTAVAIL", None, "OSError: [Errno 99] Cannot assign requested address"),
    // bind() that lets the kernel choose.
    (
        "EADDRINUSE-bind-pool",
        Some("squid"),
        "commBind: Cannot bind socket FD 98 to *:0: (98) Address already in use",
    ),
    (
        "EADDRINUSE-bind-pool",
        Some("squid"),
        "2014/07/02 11:15:20 kid1| commBind: Cannot bind socket FD 3512 to 192.0.2.5: (98) Address already in use",
    ),
    (
        "EADDRINUSE-bind-pool",
        Some("go-http"),
        "dial tcp 10.0.0.5:0->10.0.2.9:80: bind: address already in use",
    ),
    // A port that is taken.
    (
        "EADDRINUSE-listen",
        Some("squid"),
        "commBind: Cannot bind socket FD 12 to 0.0.0.0:3128: (98) Address already in use",
    ),
    (
        "EADDRINUSE-listen",
        Some("nginx"),
        "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)",
    ),
    ("EADDRINUSE-listen", Some("go-http"), "listen tcp :8080: bind: address already in use"),
    (
        "EADDRINUSE-listen",
        Some("go-http"),
        "[FTL] Error listening on port: 0.0.0.0:4222, \"listen tcp 0.0.0.0:4222: bind: address already in use\"",
    ),
    ("EADDRINUSE-listen", Some("node-http"), "Error: listen EADDRINUSE: address already in use :::3000"),
    (
        "EADDRINUSE-listen",
        None,
        "ERROR: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use",
    ),
    (
        "EADDRINUSE-listen",
        Some("httpd"),
        "(98)Address already in use: AH00072: make_sock: could not bind to address 0.0.0.0:80",
    ),
    (
        "EADDRINUSE-listen",
        Some("redis"),
        "# Warning: Could not create server TCP listening socket *:6379: bind: Address already in use",
    ),
    (
        "EADDRINUSE-listen",
        None,
        "Error binding socket; addr='AF_INET(0.0.0.0:5140)', error='Address already in use (98)'",
    ),
    (
        "EADDRINUSE-listen",
        Some("haproxy"),
        "[ALERT] (23) : Binding [haproxy.cfg:34] for frontend stats: cannot bind socket (Address already in use) for [0.0.0.0:8404]",
    ),
    (
        "EADDRINUSE-listen",
        Some("java-http"),
        "Caused by: java.net.BindException: Address already in use\n\tat java.base/sun.nio.ch.Net.bind0(Native Method)\n\tat \
         java.base/sun.nio.ch.ServerSocketChannelImpl.netBind(ServerSocketChannelImpl.java:344)",
    ),
    (
        "EADDRINUSE-listen",
        Some("pgbouncer"),
        "LOG:  could not bind IPv4 address \"0.0.0.0\": Address already in use\nHINT:  Is another postmaster already running on \
         port 5432? If not, wait a few seconds and retry.",
    ),
    (
        "EADDRINUSE-listen",
        None,
        "docker: Error response from daemon: endpoint nginx-1 (b05d): Bind for 0.0.0.0:80 failed: port is already allocated.",
    ),
    ("EADDRINUSE-listen", None, "Web server failed to start. Port 8080 was already in use."),
    ("EADDRINUSE", None, "bind(): Address already in use"),
    // Several lines: the one with the error says which call and which address it is about.
    (
        "EADDRNOTAVAIL-connect",
        Some("go-http"),
        "listening on [::]:8080\nGET http://localhost/ 200\n\u{1b}[31mERROR\u{1b}[0m dial tcp 10.0.2.9:80: connect: \u{1b}[1mcannot \
         assign\u{1b}[0m requested address\nlisten [::]:8081",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("pgbouncer"),
        "connection to server at \"10.0.0.7\", port 5432 failed: Cannot assign requested address\n\tIs the server running there?",
    ),
    (
        "EADDRNOTAVAIL-ipv6",
        Some("pgbouncer"),
        "psql: error: could not connect to server: Cannot assign requested address\n\tIs the server running on host \"localhost\" \
         (::1) and accepting TCP/IP connections on port 5432?",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("mysql"),
        "Lost connection to MySQL server at 'reading initial communication packet', system error: 99",
    ),
    (
        "EADDRNOTAVAIL-connect",
        Some("httpx"),
        "httpx.ConnectError: [Errno 99] Cannot assign requested address",
    ),
    // What .NET says is no Java.
    (
        "EADDRNOTAVAIL",
        None,
        "System.Net.Http.HttpRequestException: Cannot assign requested address (api.example:443)",
    ),
    (
        "EADDRINUSE-listen",
        None,
        "System.IO.IOException: Failed to bind to address http://[::]:80: address already in use.",
    ),
    // Other languages.
    ("EADDRINUSE", None, "bind: Die Adresse wird bereits verwendet"),
    ("EADDRNOTAVAIL-connect", None, "connect: Ne peut attribuer l\u{2019}adresse demandée"),
    ("EADDRNOTAVAIL-connect", None, "connect: No se puede asignar la dirección solicitada"),
    ("EADDRINUSE", None, "bind: アドレスは既に使用中です"),
    ("ENFILE", None, "accept: Zu viele offene Dateien im System"),
    ("EMFILE", None, "accept: Zu viele offene Dateien"),
    ("EADDRINUSE", Some("java-http"), "java.net.BindException: Address already in use"),
    ("EADDRINUSE", None, "bind() failed. (98)"),
    // Answers and silence of peers.
    ("ECONNREFUSED", Some("mysql"), "ERROR 2003 (HY000): Can't connect to MySQL server on '10.0.2.9' (111)"),
    (
        "ECONNREFUSED",
        Some("go-http"),
        "Get http://10.0.2.4:9100/metrics: dial tcp 10.0.2.4:9100: getsockopt: connection refused",
    ),
    ("ECONNREFUSED", Some("node-http"), "Error: connect ECONNREFUSED 127.0.0.1:5432"),
    ("ECONNREFUSED", None, "delayed connect error: 111"),
    ("ETIMEDOUT", Some("mysql"), "Can't connect to MySQL server on '10.0.2.9' (110)"),
    ("ETIMEDOUT", Some("go-http"), "dial tcp 10.0.2.9:443: i/o timeout"),
    (
        "ETIMEDOUT",
        Some("nginx"),
        "upstream timed out (110: Connection timed out) while connecting to upstream, client: 10.0.0.7",
    ),
    (
        "ECONNRESET",
        Some("node-http"),
        "Error: read ECONNRESET\n    at TCP.onStreamRead (node:internal/stream_base_commons:217:20)",
    ),
    ("ECONNRESET", None, "('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))"),
    ("ECONNRESET", Some("java-http"), "java.net.SocketException: Connection reset"),
    ("EPIPE", Some("go-http"), "write tcp 10.0.0.5:40112->10.0.2.9:80: write: broken pipe"),
    ("EPIPE", None, "send() failed (32: Broken pipe)"),
    ("ECONNABORTED", None, "accept: Software caused connection abort"),
    ("ECONNABORTED", None, "recv failed: ECONNABORTED"),
    (
        "EHOSTUNREACH",
        Some("java-http"),
        "java.net.NoRouteToHostException: No route to host (Host unreachable)",
    ),
    ("EHOSTUNREACH", Some("go-http"), "dial tcp [2001:db8::9]:443: connect: network is unreachable"),
    // Descriptors.
    ("EMFILE", Some("nginx"), "2020/01/01 [crit] 7#7: accept4() failed (24: Too many open files)"),
    ("EMFILE", Some("java-http"), "java.io.IOException: Too many open files"),
    ("EMFILE", Some("haproxy"), "haproxy[7]: Proxy fe reached process FD limit (maxsock=2051)."),
    ("EMFILE", Some("squid"), "WARNING! Your cache is running out of filedescriptors"),
    (
        "EMFILE",
        Some("go-http"),
        "http: Accept error: accept tcp [::]:8080: accept4: too many open files; retrying in 1s",
    ),
    ("EMFILE", Some("node-http"), "Error: EMFILE, too many open files"),
    ("ENFILE", None, "socket: Too many open files in system"),
    ("ENFILE", None, "accept: (23) Too many open files in system"),
    (
        "EAGAIN",
        Some("nginx"),
        "connect() to unix:/run/php/php-fpm.sock failed (11: Resource temporarily unavailable) while connecting to upstream",
    ),
    (
        "EAGAIN",
        Some("mysql"),
        "Can't connect to local MySQL server through socket '/run/mysqld/mysqld.sock' (11 \"Resource temporarily unavailable\")",
    ),
    // The kernel's own words.
    ("tcp-out-of-memory", None, "[  179.636034] TCP: out of memory -- consider tuning tcp_mem"),
    ("tcp-out-of-memory", None, "kernel: [759720.237846] TCP: out of memory -- consider tuning tcp_mem"),
    ("too-many-orphans", None, "[261081.351086] TCP: too many orphaned sockets"),
    ("too-many-orphans", None, "kernel: Out of socket memory, TCP: too many of orphaned sockets"),
    ("time-wait-bucket-table-overflow", None, "TCP: time wait bucket table overflow"),
    ("time-wait-bucket-table-overflow", None, "kernel: TCP: time wait bucket table overflow (CT101)"),
    (
        "conntrack-table-full",
        None,
        "jobs kernel: [38775494.392631] nf_conntrack: table full, dropping packet",
    ),
    (
        "conntrack-table-full",
        None,
        "nf_conntrack: nf_conntrack: table full in netns 4026532245, dropping packet",
    ),
    ("conntrack-table-full", None, "ip_conntrack: table full, dropping packet."),
    (
        "syn-flooding",
        None,
        "kernel: [31617.809376] TCP: request_sock_TCP: Possible SYN flooding on port 5000. Sending cookies.  Check SNMP counters.",
    ),
    (
        "syn-flooding",
        None,
        "TCP: request_sock_TCPv6: Possible SYN flooding on port [::]:80. Dropping request.",
    ),
    (
        "haproxy-cannot-bind",
        Some("haproxy"),
        "Cannot bind to source address before connect() for backend app. Aborting.",
    ),
    ("haproxy-cannot-bind", Some("haproxy"), "haproxy[77]: Can't bind to source address (app1)"),
];

#[test]
fn messages_lead_to_the_page_of_their_cause() {
    let mut wrong = Vec::new();
    for (topic, program, text) in SAMPLES {
        match read(text) {
            Some(message)
                if message.topic == *topic && message.program.map(|program| program.id) == *program => {}
            Some(message) => wrong.push(format!(
                "{text}\n  is {} by {:?}, not {topic} by {program:?}",
                message.topic,
                message.program.map(|program| program.id)
            )),
            None => wrong.push(format!("{text}\n  is not read")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_error_is_met_in_two_samples_at_least() {
    for article in crate::explain::errors::all() {
        let samples = SAMPLES.iter().filter(|(topic, _, _)| *topic == article.topic).count();
        assert!(samples >= 2, "{} has {samples}", article.topic);
    }
}

#[test]
fn what_is_no_error_is_not_read() {
    for text in [
        "",
        "hello world",
        "the connection pool has 98 connections",
        "listening on 0.0.0.0:80",
        "HTTP/1.1 404 Not Found",
        "ERROR 1045 (28000): Access denied for user 'app'@'10.0.0.5'",
        "Host '192.0.2.1' is not allowed to connect to this MySQL server",
        "php_network_getaddresses: getaddrinfo failed: Name or service not known",
        "Can't connect to local MySQL server through socket '/var/run/mysqld/mysqld.sock' (2)",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn the_number_of_a_descriptor_is_not_the_errno() {
    let message = read("commBind: Cannot bind socket FD 99 to *:0: (98) Address already in use").unwrap();
    let said = |name: &str| message.recognised.iter().find(|fact| fact.name == name).unwrap().value.clone();
    assert_eq!(said("errno"), "98 EADDRINUSE");
    assert_eq!(said("descriptor"), "99");
    assert_eq!(said("address"), "*:0");
    assert_eq!(said("call"), "bind()");
    assert_eq!(message.needs, [Need::PortAtConnect, Need::ReuseConnections]);
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
        read(&text);
    }

    #[test]
    fn pieces_of_messages_in_any_order_are_read_without_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("connect("), Just("bind: "), Just("(98"), Just(") "), Just("[::]:"), Just("*:0"), Just("socket fd "),
                Just("errno "), Just("99"), Just(":"), Just("('"), Just("', "), Just("port "), Just("host="), Just("\u{fc}"),
                Just("address already in use"), Just("dial tcp "), Just("no free ports"), Just("->"), Just("http://"),
            ],
            0..12,
        )
    ) {
        read(&pieces.concat());
    }
}
