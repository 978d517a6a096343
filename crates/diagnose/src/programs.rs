//! Programs and what to write into their configuration: recipes, verified against each program's own documentation.

mod clients;
mod databases;
mod proxies;

use tidewait_model::report::Configuration;

/// What a recipe brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl Need {
    /// Every need, in the order in which a remedy for lack of ports would be tried.
    pub const ALL: [Need; 6] = [
        Need::ReuseConnections,
        Need::PortAtConnect,
        Need::MoreSources,
        Need::LongerBacklog,
        Need::MoreDescriptors,
        Need::NoticeDeadPeers,
    ];

    /// What it is for, in a few words: the heading over the lines of a program.
    pub fn words(self) -> &'static str {
        match self {
            Need::ReuseConnections => "Reuse connections",
            Need::PortAtConnect => "Leave the port to connect()",
            Need::MoreSources => "Spread over source addresses",
            Need::LongerBacklog => "A longer accept queue",
            Need::MoreDescriptors => "More open files",
            Need::NoticeDeadPeers => "Notice dead peers",
        }
    }
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
    /// Other names it is asked for by.
    pub aliases: &'static [&'static str],
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
        Some(self.lines(recipe))
    }

    /// The lines for everything that is known of it, each told what it is for.
    pub fn configurations(&self) -> Vec<Configuration> {
        let lines = |recipe: &Recipe| {
            let lines = self.lines(recipe);
            Configuration { about: format!("{}: {}", recipe.need.words(), lines.about), ..lines }
        };
        self.recipes.iter().map(lines).collect()
    }

    fn lines(&self, recipe: &Recipe) -> Configuration {
        Configuration {
            program: self.name.to_owned(),
            about: recipe.about.to_owned(),
            lines: recipe.lines.iter().map(|line| (*line).to_owned()).collect(),
            source: recipe.source.to_owned(),
        }
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

/// The program called `name`, by its id, its name or an alias.
pub fn named(name: &str) -> Option<&'static Program> {
    let is = |other: &str| other.eq_ignore_ascii_case(name);
    PROGRAMS
        .iter()
        .find(|program| is(program.id) || is(program.name) || program.aliases.iter().any(|alias| is(alias)))
}

/// Every program that is known: proxies, then databases and caches, then what programs are written with.
pub const PROGRAMS: &[Program] = &[
    proxies::NGINX,
    proxies::HAPROXY,
    proxies::SQUID,
    proxies::ENVOY,
    proxies::HTTPD,
    databases::PHP,
    databases::MYSQL,
    databases::PGBOUNCER,
    databases::REDIS,
    databases::MEMCACHED,
    clients::GO_HTTP,
    clients::GO_SQL,
    clients::JAVA,
    clients::HIKARI,
    clients::APACHE_HTTPCLIENT,
    clients::REQUESTS,
    clients::URLLIB3,
    clients::HTTPX,
    clients::NODE,
    clients::UNDICI,
    clients::CURL,
    clients::SYSTEMD,
];

#[cfg(test)]
mod tests;
