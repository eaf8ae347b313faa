//! One kind of fault each.

mod crashes;
mod forming;
mod full;
mod latency;
mod locks;
mod members;
mod memory;
mod partitions;
mod pauses;
mod restarts;
mod slow;
mod two_lost;
