//! Proxies and web servers: nginx, HAProxy, Squid, Envoy, Apache httpd.

use super::{Need, Program, Recipe};

pub(super) const NGINX: Program = Program {
    id: "nginx",
    name: "nginx",
    aliases: &["openresty"],
    commands: &["nginx"],
    about: "Before 1.29.7 it opens a connection to the upstream for every request unless `keepalive` is set; since then \
            an upstream block keeps 32 idle connections a worker. `proxy_bind` without a port sets \
            IP_BIND_ADDRESS_NO_PORT since 1.11.4.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "keeps idle connections to the upstream open, as many per worker process as the number says; HTTP/1.1 \
                    and the empty Connection header are needed before 1.29.7",
            lines: &[
                "upstream backend {",
                "    server 10.0.2.9:8080;",
                "    keepalive 64;",
                "}",
                "location / {",
                "    proxy_pass http://backend;",
                "    proxy_http_version 1.1;",
                "    proxy_set_header Connection \"\";",
                "}",
            ],
            source: "nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive",
        },
        Recipe {
            need: Need::PortAtConnect,
            about: "an address without a port: since 1.11.4 connect() then chooses the port, for each destination anew",
            lines: &["proxy_bind 10.0.0.5;"],
            source: "nginx.org/en/CHANGES (1.11.4); src/event/ngx_event_connect.c",
        },
        Recipe {
            need: Need::MoreSources,
            about: "spreads connections over two source addresses; the first two blocks belong into http {}",
            lines: &[
                "split_clients \"$remote_addr$remote_port\" $source {",
                "    50% 10.0.0.5;",
                "    *   10.0.0.6;",
                "}",
                "location / {",
                "    proxy_bind $source;",
                "    proxy_pass http://backend;",
                "}",
            ],
            source: "nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_bind, ngx_http_split_clients_module.html",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "the backlog of a listener, 511 if not set; the kernel cuts it to net.core.somaxconn",
            lines: &["listen 80 backlog=4096;"],
            source: "nginx.org/en/docs/http/ngx_http_core_module.html#listen",
        },
        Recipe {
            need: Need::MoreDescriptors,
            about: "for each worker process; a proxied request takes two connections",
            lines: &["worker_rlimit_nofile 65536;", "events {", "    worker_connections 32768;", "}"],
            source: "nginx.org/en/docs/ngx_core_module.html#worker_rlimit_nofile",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "SO_KEEPALIVE towards clients (idle 60 s, probes 10 s apart, 6 of them) and towards upstreams (1.15.6)",
            lines: &["listen 80 so_keepalive=60s:10s:6;", "proxy_socket_keepalive on;"],
            source: "nginx.org/en/docs/http/ngx_http_core_module.html#listen, ngx_http_proxy_module.html#proxy_socket_keepalive",
        },
    ],
};

pub(super) const HAPROXY: Program = Program {
    id: "haproxy",
    name: "HAProxy",
    aliases: &["ha-proxy"],
    commands: &["haproxy"],
    about: "In HTTP mode it keeps server connections and shares them between clients as `http-reuse` says; in TCP mode \
            every client connection costs one server connection. `option httpclose` and `option http-server-close` take \
            reuse away. A source address without ports sets IP_BIND_ADDRESS_NO_PORT since 1.7.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "`safe`, the default, still opens a connection for the first request of every client; `aggressive` and \
                    `always` do not. Idle connections are closed by halves every pool-purge-delay (5 s if not set)",
            lines: &[
                "backend app",
                "    mode http",
                "    http-reuse aggressive",
                "    server app1 10.0.2.9:8080 pool-purge-delay 30s",
            ],
            source: "HAProxy configuration manual, http-reuse, pool-purge-delay",
        },
        Recipe {
            need: Need::PortAtConnect,
            about: "an address without ports: connect() then chooses the port, for each destination anew",
            lines: &["backend app", "    source 10.0.0.5", "    server app1 10.0.2.9:8080"],
            source: "HAProxy configuration manual, server option source (IP_BIND_ADDRESS_NO_PORT)",
        },
        Recipe {
            need: Need::MoreSources,
            about: "the same server once for each source address",
            lines: &[
                "backend app",
                "    server app1a 10.0.2.9:8080 source 10.0.0.5",
                "    server app1b 10.0.2.9:8080 source 10.0.0.6",
            ],
            source: "HAProxy configuration manual, server option source",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "in the frontend; its maxconn if not set. The kernel cuts it to net.core.somaxconn",
            lines: &["backlog 10000"],
            source: "HAProxy configuration manual, backlog",
        },
        Recipe {
            need: Need::MoreDescriptors,
            about: "the limit of descriptors is worked out from maxconn; the service must be allowed as many",
            lines: &["global", "    maxconn 50000"],
            source: "HAProxy configuration manual, maxconn, ulimit-n",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "ends a connection that one side has closed when the other is idle for 30 s; and SO_KEEPALIVE towards clients and \
                    servers, idle 60 s, probes 10 s apart, 6 of them",
            lines: &[
                "defaults",
                "    timeout client-fin 30s",
                "    timeout server-fin 30s",
                "    option clitcpka",
                "    option srvtcpka",
                "    clitcpka-idle 60s",
                "    clitcpka-intvl 10s",
                "    clitcpka-cnt 6",
                "    srvtcpka-idle 60s",
                "    srvtcpka-intvl 10s",
                "    srvtcpka-cnt 6",
            ],
            source: "HAProxy configuration manual, timeout client-fin, timeout server-fin, option clitcpka, srvtcpka-idle",
        },
    ],
};

pub(super) const SQUID: Program = Program {
    id: "squid",
    name: "Squid",
    aliases: &[],
    commands: &["squid", "squid3", "(squid-*"],
    about: "With tcp_outgoing_address it calls bind() before connect(): up to 5 that takes the port for all destinations \
            at once, since 6 it sets IP_BIND_ADDRESS_NO_PORT. Squid 3.0 and older called bind() for every outgoing \
            connection, hence `*:0` in their messages.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "both are on for a minute unless changed; requests that cannot be repeated (POST) still open a connection \
                    of their own unless server_pconn_for_nonretriable allows them (4 and later)",
            lines: &["server_persistent_connections on", "server_idle_pconn_timeout 2 minutes"],
            source: "squid.conf: server_persistent_connections, server_idle_pconn_timeout",
        },
        Recipe {
            need: Need::PortAtConnect,
            about: "use Squid 6 or later; from 3.1 on it is enough to leave the line out, where routing gives the same \
                    address, so that connect() chooses address and port",
            lines: &["# tcp_outgoing_address 10.0.0.5"],
            source: "Squid ChangeLog 6.0.1; src/comm.cc commSetBindAddressNoPort (6)",
        },
        Recipe {
            need: Need::MoreSources,
            about: "spreads connections over two source addresses by chance",
            lines: &[
                "acl half random 1/2",
                "tcp_outgoing_address 10.0.0.5 half",
                "tcp_outgoing_address 10.0.0.6",
            ],
            source: "squid.conf: tcp_outgoing_address, acl random",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "the backlog is a quarter of the descriptors; the kernel cuts it to net.core.somaxconn",
            lines: &["max_filedescriptors 65536"],
            source: "Squid src/comm.cc comm_listen (5, 6)",
        },
        Recipe {
            need: Need::MoreDescriptors,
            about: "up to the hard limit of the service; takes a restart",
            lines: &["max_filedescriptors 65536"],
            source: "squid.conf: max_filedescriptors",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "SO_KEEPALIVE towards clients: idle, interval and time-out in seconds",
            lines: &["http_port 3128 tcpkeepalive=60,10,60"],
            source: "squid.conf: http_port tcpkeepalive",
        },
    ],
};

pub(super) const ENVOY: Program = Program {
    id: "envoy",
    name: "Envoy",
    aliases: &["istio-proxy", "istio"],
    commands: &["envoy"],
    about: "Keeps HTTP connections to upstreams open and uses them again, a pool for each worker thread. \
            `upstream_bind_config` binds the address before connect(); only releases after July 2026 set \
            IP_BIND_ADDRESS_NO_PORT there by themselves.",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "there is no limit of requests a connection if it is not set; take a limit of 1 away, it ends keep-alive",
            lines: &["# max_requests_per_connection: 1"],
            source: "Envoy v3 API, HttpProtocolOptions max_requests_per_connection",
        },
        Recipe {
            need: Need::PortAtConnect,
            about: "in the cluster: level 0, name 24 is IP_BIND_ADDRESS_NO_PORT, set before bind(); works on releases that \
                    do not set it by themselves",
            lines: &[
                "upstream_bind_config:",
                "  source_address: { address: 10.0.0.5, port_value: 0 }",
                "  socket_options:",
                "  - { level: 0, name: 24, int_value: 1, state: STATE_PREBIND }",
            ],
            source: "Envoy v3 API, config.core.v3.BindConfig, SocketOption",
        },
        Recipe {
            need: Need::MoreSources,
            about: "in the cluster: one address after the other is used",
            lines: &[
                "upstream_bind_config:",
                "  source_address: { address: 10.0.0.5, port_value: 0 }",
                "  extra_source_addresses:",
                "  - address: { address: 10.0.0.6, port_value: 0 }",
                "  socket_options:",
                "  - { level: 0, name: 24, int_value: 1, state: STATE_PREBIND }",
            ],
            source: "Envoy v3 API, config.core.v3.BindConfig extra_source_addresses",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "of a listener; net.core.somaxconn if not set",
            lines: &["tcp_backlog_size: 4096"],
            source: "Envoy v3 API, config.listener.v3.Listener tcp_backlog_size",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "in the cluster: SO_KEEPALIVE towards upstreams, idle 60 s, probes 10 s apart, 6 of them",
            lines: &[
                "upstream_connection_options:",
                "  tcp_keepalive: { keepalive_time: 60, keepalive_interval: 10, keepalive_probes: 6 }",
            ],
            source: "Envoy v3 API, config.core.v3.TcpKeepalive",
        },
    ],
};

pub(super) const HTTPD: Program = Program {
    id: "httpd",
    name: "Apache httpd",
    aliases: &["apache", "apache2", "mod_proxy"],
    commands: &["apache2", "httpd"],
    about: "mod_proxy keeps a pool of connections in every child process, one connection a thread; with the prefork MPM \
            that is one. mod_proxy_fcgi and ProxyPassMatch with back references close after every request unless \
            `enablereuse=on`. ProxySourceAddress binds the address before connect().",
    recipes: &[
        Recipe {
            need: Need::ReuseConnections,
            about: "keeps connections for up to 120 s idle; the backend's own time-out should be longer. And without \
                    `SetEnv proxy-nokeepalive`",
            lines: &[
                "ProxyPass \"/app\" \"http://10.0.2.9:8080/\" enablereuse=on ttl=120",
                "ProxyPass \"/php\" \"fcgi://127.0.0.1:9000/var/www\" enablereuse=on",
            ],
            source: "httpd.apache.org/docs/2.4/mod/mod_proxy.html#proxypass, mod_proxy_fcgi.html",
        },
        Recipe {
            need: Need::LongerBacklog,
            about: "511 if not set; the kernel cuts it to net.core.somaxconn",
            lines: &["ListenBackLog 4096"],
            source: "httpd.apache.org/docs/2.4/mod/mpm_common.html#listenbacklog",
        },
        Recipe {
            need: Need::NoticeDeadPeers,
            about: "SO_KEEPALIVE towards the backend, with the times of net.ipv4.tcp_keepalive_*",
            lines: &["ProxyPass \"/app\" \"http://10.0.2.9:8080/\" keepalive=On"],
            source: "httpd.apache.org/docs/2.4/mod/mod_proxy.html#proxypass",
        },
    ],
};
