//! The flags that all client commands share, and the types of their values.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::Value;
use seshat::client::{Builder, Client, MAX_MESSAGE_BYTES};
use seshat::types::{ClientId, ClusterId};
use tokio::runtime::Runtime;

use super::client::Cluster;
use super::entry::Json;
use super::failure::Failure;
use super::pipes::{print, read, write};

/// The client addresses of `seshat dev`, by default.
pub(crate) const DEV_CLUSTER: &str = "127.0.0.1:6379,127.0.0.1:6380,127.0.0.1:6381";

/// Default time limit of a command.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a command that waits until the cluster is healed.
pub(crate) const HEALING_TIMEOUT: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How to reach the cluster, and the form of the answer.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Client options")]
pub(crate) struct ClientOptions {
    /// Client addresses of nodes, as host:port; one that answers is enough
    /// [env: SESHAT_ENDPOINTS]
    /// [default: 127.0.0.1:6379,127.0.0.1:6380,127.0.0.1:6381]
    #[arg(
        long,
        verbatim_doc_comment,
        env = unless_empty("SESHAT_ENDPOINTS"),
        hide_env = true,
        hide_default_value = true,
        value_name = "A,B,C",
        default_value = DEV_CLUSTER,
        value_parser = Endpoints::parse,
    )]
    endpoints: Vec<Endpoints>,

    /// Id of the cluster; no other cluster is used
    /// [env: SESHAT_CLUSTER]
    /// [default: the cluster of the endpoints, which must be one]
    #[arg(
        long,
        verbatim_doc_comment,
        env = unless_empty("SESHAT_CLUSTER"),
        hide_env = true,
        value_name = "ID",
        value_parser = |id: &str| cluster_id(id.trim()),
    )]
    cluster: Option<ClusterId>,

    /// Longest time that the command may take, such as 300ms, 5s or 2m, including
    /// standard input and output; lock and elect: that each call may take
    /// [default: 5s; scan: 5s for each part of the answer; watch, locks --follow: no
    /// limit once they have begun; form: 15s; 60s where it waits for the cluster to heal;
    /// no limit for standard input and output]
    #[arg(long, verbatim_doc_comment, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,

    /// When the command began.
    #[arg(skip = Instant::now())]
    begun: Instant,

    /// Answer in JSON, one object on one line. Errors too, on standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// A list of endpoints, at least one.
#[derive(Debug, Clone)]
struct Endpoints(Vec<String>);

impl Endpoints {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match seshat::client::endpoints(text)? {
            none if none.is_empty() => Err("empty: at least one endpoint is needed"),
            some => Ok(Self(some)),
        }
    }
}

/// The environment variable `name`, unless it is set to nothing: that means the same as not set, while an
/// empty argument is an error.
fn unless_empty(name: &'static str) -> Option<&'static str> {
    let is_empty = std::env::var(name).is_ok_and(|value| value.trim().is_empty());
    (!is_empty).then_some(name)
}

impl ClientOptions {
    /// The endpoints of the cluster.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let told = self.endpoints.iter().flat_map(|Endpoints(list)| list);
        told.cloned().collect()
    }

    /// A client builder, bound to the cluster if one was given.
    pub(crate) fn builder(&self) -> Builder {
        let builder = Client::builder().endpoints(self.endpoints());
        match self.cluster {
            Some(ClusterId(id)) => builder.only_cluster(id),
            None => builder,
        }
    }

    /// Runs `command` with a client of one cluster. The time limit starts when the command began if it
    /// was given, otherwise now.
    pub(crate) fn run<T>(
        &self,
        command: impl AsyncFnOnce(Cluster) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.run_within(TIMEOUT, command)
    }

    /// The same options for a command that begins now.
    pub(crate) fn begun_anew(&self) -> Self {
        Self {
            begun: Instant::now(),
            ..self.clone()
        }
    }

    /// The time that is left, if a time limit was given.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let timeout = self.timeout?;
        Some(timeout.saturating_sub(self.begun.elapsed()))
    }

    /// Reads standard input to its end, or to the bound of the largest message that a node may accept.
    pub(crate) fn standard_input(&self) -> Result<Bytes, Failure> {
        let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX);
        let input = read(limit, self.time_left())?;
        if input.len() > MAX_MESSAGE_BYTES {
            return Err(Failure::usage(
                "standard input holds more than any node accepts",
            ));
        }
        Ok(input.into())
    }

    /// Writes the answer of a command to standard output.
    pub(crate) fn print(&self, answer: impl Display) -> Result<(), Failure> {
        print(answer, self.time_left())
    }

    /// Writes a part of a long answer to standard output. Connections are served meanwhile.
    pub(crate) async fn write(&self, part: Vec<u8>) -> Result<(), Failure> {
        let time_left = self.time_left();
        let written = tokio::task::spawn_blocking(move || write(part.into(), time_left));
        let written = written.await;
        written.unwrap_or_else(|error| Err(Failure::local(error.to_string())))
    }

    /// A client for an answer of many parts. A given time limit is that of the whole command; otherwise each
    /// part has the default one.
    pub(crate) fn for_parts(&self, client: &Client) -> Client {
        match self.timeout {
            Some(_) => client.clone(),
            None => client.with_timeout(TIMEOUT),
        }
    }

    /// A client for a command that takes as long as it likes: the time limit is that of each call.
    pub(crate) fn for_calls(&self, client: &Client) -> Client {
        client.with_timeout(self.timeout(TIMEOUT))
    }

    /// What leads a command of this command to the same cluster, as variables of its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let endpoints = ("SESHAT_ENDPOINTS", self.endpoints().join(","));
        let cluster = self.cluster.map(|id| ("SESHAT_CLUSTER", id.to_string()));
        std::iter::once(endpoints).chain(cluster).collect()
    }

    /// Writes the answer of a command that has changed something. If that fails, the error tells the user
    /// what is `done`.
    pub(crate) fn print_done(
        &self,
        done: impl Display,
        text: impl Display,
        json: Value,
    ) -> Result<(), Failure> {
        let printed = match self.json {
            true => self.print(Json(&json)),
            false => self.print(text),
        };
        printed.map_err(|failure| failure.carried_out(done, json))
    }

    /// The time limit: the given one, or `usual`.
    pub(crate) fn timeout(&self, usual: Duration) -> Duration {
        self.timeout.unwrap_or(usual)
    }

    /// [`run`](Self::run) with the default time limit `usual`.
    pub(crate) fn run_within<T>(
        &self,
        usual: Duration,
        command: impl AsyncFnOnce(Cluster) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let runtime = runtime()
            .map_err(|error| Failure::local(format!("cannot start a runtime: {error}")))?;
        let outcome = runtime.block_on(async {
            let begun = match self.timeout {
                Some(_) => self.begun,
                None => Instant::now(),
            };
            let cluster = Cluster::new(self.builder(), begun, self.timeout(usual))?;
            one_cluster(cluster.client()).await?;
            command(cluster).await
        });
        // Dropping the runtime would wait for running name lookups, for any time.
        runtime.shutdown_background();
        outcome
    }
}

/// Checks that all endpoints belong to one cluster.
pub(crate) async fn one_cluster(client: &Client) -> Result<(), Failure> {
    let one = client.one_cluster().await.map(drop);
    one.map_err(|error| Failure::from(error).advising("say with --cluster which one you mean"))
}

/// A runtime on the calling thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Parses a node id from the command line.
pub(crate) fn node_id() -> impl TypedValueParser<Value = u16> {
    clap::value_parser!(u16).range(1..)
}

/// Parses the id of a cluster as it is shown: 16 hexadecimal digits.
pub(crate) fn cluster_id(text: &str) -> Result<ClusterId, String> {
    hexadecimal(text).map(ClusterId).ok_or_else(|| {
        "a cluster id has 16 hexadecimal digits, as seshat status --json shows it".to_owned()
    })
}

/// Parses the id of a session as it is shown: 16 hexadecimal digits.
pub(crate) fn session_id(text: &str) -> Result<ClientId, &'static str> {
    let id = hexadecimal(text).filter(|id| *id != 0).map(ClientId);
    id.ok_or("a session id has 16 hexadecimal digits, not all 0, as seshat session list shows it")
}

fn hexadecimal(text: &str) -> Option<u64> {
    let is_whole = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(text, 16).ok();
    number.filter(|_| is_whole)
}

/// Parses a key from the command line.
pub(crate) fn key() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|key| match key.is_empty() {
        true => Err("a key has at least one byte"),
        false => Ok(key),
    })
}

/// Parses a duration with its unit, such as `5s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write e.g. 300ms, 5s or 2m"))?;
    if duration < Duration::from_millis(1) || duration > DAY {
        return Err("not between 1ms and 24h".to_owned());
    }
    Ok(duration)
}

/// Parses the TTL of a key, such as `30s`.
pub(crate) fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write e.g. 30s, 5m or 7d"))?;
    if ttl < Duration::from_secs(1) || ttl > DAY.saturating_mul(3650) {
        return Err("not between 1s and 3650d".to_owned());
    }
    Ok(ttl)
}

/// Parses the TTL of a session, such as `10s`.
pub(crate) fn session_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write e.g. 10s or 1m"))?;
    if ttl < Duration::from_secs(2) || ttl > Duration::from_secs(60 * 60) {
        return Err("not between 2s and 1h".to_owned());
    }
    Ok(ttl)
}

/// Parses the name of a lock.
pub(crate) fn lock_name(text: &str) -> Result<String, &'static str> {
    match text.len() {
        1..=256 => Ok(text.to_owned()),
        _ => Err("a lock has a name of 1 to 256 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_does_not_wait_for_what_it_has_given_up() {
        let options = ClientOptions {
            endpoints: vec![Endpoints(vec!["127.0.0.1:1".to_owned()])],
            cluster: None,
            timeout: None,
            begun: Instant::now(),
            json: false,
        };
        let (_never, end) = std::sync::mpsc::channel::<()>();
        // Like the lookup of a name that no server answers; joining it would hang here.
        let done = options.run(async |_| {
            tokio::task::spawn_blocking(move || end.recv());
            Ok(7)
        });
        assert_eq!(done.unwrap(), 7);
    }

    #[test]
    fn empty_parts_of_endpoints_are_left_out_and_one_has_to_remain() {
        for (told, expected) in [("a:1,", vec!["a:1"]), ("a:1,,b:2", vec!["a:1", "b:2"])] {
            let options = ClientOptions {
                endpoints: vec![Endpoints::parse(told).unwrap()],
                cluster: None,
                timeout: None,
                begun: Instant::now(),
                json: false,
            };
            assert_eq!(options.endpoints(), expected, "{told:?}");
        }
        for told in ["", ",", " , "] {
            assert!(Endpoints::parse(told).is_err(), "{told:?}");
        }
    }

    #[test]
    fn a_cluster_id_is_taken_as_it_is_shown() {
        let id = ClusterId(0xab);
        assert_eq!(cluster_id(&id.to_string()), Ok(id));
        for text in [
            "",
            "ab",
            "+0000000000000ab",
            "00000000000000ag",
            "0000000000000000ab",
        ] {
            assert!(cluster_id(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [
            ("300ms", 300),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1m 30s", 90_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        for text in ["", "5", "0s", "-1s", "1us", "25h", "soon"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(ttl("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(ttl("3650days"), Ok(DAY * 3650));
        for text in ["", "5", "999ms", "3651d", "99999999999y", "soon"] {
            assert!(ttl(text).is_err(), "{text:?}");
        }
        assert_eq!(session_ttl("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(session_ttl("60m"), Ok(Duration::from_secs(3_600)));
        for text in ["", "10", "1999ms", "61m"] {
            assert!(session_ttl(text).is_err(), "{text:?}");
        }
    }
}
