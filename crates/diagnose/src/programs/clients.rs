//! What programs connect with: the HTTP and SQL clients of Go, Java, Python, Node.js, libcurl; and systemd around them.

use super::{Need, Program, Recipe};

pub(super) const GO_HTTP: Program = Program {
    id: "go-http",
    name: "Go net/http",
    aliases: &["go", "golang", "net/http", "http.transport"],
    commands: &[],
    about: "Keeps only 2 idle connections for each host (MaxIdleConnsPerHost): more in parallel are closed after each \
            request. A connection is used again only if the body was read to its end and closed. A Dialer with \
            LocalAddr calls bind() before connect(). Keepalive is on: 30 s in DefaultTransport, else 15 s.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "one Transport for the whole program, with as many idle connections a host as it has requests in parallel",
            lines: &[
                "transport := http.DefaultTransport.(*http.Transport).Clone()",
                "transport.MaxIdleConns = 0 // no limit for all hosts together",
                "transport.MaxIdleConnsPerHost = 100",
                "client := &http.Client{Transport: transport}",
                "// for every response:",
                "io.Copy(io.Discard, response.Body)",
                "response.Body.Close()",
            ],
            source: "pkg.go.dev/net/http#Transport, #Client.Do",
        },
        Recipe {
            need: Need::PortAtConnect,
            about: "only with LocalAddr: Control runs before bind(); option 24 is IP_BIND_ADDRESS_NO_PORT",
            lines: &[
                "dialer := &net.Dialer{",
                "    LocalAddr: &net.TCPAddr{IP: net.ParseIP(\"10.0.0.5\")},",
                "    Control: func(network, address string, raw syscall.RawConn) error {",
                "        var failed error",
                "        err := raw.Control(func(fd uintptr) {",
                "            failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, 24, 1)",
                "        })",
                "        return errors.Join(err, failed)",
                "    },",
                "}",
                "transport.DialContext = dialer.DialContext",
            ],
            source: "pkg.go.dev/net#Dialer; Go src/net/sock_posix.go",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "Go listens with net.core.somaxconn as it is when the program starts",
            lines: &["sysctl -w net.core.somaxconn=4096"],
            source: "Go src/net/sock_linux.go maxListenerBacklog",
        },
    ],
};

pub(super) const GO_SQL: Program = Program {
    id: "go-sql",
    name: "Go database/sql",
    aliases: &["database/sql", "sql.db"],
    commands: &[],
    about: "Keeps only 2 idle connections: under more load than that, queries open and close connections all the time.",
    recipes: &[Recipe {
        need: Need::ReuseConnections,
        about: "as many idle as open, so that none is closed between two bursts; one sql.DB for the whole program",
        lines: &[
            "db.SetMaxOpenConns(50)",
            "db.SetMaxIdleConns(50)",
            "db.SetConnMaxIdleTime(5 * time.Minute)",
        ],
        source: "pkg.go.dev/database/sql#DB.SetMaxIdleConns",
    }],
};

pub(super) const JAVA: Program = Program {
    id: "java-http",
    name: "Java HttpClient",
    aliases: &["java", "httpurlconnection", "java.net.http"],
    commands: &[],
    about: "java.net.http keeps idle connections for 30 s (JDK 25) as long as the HttpClient lives: one made for every \
            request keeps none. HttpURLConnection keeps 5 idle connections a destination. A ServerSocket listens with 50.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "one HttpClient for the whole program, bodies read to their end; the properties are for \
                    java.net.http and for HttpURLConnection",
            lines: &[
                "static final HttpClient CLIENT = HttpClient.newHttpClient();",
                "java -Djdk.httpclient.keepalive.timeout=300 -Dhttp.maxConnections=100 ...",
            ],
            source: "JDK 25: module java.net.http; sun.net.www.http.KeepAliveCache",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "the second argument; 50 if not given. The kernel cuts it to net.core.somaxconn",
            lines: &["new ServerSocket(8080, 4096)"],
            source: "JDK 25: java.net.ServerSocket",
        },
    ],
};

pub(super) const HIKARI: Program = Program {
    id: "hikaricp",
    name: "HikariCP",
    aliases: &["hikari"],
    commands: &[],
    about: "A pool of database connections for Java. Its connections are meant to stay: many TIME_WAIT to the database \
            mean that something goes around the pool, or that maxLifetime is very short.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "a pool of a fixed size: minimumIdle, if not set, is the same",
            lines: &["config.setMaximumPoolSize(20);", "config.setMaxLifetime(1_800_000);"],
            source: "HikariCP README: maximumPoolSize, minimumIdle, maxLifetime",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "asks idle connections for an answer every two minutes; tcpKeepAlive=true is PostgreSQL's driver's",
            lines: &["config.setKeepaliveTime(120_000);", "jdbc:postgresql://10.0.2.9/app?tcpKeepAlive=true"],
            source: "HikariCP README: keepaliveTime, TCP keepalive",
        },
    ],
};

pub(super) const APACHE_HTTPCLIENT: Program = Program {
    id: "apache-httpclient",
    name: "Apache HttpClient 5",
    aliases: &["httpclient5", "httpcomponents"],
    commands: &[],
    about: "Its pool keeps 5 connections a route and 25 in all unless told otherwise; further requests wait for one. A \
            client made for every request keeps none.",
    recipes: &[Recipe {
        need: Need::ReuseConnections,
        about: "one client for the whole program",
        lines: &[
            "var pool = PoolingHttpClientConnectionManagerBuilder.create()",
            "    .setMaxConnPerRoute(50).setMaxConnTotal(200).build();",
            "var client = HttpClients.custom().setConnectionManager(pool).build();",
        ],
        source: "Apache HttpClient 5: PoolingHttpClientConnectionManagerBuilder",
    }],
};

pub(super) const REQUESTS: Program = Program {
    id: "requests",
    name: "Python requests",
    aliases: &["python-requests", "python"],
    commands: &[],
    about: "requests.get() opens a connection and closes it. A Session keeps 10 a host (pool_maxsize); with more \
            threads than that the rest are closed after each request.",
    recipes: &[Recipe {
        need: Need::ReuseConnections,
        about: "one Session for the process, with as many connections as it has threads; a streamed body has to be read \
                to its end",
        lines: &[
            "session = requests.Session()",
            "adapter = requests.adapters.HTTPAdapter(pool_maxsize=100)",
            "session.mount(\"http://\", adapter)",
            "session.mount(\"https://\", adapter)",
            "session.get(\"http://10.0.2.9:8080/\")",
        ],
        source: "requests: src/requests/adapters.py; docs, Advanced Usage, Keep-Alive",
    }],
};

pub(super) const URLLIB3: Program = Program {
    id: "urllib3",
    name: "Python urllib3",
    aliases: &[],
    commands: &[],
    about: "A PoolManager keeps one connection a host unless maxsize says more, and pools for 10 hosts.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "one PoolManager for the process, with as many connections as it has threads",
            lines: &["http = urllib3.PoolManager(num_pools=10, maxsize=100)"],
            source: "urllib3: connectionpool.py (maxsize), poolmanager.py (num_pools)",
        },
        Recipe {
            need: Need::PortAtConnect,
            about: "only with source_address: the options are set before bind(); 24 is IP_BIND_ADDRESS_NO_PORT",
            lines: &[
                "options = urllib3.connection.HTTPConnection.default_socket_options + [",
                "    (socket.IPPROTO_IP, 24, 1)]",
                "http = urllib3.PoolManager(source_address=(\"10.0.0.5\", 0), socket_options=options)",
            ],
            source: "urllib3: util/connection.py create_connection",
        },
    ],
};

pub(super) const HTTPX: Program = Program {
    id: "httpx",
    name: "Python httpx",
    aliases: &[],
    commands: &[],
    about: "httpx.get() opens a connection and closes it. A Client keeps 20 idle ones for 5 s.",
    recipes: &[Recipe {
        need: Need::ReuseConnections,
        about: "one Client for the process",
        lines: &[
            "limits = httpx.Limits(max_keepalive_connections=100, keepalive_expiry=60)",
            "client = httpx.Client(limits=limits)",
        ],
        source: "httpx: docs/advanced/resource-limits.md, clients.md",
    }],
};

pub(super) const NODE: Program = Program {
    id: "node-http",
    name: "Node.js http.Agent",
    aliases: &["node", "nodejs", "node.js", "http.agent"],
    commands: &["node", "nodejs"],
    about: "Before 19 the global agent closed after every request; since then it keeps connections for 5 s. An agent of \
            one's own still does not, unless keepAlive is true.",
    recipes: &[Recipe {
        need: Need::ReuseConnections,
        about: "one agent for the process (https.Agent alike)",
        lines: &[
            "const agent = new http.Agent({ keepAlive: true, maxSockets: 100 });",
            "http.get('http://10.0.2.9:8080/', { agent }, (response) => response.resume());",
        ],
        source: "nodejs.org/api/http.html: http.globalAgent, new Agent()",
    }],
};

pub(super) const UNDICI: Program = Program {
    id: "undici",
    name: "Node.js undici (fetch)",
    aliases: &["fetch"],
    commands: &[],
    about: "Keeps idle connections for 4 s, and opens as many to one host as there are requests in parallel unless \
            `connections` says otherwise.",
    recipes: &[Recipe {
        need: Need::ReuseConnections,
        about: "for fetch() too, which uses the global dispatcher",
        lines: &[
            "import { Agent, setGlobalDispatcher } from 'undici';",
            "setGlobalDispatcher(new Agent({ connections: 100, keepAliveTimeout: 60_000 }));",
        ],
        source: "undici: docs/docs/api/Client.md, Pool.md",
    }],
};

pub(super) const CURL: Program = Program {
    id: "curl",
    name: "curl and libcurl",
    aliases: &["libcurl"],
    commands: &["curl"],
    about: "A connection is used again by the same handle, or by the same call of curl with several URLs; every call of the \
            program opens its own. An interface or address (--interface) sets IP_BIND_ADDRESS_NO_PORT since 7.75.0.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "several URLs in one call; in a program: keep the easy handle, or a multi handle, between transfers",
            lines: &["curl http://10.0.2.9/a http://10.0.2.9/b"],
            source: "curl(1); CURLOPT_MAXCONNECTS (5 kept by an easy handle)",
        },
        Recipe {
            need: Need::PortAtConnect,
            about: "without --local-port: since 7.75.0 connect() chooses the port",
            lines: &["curl --interface 'host!10.0.0.5' http://10.0.2.9/"],
            source: "curl lib/cf-socket.c (IP_BIND_ADDRESS_NO_PORT), since 7.75.0",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "the program probes after 60 s by itself; libcurl does not until told",
            lines: &["curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);"],
            source: "curl(1) --keepalive-time; CURLOPT_TCP_KEEPALIVE",
        },
    ],
};

pub(super) const SYSTEMD: Program = Program {
    id: "systemd",
    name: "systemd",
    aliases: &["limitnofile", "systemd-unit"],
    commands: &[],
    about: "Sets the limits that a service starts with, whatever ulimit says in a shell.",
    recipes: &[
        Recipe {
            need: Need::MoreDescriptors,
            about: "with `systemctl edit UNIT`, then restart the unit; soft and hard limit alike",
            lines: &["[Service]", "LimitNOFILE=65536"],
            source: "systemd.exec(5), LimitNOFILE=",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "for sockets that systemd listens on (UNIT.socket); the kernel cuts it to net.core.somaxconn",
            lines: &["[Socket]", "Backlog=4096"],
            source: "systemd.socket(5), Backlog=",
        },
    ],
};
