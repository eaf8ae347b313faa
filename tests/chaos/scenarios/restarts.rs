//! Every node is restarted: one after the other, or all at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clients::Load;
use crate::history::{History, Told, now};
use crate::{caller, ms, scenario, watch_for};
use seshat_test_support::eventually;

const ROUNDS: usize = 5;
/// The longest time until all nodes have ended that were told to stop.
const END: Duration = Duration::from_secs(6);

#[test]
fn five_rolling_restarts_under_load_lose_nothing() {
    scenario("rolling restart", async |cluster| {
        let leader = cluster.leader().await;
        let load = Load::start(&caller(cluster), leader, "k");
        let mut healings = Vec::new();
        for round in 0..ROUNDS {
            for node in 0..3 {
                // An operator's restart and a crash, in turn.
                match round % 2 {
                    0 => cluster.stop(&[node]).await,
                    _ => cluster.kill(&[node]),
                }
                cluster.start(node);
                healings.push(cluster.wait_until_healed().await.after);
                load.write_after(now()).await;
            }
        }
        let counts = load.check().await;
        healings.sort();
        let (restarts, slowest) = (healings.len(), healings[healings.len() - 1]);
        let median = healings[restarts / 2];
        format!(
            "{restarts} restarts, healed {}, at worst {}; {counts}",
            ms(median),
            ms(slowest)
        )
    });
}

#[test]
fn all_nodes_restarted_at_once_are_a_new_cluster_that_knows_nothing() {
    scenario("all restarted at once", async |cluster| {
        let before = cluster.wait_until_healed().await.cluster_id;
        let leader = cluster.leader().await;
        let old = caller(cluster);
        let load = Load::start(&old, leader, "k");
        load.write_after(now()).await;
        cluster.kill(&[0, 1, 2]);
        load.stop().await;

        // The same connections and the same keys: in this history an old value would be one that was
        // never written.
        let new = old.with_history(&Arc::new(History::default()));
        let load = Load::start(&new, leader, "k");
        let began = now();
        cluster.start_all();
        let healed = cluster.wait_until_healed().await;
        let served = load.write_after(began).await;
        assert_ne!(healed.cluster_id, before);

        let (landed, missing) = eventually("a write over an old connection", async || {
            let node = cluster.leader().await;
            let (node, missing) = new.read_anywhere(node, "never written here").await;
            let (value, told, _) = new.write(node, "landed").await;
            (told == Told::Done(None)).then_some((value, missing))
        })
        .await;
        assert_eq!(missing, None);
        // Over a connection of its own.
        assert_eq!(
            caller(cluster).read_anywhere(0, "landed").await.1,
            Some(landed)
        );
        watch_for(500).await;
        let counts = load.check().await;
        format!(
            "formed anew {}, served {}; {counts}",
            ms(healed.after),
            ms(served)
        )
    });
}

#[test]
fn all_nodes_stopped_at_once_end_in_time() {
    scenario("all stopped at once", async |cluster| {
        let leader = cluster.leader().await;
        let load = Load::start(&caller(cluster), leader, "k");
        load.write_after(now()).await;

        let began = Instant::now();
        cluster.stop(&[0, 1, 2]).await;
        let took = began.elapsed();
        // No node is left to read from: all answers until then have to be true.
        let counts = load.stop().await;
        assert!(took < END, "{took:?}");
        format!("ended within {}; {counts}", ms(took))
    });
}
