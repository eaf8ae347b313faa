//! The transport over real gRPC on loopback, between nodes whose driver is played by the test.

mod addresses;
mod calls;
mod garbage;
mod harness;
mod outages;
mod peers;
mod snapshots;
mod streams;
