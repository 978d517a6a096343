//! Databases, caches and what connects to them: PHP, MySQL and MariaDB, PgBouncer, Redis, memcached.

use super::{Need, Program, Recipe};

pub(super) const PHP: Program = Program {
    id: "php-fpm",
    name: "PHP (php-fpm, PDO, mysqli)",
    aliases: &["php", "pdo", "mysqli", "phpredis"],
    commands: &["php-fpm*", "php"],
    about: "Opens a connection to the database for every request and closes it at its end, unless it is persistent. A \
            persistent one belongs to a worker process, so there are as many as workers, and none is saved on the \
            command line.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "PDO: the attribute goes into the constructor, later it is ignored. mysqli: `p:` before the host, which \
                    also resets the session. phpredis: pconnect()",
            lines: &[
                "$db = new PDO($dsn, $user, $password, [PDO::ATTR_PERSISTENT => true]);",
                "$db = new mysqli('p:10.0.2.9', $user, $password, $name);",
                "$redis->pconnect('10.0.2.10', 6379);",
            ],
            source: "php.net/manual/en/pdo.connections.php, mysqli.persistconns.php; phpredis README, pconnect",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "in the pool's file; 511 if not set. The kernel cuts it to net.core.somaxconn, for unix sockets too",
            lines: &["listen.backlog = 4096"],
            source: "php.net/manual/en/install.fpm.configuration.php#listen-backlog",
        },
        Recipe {
            need: Need::MoreDescriptors,
            about: "in the pool's file: for each worker process",
            lines: &["rlimit_files = 65536"],
            source: "php.net/manual/en/install.fpm.configuration.php#rlimit-files",
        },
    ],
};

pub(super) const MYSQL: Program = Program {
    id: "mysql",
    name: "MySQL and MariaDB",
    aliases: &["mariadb", "mysqld"],
    commands: &["mysqld", "mariadbd", "mysql", "mariadb"],
    about: "A client that connects for every query leaves a TIME_WAIT for each on its own side: it closes first. A \
            client on the same machine that uses the unix socket (host `localhost`) takes no port at all.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "in the client: a pool. Connector/Python is shown; PHP, Java and Go have theirs under their own names",
            lines: &[
                "pool = mysql.connector.pooling.MySQLConnectionPool(",
                "    pool_name=\"app\", pool_size=10, **settings)",
                "connection = pool.get_connection()",
            ],
            source: "dev.mysql.com/doc/connector-python/en/connector-python-connection-pooling.html",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "in the server; max_connections if not set (MySQL 8.0). The kernel cuts it to net.core.somaxconn",
            lines: &["[mysqld]", "back_log = 1024"],
            source: "MySQL WL#9704; MariaDB system variables, back_log",
        },
        Recipe {
            need: Need::MoreDescriptors,
            about: "in the server",
            lines: &["[mysqld]", "open_files_limit = 65536"],
            source: "mariadbd --help, open-files-limit",
        },
    ],
};

pub(super) const PGBOUNCER: Program = Program {
    id: "pgbouncer",
    name: "PgBouncer",
    aliases: &["postgresql", "postgres", "psql"],
    commands: &["pgbouncer"],
    about: "A pool of PostgreSQL connections for clients that cannot keep their own. On the clients' machine and \
            through its unix socket, they take no ports at all.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "20 server connections for each user and database if not set; `session`, the default, gives one back only \
                    when the client disconnects",
            lines: &["[pgbouncer]", "pool_mode = transaction", "default_pool_size = 20"],
            source: "PgBouncer doc/config.md: pool_mode, default_pool_size",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "128 if not set; the kernel cuts it to net.core.somaxconn",
            lines: &["[pgbouncer]", "listen_backlog = 4096"],
            source: "PgBouncer doc/config.md: listen_backlog",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "keepalive is on, with the kernel's two hours; here idle 60 s, probes 10 s apart, 6 of them",
            lines: &["[pgbouncer]", "tcp_keepidle = 60", "tcp_keepintvl = 10", "tcp_keepcnt = 6"],
            source: "PgBouncer doc/config.md: tcp_keepalive",
        },
    ],
};

pub(super) const REDIS: Program = Program {
    id: "redis",
    name: "Redis",
    aliases: &["redis-py", "redis-server"],
    commands: &["redis-server"],
    about: "A client library has a pool if it is told to share one; a client made for every request leaves a TIME_WAIT \
            for each.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "in the client, once for the process: redis-py is shown; phpredis has pconnect()",
            lines: &[
                "pool = redis.ConnectionPool(host='10.0.2.10', port=6379, db=0)",
                "client = redis.Redis(connection_pool=pool)",
            ],
            source: "redis-py README, Connection Pools",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "in the server; 511 if not set. The kernel cuts it to net.core.somaxconn",
            lines: &["tcp-backlog 4096"],
            source: "redis.conf: tcp-backlog",
        },
        Recipe {
            need: Need::MoreDescriptors,
            about: "in the server: lowered to what descriptors allow, less 32",
            lines: &["maxclients 20000"],
            source: "redis.conf: maxclients",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "in the server: 300 s if not set; a silent client is gone after twice the time",
            lines: &["tcp-keepalive 60"],
            source: "redis.conf: tcp-keepalive",
        },
    ],
};

pub(super) const MEMCACHED: Program = Program {
    id: "memcached",
    name: "memcached",
    aliases: &[],
    commands: &["memcached"],
    about: "Takes 1,024 connections and a backlog of 1,024 unless told otherwise; further clients wait in the accept queue.",
    recipes: &[
        Recipe {
            need: Need::LongerBacklog,
            about: "the kernel cuts it to net.core.somaxconn",
            lines: &["memcached -b 4096"],
            source: "memcached(1), --listen-backlog",
        },
        Recipe {
            need: Need::MoreDescriptors,
            about: "connections, each one descriptor",
            lines: &["memcached -c 8192"],
            source: "memcached(1), --conn-limit",
        },
    ],
};
