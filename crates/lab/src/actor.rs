//! Programs of the lab's own that a scenario starts as processes: a server with a name, a limit and a policy.

use std::ffi::CString;
use std::net::SocketAddr;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::netns::NetNs;
use crate::server::{Policy, Server, ServerOptions};
use crate::socket;

/// A server that is a process of its own, so that its sockets have an owner like any program's.
///
/// It goes over the command line of the program that runs scenarios: `Actor::arguments` is what that program has to be
/// called with, and it hands the words after `lab actor` to [`Actor::play`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What the process is called, at most 15 bytes.
    pub name: String,
    /// Where it listens, in the network namespace that it is started in.
    pub listen: SocketAddr,
    /// What it does with a connection.
    pub policy: Policy,
    /// Length of its accept queue.
    pub backlog: i32,
    /// How many descriptors it may have (RLIMIT_NOFILE); unchanged if `None`.
    pub descriptors: Option<u64>,
    /// Sets SO_KEEPALIVE, with the first probe after so many seconds.
    pub keepalive: Option<u32>,
}

impl Actor {
    /// A server at `listen` that treats its connections by `policy`.
    pub fn new(name: &str, listen: SocketAddr, policy: Policy) -> Actor {
        Actor { name: name.to_owned(), listen, policy, backlog: 4096, descriptors: None, keepalive: None }
    }

    /// The command line that starts it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let optional = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        vec![
            "lab".to_owned(),
            "actor".to_owned(),
            self.name.clone(),
            self.listen.to_string(),
            self.policy.word().to_owned(),
            self.backlog.to_string(),
            optional(self.descriptors),
            optional(self.keepalive.map(u64::from)),
        ]
    }

    /// Plays the part that `words` describe, until it is killed.
    ///
    /// # Errors
    /// When the words are none that `Actor::arguments` gives, or it cannot listen.
    pub fn play(words: &[String]) -> Result<std::convert::Infallible> {
        let actor = Actor::parse(words)
            .ok_or_else(|| Error::Refused(format!("lab actor {words:?}: only scenarios start these")))?;
        let name = CString::new(actor.name.as_str()).map_err(|_| Error::Refused("a NUL in a name".into()))?;
        rustix::thread::set_name(&name).context("set", "the process name")?;
        if let Some(descriptors) = actor.descriptors {
            socket::allow_descriptors(descriptors)?;
        }
        let options = ServerOptions {
            backlog: actor.backlog,
            keepalive: actor.keepalive.map(|seconds| Duration::from_secs(u64::from(seconds))),
            ..ServerOptions::new(actor.policy)
        };
        let _server = Server::with(&NetNs::current()?, &[actor.listen], options)?;
        loop {
            std::thread::park();
        }
    }

    fn parse(words: &[String]) -> Option<Actor> {
        let [name, listen, policy, backlog, descriptors, keepalive] = words else { return None };
        let optional = |word: &String| if word == "-" { Some(None) } else { word.parse().ok().map(Some) };
        Some(Actor {
            name: name.clone(),
            listen: listen.parse().ok()?,
            policy: Policy::from_word(policy)?,
            backlog: backlog.parse().ok()?,
            descriptors: optional(descriptors)?,
            keepalive: optional(keepalive)?.and_then(|seconds: u64| u32::try_from(seconds).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_survives_the_command_line() {
        for policy in Policy::ALL {
            let plain = Actor::new("app", SocketAddr::from(([10, 77, 0, 1], 6379)), policy);
            let limited = Actor { descriptors: Some(300), keepalive: Some(1), backlog: 8, ..plain.clone() };
            for actor in [plain, limited] {
                let arguments = actor.arguments();
                assert_eq!(arguments[..2], ["lab", "actor"]);
                assert_eq!(Actor::parse(&arguments[2..]), Some(actor));
            }
        }
        assert_eq!(Actor::parse(&["app".to_owned()]), None);
    }
}
