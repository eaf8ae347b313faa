//! Seshat is a replicated in-memory key-value store. Three nodes form one Raft group: a write is
//! acknowledged once a majority holds it, a read never returns stale data, and any one node may fail
//! without anything acknowledged being lost.
//!
//! This crate is the Rust [`client`], the node itself ([`server`]) for programs that embed it, and the
//! command `seshat`.
//!
//! # A client
//!
//! ```no_run
//! use seshat::client::Client;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect(["127.0.0.1:6379", "127.0.0.1:6380", "127.0.0.1:6381"])?;
//!     client.set("city", "Uruk").await?;
//!     assert_eq!(client.get("city").await?.as_deref(), Some(&b"Uruk"[..]));
//!     Ok(())
//! }
//! ```
//!
//! The client finds the leader and follows it. An error says whether a write was surely not applied or
//! whether its outcome is unknown. `seshat dev` starts a cluster to try this against.
//!
//! # Three nodes in one process
//!
//! A service embeds one node as a rule, and two other machines run one each. For a test, all three fit
//! into one process:
//!
//! ```
//! use seshat::config::Config;
//! use seshat::server::Server;
//! use seshat::types::NodeId;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut stores = Vec::new();
//!     for id in (1..=3).filter_map(NodeId::new) {
//!         // Ports 23479 to 23481 for clients, 24479 to 24481 for nodes, on 127.0.0.1.
//!         let server = Server::bind(Config::for_dev(id, 3, 23479, 24479)?).await?;
//!         stores.push(server.local());
//!         tokio::spawn(server.run(std::future::pending()));
//!     }
//!     // A node that does not lead refuses, and names the leader.
//!     let mut leader = 0;
//!     while let Err(refusal) = stores[leader].set("city", "Uruk").await {
//!         println!("node {}: {refusal}", leader + 1);
//!         leader = (leader + 1) % stores.len();
//!     }
//!     assert_eq!(stores[leader].get("city").await?.as_deref(), Some(&b"Uruk"[..]));
//!     Ok(())
//! }
//! ```
//!
//! # Features
//!
//! * `client`: the [`client`], and nothing of a node.
//! * `server`: the node. [`config`] is its configuration, [`server::Server`] runs it, and
//!   [`server::Local`] is the store without a connection.
//! * `cli`: the command `seshat`; brings the other two along.
//!
//! All are on by default. `internals` makes the modules of the node public for the project's own tests and
//! benches; they change without notice.
//!
//! # Where to read on
//!
//! * `README.md`: first steps, and what happens when something fails.
//! * `docs/COORDINATION.md`: recipes for programs that change state together.
//! * `docs/ARCHITECTURE.md`: the modules, and one write and one read on their way through them.
//! * `docs/GLOSSARY.md`: every term, and where it comes from.
//! * [`proto`]: the messages and services, generated from `proto/`, for clients of your own.
#![warn(missing_docs, clippy::print_stderr, clippy::print_stdout)]
// Without `internals` some modules are private: functions for tests are unused then, and links to them
// lead nowhere.
#![cfg_attr(
    not(feature = "internals"),
    allow(dead_code, unreachable_pub, unused_imports),
    allow(rustdoc::private_intra_doc_links)
)]

#[cfg(feature = "server")]
mod address;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(any(feature = "client", feature = "server"))]
mod deadline;
pub mod error;
pub mod proto;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(any(feature = "client", feature = "server"))]
mod traceparent;
pub mod types;

#[cfg(all(feature = "server", not(feature = "internals")))]
mod cluster;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc(hidden)]
pub mod cluster;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod driver;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc(hidden)]
pub mod driver;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod kv;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc(hidden)]
pub mod kv;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod node;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc(hidden)]
pub mod node;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod service;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc(hidden)]
pub mod service;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod transport;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc(hidden)]
pub mod transport;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod watch;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc(hidden)]
pub mod watch;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod wire;
#[cfg(all(feature = "server", feature = "internals"))]
#[doc(hidden)]
pub mod wire;
