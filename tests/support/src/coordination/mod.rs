//! Clients that coordinate through the store, and the judgement of what they were told: conditional writes,
//! transactions, scans.
//!
//! [`Actor`] makes the requests, by the Rust client. What the clients of a test know of their requests are
//! [`Record`]s in a [`History`], and [`strict::check`] decides whether all of it can be true.

mod accounts;
mod actor;
mod history;
mod keys;
mod memory;
mod record;
mod request;
pub mod strict;

pub use actor::{Actor, Witness};
pub use history::History;
pub use keys::{Keys, decode, encode};
pub use record::{Fact, Record, Told, Version};
