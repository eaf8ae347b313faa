//! The loop under a clock that the test controls.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::*;
use crate::node::{RaftOptions, ReplicaOptions};
use crate::types::{Key, NodeId, NodeInfo, RaftId, WallTime};

const TICK: Duration = Duration::from_millis(100);

fn options() -> DriverOptions {
    DriverOptions {
        tick: TICK,
        max_pending_requests: 100,
        peer_inbox_messages: 64,
        max_batch_requests: 64,
        max_batch_bytes: 1 << 20,
        workers: Workers::Inline,
    }
}

/// Node 1 of three, just started.
fn fresh(options: DriverOptions) -> (Driver, DriverHandle) {
    let node = |id| NodeId::new(id).unwrap();
    let members = (1..=3).map(|id| NodeInfo {
        id: node(id),
        addr: format!("kvstore-{id}:7379"),
        client_addr: format!("kvstore-{id}:6379"),
    });
    let replica = Replica::new(ReplicaOptions {
        raft_id: RaftId::new(node(1), 1),
        members: members.collect(),
        remembered: ClusterMembership::default(),
        bootstrap: true,
        formation_wait_ticks: 0,
        time: Some(WallTime::FIRST),
        raft: RaftOptions::default(),
        seed: 7,
        logger: slog::Logger::root(slog::Discard, slog::o!()),
    });
    Driver::new(replica, options)
}

/// A network without answers, which reports the time of each call.
struct Silence {
    driver: DriverHandle,
    calls: UnboundedSender<Instant>,
}

impl Network for Silence {
    fn send(&mut self, _: PeerMessage) -> bool {
        false
    }

    fn send_snapshot(&mut self, _: OutgoingSnapshot) -> bool {
        false
    }

    fn call(&mut self, id: CallId, _: Call) {
        let _ = self.calls.send(Instant::now());
        let driver = self.driver.clone();
        tokio::spawn(async move { driver.replied(id, Reply::Failed).await });
    }

    fn set_leading(&mut self, _: bool) {}

    fn set_members(&mut self, _: &ClusterMembership) {}
}

/// Whatever other work the thread does between two polls of the loop, a tick is taken when it is due.
#[tokio::test(start_paused = true)]
async fn a_loop_that_looks_for_more_takes_its_ticks() {
    /// Duration of the other work of the thread, each time that it runs.
    const WORK: Duration = Duration::from_millis(15);
    let (driver, handle) = fresh(options());
    let (calls, mut called) = unbounded_channel();
    let network = Silence {
        driver: handle.clone(),
        calls,
    };
    tokio::spawn(driver.run(network));
    tokio::spawn(async {
        loop {
            tokio::time::advance(WORK).await;
        }
    });
    // Once the loop has served a client, it polls for more.
    tokio::spawn(async move {
        loop {
            let outcome = handle.read(Key::from("k")).unwrap().await.unwrap();
            assert!(outcome.is_err(), "there is no cluster");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    // A node that looks for its cluster asks the others every other tick.
    let mut last = called.recv().await.unwrap();
    for _ in 0..100 {
        let next = called.recv().await.unwrap();
        let gap = next - last;
        assert!(gap <= 2 * (TICK + 2 * WORK), "{gap:?} without a tick");
        last = next;
    }
}
