//! Real processes under faults: three `seshat serve`, each behind a proxy that a test controls, and
//! clients that write, read and coordinate all the time and record the answers.
//!
//! After each scenario every key's history has to be linearizable, final reads included: no read was stale
//! and no acknowledged write was lost, whatever was killed, stopped or cut off. The history of the clients
//! that coordinate, with conditional writes, transactions and scans, has to be strictly serializable in the
//! order of revisions; watches leave out no change, one client at a time is sure of a lock, and what is
//! counted under it is not lost. The other promises of a scenario are in its own test, which prints its
//! measurements in one line:
//!
//! ```text
//! cargo test --test chaos -- --nocapture
//! ```
//!
//! The soak draws its faults at random, of nodes, of links, of the surroundings of a process and of clients
//! that hold a lock, and keeps one cluster through all of them:
//!
//! ```text
//! CHAOS_SECONDS=600 cargo test --release --test chaos soak -- --nocapture
//! ```
//!
//! It prints its seed; `CHAOS_SEED` repeats the faults, though not the machine's timing. A scenario that
//! fails prints the end of each node's log; `SESHAT_LOG` makes the nodes log more.

#![cfg(test)]

mod actors;
mod clients;
mod cluster;
mod history;
mod hogs;
mod holder;
mod links;
mod misbehaving;
mod openers;
mod operator;
mod scenarios;
mod soak;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use clients::Caller;
use cluster::Cluster;
use history::History;

/// Clusters that run at once. They wait more than they work, but more of them would be late.
static ROOM: Semaphore = Semaphore::const_new(4);

/// Runs `body` on a cluster of its own that has not been started, and prints its result.
fn on_new_cluster(name: &str, limits: &str, body: impl AsyncFnOnce(&mut Cluster) -> String) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let _permit = ROOM.acquire().await.expect("never closed");
        let began = Instant::now();
        let mut cluster = Cluster::new(limits).await;
        let said = body(&mut cluster).await;
        println!(
            "{name}: {said}; took {:.1} s",
            began.elapsed().as_secs_f64()
        );
    });
}

/// Runs `body` on a cluster of its own that is whole, and prints its result.
fn scenario(name: &str, body: impl AsyncFnOnce(&mut Cluster) -> String) {
    on_new_cluster(name, "", async |cluster| {
        cluster.start_all();
        cluster.wait_until_healed().await;
        body(cluster).await
    });
}

/// A caller of `cluster` with a history of its own.
fn caller(cluster: &Cluster) -> Caller {
    Caller::new(&cluster.client_addrs(), &Arc::new(History::default()))
}

/// Lets time pass. Nothing is waited for: the test watches that nothing happens.
async fn watch_for(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// `912 ms`.
fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
