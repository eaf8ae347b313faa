//! The client as a program uses it: against nodes whose behaviour a test controls, and against a real
//! cluster that loses its leader.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails in a test ends the test"
)]

mod balancer;
mod clusters;
mod coordination;
mod elections;
mod endpoints;
mod example;
mod failover;
mod following;
mod late;
mod lifetimes;
mod limits;
mod living;
mod lock_clusters;
mod locks;
mod mock;
mod outcomes;
mod recipes;
mod scan;
mod streams;
mod txn;
mod watch;
