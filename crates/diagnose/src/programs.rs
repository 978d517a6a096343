//! Programs and what to write into their configuration: recipes, verified against each program's own documentation.

use tidewait_model::report::Configuration;

/// What a recipe brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Connections are kept open and used again.
    ReuseConnections,
    /// A bound source address leaves the choice of the port to connect() (IP_BIND_ADDRESS_NO_PORT).
    PortAtConnect,
    /// Outgoing connections are spread over several source addresses.
    MoreSources,
    /// More connections may wait in a listener's accept queue.
    LongerBacklog,
    /// More files may be open at a time.
    MoreDescriptors,
    /// Connections whose peer has gone are noticed and closed.
    NoticeDeadPeers,
}

/// Lines for one need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What it brings about.
    pub need: Need,
    /// What the lines do, and where they go.
    pub about: &'static str,
    /// The lines, as they are written.
    pub lines: &'static [&'static str],
    /// Where the program's own documentation says so.
    pub source: &'static str,
}

/// A program, or a library that programs connect with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The name to ask for: `nginx`, `go-http`.
    pub id: &'static str,
    /// The name as its makers write it.
    pub name: &'static str,
    /// How its process is called (/proc/PID/comm): whole names; one that ends in `*` stands for all that begin so.
    /// Empty where the name tells nothing.
    pub commands: &'static [&'static str],
    /// What is worth knowing of how it connects.
    pub about: &'static str,
    /// What to write.
    pub recipes: &'static [Recipe],
}

impl Program {
    /// The lines for `need`, where there are any.
    pub fn configuration(&self, need: Need) -> Option<Configuration> {
        let recipe = self.recipes.iter().find(|recipe| recipe.need == need)?;
        Some(Configuration {
            program: self.name.to_owned(),
            about: recipe.about.to_owned(),
            lines: recipe.lines.iter().map(|line| (*line).to_owned()).collect(),
            source: recipe.source.to_owned(),
        })
    }

    fn is_called(&self, command: &str) -> bool {
        self.commands.iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => command.starts_with(beginning),
            None => command == *name,
        })
    }
}

/// The program that runs as `command` (/proc/PID/comm), where its name tells.
pub fn of(command: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.is_called(command))
}

/// Every program that is known.
pub const PROGRAMS: &[Program] = &[Program {
    id: "nginx",
    name: "nginx",
    commands: &["nginx"],
    about: "Before 1.29.7 it opens a connection to the upstream for every request unless `keepalive` is set.",
    recipes: &[Recipe {
        need: Need::ReuseConnections,
        about: "keeps idle connections to the upstream open, as many per worker process as the number says",
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
    }],
}];
