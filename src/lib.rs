//! Seshat: a replicated in-memory key-value store.
#![warn(missing_docs)]

mod address;
pub mod config;
pub mod driver;
pub mod error;
pub mod kv;
pub mod log;
pub mod node;
pub mod proto;
pub mod server;
pub mod service;
pub mod transport;
pub mod types;
pub mod wire;
