//! Clients that coordinate through the store, and the judgement of what they were told.
//!
//! An [`Actor`] makes conditional writes, transactions and scans, a [`Watcher`] watches the same keys, and a
//! [`Locker`] counts under a lock, all of them by the Rust client. What they know are [`Record`]s, [`Span`]s and
//! [`Tenure`]s in a [`History`]; [`strict::check`] and [`tenures::check`] decide whether all of it can be true.

mod accounts;
mod actor;
mod history;
mod keys;
mod locker;
mod memory;
mod record;
mod request;
mod spans;
pub mod strict;
pub mod tenures;
mod watcher;

pub use actor::{Actor, Witness};
pub use history::History;
pub use keys::{Keys, decode, encode};
pub use locker::Locker;
pub use record::{Fact, Moment, Record, Told, Version};
pub use spans::Span;
pub use tenures::{Contradiction, Tenure};
pub use watcher::Watcher;
