//! The process that holds a lock is killed.

use std::time::Instant;

use seshat::client::{Client, Condition, TxnOperation};
use seshat_test_support::{InTime as _, TEST_TIMEOUT, eventually};

use crate::clients::Load;
use crate::history::now;
use crate::holder::Holder;
use crate::{caller, ms, scenario};

const NAME: &str = "backup";

#[test]
fn the_next_client_gets_the_lock_of_a_killed_holder() {
    scenario("holder killed", async |cluster| {
        let leader = cluster.leader().await;
        let load = Load::start(&caller(cluster), leader, "k");
        load.write_after(now()).await;
        let client = Client::builder().endpoints(cluster.client_addrs());
        let client = client.timeout(TEST_TIMEOUT).build().expect("endpoints");

        let mut killed = Holder::start(cluster, NAME);
        let token = killed.token();
        let next = client.lock(NAME);
        let next = tokio::spawn(async move { next.await.expect("the lock") });
        waits(&client).await;
        let began = Instant::now();
        killed.kill();
        let lock = next.in_time("the lock of a killed holder").await;
        let lock = lock.expect("no panic");
        let taken_over = began.elapsed();
        assert!(lock.token() > token, "{} after {token}", lock.token());

        // A write that the holder has begun comes too late.
        let late = client.txn().when(Condition::token(NAME, token));
        let late = late.then(TxnOperation::set("backup/state", "late")).await;
        assert!(!late.expect("an answer").succeeded);
        let in_time = client.set("backup/state", "in time").if_held(&lock).await;
        assert!(in_time.expect("an answer").succeeded());

        // Another one, and its leader with it.
        lock.release().await.expect("released");
        let mut killed = Holder::start(cluster, NAME);
        let token = killed.token();
        let leader = cluster.leader().await;
        cluster.kill(&[leader]);
        killed.kill();
        let began = Instant::now();
        let lock = client.lock(NAME).in_time("the lock after a failover").await;
        let after_failover = began.elapsed();
        assert!(lock.expect("the lock").token() > token);
        cluster.start(leader);
        let healed = cluster.wait_until_healed().await;

        let counts = load.check().await;
        format!(
            "taken over {}, with a failover {}, healed {}; {counts}",
            ms(taken_over),
            ms(after_failover),
            ms(healed.after)
        )
    });
}

/// Waits until a client waits for the lock.
async fn waits(client: &Client) {
    eventually("a client that waits for the lock", async || {
        let lock = client.inspect_lock(NAME).await.ok()?;
        (lock.waiting > 0).then_some(())
    })
    .await;
}
