//! One node dies.

use std::time::Duration;

use crate::clients::Load;
use crate::history::now;
use crate::{caller, ms, scenario, watch_for};

/// The guarantee of the README, with room for a busy machine.
const FAILOVER: Duration = Duration::from_secs(2);

#[test]
fn a_killed_leader_is_replaced_within_two_seconds() {
    scenario("leader killed", async |cluster| {
        let leader = cluster.leader().await;
        let load = Load::start(&caller(cluster), leader, "k");
        load.write_after(now()).await;

        cluster.kill(&[leader]);
        let failover = load.write_after(now()).await;
        cluster.start(leader);
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;

        let counts = load.check().await;
        assert!(failover < FAILOVER, "{failover:?}");
        format!(
            "failover {}, healed {}; {counts}",
            ms(failover),
            ms(healed.after)
        )
    });
}

#[test]
fn no_write_fails_when_a_follower_is_killed() {
    scenario("follower killed", async |cluster| {
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        let load = Load::start(&caller(cluster), leader, "k");
        load.write_after(now()).await;

        cluster.kill(&[follower]);
        watch_for(1_500).await;
        cluster.start(follower);
        let healed = cluster.wait_until_healed().await;
        load.write_after(now()).await;

        let counts = load.check().await;
        assert_eq!((counts.refused, counts.unknown), (0, 0), "{counts}");
        format!("healed {}; {counts}", ms(healed.after))
    });
}

#[test]
fn acknowledged_writes_survive_a_leader_killed_in_mid_write() {
    scenario("leader killed in mid-write", async |cluster| {
        let leader = cluster.leader().await;
        let load = Load::burst(&caller(cluster), leader, 64);
        load.write_after(now()).await;
        watch_for(200).await;

        cluster.kill(&[leader]);
        let failover = load.write_after(now()).await;
        cluster.start(leader);
        let healed = cluster.wait_until_healed().await;

        // Every key was written once, so its history shows whether that write is there.
        let counts = load.check().await;
        assert!(counts.unknown > 0, "nothing was under way: {counts}");
        format!(
            "failover {}, healed {}; {counts}",
            ms(failover),
            ms(healed.after)
        )
    });
}
