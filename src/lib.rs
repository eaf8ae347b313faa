//! Seshat: a replicated in-memory key-value store.
//!
//! The feature `client` builds the Rust [`client`] without a node, `server` builds the node, and `cli`
//! the command line. All three are on by default.
#![warn(missing_docs, clippy::print_stderr, clippy::print_stdout)]

#[cfg(feature = "server")]
mod address;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod cluster;
#[cfg(feature = "server")]
pub mod config;
#[cfg(any(feature = "client", feature = "server"))]
mod deadline;
#[cfg(feature = "server")]
pub mod driver;
pub mod error;
#[cfg(feature = "server")]
pub mod kv;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod node;
pub mod proto;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod service;
#[cfg(any(feature = "client", feature = "server"))]
mod traceparent;
#[cfg(feature = "server")]
pub mod transport;
pub mod types;
#[cfg(feature = "server")]
pub mod wire;
