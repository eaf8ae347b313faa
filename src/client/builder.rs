//! The settings of a client, with their bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tonic::transport::{Channel, Endpoint, Uri};

use super::nodes::{Purpose, Shared};
use super::options::{Backoff, Options};
use super::{Client, Error, Limit};

/// Shortest timeout and pause: with less, no call would be answered in time, or attempts would have no
/// pause.
const SHORTEST: Duration = Duration::from_millis(1);

/// Most connections to one node.
const MAX_CONNECTIONS: usize = 64;

/// Builds a [`Client`].
#[derive(Debug, Clone)]
pub struct Builder {
    endpoints: Vec<String>,
    options: Options,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            options: Options::default(),
        }
    }

    /// Adds nodes, as `host:port` with or without the prefix `http://`, or as a list with commas; empty
    /// parts are ignored. One endpoint that answers is enough: it names the leader. An address may lead
    /// to several nodes, through a load balancer or a name with several addresses.
    #[must_use]
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// The deadline of each whole call, searches and retries included. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// Longest wait for a connection, at least 1 ms. Default: 1 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout.max(SHORTEST);
        self
    }

    /// How long one node may take to answer before another one is tried, where a retry is safe. It is
    /// never more than a third of the time that is left, and doubles after each timeout. At least 1 ms.
    /// Default: 1 s.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.options.attempt_timeout = timeout.max(SHORTEST);
        self
    }

    /// How long an answer of the leader is trusted. A write without a session is sent once, so it should
    /// reach a leader that answers: if the last answer is older, a read goes ahead of the write. Default:
    /// 1 s.
    #[must_use]
    pub fn trust(mut self, age: Duration) -> Self {
        self.options.trust = age;
        self
    }

    /// Connections to each node, over which calls are spread: 1 to 64. Default: 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.options.connections = connections.clamp(1, MAX_CONNECTIONS);
        self
    }

    /// The id of the cluster that the client belongs to, as `Status` shows it. Without it, the client
    /// takes the first cluster that answers. A program that sets it is safe from the first call on, even
    /// if its endpoints lead to two clusters, or to one that has formed anew.
    #[must_use]
    pub fn cluster(mut self, id: u64) -> Self {
        self.options.cluster = Some(id);
        self
    }

    /// As [`cluster`](Self::cluster), but the client does not follow a recovery either: if an operator
    /// recovers a new cluster from this one, calls end with [`Error::is_other_cluster`].
    #[must_use]
    pub fn only_cluster(mut self, id: u64) -> Self {
        self.options.follows = false;
        self.cluster(id)
    }

    /// First and longest pause between two attempts, at least 1 ms. Each pause is drawn at random between
    /// half of its length and all of it. Default: 20 ms and 500 ms.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        let max = max.max(SHORTEST);
        self.options.backoff = Backoff {
            min: min.clamp(SHORTEST, max),
            max,
        };
        self
    }

    /// A client in a simulation: `connect` makes its channels, which must connect lazily, all of its
    /// randomness comes from `seed`, and only the clock of tokio counts.
    #[doc(hidden)]
    #[must_use]
    pub fn simulated(mut self, connect: fn(&Endpoint) -> Channel, seed: u64) -> Self {
        self.options.connect = connect;
        self.options.seed = Some(seed);
        self.options.clock = || Duration::ZERO;
        self.resolved_by(|_| Box::pin(std::future::ready(Vec::new())))
    }

    /// A client in a test: it asks for the state of so many claims at once.
    #[doc(hidden)]
    #[must_use]
    pub fn awaits(mut self, most: usize) -> Self {
        self.options.awaits = most;
        self
    }

    /// A client in a test: `resolve` resolves names, not the system.
    #[doc(hidden)]
    #[must_use]
    pub fn resolved_by(
        mut self,
        resolve: fn(String) -> BoxFuture<'static, Vec<SocketAddr>>,
    ) -> Self {
        self.options.resolve = resolve;
        self
    }

    /// The client. It connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: there is no endpoint, or one is not of the form `host:port`.
    pub fn build(self) -> Result<Client, Error> {
        let texts = self.endpoints.iter().flat_map(|text| listed(text));
        let endpoints = texts.map(|text| {
            endpoint(text).map_err(|problem| Error::invalid(format!("{text:?} is {problem}")))
        });
        let endpoints: Vec<_> = endpoints.collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::invalid("a client needs at least one endpoint"));
        }
        let limit = Limit {
            timeout: self.options.timeout,
            deadline: None,
        };
        let shared = Arc::new(Shared::new(endpoints, self.options));
        Ok(Client {
            shared,
            limit,
            cluster: None,
            purpose: Purpose::Calls,
            traceparent: None,
        })
    }
}

/// The non-empty parts of a list with commas.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// Several [`endpoint`]s with commas between them. Empty parts are ignored.
///
/// # Errors
///
/// The fault of the first invalid part, as text that follows "it is".
pub fn endpoints(text: &str) -> Result<Vec<String>, &'static str> {
    listed(text).map(endpoint).collect()
}

/// Checks a `host:port`, with or without the prefix `http://`.
///
/// # Errors
///
/// The fault of the text, as text that follows "it is".
pub fn endpoint(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.strip_suffix('/').unwrap_or(address);
    if address.contains("://") {
        return Err("no http: only http is spoken here, write host:port");
    }
    // Only an authority is valid: no path, no user.
    let port = address
        .parse::<Uri>()
        .ok()
        .filter(|uri| uri.scheme().is_none() && uri.path().is_empty() && !address.contains('@'))
        .filter(|uri| uri.host().is_some_and(|host| !host.is_empty()))
        .and_then(|uri| uri.port_u16());
    match port {
        Some(1..) => Ok(address.to_owned()),
        _ => Err("not of the form host:port, e.g. 127.0.0.1:6379"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        for (text, address) in [
            ("127.0.0.1:6379", "127.0.0.1:6379"),
            (" kvstore-1:6379", "kvstore-1:6379"),
            ("kvstore-1.example.:6379", "kvstore-1.example.:6379"),
            ("http://[::1]:6379/", "[::1]:6379"),
        ] {
            assert_eq!(endpoint(text).as_deref(), Ok(address));
        }
        for text in [
            "",
            "6379",
            "kvstore-1",
            ":6379",
            "kvstore-1:",
            "kvstore-1:0",
            "kvstore-1:65536",
            "kvstore-1:6379/path",
            "me@kvstore-1:6379",
            "https://kvstore-1:6379",
            "kv store:6379",
        ] {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_list_may_have_holes() {
        let one = || vec!["a:1".to_owned()];
        for (text, expected) in [
            ("", vec![]),
            (" , ", vec![]),
            ("a:1,", one()),
            (",, a:1 ", one()),
            ("a:1,b:2", [one(), vec!["b:2".to_owned()]].concat()),
        ] {
            assert_eq!(endpoints(text), Ok(expected), "{text:?}");
        }
        assert!(endpoints("a:1,b").is_err());
        assert!(Client::connect(["a:1,b:2,", ""]).is_ok());
        assert!(Client::connect(["", ","]).is_err());
    }
}
