//! One node stands still for five seconds, as under a debugger or on a machine that swaps.

use std::time::Duration;

use crate::clients::{Load, Pinned};
use crate::history::now;
use crate::{caller, ms, scenario, watch_for};

/// Longest wait for service after the leader was stopped, its clients' timeout included.
const RESUMES: Duration = Duration::from_secs(5);
const PAUSE_MILLIS: u64 = 5_000;

#[test]
fn a_leader_that_stood_still_serves_nothing_stale() {
    scenario("leader paused", async |cluster| {
        let leader = cluster.leader().await;
        let caller = caller(cluster);
        let load = Load::start(&caller, leader, "k");
        load.write_after(now()).await;

        // It asks the old leader also in the moment when that one continues.
        let pinned = Pinned::start(&caller, leader, "k0");
        cluster.pause(leader);
        let resumed = load.write_after(now()).await;
        watch_for(PAUSE_MILLIS).await;
        cluster.resume(leader);
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;
        pinned.stop().await;

        let counts = load.check().await;
        assert!(resumed < RESUMES, "{resumed:?}");
        format!(
            "served again {}, healed {}; {counts}",
            ms(resumed),
            ms(healed.after)
        )
    });
}

#[test]
fn no_write_fails_while_a_follower_stands_still() {
    scenario("follower paused", async |cluster| {
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        let load = Load::start(&caller(cluster), leader, "k");
        load.write_after(now()).await;

        cluster.pause(follower);
        watch_for(PAUSE_MILLIS).await;
        cluster.resume(follower);
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;

        let counts = load.check().await;
        assert_eq!((counts.refused, counts.unknown), (0, 0), "{counts}");
        format!("healed {}; {counts}", ms(healed.after))
    });
}
