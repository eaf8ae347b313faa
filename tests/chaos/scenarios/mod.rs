//! One kind of trouble each.

mod crashes;
mod latency;
mod memory;
mod partitions;
mod pauses;
mod restarts;
mod two_lost;
